//! Logons over the network: Security event 4624 with logon type 3.

use super::{
    Context, Event, EventPrefilter, EvidenceKind, Evident, Fact, Field, Fields, Found, KindInfo,
    Known, Logoff, Missing, Needs, Privileges, Related, Room, optional, optional_bytes, required,
    sum, text_bytes,
};
use crate::normalize::address;
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::net::IpAddr;

/// A logon.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Logon {
    /// Address of the other machine.
    pub remote: IpAddr,
    /// The account.
    pub user: Box<str>,
    /// The account's domain.
    pub domain: Option<Box<str>>,
    /// The logon session.
    pub logon_id: Option<u64>,
    /// The name that the other machine gave itself.
    pub workstation: Option<Box<str>>,
    /// Whether the session has the rights of an administrator, as far as was seen (4672).
    is_administrative: Cell<bool>,
    /// When the session ended (4634), in milliseconds of logged time; `None` if that was not seen.
    ended: Cell<Option<i64>>,
}

/// Storage of logons: a table of sessions, because a process may be started long after the logon in whose session it runs. When room
/// is short, sessions that ended go first, then those of machines. 32 of some 400 bytes each.
pub const KIND: KindInfo = KindInfo {
    outlasts_windows: true,
    related: Some(Related {
        kind: EvidenceKind::Privileges,
        within: |windows| windows.clock_tolerance.0,
    }),
    ..KindInfo::with(Room::Own(32), 0)
};

/// Logon type of a 4624 or 4634 of a session that came over the network.
pub(super) const NETWORK_LOGON: u32 = 3;

/// Whether a logon session can be that of a network logon: not one of LocalSystem, LocalService or NetworkService.
pub(super) fn is_for_session(logon_id: u64) -> bool {
    !matches!(logon_id, 0 | 0x3e4 | 0x3e5 | 0x3e7)
}

impl Logon {
    /// Whether the account is a person's: not a machine's (`$`), and not the one that stands for nobody.
    pub fn is_person(&self) -> bool {
        !self.user.ends_with('$') && !self.user.eq_ignore_ascii_case("ANONYMOUS LOGON")
    }

    /// Whether the session has the rights of an administrator, as far as was seen.
    pub fn is_administrative(&self) -> bool {
        self.is_administrative.get()
    }

    /// Whether the session had ended before `ms` (logged time), as far as was seen.
    pub fn had_ended(&self, ms: i64) -> bool {
        self.ended.get().is_some_and(|ended| ended < ms)
    }

    /// Takes in that a session has the rights of an administrator.
    pub fn raise(&self, privileges: &Privileges) {
        if self.logon_id == Some(privileges.logon_id) {
            self.is_administrative.set(true);
        }
    }

    /// Takes in that a session ended.
    pub fn end(&self, logoff: &Logoff) {
        if self.logon_id == Some(logoff.logon_id) {
            self.ended.set(Some(logoff.at));
        }
    }

    /// The account as `domain\name`, or `name` where no domain was logged.
    pub fn account(&self) -> String {
        match &self.domain {
            Some(domain) => format!("{domain}\\{}", self.user),
            None => self.user.to_string(),
        }
    }
}

impl Evident for Logon {
    fn kind(&self) -> EvidenceKind {
        EvidenceKind::Logon
    }

    fn joins_like(&self, other: &Self, _: bool) -> bool {
        self.logon_id == other.logon_id && self.remote == other.remote && self.user == other.user
    }

    fn worth(&self) -> u8 {
        match (self.ended.get(), self.is_person()) {
            (Some(_), _) => 0,
            (None, false) => 1,
            (None, true) if !self.is_administrative() => 2,
            (None, true) => 3,
        }
    }

    fn heap_bytes(&self) -> usize {
        sum([
            text_bytes(&self.user),
            optional_bytes(&self.domain),
            optional_bytes(&self.workstation),
        ])
    }

    fn summary(&self) -> String {
        format!("{} logged on from {}", self.user, self.remote)
    }

    fn relate(&self, other: &Fact) {
        if let Fact::Privileges(privileges) = other {
            self.raise(privileges);
        }
    }
}

/// Rejects logons of other types, and those from the host itself.
pub struct Prefilter;

impl EventPrefilter for Prefilter {
    const KINDS: &'static [EvidenceKind] = &[EvidenceKind::Logon];

    const FIELDS: u64 = Field::LogonType.bit() | Field::IpAddress.bit();

    fn new(_: &Needs) -> Prefilter {
        Prefilter
    }

    fn rejects(&self, so_far: &Fields<'_>, _: &Known<'_>) -> bool {
        let logon_type = so_far.number(Field::LogonType);
        logon_type.is_some_and(|logon_type| logon_type != NETWORK_LOGON)
            // `-` is written for logons that did not come over TCP/IP. The host's other addresses are not looked at: which
            // host it is may be corrected by a field that is still to come.
            || so_far.is(Field::IpAddress, "-")
            || so_far.is(Field::IpAddress, "::1")
            || so_far.is(Field::IpAddress, "127.0.0.1")
    }
}

/// Reads a network logon from another machine.
pub(super) fn read(event: &Event<'_>, context: &Context<'_>) -> Found {
    if event.fields.number(Field::LogonType).ok_or(Missing)? != NETWORK_LOGON {
        return Ok(None);
    }
    let remote = event.fields.address(Field::IpAddress);
    let is_other = |ip: &IpAddr| address::is_remote(*ip) && !context.own.contains(*ip);
    let Some(remote) = remote.filter(is_other) else {
        return Ok(None);
    };
    Ok(Some(Fact::Logon(Box::new(Logon {
        remote,
        user: required(event, Field::TargetUserName)?,
        domain: optional(event, Field::TargetDomainName),
        logon_id: session(event, Field::TargetLogonId),
        workstation: optional(event, Field::WorkstationName),
        is_administrative: Cell::new(false),
        ended: Cell::new(None),
    }))))
}

/// A logon session as producers write it: in hexadecimal, or (Elastic and some others) in decimal.
pub(super) fn session(event: &Event<'_>, field: Field) -> Option<u64> {
    let text = event.fields.text(field)?;
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}
