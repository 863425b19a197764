//! Wildcards: patterns in which `*` stands for any run of characters.

/// Whether `name` matches `pattern`, in which `*` stands for any run of characters. Both must be in the same case.
///
/// Takes time in proportion to the sum of the two lengths, whatever they hold: an attacker may write both.
pub fn wildcard(pattern: &str, name: &str) -> bool {
    let bytes = name.as_bytes();
    if !ends_agree(pattern, bytes.first().copied(), bytes.last().copied()) {
        return false;
    }
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    // Each part is found once, after the part before it.
    let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    let rest = name
        .strip_prefix(head)
        .and_then(|left| middle.split('*').try_fold(left, after));
    rest.is_some_and(|left| left.ends_with(tail))
}

/// Whether a name with this first and last byte can match `pattern`. Most names that do not match differ there.
pub fn ends_agree(pattern: &str, first: Option<u8>, last: Option<u8>) -> bool {
    let agree = |pattern: Option<&u8>, name: Option<u8>| {
        pattern.is_none_or(|byte| *byte == b'*' || Some(*byte) == name)
    };
    agree(pattern.as_bytes().first(), first) && agree(pattern.as_bytes().last(), last)
}

/// Whether a name of which only the beginning is known can match `pattern`: the known part agrees with the pattern, and with
/// at least [`FEW`] letters and digits of it.
pub fn wildcard_begins(pattern: &str, name: &str) -> bool {
    let mut letters = 0usize;
    let mut left = name;
    for (index, part) in pattern.split('*').enumerate() {
        let found = if index == 0 {
            left.strip_prefix(part)
        } else {
            after(left, part)
        };
        let Some(rest) = found else { break };
        letters = letters.saturating_add(part.bytes().filter(u8::is_ascii_alphanumeric).count());
        left = rest;
    }
    letters >= FEW
}

/// Letters and digits that a pattern needs to identify anything.
pub const FEW: usize = 4;

/// The text after the first `part` in `text`.
fn after<'t>(text: &'t str, part: &str) -> Option<&'t str> {
    text.split_once(part).map(|(_, after)| after)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Matches a byte at a time, going back to the last star: obviously right, and slow for some texts.
    fn naive(pattern: &[u8], name: &[u8]) -> bool {
        let (mut p, mut n) = (0, 0);
        let mut star = None;
        while n < name.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, n));
                    p += 1;
                }
                Some(same) if *same == name[n] => {
                    p += 1;
                    n += 1;
                }
                _ => {
                    let Some((at, taken)) = star else {
                        return false;
                    };
                    star = Some((at, taken + 1));
                    (p, n) = (at + 1, taken + 1);
                }
            }
        }
        pattern[p..].iter().all(|c| *c == b'*')
    }

    #[test]
    fn wildcards() {
        for (pattern, name, want) in [
            ("psexesvc*", "psexesvc", true),
            ("psexesvc*", "psexesvc-pc1-77-stdin", true),
            ("*-stdin", "svchost-pc1-77-stdin", true),
            ("*-stdin", "svchost-stdin-x", false),
            ("*a*b", "xaybab", true),
            ("a", "", false),
            ("*", "", true),
            ("", "", true),
            ("", "x", false),
            ("a*a", "a", false),
            ("a*b*", "axb", true),
            ("*ab*b", "aab", false),
            ("*ab*b", "aabb", true),
            ("**", "x", true),
        ] {
            assert_eq!(wildcard(pattern, name), want, "{pattern} {name}");
            assert_eq!(
                naive(pattern.as_bytes(), name.as_bytes()),
                want,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn the_beginning_of_a_name() {
        for (pattern, known, want) in [
            ("cmd /c rem * & evil", "cmd /c rem c:\\windows;c:\\", true),
            ("* /q /c evil", "c:\\windows\\system32\\cmd.exe /q", false),
            (
                "* /q /c evil",
                "c:\\windows\\system32\\cmd.exe /q /c evil",
                true,
            ),
            ("cmd /c rem *", "cmd.exe /c rem", false),
        ] {
            assert_eq!(wildcard_begins(pattern, known), want, "{pattern} {known}");
        }
    }

    proptest::proptest! {
        #[test]
        fn matching_agrees_with_a_naive_match(pattern in "[ab*]{0,8}", name in "[ab]{0,12}") {
            let want = naive(pattern.as_bytes(), name.as_bytes());
            proptest::prop_assert_eq!(wildcard(&pattern, &name), want);
        }

        #[test]
        fn the_beginning_of_a_matching_name_matches(parts in proptest::collection::vec("[a-z]{0,6}", 1..5), fill in "[a-z]{0,6}", cut in 0usize..40) {
            let (pattern, name) = (parts.join("*"), parts.join(&fill));
            proptest::prop_assert!(wildcard(&pattern, &name));
            let letters = parts.concat().len();
            proptest::prop_assert_eq!(wildcard_begins(&pattern, &name), letters >= FEW);
            let known = name.get(..cut).unwrap_or(&name);
            let head = parts[0].len();
            proptest::prop_assert!(!(head >= FEW && known.len() >= head) || wildcard_begins(&pattern, known));
        }
    }
}
