//! The canonical view of an event: what kind it is, of which host, when; its fields are read on demand.

use crate::normalize::{host, time};
use crate::record::Fields;
use crate::record::shapes::Field;
use std::borrow::Cow;
use time::Timestamp;

/// The events that chains are made of: Sysmon's, and the Security channel's logon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Event 1.
    ProcessCreate,
    /// Event 3.
    NetworkConnect,
    /// Event 11.
    FileCreate,
    /// Event 13.
    RegistryValueSet,
    /// Event 17.
    PipeCreated,
    /// Event 18.
    PipeConnected,
    /// Security event 4624.
    Logon,
}

impl Kind {
    /// The kind of an event id; `None` for ids that no chain wants.
    pub fn of(event_id: u32) -> Option<Kind> {
        Some(match event_id {
            1 => Kind::ProcessCreate,
            3 => Kind::NetworkConnect,
            11 => Kind::FileCreate,
            13 => Kind::RegistryValueSet,
            17 => Kind::PipeCreated,
            18 => Kind::PipeConnected,
            4624 => Kind::Logon,
            _ => return None,
        })
    }
}

/// An event of a host.
pub struct Event<'a> {
    /// What happened.
    pub kind: Kind,
    /// The host's key (see [`host::key`]).
    pub host: String,
    /// The host's name as it was written.
    pub computer: Cow<'a, str>,
    /// When it was logged.
    pub time: Timestamp,
    /// Its number in its channel on the host.
    pub record_id: Option<u64>,
    /// Its fields.
    pub fields: &'a Fields<'a>,
}

/// Why a record is no event of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// Its provider is not the one whose event of that id is meant: Sysmon, or the Security channel's for logons.
    WrongProvider,
    /// It names no host.
    NoHost,
    /// It has no time that can be used.
    NoTime,
}

impl<'a> Event<'a> {
    /// Builds the view. `shipper_time` is what the shipper passed beside the record, if anything.
    ///
    /// The clock is the logged time, else the shipper's, else `UtcTime`; but never the `UtcTime` of event 3, which on
    /// some hosts is hours off (measured on the OTRF LSASS campaign logs: up to 5.8 days).
    pub fn new(fields: &'a Fields<'a>, shipper_time: Option<Timestamp>) -> Result<Event<'a>, Reject> {
        let kind = fields.number(Field::EventId).and_then(Kind::of).ok_or(Reject::WrongProvider)?;
        if !is_provided(kind, fields) {
            return Err(Reject::WrongProvider);
        }
        let computer = fields.text(Field::Computer).ok_or(Reject::NoHost)?;
        let host = host::key(&computer).ok_or(Reject::NoHost)?;
        let logged = fields.text(Field::LoggedTime).and_then(|text| time::parse(&text));
        let utc = || {
            let text = fields.text(Field::UtcTime).filter(|_| kind != Kind::NetworkConnect)?;
            time::parse(&text).map(|time| Timestamp { zoned: true, ..time })
        };
        let time = logged.or(shipper_time).or_else(utc).ok_or(Reject::NoTime)?;
        Ok(Event { kind, host, computer, time, record_id: fields.long(Field::RecordId), fields })
    }
}

/// Sysmon's provider, and how its channel begins.
const SYSMON: &str = "Microsoft-Windows-Sysmon";

/// The provider of logons.
const SECURITY: &str = "Microsoft-Windows-Security-Auditing";

/// Ids 1, 3, 11, … exist in many channels: the provider must be the right one, or, where a producer leaves it out, the channel.
fn is_provided(kind: Kind, fields: &Fields<'_>) -> bool {
    // Mostly it is written as it is registered. Asked for in each arm, because a text known beforehand is compared in words.
    let (provider, channel, as_registered) = match kind {
        Kind::Logon => (SECURITY, "Security", fields.is(Field::Provider, SECURITY)),
        _ => (SYSMON, SYSMON, fields.is(Field::Provider, SYSMON)),
    };
    if as_registered {
        return true;
    }
    if let Some(stated) = fields.text(Field::Provider) {
        return stated.eq_ignore_ascii_case(provider);
    }
    match fields.text(Field::Channel) {
        // Hayabusa abbreviates Sysmon's channel and names no provider.
        Some(stated) if stated.eq_ignore_ascii_case("Sysmon") => kind != Kind::Logon,
        Some(stated) => stated.get(..channel.len()).is_some_and(|start| start.eq_ignore_ascii_case(channel)),
        None => false,
    }
}
