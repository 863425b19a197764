//! Predicts the next key of a record. A producer writes the members of similar events in the same order, so the next key is nearly
//! always known before it is read, and to compare it takes far fewer instructions than to look it up.
//!
//! A prediction cannot change what is read. A [`Transition`] is the exact bytes that once led from one value to the next at a node,
//! and what the table has for their key; the same bytes at the same node always have the same meaning.

use super::path_table::{Entry, NO_ENTRY, Node};
use crate::json::bytes;

/// Most transitions that are kept, a power of two. Another one replaces one of its [set](WAYS), which then has to be looked up the
/// next time. The tables of the producers have some 400 keys, a log far fewer.
const TRANSITIONS: usize = 512;

/// Adjacent slots that a transition can be kept in; a power of two.
const WAYS: usize = 4;

/// Least and most bytes of a transition: a comma, two quotes, a colon, and the quote of a value that is a string; the rest is key.
const SHORTEST: usize = 8;
const LONGEST: usize = 39;

/// The last two bytes of a transition to a string, and to any other value.
const TO_STRING: u16 = u16::from_le_bytes(*b":\"");
const TO_OTHER: u16 = u16::from_le_bytes(*b"\":");

/// The bytes from the end of a value, or from the opening of an object, to the next value.
#[derive(Clone, Copy)]
pub struct Transition {
    /// The first 32 bytes as words, 0 where the last eight bytes cover them.
    words: [u64; 4],
    /// The last eight bytes.
    last: u64,
    /// The offset of the last eight bytes.
    tail: u32,
    /// The node at which the bytes were read, in the width that takes the fewest instructions to compare.
    node: u32,
    /// The transition that came next the last time.
    pub next: TransitionId,
    /// The transition that came next before `next` did: records of one kind may have their members in a few orders.
    previous_next: TransitionId,
    /// What is known about the key.
    pub entry: Entry,
    /// Whether the value is a string, whose quote is then the last byte of the transition.
    pub is_string: bool,
}

/// The slot in which a transition is kept.
pub type TransitionId = u32;

/// The first slot that is not [`KeyPrediction::START`].
const FIRST: usize = 1;

impl Transition {
    const FREE: Transition = Transition {
        words: [0; 4],
        last: 0,
        tail: 0,
        node: u32::MAX,
        next: KeyPrediction::START,
        previous_next: KeyPrediction::START,
        entry: NO_ENTRY,
        is_string: false,
    };

    /// The first `length` bytes of `rest` as a transition, and the first slot of its set; `None` if they cannot be kept as one.
    fn of(node: Node, rest: &[u8], length: usize) -> Option<(Transition, usize)> {
        let bytes = rest
            .get(..length)
            .filter(|_| (SHORTEST..=LONGEST).contains(&length))?;
        let tail = length.wrapping_sub(8);
        let word = |at: usize| {
            if at == 0 || at < tail {
                bytes::word(bytes, at)
            } else {
                0
            }
        };
        let last = bytes::word(bytes, tail);
        let is_string = match (last >> 48) as u16 {
            TO_STRING => true,
            TO_OTHER => false,
            _ => return None,
        };
        let transition = Transition {
            words: [word(0), word(8), word(16), word(24)],
            last,
            tail: tail as u32,
            node: u32::from(node),
            is_string,
            ..Transition::FREE
        };
        let mixed = (word(0).rotate_left(21) ^ last ^ u64::from(node) << 32)
            .wrapping_add(tail as u64)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Some((transition, (mixed >> 32) as usize & (TRANSITIONS - WAYS)))
    }

    /// Whether both are the same bytes at the same node.
    fn is_like(&self, other: &Transition) -> bool {
        let words = self.words.iter().zip(&other.words);
        // Word by word: a comparison of the whole array would copy it first.
        self.last == other.last
            && self.tail == other.tail
            && self.node == other.node
            && words.fold(0, |all, (a, b)| all | (a ^ b)) == 0
    }
}

/// The transitions read so far, and which of them follows which.
pub struct KeyPrediction {
    transitions: Box<[Transition]>,
}

impl KeyPrediction {
    /// The transition before the first one of a record.
    pub const START: TransitionId = 0;

    /// Knows no transition yet.
    pub fn new() -> KeyPrediction {
        // Not an array, which would be made on the stack, where 36 KiB are too much.
        KeyPrediction {
            transitions: vec![Transition::FREE; TRANSITIONS].into(),
        }
    }

    /// The transition in a slot.
    pub fn transition(&self, id: TransitionId) -> &Transition {
        self.transitions
            .get(id as usize)
            .unwrap_or(&Transition::FREE)
    }

    /// If `rest` begins with the bytes of the transition and the node is the same: the transition, and the rest from its value on.
    #[inline(always)]
    pub fn follow<'a>(
        &self,
        id: TransitionId,
        node: u32,
        rest: &'a [u8],
    ) -> Option<(&Transition, &'a [u8])> {
        let window = rest.first_chunk::<{ LONGEST + 1 }>()?;
        let transition = self.transitions.get(id as usize)?;
        // The mask takes fewer instructions than the bounds check that it saves.
        let tail = (transition.tail & 31) as usize;
        let last = window.get(tail..)?.first_chunk::<8>()?;
        if u64::from_le_bytes(*last) != transition.last || node != transition.node {
            return None;
        }
        let ([first, second, third, fourth, _], _) = window.as_chunks::<8>() else {
            return None;
        };
        let [a, b, c, d] = transition.words;
        let is = |word: &[u8; 8], known| u64::from_le_bytes(*word) == known;
        if !is(first, a)
            || tail > 8
                && (!is(second, b) || tail > 16 && (!is(third, c) || tail > 24 && !is(fourth, d)))
        {
            return None;
        }
        // The quote of a string belongs to the value.
        Some((
            transition,
            rest.get(
                tail.wrapping_add(8)
                    .wrapping_sub(usize::from(transition.is_string))..,
            )?,
        ))
    }

    /// Does what [`KeyPrediction::follow`] does with the transition that came after `before` before the predicted one did. If it
    /// matches, it becomes the predicted one.
    pub fn follow_previous<'a>(
        &mut self,
        before: TransitionId,
        node: Node,
        rest: &'a [u8],
    ) -> Option<(TransitionId, Entry, &'a [u8])> {
        let id = self.transition(before).previous_next;
        let (transition, value) = self.follow(id, u32::from(node), rest)?;
        let entry = transition.entry;
        self.predict(before, id);
        Some((id, entry, value))
    }

    /// Predicts the transition `id` after `before` from now on.
    fn predict(&mut self, before: TransitionId, id: TransitionId) {
        if let Some(before) = self
            .transitions
            .get_mut(before as usize)
            .filter(|before| before.next != id)
        {
            before.previous_next = std::mem::replace(&mut before.next, id);
        }
    }

    /// The known transition whose bytes are the first `length` bytes of `rest`, read at `node`. It becomes the one predicted after
    /// `before`.
    pub fn recall(
        &mut self,
        before: TransitionId,
        node: Node,
        rest: &[u8],
        length: usize,
    ) -> Option<TransitionId> {
        let (transition, set) = Transition::of(node, rest, length)?;
        let known = self.transitions.get(set..set.wrapping_add(WAYS))?;
        let way = known.iter().position(|known| known.is_like(&transition))?;
        let id = set.wrapping_add(way) as TransitionId;
        self.predict(before, id);
        Some(id)
    }

    /// Keeps the first `length` bytes of `rest`, read at `node`, as a transition to a value whose key has the given entry, and
    /// predicts it after `before`. Returns its slot, or `before` if these bytes cannot be kept as a transition.
    pub fn learn(
        &mut self,
        before: TransitionId,
        node: Node,
        rest: &[u8],
        length: usize,
        entry: Entry,
    ) -> TransitionId {
        let Some((transition, set)) = Transition::of(node, rest, length) else {
            return before;
        };
        let ways = set.max(FIRST)..set.wrapping_add(WAYS);
        let free = ways.clone().find(|slot| {
            self.transitions
                .get(*slot)
                .is_some_and(|known| known.is_like(&Transition::FREE))
        });
        // Which one is replaced does not matter, as long as it is not always the same.
        let slot = free.unwrap_or(
            set.wrapping_add(before as usize & (WAYS - 1))
                .max(ways.start),
        );
        if let Some(known) = self.transitions.get_mut(slot) {
            *known = Transition {
                entry,
                ..transition
            };
        }
        self.predict(before, slot as TransitionId);
        slot as TransitionId
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transitions_differ_in_every_byte_and_in_their_node() {
        let transition = |node: Node, bytes: &[u8]| {
            Transition::of(node, bytes, bytes.len())
                .expect("it can be kept")
                .0
        };
        let transitions = [
            transition(1, br#","Image":""#),
            transition(1, br#","Imagf":""#),
            transition(1, br#","ImageX":""#),
            transition(1, br#","IntegrityLevel":""#),
            transition(1, br#","IntegritzLevel":""#),
            transition(1, br#","ParentProcessGuid12345678":""#),
            transition(1, br#","ParentProcessGuie12345678":""#),
            transition(2, br#","Image":""#),
        ];
        for (index, one) in transitions.iter().enumerate() {
            for (other_index, other) in transitions.iter().enumerate() {
                assert_eq!(
                    one.is_like(other),
                    index == other_index,
                    "{index} {other_index}"
                );
            }
        }
    }

    #[test]
    fn the_last_two_followers_are_remembered() {
        let mut prediction = KeyPrediction::new();
        let records = [r#","Image":"x"#, r#","User":"x"#, r#","Hashes":"x"#]
            .map(|key| format!("{key}{}", " ".repeat(LONGEST)));
        let mut learn = |record: &str| {
            let length = record.trim_end().len() - 1;
            prediction
                .recall(KeyPrediction::START, 0, record.as_bytes(), length)
                .unwrap_or_else(|| {
                    prediction.learn(KeyPrediction::START, 0, record.as_bytes(), length, NO_ENTRY)
                })
        };
        let [image, user, hashes] = records.each_ref().map(|record| learn(record));
        // What is predicted already comes again: the one before it is still remembered.
        learn(&records[2]);
        assert_eq!(prediction.transition(KeyPrediction::START).next, hashes);
        let other = prediction.follow_previous(KeyPrediction::START, 0, records[1].as_bytes());
        assert_eq!(
            other.map(|(id, _, value)| (id, value.starts_with(b"\"x"))),
            Some((user, true))
        );
        assert_eq!(prediction.transition(KeyPrediction::START).next, user);
        let other = prediction.follow_previous(KeyPrediction::START, 0, records[0].as_bytes());
        assert!(other.is_none(), "{image} came before the last two");
    }
}
