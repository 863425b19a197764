//! How a program or a command is written: in any way that Windows takes, by chance. The tables are shared with other tests.

use super::World;
use psexec_filter_fixtures::spellings::{
    FOLDERS, OPENINGS, REDIRECTED, SHELLS, SWITCHES, resolved, short_name,
};

/// A program that is dropped, and how a service names it.
pub(super) struct Spelled {
    /// Where it lies.
    pub path: String,
    /// The program in the events of its process.
    pub image: String,
    /// The service's command.
    pub command: String,
    /// The command line of the process.
    pub line: String,
}

impl World {
    /// A file name of a program. Some are no program's by their name.
    pub(super) fn file_name(&mut self) -> String {
        let stem = self.word(8);
        let endings = [
            ".exe", ".exe", ".exe", ".exe", ".com", ".scr", ".dat", ".tmp", " x.exe", "+1.exe",
        ];
        format!("{stem}{}", self.one_of(&endings))
    }

    /// A service's command that starts a file with this name, wherever it lies.
    pub(super) fn spelled_program(&mut self, name: &str) -> Spelled {
        let (folder, real) = self.one_of(&FOLDERS);
        let path = format!("{real}{name}");
        let is_program = name.ends_with(".exe");
        // What is looked for along a path is an .exe, and found by its whole name.
        let may_be_short = !folder.is_empty() && is_program;
        let is_short = may_be_short && self.once_in(6);
        let named = if is_short {
            short_name(name)
        } else {
            name.to_owned()
        };
        let named = match self.rng.u8(0..6) {
            0 => named.to_uppercase(),
            1 => named.to_lowercase(),
            2 if folder.is_empty() && is_program && !name.contains(' ') => {
                named.trim_end_matches(".exe").to_owned()
            }
            _ => named,
        };
        let folder = match self.rng.u8(0..6) {
            0 => folder.to_uppercase(),
            1 => folder.to_lowercase(),
            _ => folder.to_owned(),
        };
        let program = format!("{folder}{named}");
        let arguments = self.one_of(&["", "", " -service", "  -service", "   /x  y"]);
        // Windows tries an unquoted path with blanks up to each of them.
        let is_quoted = !program.starts_with(r"\SystemRoot") && self.once_in(4);
        let command = if is_quoted {
            format!("\"{program}\"{arguments}")
        } else {
            format!("{program}{arguments}")
        };
        let is_share = program.starts_with(r"\\127");
        let image = match self.rng.u8(0..6) {
            0 if is_share && !program.contains("..") => program,
            1 if is_short => format!("{real}{}", short_name(name)),
            _ => path.clone(),
        };
        Spelled {
            path,
            image,
            line: resolved(&command),
            command: self.as_logged(command),
        }
    }

    /// A command by which the command interpreter starts a file with this name; where it lies, and the command.
    pub(super) fn spelled_start(&mut self, name: &str) -> (String, String) {
        let (folder, real) = loop {
            let (folder, real) = self.one_of(&FOLDERS);
            // The interpreter knows no names of the kernel, and no folder of the service controller.
            let is_kernel = [r"\??\", r"\\?\", r"\SystemRoot\"].iter();
            let mut prefixes = is_kernel.chain(&[r"system32\..\", r"System32\"]);
            if !folder.is_empty() && !prefixes.any(|prefix| folder.starts_with(prefix)) {
                break (folder, real);
            }
        };
        let stem = name.trim_end_matches(".exe");
        let kind = match () {
            // A blank would end the path.
            () if folder.contains(' ') => 2,
            // As the first word of a command it would be a switch.
            () if folder.contains('/') => self.rng.u8(2..4),
            () => self.rng.u8(0..6),
        };
        let path = match kind {
            0 => format!("{folder}{stem}"),
            1 => format!("{folder}{}", short_name(name)),
            2 => format!("\"{folder}{name}\""),
            3 => format!("start /b {folder}{name}"),
            4 => format!("cd /d {real}&{name}"),
            _ => {
                let name = self.scrambled(name);
                format!("{folder}{name}")
            }
        };
        (format!("{real}{name}"), path)
    }

    /// A quiet command interpreter that runs a command with its output and errors in a file.
    pub(super) fn spelled_shell(&mut self, command: &str, file: &str) -> String {
        let command = self.scrambled(command);
        let file = self.scrambled(file);
        let redirected = self.one_of(&REDIRECTED);
        let redirected = redirected
            .replace("COMMAND", &command)
            .replace("FILE", &file);
        self.spelled_quiet(&redirected)
    }

    /// A quiet command interpreter that runs a command.
    pub(super) fn spelled_quiet(&mut self, command: &str) -> String {
        let (shell, switches) = (self.one_of(&SHELLS), self.one_of(&SWITCHES));
        let (before, after) = self.one_of(&OPENINGS);
        // Only a quote ends the program's name without a blank.
        let shell = match switches.starts_with('/') {
            true => r#""C:\Windows\System32\cmd.exe""#,
            false => shell,
        };
        format!("{shell}{switches}{before}{command}{after}")
    }

    /// A word with some of its letters in upper case, and with carets and quotes that mean nothing; the first character stays, since a
    /// quote there would be one around the whole command.
    pub(super) fn scrambled(&mut self, word: &str) -> String {
        let mut scrambled = String::new();
        for (index, c) in word.char_indices() {
            let is_letter = c.is_ascii_alphabetic() && index > 0;
            match self.rng.u8(0..12) {
                0 if is_letter => scrambled.push(c.to_ascii_uppercase()),
                1 if is_letter => scrambled.extend(['^', c]),
                2 if is_letter => scrambled.extend(['"', c, '"']),
                _ => scrambled.push(c),
            }
        }
        scrambled
    }

    /// A service's command as the log shows it: some versions of Sysmon double the percent sign.
    pub(super) fn as_logged(&mut self, command: String) -> String {
        if self.rng.bool() {
            command.replace('%', "%%")
        } else {
            command
        }
    }
}
