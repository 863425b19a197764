//! The policy's patterns: `*` for any run of characters, or after `re:` a regular expression. Case does not matter.

use super::subject::Subject;
use super::wildcard::wildcard;
use crate::json::text;
use crate::normalize::lower;
use once_cell::unsync::OnceCell;
use regex_lite::{Regex, RegexBuilder};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cell::RefCell;
use std::rc::Rc;

/// Longest pattern, in bytes.
const MAX_PATTERN: usize = 1024;

/// What a regular expression begins with.
const EXPRESSION: &str = "re:";

/// Largest compiled regular expression, in bytes of regex-lite's program, and how much of a text it sees, in bytes. Together they bound
/// what an expression costs, because regex-lite takes a step for each of its states and each character: on Fluent Bit's interpreter the
/// dearest that is accepted, `(?:[^!]?){30}!`, takes 27 ms. With 64 KiB and whole command lines it was 2.3 s.
const MAX_REGEX: usize = 4 * 1024;
const MAX_SEEN: usize = 1024;

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
    /// As the policy has them.
    texts: Vec<String>,
    /// What they are compared with; `None` for patterns that are part of the program, which were looked at by people.
    subject: Option<Subject>,
    /// Filled when first needed.
    compiled: OnceCell<Vec<Pattern>>,
}

#[derive(Debug)]
enum Pattern {
    /// In lower case.
    Wildcard(String),
    Expression(Regex),
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
    let read = read.unwrap_or_default();
    read.iter()
        .try_for_each(|patterns| patterns.compiled().map(|_| ()))
}

impl PartialEq for Patterns {
    fn eq(&self, other: &Patterns) -> bool {
        self.0.texts == other.0.texts
    }
}

impl Patterns {
    /// Patterns that are part of the program, all of them wildcards.
    pub fn known(texts: &[&str]) -> Patterns {
        let wildcard = |text: &&str| Pattern::Wildcard(lower(text));
        let compiled = texts.iter().map(wildcard).collect();
        Patterns(Rc::new(List {
            texts: texts.iter().map(|text| (*text).to_owned()).collect(),
            subject: None,
            compiled: OnceCell::with_value(compiled),
        }))
    }

    /// Reads patterns that are compared with `subject`. Those that could never match it, or that match nearly all of it, are errors.
    ///
    /// Not inlined, so that the stack that a pattern takes is free again when the next part of the policy is read.
    #[inline(never)]
    pub fn read<'de, D: Deserializer<'de>>(
        deserializer: D,
        subject: Subject,
    ) -> Result<Patterns, D::Error> {
        let patterns = Patterns::of(Vec::deserialize(deserializer)?, subject);
        if cfg!(target_arch = "wasm32") {
            READ.with(|read| {
                if let Ok(mut read) = read.try_borrow_mut() {
                    read.push(patterns.clone());
                }
            });
        } else {
            // Here the error still knows its line in the policy file.
            patterns.compiled().map_err(D::Error::custom)?;
        }
        Ok(patterns)
    }

    fn of(texts: Vec<String>, subject: Subject) -> Patterns {
        Patterns(Rc::new(List {
            texts,
            subject: Some(subject),
            compiled: OnceCell::new(),
        }))
    }

    /// Not inlined, so that matching does not reserve the stack that compiling takes.
    #[inline(never)]
    fn compiled(&self) -> Result<&[Pattern], String> {
        let List {
            texts,
            subject,
            compiled,
        } = &*self.0;
        let compile = || match subject {
            Some(subject) => compile(texts, *subject),
            None => Ok(Vec::new()),
        };
        compiled.get_or_try_init(compile).map(Vec::as_slice)
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.0.texts.is_empty()
    }

    /// The patterns as the policy has them.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.texts.iter().map(String::as_str)
    }

    /// Whether one of the patterns matches the whole of `text` (a regular expression: any part of its first KiB).
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

    /// Whether every text that `other` matches is known to be matched by these patterns, too.
    pub fn cover(&self, other: &Patterns) -> bool {
        let covers = |ours: &str, theirs: &str| {
            let is_expression = |text: &str| text.starts_with(EXPRESSION);
            match is_expression(ours) || is_expression(theirs) {
                true => ours == theirs,
                // A star in their text is a character that only a star of ours matches.
                false => wildcard(&lower(ours), &lower(theirs)),
            }
        };
        let mut theirs = other.texts();
        theirs.all(|theirs| self.texts().any(|ours| covers(ours, theirs)))
    }
}

/// Compiles a list. The error quotes what is wrong and says what was expected.
fn compile(texts: &[String], subject: Subject) -> Result<Vec<Pattern>, String> {
    let patterns = texts.iter().map(|text| Pattern::parse(text, subject));
    let patterns = patterns.collect::<Result<Vec<Pattern>, _>>()?;
    let is_matched = |probe: &str| {
        let mut patterns = patterns.iter();
        patterns.any(|pattern| pattern.is_compared(probe, subject))
    };
    // Each excludes something; together they need not.
    if patterns.len() > 1 && subject.probes().iter().all(|probe| is_matched(probe)) {
        return Err(format!(
            "these patterns together match nearly every {}; expected some that exclude something",
            subject.name()
        ));
    }
    Ok(patterns)
}

impl Pattern {
    /// Reads a pattern. The error quotes it, and says what is wrong and what was expected.
    #[inline(never)]
    fn parse(text: &str, subject: Subject) -> Result<Pattern, String> {
        if text.is_empty() || text.len() > MAX_PATTERN {
            return Err(format!(
                "`{}` has {} bytes; expected a pattern of 1 to {MAX_PATTERN}",
                text::truncate_str(text, 40),
                text.len()
            ));
        }
        let pattern = match text.strip_prefix(EXPRESSION) {
            Some(expression) => {
                Pattern::Expression(regex(expression).map_err(|error| format!("`{text}` {error}"))?)
            }
            None => {
                let pattern = lower(text);
                if let Some(misfit) = subject.misfit(&pattern) {
                    let name = subject.name();
                    return Err(format!("`{text}` never matches a {name}: it has {misfit}"));
                }
                Pattern::Wildcard(pattern)
            }
        };
        let mut probes = subject.probes().iter();
        if probes.all(|probe| pattern.is_compared(probe, subject)) {
            return Err(format!(
                "`{text}` matches nearly every {}; expected a pattern that excludes something",
                subject.name()
            ));
        }
        Ok(pattern)
    }

    /// Whether it matches a text in lower case, or the part of it that is compared as well.
    fn is_compared(&self, text: &str, subject: Subject) -> bool {
        let short = subject.short(text);
        self.matches(text, text) || short.is_some_and(|short| self.matches(short, short))
    }

    fn matches(&self, lower_case: &str, text: &str) -> bool {
        match self {
            Pattern::Wildcard(pattern) => wildcard(pattern, lower_case),
            Pattern::Expression(regex) => regex.is_match(text::truncate_str(text, MAX_SEEN)),
        }
    }
}

/// Compiles a regular expression. The error says what is wrong with it and what was expected.
#[inline(never)]
fn regex(expression: &str) -> Result<Regex, String> {
    match nested_groups(expression) {
        Some(..=MAX_GROUPS) => {}
        Some(groups) => {
            return Err(format!(
                "has groups nested {groups} deep; expected at most {MAX_GROUPS}"
            ));
        }
        None => {
            return Err(
                "has the flag x; expected an expression without white space and comments in it"
                    .to_owned(),
            );
        }
    }
    let compiled = RegexBuilder::new(expression)
        .case_insensitive(true)
        .size_limit(MAX_REGEX)
        .nest_limit(MAX_NESTING)
        .build();
    compiled.map_err(|error| {
        format!(
            "is not a regular expression that can be used ({error}); expected regex-lite's syntax, and a program of at most {MAX_REGEX} bytes"
        )
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_covers_what() {
        for (ours, theirs, want) in [
            (&["psexe*"][..], &["psexesvc*", "PSEXEC"][..], true),
            (&["psexesvc*"], &["psexe*"], false),
            (&["a", "b*"], &["bc", "A"], true),
            (&["a"], &["a", "c"], false),
            (&["re:^ab"], &["re:^ab"], true),
            (&["ab*"], &["re:^ab"], false),
            (&["*a*"], &["x*a"], true),
            (&["*a"], &["x*"], false),
        ] {
            let read = |texts: &[&str]| {
                let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
                Patterns::of(texts, Subject::Service)
            };
            assert_eq!(read(ours).cover(&read(theirs)), want, "{ours:?} {theirs:?}");
        }
    }

    #[test]
    fn an_expression_sees_the_first_kib_of_a_text() {
        let patterns = Patterns::of(vec!["re:x!$".to_owned()], Subject::Command);
        for (length, is_hit) in [(0, true), (1_022, true), (1_023, false), (30_000, false)] {
            let text = format!("{}x!", "a".repeat(length));
            assert_eq!(patterns.hit(&text), is_hit, "{length}");
        }
    }

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
