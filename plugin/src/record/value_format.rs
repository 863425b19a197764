//! The formats of values, which confirm what a value is when only its position or a line of text names it.

use super::producers::Field;
use crate::normalize::address;

/// Whether `text` is one of the ways in which producers write that there is no value. (Sysmon: `-`, before 2019 an empty text; Wazuh
/// `(NULL)`; JSON `null`.)
pub fn is_nothing(text: &str) -> bool {
    matches!(text, "" | "-" | "null" | "(NULL)")
}

/// The whole number that `text` is, also where a pipeline that knows only floating-point numbers wrote it: `11.0`, `1.1e1`. `None` for
/// a number with a fraction or a sign, or beyond 64 bits.
pub fn whole_number(text: &str) -> Option<u64> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i8>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        // A dot has digits on both sides.
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (mantissa, ""),
    };
    if whole.is_empty() {
        return None;
    }
    // Where the decimal point is after the exponent has moved it, in digits from the first one.
    let point = i64::try_from(whole.len())
        .ok()?
        .saturating_add(i64::from(exponent));
    let mut value = 0u64;
    let mut at = 0i64;
    for byte in whole.bytes().chain(fraction.bytes()) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 || at >= point && digit > 0 {
            return None;
        }
        if at < point {
            value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
        }
        at = at.saturating_add(1);
    }
    // At most as many as an exponent can be.
    while at < point && value > 0 {
        value = value.checked_mul(10)?;
        at = at.saturating_add(1);
    }
    Some(value)
}

/// Whether `text` can be a value of `field`.
pub fn fits(field: Field, text: &str) -> bool {
    match field {
        Field::UtcTime => is_utc_time(text),
        Field::ProcessGuid | Field::ParentProcessGuid => is_guid(text),
        Field::Image | Field::ParentImage | Field::TargetFilename => is_image(text),
        Field::TargetObject => is_registry_path(text),
        Field::LogonId | Field::TargetLogonId => is_hex(text),
        Field::Hashes => text.contains('='),
        Field::Protocol => is_protocol(text),
        Field::Initiated => is_truth(text),
        Field::SourceIp | Field::DestinationIp | Field::IpAddress => is_address(text),
        Field::SourcePort | Field::DestinationPort | Field::IpPort | Field::LogonType => {
            is_integer(text)
        }
        // Windows writes `%9` for a value that its template for the event does not have.
        _ => !text.strip_prefix('%').is_some_and(is_integer),
    }
}

/// Whether `text` has exactly the format of `2024-09-14 09:52:31.870`.
pub fn is_utc_time(text: &str) -> bool {
    text.len() == 23
        && text
            .bytes()
            .zip(*b"0000-00-00 00:00:00.000")
            .all(|(got, want)| {
                if want == b'0' {
                    got.is_ascii_digit()
                } else {
                    got == want
                }
            })
}

/// Whether `text` is a GUID, with or without braces.
pub fn is_guid(text: &str) -> bool {
    let stripped = text
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .unwrap_or(text);
    stripped.len() == 36
        && stripped.bytes().enumerate().all(|(at, b)| {
            if matches!(at, 8 | 13 | 18 | 23) {
                b == b'-'
            } else {
                b.is_ascii_hexdigit()
            }
        })
}

/// Whether `text` is decimal digits.
pub fn is_integer(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Whether `text` is `0x` and hexadecimal digits.
pub fn is_hex(text: &str) -> bool {
    text.strip_prefix("0x")
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Whether `text` can name a program or file: it is a path, or one of the names of the kernel's own processes.
pub fn is_image(text: &str) -> bool {
    text.contains('\\')
        || matches!(
            text,
            "System" | "Registry" | "MemCompression" | "<unknown process>" | "?"
        )
}

/// Whether `text` is a transport protocol.
pub fn is_protocol(text: &str) -> bool {
    text.eq_ignore_ascii_case("tcp") || text.eq_ignore_ascii_case("udp")
}

/// Whether `text` is a truth value.
pub fn is_truth(text: &str) -> bool {
    text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false")
}

/// Whether `text` is an IP address.
pub fn is_address(text: &str) -> bool {
    address::parse(text).is_some()
}

/// Whether `text` is a registry key, as Sysmon abbreviates them or as the kernel names them.
pub fn is_registry_path(text: &str) -> bool {
    text.starts_with("HK")
        || text
            .get(..10)
            .is_some_and(|start| start.eq_ignore_ascii_case(r"\registry\"))
}

/// Whether `text` is a security identifier.
pub fn is_sid(text: &str) -> bool {
    text.starts_with("S-1-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_in_whatever_way_they_are_written() {
        for (text, want) in [
            ("11", Some(11)),
            ("0", Some(0)),
            ("011", Some(11)),
            ("11.0", Some(11)),
            ("11.000", Some(11)),
            ("11e0", Some(11)),
            ("11E+0", Some(11)),
            ("1.1e1", Some(11)),
            ("1.10e1", Some(11)),
            ("110e-1", Some(11)),
            ("1100.0E-2", Some(11)),
            ("4.624e3", Some(4624)),
            ("1.84211e5", Some(184_211)),
            ("0.0", Some(0)),
            ("0e99", Some(0)),
            ("0.011e3", Some(11)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("11.5", None),
            ("1.15e1", None),
            ("11e-1", None),
            ("1e99", None),
            ("1e999", None),
            ("-11", None),
            ("+11", None),
            ("11.", None),
            (".11e2", None),
            ("e1", None),
            ("11e", None),
            ("1e1.0", None),
            ("0x0b", None),
            ("1 1", None),
            ("1,1", None),
            ("", None),
        ] {
            assert_eq!(whole_number(text), want, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn numbers_agree_with_floating_point(text in "[0-9]{1,6}([.][0-9]{1,4})?(e[+-]?[0-6])?") {
            // Exact: all of these have at most ten digits.
            let number: f64 = text.parse().unwrap();
            let rounded = number.round();
            let is_whole = (number - rounded).abs() < 1e-7;
            proptest::prop_assert_eq!(whole_number(&text), is_whole.then_some(rounded as u64), "{}", text);
        }
    }

    #[test]
    fn all_ways_to_write_nothing() {
        for text in ["", "-", "null", "(NULL)"] {
            assert!(is_nothing(text), "{text}");
        }
        for text in ["0", "--", "NULL", " ", "<unknown process>"] {
            assert!(!is_nothing(text), "{text}");
        }
    }

    #[test]
    fn values_that_a_wrong_template_put_under_a_name_do_not_fit() {
        // From Beats' golden files: events of one Sysmon rendered with the manifest of another.
        for (field, text) in [
            (Field::User, "%9"),
            (Field::LogonId, r"NT AUTHORITY\SYSTEM"),
            (Field::ParentImage, "716"),
        ] {
            assert!(!fits(field, text), "{field:?} {text}");
        }
        for (field, text) in [
            (Field::User, r"NT AUTHORITY\SYSTEM"),
            (Field::Details, "%%SystemRoot%%\\x.exe"),
            (Field::Image, "System"),
        ] {
            assert!(fits(field, text), "{field:?} {text}");
        }
    }
}
