//! What the checks must know of a run: its records, and what belongs together.

use crate::product::Kind;
use psexec_filter_plugin::policy::Severity;
use std::net::IpAddr;

/// A record as it arrives, and what the checks must know about it.
#[derive(Clone)]
pub struct Record {
    /// When it arrives, in milliseconds of the run.
    pub at: i64,
    /// Its host: an index into [`World::hosts`](super::World::hosts).
    pub host: usize,
    /// The record.
    pub text: String,
    /// Its event id.
    pub event: u64,
    /// Its number, on hosts whose shipper passes one.
    pub record_id: Option<u64>,
    /// The time it states, in milliseconds since 1970.
    pub ms: i64,
    /// The time it states, as it is written.
    pub time: String,
    /// The scenario that it belongs to: an index into [`World::scenarios`](super::World::scenarios).
    pub scenario: Option<usize>,
    /// Its part in the scenario, and in which repeat of it.
    pub part: (&'static str, u32),
    /// As which kind of evidence the filter keeps it, and what it is worth among others of that kind.
    pub kept_as: Option<(Kind, Worth)>,
    /// The other machine that it shows to connect or to log on.
    pub contact: Option<Contact>,
    /// Whether the filter can make use of it: it is not damaged, not too long, and its time is near the truth.
    pub usable: bool,
}

/// Another machine that connects or logs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contact {
    /// Its address.
    pub from: IpAddr,
    /// Whether a person logs on.
    pub is_person: bool,
}

/// Which evidence must outlast which, of one kind, when room is short. Later ones outlast earlier ones; evidence of kinds that
/// make no difference is [`Worth::Equal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Worth {
    /// One among equals.
    Equal,
    /// A file that came over SMB and is no program by its name.
    Document,
    /// A program that was written on the host itself.
    LocalProgram,
    /// A program that came over SMB.
    SmbProgram,
    /// A process that a DCOM server or an ordinary program started.
    StartedByDcom,
    /// A process that WMI started for a person.
    StartedByWmi,
}

/// What must come of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// An attack: an alert of this technique.
    Attack(&'static str),
    /// An administrator whom the policy allows to do what an attack by this technique does: no alert that stays above informational.
    Allowed(&'static str),
    /// Everyday work: no alert above low.
    Low,
    /// Everyday work that looks like an attack where another machine connects or logs on near by: no alert above low where none does.
    LowIfAlone,
}

/// Parts of a scenario that are enough for something, if they arrive in one repeat of it.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    /// The parts.
    pub parts: &'static [&'static str],
    /// For an attack, the least severity that it must then be reported with.
    pub least: Severity,
}

/// Who is at work in a repeat of a scenario.
#[derive(Clone, Copy, Debug)]
pub struct Party {
    /// The address.
    pub from: IpAddr,
    /// Whether the policy allows it.
    pub is_allowed: bool,
}

/// Several records that belong together.
pub struct Scenario {
    /// What happens, in plain words.
    pub story: &'static str,
    /// The host that it happens on: an index into [`World::hosts`](super::World::hosts).
    pub host: usize,
    /// What must come of it.
    pub expected: Expected,
    /// Chains that may report it as well while, or because, parts are missing.
    pub also: &'static [&'static str],
    /// Each is enough to report an attack; to know that an administrator is allowed; to report everyday work as low at most.
    pub needs: Vec<Need>,
    /// Each shows where a repeat of it came from, whoever else is connected.
    pub ties: &'static [&'static [&'static str]],
    /// Who is at work, by the number of the repeat.
    pub parties: Vec<Party>,
}

impl Scenario {
    /// The technique by which it is reported.
    pub fn chain(&self) -> Option<&'static str> {
        match self.expected {
            Expected::Attack(chain) | Expected::Allowed(chain) => Some(chain),
            Expected::Low | Expected::LowIfAlone => None,
        }
    }
}

/// Makes a table of needs shorter to write.
pub const fn need(parts: &'static [&'static str], least: Severity) -> Need {
    Need { parts, least }
}
