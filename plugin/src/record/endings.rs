//! Whether a value ends with one of a few texts, told from its raw bytes in as few steps as can be.

use super::{scan, tail};

/// Texts in lower case that values may end with.
pub struct Endings {
    texts: Vec<String>,
    /// Of each text its last bytes as a word, and which of the word's eight count.
    words: Vec<(u64, u64)>,
    /// For a byte with its [`FOLD`], whether a text ends with it.
    last: [bool; 256],
    longest: usize,
}

/// The bit that letters of the two cases differ in. Other characters may fall together by it: what it lets through is compared.
const FOLD: u8 = b'a' ^ b'A';

impl Endings {
    /// `texts` are in lower case; an empty one is no ending.
    pub fn new(texts: &[impl AsRef<str>]) -> Endings {
        let texts: Vec<String> = texts.iter().map(|text| text.as_ref().to_owned()).filter(|text| !text.is_empty()).collect();
        let mut last = [false; 256];
        for byte in texts.iter().filter_map(|text| text.as_bytes().last()) {
            if let Some(ends) = last.get_mut(usize::from(byte | FOLD)) {
                *ends = true;
            }
        }
        let counting = |text: &String| u64::MAX.checked_shl(64usize.saturating_sub(text.len().saturating_mul(8)) as u32).unwrap_or(0);
        let words = texts.iter().map(|text| (last_word(text.as_bytes()), counting(text))).collect();
        let longest = texts.iter().map(String::len).max().unwrap_or_default();
        Endings { texts, words, last, longest }
    }

    /// Whether the text that `raw` stands for ends with one of them, whatever its case; `None` if escapes, or XML `entities` if it
    /// has such, could hide the answer. True also of an escape whose own digits are an ending, so that only a no is certain.
    pub fn end(&self, raw: &[u8], entities: bool) -> Option<bool> {
        if raw.last().and_then(|byte| self.last.get(usize::from(byte | FOLD))) == Some(&true) {
            let word = last_word(raw);
            let near = self.words.iter().zip(&self.texts).filter(|((end, counting), _)| (word ^ end) & counting == 0);
            for (_, text) in near {
                if tail(raw, text.len()).eq_ignore_ascii_case(text.as_bytes()) {
                    return Some(true);
                }
            }
        } else if !entities && !is_unicode_escape(tail(raw, 6)) {
            return Some(false);
        }
        // An escaped character takes up to six bytes.
        let end = tail(raw, self.longest.saturating_mul(6));
        let escaped = || scan::may_hold_unicode_escape(end) && (0..end.len()).filter_map(|at| end.get(at..)).any(is_unicode_escape);
        let doubtful = entities && end.contains(&b'&') || escaped();
        (!doubtful).then_some(false)
    }
}

/// Whether an escape stands here that may mean an ASCII character, or one whose lower case is one.
fn is_unicode_escape(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\\u0") || bytes.starts_with(b"\\u1")
}

/// The last eight bytes, or as many as there are, in the upper part of a word, each with its [`FOLD`].
fn last_word(bytes: &[u8]) -> u64 {
    let word = match bytes.last_chunk::<8>() {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => bytes.iter().fold(0u64, |word, byte| word >> 8 | u64::from(*byte) << 56),
    };
    word | u64::from_le_bytes([FOLD; 8])
}

#[cfg(test)]
mod tests {
    use super::super::text;
    use super::*;

    #[test]
    fn endings_in_either_case() {
        let endings = Endings::new(&["exe", ".", "\\imagepath", "wmiprvse.exe", "?", ""]);
        for (raw, want) in [
            ("a.exe", Some(true)),
            ("a.EXE", Some(true)),
            ("exe", Some(true)),
            ("xe", Some(false)),
            ("", Some(false)),
            ("a.exf", Some(false)),
            ("a.", Some(true)),
            // A dot and the control character that folds to it.
            ("a\u{e}", Some(false)),
            (r"HKLM\\x\\ImagePath", Some(true)),
            (r"HKLM\\xImagePath", Some(false)),
            (r"a.ex\u0065", None),
            (r"a.\u0065xe", None),
            (r"\u0065 and much more text that stands behind it, so that it is of no account: q", Some(false)),
            (r"\u00e9.txt", Some(false)),
        ] {
            assert_eq!(endings.end(raw.as_bytes(), false), want, "{raw}");
        }
        assert_eq!(endings.end(b"a.&#101;xe;", true), None);
        assert_eq!(Endings::new(&["", ""]).end(b"a", false), Some(false));
    }

    proptest::proptest! {
        #[test]
        fn a_value_is_never_ruled_out_wrongly(raw in r#"(\\u00(65|45|58|2e)|[eExX.?abé]|\\\\|\\/|&#101;){0,12}"#, entities: bool) {
            let endings = ["exe", ".", "x.exe", "?", "abexxexxex.exe"];
            let text = text::unescape(raw.as_bytes(), usize::MAX);
            let text = if entities { text::unentity(&text) } else { text };
            let ends = endings.iter().any(|ending| text.to_ascii_lowercase().ends_with(ending));
            if let Some(said) = Endings::new(&endings).end(raw.as_bytes(), entities) {
                // Digits of an escape, or what an entity leaves, may seem to end so: then a value is only not left early.
                proptest::prop_assert!(said || !ends, "{}", raw);
                proptest::prop_assert!(!said || ends || entities || raw.contains("\\u"), "{}", raw);
            }
        }
    }
}
