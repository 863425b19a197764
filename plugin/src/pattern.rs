//! The policy's patterns: `*` for any run of characters, or after `re:` a regular expression. Case does not matter.

use crate::normalize::lower;
use regex_lite::{Regex, RegexBuilder};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// Longest pattern, in bytes.
pub const MAX_PATTERN: usize = 1024;

/// Largest compiled regular expression, in bytes of regex-lite's program.
const MAX_REGEX: usize = 64 * 1024;

/// Groups of a regular expression that may stand in one another. regex-lite compiles by recursion, and Fluent Bit gives the module a
/// stack of 8 KiB, half of which is in use by then: each group takes one more.
const MAX_GROUPS: usize = 2;

/// The same of all that can stand in one another: repetitions, alternatives and sequences, too.
const MAX_NESTING: u32 = 9;

/// A list of patterns; one that matches is enough.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Patterns {
    texts: Vec<String>,
    #[serde(skip)]
    compiled: Vec<Pattern>,
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
        let compiled = texts.iter().map(|text| Pattern::Wildcard(lower(text))).collect();
        Patterns { texts, compiled }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Whether one of them matches the whole of `text` (a regular expression: any part of it).
    pub fn hit(&self, text: &str) -> bool {
        if self.compiled.is_empty() {
            return false;
        }
        let folded = lower(text);
        self.compiled.iter().any(|pattern| pattern.matches(&folded, text))
    }
}

impl Pattern {
    /// Reads a pattern. The error says what was expected.
    fn parse(text: &str) -> Result<Pattern, String> {
        if text.is_empty() || text.len() > MAX_PATTERN {
            return Err(format!("a pattern has {} bytes; expected 1 to {MAX_PATTERN}", text.len()));
        }
        let pattern = match text.strip_prefix("re:") {
            None => Pattern::Wildcard(lower(text)),
            Some(regex) => {
                let groups = nested_groups(regex);
                if groups > MAX_GROUPS {
                    return Err(format!("`{text}` has {groups} groups in one another; expected at most {MAX_GROUPS}"));
                }
                let compiled = RegexBuilder::new(regex).case_insensitive(true).size_limit(MAX_REGEX).nest_limit(MAX_NESTING).build();
                Pattern::Regex(
                    compiled.map_err(|error| format!("`{text}` is not a regular expression ({error}); expected regex-lite's syntax"))?,
                )
            }
        };
        // What takes all of several things that are nothing alike takes anything.
        const UNLIKE: [&[&str]; 3] = [
            &["alice", "pc-17", "7z"],
            &[r"corp\alice", r"nt authority\system", r"pc-17\bob"],
            &[r"c:\windows\a.exe", r"d:\data\tools\b.dll", r"?:\users\x\c.com"],
        ];
        if UNLIKE.iter().any(|probes| probes.iter().all(|probe| pattern.matches(probe, probe))) {
            return Err(format!("`{text}` matches everything; expected something that tells one thing from another"));
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

/// How many groups of a regular expression stand in one another.
fn nested_groups(regex: &str) -> usize {
    let (mut depth, mut most) = (0usize, 0usize);
    let (mut is_escaped, mut is_class) = (false, false);
    for byte in regex.bytes() {
        if std::mem::take(&mut is_escaped) {
            continue;
        }
        match byte {
            b'\\' => is_escaped = true,
            b'[' => is_class = true,
            b']' => is_class = false,
            b'(' if !is_class => depth = depth.saturating_add(1),
            b')' if !is_class => depth = depth.saturating_sub(1),
            _ => {}
        }
        most = most.max(depth);
    }
    most
}

impl<'de> Deserialize<'de> for Patterns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Patterns, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let compiled: Result<Vec<Pattern>, String> = texts.iter().map(|text| Pattern::parse(text)).collect();
        Ok(Patterns { texts, compiled: compiled.map_err(D::Error::custom)? })
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
    let agree = |pattern: Option<&u8>, name: Option<u8>| pattern.is_none_or(|byte| *byte == b'*' || Some(*byte) == name);
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
        let Some(c) = name.get(n) else { return Some(pattern.get(p..).unwrap_or_default().iter().all(|c| *c == b'*')) };
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
                let Some((at, taken)) = star else { return Some(false) };
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
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    let behind = name.strip_prefix(head).and_then(|left| middle.split('*').try_fold(left, behind));
    behind.is_some_and(|left| left.ends_with(tail))
}

/// The same for a name of which only the beginning is known: whether what is known agrees, and is more than a few letters.
pub fn wildcard_begins(pattern: &str, name: &str) -> bool {
    let mut letters = 0usize;
    let mut left = name;
    for (index, part) in pattern.split('*').enumerate() {
        let found = if index == 0 { left.strip_prefix(part) } else { behind(left, part) };
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
            ("", 0),
            ("a(b)c(d)", 1),
            ("(a(b)(c)|(?:d))", 2),
            (r"(\((a)\))", 2),
            ("([(]([^)(])[)])", 2),
            (r"[\](](((a)))", 3),
            ("((((", 4),
            ("))((a))", 2),
        ] {
            assert_eq!(nested_groups(regex), want, "{regex}");
        }
    }

    #[test]
    fn the_beginning_of_a_name() {
        for (pattern, known, want) in [
            ("cmd /c rem * & evil", "cmd /c rem c:\\windows;c:\\", true),
            ("* /q /c evil", "c:\\windows\\system32\\cmd.exe /q", false),
            ("* /q /c evil", "c:\\windows\\system32\\cmd.exe /q /c evil", true),
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
