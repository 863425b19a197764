//! Normalizes values that producers and Windows write in several ways, before anything is joined on them.
//!
//! Nothing here knows records or techniques. Every function accepts any text: unexpected input gives a harmless value or `None`,
//! never a panic.

pub mod address;
pub mod cmd;
pub mod command;
pub mod guid;
pub mod host;
pub mod path;
pub mod time;

use crate::json::bytes;

/// `text` in lower case. Nearly all text is ASCII, which takes a fraction of the instructions that other letters take.
pub fn lower(text: &str) -> String {
    if text.is_ascii() {
        lower_ascii(text)
    } else {
        text.to_lowercase()
    }
}

/// Appends a character in lower case.
pub fn push_lower(text: &mut String, c: char) {
    if c.is_ascii() {
        text.push(c.to_ascii_lowercase());
    } else {
        text.extend(c.to_lowercase());
    }
}

/// `text` with its ASCII letters in lower case.
pub fn lower_ascii(text: &str) -> String {
    String::from_utf8(lower_bytes(text.as_bytes())).unwrap_or_else(|_| text.to_ascii_lowercase())
}

/// Bytes with their ASCII letters in lower case, eight at a time: on an interpreter that takes little more than one byte.
fn lower_bytes(bytes: &[u8]) -> Vec<u8> {
    let mut lower = bytes.to_vec();
    let (words, rest) = lower.as_chunks_mut::<8>();
    for chunk in words {
        *chunk = bytes::lower_word(u64::from_le_bytes(*chunk)).to_le_bytes();
    }
    rest.make_ascii_lowercase();
    lower
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn lower_agrees_with_to_lowercase(text in "([@-\\[`-{éÉΣİ]|[ -~]{8}){0,12}") {
            proptest::prop_assert_eq!(lower(&text), text.to_lowercase());
            proptest::prop_assert_eq!(lower_ascii(&text), text.to_ascii_lowercase());
        }
    }
}
