//! The policy's patterns: `*` for any run of characters, or after `re:` a regular expression. Case does not matter.

use regex_lite::{Regex, RegexBuilder};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// Longest pattern, in bytes.
pub const MAX_PATTERN: usize = 1024;

/// Largest compiled regular expression, in bytes of regex-lite's program.
const MAX_REGEX: usize = 64 * 1024;

/// Steps that a wildcard takes at most over a name; without near misses it takes one a byte.
const MAX_STEPS: usize = 16 * 1024;

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
        let compiled = texts.iter().map(|text| Pattern::Wildcard(text.to_lowercase())).collect();
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
        let folded = text.to_lowercase();
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
            None => Pattern::Wildcard(text.to_lowercase()),
            Some(regex) => {
                let compiled = RegexBuilder::new(regex).case_insensitive(true).size_limit(MAX_REGEX).build();
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

impl<'de> Deserialize<'de> for Patterns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Patterns, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let compiled: Result<Vec<Pattern>, String> = texts.iter().map(|text| Pattern::parse(text)).collect();
        Ok(Patterns { texts, compiled: compiled.map_err(D::Error::custom)? })
    }
}

/// Whether `name` matches `pattern`, in which `*` stands for any run of characters. Case must already agree.
pub fn wildcard(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0usize, 0usize);
    // Where the last star was and how much of the name it has taken.
    let mut star: Option<(usize, usize)> = None;
    let mut steps = 0usize;
    while let Some(c) = name.get(n) {
        // A command line full of near misses must not cost more than it is worth: the interpreter is slow.
        steps = steps.saturating_add(1);
        if steps > MAX_STEPS {
            return false;
        }
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
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken.saturating_add(1)));
                p = at.saturating_add(1);
                n = taken.saturating_add(1);
            }
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|c| *c == b'*')
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
        ] {
            assert_eq!(wildcard(pattern, name), want, "{pattern} {name}");
        }
    }
}
