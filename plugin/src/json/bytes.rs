//! Questions about bytes, answered for eight of them at a time.
//!
//! Words are always read as little-endian, so that everything works on any byte order.

pub(super) const LOW: u64 = 0x0101_0101_0101_0101;
pub(super) const HIGH: u64 = 0x8080_8080_8080_8080;
const QUOTES: u64 = LOW.wrapping_mul(b'"' as u64);
pub(super) const BACKSLASHES: u64 = LOW.wrapping_mul(b'\\' as u64);
const LETTERS_U: u64 = LOW.wrapping_mul(b'u' as u64);
pub(super) const SPACES: u64 = LOW.wrapping_mul(b' ' as u64);
/// Added to eight bytes below 0x80, these set the high bit of those from `A` on, and of those after `Z`.
const FROM_A: u64 = LOW.wrapping_mul(0x80 - b'A' as u64);
const AFTER_Z: u64 = LOW.wrapping_mul(0x7f - b'Z' as u64);
const DOTS: u64 = LOW.wrapping_mul(b'.' as u64);

/// The eight bytes at `at` as a little-endian word; bytes past the end read as 0.
#[inline(always)]
pub fn word(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => word_at_end(bytes, at),
    }
}

#[cold]
fn word_at_end(bytes: &[u8], at: usize) -> u64 {
    let mut chunk = [0u8; 8];
    for (to, from) in chunk.iter_mut().zip(bytes.get(at..).unwrap_or_default()) {
        *to = *from;
    }
    u64::from_le_bytes(chunk)
}

/// The index of the first byte of a word whose high bit is set in `found`; 8 if there is none.
#[inline(always)]
pub fn first_byte(found: u64) -> usize {
    (found.trailing_zeros() >> 3) as usize
}

/// Sets the high bit of each byte of `word` that is a quote. May also set it for bytes above 0x7f, and for any byte after the first
/// quote.
#[inline(always)]
pub fn likely_quotes(word: u64) -> u64 {
    likely_zero_bytes(word ^ QUOTES)
}

/// Whether one of two words may have a backslash. `false` is always right; `true` is right for ASCII.
#[inline(always)]
pub fn may_have_backslash(first: u64, second: u64) -> bool {
    (likely_zero_bytes(first ^ BACKSLASHES) | likely_zero_bytes(second ^ BACKSLASHES)) != 0
}

/// Whether any byte of `word` is a dot.
#[inline(always)]
pub fn has_dot(word: u64) -> bool {
    zero_bytes(word ^ DOTS) != 0
}

/// How many bytes of `chunk` come before its first backslash; 8 if it has none.
#[inline(always)]
pub fn before_backslash(chunk: [u8; 8]) -> usize {
    first_byte(zero_bytes(u64::from_le_bytes(chunk) ^ BACKSLASHES))
}

#[inline(always)]
fn zero_bytes(x: u64) -> u64 {
    likely_zero_bytes(x) & !x
}

/// Sets the high bit of each byte that is 0. May also set it for bytes above 0x80, and for any byte after the first 0.
#[inline(always)]
pub(super) fn likely_zero_bytes(x: u64) -> u64 {
    x.wrapping_sub(LOW) & HIGH
}

/// Whether the bytes of a JSON string are its text: printable ASCII without backslashes.
#[inline]
pub fn is_plain(bytes: &[u8]) -> bool {
    are_all(
        bytes,
        |word| unprintable(word) | (word ^ BACKSLASHES).wrapping_sub(LOW),
        |byte| matches!(byte, b' '..=b'~') && byte != b'\\',
    )
}

/// Whether all bytes are printable ASCII.
pub fn is_printable(bytes: &[u8]) -> bool {
    are_all(bytes, unprintable, |byte| matches!(byte, b' '..=b'~'))
}

/// Sets the high bit of each byte that is not printable ASCII. Bytes after the first such byte may be wrong.
#[inline(always)]
fn unprintable(word: u64) -> u64 {
    word | word.wrapping_sub(SPACES) | word.wrapping_add(LOW)
}

/// Whether all bytes belong to a class: `others` sets the high bit of bytes outside of it, `belongs` tests a single byte, which is
/// only needed for fewer than eight bytes.
#[inline(always)]
fn are_all(bytes: &[u8], others: impl Fn(u64) -> u64, belongs: impl Fn(u8) -> bool) -> bool {
    let is_word = |word: &[u8; 8]| others(u64::from_le_bytes(*word)) & HIGH == 0;
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().all(is_word)
        && match bytes.last_chunk::<8>() {
            // The last word overlaps the one before it.
            Some(last) => is_word(last),
            None => rest.iter().all(|byte| belongs(*byte)),
        }
}

/// Whether `bytes` may hold one of `wanted`, or a backslash right after one of `ahead`. `false` is always right; `true` is rarely
/// wrong for ASCII.
pub fn may_hold(bytes: &[u8], wanted: &[u8], ahead: &[u8]) -> bool {
    let any = |word: u64, bytes: &[u8]| {
        bytes.iter().fold(0, |found, byte| {
            found | likely_zero_bytes(word ^ LOW.wrapping_mul(u64::from(*byte)))
        })
    };
    let mut at = 0usize;
    while at < bytes.len() {
        let word = word(bytes, at);
        let pairs = (any(word, ahead) << 8) & likely_zero_bytes(word ^ BACKSLASHES);
        if any(word, wanted) | pairs != 0 {
            return true;
        }
        // The last byte of a word is the first of the next, because a pair may lie across two words.
        at = at.wrapping_add(7);
    }
    false
}

/// Whether `bytes` may hold a backslash right before a `u`. `false` is always right; `true` is rarely wrong.
pub fn may_hold_unicode_escape(bytes: &[u8]) -> bool {
    let Some(first) = bytes.first_chunk::<8>() else {
        return bytes.windows(2).any(|pair| pair == b"\\u");
    };
    // Whether the last byte of the previous word is a backslash. The first word may overlap the second.
    let mut before = 0u64;
    let (_, chunks) = bytes.as_rchunks::<8>();
    for chunk in std::iter::once(first).chain(chunks) {
        let word = u64::from_le_bytes(*chunk);
        let backslashes = likely_zero_bytes(word ^ BACKSLASHES);
        if (backslashes << 8 | before) & likely_zero_bytes(word ^ LETTERS_U) != 0 {
            return true;
        }
        before = backslashes >> 56;
    }
    false
}

/// The eight bytes of `word` with their ASCII letters in lower case.
#[inline(always)]
pub fn lower_word(word: u64) -> u64 {
    let low = word & !HIGH;
    let capitals = low.wrapping_add(FROM_A) & !low.wrapping_add(AFTER_Z) & !word & HIGH;
    // The bit that distinguishes the cases of a letter is two below the high bit.
    word | capitals >> 2
}

/// A hash of `bytes` that is the same for ASCII letters in either case. Not resistant to collisions that an attacker chooses.
///
/// It reads words, because one byte at a time takes six times as long.
pub fn hash(bytes: &[u8]) -> u64 {
    let add = |hash: u64, word: u64| {
        (hash.rotate_left(23) ^ lower_word(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    };
    let hash = bytes
        .as_chunks::<8>()
        .0
        .iter()
        .fold(bytes.len() as u64, |hash, word| {
            add(hash, u64::from_le_bytes(*word))
        });
    // The last word overlaps the one before it.
    add(hash, word(bytes, bytes.len().saturating_sub(8)))
}

/// Whether both slices hold the same bytes. Compares words, where the code that the compiler makes of `==` compares single bytes.
#[inline(always)]
pub fn equal(bytes: &[u8], known: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    let (known_words, known_rest) = known.as_chunks::<8>();
    let other = |(word, known): (&[u8; 8], &[u8; 8])| {
        u64::from_le_bytes(*word) ^ u64::from_le_bytes(*known)
    };
    bytes.len() == known.len()
        && words
            .iter()
            .zip(known_words)
            .fold(0, |all, pair| all | other(pair))
            == 0
        && match bytes.last_chunk().zip(known.last_chunk()) {
            // The last word overlaps the one before it.
            Some(last) => other(last) == 0,
            None => rest == known_rest,
        }
}

/// The number that `bytes` are in decimal digits; `None` if they are anything else, or more than nine.
#[inline(always)]
pub fn number(bytes: &[u8]) -> Option<u32> {
    // More than nine digits might not fit.
    if bytes.is_empty() || bytes.len() > 9 {
        return None;
    }
    let mut value = 0u32;
    for byte in bytes {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.wrapping_mul(10).wrapping_add(u32::from(digit));
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_up_to_nine_digits() {
        for (bytes, want) in [
            ("0", Some(0)),
            ("011", Some(11)),
            ("999999999", Some(999_999_999)),
            ("1000000000", None),
            ("", None),
            ("+1", None),
            ("1 ", None),
        ] {
            assert_eq!(number(bytes.as_bytes()), want, "{bytes:?}");
        }
    }

    #[test]
    fn plain_and_printable_examine_every_byte() {
        for length in 1..=20 {
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    let mut bytes = vec![b'a'; length];
                    bytes[at] = byte;
                    let printable = (b' '..=b'~').contains(&byte);
                    assert_eq!(
                        is_printable(&bytes),
                        printable,
                        "{byte} at {at} of {length}"
                    );
                    assert_eq!(
                        is_plain(&bytes),
                        printable && byte != b'\\',
                        "{byte} at {at} of {length}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_hash_ignores_the_case_of_ascii_letters_only() {
        for (a, b, is_same) in [
            ("WS01.corp.example", "ws01.CORP.example", true),
            ("WS01", "ws01", true),
            ("WS01", "WS02", false),
            ("a@b", "a`b", false),
            ("É", "é", false),
        ] {
            assert_eq!(hash(a.as_bytes()) == hash(b.as_bytes()), is_same, "{a} {b}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_unicode_escape_is_never_overlooked(text in r#"[a\\u0]{0,60}"#) {
            proptest::prop_assert!(!text.contains("\\u") || may_hold_unicode_escape(text.as_bytes()));
            proptest::prop_assert!(text.contains('u') && text.contains('\\') || !may_hold_unicode_escape(text.as_bytes()));
        }

        #[test]
        fn equal_agrees_with_the_operator(bytes in "(Microsoft-Windows-Sysmon|tcp|-)?[a-c]?") {
            for known in ["", "-", "tcp", "Microsoft-Windows-Sysmon"] {
                proptest::prop_assert_eq!(equal(bytes.as_bytes(), known.as_bytes()), bytes == known, "{}", bytes);
            }
        }

        #[test]
        fn a_byte_or_pair_is_never_overlooked(text in r#"[a/%.\\ ]{0,24}"#) {
            let holds = text.contains(['/', '%']) || text.contains(".\\") || text.contains(" \\");
            proptest::prop_assert!(!holds || may_hold(text.as_bytes(), b"/%", b". "));
        }
    }
}
