//! Turns regular expressions into [tables](super::automaton). Natively only: the module gets the tables.

// Numbers of states, classes and bytes, all of them below 2^16.
#![allow(clippy::arithmetic_side_effects)]

use super::automaton::{MATCH, NEVER, START};
use regex_automata::dfa::{Automaton as _, StartKind, dense};
use regex_automata::util::primitives::StateID;
use regex_automata::util::{start, syntax};
use regex_automata::{Anchored, nfa::thompson};

/// Largest automaton while it is built, in bytes; beyond it an expression is refused. Bounds the time that reading a policy takes.
const MAX_BUILD: usize = 512 * 1024;

/// Largest table, in bytes. The policy has room for 128 KiB, and a table takes two characters a byte there.
const MAX_TABLE: usize = 8 * 1024;

/// Most states of a table that have a row, so that a state fits in a byte.
const MAX_STATES: usize = 253;

/// How deep an expression may be nested. Its syntax tree is walked by recursion.
const MAX_NESTING: u32 = 64;

/// The table of a regular expression. The error says what is wrong with the expression.
pub fn table(expression: &str) -> Result<Vec<u8>, String> {
    // Without Unicode a class of letters has 52 of them, not 130,000. Letters outside of ASCII match in the case that they are in.
    let syntax = syntax::Config::new()
        .unicode(false)
        .utf8(false)
        .case_insensitive(true)
        .nest_limit(MAX_NESTING);
    let config = dense::Config::new()
        .start_kind(StartKind::Unanchored)
        .accelerate(false)
        .dfa_size_limit(Some(MAX_BUILD))
        .determinize_size_limit(Some(MAX_BUILD));
    let nfa = thompson::Config::new()
        .utf8(false)
        .nfa_size_limit(Some(MAX_BUILD));
    let dfa = dense::Builder::new()
        .syntax(syntax)
        .thompson(nfa)
        .configure(config)
        .build(expression)
        .map_err(|error| explain(&error))?;
    let begin = start::Config::new().anchored(Anchored::No);
    let begin = dfa.start_state(&begin).map_err(|error| error.to_string())?;

    let classes: Vec<u8> = (0..=u8::MAX)
        .map(|byte| dfa.byte_classes().get(byte))
        .collect();
    let width = classes
        .iter()
        .max()
        .map_or(0, |last| usize::from(*last) + 1);
    let width = u8::try_from(width).map_err(|_| too_large())?;
    let sample = |class: u8| classes.iter().position(|known| *known == class);
    let samples: Vec<u8> = (0..width)
        .filter_map(|class| u8::try_from(sample(class)?).ok())
        .collect();

    let mut states = vec![begin];
    let (mut rows, mut at_end) = (Vec::new(), Vec::new());
    let mut index = 0;
    while let Some(state) = states.get(index).copied() {
        index += 1;
        for byte in &samples {
            let next = dfa.next_state(state, *byte);
            rows.push(number(&dfa, next, &mut states)?);
        }
        let end = dfa.next_eoi_state(state);
        at_end.push(u8::from(dfa.is_match_state(end)));
    }

    let mut table = vec![width, u8::try_from(states.len()).map_err(|_| too_large())?];
    for run in classes.chunk_by(|a, b| a == b) {
        let (length, class) = (run.len(), run.first().copied().unwrap_or_default());
        // A run of all 256 bytes takes two.
        for length in [length.min(255), length.saturating_sub(255)] {
            if let Ok(length @ 1..) = u8::try_from(length) {
                table.extend([length, class]);
            }
        }
    }
    table.extend(rows);
    table.extend(at_end);
    if table.len() > MAX_TABLE {
        return Err(too_large());
    }
    Ok(table)
}

/// The number that a state has in the table. A state that is met for the first time is added to `states`.
fn number(
    dfa: &dense::DFA<Vec<u32>>,
    state: StateID,
    states: &mut Vec<StateID>,
) -> Result<u8, String> {
    if dfa.is_match_state(state) {
        return Ok(MATCH);
    }
    if dfa.is_dead_state(state) || dfa.is_quit_state(state) {
        return Ok(NEVER);
    }
    let index = states.iter().position(|known| *known == state);
    let index = index.unwrap_or_else(|| {
        states.push(state);
        states.len() - 1
    });
    if index >= MAX_STATES {
        return Err(too_large());
    }
    Ok(u8::try_from(index).map_err(|_| too_large())? + START)
}

/// Why an expression has no table, in one line.
fn explain(error: &dense::BuildError) -> String {
    if error.is_size_limit_exceeded() {
        return too_large();
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    // The syntax is explained by a drawing of several lines; the last of them says what is wrong.
    let last = text.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").to_owned()
}

fn too_large() -> String {
    format!("it is too large: it has more than {MAX_STATES} states")
}

#[cfg(test)]
mod tests {
    use super::super::automaton::Automaton;
    use super::*;

    fn is_match(expression: &str, text: &str) -> bool {
        let table = table(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
        let automaton = Automaton::from_bytes(&table).expect("a table");
        automaton.is_match(text)
    }

    #[test]
    fn expressions_match_any_part_in_either_case() {
        for (expression, text, want) in [
            (r"psexe[a-z]+\.exe$", r"C:\Windows\PSEXESVC.exe", true),
            (r"psexe[a-z]+\.exe$", r"C:\Windows\PSEXESVC.exe ", false),
            (r"^c:\\", r"C:\x", true),
            (r"^c:\\", r"dC:\x", false),
            ("^$", "", true),
            ("^$", "a", false),
            ("", "", true),
            ("a|bc", "xBCx", true),
            ("a|bc", "xbx", false),
            (r"\bcmd\b", "x cmd /c", true),
            (r"\bcmd\b", "x cmdx", false),
            (r"a\b", "a", true),
            ("^.{3}$", "abc", true),
            ("^.{3}$", "abcd", false),
            ("büro", "x büro1", true),
            ("büro", "x buro1", false),
            ("^(((a|b)+c)?d)*$", "abcdd", true),
            (r"\d{2}-\w", "x12-q", true),
            ("[^a]b", "éb", true),
        ] {
            assert_eq!(is_match(expression, text), want, "{expression} {text}");
        }
    }

    #[test]
    fn an_expression_that_is_wrong_or_too_large_is_explained_in_a_line() {
        for (expression, want) in [
            ("(a", "unclosed group"),
            ("a{2,1}", "invalid repetition"),
            ("[é]", "Unicode not allowed"),
            (r"\p{Greek}", "Unicode not allowed"),
            ("x[a-z]{20}y", "more than 253 states"),
            ("a{300}", "more than 253 states"),
            ("(?:[^!]?){600}!", "more than 253 states"),
            (r"a(?=b)", "look-around"),
        ] {
            let error = table(expression).expect_err(expression);
            assert!(error.contains(want), "{expression}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
        let nested = format!("{}a{}", "(".repeat(100), ")".repeat(100));
        assert!(table(&nested).is_err());
    }

    proptest::proptest! {
        #[test]
        fn tables_agree_with_the_library(
            expression in r"\^?([abB.]|[ab]\*|\(a\|b\)|\[ab\]|c\?|\\b|é){0,8}\$?",
            text in "[abcABCé -]{0,12}",
        ) {
            let library = regex_automata::nfa::thompson::pikevm::Builder::new()
                .thompson(thompson::Config::new().utf8(false))
                .syntax(syntax::Config::new().unicode(false).utf8(false).case_insensitive(true))
                .build(&expression);
            let (Ok(table), Ok(library)) = (table(&expression), library) else {
                return Ok(());
            };
            let automaton = Automaton::from_bytes(&table).expect("a table");
            proptest::prop_assert_eq!(automaton.is_match(&text), library.is_match(&mut library.create_cache(), text.as_bytes()), "{} {}", expression, text);
        }
    }
}
