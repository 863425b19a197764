//! The processes whose children matter: those that an incident is about.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// ProcessGuids, by their hashes: looked up for most process starts, so it must be cheap. Of all hosts together: a
/// ProcessGuid names the machine, too.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Watch {
    hashes: VecDeque<u64>,
}

impl Watch {
    /// Whether nothing is watched.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Whether the process is watched.
    pub fn holds(&self, entity_id: &str) -> bool {
        self.hashes.contains(&hash64(entity_id))
    }

    /// Watches a process, one of at most `limit`. Tells whether the oldest was given up for it.
    pub fn add(&mut self, entity_id: &str, limit: usize) -> bool {
        if self.holds(entity_id) {
            return false;
        }
        self.hashes.push_back(hash64(entity_id));
        self.hashes.len() > limit && self.hashes.pop_front().is_some()
    }
}

/// 64 bits of FNV-1a.
pub fn hash64(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
