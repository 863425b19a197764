//! What was done to a service, and what its command runs: shared by the techniques that go through the service controller.

use super::join::Join;
use super::table::{Piece, Window};
use crate::evidence::{
    Evidence, EvidenceKind, Fact, FileWrite, Mark, Named, ProcessStart, ServiceSet,
};
use crate::normalize::cmd::{self, Shape};
use crate::normalize::command;
use crate::normalize::path::PathKey;
use crate::record::MAX_TEXT;
use crate::settings::wildcard::{FEW, wildcard, wildcard_begins};
use crate::settings::{SuspiciousSettings, Windows};
use std::rc::Rc;

/// The window of a service's command around the start of its process.
pub fn command_window(windows: &Windows) -> Window {
    Window {
        before: windows.service_to_process.0,
        after: windows.clock_tolerance.0,
    }
}

/// The window of a file's write around the start, or the setting, of the program in it.
pub fn file_window(windows: &Windows) -> Window {
    Window {
        before: windows.file_to_process.0,
        after: windows.clock_tolerance.0,
    }
}

/// The service change that evidence is, if it is one.
pub fn set_of(evidence: &Evidence) -> Option<&ServiceSet> {
    match &evidence.fact {
        Fact::ServiceSet(set) => Some(set),
        _ => None,
    }
}

/// Marks logged beside a service's command, which show whether the service is new.
pub const CREATION_MARKS: Piece = Piece::evidence(
    27,
    "creation marks",
    EvidenceKind::ServiceMark,
    |windows| Window {
        before: windows.service_created.0,
        after: windows.service_created.0,
    },
    "other values of the service, written with its command",
)
.optional();

/// The marks among these that are of a service.
pub fn of_service<'j>(
    marks: impl Iterator<Item = &'j Rc<Evidence>>,
    set: &ServiceSet,
) -> impl Iterator<Item = &'j Rc<Evidence>> {
    marks.filter(|evidence| {
        matches!(&evidence.fact, Fact::ServiceMark(mark) if set.is_service(&mark.service))
    })
}

/// Whether evidence is the mark that a service was deleted.
pub fn is_deletion(evidence: &Evidence) -> bool {
    matches!(&evidence.fact, Fact::ServiceMark(mark) if mark.mark == Mark::Deleted)
}

/// The window of the other commands of a service around one of them.
pub fn restored_window(windows: &Windows) -> Window {
    Window {
        before: windows.service_restored.0,
        after: windows.service_restored.0,
    }
}

/// The command by which a service got its own program back after `from`, among the evidence of the piece `restored`: one that it had
/// before; else a later one whose program has another file name than all before it, because an update keeps the name.
#[inline(never)]
pub fn restored<'j>(
    join: &Join<'j>,
    restored: &Piece,
    (from, set): (&Evidence, &ServiceSet),
    suspicious: &SuspiciousSettings,
) -> Option<&'j Rc<Evidence>> {
    let others = || {
        let all = join.all_around(restored, from);
        all.filter_map(|other| match &other.fact {
            Fact::ServiceSet(found)
                if found.is_service(&set.service) && found.command != set.command =>
            {
                Some((other, found))
            }
            _ => None,
        })
    };
    let is_later = |other: &Evidence| {
        other.time.ms > from.time.ms
            || other.time.ms == from.time.ms && other.record_id > from.record_id
    };
    let before = others().filter(|(other, _)| !is_later(other));
    let before: Vec<&ServiceSet> = before.map(|(_, found)| found).collect();
    let is_own = |found: &ServiceSet| {
        let is_other_than = |set: &ServiceSet| found.program.file_name() != set.program.file_name();
        let mut known = before.iter();
        // Nor is one the service's own because another was written before, perhaps as a decoy; but the next attack's is not.
        let is_next =
            || !before.is_empty() && suspicious.is_suspicious(&found.program, &found.command);
        is_other_than(set)
            && (known.any(|known| known.command == found.command)
                || before.iter().all(|known| is_other_than(known)) && !is_next())
    };
    others()
        .filter(|(other, found)| is_later(other) && is_own(found))
        .map(|(other, _)| other)
        .min_by_key(|other| other.time.ms)
}

/// Programs in which Windows runs many services. Which of them a process is for, only its whole command tells.
const SHARED_HOSTS: [&str; 2] = [
    r"?:\windows\system32\svchost.exe",
    r"?:\windows\system32\dllhost.exe",
];

/// Whether a program is one in which Windows runs many services, at its own place.
pub fn is_shared_host(program: &PathKey) -> bool {
    let mut hosts = SHARED_HOSTS.iter();
    hosts.any(|host| program.matches_text(host))
}

/// Whether a process is what the service controller starts for a service's command: the same words, with variables resolved.
#[inline(never)]
pub fn runs(process: &ProcessStart, set: &ServiceSet) -> bool {
    let Some(line) = process.normalized_line() else {
        return set.program.matches(&process.key);
    };
    // Every command on a host is compared with every process there, so each is normalized only once.
    let pattern = set.pattern.get_or_init(|| {
        let command = set.normalized.as_deref();
        as_pattern(command.unwrap_or(&set.command)).into()
    });
    // A variable may have made the line so long that the words after it were cut off.
    wildcard(pattern, line) || is_truncated(line) && wildcard_begins(pattern, line)
}

/// Whether a text was cut; a last character of up to 4 bytes may not have fitted.
fn is_truncated(text: &str) -> bool {
    text.len() >= MAX_TEXT.saturating_sub(4)
}

/// A service's command as a pattern for the command line of its process: `%NAME%` becomes `*`, and a truncated command is
/// open at its end. A command of nothing but variables becomes the empty pattern, which matches no command line.
fn as_pattern(command: &str) -> String {
    let normalized = command::normalize(command, MAX_TEXT);
    let mut pattern = String::with_capacity(normalized.len());
    let mut rest = normalized.as_str();
    while let Some((before, after)) = rest.split_once('%') {
        pattern.push_str(before);
        let is_name_character = |byte: u8| byte.is_ascii_alphanumeric() || b"_()".contains(&byte);
        match after.split_once('%') {
            Some((name, after)) if !name.is_empty() && name.bytes().all(is_name_character) => {
                pattern.push('*');
                rest = after;
            }
            _ => {
                pattern.push('%');
                rest = after;
            }
        }
    }
    pattern.push_str(rest);
    if pattern.bytes().filter(u8::is_ascii_alphanumeric).count() < FEW {
        return String::new();
    }
    if is_truncated(command) {
        // Variables make the process's own line longer, so it is cut at an earlier word.
        let kept = crate::json::text::truncate(pattern, MAX_TEXT / 2);
        return format!("{kept}*");
    }
    pattern
}

/// What only a remote execution tool gives a service: a batch file that is written to be run (impacket), PowerShell with a hidden
/// command, or started in a window of its own (Metasploit, Empire, Cobalt Strike).
const TOOL_SHAPES: Shape = Shape::WRITES_BATCH
    .and(Shape::HIDDEN_POWERSHELL)
    .and(Shape::STARTS_POWERSHELL);

/// Whether a command has a shape that only a remote execution tool gives a service's.
pub fn is_tool_shape(shape: Shape) -> bool {
    shape.has(Shape::OUTPUT_TO_SHARE.and(Shape::OUTPUT_TO_FILE)) || shape.has_any(TOOL_SHAPES)
}

/// Whether a service's command is how Metasploit, Cobalt Strike and others become SYSTEM on a machine that they are already on: it
/// does nothing but echo into a named pipe, or it runs a DLL that is named like the service and its argument. That is not lateral
/// movement. The match is exact, because a command that contains anything else runs that, too.
#[inline(never)]
pub fn is_local_getsystem(service: Option<&str>, command: &str, shape: Shape) -> bool {
    if is_truncated(command) {
        return false;
    }
    if shape.has(Shape::ECHO_TO_PIPE) {
        return true;
    }
    let line = command::normalize(command, MAX_TEXT);
    if line.contains(['&', '|', '<', '>', ';']) {
        return false;
    }
    let words: Vec<&str> = line.split(' ').collect();
    let is_named = |word: &str, names: &[&str]| {
        let file_name = word.rsplit('\\').next().unwrap_or(word);
        names.contains(&file_name)
    };
    match words.as_slice() {
        [program, library, argument] if is_named(program, &["rundll32.exe", "rundll32"]) => {
            let path = library.split_once(".dll,").map(|(path, _)| path);
            let base = path.map(|path| path.rsplit(['\\', '/']).next().unwrap_or(path));
            let base = base.unwrap_or_default();
            !base.is_empty()
                && argument.strip_prefix("/p:") == Some(base)
                && service.is_none_or(|service| service.eq_ignore_ascii_case(base))
        }
        _ => false,
    }
}

/// Extensions of files that a command interpreter runs.
const RUNNABLE: [&str; 13] = [
    "exe", "com", "scr", "pif", "bat", "cmd", "ps1", "vbs", "js", "wsf", "hta", "dll", "msi",
];

/// The file that came over SMB and that the command of a process runs, such as `cmd /c <file>`. `file` is the piece whose
/// evidence is looked through.
#[inline(never)]
pub fn dropped_in<'j>(
    join: &Join<'j>,
    file: &Piece,
    process: &ProcessStart,
) -> Option<&'j Rc<Evidence>> {
    let words = named(process);
    let is_named = |file: &FileWrite| {
        let stem = || file.key.as_str().rsplit_once('.').map(|(stem, _)| stem);
        let is_stem = |word: &PathKey| stem().is_some_and(|stem| word.matches_text(stem));
        let is_it = |word: &Named| {
            let path = &word.path;
            file.may_be(word)
                && (file.key.matches(path) || path.extension().is_empty() && is_stem(path))
        };
        file.is_over_smb() && words.iter().any(is_it) && RUNNABLE.contains(&file.key.extension())
    };
    join.nearest(file, |fact| match fact {
        Fact::FileWrite(file) => is_named(file),
        _ => false,
    })
}

/// Whether a process is an interpreter. What its command names is read at once: where it is needed, the calls are so deep that
/// reading it there could exceed the stack of Fluent Bit's interpreter.
pub fn read_interpreter(process: &ProcessStart, suspicious: &SuspiciousSettings) -> bool {
    let is_interpreter = suspicious.is_interpreter(&process.key);
    if is_interpreter {
        named(process);
    }
    is_interpreter
}

/// How many paths of one command are looked at.
const MAX_NAMED: usize = 64;

/// The paths in the command line of a process that can name what it runs; at most [`MAX_NAMED`], each once.
fn named(process: &ProcessStart) -> &[Named] {
    process
        .named
        .get_or_init(|| words_that_run(process.words().unwrap_or_default()).into())
}

/// The words of a command that can name what it runs, as paths: for `cmd.exe` the first word of each command and every word with a
/// folder in it, but not the files that it writes its output to; else every word with a folder.
#[inline(never)]
fn words_that_run(command: &str) -> Vec<Named> {
    let mut words = Vec::new();
    let Some(run) = cmd::innermost(command) else {
        let parts = command.split(['"', ' ', '\t', '&', '|', '>', '^']);
        for word in parts.filter(|word| names_folder(word)) {
            add_word(&mut words, word);
        }
        return words;
    };
    let mut is_first = true;
    for token in cmd::tokens(&run.command) {
        match token {
            cmd::Token::Word(word) => {
                if is_first || names_folder(&word) {
                    add_word(&mut words, &word);
                }
                is_first = false;
            }
            cmd::Token::End => is_first = true,
            cmd::Token::Output(..) | cmd::Token::Input(_) | cmd::Token::Same(..) => {}
        }
    }
    words
}

/// Whether a word is a path with a folder in it: by a backslash, or by a slash after a drive, because a slash alone may begin a switch.
fn names_folder(word: &str) -> bool {
    let bytes = word.trim_start_matches('"').as_bytes();
    let has_drive = matches!(bytes, [letter, b':', b'/', ..] if letter.is_ascii_alphabetic());
    has_drive || word.contains('\\')
}

#[inline(never)]
fn add_word(words: &mut Vec<Named>, word: &str) {
    // `rundll32` takes a function after a comma; but a file's name may hold a comma, too.
    let before_comma = word.split_once(',').map(|(path, _)| path);
    for path in [Some(word), before_comma].into_iter().flatten() {
        let path = PathKey::new(path).or_anywhere();
        let named = Named {
            stem: path.stem_hash(),
            path,
        };
        if words.len() < MAX_NAMED && !words.contains(&named) {
            words.push(named);
        }
    }
}
