//! Which key follows which: a producer writes the members of like events in the same order, so that the next key is mostly known
//! before it is read, and comparing it takes far fewer steps than looking it up.
//!
//! Nothing here can change what is read. A [`Step`] is the very bytes that once led from one value to the next, and what was then
//! found under them at that node; the same bytes at the same node mean the same.

use super::scan;
use super::shapes::{Entry, NO_ENTRY, Node};

/// Steps that are kept, a power of two; another one takes the place of one of its [set](WAYS), and is only slower to take the next
/// time. The producers' tables have some 400 keys, a log far fewer.
const STEPS: usize = 512;

/// Places that a step can have, one behind the other; a power of two.
const WAYS: usize = 4;

/// Bytes of a step, at least and at most: a comma, two quotes, a colon, and the quote of a value that is a string; the rest is key.
const SHORTEST: usize = 8;
const LONGEST: usize = 39;

/// How a step ends that leads to a string, and any other.
const TO_STRING: u16 = u16::from_le_bytes(*b":\"");
const TO_OTHER: u16 = u16::from_le_bytes(*b"\":");

/// What led from the end of a value, or the opening of an object, to the next value.
#[derive(Clone, Copy)]
pub struct Step {
    /// The first 32 bytes as words, 0 where the last eight cover them.
    words: [u64; 4],
    /// The last eight bytes.
    last: u64,
    /// Where these begin.
    tail: u32,
    /// The node that it was taken at, as wide as compares in the fewest steps.
    node: u32,
    /// The step that came next the last time.
    pub next: StepNumber,
    /// The last one beside that: records of one kind may have their members in a few orders.
    other: StepNumber,
    /// What stands under the key.
    pub entry: Entry,
    /// Whether it leads to a string, whose quote is then its last byte.
    pub is_string: bool,
}

/// A step's place.
pub type StepNumber = u32;

/// The first place that is not [`Layout::START`].
const FIRST: usize = 1;

impl Step {
    const FREE: Step = Step {
        words: [0; 4],
        last: 0,
        tail: 0,
        node: u32::MAX,
        next: Layout::START,
        other: Layout::START,
        entry: NO_ENTRY,
        is_string: false,
    };

    /// The first `length` bytes of `rest` as a step, and the first of its places; `None` if they cannot be one.
    fn of(node: Node, rest: &[u8], length: usize) -> Option<(Step, usize)> {
        let bytes = rest
            .get(..length)
            .filter(|_| (SHORTEST..=LONGEST).contains(&length))?;
        let tail = length.wrapping_sub(8);
        let word = |at: usize| {
            if at == 0 || at < tail {
                scan::word(bytes, at)
            } else {
                0
            }
        };
        let last = scan::word(bytes, tail);
        let is_string = match (last >> 48) as u16 {
            TO_STRING => true,
            TO_OTHER => false,
            _ => return None,
        };
        let step = Step {
            words: [word(0), word(8), word(16), word(24)],
            last,
            tail: tail as u32,
            node: u32::from(node),
            is_string,
            ..Step::FREE
        };
        let mixed = (word(0).rotate_left(21) ^ last ^ u64::from(node) << 32)
            .wrapping_add(tail as u64)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Some((step, (mixed >> 32) as usize & (STEPS - WAYS)))
    }

    /// Whether the other is the same bytes at the same node.
    fn is_like(&self, other: &Step) -> bool {
        let words = self.words.iter().zip(&other.words);
        // Word by word: a comparison of all of it would copy it first.
        self.last == other.last
            && self.tail == other.tail
            && self.node == other.node
            && words.fold(0, |all, (a, b)| all | (a ^ b)) == 0
    }
}

/// Steps seen so far.
pub struct Layout {
    steps: Box<[Step]>,
}

impl Layout {
    /// The step before the first one of a record.
    pub const START: StepNumber = 0;

    /// Nothing seen yet.
    pub fn new() -> Layout {
        // Not an array, which would be made on the stack, where 36 KiB are too much.
        Layout {
            steps: vec![Step::FREE; STEPS].into(),
        }
    }

    /// The step of this number.
    pub fn step(&self, number: StepNumber) -> &Step {
        self.steps.get(number as usize).unwrap_or(&Step::FREE)
    }

    /// Takes a step, if it is what `rest` begins with at this node: the step, and the rest from its value on.
    #[inline(always)]
    pub fn follow<'a>(
        &self,
        step: StepNumber,
        node: u32,
        rest: &'a [u8],
    ) -> Option<(&Step, &'a [u8])> {
        let window = rest.first_chunk::<{ LONGEST + 1 }>()?;
        let step = self.steps.get(step as usize)?;
        // The mask takes fewer steps than the check that it spares.
        let tail = (step.tail & 31) as usize;
        let last = window.get(tail..)?.first_chunk::<8>()?;
        if u64::from_le_bytes(*last) != step.last || node != step.node {
            return None;
        }
        let ([first, second, third, fourth, _], _) = window.as_chunks::<8>() else {
            return None;
        };
        let [a, b, c, d] = step.words;
        let is = |word: &[u8; 8], known| u64::from_le_bytes(*word) == known;
        if !is(first, a)
            || tail > 8
                && (!is(second, b) || tail > 16 && (!is(third, c) || tail > 24 && !is(fourth, d)))
        {
            return None;
        }
        // The string's quote belongs to its value.
        Some((
            step,
            rest.get(
                tail.wrapping_add(8)
                    .wrapping_sub(usize::from(step.is_string))..,
            )?,
        ))
    }

    /// The same with the step that came behind `before` until another did; from now on it is expected there.
    pub fn follow_other<'a>(
        &mut self,
        before: StepNumber,
        node: Node,
        rest: &'a [u8],
    ) -> Option<(StepNumber, Entry, &'a [u8])> {
        let number = self.step(before).other;
        let (step, value) = self.follow(number, u32::from(node), rest)?;
        let entry = step.entry;
        self.expect(before, number);
        Some((number, entry, value))
    }

    fn expect(&mut self, before: StepNumber, number: StepNumber) {
        if let Some(before) = self
            .steps
            .get_mut(before as usize)
            .filter(|before| before.next != number)
        {
            before.other = std::mem::replace(&mut before.next, number);
        }
    }

    /// The step that the first `length` bytes of `rest` are at this node, if it is known; from now on it is expected
    /// behind `before`.
    pub fn recall(
        &mut self,
        before: StepNumber,
        node: Node,
        rest: &[u8],
        length: usize,
    ) -> Option<StepNumber> {
        let (step, set) = Step::of(node, rest, length)?;
        let known = self.steps.get(set..set.wrapping_add(WAYS))?;
        let way = known.iter().position(|known| known.is_like(&step))?;
        let number = set.wrapping_add(way) as StepNumber;
        self.expect(before, number);
        Some(number)
    }

    /// Notes that the first `length` bytes of `rest` are a step that leads to a value that `entry` tells of, and expects it behind
    /// `before`. Its number, or that of `before` if these bytes cannot be kept as a step.
    pub fn learn(
        &mut self,
        before: StepNumber,
        node: Node,
        rest: &[u8],
        length: usize,
        entry: Entry,
    ) -> StepNumber {
        let Some((step, set)) = Step::of(node, rest, length) else {
            return before;
        };
        let ways = set.max(FIRST)..set.wrapping_add(WAYS);
        let free = ways.clone().find(|number| {
            self.steps
                .get(*number)
                .is_some_and(|known| known.is_like(&Step::FREE))
        });
        // Any will do, so long as it is not always the same.
        let number = free.unwrap_or(
            set.wrapping_add(before as usize & (WAYS - 1))
                .max(ways.start),
        );
        if let Some(known) = self.steps.get_mut(number) {
            *known = Step { entry, ..step };
        }
        self.expect(before, number as StepNumber);
        number as StepNumber
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_bytes_at_the_same_node_are_the_same_step() {
        let step =
            |node: Node, bytes: &[u8]| Step::of(node, bytes, bytes.len()).expect("it can be one").0;
        let steps = [
            step(1, br#","Image":""#),
            step(1, br#","Imagf":""#),
            step(1, br#","ImageX":""#),
            step(1, br#","IntegrityLevel":""#),
            step(1, br#","IntegritzLevel":""#),
            step(1, br#","ParentProcessGuid12345678":""#),
            step(1, br#","ParentProcessGuie12345678":""#),
            step(2, br#","Image":""#),
        ];
        for (index, one) in steps.iter().enumerate() {
            for (other_index, other) in steps.iter().enumerate() {
                assert_eq!(
                    one.is_like(other),
                    index == other_index,
                    "{index} {other_index}"
                );
            }
        }
    }

    #[test]
    fn the_two_that_came_last_are_expected() {
        let mut layout = Layout::new();
        let records = [r#","Image":"x"#, r#","User":"x"#, r#","Hashes":"x"#]
            .map(|key| format!("{key}{}", " ".repeat(LONGEST)));
        let mut learn = |record: &str| {
            let length = record.trim_end().len() - 1;
            layout
                .recall(Layout::START, 0, record.as_bytes(), length)
                .unwrap_or_else(|| {
                    layout.learn(Layout::START, 0, record.as_bytes(), length, NO_ENTRY)
                })
        };
        let [image, user, hashes] = records.each_ref().map(|record| learn(record));
        // Once more what is expected already: what came before that is not forgotten.
        learn(&records[2]);
        assert_eq!(layout.step(Layout::START).next, hashes);
        let other = layout.follow_other(Layout::START, 0, records[1].as_bytes());
        assert_eq!(
            other.map(|(step, _, value)| (step, value.starts_with(b"\"x"))),
            Some((user, true))
        );
        assert_eq!(layout.step(Layout::START).next, user);
        let other = layout.follow_other(Layout::START, 0, records[0].as_bytes());
        assert!(other.is_none(), "{image} was the last but two");
    }
}
