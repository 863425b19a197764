//! The canonical view of an event: its id, its host and its time; its fields are read on demand.

use crate::json::bytes;
use crate::normalize::{host, time};
use crate::record::Field;
use crate::record::{Fields, MAX_TEXT};
use std::cell::Cell;
use std::rc::Rc;
use time::Timestamp;

/// The providers whose events are read. Event ids are only unique within a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// Sysmon.
    Sysmon,
    /// The provider of the Security channel.
    Security,
}

/// The name of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName {
    /// The host's key (see [`host::key`]).
    pub key: Box<str>,
    /// The name as it was logged.
    pub computer: Rc<str>,
    /// The name as it stood in the record, if it needs no decoding. A name that does is decoded each time, so that invalid UTF-8
    /// in it is counted each time.
    raw: Option<Box<[u8]>>,
}

/// Finds the host of an event. Remembers some hosts that were met, because a log shipper sees the same few again and again.
#[derive(Default)]
pub struct HostNames {
    /// Each at the place that a hash of its name selects.
    met: [Cell<Option<Rc<HostName>>>; PLACES],
    /// The host of records that name none.
    default: Option<Rc<HostName>>,
}

/// How many hosts are remembered. A prime, because hashes of similar names differ in few of their bits.
const PLACES: usize = 17;

impl HostNames {
    /// Knows no host yet. `default` is the name of the host of records that name none; empty if there is no such host.
    pub fn new(default: &str) -> HostNames {
        let default = host::key(default).map(|key| {
            Rc::new(HostName {
                key: key.into(),
                computer: default.into(),
                raw: None,
            })
        });
        HostNames {
            default,
            ..HostNames::default()
        }
    }

    /// The host of a record that was read to its end: the one that it names, else the default.
    pub fn of_whole(&self, fields: &Fields<'_>) -> Option<Rc<HostName>> {
        self.of(fields).or_else(|| self.default.clone())
    }

    /// The host that the fields name; `None` if they name none.
    pub fn of(&self, fields: &Fields<'_>) -> Option<Rc<HostName>> {
        let raw = fields
            .raw_string(Field::Computer)
            .filter(|raw| raw.len() <= MAX_TEXT);
        let place = raw.and_then(|raw| {
            self.met
                .get(bytes::hash(raw).checked_rem(PLACES as u64)? as usize)
        });
        let met = place.and_then(Cell::take);
        let known = met.filter(|known| {
            raw.zip(known.raw.as_deref())
                .is_some_and(|(raw, known)| bytes::equal(raw, known))
        });
        let name = match known {
            Some(known) => known,
            None => Rc::new(HostName::read(fields, raw)?),
        };
        if let Some(place) = place.filter(|_| name.raw.is_some()) {
            place.set(Some(Rc::clone(&name)));
        }
        Some(name)
    }
}

impl HostName {
    #[inline(never)]
    fn read(fields: &Fields<'_>, raw: Option<&[u8]>) -> Option<HostName> {
        let computer = fields.text(Field::Computer)?;
        let raw = raw.filter(|raw| bytes::is_plain(raw)).map(Into::into);
        Some(HostName {
            key: host::key(&computer)?.into(),
            computer: computer.into(),
            raw,
        })
    }
}

/// An event of a host.
pub struct Event<'a> {
    /// Its id, which [`provider_of`](crate::evidence::provider_of) knows.
    pub id: u32,
    /// The host that it happened on.
    pub host: Rc<HostName>,
    /// When it was logged. In UTC if the record shows how far the host's zone is ahead of it.
    pub time: Timestamp,
    /// How far the host's zone is ahead of UTC, in milliseconds, where the logged time does not name its zone and the event has another
    /// time that is UTC.
    pub ahead: Option<i64>,
    /// Its number in its channel on the host.
    pub record_id: Option<u64>,
    /// Its fields.
    pub fields: &'a Fields<'a>,
}

/// Why a record is not an event that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// Its provider is not the one whose events of that id are read.
    WrongProvider,
    /// It names no host.
    NoHost,
    /// It has no time that can be used.
    NoTime,
}

/// Sysmon's event id of a connection. The `UtcTime` of these events cannot be used.
pub const NETWORK_CONNECT: u32 = 3;

impl<'a> Event<'a> {
    /// Builds the view of an event of `provider`. `shipper_time` is the time that the shipper passed with the record, if any.
    pub fn new(
        fields: &'a Fields<'a>,
        id: u32,
        provider: Provider,
        shipper_time: Option<Timestamp>,
        hosts: &HostNames,
    ) -> Result<Event<'a>, Reject> {
        if !is_of(provider, fields) {
            return Err(Reject::WrongProvider);
        }
        let host = hosts.of_whole(fields).ok_or(Reject::NoHost)?;
        let time = time_of(fields, id, shipper_time).ok_or(Reject::NoTime)?;
        let ahead = match time.zoned {
            true => None,
            false => utc_time(fields, id).and_then(|utc| time.ahead_of(utc)),
        };
        Ok(Event {
            id,
            host,
            time: time.in_zone(ahead),
            ahead,
            record_id: fields.number64(Field::RecordId),
            fields,
        })
    }
}

/// When an event was logged: the logged time, else the shipper's, else `UtcTime`; but never the `UtcTime` of event 3, which on some
/// hosts is hours off (measured on the OTRF LSASS campaign logs: up to 5.8 days).
pub fn time_of(fields: &Fields<'_>, id: u32, shipper_time: Option<Timestamp>) -> Option<Timestamp> {
    // Most times need no decoding.
    let logged = fields
        .raw_string(Field::LoggedTime)
        .and_then(time::parse)
        .or_else(|| time::parse(fields.text(Field::LoggedTime)?.trim().as_bytes()));
    logged.or(shipper_time).or_else(|| utc_time(fields, id))
}

/// The `UtcTime` of an event, where it can be used.
#[inline(never)]
fn utc_time(fields: &Fields<'_>, id: u32) -> Option<Timestamp> {
    let text = fields
        .text(Field::UtcTime)
        .filter(|_| id != NETWORK_CONNECT)?;
    let time = time::parse(text.trim().as_bytes())?;
    Some(Timestamp {
        zoned: true,
        ..time
    })
}

/// The name of Sysmon's provider, and how the name of its channel begins.
const SYSMON: &str = "Microsoft-Windows-Sysmon";

/// The name of the Security channel's provider.
const SECURITY: &str = "Microsoft-Windows-Security-Auditing";

/// Whether the event is of this provider, by the provider's name or, where a producer leaves that out, by the channel's.
fn is_of(provider: Provider, fields: &Fields<'_>) -> bool {
    // Compared with a constant in each arm, because a text that the compiler knows is compared in words.
    let (name, channel, is_as_registered) = match provider {
        Provider::Security => (SECURITY, "Security", fields.is(Field::Provider, SECURITY)),
        Provider::Sysmon => (SYSMON, SYSMON, fields.is(Field::Provider, SYSMON)),
    };
    if is_as_registered {
        return true;
    }
    if let Some(stated) = fields.text(Field::Provider) {
        return stated.eq_ignore_ascii_case(name);
    }
    match fields.text(Field::Channel) {
        // Hayabusa abbreviates Sysmon's channel and names no provider.
        Some(stated) if stated.eq_ignore_ascii_case("Sysmon") => provider == Provider::Sysmon,
        Some(stated) => stated
            .get(..channel.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(channel)),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::testing::All;
    use crate::record::{Reader, read};

    proptest::proptest! {
        #[test]
        fn the_host_does_not_depend_on_the_events_before(
            computers in proptest::collection::vec(r#""(WS1|ws1|WS1\.corp|\\u0057S1|10\.0\.0\.5|-|[.]|é|[a-z]{4})"|7|null|\["WS1"\]"#, 1..12),
        ) {
            let names = HostNames::default();
            for computer in computers {
                let record = format!(r#"{{"EventID":1,"Computer":{computer}}}"#);
                let fields = read(record.as_bytes(), &mut Reader::default(), &All).expect("it is JSON").expect("it has an id");
                for _ in 0..3 {
                    proptest::prop_assert_eq!(names.of(&fields), HostNames::default().of(&fields), "{}", record);
                }
            }
        }
    }

    #[test]
    fn invalid_utf8_in_a_name_is_counted_each_time() {
        let names = HostNames::default();
        for _ in 0..4 {
            let record = b"{\"EventID\":1,\"Computer\":\"B\xdcRO1\"}";
            let fields = read(record, &mut Reader::default(), &All)
                .expect("it is JSON")
                .expect("it has an id");
            assert_eq!(
                names.of(&fields).map(|name| name.key.clone()),
                Some("b\u{fffd}ro1".into())
            );
            assert!(fields.invalid_utf8.get());
        }
    }

    #[test]
    fn a_few_names_that_are_not_too_long_are_remembered() {
        let names = HostNames::default();
        let of_record = |computer: &str| {
            let record = format!(r#"{{"EventID":1,"Computer":"{computer}"}}"#);
            let fields = read(record.as_bytes(), &mut Reader::default(), &All)
                .expect("it is JSON")
                .expect("it has an id");
            names.of(&fields).expect("it has a name")
        };
        for (length, is_remembered) in [(8, true), (MAX_TEXT, true), (MAX_TEXT + 1, false)] {
            let computer = "w".repeat(length);
            assert_eq!(
                Rc::ptr_eq(&of_record(&computer), &of_record(&computer)),
                is_remembered,
                "{length}"
            );
        }
        for form in ["WS", "DC0", "srv-", "host-of-a-long-name-"] {
            let remembered = |count: usize| {
                let met: Vec<Rc<HostName>> = (0..count)
                    .map(|n| of_record(&format!("{form}{n}")))
                    .collect();
                met.iter()
                    .rev()
                    .filter(|name| Rc::ptr_eq(name, &of_record(&name.computer)))
                    .count()
            };
            // Two may have the same place.
            assert!(remembered(8) >= 4, "{form}: {}", remembered(8));
            assert!(remembered(100) <= PLACES, "{form}");
        }
    }
}
