//! What the tests of this folder share.

use super::{Context, Evidence, Fact, Needs, OwnAddresses, Reading, TrackedProcesses, provider_of};
use crate::event::{Event, HostNames};
use crate::record::testing::All;
use crate::record::{Reader, read};
use crate::settings::{ConnectionSettings, Patterns};

pub const SYSMON: &str = "Microsoft-Windows-Sysmon";
pub const SECURITY: &str = "Microsoft-Windows-Security-Auditing";

/// Needs like those of all techniques with the default policy.
pub fn needs() -> Needs {
    Needs {
        connection: ConnectionSettings::default(),
        dcom_servers: vec!["mmc.exe".to_owned(), "explorer.exe".to_owned()],
        any_parent: false,
        pipes: ["psexesvc*", "remcom_*", "*-stdin", "*-stdout", "*-stderr"]
            .map(str::to_owned)
            .to_vec(),
        service_commands: Patterns::default(),
        com_commands: Patterns::default(),
    }
}

/// Calls `look` with the event that a record is.
pub fn with_event(record: &str, look: impl FnOnce(&Event<'_>)) {
    let fields = read(record.as_bytes(), &mut Reader::default(), &All)
        .expect("it is JSON")
        .expect("it has an id");
    let id = fields.event_id().expect("it has an id");
    let provider = provider_of(id).expect("it is an event that is read");
    let names = HostNames::default();
    let event = Event::new(&fields, id, provider, None, &names);
    look(&event.unwrap_or_else(|reject| panic!("{reject:?}: {record}")));
}

/// The fact that an event is, for a host of which nothing is known.
pub fn fact_of(event: &Event<'_>) -> Option<Fact> {
    let context = Context {
        own: &OwnAddresses::default(),
        tracked: &TrackedProcesses::default(),
        needs: &needs(),
    };
    match Evidence::read(event, &context) {
        Reading::Evidence(evidence) => Some(evidence.fact),
        Reading::Irrelevant | Reading::Incomplete => None,
    }
}
