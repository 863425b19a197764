//! Finds where the parts of JSON text end.
//!
//! A string is skipped in steps of 64 bytes, and only the step that has a quote is looked at more closely.

use super::bytes::{HIGH, LOW, SPACES, first_byte, likely_quotes, likely_zero_bytes, word};

/// Why bytes are not a record that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No bytes.
    Empty,
    /// Longer than the policy's `max_record_bytes`, or with a string that is too long to be searched to its end.
    TooLarge,
    /// Not a JSON object.
    NotObject,
    /// Ends in the middle.
    Truncated,
    /// Nested deeper than [`MAX_DEPTH`].
    TooDeep,
    /// A NUL byte where JSON allows none.
    Nul,
    /// Any other breach of JSON.
    Malformed,
}

/// Most levels of nested containers that are read; real records have at most ten.
pub const MAX_DEPTH: u32 = 128;

const COMMAS: u64 = LOW.wrapping_mul(b',' as u64);
const BRACES: u64 = LOW.wrapping_mul(b'}' as u64);
const ABOVE_SPACES: u64 = LOW.wrapping_mul(b' ' as u64 + 1);
/// The upper halves of eight bytes, and their value for digits (and for six characters that end no scalar).
const HIGH_HALVES: u64 = LOW.wrapping_mul(0xf0);
const DIGITS: u64 = LOW.wrapping_mul(b'0' as u64);

/// The offset of the quote that ends the string whose first character is at `start`.
#[inline]
pub fn string_end(bytes: &[u8], start: usize) -> Result<usize, Fault> {
    match start.checked_sub(1).and_then(|open| bytes.get(open..)) {
        Some(string) => Ok(start.wrapping_add(split_string(string)?.0)),
        None => long_string_end(bytes, start, start),
    }
}

/// For bytes that begin with the quote of a string: how many bytes the string has between its quotes, and what follows it.
#[inline(always)]
pub fn split_string(bytes: &[u8]) -> Result<(usize, &[u8]), Fault> {
    // Most strings are no longer than a GUID, 38 characters: five words, searched at once. A loop would cost more.
    if let Some(head) = bytes.first_chunk::<41>()
        && let [_, words @ ..] = head
        && let ([a, b, c, d, e], _) = words.as_chunks::<8>()
    {
        let quotes = |word: &[u8; 8]| likely_quotes(u64::from_le_bytes(*word));
        let (a, b, c, d, e) = (quotes(a), quotes(b), quotes(c), quotes(d), quotes(e));
        let (before, found) = 'found: {
            if a != 0 {
                break 'found (0usize, a);
            }
            if (b | c) != 0 {
                break 'found if b != 0 { (8, b) } else { (16, c) };
            }
            if (d | e) != 0 {
                break 'found if d != 0 { (24, d) } else { (32, e) };
            }
            return split_long_string(bytes, 41);
        };
        // The mask saves a bounds check.
        let length = before.wrapping_add(first_byte(found) & 7);
        // What was found may be a byte above 0x7f, or an escaped quote.
        if let Some([before, b'"']) = head.get(length..).and_then(|end| end.first_chunk::<2>())
            && *before != b'\\'
            && let Some(rest) = bytes.get(length.wrapping_add(2)..)
        {
            return Ok((length, rest));
        }
    }
    split_long_string(bytes, 1)
}

/// Does what [`split_string`] does, for a string without an unescaped quote between its first byte and `at`.
#[inline(never)]
fn split_long_string(bytes: &[u8], at: usize) -> Result<(usize, &[u8]), Fault> {
    let end = long_string_end(bytes, 1, at)?;
    Ok((
        end.wrapping_sub(1),
        bytes.get(end.wrapping_add(1)..).unwrap_or_default(),
    ))
}

/// Does what [`string_end`] does, searching from `at` on, before which there is no unescaped quote.
#[inline(never)]
fn long_string_end(bytes: &[u8], start: usize, at: usize) -> Result<usize, Fault> {
    let mut rest = bytes.get(at..).ok_or(Fault::Truncated)?;
    while let Some((chunk, after)) = rest.split_first_chunk::<64>() {
        let words = chunk
            .as_chunks::<8>()
            .0
            .iter()
            .map(|word| u64::from_le_bytes(*word));
        if words.fold(0, |maybe, word| maybe | likely_quotes(word)) != 0
            && let Some(end) = bare_quote(bytes, start, chunk, bytes.len().wrapping_sub(rest.len()))
        {
            return Ok(end);
        }
        rest = after;
    }
    bare_quote(bytes, start, rest, bytes.len().wrapping_sub(rest.len())).ok_or(Fault::Truncated)
}

/// The offset of the first unescaped quote in `part`, which begins at `at` in `bytes`. Backslashes are counted back to `start`.
///
/// Never inlined, so that [`long_string_end`] need not keep the words of a step for it.
#[inline(never)]
fn bare_quote(bytes: &[u8], start: usize, part: &[u8], at: usize) -> Option<usize> {
    let is_bare = |quote: usize| {
        bytes.get(quote) == Some(&b'"')
            && (bytes.get(quote.wrapping_sub(1)) != Some(&b'\\')
                || !is_escaped(bytes, start, quote))
    };
    let (words, rest) = part.as_chunks::<8>();
    let mut at = at;
    for word in words {
        let word = u64::from_le_bytes(*word);
        let mut found = likely_quotes(word);
        while found != 0 {
            let quote = at.wrapping_add(first_byte(found));
            if is_bare(quote) {
                return Some(quote);
            }
            found &= found.wrapping_sub(1);
        }
        at = at.wrapping_add(8);
    }
    (at..at.wrapping_add(rest.len())).find(|quote| is_bare(*quote))
}

/// Whether the byte at `at` has an odd number of backslashes right before it, counted back to `start` at most.
#[inline]
fn is_escaped(bytes: &[u8], start: usize, at: usize) -> bool {
    let before = bytes.get(start..at).unwrap_or_default();
    let backslashes = before.iter().rev().take_while(|b| **b == b'\\').count();
    backslashes & 1 == 1
}

/// The offset after the container that opens at `open`.
#[inline(never)]
pub fn container_end(bytes: &[u8], open: usize) -> Result<usize, Fault> {
    let mut at = open;
    let mut depth = 0u32;
    loop {
        match bytes.get(at).ok_or(Fault::Truncated)? {
            b'"' => at = string_end(bytes, at.wrapping_add(1))?,
            b'{' | b'[' => {
                depth = depth.wrapping_add(1);
                if depth > MAX_DEPTH {
                    return Err(Fault::TooDeep);
                }
            }
            b'}' | b']' => {
                depth = depth.wrapping_sub(1);
                if depth == 0 {
                    return Ok(at.wrapping_add(1));
                }
            }
            _ => {}
        }
        at = at.wrapping_add(1);
    }
}

/// The offset of the first byte at or after `at` that ends a number or literal.
#[inline(always)]
pub fn scalar_end(bytes: &[u8], at: usize) -> usize {
    let mut at = at;
    loop {
        // Bytes past the end read as 0.
        let word = word(bytes, at);
        if word & HIGH_HALVES == DIGITS {
            at = at.wrapping_add(8);
            continue;
        }
        let ends = scalar_ends(word);
        if ends != 0 {
            return at.wrapping_add(first_byte(ends)).min(bytes.len());
        }
        at = at.wrapping_add(8);
    }
}

/// Sets the high bit of the first byte of `word` that ends a number or literal, or cannot be in one because it is above 0x7f. May
/// also set it for bytes after that.
#[inline(always)]
fn scalar_ends(word: u64) -> u64 {
    // `]` and `}` differ in one bit; nothing up to the space belongs to a scalar.
    likely_zero_bytes(word ^ COMMAS)
        | likely_zero_bytes((word | SPACES) ^ BRACES)
        | word.wrapping_sub(ABOVE_SPACES) & HIGH
}

/// The offset of the first byte at or after `at` that is not JSON white space.
#[inline(always)]
pub fn skip_blank(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at) {
        Some(byte) if *byte <= b' ' => skip_blanks(bytes, at),
        _ => at,
    }
}

fn skip_blanks(bytes: &[u8], at: usize) -> usize {
    let mut at = at;
    while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at = at.wrapping_add(1);
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_end_at_the_first_unescaped_quote() {
        for (text, want) in [
            (r#"abc" tail"#, Ok(3)),
            (r#"" tail"#, Ok(0)),
            (r#"a\"b" tail"#, Ok(4)),
            (r#"a\\" tail"#, Ok(3)),
            (r#"a\\\"b" tail"#, Ok(6)),
            ("no end", Err(Fault::Truncated)),
            (r#"ends in an escaped quote\""#, Err(Fault::Truncated)),
        ] {
            // At every alignment within a step of the scanner.
            for lead in 0..70 {
                let padded = format!("{}{text}", "é".repeat(lead));
                let start = lead * 2;
                assert_eq!(
                    string_end(padded.as_bytes(), start),
                    want.map(|at| at + start),
                    "{lead} {text}"
                );
            }
            // And with so much of the string before it that it lies across any two words.
            for lead in 0..140 {
                let string = format!("\"{}{text}, and more", "x".repeat(lead));
                assert_eq!(
                    string_end(string.as_bytes(), 1),
                    want.map(|at| at + lead + 1),
                    "{lead} {text}"
                );
            }
        }
    }

    #[test]
    fn scalars_end_before_what_separates_values() {
        for (text, want) in [
            ("11,", 2),
            ("11}", 2),
            ("11]", 2),
            ("11 ", 2),
            ("11\n", 2),
            ("-1.5e+300,", 9),
            ("123456789012345678901234567890}", 30),
            ("11", 2),
            ("", 0),
            (",", 0),
        ] {
            assert_eq!(scalar_end(text.as_bytes(), 0), want, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn string_end_agrees_with_a_byte_walk(text in r#"(a|é|\\\\|\\"){0,100}[a"\\é]{0,60}"#) {
            let bytes = text.as_bytes();
            let mut at = 0;
            let slow = loop {
                match bytes.get(at) {
                    None => break Err(Fault::Truncated),
                    Some(b'"') => break Ok(at),
                    Some(b'\\') => at += 2,
                    Some(_) => at += 1,
                }
            };
            proptest::prop_assert_eq!(string_end(bytes, 0), slow);
        }
    }
}
