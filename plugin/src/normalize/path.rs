//! Windows paths, brought to one spelling so that the file that was written and the program that was started are recognised as
//! the same.
//!
//! The spellings are those seen in real logs and in the tools' sources: quotes, `\??\`, `\\?\`, `\SystemRoot\`,
//! `%SystemRoot%` (also with the percent doubled, as Sysmon writes it in `Details`), `%windir%`,
//! `\Device\HarddiskVolumeN\`, `\\host\ADMIN$\`, `\\host\C$\`, doubled backslashes (Wazuh), forward slashes,
//! trailing dots and spaces, `.` and `..`, the variables that every Windows has, the folders that Windows itself keeps under two
//! names (`Sysnative`, `All Users`), and short (8.3) names.

use super::{lower_ascii, push_lower};
use crate::json::bytes;
use serde::{Deserialize, Serialize};

/// A path in one spelling.
///
/// What a spelling does not state stays open: `?:\…` is on some drive (a device name, ADMIN$, `%SystemRoot%`), `*\…` is somewhere
/// below a share whose root is not known. [`PathKey::matches`] takes that into account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathKey(Box<str>);

/// Prefixes and what replaces them. Applied until none matches, at most [`PREFIX_ROUNDS`] times.
const PREFIXES: [(&str, &str); 9] = [
    (r"\??\", ""),
    (r"\\?\unc\", r"\\"),
    (r"\\?\", ""),
    (r"\\.\", ""),
    (r"\device\mup\", r"\\"),
    (r"\systemroot\", r"?:\windows\"),
    (r"system32\", r"?:\windows\system32\"),
    (r"syswow64\", r"?:\windows\syswow64\"),
    (r"\windows\", r"?:\windows\"),
];

/// The variables that every Windows has, as a service that runs as LocalSystem sees them.
const VARIABLES: [(&str, &str); 18] = [
    ("systemroot", r"?:\windows"),
    ("windir", r"?:\windows"),
    ("systemdrive", "?:"),
    ("homedrive", "?:"),
    ("comspec", r"?:\windows\system32\cmd.exe"),
    ("programdata", r"?:\programdata"),
    ("allusersprofile", r"?:\programdata"),
    ("programfiles", r"?:\program files"),
    ("programw6432", r"?:\program files"),
    ("programfiles(x86)", r"?:\program files (x86)"),
    ("commonprogramfiles", r"?:\program files\common files"),
    ("commonprogramw6432", r"?:\program files\common files"),
    (
        "commonprogramfiles(x86)",
        r"?:\program files (x86)\common files",
    ),
    ("public", r"?:\users\public"),
    ("temp", r"?:\windows\temp"),
    ("tmp", r"?:\windows\temp"),
    ("userprofile", SYSTEM_PROFILE),
    ("homepath", SYSTEM_PROFILE),
];

/// The profile of LocalSystem.
const SYSTEM_PROFILE: &str = r"?:\windows\system32\config\systemprofile";

/// Folders that Windows keeps under another name as well, below the drive. A more special one stands before a more general one.
const SAME_FOLDERS: [(&str, &str); 7] = [
    (r"\windows\sysnative\", r"\windows\system32\"),
    (
        r"\documents and settings\all users\application data\",
        r"\programdata\",
    ),
    (r"\documents and settings\all users\", r"\programdata\"),
    (r"\documents and settings\", r"\users\"),
    (r"\users\all users\application data\", r"\programdata\"),
    (r"\users\all users\", r"\programdata\"),
    (r"\programdata\application data\", r"\programdata\"),
];

/// No real spelling nests more than two prefixes.
const PREFIX_ROUNDS: usize = 4;

impl PathKey {
    /// Normalizes `path`; the result is empty for an empty path.
    pub fn new(path: &str) -> PathKey {
        if is_normalized(path) {
            let key = lower_ascii(path);
            return PathKey(
                if may_have_two_names(&key) {
                    one_folder(key)
                } else {
                    key
                }
                .into(),
            );
        }
        PathKey::normalized(path)
    }

    #[inline(never)]
    fn normalized(path: &str) -> PathKey {
        let unquoted = path.trim().trim_matches('"').trim();
        let mut text = collapse(unquoted);
        for _ in 0..PREFIX_ROUNDS {
            let found = PREFIXES
                .iter()
                .find_map(|(from, to)| text.strip_prefix(from).map(|rest| [to, rest].concat()));
            let found = found.or_else(|| variable(&text)).or_else(|| volume(&text));
            match found.or_else(|| share(&text)) {
                Some(next) => text = next,
                None => break,
            }
        }
        PathKey(one_folder(components(&text)).into())
    }

    /// A path without a folder above may be anywhere: what it is looked for in, the log does not state.
    pub fn or_anywhere(self) -> PathKey {
        match self.0.as_bytes() {
            [_, b':', ..] | [b'*' | b'\\', ..] | [] => self,
            _ => PathKey([r"*\", &self.0].concat().into()),
        }
    }

    /// Whether both can name the same file.
    pub fn matches(&self, other: &PathKey) -> bool {
        self.matches_text(&other.0)
    }

    /// Whether this path and `other`, the text of a normalized path, can name the same file.
    pub fn matches_text(&self, other: &str) -> bool {
        can_be_same(&self.0, other)
    }

    /// The normalized text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last component.
    pub fn file_name(&self) -> &str {
        self.0.get(name_start(&self.0)..).unwrap_or(&self.0)
    }

    /// Whether this file lies in System32.
    pub fn is_in_system32(&self) -> bool {
        self.0
            .get(1..)
            .is_some_and(|below| below.starts_with(r":\windows\system32\"))
    }

    /// Whether this file lies below ProgramData.
    pub fn is_in_program_data(&self) -> bool {
        self.0
            .get(1..)
            .is_some_and(|below| below.starts_with(r":\programdata\"))
    }

    /// Whether this file lies in the same folder as another.
    pub fn is_in_folder_of(&self, other: &PathKey) -> bool {
        let folder = |path: &PathKey| {
            let end = name_start(&path.0);
            path.0.get(..end).map(str::to_owned)
        };
        match (folder(self), folder(other)) {
            // As files of one name, so that an open drive or a short name of a folder matches.
            (Some(a), Some(b)) if a.len() > 3 && b.len() > 3 => {
                PathKey([&*a, "x"].concat().into()).matches(&PathKey([&*b, "x"].concat().into()))
            }
            _ => false,
        }
    }

    /// A hash of the path below its drive, which not every event states. `None` where the path is not known up to the drive.
    pub fn hash(&self) -> Option<u64> {
        hash_below_drive(&self.0)
    }

    /// The [hash](PathKey::hash) of a path as Sysmon writes it in `Image`: whole, from the drive on.
    pub fn hash_of_image(image: &str) -> Option<u64> {
        match image.is_ascii() {
            // Nothing but the case of letters can differ, which is the same to the hash.
            true => hash_below_drive(image),
            false => PathKey::new(image).hash(),
        }
    }

    /// A hash of the file name without its extension. `None` where there may be a short name, which has others.
    pub fn stem_hash(&self) -> Option<u64> {
        let name = self.file_name();
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        (!self.0.contains('~')).then(|| bytes::hash(stem.as_bytes()))
    }

    /// The extension in lower case without the dot; empty if there is none.
    pub fn extension(&self) -> &str {
        match self.file_name().rsplit_once('.') {
            Some((_, extension)) => extension,
            None => "",
        }
    }
}

/// Whether two texts of normalized paths can name the same file.
pub fn can_be_same(a: &str, b: &str) -> bool {
    if a.is_empty() || b.is_empty() {
        return false;
    }
    a == b
        || same_below_drive(a, b)
        || below_share(a, b)
        || below_share(b, a)
        || (a.contains('~') || b.contains('~')) && short_names_match(a, b)
}

fn hash_below_drive(path: &str) -> Option<u64> {
    let below = path.get(2..).filter(|below| below.starts_with('\\'))?;
    Some(bytes::hash(below.as_bytes()))
}

/// Where the last component of a path begins.
pub fn name_start(path: &str) -> usize {
    // One byte at a time: a faster search takes more instructions to start than most names are long.
    path.bytes()
        .rposition(|byte| byte == b'\\')
        .map_or(0, |backslash| backslash.saturating_add(1))
}

/// Whether a path is written as Windows itself writes nearly all: from a drive's root on, with nothing that has to be resolved. Its
/// key is then the path in lower case.
fn is_normalized(path: &str) -> bool {
    matches!(path.as_bytes(), [b'a'..=b'z' | b'A'..=b'Z', b':', b'\\', below @ .., last]
        if path.is_ascii() && last.is_ascii_alphanumeric() && !bytes::may_hold(below, b"/%:", b"\\. ") && !below.starts_with(b"\\"))
}

/// The program of a service's `ImagePath` or of a command line: the quoted part, or everything up to the first
/// `.exe` that ends a word, or the first word. Windows itself tries every space; the first `.exe` is what that
/// finds for every path that was not made to deceive. If there is no extension, `.exe` is added, as CreateProcess does.
///
/// A program without a folder is looked for along a path that the log does not state, so it may be anywhere.
pub fn program(command: &str) -> PathKey {
    let command = command.trim();
    let part = match command.strip_prefix('"') {
        Some(rest) => rest.split('"').next().unwrap_or(rest),
        None => unquoted_program(command),
    };
    let key = PathKey::new(part);
    if key.0.is_empty() {
        return key;
    }
    let key = key.or_anywhere();
    if !key.extension().is_empty() {
        return key;
    }
    PathKey([&*key.0, ".exe"].concat().into())
}

fn unquoted_program(command: &str) -> &str {
    let lower = lower_ascii(command);
    for (at, ext) in lower.match_indices(".exe") {
        let end = at.saturating_add(ext.len());
        if lower
            .get(end..)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '"']))
        {
            return command.get(..end).unwrap_or(command);
        }
    }
    command.split_whitespace().next().unwrap_or(command)
}

/// The path in lower case, with forward slashes turned, runs of backslashes made one (two at the very start), and `%%` made `%`.
#[inline(never)]
fn collapse(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut slashes = 0usize;
    let mut percent = false;
    for c in text.chars() {
        match c {
            '\\' | '/' => {
                slashes = slashes.saturating_add(1);
                if slashes == 1 || (slashes == 2 && out == "\\") {
                    out.push('\\');
                }
            }
            '%' if percent => {}
            _ => push_lower(&mut out, c),
        }
        if !matches!(c, '\\' | '/') {
            slashes = 0;
        }
        percent = c == '%' && !percent;
    }
    out
}

/// `\device\harddiskvolume3\x` is `x` on a drive whose letter the log does not state.
#[inline(never)]
fn volume(text: &str) -> Option<String> {
    let rest = text.strip_prefix(r"\device\harddiskvolume")?;
    let (number, below) = rest.split_once('\\')?;
    number
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| [r"?:\", below].concat())
}

/// Replaces the share of `\\host\admin$\x`, of `\\host\c$\x` and of any other share of any host. `..` does not lead out of a share.
#[inline(never)]
fn share(text: &str) -> Option<String> {
    let rest = text.strip_prefix(r"\\")?;
    let (_host, rest) = rest.split_once('\\')?;
    let (share, below) = rest.split_once('\\')?;
    // A root of its own, above which there is nothing.
    let below = components(&[r".\", below].concat());
    let below = below.strip_prefix('\\').unwrap_or(&below);
    match share.as_bytes() {
        b"admin$" => Some([r"?:\windows\", below].concat()),
        [b'a'..=b'z', b'$'] => Some([share.trim_end_matches('$'), r":\", below].concat()),
        _ => Some([r"*\", below].concat()),
    }
}

/// Replaces a variable at the beginning. What a variable that is not known stands for is open.
#[inline(never)]
fn variable(text: &str) -> Option<String> {
    let (name, below) = text.strip_prefix('%')?.split_once('%')?;
    let below = below.strip_prefix('\\');
    if let Some((_, folder)) = VARIABLES.iter().find(|(known, _)| *known == name) {
        return Some(match below {
            Some(below) => [folder, "\\", below].concat(),
            None => (*folder).to_owned(),
        });
    }
    let roaming = match name {
        "appdata" => r"\appdata\roaming\",
        "localappdata" => r"\appdata\local\",
        _ => return Some([r"*\", below?].concat()),
    };
    Some([SYSTEM_PROFILE, roaming, below?].concat())
}

/// Whether a path can be in one of [`SAME_FOLDERS`]. Nearly all are not, and are told by a few of their bytes.
fn may_have_two_names(path: &str) -> bool {
    let below = path.as_bytes().get(3..).unwrap_or_default();
    let has = |at: usize, part: &[u8]| below.get(at..).is_some_and(|rest| rest.starts_with(part));
    match below.first() {
        Some(b'd') => has(1, b"ocuments and settings\\"),
        Some(b'u') => has(6, b"all users\\"),
        Some(b'w') => has(8, b"sysnative\\"),
        Some(b'p') => has(12, b"application data\\"),
        _ => false,
    }
}

/// A path with the folders that have two names under one of them.
#[inline(never)]
fn one_folder(path: String) -> String {
    let Some((drive, below)) = path
        .split_at_checked(2)
        .filter(|(drive, _)| drive.ends_with(':'))
    else {
        return path;
    };
    for (from, to) in SAME_FOLDERS {
        if let Some(rest) = below.strip_prefix(from) {
            return [drive, to, rest].concat();
        }
    }
    path
}

/// Drops `.`, resolves `..`, cuts trailing dots and spaces of each component, and drops the name of the default stream.
#[inline(never)]
fn components(text: &str) -> String {
    let text = text.strip_suffix("::$data").unwrap_or(text);
    let mut kept: Vec<&str> = Vec::new();
    for (index, part) in text.split('\\').enumerate() {
        let part = if part == ".." {
            part
        } else {
            part.trim_end_matches(['.', ' '])
        };
        match part {
            ".." if kept.len() > 1 => {
                kept.pop();
            }
            ".." => {}
            "" if index > 1 => {}
            _ => kept.push(part),
        }
    }
    kept.join("\\")
}

fn same_below_drive(a: &str, b: &str) -> bool {
    let open = a.starts_with("?:\\") || b.starts_with("?:\\");
    let on_drive = |path: &str| path.as_bytes().get(1) == Some(&b':');
    open && on_drive(a) && on_drive(b) && a.get(2..) == b.get(2..)
}

fn below_share(share: &str, path: &str) -> bool {
    // `*\x` keeps its backslash for the comparison, so that `*\b.exe` is not found in `c:\ab.exe`.
    share
        .strip_prefix('*')
        .is_some_and(|below| below.len() > 1 && path.ends_with(below))
}

/// Whether two paths, in one of which there is a short (8.3) name, can name the same file.
#[cold]
fn short_names_match(a: &str, b: &str) -> bool {
    let mut left = a.rsplit('\\');
    let mut right = b.rsplit('\\');
    loop {
        match (left.next(), right.next()) {
            // What is above is open.
            (Some("*"), _) | (_, Some("*")) | (None, None) => return true,
            (Some(a), Some(b)) if same_component(a, b) => {}
            _ => return false,
        }
    }
}

#[inline(never)]
fn same_component(a: &str, b: &str) -> bool {
    let is_drive = |part: &str| part.len() == 2 && part.ends_with(':');
    a == b
        || is_drive(a) && is_drive(b) && (a == "?:" || b == "?:")
        || is_short_for(a, b)
        || is_short_for(b, a)
}

/// Whether `short` can be the short name that Windows gives a file called `long`: up to six characters of its name without blanks and
/// dots, or from the fifth such name on two of them and four hexadecimal digits, then `~` and a number, then three characters of the
/// extension ([MS-FSCC] 2.1.5.2.1).
#[inline(never)]
fn is_short_for(short: &str, long: &str) -> bool {
    let split = |name: &'_ str| match name.rsplit_once('.') {
        Some((stem, extension)) => (stem.to_owned(), extension.to_owned()),
        None => (name.to_owned(), String::new()),
    };
    let (short_stem, short_extension) = split(short);
    let (long_stem, long_extension) = split(long);
    let Some((stem, number)) = short_stem.rsplit_once('~') else {
        return false;
    };
    let as_short = |text: &str| -> String {
        let kept = text.chars().filter(|c| !matches!(c, ' ' | '.'));
        kept.map(|c| if "+,;=[]".contains(c) { '_' } else { c })
            .collect()
    };
    let long_stem = as_short(&long_stem);
    let extension: String = as_short(&long_extension).chars().take(3).collect();
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || stem.is_empty() || extension != short_extension {
        return false;
    }
    let is_hashed = || {
        let (start, hash) = stem
            .split_at_checked(stem.len().saturating_sub(4))
            .unwrap_or(("", ""));
        (1..=2).contains(&start.chars().count())
            && long_stem.starts_with(start)
            && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    stem.chars().count() <= 6 && long_stem.starts_with(stem) || is_hashed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_dropped_program_is_one_file() {
        let written = PathKey::new(r"C:\Windows\PSEXESVC.exe");
        for spelling in [
            r"c:\windows\psexesvc.EXE",
            r#""C:\WINDOWS\PSEXESVC.exe""#,
            r"\??\C:\Windows\PSEXESVC.exe",
            r"\\?\C:\Windows\PSEXESVC.exe",
            r"\\.\C:\Windows\PSEXESVC.exe",
            r"\SystemRoot\PSEXESVC.exe",
            r"%SystemRoot%\PSEXESVC.exe",
            r"%%SystemRoot%%\PSEXESVC.exe",
            r"%windir%\PSEXESVC.exe",
            r"\Device\HarddiskVolume3\Windows\PSEXESVC.exe",
            r"\\10.0.0.21\ADMIN$\PSEXESVC.exe",
            r"\\127.0.0.1\C$\Windows\PSEXESVC.exe",
            r"\\?\UNC\WS01\ADMIN$\PSEXESVC.exe",
            r"\Device\Mup\WS01\ADMIN$\PSEXESVC.exe",
            r"C:\\Windows\\PSEXESVC.exe",
            r"C:/Windows/PSEXESVC.exe",
            r"C:\Windows\.\PSEXESVC.exe. ",
            r"C:\Windows\System32\..\PSEXESVC.exe",
            r"C:\Windows\PSEXESVC.exe::$DATA",
            r"\Windows\PSEXESVC.exe",
            r"\\WS01\ADMIN$\..\PSEXESVC.exe",
            r"\\WS01\ADMIN$\x\..\..\..\PSEXESVC.exe",
            r"%SystemDrive%\Windows\PSEXESVC.exe",
            r"C:\Windows\PSEXES~1.EXE",
            r"C:\Windows\PS4F0A~1.EXE",
            r"%tools%\PSEXESVC.exe",
        ] {
            assert!(
                PathKey::new(spelling).matches(&written),
                "{spelling}: {:?}",
                PathKey::new(spelling)
            );
            assert!(written.matches(&PathKey::new(spelling)), "{spelling}");
        }
    }

    #[test]
    fn different_files_stay_different() {
        for (a, b) in [
            (r"C:\Windows\a.exe", r"D:\Windows\a.exe"),
            (r"C:\Windows\a.exe", r"C:\Windows\aa.exe"),
            (r"%SystemRoot%\a.exe", r"C:\Windows\System32\a.exe"),
            (r"\\h\share\b.exe", r"C:\ab.exe"),
            (r"\\h\share\", r"C:\ab.exe"),
            ("", ""),
            ("*", "*a"),
            (r"C:\Windows\PSEXES~1.EXE", r"C:\Windows\PSEXEC.exe"),
            (r"C:\Windows\PSEXES~1.EXE", r"C:\Windows\PSEXESVC.com"),
            (r"C:\Windows\PSEXES~1.EXE", r"C:\PSEXESVC.exe"),
            (r"C:\Windows\PSEXES~1.EXE", r"D:\Windows\PSEXESVC.exe"),
            (r"C:\Windows\~1.EXE", r"C:\Windows\PSEXESVC.exe"),
            (r"C:\Windows\PSEXES~x.EXE", r"C:\Windows\PSEXESVC.exe"),
            (r"%ProgramData%\a.exe", r"C:\ProgramFiles\a.exe"),
            (r"%ProgramData%", r"C:\ProgramData\a.exe"),
        ] {
            assert!(!PathKey::new(a).matches(&PathKey::new(b)), "{a} / {b}");
        }
    }

    #[test]
    fn folders_with_two_names_are_one() {
        for (spelling, path) in [
            (r"%ProgramData%\a.exe", r"C:\ProgramData\a.exe"),
            (r"%%ProgramData%%\a.exe", r"C:\ProgramData\a.exe"),
            (r"%ALLUSERSPROFILE%\a.exe", r"C:\ProgramData\a.exe"),
            (r"C:\Users\All Users\a.exe", r"C:\ProgramData\a.exe"),
            (
                r"C:\Documents and Settings\All Users\a.exe",
                r"C:\ProgramData\a.exe",
            ),
            (
                r"C:\Documents and Settings\bob\a.exe",
                r"C:\Users\bob\a.exe",
            ),
            (
                r"C:\ProgramData\Application Data\a.exe",
                r"C:\ProgramData\a.exe",
            ),
            (r"C:\Windows\Sysnative\a.exe", r"C:\Windows\System32\a.exe"),
            (r"%ProgramFiles%\A\a.exe", r"C:\Program Files\A\a.exe"),
            (
                r"%ProgramFiles(x86)%\a.exe",
                r"D:\Program Files (x86)\a.exe",
            ),
            (r"C:\PROGRA~1\a.exe", r"C:\Program Files\a.exe"),
            (
                r"C:\PROGRA~2\ABLONG~1\a.exe",
                r"C:\Program Files (x86)\A B long\a.exe",
            ),
            (r"%PUBLIC%\a.exe", r"C:\Users\Public\a.exe"),
            (r"%TEMP%\a.exe", r"C:\Windows\Temp\a.exe"),
            (r"%TMP%\a.exe", r"C:\WINDOWS\TEMP\a.exe"),
            (
                r"%APPDATA%\a.exe",
                r"C:\Windows\System32\config\systemprofile\AppData\Roaming\a.exe",
            ),
            (
                r"%USERPROFILE%\a.exe",
                r"C:\Windows\System32\config\systemprofile\a.exe",
            ),
            (r"%COMSPEC%", r"C:\Windows\System32\cmd.exe"),
            (r"\\WS01\C$\..\..\a.exe", r"C:\a.exe"),
            (r"\\WS01\c$\ProgramData\a.exe", r"%ProgramData%\a.exe"),
        ] {
            let (a, b) = (PathKey::new(spelling), PathKey::new(path));
            assert!(a.matches(&b) && b.matches(&a), "{spelling}: {a:?}");
        }
    }

    #[test]
    fn a_share_of_unknown_root_matches_below_it() {
        assert!(
            PathKey::new(r"\\WS01\drop\x\b.exe").matches(&PathKey::new(r"E:\Shares\drop\x\b.exe"))
        );
    }

    #[test]
    fn the_program_of_a_service() {
        for (command, want) in [
            (r"%%SystemRoot%%\PSEXESVC.exe", r"?:\windows\psexesvc.exe"),
            (
                r#""C:\Program Files\A B\c.exe" -service"#,
                r"c:\program files\a b\c.exe",
            ),
            (
                r"C:\Program Files\A B\c.exe -service",
                r"c:\program files\a b\c.exe",
            ),
            (
                r"C:\Windows\PAExec-1-HOST.exe -service",
                r"c:\windows\paexec-1-host.exe",
            ),
            (r"%COMSPEC% /Q /c echo cd", r"?:\windows\system32\cmd.exe"),
            (r"\\127.0.0.1\ADMIN$\a1b2c3d.exe", r"?:\windows\a1b2c3d.exe"),
            (r"C:\Windows\noext", r"c:\windows\noext.exe"),
            ("kXyz.exe", r"*\kxyz.exe"),
            ("kXyz -service", r"*\kxyz.exe"),
            (r"sub\kXyz.exe", r"*\sub\kxyz.exe"),
            (
                r"System32\svchost.exe -k x",
                r"?:\windows\system32\svchost.exe",
            ),
            (r"C:\x.exedir\y.exe", r"c:\x.exedir\y.exe"),
            ("", ""),
        ] {
            assert_eq!(program(command).as_str(), want, "{command}");
        }
    }

    /// The short name that Windows gives a file first.
    fn short_name(stem: &str, extension: &str) -> String {
        let kept: String = stem.chars().filter(|c| !" .".contains(*c)).collect();
        let kept = kept.replace(['+', ',', ';', '=', '[', ']'], "_");
        let stem: String = kept.chars().take(6).collect();
        let extension: String = extension.chars().take(3).collect();
        format!("{stem}~1.{extension}").to_uppercase()
    }

    proptest::proptest! {
        /// Any file, however its folder, its name and the case of both are spelled.
        #[test]
        fn every_spelling_of_a_path_is_one_file(
            (spelled, folder) in proptest::sample::select(&[
                (r"C:\Windows\", r"C:\Windows\"),
                (r"\\?\C:\Windows\", r"C:\Windows\"),
                (r"%%SystemRoot%%\", r"C:\Windows\"),
                (r"\SystemRoot\", r"C:\Windows\"),
                (r"\\127.0.0.1\ADMIN$\", r"C:\Windows\"),
                (r"\\h\ADMIN$\..\", r"C:\Windows\"),
                (r"%ProgramData%\", r"C:\ProgramData\"),
                (r"C:\Users\All Users\", r"C:\ProgramData\"),
                (r"C:\PROGRA~3\", r"C:\ProgramData\"),
                (r"%windir%\Sysnative\", r"C:\Windows\System32\"),
                (r"C:/Windows//System32/", r"C:\Windows\System32\"),
                (r"%TEMP%\", r"C:\Windows\Temp\"),
            ][..]),
            stem in "[a-zA-Z0-9][a-zA-Z0-9 _+=.-]{5,14}[a-zA-Z0-9]",
            extension in "exe|com|scr|dllx",
            is_short: bool,
            is_upper: bool,
            ending in "|\\.| |::\\$DATA",
        ) {
            let name = if is_short { short_name(&stem, &extension) } else { format!("{stem}.{extension}") };
            let spelled = format!("{spelled}{name}{ending}");
            let spelled = if is_upper { spelled.to_uppercase() } else { spelled };
            let (a, b) = (PathKey::new(&spelled), PathKey::new(&format!("{folder}{stem}.{extension}")));
            proptest::prop_assert!(a.matches(&b) && b.matches(&a), "{spelled}: {a:?} and {b:?}");
            let other = PathKey::new(&format!("{folder}z{stem}.{extension}"));
            proptest::prop_assert!(!a.matches(&other) || stem.starts_with('z'), "{spelled} is not {other:?}");
        }

        #[test]
        fn a_normalized_path_is_its_own_key(path in "[a-zA-Z]:\\\\[a-cA-C\\\\/%:.~ $()]{0,30}[a-cA-C]") {
            let (text, key) = (collapse(&path), PathKey::new(&path));
            proptest::prop_assert_eq!(key.as_str(), components(volume(&text).or_else(|| share(&text)).as_deref().unwrap_or(&text)));
        }

        #[test]
        fn any_path_is_normalized_in_bounded_space(path in "[\\\\/%?.:$ \"a-cA-Cé*]{0,40}") {
            let once = PathKey::new(&path);
            let _ = program(&path);
            proptest::prop_assert!(once.as_str().len() <= path.len() * 3 + 32);
        }
    }
}
