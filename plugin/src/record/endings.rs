//! Whether a value surely ends with none of a few texts, told from its raw bytes in as few steps as can be.

use super::{scan, tail};

/// Texts in lower case that values may end with.
pub struct Endings {
    texts: Vec<Text>,
    /// For a byte with its [`FOLD`], whether it is the last one of a text of fewer than six.
    last_of_short: [bool; 256],
    /// The same for the others, and for what is [before](before_exe) their end: names of programs all end alike, with `.exe`.
    last: [bool; 256],
    before: [bool; 256],
}

struct Text {
    /// Its last bytes as a word, and which of the word's eight count.
    word: u64,
    counting: u64,
    text: Box<str>,
}

/// The bit that letters of the two cases differ in. Other characters may fall together by it: what it lets through is compared.
const FOLD: u8 = b'a' ^ b'A';

/// Most bytes that an escaped character takes.
const ESCAPE: usize = 6;

/// The same of an XML entity, `&#x000065;` and shorter, each of whose characters may be escaped.
const ENTITY: usize = 11 * ESCAPE;

impl Endings {
    /// `texts` are in lower case; an empty one is no ending.
    pub fn new(texts: &[impl AsRef<str>]) -> Endings {
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
        let counting = |text: &str| {
            u64::MAX
                .checked_shl(64usize.saturating_sub(text.len().saturating_mul(8)) as u32)
                .unwrap_or(0)
        };
        let text = |text: &&str| Text {
            word: last_word(text.as_bytes()),
            counting: counting(text),
            text: (*text).into(),
        };
        Endings {
            texts: texts.iter().map(text).collect(),
            last_of_short: table(|text| last(text).filter(|_| text.len() < 6)),
            last: table(|text| last(text).filter(|_| text.len() >= 6)),
            before: table(before_exe),
        }
    }

    /// Whether it is certain that the text that `raw` stands for ends with none of them, whatever its case: never if escapes, or XML
    /// `entities` if it has such, could hide the answer.
    pub fn are_none_of(&self, raw: &[u8], entities: bool) -> bool {
        let is = |table: &[bool; 256], byte: Option<u8>| {
            byte.and_then(|byte| table.get(usize::from(byte))) == Some(&true)
        };
        let may_end = is(&self.last, last(raw));
        let may_end_short = is(&self.last_of_short, last(raw));
        if !may_end && !may_end_short && !entities && !is_unicode_escape(tail(raw, ESCAPE)) {
            return true;
        }
        let longest_character = if entities { ENTITY } else { ESCAPE };
        // Where the last eight bytes are no text's, only a character that reaches into them matters.
        let mut reach = longest_character.wrapping_add(7);
        if may_end_short || may_end && is(&self.before, before_exe(raw)) {
            let word = last_word(raw);
            for Text { text, .. } in self
                .texts
                .iter()
                .filter(|text| (word ^ text.word) & text.counting == 0)
            {
                if tail(raw, text.len()).eq_ignore_ascii_case(text.as_bytes()) {
                    return false;
                }
                reach = reach.max(text.len().saturating_mul(longest_character));
            }
        }
        let end = tail(raw, reach);
        let escaped = || {
            scan::may_hold_unicode_escape(end)
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

/// The fifth and the sixth byte from the end in one.
fn before_exe(bytes: &[u8]) -> Option<u8> {
    bytes
        .last_chunk::<6>()
        .map(|[sixth, fifth, ..]| (sixth | FOLD).rotate_left(3) ^ (fifth | FOLD))
}

/// Whether an escape stands here that may mean an ASCII character, or one whose lower case is one.
fn is_unicode_escape(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\\u0") || bytes.starts_with(b"\\u1")
}

/// The last eight bytes, or as many as there are, in the upper part of a word, each with its [`FOLD`].
fn last_word(bytes: &[u8]) -> u64 {
    let word = match bytes.last_chunk::<8>() {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => bytes
            .iter()
            .fold(0u64, |word, byte| word >> 8 | u64::from(*byte) << 56),
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
                r"\u0065 and much more text that stands behind it, so that it is of no account: q",
                true,
            ),
            (r"\u00e9.txt", true),
        ] {
            assert_eq!(endings.are_none_of(raw.as_bytes(), false), none, "{raw}");
        }
        let programs = Endings::new(&["services.exe", "wmiprvse.exe", "q.exe", "no.exe"]);
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
            assert_eq!(programs.are_none_of(raw.as_bytes(), false), none, "{raw}");
        }
        assert!(!endings.are_none_of(b"a.&#101;xe;", true));
        assert!(Endings::new(&["", ""]).are_none_of(b"a", false));
    }

    proptest::proptest! {
        #[test]
        fn a_value_is_never_ruled_out_wrongly(raw in r#"(\\u00(65|45|58|2e|4)|[eExX.?abé]|ste|\\\\s|\\\\|\\/|&#101;){0,12}"#, entities: bool) {
            let endings = ["exe", ".", "x.exe", "?", "abexxexxex.exe", "steste", "ex.exe", "\\sxxx"];
            let text = text::unescape(raw.as_bytes(), usize::MAX);
            let text = if entities { text::unentity(&text) } else { text };
            let ends = endings.iter().any(|ending| text.to_ascii_lowercase().ends_with(ending));
            let none = Endings::new(&endings).are_none_of(raw.as_bytes(), entities);
            proptest::prop_assert!(!ends || !none, "{}", raw);
            // Where nothing can hide the answer it is told.
            proptest::prop_assert!(ends || none || entities || raw.contains("\\u"), "{}", raw);
        }
    }
}
