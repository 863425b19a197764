//! Values that producers and Windows write in several ways, brought to one form before anything is joined on them.
//!
//! Nothing here knows of records or techniques; every function takes text and is total: odd input gives an
//! odd but harmless value or `None`, never a panic.

pub mod address;
pub mod command;
pub mod guid;
pub mod host;
pub mod path;
pub mod time;

use crate::record::scan;

/// `text` in lower case. Nearly all is ASCII, whose case takes a fraction of the steps that other letters' takes.
pub fn lower(text: &str) -> String {
    if text.is_ascii() {
        lower_ascii(text)
    } else {
        text.to_lowercase()
    }
}

/// Adds a character in lower case.
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

/// The same of bytes, eight at a time: on an interpreter they take little more than one.
fn lower_bytes(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for chunk in words {
        *chunk = scan::small_letters(u64::from_le_bytes(*chunk)).to_le_bytes();
    }
    rest.make_ascii_lowercase();
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn lower_is_to_lowercase(text in "([@-\\[`-{éÉΣİ]|[ -~]{8}){0,12}") {
            proptest::prop_assert_eq!(lower(&text), text.to_lowercase());
            proptest::prop_assert_eq!(lower_ascii(&text), text.to_ascii_lowercase());
        }
    }
}
