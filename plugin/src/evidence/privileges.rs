//! Logon sessions with the rights of an administrator: Security event 4672, which Windows writes beside the logon.

use super::logon::is_for_session;
use super::{
    Context, Event, EventPrefilter, EvidenceKind, Evident, Fact, Field, Fields, Found, KindInfo,
    Known, Missing, Needs, Related, Room, logon,
};
use serde::{Deserialize, Serialize};

/// A logon session that has the rights of an administrator.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Privileges {
    /// The logon session.
    pub logon_id: u64,
}

/// A few are stored, because the logon may be logged after them; it then keeps what they show.
pub const KIND: KindInfo = KindInfo {
    related: Some(Related {
        kind: EvidenceKind::Logon,
        within: |windows| windows.clock_tolerance.0,
    }),
    only_relates: true,
    ..KindInfo::with(Room::Own(4), 0)
};

impl Evident for Privileges {
    fn kind(&self) -> EvidenceKind {
        EvidenceKind::Privileges
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
        format!(
            "logon session {:#x} has the rights of an administrator",
            self.logon_id
        )
    }

    fn relate(&self, other: &Fact) {
        if let Fact::Logon(logon) = other {
            logon.raise(self);
        }
    }
}

/// The sessions of LocalSystem, LocalService and NetworkService, in which most of these events are.
const SERVICE_SESSIONS: [&str; 3] = ["0x3e7", "0x3e4", "0x3e5"];

/// Rejects the sessions of service accounts.
pub struct Prefilter;

impl EventPrefilter for Prefilter {
    const KINDS: &'static [EvidenceKind] = &[EvidenceKind::Privileges];

    const FIELDS: u64 = Field::SubjectLogonId.bit();

    fn new(_: &Needs) -> Prefilter {
        Prefilter
    }

    fn rejects(&self, so_far: &Fields<'_>, _: &Known<'_>) -> bool {
        let mut sessions = SERVICE_SESSIONS.iter();
        sessions.any(|session| so_far.is(Field::SubjectLogonId, session))
    }
}

/// Reads the rights of a session. Elastic's pipelines move its id to the name that other events have for theirs.
pub(super) fn read(event: &Event<'_>, _: &Context<'_>) -> Found {
    let logon_id = logon::session(event, Field::SubjectLogonId)
        .or_else(|| logon::session(event, Field::TargetLogonId))
        .ok_or(Missing)?;
    Ok(is_for_session(logon_id).then_some(Fact::Privileges(Privileges { logon_id })))
}
