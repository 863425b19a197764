//! The policy's patterns: `*` for any run of characters, or after `re:` a regular expression. Case does not matter.

use super::wildcard::wildcard;
use crate::normalize::lower;
use once_cell::unsync::OnceCell;
use regex_lite::{Regex, RegexBuilder};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cell::RefCell;
use std::rc::Rc;

/// Longest pattern, in bytes.
pub const MAX_PATTERN: usize = 1024;

/// Largest compiled regular expression, in bytes of regex-lite's program.
const MAX_REGEX: usize = 64 * 1024;

/// How deep groups of a regular expression may be nested. regex-lite compiles by recursion: each level takes 1.2 KiB of the
/// 8 KiB of stack that Fluent Bit gives the module (measured on WAMR).
const MAX_GROUPS: usize = 2;

/// How deep groups, repetitions, alternatives and sequences may be nested together. Each level takes up to 0.4 KiB of stack.
const MAX_NESTING: u32 = 8;

/// A list of patterns; one that matches is enough. Copies share their compiled form.
#[derive(Clone, Debug, Default)]
pub struct Patterns(Rc<List>);

#[derive(Debug, Default)]
struct List {
    texts: Vec<String>,
    /// Filled when first needed.
    compiled: OnceCell<Vec<Pattern>>,
}

#[derive(Debug)]
enum Pattern {
    Wildcard(String),
    Regex(Regex),
}

thread_local! {
    /// Patterns that were read and not compiled yet, see [`compile_all_read`].
    static READ: RefCell<Vec<Patterns>> = const { RefCell::new(Vec::new()) };
}

/// Compiles all patterns that were read since the last call. The error quotes the pattern that is wrong and says what was
/// expected.
///
/// In the module, reading a policy and compiling an expression each take half of the stack that Fluent Bit gives, so the second
/// must not happen during the first. No section has to list its patterns for this.
pub fn compile_all_read() -> Result<(), String> {
    let read = READ.with(|read| {
        read.try_borrow_mut()
            .map(|mut read| std::mem::take(&mut *read))
    });
    read.unwrap_or_default()
        .iter()
        .try_for_each(Patterns::compile)
}

impl PartialEq for Patterns {
    fn eq(&self, other: &Patterns) -> bool {
        self.0.texts == other.0.texts
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
        Patterns(Rc::new(List {
            texts,
            compiled: OnceCell::with_value(compiled),
        }))
    }

    /// Compiles the patterns, unless that was done before.
    fn compile(&self) -> Result<(), String> {
        self.compiled().map(|_| ())
    }

    /// Not inlined, so that matching does not reserve the stack that compiling takes.
    #[inline(never)]
    fn compiled(&self) -> Result<&[Pattern], String> {
        let compile = || {
            self.0
                .texts
                .iter()
                .map(|text| Pattern::parse(text))
                .collect()
        };
        self.0.compiled.get_or_try_init(compile).map(Vec::as_slice)
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.0.texts.is_empty()
    }

    /// Whether one of the patterns matches the whole of `text` (a regular expression: any part of it).
    pub fn hit(&self, text: &str) -> bool {
        // A list with a wrong pattern, which `pack` refuses, matches nothing.
        let Ok(patterns @ [_, ..]) = self.compiled() else {
            return false;
        };
        let lower_case = lower(text);
        patterns
            .iter()
            .any(|pattern| pattern.matches(&lower_case, text))
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
                            "`{text}` has groups nested {groups} deep; expected at most {MAX_GROUPS}"
                        ));
                    }
                    None => {
                        return Err(format!(
                            "`{text}` has the flag x; expected an expression without white space and comments in it"
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
        // A pattern that matches all of several texts that have nothing in common matches anything.
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
                "`{text}` matches everything; expected a pattern that excludes something"
            ));
        }
        Ok(pattern)
    }

    fn matches(&self, lower_case: &str, text: &str) -> bool {
        match self {
            Pattern::Wildcard(pattern) => wildcard(pattern, lower_case),
            Pattern::Regex(regex) => regex.is_match(text),
        }
    }
}

/// How deep the groups of a regular expression are nested; `None` if it has the flag `x`, under which a comment may hold brackets
/// that are not syntax. Reads expressions as regex-lite's `hir/parse.rs` does; the result for a text that regex-lite refuses is
/// meaningless.
fn nested_groups(regex: &str) -> Option<usize> {
    let (mut depth, mut most) = (0usize, 0usize);
    let mut rest = regex.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match first {
            b'\\' => rest = after.get(1..).unwrap_or_default(),
            b'[' => rest = after_class(after),
            b')' => depth = depth.saturating_sub(1),
            b'(' => {
                let flags = match after {
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
                // Flags alone, as in `(?i)`, are not a group.
                match after.get(flags.len().saturating_add(1)..) {
                    Some([b')', tail @ ..]) if !flags.is_empty() => rest = tail,
                    _ => depth = depth.saturating_add(1),
                }
            }
            _ => {}
        }
        most = most.max(depth);
    }
    Some(most)
}

/// The bytes after a class of characters, given those after its opening bracket.
fn after_class(bytes: &[u8]) -> &[u8] {
    let rest = bytes.strip_prefix(b"^").unwrap_or(bytes);
    // A closing bracket in the first place is one of the characters.
    let mut rest = rest.strip_prefix(b"]").unwrap_or(rest);
    while let [first, after @ ..] = rest {
        rest = match first {
            b']' => return after,
            b'\\' => after.get(1..).unwrap_or_default(),
            // `[:alpha:]` is the only form with a bracket that a class can hold.
            b'[' => after
                .iter()
                .position(|byte| *byte == b']')
                .and_then(|end| after.get(end.saturating_add(1)..))
                .unwrap_or_default(),
            _ => after,
        };
    }
    rest
}

impl Serialize for Patterns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.texts.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Patterns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Patterns, D::Error> {
        let patterns = Patterns(Rc::new(List {
            texts: Vec::deserialize(deserializer)?,
            compiled: OnceCell::new(),
        }));
        if cfg!(target_arch = "wasm32") {
            READ.with(|read| {
                if let Ok(mut read) = read.try_borrow_mut() {
                    read.push(patterns.clone());
                }
            });
        } else {
            // Here the error still knows its line in the policy file.
            patterns.compile().map_err(D::Error::custom)?;
        }
        Ok(patterns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_groups_are_counted() {
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
            // regex-lite accepts all of them.
            assert!(Regex::new(regex).is_ok(), "{regex}");
        }
    }
}
