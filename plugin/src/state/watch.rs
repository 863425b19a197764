//! The processes whose children matter: those that an incident is about.

use crate::record::scan;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// ProcessGuids, by their hashes: looked up for most process starts, so it must be cheap. Of all hosts together: a
/// ProcessGuid names the machine, too.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Watch {
    /// Not called `hashes`, as in state that was saved when these were other hashes.
    #[serde(default)]
    processes: VecDeque<u64>,
}

impl Watch {
    /// Whether nothing is watched.
    pub fn is_empty(&self) -> bool {
        self.processes.is_empty()
    }

    /// Whether the process is watched, whose ProcessGuid these are without braces, in either case.
    pub fn holds(&self, entity_id: &[u8]) -> bool {
        self.processes.contains(&scan::hash(entity_id))
    }

    /// Watches a process, one of at most `limit`. Tells whether the oldest was given up for it.
    pub fn add(&mut self, entity_id: &str, limit: usize) -> bool {
        if self.holds(entity_id.as_bytes()) {
            return false;
        }
        self.processes.push_back(scan::hash(entity_id.as_bytes()));
        self.processes.len() > limit && self.processes.pop_front().is_some()
    }
}

/// 64 bits of FNV-1a.
pub fn hash64(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_given_up_and_case_is_of_no_account() {
        let guid = |n: u32| format!("3f1a2b4c-0a01-66e5-eb03-0000000{n:05x}");
        let mut watch = Watch::default();
        assert!(watch.is_empty());
        for n in 0..100 {
            assert_eq!(watch.add(&guid(n), 40), n >= 40);
            assert!(!watch.add(&guid(n), 40));
        }
        for n in 0..200 {
            assert_eq!(
                watch.holds(guid(n).to_ascii_uppercase().as_bytes()),
                (60..100).contains(&n),
                "{n}"
            );
        }
        assert!(!watch.holds(b"") && !watch.holds(b"3f1a2b4c"));
    }

    #[test]
    fn state_with_hashes_of_another_kind_is_taken_without_them() {
        let watch: Watch =
            serde_json::from_str(r#"{"hashes":[14695981039346656037]}"#).expect("it is read");
        assert!(watch.is_empty());
    }
}
