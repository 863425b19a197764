//! The policy's patterns: `*` for any run of characters, or after `re:` a regular expression. Case does not matter.

use crate::normalize::lower;
use once_cell::unsync::OnceCell;
use regex_lite::{Regex, RegexBuilder};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// Longest pattern, in bytes.
pub const MAX_PATTERN: usize = 1024;

/// Largest compiled regular expression, in bytes of regex-lite's program.
const MAX_REGEX: usize = 64 * 1024;

/// Groups of a regular expression that may stand in one another. regex-lite compiles by recursion: each takes 1.2 KiB of stack, of
/// which Fluent Bit gives the module 8.
const MAX_GROUPS: usize = 2;

/// The same of all that can stand in one another: repetitions, alternatives and sequences, too. Each takes up to 0.4 KiB.
const MAX_NESTING: u32 = 8;

/// A list of patterns; one that matches is enough.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Patterns {
    texts: Vec<String>,
    /// Made when first needed, see [`Patterns::make`].
    #[serde(skip)]
    compiled: OnceCell<Vec<Pattern>>,
}

#[derive(Clone, Debug)]
enum Pattern {
    Wildcard(String),
    Regex(Regex),
}

impl PartialEq for Patterns {
    fn eq(&self, other: &Patterns) -> bool {
        self.texts == other.texts
    }
}

impl Patterns {
    /// Patterns that are part of the program, all of them wildcards.
    pub fn known(texts: &[&str]) -> Patterns {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let compiled = texts
            .iter()
            .map(|text| Pattern::Wildcard(lower(text)))
            .collect();
        Patterns {
            texts,
            compiled: OnceCell::with_value(compiled),
        }
    }

    /// Makes patterns of the texts, unless that was done. The error says which is none, and what was expected.
    pub fn make(&self) -> Result<(), String> {
        self.patterns().map(|_| ())
    }

    /// Apart, so that nothing that only asks them has on the stack what compiling takes.
    #[inline(never)]
    fn patterns(&self) -> Result<&[Pattern], String> {
        self.compiled
            .get_or_try_init(|| self.texts.iter().map(|text| Pattern::parse(text)).collect())
            .map(Vec::as_slice)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Whether one of them matches the whole of `text` (a regular expression: any part of it).
    pub fn hit(&self, text: &str) -> bool {
        // What is none matches nothing.
        let Ok(patterns @ [_, ..]) = self.patterns() else {
            return false;
        };
        let folded = lower(text);
        patterns
            .iter()
            .any(|pattern| pattern.matches(&folded, text))
    }
}

impl Pattern {
    /// Reads a pattern. The error says what was expected.
    fn parse(text: &str) -> Result<Pattern, String> {
        if text.is_empty() || text.len() > MAX_PATTERN {
            return Err(format!(
                "a pattern has {} bytes; expected 1 to {MAX_PATTERN}",
                text.len()
            ));
        }
        let pattern = match text.strip_prefix("re:") {
            None => Pattern::Wildcard(lower(text)),
            Some(regex) => {
                match nested_groups(regex) {
                    Some(..=MAX_GROUPS) => {}
                    Some(groups) => {
                        return Err(format!(
                            "`{text}` has {groups} groups in one another; expected at most {MAX_GROUPS}"
                        ));
                    }
                    None => {
                        return Err(format!(
                            "`{text}` has the flag x; expected an expression without blanks and remarks"
                        ));
                    }
                }
                let compiled = RegexBuilder::new(regex)
                    .case_insensitive(true)
                    .size_limit(MAX_REGEX)
                    .nest_limit(MAX_NESTING)
                    .build();
                Pattern::Regex(
                    compiled.map_err(|error| format!("`{text}` is not a regular expression ({error}); expected regex-lite's syntax"))?,
                )
            }
        };
        // What takes all of several things that are nothing alike takes anything.
        const UNLIKE: [&[&str]; 3] = [
            &["alice", "pc-17", "7z"],
            &[r"corp\alice", r"nt authority\system", r"pc-17\bob"],
            &[
                r"c:\windows\a.exe",
                r"d:\data\tools\b.dll",
                r"?:\users\x\c.com",
            ],
        ];
        if UNLIKE
            .iter()
            .any(|probes| probes.iter().all(|probe| pattern.matches(probe, probe)))
        {
            return Err(format!(
                "`{text}` matches everything; expected something that tells one thing from another"
            ));
        }
        Ok(pattern)
    }

    fn matches(&self, folded: &str, text: &str) -> bool {
        match self {
            Pattern::Wildcard(pattern) => wildcard(pattern, folded),
            Pattern::Regex(regex) => regex.is_match(text),
        }
    }
}

/// How many groups of a regular expression stand in one another; `None` if it has the flag `x`, under which a remark may hold
/// brackets that are none. As regex-lite's `hir/parse.rs` reads it; of what that does not take nothing is said.
fn nested_groups(regex: &str) -> Option<usize> {
    let (mut depth, mut most) = (0usize, 0usize);
    let mut rest = regex.as_bytes();
    while let [first, behind @ ..] = rest {
        rest = behind;
        match first {
            b'\\' => rest = behind.get(1..).unwrap_or_default(),
            b'[' => rest = behind_class(behind),
            b')' => depth = depth.saturating_sub(1),
            b'(' => {
                let flags = match behind {
                    [b'?', b'P' | b'<', ..] => &[],
                    [b'?', flags @ ..] => flags
                        .split(|byte| matches!(byte, b':' | b')'))
                        .next()
                        .unwrap_or_default(),
                    _ => &[],
                };
                if flags.contains(&b'x') {
                    return None;
                }
                // Flags alone are no group.
                match behind.get(flags.len().saturating_add(1)..) {
                    Some([b')', after @ ..]) if !flags.is_empty() => rest = after,
                    _ => depth = depth.saturating_add(1),
                }
            }
            _ => {}
        }
        most = most.max(depth);
    }
    Some(most)
}

/// What follows a class of characters whose first bracket was just read.
fn behind_class(bytes: &[u8]) -> &[u8] {
    let rest = bytes.strip_prefix(b"^").unwrap_or(bytes);
    // A closing bracket that comes first is one of the characters.
    let mut rest = rest.strip_prefix(b"]").unwrap_or(rest);
    while let [first, behind @ ..] = rest {
        rest = match first {
            b']' => return behind,
            b'\\' => behind.get(1..).unwrap_or_default(),
            // `[:alpha:]` is all that can stand in one with a bracket.
            b'[' => behind
                .iter()
                .position(|byte| *byte == b']')
                .and_then(|end| behind.get(end.saturating_add(1)..))
                .unwrap_or_default(),
            _ => behind,
        };
    }
    rest
}

impl<'de> Deserialize<'de> for Patterns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Patterns, D::Error> {
        let patterns = Patterns {
            texts: Vec::deserialize(deserializer)?,
            compiled: OnceCell::new(),
        };
        // The module's own were looked at when it was packed. There they are made later: reading a policy has used up half the stack here.
        if !cfg!(target_arch = "wasm32") {
            patterns.make().map_err(D::Error::custom)?;
        }
        Ok(patterns)
    }
}

/// Whether `name` matches `pattern`, in which `*` stands for any run of characters. Case must already agree.
///
/// Takes time in proportion to the two lengths, whatever they hold: an attacker may write both.
pub fn wildcard(pattern: &str, name: &str) -> bool {
    let (p, n) = (pattern.as_bytes(), name.as_bytes());
    if !ends_agree(pattern, n.first().copied(), n.last().copied()) {
        return false;
    }
    in_steps(p, n, FEW_STEPS).unwrap_or_else(|| by_parts(pattern, name))
}

/// Whether a name with this first and last byte can match `pattern`: most that do not show it there.
pub fn ends_agree(pattern: &str, first: Option<u8>, last: Option<u8>) -> bool {
    let agree = |pattern: Option<&u8>, name: Option<u8>| {
        pattern.is_none_or(|byte| *byte == b'*' || Some(*byte) == name)
    };
    agree(pattern.as_bytes().first(), first) && agree(pattern.as_bytes().last(), last)
}

/// Names are mostly decided in so many steps, a byte each.
const FEW_STEPS: usize = 512;

/// The same a byte at a time, which is the fastest where there is little to do; `None` if it is not done after so many steps.
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

/// The same with each part of the pattern looked for once, behind the one before it, in linear time.
fn by_parts(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    let behind = name
        .strip_prefix(head)
        .and_then(|left| middle.split('*').try_fold(left, behind));
    behind.is_some_and(|left| left.ends_with(tail))
}

/// The same for a name of which only the beginning is known: whether what is known agrees, and is more than a few letters.
pub fn wildcard_begins(pattern: &str, name: &str) -> bool {
    let mut letters = 0usize;
    let mut left = name;
    for (index, part) in pattern.split('*').enumerate() {
        let found = if index == 0 {
            left.strip_prefix(part)
        } else {
            behind(left, part)
        };
        let Some(after) = found else { break };
        letters = letters.saturating_add(part.bytes().filter(u8::is_ascii_alphanumeric).count());
        left = after;
    }
    letters >= FEW
}

/// So many letters and digits of a pattern say something.
pub const FEW: usize = 4;

/// What follows the first `part` in `text`.
fn behind<'t>(text: &'t str, part: &str) -> Option<&'t str> {
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
    fn groups_in_groups() {
        for (regex, want) in [
            ("", Some(0)),
            ("a(b)c(d)", Some(1)),
            ("(a(b)(c)|(?:d))", Some(2)),
            ("(?i)a((?i-u)b)", Some(1)),
            ("(?P<x>(?<xx>a))", Some(2)),
            (r"(\\((a)\\))", Some(3)),
            (r"(\(\(a\)\))", Some(1)),
            ("([(]([^)(])[)])", Some(2)),
            (r"[\](](((a)))", Some(3)),
            ("([])]([^])]((a))))", Some(4)),
            ("[](](((a)))", Some(3)),
            ("[-](((a)))", Some(3)),
            ("([[:alpha:])]([^[:digit:])](b)))", Some(3)),
            ("(?x)a", None),
            ("((?i-x:a))", None),
        ] {
            assert_eq!(nested_groups(regex), want, "{regex}");
            // What is said of is what regex-lite takes.
            assert!(Regex::new(regex).is_ok(), "{regex}");
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
        fn both_ways_agree(pattern in "[ab*]{0,8}", name in "[ab]{0,12}") {
            let steps = in_steps(pattern.as_bytes(), name.as_bytes(), usize::MAX);
            proptest::prop_assert_eq!(steps, Some(by_parts(&pattern, &name)));
            proptest::prop_assert_eq!(steps, Some(wildcard(&pattern, &name)));
        }

        #[test]
        fn a_name_that_matches_begins_so(parts in proptest::collection::vec("[a-z]{0,6}", 1..5), fill in "[a-z]{0,6}", cut in 0usize..40) {
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
