//! The producers of records, as data.
//!
//! A producer is a table of paths: where its records keep the envelope of an event (id, provider, host, time), and in which objects
//! the named values of the event (`EventData`) are. `PathTable` merges the tables of all producers, so that a record is walked once
//! whatever wrote it. A new producer is a new table and nothing else.
//!
//! If one record states a field twice, the table that comes first in [`PRODUCERS`] holds: a logged time is preferred over the time of
//! collection, and the event's own host over the collector's.
//!
//! Sources: Fluent Bit 5.1 `plugins/in_winevtlog/pack.c`; evtx 0.15 `json_output`; Vector
//! `sources/windows_event_log/parser.rs`; NXLog `im_msvistalog` and the OTRF Security-Datasets; Beats
//! `winlogbeat/sys/winevent` and the ingest pipelines `sysmon.yml` and `security.yml`; OpenTelemetry
//! `pkg/stanza/operator/input/windows/xml.go`; Wazuh 4.9 `analysisd/decoders/winevtchannel.c`; the Azure Monitor
//! tables `Event` and `WindowsEvent`; Sysmon's own manifest for the field names.

use super::place::Spelling;
use std::borrow::Cow;

/// A value that a record can state about an event. The names are those of Sysmon and of the Security events 4624, 4634 and 4672.
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
    SubjectLogonId,
    /// The hashes that [`Field::Hashes`] joins in one text, where a producer keeps them apart.
    Md5,
    Sha1,
    Sha256,
    Imphash,
    /// A string that may hold the whole event in another form: XML, JSON or text.
    Embedded,
    /// `EventData` alone as XML inside a string.
    DataXml,
    /// The event as Windows renders it for people. It may also hold the whole event, because some relays put what they read under
    /// the same key.
    Message,
    /// The event as Windows renders it for people, under Fluentd's name for it. That is also the name of a value of an event, which
    /// whoever made the program chooses, so it is used last.
    Description,
    /// The event's values as an array: without names, or as objects with a name and a value.
    Inserts,
    /// The log records of an OTLP request.
    Otlp,
}

impl Field {
    /// How many fields there are.
    pub const COUNT: usize = Field::Otlp as usize + 1;

    /// The bit of this field in a set of fields.
    pub const fn bit(self) -> u64 {
        1 << self as u64
    }

    /// The field that a name inside `EventData` states.
    pub fn of_event_data(name: &str) -> Option<Field> {
        EVENT_DATA
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, field)| *field)
    }
}

/// Fields with the names of their enum variants.
macro_rules! named_as_declared {
    ($($field:ident)*) => { &[$((stringify!($field), Field::$field)),*] };
}

/// The names inside `EventData` as Windows writes them (Sysmon manifest, schemas 3.2 to 4.91; Security-Auditing manifest, events 4624,
/// 4634 and 4672).
pub static EVENT_DATA: &[(&str, Field)] = named_as_declared![
    UtcTime ProcessGuid Image CommandLine User LogonId OriginalFileName Hashes
    ParentProcessGuid ParentImage ParentCommandLine
    Protocol Initiated SourceIp SourcePort DestinationIp DestinationPort
    TargetFilename TargetObject Details PipeName
    LogonType IpAddress IpPort TargetUserName TargetDomainName TargetLogonId WorkstationName SubjectLogonId
];

/// How a producer writes the names and values inside `EventData`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// As Windows does.
    Windows,
    /// As Wazuh does: it puts the first letter of a name in lower case, doubles backslashes and keeps XML entities.
    Wazuh,
}

impl Naming {
    /// What it makes of one of the names in [`EVENT_DATA`].
    pub fn name(self, windows: &str) -> Cow<'_, str> {
        match self {
            Naming::Windows => Cow::Borrowed(windows),
            Naming::Wazuh => {
                let (first, rest) = windows.split_at(1);
                Cow::Owned([&first.to_ascii_lowercase(), rest].concat())
            }
        }
    }

    /// How it writes text.
    pub(super) fn spelling(self) -> Spelling {
        match self {
            Naming::Windows => Spelling::String,
            Naming::Wazuh => Spelling::Doubled,
        }
    }
}

/// Where one producer puts things. Paths are keys joined by dots from the root of the record.
pub struct Producer {
    /// Name, for people.
    pub name: &'static str,
    /// The envelope, and values that have a path of their own.
    pub envelope: &'static [(&'static str, Field)],
    /// Objects whose members are the values of the event; the empty path is the root itself.
    pub event_data: &'static [&'static str],
    /// How those members are written.
    pub naming: Naming,
}

/// All producers. On a conflict inside one record the earlier one holds, so those whose only time may be the collector's come last.
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
            // With render_event_as_text. in_tail puts each line there, too.
            ("log", Field::Embedded),
        ],
        event_data: &["EventData"],
        naming: Naming::Windows,
    },
    Producer {
        name: "Fluent Bit in_winlog",
        envelope: &[("ComputerName", Field::Computer)],
        event_data: &[],
        naming: Naming::Windows,
    },
    // Its `EventData` is an array of values.
    Producer {
        name: "Fluentd windows_eventlog2",
        envelope: &[("Description", Field::Description)],
        event_data: &["EventData"],
        naming: Naming::Windows,
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
        naming: Naming::Windows,
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
        naming: Naming::Windows,
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
        naming: Naming::Windows,
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
        naming: Naming::Wazuh,
    },
    // Before Winlogbeat: NXLog's own EventTime is the logged time, an @timestamp next to it is the collector's.
    Producer {
        name: "NXLog im_msvistalog",
        envelope: &[
            ("SourceName", Field::Provider),
            ("Hostname", Field::Computer),
            ("EventTime", Field::LoggedTime),
            ("RecordNumber", Field::RecordId),
        ],
        event_data: &[""],
        naming: Naming::Windows,
    },
    Producer {
        name: "Sentinel WindowsEvent",
        envelope: &[
            ("Provider", Field::Provider),
            ("EventRecordId", Field::RecordId),
            ("RawEventData", Field::Embedded),
        ],
        event_data: &["EventData"],
        naming: Naming::Windows,
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
        naming: Naming::Windows,
    },
    Producer {
        name: "Hayabusa",
        envelope: &[
            ("Timestamp", Field::LoggedTime),
            ("RecordID", Field::RecordId),
        ],
        event_data: &["AllFieldInfo"],
        naming: Naming::Windows,
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
        naming: Naming::Windows,
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
        naming: Naming::Windows,
    },
    // What the ingest pipelines make of Winlogbeat's records; they remove the values that they move from event_data.
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
        naming: Naming::Windows,
    },
    // A relay's `timestamp` is when it read the record, so any other time is better.
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
        naming: Naming::Windows,
    },
    Producer {
        name: "Splunk universal forwarder and Cribl",
        envelope: &[("_raw", Field::Embedded)],
        event_data: &[],
        naming: Naming::Windows,
    },
];

/// Objects in which relays and exports keep a whole record: the paths of any producer may begin there.
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

/// Next to the `_source` of a hit: a flattened copy of its values, which is trusted less than they are.
pub const COPY: &str = "fields";

/// Most objects that a path enters, wrappers included. The walk keeps track of that many and skips deeper ones.
pub const MAX_PATH: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_wazuh_are_those_of_windows_with_a_lower_first_letter() {
        assert_eq!(Naming::Wazuh.name("UtcTime"), "utcTime");
        assert_eq!(Naming::Wazuh.name("User"), "user");
        for (name, field) in EVENT_DATA {
            assert!(name.starts_with(|c: char| c.is_ascii_uppercase()), "{name}");
            assert_eq!(Field::of_event_data(name), Some(*field));
        }
    }
}
