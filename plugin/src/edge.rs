//! Edge filtering: which records do not leave, where `alert.pass` says that not all do.
//!
//! It fails open. Only a record that is recognized as a Windows event is dropped; one that could not be read, that is of another
//! kind, or of which only a part was read leaves.

use crate::event::{HostNames, time_of};
use crate::hosts::Host;
use crate::normalize::time::Timestamp;
use crate::record::{Field, Fields, Prefilter};
use crate::settings::Pass;

/// Reads every event, wanted or not.
pub struct Everything;

impl Prefilter for Everything {
    fn wants(&self, _event_id: u32) -> bool {
        true
    }

    fn fields(&self, _event_id: u32) -> u64 {
        0
    }

    fn rejects(&self, _event_id: u32, _so_far: &Fields<'_>) -> bool {
        false
    }
}

/// Whether a record, which is not evidence or has no alert, leaves although `pass` is not [`Pass::All`]. `host` finds a host by its
/// key.
pub fn leaves<'h>(
    pass: Pass,
    fields: &Fields<'_>,
    shipper_time: Option<Timestamp>,
    names: &HostNames,
    host: impl FnOnce(&str) -> Option<&'h Host>,
) -> bool {
    let is_given = |field| fields.text(field).is_some_and(|text| !text.is_empty());
    let Some(id) = fields.event_id() else {
        return true;
    };
    // Other programs have event ids, too. A name of a host beside the provider or the channel is what the Windows event log has.
    let is_windows_event = is_given(Field::Provider) || is_given(Field::Channel);
    let Some(name) = names.of_whole(fields).filter(|_| is_windows_event) else {
        return true;
    };
    if fields.is_truncated.get() {
        return true;
    }
    if pass != Pass::Evidence {
        return false;
    }
    let Some(host) = host(&name.key) else {
        return false;
    };
    let Some(until) = host.passes_until else {
        return false;
    };
    let time = time_of(fields, id, shipper_time);
    time.is_none_or(|time| time.in_zone(host.ahead).ms <= until)
}
