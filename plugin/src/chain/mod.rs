//! The techniques, one file each, and the policy that their sections make together.
//!
//! A technique looks at the evidence of one host around an *anchor* (a process start, a service change) and returns which of its
//! pieces belong to that anchor. It is asked again whenever evidence that it wants arrives, in whatever order, and keeps no state of
//! its own. What the pieces amount to is in its [`Table`]. This file is the only place beside a technique's own that names it;
//! `docs/adding-a-technique.md` walks through both.

pub mod dcomexec;
pub mod distinct_codes;
mod finding;
mod join;
mod program;
pub mod psexec;
pub mod scshell;
mod service;
pub mod smbexec;
mod source;
pub mod table;
pub mod wmiexec;

pub use finding::{Finding, Joined, MAX_CHILDREN};
pub use join::Join;
pub use source::Source;
pub use table::{Piece, Row, Rule, Seen, Table, Window};

use crate::evidence::{Evidence, EvidenceKind, Needs, ProcessStart};
use crate::normalize::cmd::Shape;
use crate::settings::{
    AlertSettings, AllowEntry, ConnectionSettings, HostSettings, Levels, Limits, Patterns,
    SuspiciousSettings, Windows, compile_all_read,
};
use serde::{Deserialize, Serialize};
use std::rc::Rc;

/// The tables of all techniques.
pub const TABLES: &[&Table] = &[
    psexec::TABLE,
    distinct_codes::TABLE,
    smbexec::TABLE,
    wmiexec::TABLE,
    dcomexec::TABLE,
    scshell::TABLE,
];

/// Everything that can be set. People write it as TOML (`configs/policy.toml` documents every key); `psexec-filter pack` checks it
/// and puts it into the module as JSON. Both are read into these types, so `pack` accepts exactly what the module accepts. Unknown keys
/// are refused, missing ones have their defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// How alerts look.
    pub alert: AlertSettings,
    /// Whose records these are.
    pub host: HostSettings,
    /// How far apart the evidence of one execution may be.
    pub windows: Windows,
    /// Which connections count.
    pub connection: ConnectionSettings,
    /// The technique `psexec`.
    pub psexec: psexec::Section,
    /// The technique `smbexec`.
    pub smbexec: smbexec::Section,
    /// The technique `wmiexec`.
    pub wmiexec: wmiexec::Section,
    /// The technique `dcomexec`.
    pub dcomexec: dcomexec::Section,
    /// The technique `scshell`.
    pub scshell: scshell::Section,
    /// What makes a program suspicious, in any technique.
    pub suspicious: SuspiciousSettings,
    /// Bounds on memory and output.
    pub limits: Limits,
    /// What is legitimate.
    pub allow: Vec<AllowEntry>,
}

impl Policy {
    /// The techniques that are in use.
    pub fn techniques(&self, shared: &Rc<Shared>) -> Vec<Box<dyn Technique>> {
        let all = [
            psexec::Psexec::in_use(&self.psexec, shared),
            distinct_codes::DistinctCodes::in_use(&self.psexec, shared),
            smbexec::Smbexec::in_use(&self.smbexec, shared),
            wmiexec::Wmiexec::in_use(&self.wmiexec, shared),
            dcomexec::Dcomexec::in_use(&self.dcomexec, &self.wmiexec.commands, shared),
            scshell::Scshell::in_use(&self.scshell, shared),
        ];
        all.into_iter().flatten().collect()
    }

    /// Reads a policy from JSON. The error says what is wrong, and what was expected.
    pub fn from_json(json: &str) -> Result<Policy, String> {
        let policy = serde_json::from_str(json).map_err(|error| error.to_string())?;
        compile_all_read()?;
        Ok(policy)
    }
}

/// The sections of a policy that every technique may use.
#[derive(Debug)]
pub struct Shared {
    /// `[windows]`
    pub windows: Windows,
    /// `[connection]`
    pub connection: ConnectionSettings,
    /// `[suspicious]`
    pub suspicious: SuspiciousSettings,
}

impl Shared {
    /// The shared sections of a policy.
    pub fn of(policy: &Policy) -> Rc<Shared> {
        Rc::new(Shared {
            windows: policy.windows.clone(),
            connection: policy.connection.clone(),
            suspicious: policy.suspicious.clone(),
        })
    }
}

/// A technique that is in use.
pub trait Technique {
    /// What is fixed about it.
    fn table(&self) -> &'static Table;

    /// What its levels map to.
    fn levels(&self) -> &Levels;

    /// Adds what it needs of events beyond the kinds in its table.
    fn needs(&self, _needs: &mut Needs) {}

    /// Whether evidence can ever be part of it. Evidence that no technique wants is not stored.
    fn wants(&self, evidence: &Evidence) -> bool;

    /// Which of its pieces belong to an anchor; `None` if the anchor cannot be one of its executions.
    fn join<'j>(&self, join: &Join<'j>) -> Option<Joined<'j>>;
}

/// Children of the process that an execution started. Part of every table.
pub const CHILD: Piece = Piece::evidence(
    31,
    "child",
    EvidenceKind::Child,
    |windows| Window {
        before: windows.clock_tolerance.0,
        after: windows.suppress.0,
    },
    "the process started another",
)
.optional();

/// Whether the command line of a process is one of a remote execution tool: by its shape, or by these patterns of the policy. Only
/// one technique's patterns apply to a process, so the answer is kept with it.
fn is_tool_command(
    process: &ProcessStart,
    commands: &Patterns,
    is_of_tool: impl FnOnce(Shape) -> bool,
) -> bool {
    let is_listed = || match &process.long {
        Some(long) => long.is_tool_command,
        None => commands.hit(process.command()),
    };
    let answer = &process.is_tool_command;
    *answer.get_or_init(|| is_of_tool(process.shape) || is_listed())
}
