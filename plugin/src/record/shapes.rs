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
//! `winlogbeat/sys/winevent` and the ingest pipelines `sysmon.yml` and `security.yml`; OpenTelemetry
//! `pkg/stanza/operator/input/windows/xml.go`; Wazuh 4.9 `analysisd/decoders/winevtchannel.c`; the Azure Monitor
//! tables `Event` and `WindowsEvent`; Sysmon's own manifest for the field names.

use super::{Kind, scan};

/// A fact about an event that a record can state. The names are those of Sysmon and of Security event 4624.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)] // the names are those of the manifests and the Windows event envelope
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
    /// The hashes that [`Field::Hashes`] joins in one text, where a producer keeps them apart.
    Md5,
    Sha1,
    Sha256,
    Imphash,
    /// A string that may hold the whole event in another form: XML, JSON or text.
    Embedded,
    /// `EventData` alone as XML inside a string.
    DataXml,
    /// The event as Windows renders it for people. It may hold the whole event, too, where a relay puts what it read
    /// under the same key.
    Message,
    /// The same under a name that is also one of an event's values, which whoever made the program may write: Fluentd's.
    Description,
    /// The event's values as an array, without names or as objects of one member each.
    Inserts,
    /// The log records of an OTLP request.
    Otlp,
}

impl Field {
    /// How many fields there are.
    pub const COUNT: usize = Field::Otlp as usize + 1;

    /// Its bit in a set of fields.
    pub const fn bit(self) -> u64 {
        1 << self as u64
    }

    /// The field a name inside `EventData` stands for.
    pub fn of_event_data(name: &str) -> Option<Field> {
        WINDOWS
            .names
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, field)| *field)
    }
}

/// How a producer names and writes the values inside `EventData`.
pub struct Naming {
    /// Its names.
    pub names: &'static [(&'static str, Field)],
    /// How it writes text.
    text: Kind,
}

/// As Windows does (Sysmon manifest, schemas 3.2 to 4.91; Security-Auditing manifest, event 4624).
pub static WINDOWS: Naming = Naming {
    text: Kind::String,
    names: &[
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
        ("LogonType", Field::LogonType),
        ("IpAddress", Field::IpAddress),
        ("IpPort", Field::IpPort),
        ("TargetUserName", Field::TargetUserName),
        ("TargetDomainName", Field::TargetDomainName),
        ("TargetLogonId", Field::TargetLogonId),
        ("WorkstationName", Field::WorkstationName),
    ],
};

/// As Wazuh does: it lowers the first letter, doubles backslashes and leaves XML entities as they are.
pub static WAZUH: Naming = Naming {
    text: Kind::Doubled,
    names: &[
        ("utcTime", Field::UtcTime),
        ("processGuid", Field::ProcessGuid),
        ("image", Field::Image),
        ("commandLine", Field::CommandLine),
        ("user", Field::User),
        ("logonId", Field::LogonId),
        ("originalFileName", Field::OriginalFileName),
        ("hashes", Field::Hashes),
        ("parentProcessGuid", Field::ParentProcessGuid),
        ("parentImage", Field::ParentImage),
        ("parentCommandLine", Field::ParentCommandLine),
        ("protocol", Field::Protocol),
        ("initiated", Field::Initiated),
        ("sourceIp", Field::SourceIp),
        ("sourcePort", Field::SourcePort),
        ("destinationIp", Field::DestinationIp),
        ("destinationPort", Field::DestinationPort),
        ("targetFilename", Field::TargetFilename),
        ("targetObject", Field::TargetObject),
        ("details", Field::Details),
        ("pipeName", Field::PipeName),
        ("logonType", Field::LogonType),
        ("ipAddress", Field::IpAddress),
        ("ipPort", Field::IpPort),
        ("targetUserName", Field::TargetUserName),
        ("targetDomainName", Field::TargetDomainName),
        ("targetLogonId", Field::TargetLogonId),
        ("workstationName", Field::WorkstationName),
    ],
};

/// Where one producer puts things. Paths are keys joined by dots from the root of the record.
pub struct Producer {
    /// Name, for people.
    pub name: &'static str,
    /// The envelope, and values that have a path of their own.
    pub envelope: &'static [(&'static str, Field)],
    /// Objects whose members are the values of the event; the empty path is the root itself.
    pub event_data: &'static [&'static str],
    /// What those members are called.
    pub naming: &'static Naming,
}

/// All producers; on a conflict inside one record the earlier one is believed. Those whose only time may be the
/// collector's stand last.
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
            ("System", Field::Embedded),
            ("Message", Field::Message),
            // render_event_as_text; in_tail puts each line there.
            ("log", Field::Embedded),
        ],
        event_data: &["EventData"],
        naming: &WINDOWS,
    },
    Producer {
        name: "Fluent Bit in_winlog",
        envelope: &[("ComputerName", Field::Computer)],
        event_data: &[],
        naming: &WINDOWS,
    },
    // Its `EventData` is an array of values.
    Producer {
        name: "Fluentd windows_eventlog2",
        envelope: &[("Description", Field::Description)],
        event_data: &["EventData"],
        naming: &WINDOWS,
    },
    Producer {
        name: "evtx_dump, Chainsaw and the evtx crate",
        envelope: &[
            ("Event.System.EventID", Field::EventId),
            ("Event.System.EventID.#text", Field::EventId),
            ("Event.System.Provider.#attributes.Name", Field::Provider),
            ("Event.System.Provider_attributes.Name", Field::Provider),
            ("Event.System.Provider.Name", Field::Provider),
            ("Event.System.Channel", Field::Channel),
            ("Event.System.Computer", Field::Computer),
            (
                "Event.System.TimeCreated.#attributes.SystemTime",
                Field::LoggedTime,
            ),
            (
                "Event.System.TimeCreated_attributes.SystemTime",
                Field::LoggedTime,
            ),
            ("Event.System.TimeCreated.SystemTime", Field::LoggedTime),
            ("Event.EventData.Data", Field::Inserts),
            ("Event.System.EventRecordID", Field::RecordId),
        ],
        event_data: &["Event.EventData"],
        naming: &WINDOWS,
    },
    Producer {
        name: "Tenzir parse_winlog",
        envelope: &[
            ("System.EventID", Field::EventId),
            ("System.Provider.Name", Field::Provider),
            ("System.Channel", Field::Channel),
            ("System.Computer", Field::Computer),
            ("System.TimeCreated.SystemTime", Field::LoggedTime),
            ("System.EventRecordID", Field::RecordId),
        ],
        event_data: &["EventData"],
        naming: &WINDOWS,
    },
    Producer {
        name: "OpenTelemetry windowseventlog",
        envelope: &[
            ("event_id.id", Field::EventId),
            ("provider.name", Field::Provider),
            ("channel", Field::Channel),
            ("computer", Field::Computer),
            ("system_time", Field::LoggedTime),
            ("record_id", Field::RecordId),
            ("event_data.data", Field::Inserts),
            ("body", Field::Embedded),
            ("resourceLogs", Field::Otlp),
        ],
        event_data: &["event_data"],
        naming: &WINDOWS,
    },
    Producer {
        name: "Wazuh 4",
        envelope: &[
            ("win.system.eventID", Field::EventId),
            ("win.system.providerName", Field::Provider),
            ("win.system.channel", Field::Channel),
            ("win.system.computer", Field::Computer),
            ("win.system.systemTime", Field::LoggedTime),
            ("win.system.eventRecordID", Field::RecordId),
        ],
        event_data: &["win.eventdata"],
        naming: &WAZUH,
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
        naming: &WINDOWS,
    },
    Producer {
        name: "Sentinel WindowsEvent",
        envelope: &[
            ("Provider", Field::Provider),
            ("EventRecordId", Field::RecordId),
            ("RawEventData", Field::Embedded),
        ],
        event_data: &["EventData"],
        naming: &WINDOWS,
    },
    // Its `EventData` is XML in a string.
    Producer {
        name: "Sentinel Event",
        envelope: &[
            ("Source", Field::Provider),
            ("EventLog", Field::Channel),
            ("TimeGenerated", Field::LoggedTime),
        ],
        event_data: &["EventData"],
        naming: &WINDOWS,
    },
    Producer {
        name: "Hayabusa",
        envelope: &[
            ("Timestamp", Field::LoggedTime),
            ("RecordID", Field::RecordId),
        ],
        event_data: &["AllFieldInfo"],
        naming: &WINDOWS,
    },
    Producer {
        name: "Winlogbeat 5 and 6",
        envelope: &[
            ("event_id", Field::EventId),
            ("source_name", Field::Provider),
            ("log_name", Field::Channel),
            ("computer_name", Field::Computer),
            ("record_number", Field::RecordId),
        ],
        event_data: &["event_data"],
        naming: &WINDOWS,
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
            ("message", Field::Message),
        ],
        event_data: &["winlog.event_data"],
        naming: &WINDOWS,
    },
    // What the ingest pipelines make of Winlogbeat's records; the values that they move are gone from event_data.
    Producer {
        name: "Elastic Common Schema",
        envelope: &[
            ("process.executable", Field::Image),
            ("process.entity_id", Field::ProcessGuid),
            ("process.command_line", Field::CommandLine),
            ("process.pe.original_file_name", Field::OriginalFileName),
            ("process.hash.md5", Field::Md5),
            ("process.hash.sha1", Field::Sha1),
            ("process.hash.sha256", Field::Sha256),
            ("process.pe.imphash", Field::Imphash),
            ("process.parent.entity_id", Field::ParentProcessGuid),
            ("process.parent.executable", Field::ParentImage),
            ("process.parent.command_line", Field::ParentCommandLine),
            ("file.path", Field::TargetFilename),
            ("file.name", Field::PipeName),
            ("registry.path", Field::TargetObject),
            ("registry.data.strings", Field::Details),
            ("network.transport", Field::Protocol),
            ("network.direction", Field::Initiated),
            ("source.ip", Field::SourceIp),
            ("source.port", Field::SourcePort),
            ("destination.ip", Field::DestinationIp),
            ("destination.port", Field::DestinationPort),
            ("user.name", Field::TargetUserName),
            ("user.domain", Field::TargetDomainName),
            ("winlog.logon.id", Field::TargetLogonId),
            ("event.original", Field::Embedded),
            ("host.name", Field::Computer),
        ],
        event_data: &[],
        naming: &WINDOWS,
    },
    // A relay's `timestamp` is when it read the record, so that any other time is better.
    Producer {
        name: "Vector windows_event_log",
        envelope: &[
            ("event_id", Field::EventId),
            ("provider_name", Field::Provider),
            ("channel", Field::Channel),
            ("computer", Field::Computer),
            ("record_id", Field::RecordId),
            ("timestamp", Field::LoggedTime),
            ("xml", Field::Embedded),
        ],
        event_data: &["event_data"],
        naming: &WINDOWS,
    },
    Producer {
        name: "Splunk universal forwarder and Cribl",
        envelope: &[("_raw", Field::Embedded)],
        event_data: &[],
        naming: &WINDOWS,
    },
];

/// Objects in which relays and exports keep a whole record: any producer's paths may start there.
pub const WRAPPERS: &[&str] = &[
    // Wazuh's alerts.
    "data",
    // Vector's opentelemetry source.
    "message",
    // Fluent Bit's in_opentelemetry with logs_body_key, and other OpenTelemetry exports.
    "body",
    "log",
    // Chainsaw's hunts.
    "document.data",
    // Falcon LogScale's parser package.
    "Vendor",
    // Hits of Elasticsearch and OpenSearch.
    "_source",
    COPY,
];

/// Beside the `_source` of a hit: the same once more, flattened.
const COPY: &str = "fields";

/// A place in a record's tree of objects.
pub type Node = u16;

/// The root of a record.
pub const ROOT: Node = 0;

/// Longest path of any producer inside its wrappers, in objects entered; the walk keeps that many and passes over deeper ones.
pub const MAX_PATH: usize = 8;

/// What is known about a key at a node.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entry {
    /// Field that a scalar here states, or an array of one scalar.
    pub scalar: Option<Field>,
    /// Field that an array here states.
    pub array: Option<Field>,
    /// Node that an object here opens.
    pub child: Option<Node>,
    /// The smaller, the more it is believed.
    pub rank: u16,
    /// What is added to the ranks of everything inside the object that opens here.
    pub inner_rank: u16,
    /// How strings here are written.
    pub text: Kind,
}

/// What is known about any other key.
pub const NO_ENTRY: Entry = Entry {
    scalar: None,
    array: None,
    child: None,
    rank: 0,
    inner_rank: 0,
    text: Kind::Absent,
};

/// Most bytes of a key that a [`KeyPrefix`] holds.
pub const PREFIX: usize = 24;

/// The first 24 bytes of a key as three words, and its length: all of it for nearly all keys.
///
/// The last word that is used is shifted up until its last byte is the highest, which takes the fewest steps when a key is read.
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
        // Each difference is a bit, so that there is one branch; `mixed` follows from the others.
        (self.first ^ other.first)
            | (self.second ^ other.second)
            | (self.third ^ other.third)
            | (self.length ^ other.length) as u64
            == 0
    }
}

impl KeyPrefix {
    /// Reads the key that begins with these bytes. `None` if it is longer than 23. Where there are bytes above 0x7f, the key may
    /// seem to end too early: the caller sees to it that a quote stands behind it; and where there is an escape, that it
    /// [may not be](KeyPrefix::may_be_another) the key itself.
    #[inline(always)]
    pub fn read(bytes: &[u8; PREFIX]) -> Option<KeyPrefix> {
        let ([a, b, c], _) = bytes.as_chunks::<8>() else {
            return None;
        };
        let first = u64::from_le_bytes(*a);
        let end = scan::likely_quotes(first);
        if end != 0 {
            let first = up_to(first, end);
            return Some(KeyPrefix {
                first,
                second: 0,
                third: 0,
                length: scan::first_byte(end),
                mixed: first,
            });
        }
        let second = u64::from_le_bytes(*b);
        let end = scan::likely_quotes(second);
        if end != 0 {
            let second = up_to(second, end);
            return Some(KeyPrefix {
                first,
                second,
                third: 0,
                length: scan::first_byte(end).wrapping_add(8),
                mixed: mix(first, second),
            });
        }
        let third = u64::from_le_bytes(*c);
        let end = scan::likely_quotes(third);
        if end == 0 {
            return None;
        }
        let third = up_to(third, end);
        let length = scan::first_byte(end).wrapping_add(16);
        Some(KeyPrefix {
            first,
            second,
            third,
            length,
            mixed: mix(mix(first, second), third),
        })
    }

    /// Whether these may not be the bytes of a key of the table and yet mean one: they have an escape, or are a path of several
    /// keys that is too long to be in it. Such a key needs [`PathTable::find_key`].
    #[inline(always)]
    pub fn may_be_another(&self) -> bool {
        // Words that are not used are 0. Together, because a branch costs as much as two steps.
        scan::may_have_backslash(self.first, self.second)
            || self.length >= SHORT
                && (scan::may_have_backslash(self.third, 0)
                    || scan::has_dot(self.first)
                    || scan::has_dot(self.second))
    }

    fn of(key: &[u8]) -> KeyPrefix {
        let word = |at: usize| {
            let unused = 8usize.saturating_sub(key.len().saturating_sub(at));
            scan::word(key, at)
                .checked_shl((unused as u32).wrapping_mul(8))
                .unwrap_or(0)
        };
        let [first, second, third] = [word(0), word(8), word(16)];
        // As in `read`: what was never looked at does not count.
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

    /// Of the key, in bytes.
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
    // The mark is the high bit of its byte: of the 64 bits, 7 and those below it are too many. In two steps, because all may be.
    word.wrapping_shl(70u32.wrapping_sub(end.trailing_zeros())) << 1
}

/// Paths shorter than this are found by [`KeyPrefix::read`].
const SHORT: usize = 16;

/// Rank that a copy adds: more than the table has rows.
const COPIED: u16 = SLOTS as u16;

struct Row {
    node: Node,
    prefix: KeyPrefix,
    key: &'static str,
    entry: Entry,
}

/// Hash slots: 2^11, as [`KeyPrefix::slot`] yields eleven bits. A test holds the table to less than a quarter of them.
const SLOTS: usize = 2048;

/// All producers' paths merged: for a node and a key, what stands there.
pub struct PathTable {
    rows: Vec<Row>,
    /// For a hash slot, 1 + an index into `rows`; 0 is free.
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
        // All objects with values of one naming are the same node: they differ in nothing but their way there.
        let mut data: Vec<(&'static Naming, Node)> = Vec::new();
        for producer in producers {
            for base in producer.event_data {
                if base.is_empty() {
                    table.name(ROOT, producer.naming);
                    continue;
                }
                let node = match data
                    .iter()
                    .find(|(naming, _)| std::ptr::eq(*naming, producer.naming))
                {
                    Some((_, node)) => *node,
                    None => {
                        let node = table.nodes;
                        table.nodes = table.nodes.saturating_add(1);
                        table.name(node, producer.naming);
                        data.push((producer.naming, node));
                        node
                    }
                };
                let (parent, key) = base.rsplit_once('.').unwrap_or(("", base));
                let parent = table.open(parent);
                if let Some(entry) = table.entry(parent, key) {
                    entry.child.get_or_insert(node);
                }
                // The same place may hold the values without their names, or all of them as XML.
                table.state(parent, key, Field::Inserts);
                table.state(parent, key, Field::DataXml);
            }
            for (path, field) in producer.envelope {
                let (parent, key) = path.rsplit_once('.').unwrap_or(("", path));
                let node = table.open(parent);
                table.state(node, key, *field);
                // Some pipelines flatten objects. A long dotted key is taken apart when it is met.
                if path.len() < SHORT && !parent.is_empty() {
                    table.state(ROOT, path, *field);
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

    /// The node of a path of objects, made if need be.
    fn open(&mut self, path: &'static str) -> Node {
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

    /// Notes what the values inside an object are called.
    fn name(&mut self, node: Node, naming: &'static Naming) {
        for (name, field) in naming.names {
            self.state(node, name, *field);
            if let Some(entry) = self.entry(node, name) {
                entry.text = naming.text;
            }
        }
    }

    /// Notes what a key states, unless an earlier producer already said so.
    fn state(&mut self, node: Node, key: &'static str, field: Field) {
        if let Some(entry) = self.entry(node, key) {
            let place = if matches!(field, Field::Inserts | Field::Otlp) {
                &mut entry.array
            } else {
                &mut entry.scalar
            };
            place.get_or_insert(field);
        }
    }

    fn entry(&mut self, node: Node, key: &'static str) -> Option<&mut Entry> {
        let known = self
            .rows
            .iter()
            .position(|row| row.node == node && row.key == key);
        let at = known.unwrap_or_else(|| {
            let number = self.rows.len();
            let entry = Entry {
                rank: u16::try_from(number).unwrap_or(u16::MAX),
                text: Kind::String,
                ..Entry::default()
            };
            self.rows.push(Row {
                node,
                prefix: KeyPrefix::of(key.as_bytes()),
                key,
                entry,
            });
            number
        });
        self.rows.get_mut(at).map(|row| &mut row.entry)
    }

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

    /// What stands under a key: `prefix`, with all its bytes in `key` if it is longer.
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

    /// The same for any key without escapes.
    pub fn find_key(&self, node: Node, key: &[u8]) -> Option<&Entry> {
        self.find(node, KeyPrefix::of(key), key)
    }

    /// The same for text.
    pub fn find_text(&self, node: Node, key: &str) -> Option<&Entry> {
        self.find_key(node, key.as_bytes())
    }

    /// What stands under a key that is several keys joined by dots.
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
                    producer
                        .naming
                        .names
                        .iter()
                        .map(|(name, field)| (format!("{base}{dot}{name}"), *field)),
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
        // Mostly empty, so that a miss (the common case) ends at once; and no more nodes than a Node can number.
        assert!(table.rows.len() < SLOTS / 4, "{} rows", table.rows.len());
        assert!(table.nodes < Node::MAX);
    }
}
