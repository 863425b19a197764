//! Turns the raw bytes of a JSON string, or of XML text, into text.

use super::bytes;

/// The text of a JSON string's raw bytes, cut at a character boundary to at most `limit` bytes.
///
/// It takes any bytes: an unknown escape is kept as it is written, a lone surrogate and invalid UTF-8 become U+FFFD.
pub fn unescape(raw: &[u8], limit: usize) -> String {
    // A character that begins before the limit ends before this.
    let end = limit.saturating_add(char::MAX.len_utf8()).saturating_sub(1);
    let capacity = raw.len().min(end);
    let mut out: Vec<u8> = Vec::with_capacity(capacity);
    let mut rest = raw;
    while out.len() < end && !rest.is_empty() {
        let length = out.len();
        let run = match rest.first_chunk::<8>() {
            // Copies eight bytes and truncates: on an interpreter far cheaper than one byte at a time.
            Some(chunk) if length.saturating_add(8) <= capacity => {
                let run = bytes::before_backslash(*chunk);
                out.extend_from_slice(chunk);
                out.truncate(length.saturating_add(run));
                run
            }
            _ => {
                let part = rest.get(..end.saturating_sub(length)).unwrap_or(rest);
                let run = part
                    .iter()
                    .position(|byte| *byte == b'\\')
                    .unwrap_or(part.len());
                out.extend_from_slice(part.get(..run).unwrap_or_default());
                run
            }
        };
        rest = rest.get(run..).unwrap_or_default();
        let [b'\\', escape @ ..] = rest else { continue };
        let Some((escape, after)) = escape.split_first() else {
            out.push(b'\\');
            break;
        };
        rest = after;
        match escape {
            // Nearly all escapes are the backslashes of paths.
            b'\\' | b'"' | b'/' => out.push(*escape),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'u' => {
                let (c, after) = unicode_escape(rest);
                rest = after;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => out.extend_from_slice(&[b'\\', *escape]),
        }
    }
    let text = match String::from_utf8(out) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    };
    truncate(text, limit)
}

/// The character that the digits after `\u` stand for, and what follows them; surrogate pairs are joined.
fn unicode_escape(rest: &[u8]) -> (char, &[u8]) {
    let Some((first, after)) = hex4(rest) else {
        return (char::REPLACEMENT_CHARACTER, rest);
    };
    if let Some(c) = char::from_u32(first) {
        return (c, after);
    }
    if let (0xd800..=0xdbff, Some(tail)) = (first, after.strip_prefix(b"\\u"))
        && let Some((second @ 0xdc00..=0xdfff, after)) = hex4(tail)
    {
        let joined = ((first & 0x3ff) << 10 | second & 0x3ff).wrapping_add(0x1_0000);
        return (
            char::from_u32(joined).unwrap_or(char::REPLACEMENT_CHARACTER),
            after,
        );
    }
    (char::REPLACEMENT_CHARACTER, after)
}

fn hex4(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, after) = bytes.split_first_chunk::<4>()?;
    let text = std::str::from_utf8(digits).ok()?;
    if text.starts_with('+') {
        return None;
    }
    Some((u32::from_str_radix(text, 16).ok()?, after))
}

/// `text`, cut at a character boundary to at most `limit` bytes.
pub fn truncate(mut text: String, limit: usize) -> String {
    text.truncate(truncate_str(&text, limit).len());
    text
}

/// The longest start of `text` that has at most `limit` bytes and ends at a character boundary.
pub fn truncate_str(text: &str, limit: usize) -> &str {
    text.get(..text.floor_char_boundary(limit)).unwrap_or(text)
}

/// `text` with the five named XML entities and numeric ones resolved; anything else stays as it is.
pub fn resolve_entities(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        // The longest entity that stands for a character is `&#1114111;`.
        let end = after.bytes().take(9).position(|b| b == b';');
        let resolved =
            end.and_then(|end| Some((entity(after.get(..end)?)?, after.get(end..)?.get(1..)?)));
        match resolved {
            Some((c, after)) => {
                out.push(c);
                rest = after;
            }
            None => {
                out.push('&');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

fn entity(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_resolved() {
        for (raw, want) in [
            (r"\u0053ysmon", "Sysmon"),
            (r"C:\\Windows\/x", r"C:\Windows/x"),
            (r"\ud83d\ude00!", "😀!"),
            (r"\ud83d!", "\u{fffd}!"),
            (r"\u00", "\u{fffd}00"),
            (r"a\q", r"a\q"),
            ("end\\", "end\\"),
            ("", ""),
        ] {
            assert_eq!(unescape(raw.as_bytes(), 100), want, "{raw}");
        }
        assert_eq!(unescape(b"caf\xe9", 100), "caf\u{fffd}");
        assert_eq!(unescape("éé".as_bytes(), 3), "é");
    }

    #[test]
    fn known_entities_are_resolved() {
        assert_eq!(
            resolve_entities("1&gt; a &amp;&amp; b &#39;&#x41; &nope; & &"),
            "1> a && b 'A &nope; & &"
        );
    }

    proptest::proptest! {
        #[test]
        fn unescape_undoes_serde_json(text: String) {
            let json = serde_json::to_string(&text).unwrap();
            let raw = &json.as_bytes()[1..json.len() - 1];
            proptest::prop_assert_eq!(unescape(raw, usize::MAX), text);
        }

        #[test]
        fn text_is_truncated_between_characters(text in r#"([aé€😀]|\\\\|\\u00e9|\\ud83d\\ude00|\\u12|\\q){0,12}"#, limit in 0usize..24) {
            let whole = unescape(text.as_bytes(), usize::MAX);
            proptest::prop_assert_eq!(unescape(text.as_bytes(), limit), truncate_str(&whole, limit));
        }

        #[test]
        fn any_bytes_are_accepted_and_the_limit_holds(raw: Vec<u8>, limit in 0usize..40) {
            let text = unescape(&raw, limit);
            proptest::prop_assert!(text.len() <= limit);
            let _ = resolve_entities(&text);
        }
    }
}
