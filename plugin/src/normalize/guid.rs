//! Process GUIDs: written with or without braces, in either case, and all-zero when Sysmon does not know the process.

use super::lower_bytes;
use crate::json::bytes;

/// The GUID in lower case without braces; `None` for an empty text, `-`, and the all-zero GUID.
///
/// Sysmon writes a zero `ParentProcessGuid` for parents it could not open (protected `services.exe`).
pub fn normalize(text: &str) -> Option<String> {
    normalize_bytes(
        text.trim()
            .trim_start_matches('{')
            .trim_end_matches('}')
            .as_bytes(),
    )
}

/// Length of a GUID without braces, in bytes.
const LENGTH: usize = 36;

/// The GUID in a JSON string without its braces, if it has any. `None` for anything not written in the usual form; it may be a
/// GUID nevertheless, which [`normalize`] decides.
#[inline(always)]
pub fn strip_braces(raw: &[u8]) -> Option<&[u8; LENGTH]> {
    let stripped = match raw {
        [b'{', inner @ .., b'}'] => inner,
        _ => raw,
    };
    let stripped: &[u8; LENGTH] = stripped.try_into().ok()?;
    let [first, .., last] = stripped;
    // A digit at both ends: `normalize` would drop nothing from it.
    (first.is_ascii_hexdigit() && last.is_ascii_hexdigit() && bytes::is_plain(stripped))
        .then_some(stripped)
}

/// Does what [`normalize`] does, for a GUID without braces and white space, such as [`strip_braces`] returns.
pub fn normalize_bytes(stripped: &[u8]) -> Option<String> {
    // True also for "-" and for no bytes.
    let is_zero = stripped.iter().all(|byte| matches!(byte, b'0' | b'-'));
    String::from_utf8(lower_bytes(stripped))
        .ok()
        .filter(|_| !is_zero)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_guid_is_normalized() {
        let one = Some("3f1a2b4c-0a01-66e5-eb03-000000000000".to_owned());
        for spelling in [
            "{3f1a2b4c-0a01-66e5-eb03-000000000000}",
            "{3F1A2B4C-0A01-66E5-EB03-000000000000}",
            "3F1A2B4C-0A01-66E5-EB03-000000000000",
        ] {
            assert_eq!(normalize(spelling), one);
        }
        for none in ["", "-", "{}", "{00000000-0000-0000-0000-000000000000}"] {
            assert_eq!(normalize(none), None);
        }
        assert_eq!(
            strip_braces(b"{00000000-0000-0000-0000-000000000000}")
                .map(|guid| normalize_bytes(guid)),
            Some(None)
        );
    }

    proptest::proptest! {
        #[test]
        fn both_ways_to_normalize_agree(raw in r"[ {]{0,2}([0-9A-F]{8}(-[0-9a-f]{4}){3}-[0-9A-F]{12}|[0-9a-z \\]{36})[ }]{0,2}") {
            if let Some(stripped) = strip_braces(raw.as_bytes()) {
                proptest::prop_assert_eq!(normalize_bytes(stripped), normalize(&raw));
            }
        }
    }
}
