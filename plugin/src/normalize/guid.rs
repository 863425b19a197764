//! Process GUIDs: with or without braces, in either case, all-zero when Sysmon does not know the process.

use super::lower_bytes;
use crate::record::scan;

/// The GUID in lower case without braces; `None` for the empty, null and all-zero forms.
///
/// Sysmon writes a zero `ParentProcessGuid` for parents it could not open (protected `services.exe`).
pub fn normalize(text: &str) -> Option<String> {
    settle(
        text.trim()
            .trim_start_matches('{')
            .trim_end_matches('}')
            .as_bytes(),
    )
}

/// Digits and dashes of a GUID.
const LENGTH: usize = 36;

/// The GUID in a JSON string as it is mostly written, with braces or without, in its case; `None` of any other, which may be one
/// all the same.
#[inline(always)]
pub fn bare(raw: &[u8]) -> Option<&[u8; LENGTH]> {
    let bare = match raw {
        [b'{', bare @ .., b'}'] => bare,
        _ => raw,
    };
    let bare: &[u8; LENGTH] = bare.try_into().ok()?;
    let [first, .., last] = bare;
    // Nothing that is dropped stands at its ends.
    (first.is_ascii_hexdigit() && last.is_ascii_hexdigit() && scan::is_plain(bare)).then_some(bare)
}

/// The same of one without braces and blanks, as a [bare] one is.
pub fn settle(bare: &[u8]) -> Option<String> {
    // "-" and no text are nothing, too.
    let is_zero = bare.iter().all(|byte| matches!(byte, b'0' | b'-'));
    String::from_utf8(lower_bytes(bare))
        .ok()
        .filter(|_| !is_zero)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_guid_is_one() {
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
            bare(b"{00000000-0000-0000-0000-000000000000}").map(|bare| settle(bare)),
            Some(None)
        );
    }

    proptest::proptest! {
        #[test]
        fn a_bare_guid_is_the_whole_of_it(raw in r"[ {]{0,2}([0-9A-F]{8}(-[0-9a-f]{4}){3}-[0-9A-F]{12}|[0-9a-z \\]{36})[ }]{0,2}") {
            if let Some(bare) = bare(raw.as_bytes()) {
                proptest::prop_assert_eq!(settle(bare), normalize(&raw));
            }
        }
    }
}
