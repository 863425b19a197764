//! Wildcards: patterns in which `*` stands for any run of characters.

/// Whether `name` matches `pattern`, in which `*` stands for any run of characters. Both must be in the same case.
///
/// Takes time in proportion to the sum of the two lengths, whatever they hold: an attacker may write both.
pub fn wildcard(pattern: &str, name: &str) -> bool {
    let (p, n) = (pattern.as_bytes(), name.as_bytes());
    if !ends_agree(pattern, n.first().copied(), n.last().copied()) {
        return false;
    }
    in_steps(p, n, FEW_STEPS).unwrap_or_else(|| by_parts(pattern, name))
}

/// Whether a name with this first and last byte can match `pattern`. Most names that do not match differ there.
pub fn ends_agree(pattern: &str, first: Option<u8>, last: Option<u8>) -> bool {
    let agree = |pattern: Option<&u8>, name: Option<u8>| {
        pattern.is_none_or(|byte| *byte == b'*' || Some(*byte) == name)
    };
    agree(pattern.as_bytes().first(), first) && agree(pattern.as_bytes().last(), last)
}

/// Steps of one byte each after which [`in_steps`] gives up. Nearly all names are decided sooner.
const FEW_STEPS: usize = 512;

/// Matches a byte at a time, which is the fastest way for short names but takes time in proportion to the product of the two
/// lengths. `None` if the answer is not known after `steps` steps.
fn in_steps(pattern: &[u8], name: &[u8], steps: usize) -> Option<bool> {
    let (mut p, mut n) = (0usize, 0usize);
    // Where the last star was and how much of the name it has taken.
    let mut star: Option<(usize, usize)> = None;
    for _ in 0..steps {
        let Some(c) = name.get(n) else {
            return Some(
                pattern
                    .get(p..)
                    .unwrap_or_default()
                    .iter()
                    .all(|c| *c == b'*'),
            );
        };
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p = p.saturating_add(1);
            }
            Some(same) if same == c => {
                p = p.saturating_add(1);
                n = n.saturating_add(1);
            }
            _ => {
                let Some((at, taken)) = star else {
                    return Some(false);
                };
                star = Some((at, taken.saturating_add(1)));
                p = at.saturating_add(1);
                n = taken.saturating_add(1);
            }
        }
    }
    None
}

/// Matches in linear time: finds each part of the pattern once, after the part before it.
fn by_parts(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    let rest = name
        .strip_prefix(head)
        .and_then(|left| middle.split('*').try_fold(left, after));
    rest.is_some_and(|left| left.ends_with(tail))
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
            assert_eq!(by_parts(pattern, name), want, "{pattern} {name}");
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
        fn stepwise_and_linear_matching_agree(pattern in "[ab*]{0,8}", name in "[ab]{0,12}") {
            let steps = in_steps(pattern.as_bytes(), name.as_bytes(), usize::MAX);
            proptest::prop_assert_eq!(steps, Some(by_parts(&pattern, &name)));
            proptest::prop_assert_eq!(steps, Some(wildcard(&pattern, &name)));
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
