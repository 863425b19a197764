//! Logons over the network: Security event 4624 with logon type 3.

use super::{
    Context, Event, EventPrefilter, EvidenceKind, Evident, Fact, Field, Fields, Found, KindInfo,
    Known, Missing, Needs, optional, optional_bytes, required, sum, text_bytes,
};
use crate::normalize::address;
use serde::{Deserialize, Serialize};
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
}

/// Storage of logons.
pub const KIND: KindInfo = KindInfo {
    share: 5,
    eviction_order: 1,
    related: None,
};

/// Logon type of a 4624 that comes over the network.
const NETWORK_LOGON: u32 = 3;

impl Logon {
    /// Whether the account is a person's: not a machine's (`$`), and not the one that stands for nobody.
    pub fn is_person(&self) -> bool {
        !self.user.ends_with('$') && !self.user.eq_ignore_ascii_case("ANONYMOUS LOGON")
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
        1
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
