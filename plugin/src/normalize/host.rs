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

/// The whole name in lower case, without a dot at its end. Two domains may both have a `DC01`. `None` if there is no name.
pub fn key(computer: &str) -> Option<String> {
    // Nearly all names are ASCII and begin with a letter, which no address does.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    if computer.starts_with(|first: char| first.is_ascii_alphabetic())
        && computer.ends_with(|last: char| last.is_ascii_alphanumeric())
        && computer.bytes().all(is_plain)
    {
        return Some(lower_ascii(computer));
    }
    let name = computer.trim().trim_end_matches('.');
    if name.is_empty() || name == "-" || name.starts_with('.') {
        return None;
    }
    Some(lower(name))
}

/// The first label of a [key]: what ids of incidents go by, because a machine may be logged by its short and by its whole name. An
/// address has no labels.
pub fn label(key: &str) -> &str {
    if is_address(key) {
        return key;
    }
    key.split('.').next().unwrap_or(key)
}

fn is_address(key: &str) -> bool {
    // Parse only what can be an address.
    (key.contains(':') || key.ends_with(|c: char| c.is_ascii_digit()))
        && key.parse::<IpAddr>().is_ok()
}

/// Whether a [key] is a short name: one without a domain.
pub fn is_short(key: &str) -> bool {
    !key.contains(['.', ':'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_a_key_and_a_label() {
        for (computer, want) in [
            ("WS01.corp.example", Some(("ws01.corp.example", "ws01"))),
            ("ws01", Some(("ws01", "ws01"))),
            ("BÜRO1.corp", Some(("büro1.corp", "büro1"))),
            ("WS-01_A.corp", Some(("ws-01_a.corp", "ws-01_a"))),
            ("abc::1", Some(("abc::1", "abc::1"))),
            (" WS01. ", Some(("ws01", "ws01"))),
            ("10.0.0.21", Some(("10.0.0.21", "10.0.0.21"))),
            ("FE80::1", Some(("fe80::1", "fe80::1"))),
            ("a.10", Some(("a.10", "a"))),
            ("", None),
            ("-", None),
            (".corp", None),
        ] {
            let found = key(computer);
            let found = found.as_deref().map(|key| (key, label(key)));
            assert_eq!(found, want, "{computer:?}");
        }
    }

    #[test]
    fn netbios_names_have_15_characters() {
        for (a, b, same) in [
            ("LONG-WORKSTATION-1", "long-workstatio", true),
            ("WS01", "ws01.corp.example", true),
            (r"\\WS01", "ws01", true),
            ("WS01", "WS02", false),
            ("", "", false),
        ] {
            assert_eq!(is_same_netbios(a, b), same, "{a} {b}");
        }
    }
}
