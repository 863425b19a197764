//! What a list of a policy is compared with, and which texts in it can never match that, or match all of it.

use super::Patterns;
use super::wildcard::wildcard;
use crate::normalize::lower;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// What patterns are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// An account, as `domain\name` and as `name`.
    User,
    /// A host, by its whole name and by its first label.
    Host,
    /// A program, by its normalized path.
    Path,
    /// The name of a service.
    Service,
    /// A command line.
    Command,
    /// The name of a service and its command line.
    ServiceCommand,
    /// The name of a pipe, without a backslash before it.
    Pipe,
}

impl Subject {
    /// What it is called in messages.
    pub fn name(self) -> &'static str {
        match self {
            Subject::User => "user",
            Subject::Host => "host",
            Subject::Path => "program",
            Subject::Service => "service",
            Subject::Command => "command line",
            Subject::ServiceCommand => "service",
            Subject::Pipe => "pipe",
        }
    }

    /// Texts in lower case that have little in common. What matches all of them matches nearly everything.
    pub fn probes(self) -> &'static [&'static str] {
        match self {
            Subject::User => &[
                r"corp\alice",
                r"nt authority\system",
                r"pc-17\bob",
                r"emea.example\svc_backup01$",
            ],
            Subject::Host => &[
                "ws01.corp.example",
                "dc-2.emea.example.net",
                "sqlprod7.contoso.local",
            ],
            Subject::Path => &[
                r"c:\windows\psexesvc.exe",
                r"c:\windows\temp\a7.exe",
                r"c:\users\bob\tool_64.exe",
                r"c:\program files\vendor\agent.exe",
            ],
            Subject::Service => &["psexesvc", "btobto", "update service 7", "k-w_x"],
            Subject::Command => &[
                r"c:\windows\system32\svchost.exe -k netsvcs",
                r#""c:\program files\vendor\agent.exe" --run"#,
                "cmd.exe /c dir",
            ],
            Subject::ServiceCommand => &[
                r"psexesvc c:\windows\psexesvc.exe -k",
                r#"agent 7 "c:\program files\vendor\agent.exe" --run"#,
                "x cmd.exe /c dir",
            ],
            Subject::Pipe => &["lsass", "winreg", "mojo.4711.1", "pshost-7_x"],
        }
    }

    /// The part of a text in lower case that is compared as well.
    pub fn short(self, text: &str) -> Option<&str> {
        let (before, after) = match self {
            Subject::User => text.split_once('\\')?,
            Subject::Host => text.split_once('.')?,
            _ => return None,
        };
        Some(if self == Subject::User { after } else { before })
    }

    /// Why a pattern with `*`, in lower case, can match nothing, and what was expected. `None` if it can.
    pub fn misfit(self, pattern: &str) -> Option<&'static str> {
        let has = |c: char| pattern.contains(c);
        let is_command = matches!(self, Subject::Command | Subject::ServiceCommand);
        if !is_command && pattern.trim() != pattern {
            return Some("a blank at an end; expected none");
        }
        match self {
            Subject::Command | Subject::ServiceCommand => None,
            Subject::Pipe if pattern.starts_with('\\') => {
                Some("a backslash before the name; expected the name alone")
            }
            Subject::Pipe if pattern.starts_with("re:") => Some(
                "a regular expression; expected a name, in which `*` stands for any number of characters",
            ),
            Subject::Pipe => None,
            Subject::Path => misfit_of_path(pattern),
            _ if has('?') => {
                Some("`?`, which stands for itself; expected `*` for any number of characters")
            }
            _ if has('"') => Some("a quote; expected the name alone"),
            _ if has('/') => Some("`/`; expected `\\` after a domain, and no slash elsewhere"),
            Subject::User if pattern.matches('\\').count() > 1 => {
                Some("two backslashes; expected one, as in 'CORP\\alice'")
            }
            Subject::Host | Subject::Service if has('\\') => {
                Some("a backslash; expected the name alone")
            }
            Subject::Host if pattern.contains(char::is_whitespace) => {
                Some("a blank; expected the name of a host")
            }
            _ => None,
        }
    }
}

/// Why no normalized path is like this.
fn misfit_of_path(pattern: &str) -> Option<&'static str> {
    let begins_as_path = match pattern.as_bytes() {
        [b'*' | b'\\', ..] => true,
        [drive, b':', b'\\' | b'*', ..] => drive.is_ascii_alphabetic() || *drive == b'?',
        _ => false,
    };
    // Only a share begins with two, and only a device's path or a path on an unknown drive has a `?`.
    let below = pattern.trim_start_matches('*').get(1..).unwrap_or_default();
    let rest = below.trim_start_matches(r"\?\");
    let rest = if pattern.starts_with("?:") {
        below
    } else {
        rest
    };
    if pattern.contains('/') {
        Some(r"`/`; expected `\`")
    } else if pattern.contains('"') {
        Some("a quote; expected the path alone")
    } else if !begins_as_path {
        Some(
            r"no beginning of a path; expected a whole path, such as 'C:\Windows\a.exe' or '*\a.exe'",
        )
    } else if rest.contains('?') || pattern.starts_with("*?") {
        Some("`?`, which stands for itself; expected `*` for any number of characters")
    } else if rest.contains(r"\\") {
        Some("a doubled backslash; expected one, and 'single quotes' around the path")
    } else if pattern.ends_with('\\') {
        Some(r"a backslash at the end; expected '\*' for everything in a folder")
    } else {
        None
    }
}

/// Reads file names of programs, in whatever case. They are kept in lower case, in which they are compared.
#[inline(never)]
pub fn file_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    let is_none = |name: &&String| {
        name.trim() != name.as_str()
            || name.is_empty()
            || name.contains(|c: char| r#"\/*?":<>|"#.contains(c) || c.is_control())
    };
    match names.iter().find(is_none) {
        Some(name) => Err(D::Error::custom(format_args!(
            "`{name}` is not a file name, and file names are compared here; expected for example `cmd.exe`"
        ))),
        None => Ok(names.iter().map(|name| lower(name)).collect()),
    }
}

/// Reads names of pipes, in which `*` stands for any run of characters. They are kept in lower case, in which they are compared.
#[inline(never)]
pub fn pipes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let names: Vec<String> = texts.iter().map(|text| lower(text)).collect();
    for (name, text) in names.iter().zip(&texts) {
        let mut probes = Subject::Pipe.probes().iter();
        let wrong = if name.is_empty() {
            Some("nothing; expected a name")
        } else if probes.all(|probe| wildcard(name, probe)) {
            Some("nothing that excludes any pipe; expected a part of a name")
        } else {
            Subject::Pipe.misfit(name)
        };
        if let Some(wrong) = wrong {
            return Err(D::Error::custom(format_args!(
                "`{text}` is not a usable name of a pipe: it has {wrong}"
            )));
        }
    }
    Ok(names)
}

/// Reads ports.
#[inline(never)]
pub fn ports<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u16>, D::Error> {
    let ports = Vec::<u16>::deserialize(deserializer)?;
    if ports.contains(&0) {
        return Err(D::Error::custom(
            "nothing listens on port 0; expected ports from 1 to 65535",
        ));
    }
    Ok(ports)
}

/// Reads patterns for paths of programs.
pub fn paths<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Patterns, D::Error> {
    Patterns::read(deserializer, Subject::Path)
}

/// Reads patterns for command lines.
pub fn commands<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Patterns, D::Error> {
    Patterns::read(deserializer, Subject::Command)
}

/// Reads patterns for the name of a service and its command line.
pub fn service_commands<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Patterns, D::Error> {
    Patterns::read(deserializer, Subject::ServiceCommand)
}
