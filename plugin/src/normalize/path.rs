//! Windows paths, brought to one spelling so that the file that was written and the program that was started are recognised as
//! the same.
//!
//! The spellings are those seen in real logs and in the tools' sources: quotes, `\??\`, `\\?\`, `\SystemRoot\`,
//! `%SystemRoot%` (also with the percent doubled, as Sysmon writes it in `Details`), `%windir%`,
//! `\Device\HarddiskVolumeN\`, `\\host\ADMIN$\`, `\\host\C$\`, doubled backslashes (Wazuh), forward slashes,
//! trailing dots and spaces, `.` and `..`.

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
const PREFIXES: [(&str, &str); 12] = [
    (r"\??\", ""),
    (r"\\?\unc\", r"\\"),
    (r"\\?\", ""),
    (r"\\.\", ""),
    (r"\device\mup\", r"\\"),
    (r"\systemroot\", r"?:\windows\"),
    (r"%systemroot%\", r"?:\windows\"),
    (r"%windir%\", r"?:\windows\"),
    (r"%systemdrive%\", r"?:\"),
    (r"%comspec%", r"?:\windows\system32\cmd.exe"),
    (r"system32\", r"?:\windows\system32\"),
    (r"\windows\", r"?:\windows\"),
];

/// No real spelling nests more than two prefixes.
const PREFIX_ROUNDS: usize = 4;

impl PathKey {
    /// Normalizes `path`; the result is empty for an empty path.
    pub fn new(path: &str) -> PathKey {
        if is_normalized(path) {
            return PathKey(lower_ascii(path).into());
        }
        let unquoted = path.trim().trim_matches('"').trim();
        let mut text = collapse(unquoted);
        for _ in 0..PREFIX_ROUNDS {
            let found = PREFIXES
                .iter()
                .find_map(|(from, to)| text.strip_prefix(from).map(|rest| [to, rest].concat()));
            match found.or_else(|| volume(&text)).or_else(|| share(&text)) {
                Some(next) => text = next,
                None => break,
            }
        }
        PathKey(components(&text).into())
    }

    /// Whether both can name the same file.
    pub fn matches(&self, other: &PathKey) -> bool {
        self.matches_text(&other.0)
    }

    /// Whether this path and `other`, the text of a normalized path, can name the same file.
    pub fn matches_text(&self, other: &str) -> bool {
        let (a, b) = (&*self.0, other);
        if a.is_empty() || b.is_empty() {
            return false;
        }
        a == b || same_below_drive(a, b) || below_share(a, b) || below_share(b, a)
    }

    /// The normalized text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last component.
    pub fn file_name(&self) -> &str {
        self.0.get(name_start(&self.0)..).unwrap_or(&self.0)
    }

    /// The extension in lower case without the dot; empty if there is none.
    pub fn extension(&self) -> &str {
        match self.file_name().rsplit_once('.') {
            Some((_, extension)) => extension,
            None => "",
        }
    }
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
pub fn program(command: &str) -> PathKey {
    let command = command.trim();
    let part = match command.strip_prefix('"') {
        Some(rest) => rest.split('"').next().unwrap_or(rest),
        None => unquoted_program(command),
    };
    let key = PathKey::new(part);
    if key.0.is_empty() || !key.extension().is_empty() {
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
fn volume(text: &str) -> Option<String> {
    let rest = text.strip_prefix(r"\device\harddiskvolume")?;
    let (number, below) = rest.split_once('\\')?;
    number
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| [r"?:\", below].concat())
}

/// Replaces the share of `\\host\admin$\x`, of `\\host\c$\x` and of any other share of any host.
fn share(text: &str) -> Option<String> {
    let rest = text.strip_prefix(r"\\")?;
    let (_host, rest) = rest.split_once('\\')?;
    let (share, below) = rest.split_once('\\')?;
    match share.as_bytes() {
        b"admin$" => Some([r"?:\windows\", below].concat()),
        [b'a'..=b'z', b'$'] => Some([share.trim_end_matches('$'), r":\", below].concat()),
        _ => Some([r"*\", below].concat()),
    }
}

/// Drops `.`, resolves `..`, cuts trailing dots and spaces of each component, and drops the name of the default stream.
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
        ] {
            assert!(!PathKey::new(a).matches(&PathKey::new(b)), "{a} / {b}");
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
            (r"C:\x.exedir\y.exe", r"c:\x.exedir\y.exe"),
            ("", ""),
        ] {
            assert_eq!(program(command).as_str(), want, "{command}");
        }
    }

    proptest::proptest! {
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
