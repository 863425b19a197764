//! What was done to a service, and what its command line comes to: shared by the chains that go through the service
//! controller.

use super::within;
use crate::evidence::{
    Change, Evidence, Fact, Mark, ProcessStart, ServiceMark, ServiceSet, Shelf, Writer,
};
use crate::normalize::command;
use crate::normalize::path::PathKey;
use crate::pattern::{FEW, wildcard, wildcard_begins};
use crate::policy::Policy;
use crate::record::MAX_TEXT;
use crate::state::locker::Locker;
use std::rc::Rc;

/// Takes note, in a service's command or in another value of it that was just put into the locker, of what the two say
/// together: whether the service is new. Noted at once, because the other values need not be remembered for long.
pub fn note(piece: &Evidence, locker: &Locker, policy: &Policy) {
    let near = policy.windows.service_created.0;
    let upgrade = |set: &ServiceSet, mark: &ServiceMark| {
        let change = match mark.mark {
            Mark::Created => Change::Created,
            Mark::Start => Change::PerhapsCreated,
            Mark::Gone => return,
        };
        if set.service.eq_ignore_ascii_case(&mark.service) {
            set.change.set(set.change.get().max(change));
        }
    };
    let beside = |shelf: Shelf| {
        locker
            .shelf(shelf)
            .filter(|other| within(other, piece, near, near))
            .map(|other| &other.fact)
    };
    match &piece.fact {
        Fact::ServiceSet(set) => beside(Shelf::ServiceMark).for_each(|fact| {
            if let Fact::ServiceMark(mark) = fact {
                upgrade(set, mark);
            }
        }),
        Fact::ServiceMark(mark) => beside(Shelf::ServiceSet).for_each(|fact| {
            if let Fact::ServiceSet(set) = fact {
                upgrade(set, mark);
            }
        }),
        _ => {}
    }
}

/// Whether the service was deleted soon after `from`.
pub fn is_gone(from: &Evidence, set: &ServiceSet, locker: &Locker, policy: &Policy) -> bool {
    let (before, after) = (
        policy.windows.clock_tolerance.0,
        policy.windows.service_gone.0,
    );
    locker
        .shelf(Shelf::ServiceMark)
        .any(|piece| match &piece.fact {
            Fact::ServiceMark(mark) => {
                mark.mark == Mark::Gone
                    && mark.service.eq_ignore_ascii_case(&set.service)
                    && within(piece, from, before, after)
            }
            _ => false,
        })
}

/// The next command that the same service was given, within the time in which such tools put it back.
pub fn put_back<'l>(
    piece: &Evidence,
    set: &ServiceSet,
    locker: &'l Locker,
    policy: &Policy,
) -> Option<&'l Rc<Evidence>> {
    locker
        .shelf(Shelf::ServiceSet)
        .filter(|other| match &other.fact {
            Fact::ServiceSet(next) => {
                next.service.eq_ignore_ascii_case(&set.service) && next.command != set.command
            }
            _ => false,
        })
        .filter(|other| {
            other.time.ms > piece.time.ms
                || other.time.ms == piece.time.ms && other.record_id > piece.record_id
        })
        .filter(|other| within(other, piece, 0, policy.windows.service_put_back.0))
        .min_by_key(|other| other.time.ms)
}

/// Whether a process is what the service controller makes of a service's command: the same words, variables resolved.
pub fn runs(process: &ProcessStart, set: &ServiceSet) -> bool {
    let Some(line) = process.plain_line() else {
        return set.program.matches(&process.key);
    };
    // Every command on a host is held against every process there: what is folded is folded once.
    let pattern = set
        .pattern
        .get_or_init(|| as_pattern(set.plain.as_deref().unwrap_or(&set.command)).into());
    // A variable may have made the line so long that the words behind it were cut off.
    wildcard(pattern, line) || is_cut(line) && wildcard_begins(pattern, line)
}

/// Whether there was more of a text; a character may not have fitted.
fn is_cut(text: &str) -> bool {
    text.len() >= MAX_TEXT.saturating_sub(4)
}

/// A service's command as a pattern for the command line of its process: `%NAME%` becomes `*` (Sysmon writes the percent
/// signs doubled), and what was cut is open at its end. Nothing but a variable says nothing: it matches no command line.
fn as_pattern(command: &str) -> String {
    let squeezed = command::plain(command, MAX_TEXT).replace("%%", "%");
    let mut pattern = String::with_capacity(squeezed.len());
    let mut rest = squeezed.as_str();
    while let Some((before, after)) = rest.split_once('%') {
        pattern.push_str(before);
        match after.split_once('%') {
            Some((name, behind))
                if !name.is_empty()
                    && name
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b"_()".contains(&b)) =>
            {
                pattern.push('*');
                rest = behind;
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
    if is_cut(command) {
        // Variables make the process's own line longer, so its cut comes earlier in the words.
        let kept = crate::record::text::cut(pattern, MAX_TEXT / 2);
        return format!("{kept}*");
    }
    pattern
}

/// Whether a service's command is how Metasploit, Cobalt Strike and others make themselves SYSTEM on a machine they are already
/// on: it does nothing but echo into a named pipe, or run a DLL that is named like the service and its argument. Not lateral
/// movement. Exact, because whatever else stands in such a command is run as well.
pub fn is_local_getsystem(service: Option<&str>, command: &str) -> bool {
    let line = command::plain(command, MAX_TEXT);
    if is_cut(command) || line.contains(['&', '|', '<', ';']) {
        return false;
    }
    let words: Vec<&str> = line.split(' ').collect();
    let named =
        |word: &str, names: &[&str]| names.contains(&word.rsplit('\\').next().unwrap_or(word));
    match words.as_slice() {
        [program, "/c", "echo", _, ">", pipe] => {
            named(program, &["cmd.exe", "cmd", "%comspec%"]) && pipe.starts_with(r"\\.\pipe\")
        }
        [program, library, argument] if named(program, &["rundll32.exe", "rundll32"]) => {
            let base = library
                .split_once(".dll,")
                .map(|(path, _)| path.rsplit(['\\', '/']).next().unwrap_or(path))
                .unwrap_or_default();
            !base.is_empty()
                && argument.strip_prefix("/p:") == Some(base)
                && service.is_none_or(|service| service.eq_ignore_ascii_case(base))
        }
        _ => false,
    }
}

/// Extensions of what a command interpreter runs.
const RUNNABLE: [&str; 13] = [
    "exe", "com", "scr", "pif", "bat", "cmd", "ps1", "vbs", "js", "wsf", "hta", "dll", "msi",
];

/// A file that came over SMB and is named in a command: what `cmd /c <file>` as a service's program runs.
pub fn dropped_in<'l>(
    command: &str,
    anchor: &Evidence,
    locker: &'l Locker,
    policy: &Policy,
) -> Option<&'l Rc<Evidence>> {
    let files = || {
        let near = |piece: &&Rc<Evidence>| {
            within(
                piece,
                anchor,
                policy.windows.file_to_process.0,
                policy.windows.clock_tolerance.0,
            )
        };
        locker
            .shelf(Shelf::FileWrite)
            .filter(near)
            .filter_map(|piece| match &piece.fact {
                Fact::FileWrite(file) if file.writer == Writer::System => Some((piece, &file.key)),
                _ => None,
            })
    };
    // Only where there is a file that a word could name.
    files().next()?;
    let words = command
        .split(['"', ' ', '\t', '&', '|', '>', '^'])
        .filter(|word| word.contains('\\'));
    // `rundll32` is told a function behind a comma; but a name may hold one.
    let words = words.flat_map(|word| [word, word.split(',').next().unwrap_or(word)]);
    // What the command writes its output to is no program.
    let words: Vec<PathKey> = words
        .map(PathKey::new)
        .filter(|word| RUNNABLE.contains(&word.extension()))
        .collect();
    let named = files().filter(|(_, key)| words.iter().any(|word| key.matches(word)));
    named
        .map(|(piece, _)| piece)
        .min_by_key(|piece| piece.time.ms.abs_diff(anchor.time.ms))
}
