//! The canonical view of an event: what kind it is, of which host, when; its fields are read on demand.

use crate::normalize::{host, time};
use crate::record::shapes::Field;
use crate::record::{Fields, MAX_TEXT, scan};
use std::cell::Cell;
use std::rc::Rc;
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

/// The name of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName {
    /// The host's key (see [`host::key`]).
    pub key: Box<str>,
    /// The name as it was written.
    pub computer: Rc<str>,
    /// The same as it stood in the record, if that is its text: what is not, is counted each time it is read.
    raw: Option<Box<[u8]>>,
}

/// Tells whose events are. Some hosts that were met are remembered, not worked out anew: a log shipper sees the same again and again.
#[derive(Default)]
pub struct HostNames {
    /// Each in the place that a hash of its name gives it.
    met: [Cell<Option<Rc<HostName>>>; PLACES],
}

/// Hosts that are remembered at most. A prime, as hashes of like names differ in few of their bits.
const PLACES: usize = 17;

impl HostNames {
    /// The host that the fields name. `None` if they name none.
    pub fn of(&self, fields: &Fields<'_>) -> Option<Rc<HostName>> {
        let raw = fields
            .raw_string(Field::Computer)
            .filter(|raw| raw.len() <= MAX_TEXT);
        let place = raw.and_then(|raw| {
            self.met
                .get(scan::hash(raw).checked_rem(PLACES as u64)? as usize)
        });
        let met = place.and_then(Cell::take);
        let known = met.filter(|known| {
            raw.zip(known.raw.as_deref())
                .is_some_and(|(raw, known)| scan::is_same(raw, known))
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
        let raw = raw.filter(|raw| scan::is_plain(raw)).map(Into::into);
        Some(HostName {
            key: host::key(&computer)?.into(),
            computer: computer.into(),
            raw,
        })
    }
}

/// An event of a host.
pub struct Event<'a> {
    /// What happened.
    pub kind: Kind,
    /// Whose it is.
    pub host: Rc<HostName>,
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
    pub fn new(
        fields: &'a Fields<'a>,
        shipper_time: Option<Timestamp>,
        hosts: &HostNames,
    ) -> Result<Event<'a>, Reject> {
        let kind = fields
            .event_id()
            .and_then(Kind::of)
            .ok_or(Reject::WrongProvider)?;
        if !is_provided(kind, fields) {
            return Err(Reject::WrongProvider);
        }
        let host = hosts.of(fields).ok_or(Reject::NoHost)?;
        // Mostly it is a time as it stands.
        let logged = fields.raw_string(Field::LoggedTime).and_then(time::parse);
        let logged =
            logged.or_else(|| time::parse(fields.text(Field::LoggedTime)?.trim().as_bytes()));
        let utc = || {
            let text = fields
                .text(Field::UtcTime)
                .filter(|_| kind != Kind::NetworkConnect)?;
            time::parse(text.trim().as_bytes()).map(|time| Timestamp {
                zoned: true,
                ..time
            })
        };
        let time = logged.or(shipper_time).or_else(utc).ok_or(Reject::NoTime)?;
        Ok(Event {
            kind,
            host,
            time,
            record_id: fields.long(Field::RecordId),
            fields,
        })
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
        fn whose_the_events_before_were_is_of_no_account(
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
    fn a_name_in_a_code_page_is_told_of_each_time() {
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
    fn names_are_remembered_if_they_are_not_long_and_not_too_many() {
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
