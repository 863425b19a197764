//! Decides from the raw bytes of a value, in few instructions, whether its text certainly ends with none of some suffixes.

use crate::json::bytes;

/// Suffixes that a text may end with, in either case.
pub struct Suffixes {
    suffixes: Vec<Suffix>,
    /// For a byte with its [`FOLD`], whether it is the last one of a suffix of fewer than six bytes.
    last_of_short: [bool; 256],
    /// For a byte with its [`FOLD`], whether it is the last one of a longer suffix.
    last: [bool; 256],
    /// Whether a longer suffix has these [two bytes before](before_exe) its last four: the names of programs all end with `.exe`.
    before: [bool; 256],
}

struct Suffix {
    /// Its last eight bytes as a word.
    word: u64,
    /// Which bytes of the word it has.
    mask: u64,
    text: Box<str>,
}

/// The bit in which the two cases of a letter differ. With it set, some other characters become equal, so a match is compared again.
const FOLD: u8 = b'a' ^ b'A';

/// Most bytes of an escaped character.
const ESCAPE: usize = 6;

/// Most bytes of an XML entity, `&#x000065;`, each of whose characters may be escaped.
const ENTITY: usize = 11 * ESCAPE;

impl Suffixes {
    /// The suffixes in `texts`, which are in lower case; an empty one is ignored.
    pub fn new(texts: &[impl AsRef<str>]) -> Suffixes {
        let texts: Vec<&str> = texts
            .iter()
            .map(AsRef::as_ref)
            .filter(|text| !text.is_empty())
            .collect();
        let table = |byte: fn(&[u8]) -> Option<u8>| {
            let mut table = [false; 256];
            for byte in texts.iter().filter_map(|text| byte(text.as_bytes())) {
                table
                    .get_mut(usize::from(byte))
                    .into_iter()
                    .for_each(|is| *is = true);
            }
            table
        };
        let mask = |text: &str| {
            u64::MAX
                .checked_shl(64usize.saturating_sub(text.len().saturating_mul(8)) as u32)
                .unwrap_or(0)
        };
        let suffix = |text: &&str| Suffix {
            word: last_word(text.as_bytes()),
            mask: mask(text),
            text: (*text).into(),
        };
        Suffixes {
            suffixes: texts.iter().map(suffix).collect(),
            last_of_short: table(|text| last(text).filter(|_| text.len() < 6)),
            last: table(|text| last(text).filter(|_| text.len() >= 6)),
            before: table(before_exe),
        }
    }

    /// Whether it is certain that the text of `raw` ends with none of the suffixes, in any case. `false` if escapes, or XML entities if
    /// `entities` says that there may be some, could hide the answer.
    pub fn exclude(&self, raw: &[u8], entities: bool) -> bool {
        let is = |table: &[bool; 256], byte: Option<u8>| {
            byte.and_then(|byte| table.get(usize::from(byte))) == Some(&true)
        };
        let may_end = is(&self.last, last(raw));
        let may_end_short = is(&self.last_of_short, last(raw));
        if !may_end && !may_end_short && !entities && !is_unicode_escape(tail(raw, ESCAPE)) {
            return true;
        }
        let longest_character = if entities { ENTITY } else { ESCAPE };
        // If the last eight bytes match no suffix, only a character that extends into them matters.
        let mut count = longest_character.wrapping_add(7);
        if may_end_short || may_end && is(&self.before, before_exe(raw)) {
            let word = last_word(raw);
            for Suffix { text, .. } in self
                .suffixes
                .iter()
                .filter(|suffix| (word ^ suffix.word) & suffix.mask == 0)
            {
                if tail(raw, text.len()).eq_ignore_ascii_case(text.as_bytes()) {
                    return false;
                }
                count = count.max(text.len().saturating_mul(longest_character));
            }
        }
        let end = tail(raw, count);
        let escaped = || {
            bytes::may_hold_unicode_escape(end)
                && (0..end.len())
                    .filter_map(|at| end.get(at..))
                    .any(is_unicode_escape)
        };
        !(entities && end.contains(&b'&') || escaped())
    }
}

fn last(bytes: &[u8]) -> Option<u8> {
    bytes.last().map(|byte| byte | FOLD)
}

/// The fifth and the sixth byte from the end, mixed into one.
fn before_exe(bytes: &[u8]) -> Option<u8> {
    bytes
        .last_chunk::<6>()
        .map(|[sixth, fifth, ..]| (sixth | FOLD).rotate_left(3) ^ (fifth | FOLD))
}

/// Whether the bytes begin with an escape that may mean an ASCII character, or one whose lower case is ASCII.
fn is_unicode_escape(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\\u0") || bytes.starts_with(b"\\u1")
}

/// The last eight bytes, or as many as there are, in the upper part of a word, each with [`FOLD`] set.
fn last_word(bytes: &[u8]) -> u64 {
    let word = match bytes.last_chunk::<8>() {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => bytes
            .iter()
            .fold(0u64, |word, byte| word >> 8 | u64::from(*byte) << 56),
    };
    word | u64::from_le_bytes([FOLD; 8])
}

/// The last `count` bytes.
fn tail(bytes: &[u8], count: usize) -> &[u8] {
    bytes
        .get(bytes.len().saturating_sub(count)..)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::text;

    #[test]
    fn suffixes_in_either_case() {
        let suffixes = Suffixes::new(&["exe", ".", "\\imagepath", "wmiprvse.exe", "?", ""]);
        for (raw, none) in [
            ("a.exe", false),
            ("a.EXE", false),
            ("exe", false),
            ("xe", true),
            ("", true),
            ("a.exf", true),
            ("a.", false),
            // A dot and the control character that folds to it.
            ("a\u{e}", true),
            (r"HKLM\\x\\ImagePath", false),
            (r"HKLM\\xImagePath", true),
            (r"a.ex\u0065", false),
            (r"a.\u0065xe", false),
            (
                r"\u0065 and so much more text after it that it cannot be part of a suffix: q",
                true,
            ),
            (r"\u00e9.txt", true),
        ] {
            assert_eq!(suffixes.exclude(raw.as_bytes(), false), none, "{raw}");
        }
        let programs = Suffixes::new(&["services.exe", "wmiprvse.exe", "q.exe", "no.exe"]);
        for (raw, none) in [
            (r"C:\\Windows\\System32\\SERVICES.exe", false),
            (r"C:\\Windows\\explorer.exe", true),
            (r"C:\\Windows\\devices.exe", true),
            (r"C:\\Windows\\\u0053ervices.exe", false),
            (r"C:\\Windows\\\u0073ervices.exe", false),
            (r"C:\\Windows\\service\u0073.exe", false),
            (r"service\u0073.exe and more.exe", true),
            (".exe", true),
            (r"C:\\Q.exe", false),
            ("q.exe", false),
            ("r.exe", true),
            ("NO.exe", false),
            ("do.exe", true),
        ] {
            assert_eq!(programs.exclude(raw.as_bytes(), false), none, "{raw}");
        }
        assert!(!suffixes.exclude(b"a.&#101;xe;", true));
        assert!(Suffixes::new(&["", ""]).exclude(b"a", false));
    }

    proptest::proptest! {
        #[test]
        fn a_value_with_a_suffix_is_never_excluded(raw in r#"(\\u00(65|45|58|2e|4)|[eExX.?abé]|ste|\\\\s|\\\\|\\/|&#101;){0,12}"#, entities: bool) {
            let suffixes = ["exe", ".", "x.exe", "?", "abexxexxex.exe", "steste", "ex.exe", "\\sxxx"];
            let text = text::unescape(raw.as_bytes(), usize::MAX);
            let text = if entities { text::resolve_entities(&text) } else { text };
            let ends = suffixes.iter().any(|suffix| text.to_ascii_lowercase().ends_with(suffix));
            let none = Suffixes::new(&suffixes).exclude(raw.as_bytes(), entities);
            proptest::prop_assert!(!ends || !none, "{}", raw);
            // If nothing can hide the answer, it is certain.
            proptest::prop_assert!(ends || none || entities || raw.contains("\\u"), "{}", raw);
        }
    }
}
