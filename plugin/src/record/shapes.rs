//! The record shapes of the producers, as data.
//!
//! A producer is a table of paths: where its records keep the envelope of an event (id, provider, host, time) and
//! under which objects the named fields of the event (`EventData`) stand. The tables of all producers are merged
//! into one [`PathTable`], so that a record is walked once whatever wrote it, record by record, and a new producer
//! is a new table and nothing else.
//!
//! Where one record offers a field twice, the table that stands first wins: that is how a logged time is preferred
//! over the time of collection and the event's own host over the collector's.
//!
//! Sources: Fluent Bit 5.1 `plugins/in_winevtlog/pack.c`; evtx 0.15 `json_output`; Vector
//! `sources/windows_event_log/parser.rs`; NXLog `im_msvistalog` and the OTRF Security-Datasets; Beats
//! `winlogbeat/sys/winevent`; Sysmon's own manifest for the field names.

use super::scan;

/// A fact about an event that a record can state. The names are Sysmon's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)] // the names are those of the Sysmon manifest and the Windows event envelope
pub enum Field {
    EventId,
    Provider,
    Channel,
    Computer,
    LoggedTime,
    RecordId,
    UtcTime,
    ProcessGuid,
    Image,
    CommandLine,
    User,
    LogonId,
    OriginalFileName,
    Hashes,
    ParentProcessGuid,
    ParentImage,
    ParentCommandLine,
    Protocol,
    Initiated,
    SourceIp,
    SourcePort,
    DestinationIp,
    DestinationPort,
    TargetFilename,
    TargetObject,
    Details,
    PipeName,
    LogonType,
    IpAddress,
    IpPort,
    TargetUserName,
    TargetDomainName,
    TargetLogonId,
    WorkstationName,
    /// A whole event rendered as XML inside a string.
    Xml,
    /// The event's values as an array without names.
    Inserts,
}

impl Field {
    /// How many fields there are.
    pub const COUNT: usize = Field::Inserts as usize + 1;

    /// Whether the field can rule an event out by itself (with the event's id).
    #[inline(always)]
    pub fn decides(self) -> bool {
        const DECIDING: u64 = 1 << Field::EventId as u32
            | 1 << Field::Xml as u32
            | 1 << Field::Image as u32
            | 1 << Field::ParentImage as u32
            | 1 << Field::ParentProcessGuid as u32
            | 1 << Field::TargetFilename as u32
            | 1 << Field::TargetObject as u32
            | 1 << Field::LogonType as u32;
        DECIDING.wrapping_shr(self as u32) & 1 == 1
    }

    /// The field a name inside `EventData` stands for.
    pub fn of_event_data(name: &str) -> Option<Field> {
        EVENT_DATA.iter().find(|(known, _)| *known == name).map(|(_, field)| *field)
    }
}

/// Names inside `EventData` (Sysmon manifest, schemas 3.2 to 4.91).
const EVENT_DATA: &[(&str, Field)] = &[
    ("UtcTime", Field::UtcTime),
    ("ProcessGuid", Field::ProcessGuid),
    ("Image", Field::Image),
    ("CommandLine", Field::CommandLine),
    ("User", Field::User),
    ("LogonId", Field::LogonId),
    ("OriginalFileName", Field::OriginalFileName),
    ("Hashes", Field::Hashes),
    ("ParentProcessGuid", Field::ParentProcessGuid),
    ("ParentImage", Field::ParentImage),
    ("ParentCommandLine", Field::ParentCommandLine),
    ("Protocol", Field::Protocol),
    ("Initiated", Field::Initiated),
    ("SourceIp", Field::SourceIp),
    ("SourcePort", Field::SourcePort),
    ("DestinationIp", Field::DestinationIp),
    ("DestinationPort", Field::DestinationPort),
    ("TargetFilename", Field::TargetFilename),
    ("TargetObject", Field::TargetObject),
    ("Details", Field::Details),
    ("PipeName", Field::PipeName),
    // Security event 4624.
    ("LogonType", Field::LogonType),
    ("IpAddress", Field::IpAddress),
    ("IpPort", Field::IpPort),
    ("TargetUserName", Field::TargetUserName),
    ("TargetDomainName", Field::TargetDomainName),
    ("TargetLogonId", Field::TargetLogonId),
    ("WorkstationName", Field::WorkstationName),
];

/// Where one producer puts things. Paths are keys joined by dots from the root of the record.
pub struct Producer {
    /// Name, for people.
    pub name: &'static str,
    /// The envelope.
    pub envelope: &'static [(&'static str, Field)],
    /// Objects whose members are named as in `EventData`; the empty path is the root itself.
    pub event_data: &'static [&'static str],
}

/// All producers; on a conflict inside one record the earlier one is believed.
pub const PRODUCERS: &[Producer] = &[
    Producer {
        name: "Fluent Bit in_winevtlog",
        envelope: &[
            ("EventID", Field::EventId),
            ("ProviderName", Field::Provider),
            ("Channel", Field::Channel),
            ("Computer", Field::Computer),
            ("TimeCreated", Field::LoggedTime),
            ("EventRecordID", Field::RecordId),
            ("StringInserts", Field::Inserts),
            ("System", Field::Xml),
        ],
        event_data: &["EventData"],
    },
    Producer {
        name: "evtx_dump and the evtx crate",
        envelope: &[
            ("Event.System.EventID", Field::EventId),
            ("Event.System.EventID.#text", Field::EventId),
            ("Event.System.Provider.#attributes.Name", Field::Provider),
            ("Event.System.Provider_attributes.Name", Field::Provider),
            ("Event.System.Channel", Field::Channel),
            ("Event.System.Computer", Field::Computer),
            ("Event.System.TimeCreated.#attributes.SystemTime", Field::LoggedTime),
            ("Event.System.TimeCreated_attributes.SystemTime", Field::LoggedTime),
            ("Event.System.EventRecordID", Field::RecordId),
        ],
        event_data: &["Event.EventData"],
    },
    Producer {
        name: "Vector windows_event_log",
        envelope: &[
            ("event_id", Field::EventId),
            ("provider_name", Field::Provider),
            ("channel", Field::Channel),
            ("computer", Field::Computer),
            ("timestamp", Field::LoggedTime),
            ("record_id", Field::RecordId),
            ("xml", Field::Xml),
        ],
        event_data: &["event_data"],
    },
    // Before Winlogbeat: NXLog's own EventTime is the logged time, an @timestamp beside it is the collector's.
    Producer {
        name: "NXLog im_msvistalog",
        envelope: &[
            ("SourceName", Field::Provider),
            ("Hostname", Field::Computer),
            ("EventTime", Field::LoggedTime),
            ("RecordNumber", Field::RecordId),
        ],
        event_data: &[""],
    },
    Producer {
        name: "Winlogbeat 7 and 8",
        envelope: &[
            ("winlog.event_id", Field::EventId),
            ("winlog.provider_name", Field::Provider),
            ("winlog.channel", Field::Channel),
            ("winlog.computer_name", Field::Computer),
            ("winlog.record_id", Field::RecordId),
            ("@timestamp", Field::LoggedTime),
            ("event.code", Field::EventId),
            ("event.provider", Field::Provider),
        ],
        event_data: &["winlog.event_data"],
    },
];

/// A place in a record's tree of objects.
pub type Node = u8;

/// The root of a record.
pub const ROOT: Node = 0;

/// Longest path of any producer, in objects entered; the walk keeps that many.
pub const MAX_PATH: usize = 8;

/// What is known about a key at a node.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entry {
    /// Field that a scalar (for [`Field::Xml`]: a string) here states.
    pub scalar: Option<Field>,
    /// Field that an array here states.
    pub array: Option<Field>,
    /// Node that an object here opens.
    pub child: Option<Node>,
    /// The smaller, the more it is believed.
    pub rank: u16,
}

/// The first 16 bytes of a key as two words, and its length: all of it for most keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyPrefix {
    first: u64,
    second: u64,
    length: usize,
}

impl KeyPrefix {
    /// Reads the key whose first character is at `start`; returns it with the offset of its closing quote, or
    /// `None` if it is longer than 15 bytes or may hold an escape, and needs [`KeyPrefix::read_long`].
    #[inline(always)]
    pub fn read(bytes: &[u8], start: usize) -> Option<(KeyPrefix, usize)> {
        let first = scan::word(bytes, start);
        let end = scan::quotes(first);
        if end != 0 {
            let length = scan::first_byte(end);
            let first = first & below(end);
            return (!scan::has_backslash(first)).then_some((KeyPrefix { first, second: 0, length }, start.wrapping_add(length)));
        }
        let second = scan::word(bytes, start.wrapping_add(8));
        let end = scan::quotes(second);
        let second = second & below(end);
        if end == 0 || scan::has_backslash(first) || scan::has_backslash(second) {
            return None;
        }
        let length = scan::first_byte(end).wrapping_add(8);
        Some((KeyPrefix { first, second, length }, start.wrapping_add(length)))
    }

    /// Reads any key; returns it with the offset of its closing quote and whether it has an escape, so that its text
    /// is not what its bytes say.
    #[inline(never)]
    pub fn read_long(bytes: &[u8], start: usize) -> Result<(KeyPrefix, usize, bool), super::Fault> {
        let quote = scan::string_end(bytes, start)?;
        let key = bytes.get(start..quote).unwrap_or_default();
        let length = key.len();
        let first = low_bytes(scan::word(bytes, start), length);
        let second = low_bytes(scan::word(bytes, start.wrapping_add(8)), length.saturating_sub(8));
        Ok((KeyPrefix { first, second, length }, quote, key.contains(&b'\\')))
    }

    fn of(key: &str) -> KeyPrefix {
        let (bytes, length) = (key.as_bytes(), key.len());
        KeyPrefix {
            first: low_bytes(scan::word(bytes, 0), length),
            second: low_bytes(scan::word(bytes, 8), length.saturating_sub(8)),
            length,
        }
    }

    #[inline(always)]
    fn slot(&self, node: Node) -> usize {
        let mixed = self.first ^ self.second.rotate_left(29) ^ ((self.length as u64) << 53) ^ (u64::from(node) << 48);
        (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 55) as usize
    }
}

/// Ones in all bytes below the first one that [`scan::quotes`] marked in `end`.
#[inline(always)]
fn below(end: u64) -> u64 {
    // The mark is the high bit of its byte: what is below the lowest mark, less seven bits of that byte itself.
    (end & end.wrapping_neg()).wrapping_sub(1) >> 7
}

/// The lowest `count` bytes of `word`.
fn low_bytes(word: u64, count: usize) -> u64 {
    match count {
        0 => 0,
        1..8 => word & (1u64 << (count << 3)).wrapping_sub(1),
        _ => word,
    }
}

struct Row {
    node: Node,
    prefix: KeyPrefix,
    key: &'static str,
    entry: Entry,
}

/// Hash slots: 2^9, as [`KeyPrefix::slot`] yields nine bits. A test holds the table to less than half of them.
const SLOTS: usize = 512;

/// All producers' paths merged: for a node and a key, what stands there.
pub struct PathTable {
    rows: Vec<Row>,
    /// For a hash slot, 1 + an index into `rows`; 0 is free.
    slots: Vec<u16>,
    nodes: Node,
}

impl PathTable {
    /// Merges the tables of `producers`.
    pub fn new(producers: &'static [Producer]) -> PathTable {
        let mut table = PathTable { rows: Vec::new(), slots: vec![0; SLOTS], nodes: 1 };
        for (index, producer) in producers.iter().enumerate() {
            let rank = u16::try_from(index).unwrap_or(u16::MAX);
            for (path, field) in producer.envelope {
                let (parent, key) = path.rsplit_once('.').unwrap_or(("", path));
                let node = table.open(parent, rank);
                table.state(node, key, *field, rank);
            }
            for base in producer.event_data {
                let node = table.open(base, rank);
                for (name, field) in EVENT_DATA {
                    table.state(node, name, *field, rank);
                }
                // The same place may hold the values without their names, or all of them as XML.
                if let Some((parent, key)) = base.rsplit_once('.').or((!base.is_empty()).then_some(("", base))) {
                    let parent = table.open(parent, rank);
                    table.state(parent, key, Field::Inserts, rank);
                }
            }
        }
        table.index();
        table
    }

    /// The node of a path of objects, made if need be.
    fn open(&mut self, path: &'static str, rank: u16) -> Node {
        let mut node = ROOT;
        for key in path.split('.').filter(|key| !key.is_empty()) {
            let fresh = self.nodes;
            let Some(entry) = self.entry(node, key, rank) else { return node };
            node = *entry.child.get_or_insert(fresh);
            if node == fresh {
                self.nodes = self.nodes.saturating_add(1);
            }
        }
        node
    }

    /// Notes what a key states, unless an earlier producer already said so.
    fn state(&mut self, node: Node, key: &'static str, field: Field, rank: u16) {
        if let Some(entry) = self.entry(node, key, rank) {
            let place = if field == Field::Inserts { &mut entry.array } else { &mut entry.scalar };
            place.get_or_insert(field);
        }
    }

    fn entry(&mut self, node: Node, key: &'static str, rank: u16) -> Option<&mut Entry> {
        let known = self.rows.iter().position(|row| row.node == node && row.key == key);
        let at = known.unwrap_or_else(|| {
            self.rows.push(Row { node, prefix: KeyPrefix::of(key), key, entry: Entry { rank, ..Entry::default() } });
            self.rows.len().saturating_sub(1)
        });
        self.rows.get_mut(at).map(|row| &mut row.entry)
    }

    fn index(&mut self) {
        for (row, number) in self.rows.iter().zip(1u16..) {
            let start = row.prefix.slot(row.node);
            let free = (0..SLOTS).map(|step| start.wrapping_add(step) % SLOTS).find(|at| self.slots.get(*at) == Some(&0));
            if let Some(slot) = free.and_then(|at| self.slots.get_mut(at)) {
                *slot = number;
            }
        }
    }

    /// What stands under a key as read from a record (`prefix`, with all its bytes in `key`).
    #[inline(always)]
    pub fn find(&self, node: Node, prefix: KeyPrefix, key: &[u8]) -> Option<&Entry> {
        let mut at = prefix.slot(node);
        loop {
            let number = usize::from(*self.slots.get(at)?);
            let row = self.rows.get(number.checked_sub(1)?)?;
            if row.prefix == prefix && row.node == node && (prefix.length <= 16 || row.key.as_bytes() == key) {
                return Some(&row.entry);
            }
            at = at.wrapping_add(1) % SLOTS;
        }
    }

    /// The same for a key whose escapes had to be resolved first.
    pub fn find_text(&self, node: Node, key: &str) -> Option<&Entry> {
        self.find(node, KeyPrefix::of(key), key.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_of_every_producer_is_found_again() {
        let table = PathTable::new(PRODUCERS);
        let mut paths: Vec<(String, Field)> = Vec::new();
        for producer in PRODUCERS {
            paths.extend(producer.envelope.iter().map(|(path, field)| (path.to_string(), *field)));
            for base in producer.event_data {
                let dot = if base.is_empty() { "" } else { "." };
                paths.extend(EVENT_DATA.iter().map(|(name, field)| (format!("{base}{dot}{name}"), *field)));
            }
        }
        for (path, field) in paths {
            let mut node = ROOT;
            let mut keys = path.split('.').peekable();
            while let Some(key) = keys.next() {
                let entry = table.find_text(node, key).unwrap_or_else(|| panic!("{path}: {key}"));
                if keys.peek().is_some() {
                    node = entry.child.unwrap_or_else(|| panic!("{path}: {key} opens nothing"));
                } else {
                    assert!(entry.scalar == Some(field) || entry.array == Some(field), "{path}: {entry:?}");
                }
            }
            assert!(path.split('.').count() <= MAX_PATH, "{path}");
        }
        assert!(table.find_text(ROOT, "Nonsense").is_none());
        assert!(table.find_text(ROOT, "ParentProcessGuic").is_none());
        // Half-empty, so that a miss (the common case) ends at once; and no more nodes than a Node can number.
        assert!(table.rows.len() < SLOTS / 2, "{} rows", table.rows.len());
        assert!(table.nodes < Node::MAX);
    }
}
