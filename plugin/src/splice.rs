//! Adding an object to a record, without changing anything else in it.

use crate::counters::{Counters, add};
use crate::json::object;

/// What leaves in the place of a record.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The record as it came.
    Unchanged,
    /// The record with this added.
    Add(Splice),
    /// This record.
    Replace(String),
    /// Nothing.
    Drop,
}

impl Answer {
    /// What is added to the record, if the record leaves with something added.
    pub fn into_splice(self) -> Option<Splice> {
        match self {
            Answer::Add(splice) => Some(splice),
            Answer::Unchanged | Answer::Replace(_) | Answer::Drop => None,
        }
    }
}

/// Text to add to a record.
#[derive(Debug, PartialEq, Eq)]
pub struct Splice {
    /// Where it goes, in bytes: the offset of the record's last brace.
    pub at: usize,
    /// What goes there.
    pub text: String,
}

/// The key that is used when a record already has the policy's.
pub const SECOND_KEY: &str = "detection_psexec_filter";

impl Splice {
    /// Where and under which key an object can be added to a record as its last member: under `key`, or under [`SECOND_KEY`] if the
    /// record has that. `None` if the record has both, or is damaged.
    pub fn new(record: &[u8], key: &str, object: &str, counters: &mut Counters) -> Option<Splice> {
        let found = object::inspect(record, [key, SECOND_KEY]).ok()?;
        let key = match found.has {
            [false, _] => key,
            [true, false] => {
                add(&mut counters.key_taken);
                SECOND_KEY
            }
            [true, true] => return None,
        };
        let comma = if found.is_empty { "" } else { "," };
        Some(Splice {
            at: found.last_brace,
            text: format!("{comma}\"{key}\":{object}"),
        })
    }

    /// The record with the text in it; `None` if the place lies outside the record.
    pub fn apply(&self, record: &str) -> Option<String> {
        let (head, tail) = record.split_at_checked(self.at)?;
        Some([head, &self.text, tail].concat())
    }
}
