//! Ends of logon sessions: Security event 4634.

use super::logon::{NETWORK_LOGON, is_for_session};
use super::{
    Context, Event, EventPrefilter, EvidenceKind, Evident, Fact, Field, Fields, Found, KindInfo,
    Known, Missing, Needs, Related, Room, logon,
};
use serde::{Deserialize, Serialize};

/// A logon session that ended.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Logoff {
    /// The logon session.
    pub logon_id: u64,
    /// When it ended, in milliseconds of logged time.
    pub at: i64,
}

/// It is kept in the logon that it ends.
pub const KIND: KindInfo = KindInfo {
    related: Some(Related {
        kind: EvidenceKind::Logon,
        within: |_| i64::MAX,
    }),
    only_relates: true,
    ..KindInfo::with(Room::None, 0)
};

impl Evident for Logoff {
    fn kind(&self) -> EvidenceKind {
        EvidenceKind::Logoff
    }

    fn joins_like(&self, other: &Self, _: bool) -> bool {
        self.logon_id == other.logon_id
    }

    fn worth(&self) -> u8 {
        0
    }

    fn heap_bytes(&self) -> usize {
        0
    }

    fn summary(&self) -> String {
        format!("logon session {:#x} ended", self.logon_id)
    }

    fn relate(&self, other: &Fact) {
        if let Fact::Logon(logon) = other {
            logon.end(self);
        }
    }
}

/// Rejects the ends of sessions that did not come over the network.
pub struct Prefilter;

impl EventPrefilter for Prefilter {
    const KINDS: &'static [EvidenceKind] = &[EvidenceKind::Logoff];

    const FIELDS: u64 = Field::LogonType.bit();

    fn new(_: &Needs) -> Prefilter {
        Prefilter
    }

    fn rejects(&self, so_far: &Fields<'_>, _: &Known<'_>) -> bool {
        let logon_type = so_far.number(Field::LogonType);
        logon_type.is_some_and(|logon_type| logon_type != NETWORK_LOGON)
    }
}

/// Reads the end of a session that came over the network.
pub(super) fn read(event: &Event<'_>, _: &Context<'_>) -> Found {
    if event.fields.number(Field::LogonType).ok_or(Missing)? != NETWORK_LOGON {
        return Ok(None);
    }
    let logon_id = logon::session(event, Field::TargetLogonId).ok_or(Missing)?;
    Ok(is_for_session(logon_id).then_some(Fact::Logoff(Logoff {
        logon_id,
        at: event.time.ms,
    })))
}
