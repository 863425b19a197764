//! The processes whose children matter: those that an incident is about.

use crate::record::scan;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// ProcessGuids, by their hashes: looked up for most process starts, so it must be cheap. Of all hosts together: a
/// ProcessGuid names the machine, too.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Watch {
    processes: VecDeque<u64>,
}

impl Watch {
    /// Whether nothing is watched.
    pub fn is_empty(&self) -> bool {
        self.processes.is_empty()
    }

    /// Whether the process is watched, whose ProcessGuid these are without braces, in either case.
    pub fn holds(&self, entity_id: &[u8]) -> bool {
        self.processes.contains(&hash_of(entity_id))
    }

    /// Watches a process, one of at most `limit`. Tells whether the oldest was given up for it.
    pub fn add(&mut self, entity_id: &str, limit: usize) -> bool {
        if self.holds(entity_id.as_bytes()) {
            return false;
        }
        self.processes.push_back(hash_of(entity_id.as_bytes()));
        self.processes.len() > limit && self.processes.pop_front().is_some()
    }
}

/// Of a ProcessGuid in either case, in words: a byte at a time takes six times as long.
fn hash_of(entity_id: &[u8]) -> u64 {
    let add = |hash: u64, word: u64| (hash.rotate_left(23) ^ scan::small_letters(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let words = entity_id.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
    let hash = words.fold(entity_id.len() as u64, add);
    // The last word overlaps the one before.
    add(hash, scan::word(entity_id, entity_id.len().saturating_sub(8)))
}

/// 64 bits of FNV-1a.
pub fn hash64(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
