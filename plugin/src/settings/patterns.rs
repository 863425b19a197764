//! The policy's patterns: `*` for any run of characters, or after `re:` a regular expression. Case does not matter.

use super::automaton::Automaton;
#[cfg(any(test, target_arch = "wasm32"))]
use super::automaton::from_hex;
#[cfg(not(target_arch = "wasm32"))]
use super::automaton::to_hex;
use super::subject::Subject;
use super::wildcard::wildcard;
use crate::normalize::lower;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::rc::Rc;

/// Longest pattern, in bytes.
const MAX_PATTERN: usize = 1024;

/// What a regular expression begins with.
const EXPRESSION: &str = "re:";

/// What a packed regular expression begins with: its table in hexadecimal digits, a colon and its text follow.
const PACKED: &str = "table:";

/// A list of patterns; one that matches is enough.
#[derive(Clone, Debug, Default)]
pub struct Patterns(Rc<[Pattern]>);

#[derive(Debug)]
struct Pattern {
    /// As the policy has it.
    text: Box<str>,
    form: Form,
}

#[derive(Debug)]
enum Form {
    /// In lower case.
    Wildcard(Box<str>),
    Expression(Automaton),
}

impl PartialEq for Patterns {
    fn eq(&self, other: &Patterns) -> bool {
        self.texts().eq(other.texts())
    }
}

impl Patterns {
    /// Patterns that are part of the program, all of them wildcards.
    pub fn known(texts: &[&str]) -> Patterns {
        let pattern = |text: &&str| Pattern {
            text: (*text).into(),
            form: Form::Wildcard(lower(text).into()),
        };
        Patterns(texts.iter().map(pattern).collect())
    }

    /// Reads patterns that are compared with `subject`. Those that could never match it, or that match nearly all of it, are errors.
    ///
    /// Not inlined, so that the stack that a pattern takes is free again when the next part of the policy is read.
    #[inline(never)]
    pub fn read<'de, D: Deserializer<'de>>(
        deserializer: D,
        subject: Subject,
    ) -> Result<Patterns, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        Patterns::parse(&texts, subject).map_err(D::Error::custom)
    }

    #[inline(never)]
    fn parse(texts: &[String], subject: Subject) -> Result<Patterns, String> {
        let patterns = texts.iter().map(|text| Pattern::parse(text, subject));
        let patterns = Patterns(patterns.collect::<Result<_, _>>()?);
        // Each excludes something; together they need not.
        if patterns.0.len() > 1 && patterns.match_all(subject) {
            return Err(format!(
                "these patterns together match nearly every {}; expected some that exclude something",
                subject.name()
            ));
        }
        Ok(patterns)
    }

    fn match_all(&self, subject: Subject) -> bool {
        subject.probes().iter().all(|probe| {
            self.0
                .iter()
                .any(|pattern| pattern.is_compared(probe, subject))
        })
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The patterns as the policy has them.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|pattern| &*pattern.text)
    }

    /// Whether one of the patterns matches the whole of `text` (a regular expression: any part of it).
    pub fn hit(&self, text: &str) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let lower_case = lower(text);
        self.0
            .iter()
            .any(|pattern| pattern.matches(&lower_case, text))
    }

    /// Whether every text that `other` matches is known to be matched by these patterns, too.
    pub fn cover(&self, other: &Patterns) -> bool {
        let covers = |ours: &Pattern, theirs: &Pattern| match (&ours.form, &theirs.form) {
            // A star in their text is a character that only a star of ours matches.
            (Form::Wildcard(ours), Form::Wildcard(theirs)) => wildcard(ours, theirs),
            _ => ours.text == theirs.text,
        };
        let mut theirs = other.0.iter();
        theirs.all(|theirs| self.0.iter().any(|ours| covers(ours, theirs)))
    }
}

impl Pattern {
    /// Reads a pattern. The error quotes it, and says what is wrong and what was expected.
    #[inline(never)]
    fn parse(text: &str, subject: Subject) -> Result<Pattern, String> {
        let (text, table) = match text.strip_prefix(PACKED).and_then(|t| t.split_once(':')) {
            Some((table, text)) => (text, Some(table)),
            None => (text, None),
        };
        if text.is_empty() || text.len() > MAX_PATTERN {
            return Err(format!(
                "`{}` has {} bytes; expected a pattern of 1 to {MAX_PATTERN}",
                text.get(..40).unwrap_or(text),
                text.len()
            ));
        }
        let form = match text.strip_prefix(EXPRESSION) {
            Some(expression) => Form::Expression(
                automaton(expression, table).map_err(|error| format!("`{text}`: {error}"))?,
            ),
            None => Form::Wildcard(lower(text).into()),
        };
        let misfit = match &form {
            Form::Wildcard(pattern) => subject.misfit(pattern),
            Form::Expression(_) => None,
        };
        if let Some(misfit) = misfit {
            let name = subject.name();
            return Err(format!("`{text}` never matches a {name}: it has {misfit}"));
        }
        let pattern = Pattern {
            text: text.into(),
            form,
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
        match &self.form {
            Form::Wildcard(pattern) => wildcard(pattern, lower_case),
            Form::Expression(automaton) => automaton.is_match(text),
        }
    }
}

/// The automaton of an expression, from the table that it was packed with.
#[cfg(target_arch = "wasm32")]
fn automaton(_: &str, table: Option<&str>) -> Result<Automaton, &'static str> {
    let table = table.and_then(from_hex);
    let automaton = table.and_then(|table| Automaton::from_bytes(&table));
    automaton.ok_or("the expression has no table; expected a packed policy")
}

/// The automaton of an expression. A table that it was packed with does not count.
#[cfg(not(target_arch = "wasm32"))]
fn automaton(expression: &str, _: Option<&str>) -> Result<Automaton, String> {
    let table = super::expression::table(expression).map_err(|error| {
        format!("{error}; expected a regular expression of Rust's crate `regex`, without Unicode classes, and not too large")
    })?;
    Automaton::from_bytes(&table).ok_or_else(|| "its table cannot be read".to_owned())
}

/// A pattern as the module reads it: a regular expression with its table. `None` for any other pattern.
#[cfg(not(target_arch = "wasm32"))]
pub fn packed(text: &str) -> Option<String> {
    let table = super::expression::table(text.strip_prefix(EXPRESSION)?).ok()?;
    Some([PACKED, &to_hex(&table), ":", text].concat())
}

impl Serialize for Patterns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.texts())
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
                Patterns::parse(&texts, Subject::Service).expect("patterns")
            };
            assert_eq!(read(ours).cover(&read(theirs)), want, "{ours:?} {theirs:?}");
        }
    }

    #[test]
    fn a_packed_expression_is_read_as_the_expression() {
        let text = "re:^psexe[a-z]+$";
        let packed = packed(text).expect("an expression");
        let read = |text: &str| Patterns::parse(&[text.to_owned()], Subject::Service);
        assert_eq!(read(&packed), read(text));
        let (table, rest) = packed[PACKED.len()..].split_once(':').expect("a colon");
        assert_eq!(rest, text);
        let table = from_hex(table).and_then(|table| Automaton::from_bytes(&table));
        assert!(table.is_some_and(|table| table.is_match("PSEXESVC")));
    }
}
