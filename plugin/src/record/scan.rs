//! Finding the ends of things in JSON bytes, a word at a time.
//!
//! Fluent Bit's interpreter pays for every instruction, so a string is skipped in steps of 64 bytes and only the
//! step with a quote is looked at more closely. Works on any byte order: a word is always read as little-endian.

use super::Fault;

/// Containers nested deeper than this are not looked into; real records have at most ten levels.
pub const MAX_DEPTH: u32 = 128;

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;
const QUOTES: u64 = LOW.wrapping_mul(b'"' as u64);
const BACKSLASHES: u64 = LOW.wrapping_mul(b'\\' as u64);
const LETTERS_U: u64 = LOW.wrapping_mul(b'u' as u64);
const COMMAS: u64 = LOW.wrapping_mul(b',' as u64);
const BRACES: u64 = LOW.wrapping_mul(b'}' as u64);
const BLANKS: u64 = LOW.wrapping_mul(b' ' as u64);
const ABOVE_BLANKS: u64 = LOW.wrapping_mul(b' ' as u64 + 1);
/// The upper halves of eight bytes, and what they are of digits (and of six characters that end no scalar).
const HIGH_HALVES: u64 = LOW.wrapping_mul(0xf0);
const DIGITS: u64 = LOW.wrapping_mul(b'0' as u64);
/// Added to eight bytes below 0x80, these set the high bit of those from `A` on, and of those behind `Z`.
const FROM_A: u64 = LOW.wrapping_mul(0x80 - b'A' as u64);
const BEHIND_Z: u64 = LOW.wrapping_mul(0x7f - b'Z' as u64);
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

/// A high bit for each byte of `word` that is a quote, and perhaps for bytes above 0x7f and behind the first quote.
#[inline(always)]
pub fn likely_quotes(word: u64) -> u64 {
    likely_zero_bytes(word ^ QUOTES)
}

/// Whether there may be a backslash in one of two words. Never wrong when it says no, nor when it says yes of ASCII.
#[inline(always)]
pub fn may_have_backslash(first: u64, second: u64) -> bool {
    (likely_zero_bytes(first ^ BACKSLASHES) | likely_zero_bytes(second ^ BACKSLASHES)) != 0
}

/// Whether any byte of `word` is a dot.
#[inline(always)]
pub fn has_dot(word: u64) -> bool {
    zero_bytes(word ^ DOTS) != 0
}

/// Whether a string's bytes are its text: printable ASCII without backslashes.
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

/// The high bit of a byte that is not printable ASCII. What that carries into the next byte is of no matter then.
#[inline(always)]
fn unprintable(word: u64) -> u64 {
    word | word.wrapping_sub(BLANKS) | word.wrapping_add(LOW)
}

/// Whether `others` sets no high bit of any word, and of fewer bytes than a word each is one of those that are meant.
#[inline(always)]
fn are_all(bytes: &[u8], others: impl Fn(u64) -> u64, is_meant: impl Fn(u8) -> bool) -> bool {
    let is_word = |word: &[u8; 8]| others(u64::from_le_bytes(*word)) & HIGH == 0;
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().all(is_word)
        && match bytes.last_chunk::<8>() {
            // The last word overlaps the one before.
            Some(last) => is_word(last),
            None => rest.iter().all(|byte| is_meant(*byte)),
        }
}

/// Whether there may be one of `wanted` in `bytes`, or a backslash behind one of `ahead`. Never wrong when it says no, seldom when
/// it says yes of ASCII.
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
        // The last byte of a word is the first of the next: a pair may stand on both sides.
        at = at.wrapping_add(7);
    }
    false
}

/// The eight bytes of `word` with their ASCII letters in lower case.
#[inline(always)]
pub fn small_letters(word: u64) -> u64 {
    let low = word & !HIGH;
    let capitals = low.wrapping_add(FROM_A) & !low.wrapping_add(BEHIND_Z) & !word & HIGH;
    // The bit that makes a small letter of it stands two below.
    word | capitals >> 2
}

/// A hash of bytes, of ASCII letters in either case: in words, as a byte at a time takes six times as long. Not for those that an
/// attacker must not guess.
pub fn hash(bytes: &[u8]) -> u64 {
    let add = |hash: u64, word: u64| {
        (hash.rotate_left(23) ^ small_letters(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    };
    let hash = bytes
        .as_chunks::<8>()
        .0
        .iter()
        .fold(bytes.len() as u64, |hash, word| {
            add(hash, u64::from_le_bytes(*word))
        });
    // The last word overlaps the one before.
    add(hash, word(bytes, bytes.len().saturating_sub(8)))
}

/// How many bytes of `chunk` stand before its first backslash.
#[inline(always)]
pub fn before_backslash(chunk: [u8; 8]) -> usize {
    // Of none there are 64 zeros: eight bytes.
    first_byte(zero_bytes(u64::from_le_bytes(chunk) ^ BACKSLASHES))
}

/// Whether there may be a backslash right before a `u`. Never wrong when it says no, seldom when it says yes.
pub fn may_hold_unicode_escape(bytes: &[u8]) -> bool {
    let Some(first) = bytes.first_chunk::<8>() else {
        return bytes.windows(2).any(|pair| pair == b"\\u");
    };
    // Whether the last byte of the word before is a backslash. The first word may overlap the second.
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

#[inline(always)]
fn zero_bytes(x: u64) -> u64 {
    likely_zero_bytes(x) & !x
}

#[inline(always)]
fn likely_zero_bytes(x: u64) -> u64 {
    x.wrapping_sub(LOW) & HIGH
}

/// The offset of the quote that ends the string whose first character is at `start`.
#[inline]
pub fn string_end(bytes: &[u8], start: usize) -> Result<usize, Fault> {
    match start.checked_sub(1).and_then(|open| bytes.get(open..)) {
        Some(string) => Ok(start.wrapping_add(split_string(string)?.0)),
        None => long_string_end(bytes, start, start),
    }
}

/// How many bytes stand between the quotes of the string that `bytes` begin with, and what follows it.
#[inline(always)]
pub fn split_string(bytes: &[u8]) -> Result<(usize, &[u8]), Fault> {
    // Most strings are no longer than a GUID, 38 characters: five words, looked for at once. A loop would cost more.
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
        // The mask spares a check.
        let length = before.wrapping_add(first_byte(found) & 7);
        // What is found may be a byte above 0x7f, and a quote be escaped.
        if let Some([before, b'"']) = head.get(length..).and_then(|end| end.first_chunk::<2>())
            && *before != b'\\'
            && let Some(rest) = bytes.get(length.wrapping_add(2)..)
        {
            return Ok((length, rest));
        }
    }
    split_long_string(bytes, 1)
}

/// The same of a string in which there is no bare quote between the first byte and `at`.
#[inline(never)]
fn split_long_string(bytes: &[u8], at: usize) -> Result<(usize, &[u8]), Fault> {
    let end = long_string_end(bytes, 1, at)?;
    Ok((
        end.wrapping_sub(1),
        bytes.get(end.wrapping_add(1)..).unwrap_or_default(),
    ))
}

/// The same from `at` on, before which there is no bare quote.
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

/// The offset of the first quote in `part`, which stands at `at` in `bytes`, that no backslash behind `start` escapes. Apart, so that
/// the words of a step above need not be kept for it.
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
        while found != 0 && !are_escaped(word, found) {
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

/// Whether a lone backslash of `word` stands before each byte that has its high bit in `found`. Not always told: it may stand in the
/// word before.
#[inline(always)]
fn are_escaped(word: u64, found: u64) -> bool {
    let other = word ^ BACKSLASHES;
    // Exact, as what only seems to be one would make a quote an escaped one.
    let backslashes = !((other & !HIGH).wrapping_add(!HIGH) | other) & HIGH;
    // Of two in a row the second escapes nothing; whether there is one before the first byte is not known.
    let lone = backslashes & !(backslashes << 8) & !0xff;
    found & !(lone << 8) == 0
}

/// Whether both are the same bytes, a word at a time: what the compiler makes of `==` compares one byte.
#[inline(always)]
pub fn is_same(bytes: &[u8], known: &[u8]) -> bool {
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
            // The last word overlaps the one before.
            Some(last) => other(last) == 0,
            None => rest == known_rest,
        }
}

/// The index of the first byte whose high bit is set, as [`likely_quotes`] does.
#[inline(always)]
pub fn first_byte(found: u64) -> usize {
    (found.trailing_zeros() >> 3) as usize
}

/// Whether the byte at `at` has an odd number of backslashes right before it, not looking past `start`.
#[inline]
fn is_escaped(bytes: &[u8], start: usize, at: usize) -> bool {
    let before = bytes.get(start..at).unwrap_or_default();
    let backslashes = before.iter().rev().take_while(|b| **b == b'\\').count();
    backslashes & 1 == 1
}

/// The offset behind the container that opens at `open`.
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

/// A high bit for the first byte of `word` that ends a number or literal, or cannot be in one because it is above 0x7f; and perhaps
/// for bytes behind it.
#[inline(always)]
fn scalar_ends(word: u64) -> u64 {
    // `]` and `}` differ in one bit; nothing up to the blank belongs to a scalar.
    likely_zero_bytes(word ^ COMMAS)
        | likely_zero_bytes((word | BLANKS) ^ BRACES)
        | word.wrapping_sub(ABOVE_BLANKS) & HIGH
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

/// Checks that `bytes` is one JSON object with nothing but blanks behind it, as strictly as any JSON parser except
/// for the digits of numbers, and tells where its last brace is, whether it has members, and which of `keys` its
/// root has. Only done when something is about to be added to a record, so it need not be fast, only iterative.
pub fn check_object<const N: usize>(bytes: &[u8], keys: [&str; N]) -> Result<Object<N>, Fault> {
    let mut at = skip_blank(bytes, 0);
    if bytes.get(at) != Some(&b'{') {
        return Err(Fault::NotObject);
    }
    let mut object = Object {
        last_brace: 0,
        empty: true,
        has: [false; N],
    };
    // One bit a level: 1 = object, 0 = array. 128 levels fit.
    let (mut kinds, mut depth) = (0u128, 0u32);
    loop {
        at = skip_blank(bytes, at);
        // A value stands at `at`.
        let mut closed = match bytes.get(at).ok_or(Fault::Truncated)? {
            open @ (b'{' | b'[') => {
                depth = depth.wrapping_add(1);
                if depth > MAX_DEPTH {
                    return Err(Fault::TooDeep);
                }
                kinds = (kinds << 1) | u128::from(*open == b'{');
                at = skip_blank(bytes, at.wrapping_add(1));
                let close = if *open == b'{' { b'}' } else { b']' };
                if bytes.get(at) == Some(&close) {
                    true // falls through to the closing below
                } else {
                    if *open == b'{' {
                        at = member_key(bytes, at, depth, keys, &mut object)?;
                    }
                    continue;
                }
            }
            b'"' => {
                let start = at.wrapping_add(1);
                at = string_end(bytes, start)?;
                check_string(bytes.get(start..at).unwrap_or_default())?;
                at = at.wrapping_add(1);
                false
            }
            _ => {
                let end = scalar_end(bytes, at);
                check_scalar(bytes.get(at..end).unwrap_or_default())?;
                at = end;
                false
            }
        };
        // Behind a value: close what ends here, then a comma leads to the next one.
        loop {
            if !closed {
                at = skip_blank(bytes, at);
            }
            let in_object = kinds & 1 == 1;
            match bytes.get(at).ok_or(Fault::Truncated)? {
                b',' if !closed => {
                    at = skip_blank(bytes, at.wrapping_add(1));
                    if in_object {
                        at = member_key(bytes, at, depth, keys, &mut object)?;
                    }
                    break;
                }
                b'}' if in_object => {}
                b']' if !in_object => {}
                _ => return Err(Fault::Malformed),
            }
            closed = false;
            kinds >>= 1;
            depth = depth.wrapping_sub(1);
            if depth == 0 {
                object.last_brace = at;
                let behind = skip_blank(bytes, at.wrapping_add(1));
                return if behind == bytes.len() {
                    Ok(object)
                } else {
                    Err(Fault::Malformed)
                };
            }
            at = at.wrapping_add(1);
        }
    }
}

/// What [`check_object`] found.
#[derive(Debug, PartialEq, Eq)]
pub struct Object<const N: usize> {
    /// Offset of the brace that closes the root.
    pub last_brace: usize,
    /// Whether the root has no members.
    pub empty: bool,
    /// For each key asked for, whether the root has it.
    pub has: [bool; N],
}

/// Reads a key and its colon; returns the offset of the value.
fn member_key<const N: usize>(
    bytes: &[u8],
    at: usize,
    depth: u32,
    keys: [&str; N],
    object: &mut Object<N>,
) -> Result<usize, Fault> {
    if bytes.get(at).ok_or(Fault::Truncated)? != &b'"' {
        return Err(Fault::Malformed);
    }
    let start = at.wrapping_add(1);
    let end = string_end(bytes, start)?;
    let raw = bytes.get(start..end).unwrap_or_default();
    check_string(raw)?;
    if depth == 1 {
        object.empty = false;
        let key = super::text::unescape(raw, usize::MAX);
        for (wanted, has) in keys.iter().zip(object.has.iter_mut()) {
            *has |= key == *wanted;
        }
    }
    let colon = skip_blank(bytes, end.wrapping_add(1));
    match bytes.get(colon).ok_or(Fault::Truncated)? {
        b':' => Ok(colon.wrapping_add(1)),
        _ => Err(Fault::Malformed),
    }
}

/// No raw control characters and no unknown escapes. (Not UTF-8: Fluent Bit itself passes bytes through.)
fn check_string(raw: &[u8]) -> Result<(), Fault> {
    let mut rest = raw;
    while let Some((byte, after)) = rest.split_first() {
        rest = match byte {
            0 => return Err(Fault::Nul),
            ..0x20 => return Err(Fault::Malformed),
            b'\\' => match after {
                [
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't',
                    tail @ ..,
                ] => tail,
                [b'u', a, b, c, d, tail @ ..]
                    if [a, b, c, d].iter().all(|h| h.is_ascii_hexdigit()) =>
                {
                    tail
                }
                _ => return Err(Fault::Malformed),
            },
            _ => after,
        };
    }
    Ok(())
}

fn check_scalar(text: &[u8]) -> Result<(), Fault> {
    match text {
        b"true" | b"false" | b"null" => Ok(()),
        [b'-' | b'0'..=b'9', rest @ ..]
            if rest
                .iter()
                .all(|b| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')) =>
        {
            Ok(())
        }
        _ if text.contains(&0) => Err(Fault::Nul),
        _ => Err(Fault::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_end_at_the_first_bare_quote() {
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
            // And with so much of the string before it, so that it stands across any two words.
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
    fn plain_and_printable_are_told_of_every_byte() {
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

    proptest::proptest! {
        #[test]
        fn a_unicode_escape_is_never_overlooked(text in r#"[a\\u0]{0,60}"#) {
            proptest::prop_assert!(!text.contains("\\u") || may_hold_unicode_escape(text.as_bytes()));
            proptest::prop_assert!(text.contains('u') && text.contains('\\') || !may_hold_unicode_escape(text.as_bytes()));
        }

        #[test]
        fn only_the_same_bytes_are_the_same(bytes in "(Microsoft-Windows-Sysmon|tcp|-)?[a-c]?") {
            for known in ["", "-", "tcp", "Microsoft-Windows-Sysmon"] {
                proptest::prop_assert_eq!(is_same(bytes.as_bytes(), known.as_bytes()), bytes == known, "{}", bytes);
            }
        }

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

        #[test]
        fn check_object_agrees_with_serde_json(text in r#"([{}\[\],: ]|"[a-c\\]{0,2}"|1|null|true){0,24}"#) {
            let ours = check_object(text.as_bytes(), ["a"]);
            let theirs = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text);
            proptest::prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{:?} {:?}", ours, theirs);
            if let (Ok(ours), Ok(theirs)) = (ours, theirs) {
                proptest::prop_assert_eq!(ours.has, [theirs.contains_key("a")]);
                proptest::prop_assert_eq!(ours.empty, theirs.is_empty());
                proptest::prop_assert_eq!(text.as_bytes()[ours.last_brace], b'}');
            }
        }
    }

    #[test]
    fn check_object_names_the_fault() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(127), "]".repeat(127));
        assert!(check_object(deep.as_bytes(), ["a"]).is_ok());
        let deeper = format!("{{\"a\":{}1{}}}", "[".repeat(128), "]".repeat(128));
        for (text, want) in [
            (deeper.as_str(), Fault::TooDeep),
            ("", Fault::NotObject),
            ("[1]", Fault::NotObject),
            ("{\"a\":1", Fault::Truncated),
            ("{\"a\":1}x", Fault::Malformed),
            ("{\"a\":1}{}", Fault::Malformed),
            ("{\"a\":\"\u{0}\"}", Fault::Nul),
            ("{\"a\":\"\\x\"}", Fault::Malformed),
            ("{\"a\":nope}", Fault::Malformed),
        ] {
            assert_eq!(check_object(text.as_bytes(), ["a"]), Err(want), "{text}");
        }
    }
}
