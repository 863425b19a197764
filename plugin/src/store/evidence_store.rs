//! The recent evidence of one host.
//!
//! Each kind of evidence has a fixed share of the host's places, so that a flood of one kind (connections to a busy server, files
//! copied to a share) cannot push out another kind. Within a kind the least valuable evidence is evicted first: what has expired,
//! then what supports no incident, and of that the evidence of least worth, the oldest first.

use super::clock::Clock;
use crate::evidence::{Evidence, EvidenceKind, Fact};
use crate::normalize::path::PathKey;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::rc::Rc;

/// How much evidence that joins to the same is kept: an attack may use one path twice within a window.
const ALIKE: usize = 4;

/// How many files are remembered by a hash of their path once their evidence had to give way.
const MAX_WRITTEN: usize = 256;

/// Memory of one place beside the evidence itself, in bytes.
const PLACE: usize = size_of::<Slot>();

/// The kinds, those that are evicted first in front. Of two with one number the one that is declared first.
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)] // evaluated by the compiler, which refuses what is out of bounds
const EVICTION_ORDER: [EvidenceKind; EvidenceKind::COUNT] = {
    let mut order = [EvidenceKind::Connection; EvidenceKind::COUNT];
    let (mut filled, mut number) = (0, 0);
    while number <= u8::MAX as usize {
        let mut index = 0;
        while index < EvidenceKind::COUNT {
            let kind = EvidenceKind::ALL[index];
            if kind.info().eviction_order as usize == number {
                order[filled] = kind;
                filled += 1;
            }
            index += 1;
        }
        number += 1;
    }
    order
};

/// The evidence of one host.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct EvidenceStore {
    kinds: [Vec<Slot>; EvidenceKind::COUNT],
    /// The latest time of a connection or a person's logon that was evicted or not stored, in milliseconds. Not saved, like the next: each
    /// more field makes reading a snapshot take more of the interpreter's stack.
    #[serde(skip)]
    lost_source: Option<i64>,
    /// Files that came over SMB and whose evidence had to give way. A program may be among hundreds of documents that are copied to a
    /// file server.
    #[serde(skip)]
    written: VecDeque<Written>,
    /// How many of those were forgotten since [`EvidenceStore::take_forgotten`].
    #[serde(skip)]
    forgotten: u64,
    #[serde(skip)]
    bytes: usize,
}

/// What is remembered of a file that came over SMB and whose evidence had to give way.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// [Hash](PathKey::hash) of its path.
    hash: u64,
    /// When it was written last, in milliseconds.
    pub ms: i64,
    /// Id of the event that showed it.
    pub event_id: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Slot {
    evidence: Rc<Evidence>,
    /// Whether it supports an incident.
    joined: bool,
}

/// What became of new evidence.
pub enum Put {
    /// It is stored, and this much other evidence was evicted for it.
    Stored {
        /// How much.
        evicted: usize,
    },
    /// Evidence that joins to the same was logged at the same time and is stored already.
    Duplicate,
    /// The kind's places are full of evidence that is worth more.
    NoRoom,
    /// Its kind is never stored.
    NotKept,
}

impl EvidenceStore {
    /// The evidence of a kind, in order of arrival.
    pub fn of(&self, kind: EvidenceKind) -> impl Iterator<Item = &Rc<Evidence>> + Clone {
        self.slots(kind).iter().map(|slot| &slot.evidence)
    }

    /// The evidence of a kind, in order of arrival; nothing for no kind.
    pub fn of_some(
        &self,
        kind: Option<EvidenceKind>,
    ) -> impl Iterator<Item = &Rc<Evidence>> + Clone {
        let slots = kind.map_or(&[][..], |kind| self.slots(kind));
        slots.iter().map(|slot| &slot.evidence)
    }

    fn slots(&self, kind: EvidenceKind) -> &[Slot] {
        self.kinds.get(kind as usize).map_or(&[], Vec::as_slice)
    }

    /// All evidence.
    pub fn evidence_mut(&mut self) -> impl Iterator<Item = &mut Rc<Evidence>> {
        self.kinds
            .iter_mut()
            .flatten()
            .map(|slot| &mut slot.evidence)
    }

    /// Computes [`EvidenceStore::bytes`] anew, which is not part of a snapshot.
    pub fn recount(&mut self) {
        let slots = self.kinds.iter().flatten();
        self.bytes = slots.map(Slot::bytes).fold(0, usize::saturating_add);
    }

    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        let written = self.written.capacity().saturating_mul(size_of::<Written>());
        self.bytes.saturating_add(written)
    }

    /// What is remembered of a file that came over SMB, if its evidence had to give way.
    pub fn recall(&self, file: &PathKey) -> Option<Written> {
        if self.written.is_empty() {
            return None;
        }
        let hash = file.hash()?;
        let mut written = self.written.iter().rev();
        written.find(|known| known.hash == hash).copied()
    }

    /// How many written files were forgotten since the last call.
    pub fn take_forgotten(&mut self) -> u64 {
        std::mem::take(&mut self.forgotten)
    }

    /// How much evidence there is.
    pub fn len(&self) -> usize {
        self.kinds
            .iter()
            .map(Vec::len)
            .fold(0, usize::saturating_add)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Stores evidence. `places` is how much the whole host may store, `keep` for how long evidence can matter, and `tolerance`
    /// within which time two that are alike are one; both in milliseconds.
    pub fn put(
        &mut self,
        evidence: &Rc<Evidence>,
        places: usize,
        clock: &Clock,
        keep: i64,
        tolerance: i64,
    ) -> Put {
        let kind = evidence.kind();
        let room = kind.room(places);
        if room == 0 {
            return Put::NotKept;
        }
        let (ms, record_id) = (evidence.time.ms, evidence.record_id);
        let is_alike = |slot: &&Slot| slot.evidence.joins_like(evidence);
        let is_at_the_same_time = |slot: &&Slot| {
            slot.evidence.time.ms.abs_diff(ms) <= tolerance.unsigned_abs()
                || record_id.is_some() && slot.evidence.record_id == record_id
        };
        // The comparison of times is the cheaper one.
        let mut at_the_same_time = self.slots(kind).iter().filter(is_at_the_same_time);
        if at_the_same_time.any(|slot| is_alike(&slot)) {
            return Put::Duplicate;
        }
        self.remove_expired(kind, clock, keep);
        let mut evicted = 0usize;
        if self.slots(kind).iter().filter(is_alike).count() >= ALIKE
            && let Some(oldest) = self.slots(kind).iter().position(|slot| is_alike(&slot))
        {
            let lost = self.lost_source;
            self.remove(kind, oldest);
            // Its machine is still known by the others.
            self.lost_source = lost;
            evicted = 1;
        }
        // What outlasts windows is not worth less because it is old.
        let is_stale = |slot: &Slot| {
            !kind.info().outlasts_windows && clock.is_stale(slot.evidence.time.ms, keep)
        };
        let worth = evidence.fact.worth();
        while self.slots(kind).len() >= room {
            let Some(index) = self.cheapest(kind, is_stale) else {
                break;
            };
            let is_worth_more = |slot: &Slot| !is_stale(slot) && slot.evidence.fact.worth() > worth;
            if self.slots(kind).get(index).is_some_and(is_worth_more) {
                self.lose(evidence);
                return Put::NoRoom;
            }
            self.remove(kind, index);
            evicted = evicted.saturating_add(1);
        }
        let slot = Slot {
            evidence: Rc::clone(evidence),
            joined: false,
        };
        self.bytes = self.bytes.saturating_add(slot.bytes());
        if let Some(slots) = self.kinds.get_mut(kind as usize) {
            slots.push(slot);
        }
        Put::Stored { evicted }
    }

    /// Marks evidence as part of an incident, which makes it the last to be evicted.
    pub fn join(&mut self, evidence: &Rc<Evidence>) {
        let slots = self.kinds.get_mut(evidence.kind() as usize);
        for slot in slots.into_iter().flatten() {
            if Rc::ptr_eq(&slot.evidence, evidence) {
                slot.joined = true;
            }
        }
    }

    /// Evicts the least valuable evidence of all kinds; false if there is none.
    pub fn evict_one(&mut self) -> bool {
        for joined in [false, true] {
            for kind in EVICTION_ORDER {
                let found = self.cheapest(kind, |_| false);
                let is_joined = |index: &usize| {
                    let slot = self.slots(kind).get(*index);
                    slot.is_some_and(|slot| slot.joined == joined)
                };
                if let Some(index) = found.filter(is_joined) {
                    self.remove(kind, index);
                    return true;
                }
            }
        }
        let forgotten = std::mem::take(&mut self.written).len() as u64;
        self.forgotten = self.forgotten.saturating_add(forgotten);
        forgotten > 0
    }

    /// The index of the evidence to be evicted first; stale evidence goes before all other.
    fn cheapest(&self, kind: EvidenceKind, is_stale: impl Fn(&Slot) -> bool) -> Option<usize> {
        // As one number: comparing three values takes more steps than everything else here.
        let worth = |slot: &Slot| {
            u32::from(!is_stale(slot)) << 9
                | u32::from(slot.joined) << 8
                | u32::from(slot.evidence.fact.worth())
        };
        let slots = self.slots(kind).iter().enumerate();
        slots
            .min_by_key(|(_, slot)| worth(slot))
            .map(|(index, _)| index)
    }

    fn remove_expired(&mut self, kind: EvidenceKind, clock: &Clock, keep: i64) {
        if kind.info().outlasts_windows {
            return;
        }
        let Some(slots) = self.kinds.get_mut(kind as usize) else {
            return;
        };
        let mut freed = 0usize;
        slots.retain(|slot| {
            let is_expired = clock.is_expired(slot.evidence.time.ms, keep);
            if is_expired {
                freed = freed.saturating_add(slot.bytes());
            }
            !is_expired
        });
        self.bytes = self.bytes.saturating_sub(freed);
    }

    /// Whether a connection, or a person's logon, that was logged at `since` (milliseconds) or later was evicted.
    pub fn lost_sources_since(&self, since: i64) -> bool {
        self.lost_source.is_some_and(|lost| lost >= since)
    }

    /// Remembers of evicted evidence what its absence must not be taken for.
    fn lose(&mut self, evidence: &Evidence) {
        let is_source = match &evidence.fact {
            Fact::Connection(connection) => !connection.is_to_itself(),
            Fact::Logon(logon) => logon.is_person(),
            _ => false,
        };
        if is_source {
            self.lost_source = self.lost_source.max(Some(evidence.time.ms));
        }
        if let Fact::FileWrite(file) = &evidence.fact
            && file.is_over_smb()
            && let Some(hash) = file.key.hash()
        {
            if self.written.len() >= MAX_WRITTEN {
                self.written.pop_front();
                self.forgotten = self.forgotten.saturating_add(1);
            }
            self.written.push_back(Written {
                hash,
                ms: evidence.time.ms,
                event_id: evidence.event_id,
            });
        }
    }

    fn remove(&mut self, kind: EvidenceKind, index: usize) {
        if let Some(slots) = self.kinds.get_mut(kind as usize)
            && index < slots.len()
        {
            let slot = slots.remove(index);
            self.bytes = self.bytes.saturating_sub(slot.bytes());
            self.lose(&slot.evidence);
        }
    }
}

impl Slot {
    fn bytes(&self) -> usize {
        self.evidence.bytes().saturating_add(PLACE)
    }
}

#[cfg(test)]
mod tests;
