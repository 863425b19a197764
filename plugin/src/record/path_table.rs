//! The paths of all producers as one table, and the keys that it is searched by.

use super::place::Spelling;
use super::producers::{COPY, EVENT_DATA, Field, MAX_PATH, Naming, Producer, WRAPPERS};
use crate::json::bytes;

/// An object in the tree of objects that the paths of all producers form.
pub type Node = u16;

/// The root of a record.
pub const ROOT: Node = 0;

/// What is known about a key at a node.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entry {
    /// Field that a scalar under the key states, or an array of one scalar.
    pub scalar: Option<Field>,
    /// Field that an array under the key states.
    pub array: Option<Field>,
    /// Node of an object under the key.
    pub child: Option<Node>,
    /// How much the path is trusted: of two values of one field, the one with the lower rank holds.
    pub rank: u16,
    /// Added to the ranks of everything inside an object under the key.
    pub inner_rank: u16,
    /// How strings under the key are written.
    pub spelling: Spelling,
}

/// What is known about a key that is not in the table.
pub const NO_ENTRY: Entry = Entry {
    scalar: None,
    array: None,
    child: None,
    rank: 0,
    inner_rank: 0,
    spelling: Spelling::Absent,
};

/// How many bytes of a key a [`KeyPrefix`] holds.
pub const PREFIX: usize = 24;

/// The first 24 bytes of a key as three words, and its length. For nearly all keys that is the whole key.
///
/// The last word that is used is shifted up until its last byte is the highest, which takes the fewest instructions when a key is
/// read.
#[derive(Clone, Copy, Debug)]
pub struct KeyPrefix {
    first: u64,
    second: u64,
    third: u64,
    length: usize,
    /// The words as one, for hashing.
    mixed: u64,
}

impl PartialEq for KeyPrefix {
    #[inline(always)]
    fn eq(&self, other: &KeyPrefix) -> bool {
        // Differences are collected as bits, so that there is one branch; `mixed` follows from the other fields.
        (self.first ^ other.first)
            | (self.second ^ other.second)
            | (self.third ^ other.third)
            | (self.length ^ other.length) as u64
            == 0
    }
}

impl KeyPrefix {
    /// Reads the key that begins with these bytes and ends at a quote. `None` if it is longer than 23 bytes.
    ///
    /// A byte above 0x7f may look like the quote, so the caller must check that a quote follows the key. If the key has an escape, it
    /// [may be another](KeyPrefix::may_be_another).
    #[inline(always)]
    pub fn read(bytes: &[u8; PREFIX]) -> Option<KeyPrefix> {
        let ([a, b, c], _) = bytes.as_chunks::<8>() else {
            return None;
        };
        let first = u64::from_le_bytes(*a);
        let end = bytes::likely_quotes(first);
        if end != 0 {
            let first = up_to(first, end);
            return Some(KeyPrefix {
                first,
                second: 0,
                third: 0,
                length: bytes::first_byte(end),
                mixed: first,
            });
        }
        let second = u64::from_le_bytes(*b);
        let end = bytes::likely_quotes(second);
        if end != 0 {
            let second = up_to(second, end);
            return Some(KeyPrefix {
                first,
                second,
                third: 0,
                length: bytes::first_byte(end).wrapping_add(8),
                mixed: mix(first, second),
            });
        }
        let third = u64::from_le_bytes(*c);
        let end = bytes::likely_quotes(third);
        if end == 0 {
            return None;
        }
        let third = up_to(third, end);
        let length = bytes::first_byte(end).wrapping_add(16);
        Some(KeyPrefix {
            first,
            second,
            third,
            length,
            mixed: mix(mix(first, second), third),
        })
    }

    /// Whether a key that is not in the table may still mean one that is: it has an escape, or it is a dotted path that is too long
    /// to be in the table. Such a key has to be unescaped, or looked up with [`PathTable::find_dotted`].
    #[inline(always)]
    pub fn may_be_another(&self) -> bool {
        // Unused words are 0. Two words at once, because a branch costs as much as two other instructions.
        bytes::may_have_backslash(self.first, self.second)
            || self.length >= SHORT
                && (bytes::may_have_backslash(self.third, 0)
                    || bytes::has_dot(self.first)
                    || bytes::has_dot(self.second))
    }

    fn of(key: &[u8]) -> KeyPrefix {
        let word = |at: usize| {
            let unused = 8usize.saturating_sub(key.len().saturating_sub(at));
            bytes::word(key, at)
                .checked_shl((unused as u32).wrapping_mul(8))
                .unwrap_or(0)
        };
        let [first, second, third] = [word(0), word(8), word(16)];
        // As in `read`, which mixes in only the words that it has to look at.
        let mixed = match key.len() {
            ..8 => first,
            8..16 => mix(first, second),
            _ => mix(mix(first, second), third),
        };
        KeyPrefix {
            first,
            second,
            third,
            length: key.len(),
            mixed,
        }
    }

    /// The length of the key in bytes.
    #[inline(always)]
    pub fn length(&self) -> usize {
        self.length
    }

    #[inline(always)]
    fn slot(&self, node: Node) -> usize {
        ((self.mixed ^ u64::from(node) << 48).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 53) as usize
    }
}

#[inline(always)]
fn mix(a: u64, b: u64) -> u64 {
    a.rotate_left(29) ^ b
}

/// The bytes of `word` below the first that is marked in `end`, shifted up.
#[inline(always)]
fn up_to(word: u64, end: u64) -> u64 {
    // The mark is the high bit of its byte: the word is shifted so far that nothing from that byte on remains. In two shifts,
    // because it may be the whole word.
    word.wrapping_shl(70u32.wrapping_sub(end.trailing_zeros())) << 1
}

/// Paths shorter than this are found by [`KeyPrefix::read`].
const SHORT: usize = 16;

/// The rank of `host.name` of the Elastic Common Schema, where Beats also write the host that they run on. A test checks that it is
/// the number of that row, and names the number if a new producer changes it.
pub const HOST_NAME_RANK: u16 = 237;

/// What a [copy](COPY) adds to ranks: more than the table has rows.
const COPIED: u16 = SLOTS as u16;

struct Row {
    node: Node,
    prefix: KeyPrefix,
    key: Box<str>,
    entry: Entry,
}

/// Number of hash slots: 2^11, because [`KeyPrefix::slot`] returns eleven bits. A test checks that less than a quarter is used.
const SLOTS: usize = 2048;

/// The paths of all producers, merged: for a node and a key, what is known about the value there.
pub struct PathTable {
    rows: Vec<Row>,
    /// For each hash slot, 1 + an index into `rows`; 0 is free.
    slots: Box<[u32; SLOTS]>,
    nodes: Node,
}

impl PathTable {
    /// Merges the tables of `producers`.
    pub fn new(producers: &'static [Producer]) -> PathTable {
        let mut table = PathTable {
            rows: Vec::new(),
            slots: Box::new([0; SLOTS]),
            nodes: 1,
        };
        // All objects with values of one naming are the same node: they differ only in the path that leads to them.
        let mut data: Vec<(Naming, Node)> = Vec::new();
        for producer in producers {
            for base in producer.event_data {
                if base.is_empty() {
                    table.add_event_data(ROOT, producer.naming);
                    continue;
                }
                let node = match data.iter().find(|(naming, _)| *naming == producer.naming) {
                    Some((_, node)) => *node,
                    None => {
                        let node = table.nodes;
                        table.nodes = table.nodes.saturating_add(1);
                        table.add_event_data(node, producer.naming);
                        data.push((producer.naming, node));
                        node
                    }
                };
                let (parent, key) = base.rsplit_once('.').unwrap_or(("", base));
                let parent = table.open(parent);
                if let Some(entry) = table.entry(parent, key) {
                    entry.child.get_or_insert(node);
                }
                // The same key may hold the values without their names, or all of them as XML.
                table.add(parent, key, Field::Inserts);
                table.add(parent, key, Field::DataXml);
            }
            for (path, field) in producer.envelope {
                let (parent, key) = path.rsplit_once('.').unwrap_or(("", path));
                let node = table.open(parent);
                table.add(node, key, *field);
                // Some pipelines flatten objects. A longer dotted key is split when it is read.
                if path.len() < SHORT && !parent.is_empty() {
                    table.add(ROOT, path, *field);
                }
            }
        }
        for path in WRAPPERS {
            let (parent, key) = path.rsplit_once('.').unwrap_or(("", path));
            let node = table.open(parent);
            if let Some(entry) = table.entry(node, key) {
                entry.child = Some(ROOT);
                entry.inner_rank = if *path == COPY { COPIED } else { 0 };
            }
        }
        table.index();
        table
    }

    /// The node of a path of objects; adds what is missing.
    fn open(&mut self, path: &str) -> Node {
        let mut node = ROOT;
        for key in path.split('.').filter(|key| !key.is_empty()) {
            let fresh = self.nodes;
            let Some(entry) = self.entry(node, key) else {
                return node;
            };
            node = *entry.child.get_or_insert(fresh);
            if node == fresh {
                self.nodes = self.nodes.saturating_add(1);
            }
        }
        node
    }

    /// Adds the named values of an event to an object.
    fn add_event_data(&mut self, node: Node, naming: Naming) {
        for (name, field) in EVENT_DATA {
            let name = naming.name(name);
            self.add(node, &name, *field);
            if let Some(entry) = self.entry(node, &name) {
                entry.spelling = naming.spelling();
            }
        }
    }

    /// Adds what a key states, unless an earlier producer already stated it.
    fn add(&mut self, node: Node, key: &str, field: Field) {
        if let Some(entry) = self.entry(node, key) {
            let stated = if matches!(field, Field::Inserts | Field::Otlp) {
                &mut entry.array
            } else {
                &mut entry.scalar
            };
            stated.get_or_insert(field);
        }
    }

    /// The entry of a key; adds it if it is missing. Its rank is the number of its row.
    fn entry(&mut self, node: Node, key: &str) -> Option<&mut Entry> {
        let known = self
            .rows
            .iter()
            .position(|row| row.node == node && *row.key == *key);
        let at = known.unwrap_or_else(|| {
            let number = self.rows.len();
            let entry = Entry {
                rank: u16::try_from(number).unwrap_or(u16::MAX),
                spelling: Spelling::String,
                ..Entry::default()
            };
            self.rows.push(Row {
                node,
                prefix: KeyPrefix::of(key.as_bytes()),
                key: key.into(),
                entry,
            });
            number
        });
        self.rows.get_mut(at).map(|row| &mut row.entry)
    }

    /// Fills the hash slots.
    fn index(&mut self) {
        for (row, number) in self.rows.iter().zip(1u32..) {
            let start = row.prefix.slot(row.node);
            let free = (0..SLOTS)
                .map(|step| start.wrapping_add(step) % SLOTS)
                .find(|at| self.slots.get(*at) == Some(&0));
            if let Some(slot) = free.and_then(|at| self.slots.get_mut(at)) {
                *slot = number;
            }
        }
    }

    /// What is known about the key whose prefix is `prefix`. `key` is all of it; it is used only if it is longer than the prefix.
    #[inline(always)]
    pub fn find(&self, node: Node, prefix: KeyPrefix, key: &[u8]) -> Option<&Entry> {
        let mut at = prefix.slot(node);
        loop {
            let number = *self.slots.get(at)? as usize;
            let row = self.rows.get(number.checked_sub(1)?)?;
            if row.prefix == prefix
                && row.node == node
                && (prefix.length <= PREFIX || row.key.as_bytes() == key)
            {
                return Some(&row.entry);
            }
            at = at.wrapping_add(1) % SLOTS;
        }
    }

    /// What is known about a key, which must be without escapes.
    pub fn find_key(&self, node: Node, key: &[u8]) -> Option<&Entry> {
        self.find(node, KeyPrefix::of(key), key)
    }

    /// What is known about a key that is text.
    pub fn find_text(&self, node: Node, key: &str) -> Option<&Entry> {
        self.find_key(node, key.as_bytes())
    }

    /// What is known about a key that is several keys joined by dots.
    pub fn find_dotted(&self, node: Node, path: &str) -> Option<&Entry> {
        let mut node = node;
        let (objects, key) = path.rsplit_once('.')?;
        for object in objects.split('.').take(MAX_PATH) {
            node = self.find_text(node, object)?.child?;
        }
        self.find_text(node, key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::producers::PRODUCERS;

    #[test]
    fn the_rank_of_host_name_is_that_of_its_row() {
        let table = PathTable::new(PRODUCERS);
        let name = table
            .find_text(ROOT, "host")
            .and_then(|host| table.find_text(host.child?, "name"));
        assert_eq!(name.map(|entry| entry.rank), Some(HOST_NAME_RANK));
        assert_eq!(name.and_then(|entry| entry.scalar), Some(Field::Computer));
    }

    #[test]
    fn every_path_of_every_producer_is_found_again() {
        let table = PathTable::new(PRODUCERS);
        let mut paths: Vec<(String, Field)> = Vec::new();
        for producer in PRODUCERS {
            paths.extend(
                producer
                    .envelope
                    .iter()
                    .map(|(path, field)| (path.to_string(), *field)),
            );
            for base in producer.event_data {
                let dot = if base.is_empty() { "" } else { "." };
                paths.extend(
                    EVENT_DATA
                        .iter()
                        .map(|(name, field)| (producer.naming.name(name), *field))
                        .map(|(name, field)| (format!("{base}{dot}{name}"), field)),
                );
            }
        }
        let wrapped: Vec<(String, Field)> = WRAPPERS
            .iter()
            .flat_map(|wrapper| {
                paths
                    .iter()
                    .map(move |(path, field)| (format!("{wrapper}.{path}"), *field))
            })
            .collect();
        paths.extend(wrapped);
        for (path, field) in paths {
            let mut node = ROOT;
            let mut keys = path.split('.').peekable();
            while let Some(key) = keys.next() {
                let entry = table
                    .find_text(node, key)
                    .unwrap_or_else(|| panic!("{path}: {key}"));
                if keys.peek().is_some() {
                    node = entry
                        .child
                        .unwrap_or_else(|| panic!("{path}: {key} opens nothing"));
                } else {
                    assert!(
                        entry.scalar == Some(field) || entry.array == Some(field),
                        "{path}: {entry:?}"
                    );
                }
            }
            assert!(path.split('.').count() <= MAX_PATH, "{path}");
        }
        assert!(table.find_text(ROOT, "Nonsense").is_none());
        assert!(table.find_text(ROOT, "ParentProcessGuic").is_none());
        // Mostly empty, so that the search for an unknown key, the common case, ends at once. And no more nodes than a `Node` can count.
        assert!(table.rows.len() < SLOTS / 4, "{} rows", table.rows.len());
        assert!(table.nodes < Node::MAX);
    }
}
