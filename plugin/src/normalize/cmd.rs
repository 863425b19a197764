//! What a command line makes `cmd.exe` do, by the grammar of `cmd.exe` itself: its switches (`/Q`, `/C`, also glued together and to
//! the command), `^`, `@`, parentheses, separators, and redirections in any order and place. Also what makes a PowerShell command line
//! one that hides what it runs.
//!
//! Everything here is for judging text that somebody else wrote, so where `cmd.exe` refuses a line this reads on.

use super::lower_ascii;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// What of a command line matters. Several can hold at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Shape(u8);

impl Shape {
    /// Nothing.
    pub const NONE: Shape = Shape(0);
    /// `cmd` runs a command without echoing it: `/Q` and `/C`.
    pub const QUIET: Shape = Shape(1);
    /// Standard output and standard error of a command both go into a file.
    pub const OUTPUT_TO_FILE: Shape = Shape(2);
    /// The output of a command goes to a share.
    pub const OUTPUT_TO_SHARE: Shape = Shape(4);
    /// `echo` writes a batch file.
    pub const WRITES_BATCH: Shape = Shape(8);
    /// PowerShell gets its command encoded, or shows no window.
    pub const HIDDEN_POWERSHELL: Shape = Shape(16);
    /// `cmd` starts PowerShell with `start`.
    pub const STARTS_POWERSHELL: Shape = Shape(32);
    /// `cmd` does nothing but echo into a named pipe.
    pub const ECHO_TO_PIPE: Shape = Shape(64);

    /// Whether all of `other` holds.
    pub fn has(self, other: Shape) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` holds.
    pub fn has_any(self, other: Shape) -> bool {
        self.0 & other.0 != 0
    }

    /// Both together.
    pub const fn and(self, other: Shape) -> Shape {
        Shape(self.0 | other.0)
    }

    fn add(&mut self, other: Shape, holds: bool) {
        if holds {
            self.0 |= other.0;
        }
    }
}

/// A part of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// A word, without the quotes and carets in it.
    Word(String),
    /// The end of a command: `&`, `|`, a parenthesis, a new line.
    End,
    /// A redirection into a file (`>`, `>>`) of this handle.
    Output(u8, String),
    /// A redirection from a file (`<`).
    Input(String),
    /// A redirection of the first handle to where the second goes (`2>&1`).
    Same(u8, u8),
}

/// What `cmd.exe` was asked to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run<'l> {
    /// Whether `/Q` was given.
    pub is_quiet: bool,
    /// The command, as it stands after `/C`, `/R` or `/K`.
    pub command: Cow<'l, str>,
}

/// What a command line of `cmd.exe` runs; `None` if there is no `/C`, `/R` or `/K` in it.
///
/// The switches may be glued together (`/Qc`), to the program (`cmd/c`) and to the command (`/Cwhoami`).
#[inline(never)]
pub fn run(line: &str) -> Option<Run<'_>> {
    let mut is_quiet = false;
    let (_, mut rest) = split_program(line);
    loop {
        rest = rest.get(rest.find('/')?..)?.strip_prefix('/')?;
        // Letters up to the next blank or slash; those after a colon are the value of a switch (`/V:ON`).
        let mut is_value = false;
        for (at, c) in rest.char_indices() {
            let after = || {
                rest.get(at.saturating_add(c.len_utf8())..)
                    .unwrap_or_default()
            };
            match c {
                'c' | 'C' | 'r' | 'R' | 'k' | 'K' if !is_value => {
                    return Some(Run {
                        is_quiet,
                        command: Cow::Borrowed(after()),
                    });
                }
                'q' | 'Q' if !is_value => is_quiet = true,
                ':' => is_value = true,
                '/' => {
                    rest = rest.get(at..).unwrap_or_default();
                    break;
                }
                ' ' | '\t' | '"' | ',' | ';' | '=' => {
                    rest = after();
                    break;
                }
                _ => {}
            }
        }
    }
}

/// How many shells in one another are looked into.
const MAX_SHELLS: usize = 4;

/// What the innermost shell of a command line runs, if shells start one another (`cmd /c "cmd /q /c dir"`). Quiet if any of them is.
#[inline(never)]
pub fn innermost(line: &str) -> Option<Run<'_>> {
    let mut found = run(line)?;
    for _ in 0..MAX_SHELLS {
        let command = unquoted(&found.command).into_owned();
        let is_shell = is_program(&lower_ascii(split_program(&command).0), &CMD);
        let inner = Some(&*command).filter(|_| is_shell).and_then(run);
        let next = inner.map(|inner| (inner.is_quiet, inner.command.into_owned()));
        match next {
            Some((is_quiet, inner)) => {
                found.is_quiet |= is_quiet;
                found.command = Cow::Owned(inner);
            }
            None => {
                found.command = Cow::Owned(command);
                break;
            }
        }
    }
    Some(found)
}

/// A command without the quotes around all of it. Like `cmd.exe`, this takes away the first and the last quote, unless there are just
/// two and nothing but a program between them.
#[inline(never)]
fn unquoted(command: &str) -> Cow<'_, str> {
    let command = command.trim();
    let Some((inside, after)) = command
        .strip_prefix('"')
        .and_then(|rest| rest.rsplit_once('"'))
    else {
        return Cow::Borrowed(command);
    };
    let special = ['"', '&', '<', '>', '(', ')', '@', '^', '|'];
    let is_program = !inside.is_empty()
        && !inside.contains(special)
        && (!inside.contains(' ') || inside.contains('\\') && !inside.contains(" /"));
    if is_program {
        Cow::Borrowed(command)
    } else if after.is_empty() {
        Cow::Borrowed(inside)
    } else {
        Cow::Owned([inside, after].concat())
    }
}

/// A command line, split into the program at its beginning and what follows.
fn split_program(line: &str) -> (&str, &str) {
    let line = line.trim_start();
    match line.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
        None => line
            .find([' ', '\t', '/', ',', ';', '='])
            .and_then(|end| line.split_at_checked(end))
            .unwrap_or((line, "")),
    }
}

/// Whether a word, in lower case, names a program: with or without a folder and an extension.
fn is_program(word: &str, names: &[&str]) -> bool {
    let name = word.rsplit(['\\', '/']).next().unwrap_or(word);
    let name = name.strip_suffix(".exe").unwrap_or(name);
    names.contains(&name)
}

/// Sysmon doubles the percent sign in some places.
const CMD: [&str; 3] = ["cmd", "%comspec%", "%%comspec%%"];
const POWERSHELL: [&str; 2] = ["powershell", "pwsh"];

/// What matters of a command line, of a process or a service.
#[inline(never)]
pub fn shape(line: &str) -> Shape {
    let first = lower_ascii(split_program(line).0);
    if !is_program(&first, &POWERSHELL) && !is_program(&first, &CMD) {
        return Shape::NONE;
    }
    let line = lower_ascii(line);
    let (program, rest) = split_program(&line);
    let mut shape = Shape::NONE;
    if is_program(program, &POWERSHELL) {
        let words: Vec<String> = words(rest).collect();
        shape.add(Shape::HIDDEN_POWERSHELL, hides(&words));
    } else if is_program(program, &CMD)
        && let Some(run) = innermost(&line)
    {
        shape.add(Shape::QUIET, run.is_quiet);
        shape_of_command(&run.command, &mut shape);
    }
    shape
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split_whitespace()
        .map(|word| word.replace(['"', '^'], ""))
}

/// One simple command: its words and where its output goes.
#[derive(Default)]
struct Simple {
    words: Vec<String>,
    output: Option<String>,
    errors_follow: bool,
    errors: Option<String>,
}

/// How many words of a simple command are looked at. An option that matters stands among the first; a command is followed by the
/// next in any case.
const MAX_WORDS: usize = 64;

#[inline(never)]
fn shape_of_command(command: &str, shape: &mut Shape) {
    let mut simple = Simple::default();
    let (mut commands, mut pipe_echoes) = (0usize, 0usize);
    for token in tokens(command).chain([Token::End]) {
        match token {
            Token::Word(word) if simple.words.len() < MAX_WORDS => simple.words.push(word),
            Token::Word(_) | Token::Input(_) => {}
            Token::Output(2, target) => simple.errors = Some(target),
            Token::Output(_, target) => simple.output = Some(target),
            Token::Same(2, 1) => simple.errors_follow = true,
            Token::Same(..) => {}
            Token::End => {
                let ended = std::mem::take(&mut simple);
                if ended.words.is_empty() && ended.output.is_none() {
                    continue;
                }
                commands = commands.saturating_add(1);
                pipe_echoes = pipe_echoes.saturating_add(usize::from(ended.shape(shape)));
            }
        }
    }
    shape.add(Shape::ECHO_TO_PIPE, commands == 1 && pipe_echoes == 1);
}

impl Simple {
    /// Adds what matters of it. Returns whether it echoes into a named pipe.
    #[inline(never)]
    fn shape(&self, shape: &mut Shape) -> bool {
        let first = self.words.first().map(String::as_str).unwrap_or_default();
        let first = first.trim_start_matches('@');
        let is_echo = first == "echo" || first.starts_with("echo.") || first.starts_with("echo:");
        let is_start = first == "start";
        let target = self.output.as_deref().unwrap_or_default();
        let is_pipe = target.starts_with(r"\\.\pipe\");
        let is_share = target.starts_with(r"\\") && !is_pipe && !target.starts_with(r"\\.\");
        let is_null = target == "nul" || target == "nul:";
        let both = self.errors_follow || self.errors.as_deref() == Some(target);
        let has_file = self.output.is_some() && !is_pipe && !is_null;
        shape.add(Shape::OUTPUT_TO_FILE, has_file && both);
        shape.add(Shape::OUTPUT_TO_SHARE, is_share);
        let is_batch = |name: &str| name.ends_with(".bat") || name.ends_with(".cmd");
        shape.add(Shape::WRITES_BATCH, is_echo && is_batch(target));
        let powershell = self
            .words
            .iter()
            .position(|word| is_program(word, &POWERSHELL));
        if let Some(at) = powershell.filter(|at| *at == 0 || is_start) {
            shape.add(Shape::STARTS_POWERSHELL, is_start);
            let options = self.words.get(at..).unwrap_or_default();
            shape.add(Shape::HIDDEN_POWERSHELL, hides(options));
        }
        is_echo && is_pipe && self.errors.is_none()
    }
}

/// Whether options of PowerShell, in lower case, give it an encoded command or no window. Any beginning of an option's name is
/// enough for PowerShell.
#[inline(never)]
fn hides(words: &[String]) -> bool {
    let mut words = words.iter().map(String::as_str).peekable();
    while let Some(word) = words.next() {
        let Some(name) = word.strip_prefix(['-', '/', '\u{2013}', '\u{2014}', '\u{2015}']) else {
            continue;
        };
        let name = name.split(':').next().unwrap_or(name);
        let begins = |option: &str| !name.is_empty() && option.starts_with(name);
        // `-ex…` is another option.
        if begins("encodedcommand") || name == "ec" {
            return true;
        }
        let value = words.peek().copied().unwrap_or_default();
        if begins("windowstyle") && (value.starts_with('h') || value == "1") {
            return true;
        }
    }
    false
}

/// The tokens of a command that `cmd.exe` runs, in the order in which they stand. Quotes and carets are taken out.
pub fn tokens(command: &str) -> impl Iterator<Item = Token> + '_ {
    Tokens { rest: command }
}

struct Tokens<'l> {
    rest: &'l str,
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    #[inline(never)]
    fn next(&mut self) -> Option<Token> {
        loop {
            let c = self.rest.chars().next()?;
            match c {
                ' ' | '\t' | ',' | ';' | '=' | '\u{b}' | '\u{c}' => self.skip(1),
                '@' => self.skip(1),
                '&' | '|' | '(' | ')' | '\n' | '\r' => {
                    self.skip(1);
                    return Some(Token::End);
                }
                '<' | '>' => return Some(self.redirection(if c == '<' { 0 } else { 1 })),
                _ => break,
            }
        }
        // A digit directly before a redirection is its handle.
        if let [digit @ b'0'..=b'9', b'<' | b'>', ..] = self.rest.as_bytes() {
            let handle = digit.wrapping_sub(b'0');
            self.skip(1);
            return Some(self.redirection(handle));
        }
        Some(Token::Word(self.word()))
    }
}

/// Whether a byte ends a run of characters that mean nothing in a word. All are ASCII.
fn is_special(byte: u8, in_quotes: bool) -> bool {
    byte == b'"' || !in_quotes && b" ^&|<>(),;=\t\n\r\x0b\x0c".contains(&byte)
}

impl Tokens<'_> {
    /// Skips bytes of characters that are one byte long.
    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    /// Reads a redirection, whose `<` or `>` is next.
    fn redirection(&mut self, handle: u8) -> Token {
        let is_input = self.rest.starts_with('<');
        while self.rest.starts_with(['<', '>']) {
            self.skip(1);
        }
        if let Some(after) = self.rest.trim_start_matches([' ', '\t']).strip_prefix('&') {
            let after = after.trim_start_matches([' ', '\t']);
            if let Some(digit) = after.bytes().next().filter(u8::is_ascii_digit) {
                self.rest = after.get(1..).unwrap_or_default();
                return Token::Same(handle, digit.wrapping_sub(b'0'));
            }
        }
        self.rest = self.rest.trim_start_matches([' ', '\t', ',', ';', '=']);
        let target = self.word();
        if is_input {
            Token::Input(target)
        } else {
            Token::Output(handle, target)
        }
    }

    /// Reads a word up to the next character that ends one. Takes at least one character, if there is one.
    #[inline(never)]
    fn word(&mut self) -> String {
        let mut word = String::new();
        let mut in_quotes = false;
        let mut length = 0usize;
        // In runs of characters that mean nothing: encoded commands are thousands of bytes long.
        while let Some(rest) = self.rest.get(length..).filter(|rest| !rest.is_empty()) {
            let run = rest.bytes().position(|byte| is_special(byte, in_quotes));
            let run = rest.get(..run.unwrap_or(rest.len())).unwrap_or(rest);
            word.push_str(run);
            length = length.saturating_add(run.len());
            let mut after = rest.get(run.len()..).unwrap_or_default().chars();
            match after.next() {
                Some('"') => in_quotes = !in_quotes,
                Some('^') => {
                    if let Some(escaped) = after.next() {
                        word.push(escaped);
                        length = length.saturating_add(escaped.len_utf8());
                    }
                }
                _ => break,
            }
            length = length.saturating_add(1);
        }
        // Nothing but what ends a word is left: it is skipped, so that every call makes progress.
        if length == 0 {
            length = self.rest.chars().next().map_or(0, char::len_utf8);
        }
        self.rest = self.rest.get(length..).unwrap_or_default();
        word
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::select;

    #[test]
    fn what_cmd_runs_whatever_the_spelling_of_its_switches() {
        for (line, quiet, command) in [
            ("cmd.exe /c dir", false, " dir"),
            ("cmd.exe /Q /c dir", true, " dir"),
            ("cmd.exe /Q/c dir", true, " dir"),
            ("cmd /Qc dir", true, " dir"),
            ("cmd /Cdir", false, "dir"),
            ("cmd/cdir", false, "dir"),
            (r#""C:\Windows\System32\cmd.exe" /Q /c dir"#, true, " dir"),
            ("cmd /V:ON /E:OFF /C dir", false, " dir"),
            ("cmd /s /d /R dir", false, " dir"),
            ("cmd /k dir", false, " dir"),
            ("cmd.exe /c/q dir", false, "/q dir"),
            ("%COMSPEC% /q /c dir", true, " dir"),
        ] {
            let expected = Run {
                is_quiet: quiet,
                command: command.into(),
            };
            assert_eq!(run(line), Some(expected), "{line}");
        }
        for line in ["cmd.exe", "cmd /?", "cmd /q", "", "cmd c dir", "cmd /v:c"] {
            assert_eq!(run(line), None, "{line}");
        }
    }

    #[test]
    fn tokens_of_a_command() {
        let word = |text: &str| Token::Word(text.to_owned());
        for (command, expected) in [
            ("dir C:\\", vec![word("dir"), word("C:\\")]),
            (
                r#"C:\Win^dows\"a b".exe x"#,
                vec![word(r"C:\Windows\a b.exe"), word("x")],
            ),
            (
                "(a&b)",
                vec![Token::End, word("a"), Token::End, word("b"), Token::End],
            ),
            (
                r"whoami 1> \\127.0.0.1\ADMIN$\__1 2>&1",
                vec![
                    word("whoami"),
                    Token::Output(1, r"\\127.0.0.1\ADMIN$\__1".to_owned()),
                    Token::Same(2, 1),
                ],
            ),
            (
                r"2>&1 >x whoami",
                vec![
                    Token::Same(2, 1),
                    Token::Output(1, "x".to_owned()),
                    word("whoami"),
                ],
            ),
            (
                "a>>b<c",
                vec![
                    word("a"),
                    Token::Output(1, "b".to_owned()),
                    Token::Input("c".to_owned()),
                ],
            ),
            (
                "echo a ^> b",
                vec![word("echo"), word("a"), word(">"), word("b")],
            ),
            ("@a,b;c=d", vec![word("a"), word("b"), word("c"), word("d")]),
            ("a1>b", vec![word("a1"), Token::Output(1, "b".to_owned())]),
            (">", vec![Token::Output(1, String::new())]),
            ("a ^", vec![word("a"), word("")]),
        ] {
            assert_eq!(tokens(command).collect::<Vec<_>>(), expected, "{command}");
        }
    }

    #[test]
    fn shapes_of_the_tools() {
        const QUIET_FILE: Shape = Shape::QUIET.and(Shape::OUTPUT_TO_FILE);
        for (line, expected) in [
            (
                r"cmd.exe /Q /c cd \ 1> \\127.0.0.1\ADMIN$\__1 2>&1",
                QUIET_FILE.and(Shape::OUTPUT_TO_SHARE),
            ),
            (r"cmd.exe /Q/c whoami 1> \Windows\Temp\abc 2>&1", QUIET_FILE),
            (
                r"cmd.exe /Cwhoami /all >C:\Windows\Temp\0d2b 2>&1",
                Shape::OUTPUT_TO_FILE,
            ),
            (r"cmd.exe /c 2>&1 1>C:\x whoami", Shape::OUTPUT_TO_FILE),
            (r"cmd.exe /c whoami >C:\x 2>C:\x", Shape::OUTPUT_TO_FILE),
            ("cmd.exe /Q /c whoami", Shape::QUIET),
            (r"cmd /c a.bat >nul 2>&1", Shape::NONE),
            (r"cmd /c a.bat >x.log", Shape::NONE),
            (
                r"%COMSPEC% /Q /c echo cd ^> \\127.0.0.1\C$\__output 2^>^&1 > %TEMP%\execute.bat & %COMSPEC% /Q /c %TEMP%\execute.bat & del %TEMP%\execute.bat",
                Shape::QUIET.and(Shape::WRITES_BATCH),
            ),
            (r"%%COMSPEC%% /C e^cho cd > a.BAT", Shape::WRITES_BATCH),
            (
                "cmd.exe /b /c start /b /min powershell -nop -w hidden -encodedcommand AA",
                Shape::STARTS_POWERSHELL.and(Shape::HIDDEN_POWERSHELL),
            ),
            (
                r#"%%COMSPEC%% /C "%%COMSPEC%% /C start /b C:\Windows\System32\WindowsPowershell\v1.0\powershell -noP -sta -w 1 -enc SQBG""#,
                Shape::STARTS_POWERSHELL.and(Shape::HIDDEN_POWERSHELL),
            ),
            (r"cmd /c cmd /c cmd /Q /c cmd /c dir", Shape::QUIET),
            (
                r#"cmd /c ""C:\Program Files\a.exe" >x 2>&1""#,
                Shape::OUTPUT_TO_FILE,
            ),
            (r#"cmd /c "C:\Program Files\a b.exe" /q /c"#, Shape::NONE),
            (
                r#"cmd /Q /c """"echo cd > C:\a.bat"#,
                Shape::QUIET.and(Shape::WRITES_BATCH),
            ),
            ("powershell -enc AAAA", Shape::HIDDEN_POWERSHELL),
            ("powershell.exe /e AAAA", Shape::HIDDEN_POWERSHELL),
            (
                r"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe -w 1 -c x",
                Shape::HIDDEN_POWERSHELL,
            ),
            (
                r#"powershell.exe -ExecutionPolicy Bypass -File "C:\a.ps1""#,
                Shape::NONE,
            ),
            ("powershell -ep bypass -c x", Shape::NONE),
            (r"cmd.exe /c echo abc > \\.\pipe\xyz", Shape::ECHO_TO_PIPE),
            (r"cmd.exe /c echo /c x > \\.\pipe\y", Shape::ECHO_TO_PIPE),
            (r"cmd /c >\\.\pipe\y echo x", Shape::ECHO_TO_PIPE),
            (r"cmd.exe /c (echo.x)>\\.\pipe\y", Shape::NONE),
            (r"cmd.exe /c echo x > \\.\pipe\y & evil", Shape::NONE),
            ("notepad.exe /Q /c x", Shape::NONE),
            ("", Shape::NONE),
        ] {
            assert_eq!(shape(line), expected, "{line}");
        }
    }

    /// Spellings of one switch, one word and one redirection, as `cmd.exe` takes them.
    fn spelled(word: &'static str) -> impl Strategy<Value = String> {
        let character = |c: char| {
            let [lower, upper] = [c.to_ascii_lowercase(), c.to_ascii_uppercase()];
            prop_oneof![
                Just(lower.to_string()),
                Just(upper.to_string()),
                Just(format!("^{lower}")),
                Just(format!("\"{lower}\"")),
            ]
        };
        let characters: Vec<_> = word.chars().map(character).collect();
        characters.prop_map(|parts| parts.concat())
    }

    proptest! {
        /// However a tool's command is spelled, its shape is the same.
        #[test]
        fn the_shape_does_not_depend_on_the_spelling(
            program in select(&["cmd", "CMD.EXE", r"C:\Windows\System32\cmd.exe", r#""C:\Windows\System32\cmd.exe""#, "%COMSPEC%", "%%ComSpec%%"]),
            switches in select(&["/Q /c", "/q/C", "/Qc", "/V:ON /Q /R", "/d /Q /s /c", "/q /k"]),
            blank in "[ \t]{1,3}",
            opening in "[(@ ]{0,3}",
            command in spelled("whoami"),
            file in spelled(r"\\127.0.0.1\admin$\x"),
            order in 0..4usize,
            handle in select(&["", "1"]),
            arrow in select(&[">", ">>", "> ", ">\t"]),
        ) {
            let output = format!("{handle}{arrow}{file}");
            let errors = "2>&1";
            let words = match order {
                0 => format!("{command} {output} {errors}"),
                1 => format!("{output} {errors} {command}"),
                2 => format!("{errors} {command} {output}"),
                _ => format!("{command} {errors} {output}"),
            };
            // A quote at the very beginning is one around the whole command.
            prop_assume!(!format!("{opening}{words}").trim_start().starts_with('"'));
            let line = format!("{program} {switches}{blank}{opening}{words}");
            let found = shape(&line);
            let expected = Shape::QUIET.and(Shape::OUTPUT_TO_FILE).and(Shape::OUTPUT_TO_SHARE);
            prop_assert!(found.has(expected), "{line}: {found:?}");
        }

        #[test]
        fn any_line_is_read_to_its_end(line in "(cmd|powershell)?[ /cqk\"^&|()<>@,;=12%a\\\\.é-]{0,60}") {
            let _ = shape(&line);
            let tokens = tokens(&line).count();
            prop_assert!(tokens <= line.len() + 1);
        }
    }
}
