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

/// `text` in lower case. Nearly all is ASCII, whose case takes a fraction of the steps that other letters' takes.
pub fn lower(text: &str) -> String {
    if text.is_ascii() { lower_ascii(text) } else { text.to_lowercase() }
}

/// `text` with its ASCII letters in lower case, eight at a time: on an interpreter they take little more than one.
pub fn lower_ascii(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for chunk in words {
        let word = u64::from_le_bytes(*chunk);
        let low = word & !HIGH;
        let capitals = low.wrapping_add(FROM_A) & !low.wrapping_add(BEHIND_Z) & !word & HIGH;
        // The bit that makes a small letter of it stands two below.
        *chunk = (word | capitals >> 2).to_le_bytes();
    }
    rest.make_ascii_lowercase();
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_ascii_lowercase())
}

const EACH: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = EACH.wrapping_mul(0x80);

/// Added to eight bytes below 0x80, these set the high bit of those from `A` on, and of those behind `Z`.
const FROM_A: u64 = EACH.wrapping_mul(0x80 - b'A' as u64);
const BEHIND_Z: u64 = EACH.wrapping_mul(0x7f - b'Z' as u64);

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
