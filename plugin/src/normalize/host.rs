//! Host names: the key under which a host's evidence is kept.

use super::{lower, lower_ascii};
use std::net::IpAddr;

/// Whether two names are of one machine where either may be a NetBIOS name, of which Windows keeps 15 characters.
pub fn is_same_netbios(a: &str, b: &str) -> bool {
    let short = |name: &str| -> String {
        let label = name
            .trim_start_matches('\\')
            .split('.')
            .next()
            .unwrap_or(name);
        label
            .chars()
            .take(15)
            .flat_map(char::to_lowercase)
            .collect()
    };
    let (a, b) = (short(a), short(b));
    !a.is_empty() && a == b
}

/// The first label of `computer` in lower case (`WS01.corp.example` and `ws01` are one host); an IP literal
/// is kept whole. `None` if there is no name.
pub fn key(computer: &str) -> Option<String> {
    // Nearly all names begin with an ASCII label whose first character is a letter, which no address does.
    let end = computer
        .bytes()
        .position(|byte| !byte.is_ascii_alphanumeric() && byte != b'-')
        .unwrap_or(computer.len());
    if computer.starts_with(|first: char| first.is_ascii_alphabetic())
        && matches!(computer.as_bytes().get(end), None | Some(b'.'))
    {
        return computer.get(..end).map(lower_ascii);
    }
    let name = computer.trim().trim_end_matches('.');
    if name.is_empty() || name == "-" {
        return None;
    }
    // Parse only what can be an address.
    if (name.contains(':') || name.ends_with(|c: char| c.is_ascii_digit()))
        && name.parse::<IpAddr>().is_ok()
    {
        return Some(name.to_ascii_lowercase());
    }
    let label = name.split('.').next().unwrap_or(name);
    if label.is_empty() {
        return None;
    }
    Some(lower(label))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_key() {
        for (computer, want) in [
            ("WS01.corp.example", Some("ws01")),
            ("ws01", Some("ws01")),
            ("BÜRO1.corp", Some("büro1")),
            ("WS-01_A.corp", Some("ws-01_a")),
            ("abc::1", Some("abc::1")),
            (" WS01. ", Some("ws01")),
            ("10.0.0.21", Some("10.0.0.21")),
            ("FE80::1", Some("fe80::1")),
            ("", None),
            ("-", None),
            (".corp", None),
        ] {
            assert_eq!(key(computer).as_deref(), want, "{computer:?}");
        }
    }
}
