//! Regular expressions as tables: one look-up for each byte of a text, whatever the expression and the text are.
//!
//! The expressions are turned into tables natively (`expression.rs`), where the policy is checked and packed. So an expression can
//! neither cost more than a text's length in look-ups nor needs the module the code, the memory and the stack of a compiler.
//!
//! Measured on Fluent Bit's interpreter, for a process with a command line that is looked through twice, in milliseconds: without an
//! expression 1.2 for 3.5 KiB and 7 for 32 KiB; with any of `(?:[^!]?){100}!`, `\w{1,20}!` and `a.*b.*q` at most 1.3 and 8.3. An engine
//! that follows the states of an expression through the text (regex-lite) took 233 and 2267, 46 and 475, 6 and 54.

/// A table of states, as bytes: how many classes of bytes and how many states there are; the classes of the 256 bytes, as runs of a
/// length and a class; for each state the next one by class; for each state whether a text that ends there matches.
///
/// The first two states have no rows: in [`NEVER`] nothing can match any more, [`MATCH`] has matched.
#[derive(Debug)]
pub struct Automaton {
    classes: Box<[u8; 256]>,
    /// How many classes there are: the length of a row.
    width: usize,
    rows: Box<[u8]>,
    at_end: Box<[u8]>,
}

/// The state of a text that cannot match.
pub const NEVER: u8 = 0;
/// The state of a text that matches whatever follows.
pub const MATCH: u8 = 1;
/// The state at the beginning of a text, the first with a row.
pub const START: u8 = 2;

impl Automaton {
    /// Reads a table; `None` for bytes that are none. A table that is damaged in other ways matches something else, within the same
    /// bounds.
    pub fn from_bytes(bytes: &[u8]) -> Option<Automaton> {
        let (&[width, states], mut rest) = bytes.split_first_chunk()?;
        let width = usize::from(width);
        let mut classes = Box::new([0u8; 256]);
        let mut unset = classes.as_mut_slice();
        while !unset.is_empty() {
            let (&[length, class], after) = rest.split_first_chunk()?;
            let (run, left) = unset.split_at_mut_checked(usize::from(length).max(1))?;
            run.fill(class);
            (unset, rest) = (left, after);
        }
        let (rows, at_end) = rest.split_at_checked(width.checked_mul(usize::from(states))?)?;
        Some(Automaton {
            classes,
            width,
            rows: rows.into(),
            at_end: at_end.into(),
        })
    }

    /// Whether the expression matches any part of `text`.
    pub fn is_match(&self, text: &str) -> bool {
        let mut state = START;
        for byte in text.bytes() {
            let class = self.classes.get(usize::from(byte)).copied();
            let row = usize::from(state.wrapping_sub(START)).wrapping_mul(self.width);
            let next = row.wrapping_add(usize::from(class.unwrap_or_default()));
            state = self.rows.get(next).copied().unwrap_or(NEVER);
            if state < START {
                return state == MATCH;
            }
        }
        let end = usize::from(state.wrapping_sub(START));
        self.at_end.get(end) == Some(&1)
    }
}

/// Bytes as hexadecimal digits.
#[cfg(not(target_arch = "wasm32"))]
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes from hexadecimal digits; `None` for any other text.
#[cfg(any(test, target_arch = "wasm32"))]
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let byte = |[high, low]: &[u8; 2]| u8::try_from(digit(high)? << 4 | digit(low)?).ok();
    let bytes = pairs.iter().map(byte).collect::<Option<Vec<u8>>>()?;
    rest.is_empty().then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_table_or_none(head in 0u8..9, states in 0u8..9, rest in proptest::collection::vec(0u8..70, 0..90), text in "[a-zé]{0,20}") {
            let bytes = [&[head, states], &rest[..]].concat();
            if let Some(automaton) = Automaton::from_bytes(&bytes) {
                automaton.is_match(&text);
            }
        }

        #[test]
        fn hexadecimal_digits_are_read_again(bytes: Vec<u8>) {
            proptest::prop_assert_eq!(from_hex(&to_hex(&bytes)), Some(bytes));
        }
    }

    #[test]
    fn what_are_no_hexadecimal_digits_is_refused() {
        for text in ["0", "0x", "é0", "00 "] {
            assert_eq!(from_hex(text), None, "{text}");
        }
    }
}
