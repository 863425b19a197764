//! Whether bytes are one JSON object to which a member can be added.

use super::cursor;
use super::scan::{Fault, MAX_DEPTH, scalar_end, skip_blank};
use super::text;

/// What [`inspect`] found.
#[derive(Debug, PartialEq, Eq)]
pub struct Object<const N: usize> {
    /// Offset of the brace that closes the root.
    pub last_brace: usize,
    /// Whether the root has no members.
    pub is_empty: bool,
    /// For each key asked for, whether the root has it.
    pub has: [bool; N],
}

/// Checks that `bytes` is one JSON object with nothing but white space after it, as strictly as any JSON parser except for the
/// digits of numbers. Returns where its last brace is, whether it has members, and which of `keys` its root has.
///
/// Called only when something is about to be added to a record, so it need not be fast.
pub fn inspect<const N: usize>(bytes: &[u8], keys: [&str; N]) -> Result<Object<N>, Fault> {
    let mut at = skip_blank(bytes, 0);
    if bytes.get(at) != Some(&b'{') {
        return Err(Fault::NotObject);
    }
    let mut object = Object {
        last_brace: 0,
        is_empty: true,
        has: [false; N],
    };
    // One bit a level: 1 = object, 0 = array. 128 levels fit.
    let (mut kinds, mut depth) = (0u128, 0u32);
    loop {
        at = skip_blank(bytes, at);
        // A value begins at `at`.
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
                let raw;
                (raw, at) = cursor::string(bytes, at)?;
                check_string(raw)?;
                false
            }
            _ => {
                let end = scalar_end(bytes, at);
                check_scalar(bytes.get(at..end).unwrap_or_default())?;
                at = end;
                false
            }
        };
        // After a value: close what ends here, then a comma leads to the next one.
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
                let after = skip_blank(bytes, at.wrapping_add(1));
                return if after == bytes.len() {
                    Ok(object)
                } else {
                    Err(Fault::Malformed)
                };
            }
            at = at.wrapping_add(1);
        }
    }
}

/// Reads a key and its colon; returns the offset of the value.
fn member_key<const N: usize>(
    bytes: &[u8],
    at: usize,
    depth: u32,
    keys: [&str; N],
    object: &mut Object<N>,
) -> Result<usize, Fault> {
    let (raw, after) = cursor::string(bytes, at)?;
    check_string(raw)?;
    if depth == 1 {
        object.is_empty = false;
        let key = text::unescape(raw, usize::MAX);
        for (wanted, has) in keys.iter().zip(object.has.iter_mut()) {
            *has |= key == *wanted;
        }
    }
    cursor::colon(bytes, after)
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

    proptest::proptest! {
        #[test]
        fn inspect_agrees_with_serde_json(text in r#"([{}\[\],: ]|"[a-c\\]{0,2}"|1|null|true){0,24}"#) {
            let ours = inspect(text.as_bytes(), ["a"]);
            let theirs = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text);
            proptest::prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{:?} {:?}", ours, theirs);
            if let (Ok(ours), Ok(theirs)) = (ours, theirs) {
                proptest::prop_assert_eq!(ours.has, [theirs.contains_key("a")]);
                proptest::prop_assert_eq!(ours.is_empty, theirs.is_empty());
                proptest::prop_assert_eq!(text.as_bytes()[ours.last_brace], b'}');
            }
        }
    }

    #[test]
    fn each_fault_is_named() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(127), "]".repeat(127));
        assert!(inspect(deep.as_bytes(), ["a"]).is_ok());
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
            assert_eq!(inspect(text.as_bytes(), ["a"]), Err(want), "{text}");
        }
    }
}
