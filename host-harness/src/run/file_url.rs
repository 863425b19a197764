//! The paths in URLs of inputs and outputs: `file:///var/log/out.ndjson`, `file:///C:/logs/out.ndjson`,
//! `file://server/share/out.ndjson`.
//!
//! As RFC 8089 says, `%20` in a URL is a blank in the path. `?` and `#` are ordinary characters.

use std::path::{Path, PathBuf};

/// Whose rules for paths hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// Paths begin with `/`.
    Unix,
    /// Paths begin with a drive letter, or with the name of a server and a share.
    Windows,
}

impl Platform {
    /// The platform that the program was built for.
    pub const HERE: Platform = if cfg!(windows) {
        Platform::Windows
    } else {
        Platform::Unix
    };

    /// Whether a character separates the parts of a path.
    fn separates(self, character: char) -> bool {
        character == '/' || self == Platform::Windows && character == '\\'
    }
}

/// Names that Windows gives to devices, in every folder and whatever the extension.
const DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];

/// The path of a file in a URL of which `rest` follows `file://`. The error is a message for the operator.
pub fn file_path(rest: &str, platform: Platform) -> Result<PathBuf, String> {
    decoded(rest, |rest| match platform {
        Platform::Unix => unix_path(rest, "file"),
        Platform::Windows => windows_path(rest),
    })
}

/// The path of a Unix socket in a URL of which `rest` follows `unix://`. The error is a message for the operator.
pub fn socket_path(rest: &str, platform: Platform) -> Result<PathBuf, String> {
    match platform {
        Platform::Unix => decoded(rest, |rest| unix_path(rest, "unix")),
        Platform::Windows => {
            Err("there are no Unix sockets on Windows; use tcp://127.0.0.1:PORT".to_owned())
        }
    }
}

/// Decodes `rest` and passes it to `path`. Before percent-encoding was decoded, paths were taken literally. So a URL is refused
/// if there is a file or folder of the literal name: lines would silently go elsewhere than they did.
fn decoded(rest: &str, path: impl Fn(&str) -> Result<PathBuf, String>) -> Result<PathBuf, String> {
    let text = percent_decoded(rest)?;
    let result = path(&text)?;
    if text != rest
        && let Ok(literal) = path(rest)
        && let Some(found) = literal.ancestors().find(|path| path.exists())
        && !result.starts_with(found)
    {
        return Err(format!(
            "`%` begins an encoded character, but {} exists; write `%25` for the character `%`",
            found.display()
        ));
    }
    Ok(result)
}

/// Replaces `%` and two hexadecimal digits by the byte that they stand for.
fn percent_decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let byte = after
            .get(..2)
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .filter(|byte| *byte != 0)
            .ok_or("expected two hexadecimal digits after `%`, not 00; write `%25` for the character `%`")?;
        bytes.push(byte);
        rest = after.get(2..).unwrap_or_default();
    }
    String::from_utf8(bytes).map_err(|_| "the path is not UTF-8 after `%` was decoded".to_owned())
}

/// Separates the host in `rest`, which is empty for this machine, from the path.
fn host_and_path(rest: &str, platform: Platform) -> (&str, &str) {
    let at = rest
        .find(|character| platform.separates(character))
        .unwrap_or(rest.len());
    match rest.split_at(at) {
        ("localhost", path) => ("", path),
        both => both,
    }
}

fn unix_path(rest: &str, scheme: &str) -> Result<PathBuf, String> {
    match host_and_path(rest, Platform::Unix) {
        ("", path) if path.starts_with('/') => Ok(path.into()),
        _ => Err(format!(
            "expected {scheme}:///PATH, with three slashes, for a path on this machine"
        )),
    }
}

fn windows_path(rest: &str) -> Result<PathBuf, String> {
    let expected =
        || "expected file:///C:/FOLDER/FILE or file://SERVER/SHARE/FOLDER/FILE".to_owned();
    let (host, path) = host_and_path(rest, Platform::Windows);
    if drive(host).is_some_and(|after| after.is_empty()) {
        return Err(format!("expected three slashes: file:///{rest}"));
    }
    let separates = |character| Platform::Windows.separates(character);
    let (mut result, path) = if host.is_empty() {
        let path = path.strip_prefix(separates).ok_or_else(expected)?;
        let after = drive(path).ok_or_else(expected)?;
        if !after.starts_with(separates) {
            return Err(expected());
        }
        (path[..2].to_owned(), after)
    } else {
        (format!(r"\\{}", windows_name(host)?), path)
    };
    let names: Vec<&str> = path
        .split(separates)
        .filter(|name| !name.is_empty())
        .collect();
    // A server's path begins with a share.
    if path.ends_with(separates) || names.len() < if host.is_empty() { 1 } else { 2 } {
        return Err(expected());
    }
    for name in names {
        result.push('\\');
        result.push_str(windows_name(name)?);
    }
    Ok(result.into())
}

/// If `text` begins with a drive such as `C:`: what comes after it.
fn drive(text: &str) -> Option<&str> {
    let rest = text.strip_prefix(|letter: char| letter.is_ascii_alphabetic())?;
    rest.strip_prefix(':')
}

/// Refuses names that Windows would not give to a file: it removes blanks and dots at the end, writes to a device, or to a
/// stream of another file (`out:1`).
/// Source: <https://learn.microsoft.com/en-us/windows/win32/fileio/naming-a-file>
fn windows_name(name: &str) -> Result<&str, String> {
    if matches!(name, "." | "..") {
        return Ok(name);
    }
    let stem = name.split('.').next().unwrap_or_default().trim_end();
    let numbered = |device: &str| {
        stem.get(..3)
            .is_some_and(|start| start.eq_ignore_ascii_case(device))
            && stem
                .get(3..)
                .is_some_and(|end| matches!(end.as_bytes(), [b'1'..=b'9']))
    };
    let is_device = DEVICES
        .iter()
        .any(|device| stem.eq_ignore_ascii_case(device))
        || numbered("com")
        || numbered("lpt");
    if is_device
        || name.ends_with([' ', '.'])
        || name.contains(|character: char| character < ' ' || "<>:\"|?*".contains(character))
    {
        return Err(format!("Windows has no file of the name `{name}`"));
    }
    Ok(name)
}

/// A file's path for messages: as a URL where that is the path itself, else as the platform writes it.
pub fn shown(path: &Path) -> String {
    let path = path.display().to_string();
    if path.starts_with('/') {
        format!("file://{path}")
    } else {
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The path in `file://` and `rest`, or `refused:` and the message.
    fn path(rest: &str, platform: Platform) -> String {
        match file_path(rest, platform) {
            Ok(path) => path.to_str().expect("UTF-8").to_owned(),
            Err(message) => format!("refused: {message}"),
        }
    }

    #[test]
    fn a_file_url_names_a_path_by_the_rules_of_unix() {
        for (rest, expected) in [
            ("/var/log/out.ndjson", "/var/log/out.ndjson"),
            ("localhost/var/log/out", "/var/log/out"),
            ("/a b/c%20d%C3%A9", "/a b/c dé"),
            ("/100%25/x", "/100%/x"),
            ("/what?is#this", "/what?is#this"),
            (r"/C:\logs\out", r"/C:\logs\out"),
        ] {
            assert_eq!(path(rest, Platform::Unix), expected, "{rest}");
        }
        for (rest, message) in [
            ("", "expected file:///PATH"),
            ("out.ndjson", "expected file:///PATH"),
            ("server/share/out", "expected file:///PATH"),
            ("/100%/x", "write `%25`"),
            ("/100%2", "write `%25`"),
            ("/100%+1", "write `%25`"),
            ("/nul%00", "not 00"),
            ("/%ff", "not UTF-8"),
        ] {
            let refused = path(rest, Platform::Unix);
            assert!(refused.starts_with("refused: "), "{rest}: {refused}");
            assert!(refused.contains(message), "{rest}: {refused}");
        }
    }

    #[test]
    fn a_file_url_names_a_path_by_the_rules_of_windows() {
        for (rest, expected) in [
            ("/C:/logs/out.ndjson", r"C:\logs\out.ndjson"),
            (r"/C:\logs\out.ndjson", r"C:\logs\out.ndjson"),
            (r"/C:\\logs\\out.ndjson", r"C:\logs\out.ndjson"),
            ("/z:/out", r"z:\out"),
            ("localhost/C:/out", r"C:\out"),
            ("/C:/Program%20Files/x y.log", r"C:\Program Files\x y.log"),
            ("/C:/a/../b/./c", r"C:\a\..\b\.\c"),
            ("server/share/x", r"\\server\share\x"),
            (r"server\share\a\x", r"\\server\share\a\x"),
            (
                "/C:/console/com10/null/out.con",
                r"C:\console\com10\null\out.con",
            ),
        ] {
            assert_eq!(path(rest, Platform::Windows), expected, "{rest}");
        }
        for (rest, message) in [
            ("", "expected file:///C:/"),
            ("/", "expected file:///C:/"),
            ("/logs/out", "expected file:///C:/"),
            ("/C:", "expected file:///C:/"),
            ("/C:/", "expected file:///C:/"),
            ("/C:/logs/", "expected file:///C:/"),
            ("/C:out", "expected file:///C:/"),
            ("/C|/out", "expected file:///C:/"),
            ("//server/share/x", "expected file:///C:/"),
            ("server/share", "expected file:///C:/"),
            ("server/share/", "expected file:///C:/"),
            ("C:/logs/out", "expected three slashes: file:///C:/logs/out"),
            (
                r"C:\logs\out",
                r"expected three slashes: file:///C:\logs\out",
            ),
            ("/C:/logs/out:1", "no file of the name `out:1`"),
            ("/C:/logs/what?", "no file of the name `what?`"),
            ("/C:/logs/a%0Ab", "no file of the name `a\nb`"),
            ("/C:/logs /out", "no file of the name `logs `"),
            ("/C:/logs/out.", "no file of the name `out.`"),
            ("/C:/logs/NUL", "no file of the name `NUL`"),
            ("/C:/logs/con.ndjson", "no file of the name `con.ndjson`"),
            ("/C:/com1/x", "no file of the name `com1`"),
            ("/C:/100%/x", "write `%25`"),
        ] {
            let refused = path(rest, Platform::Windows);
            assert!(refused.starts_with("refused: "), "{rest}: {refused}");
            assert!(refused.contains(message), "{rest}: {refused}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_url_is_refused_if_a_file_or_folder_of_its_literal_name_exists() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| format!("{}/{name}", folder.path().display());
        std::fs::write(at("a%20b"), "").expect("written");
        std::fs::create_dir(at("50%25")).expect("created");
        for (name, read) in [
            ("a%20b", None),
            ("a%2520b", Some("a%20b")),
            ("c%20d", Some("c d")),
            ("50%25/out", None),
            ("50%2525/out", Some("50%25/out")),
        ] {
            let result = file_path(&at(name), Platform::Unix);
            match read {
                Some(read) => assert_eq!(result, Ok(at(read).into()), "{name}"),
                None => assert!(
                    result.is_err_and(|why| why.contains("exists; write `%25`")),
                    "{name}"
                ),
            }
        }
    }

    #[test]
    fn a_unix_socket_is_refused_on_windows() {
        let path = "/run/in.sock";
        assert_eq!(socket_path(path, Platform::Unix), Ok(path.into()));
        assert!(socket_path(path, Platform::Windows).is_err_and(|why| why.contains("tcp://")));
        assert!(
            socket_path("run/in.sock", Platform::Unix)
                .is_err_and(|why| why.contains("unix:///PATH"))
        );
    }

    #[test]
    fn a_message_shows_a_path_as_the_operator_wrote_it() {
        assert_eq!(shown(Path::new("/var/out")), "file:///var/out");
        assert_eq!(shown(Path::new(r"C:\out")), r"C:\out");
        assert_eq!(shown(Path::new(r"\\server\share\x")), r"\\server\share\x");
    }
}
