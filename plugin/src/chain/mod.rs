//! The techniques. One file each; adding one means writing its file and naming it in [`CHAINS`].
//!
//! A chain looks at the evidence of one host from an *anchor* (a process start, a service change) and says what, within
//! the policy's windows, belongs to it and how sure that makes us. It is asked again whenever a piece it wants
//! arrives, in whatever order; it keeps no state of its own.

mod dcomexec;
mod distinct_codes;
mod psexec;
mod scshell;
pub mod service;
mod smbexec;
mod source;
mod wmiexec;

use crate::evidence::{
    Evidence, Fact, FileWrite, Logon, Parent, Pipe, ProcessStart, ServiceSet, Shelf,
};
use crate::policy::{Levels, Patterns, Policy, Severity};
use crate::state::locker::Locker;
use serde::{Deserialize, Serialize};
pub use source::Source;
use std::borrow::Cow;
use std::rc::Rc;

/// All chains.
pub const CHAINS: [&dyn Chain; 6] = [
    &psexec::Psexec,
    &distinct_codes::DistinctCodes,
    &smbexec::Smbexec,
    &wmiexec::Wmiexec,
    &dcomexec::Dcomexec,
    &scshell::Scshell,
];

/// A technique.
pub trait Chain: Sync {
    /// What is said about it in an alert.
    fn rule(&self) -> &'static Rule;

    /// Whether the policy has it switched on.
    fn enabled(&self, policy: &Policy) -> bool;

    /// What its levels are told as.
    fn levels<'p>(&self, policy: &'p Policy) -> &'p Levels;

    /// The kinds of evidence it is made of.
    fn shelves(&self) -> &'static [Shelf];

    /// The kinds of evidence its executions hang on.
    fn anchors(&self) -> &'static [Shelf];

    /// Whether a piece can ever be part of it. What no chain wants is not kept.
    fn wants(&self, evidence: &Evidence, policy: &Policy) -> bool;

    /// What the host's evidence says about one anchor; `None` if it is no execution of this kind (yet).
    fn judge(&self, anchor: &Rc<Evidence>, locker: &Locker, policy: &Policy) -> Option<Finding>;
}

/// The fixed part of a chain's alerts.
#[derive(Debug)]
pub struct Rule {
    /// `chain`
    pub chain: &'static str,
    /// `rule.id`
    pub id: &'static str,
    /// `rule.name`
    pub name: &'static str,
    /// `threat.technique.id` (MITRE ATT&CK)
    pub techniques: &'static [&'static str],
}

/// What a chain sees in one anchor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Finding {
    /// The process start or service change it hangs on.
    pub anchor: Rc<Evidence>,
    /// What repeats of the same execution have in common.
    pub fold: String,
    /// Whether repeats must, beside that, have a possible source in common (where one is known).
    pub fold_by_source: bool,
    /// How bad it is, by what supports it.
    pub severity: Severity,
    /// From another machine, from this one, or not to be told.
    pub lateral: Option<bool>,
    /// Everything that supports it, the anchor and the most likely connection included.
    pub pieces: Vec<Rc<Evidence>>,
    /// Who it may have been.
    pub source: Source,
    /// What its process started, oldest first; at most [`MAX_CHILDREN`].
    pub children: Vec<Rc<Evidence>>,
    /// What would have made it surer and was not seen.
    pub missing: Vec<Cow<'static, str>>,
}

/// Children of a process that an alert names.
pub const MAX_CHILDREN: usize = 8;

/// A piece by what it is to the chain, if it was seen.
type Named<'f> = (&'static str, Option<&'f Rc<Evidence>>);

impl Finding {
    /// A finding of the pieces that were seen; the others are missing. The process whose children matter is found among
    /// the pieces.
    fn new(
        anchor: &Rc<Evidence>,
        severity: Severity,
        pieces: &[Named<'_>],
        source: Source,
        locker: &Locker,
    ) -> Finding {
        let mut finding = Finding {
            anchor: Rc::clone(anchor),
            fold: String::new(),
            fold_by_source: false,
            severity,
            lateral: None,
            pieces: pieces
                .iter()
                .filter_map(|(_, piece)| piece.cloned())
                .collect(),
            missing: pieces
                .iter()
                .filter(|(_, piece)| piece.is_none())
                .map(|(name, _)| Cow::Borrowed(*name))
                .collect(),
            source,
            children: Vec::new(),
        };
        finding.pieces.extend(finding.source.logon.clone());
        if let Some(entity_id) = finding
            .process()
            .and_then(|process| process.entity_id.as_ref())
        {
            let ours = |piece: &&Rc<Evidence>| match &piece.fact {
                Fact::ProcessStart(start) => start.parent_entity_id.as_ref() == Some(entity_id),
                _ => false,
            };
            finding.children = locker
                .shelf(Shelf::Child)
                .filter(ours)
                .take(MAX_CHILDREN)
                .cloned()
                .collect();
        }
        finding
    }
}

impl Finding {
    /// All evidence that it holds on to.
    pub fn evidence_mut(&mut self) -> impl Iterator<Item = &mut Rc<Evidence>> {
        let Finding {
            anchor,
            pieces,
            source,
            children,
            ..
        } = self;
        std::iter::once(anchor)
            .chain(pieces)
            .chain(&mut source.connection)
            .chain(&mut source.logon)
            .chain(children)
    }

    /// Whether a piece is part of what was found, if only as one of several possible connections.
    pub fn holds(&self, evidence: &Rc<Evidence>) -> bool {
        let listed = self
            .pieces
            .iter()
            .chain(&self.children)
            .any(|piece| Rc::ptr_eq(piece, evidence));
        listed
            || matches!(&evidence.fact, Fact::Connection(connection) if self.source.candidates.contains(&connection.remote))
    }

    /// The person behind it, as `domain\name` or `name`: the account of the process, unless that is a service's; else of the
    /// logon it came with, else of the first thing it started as somebody else.
    pub fn person(&self) -> Option<String> {
        let own = |start: &ProcessStart| {
            start
                .user
                .as_deref()
                .filter(|_| !is_service_account(start))
                .map(str::to_owned)
        };
        let mut children = self.children.iter().filter_map(|piece| match &piece.fact {
            Fact::ProcessStart(start) if start.logon_id.is_some() => own(start),
            _ => None,
        });
        self.process()
            .and_then(|process| own(process))
            .or_else(|| self.logon().map(|logon| logon.account()))
            .or_else(|| children.next())
    }

    /// The same; where no person is known, the account of the process.
    pub fn user(&self) -> Option<String> {
        self.person()
            .or_else(|| self.process()?.user.as_deref().map(str::to_owned))
    }
}

/// LocalSystem, LocalService and NetworkService have the same logon sessions everywhere; their names are localised. Without
/// a session a process of a service counts as a service's.
fn is_service_account(start: &ProcessStart) -> bool {
    match start.logon_id {
        Some(id) => matches!(id, 0x3e7 | 0x3e4 | 0x3e5),
        None => matches!(start.parent, Parent::Services | Parent::Unknown),
    }
}

impl Logon {
    /// As `domain\name`, or `name`.
    fn account(&self) -> String {
        match &self.domain {
            Some(domain) => format!("{domain}\\{}", self.user),
            None => self.user.to_string(),
        }
    }
}

macro_rules! piece {
    ($(#[$doc:meta] $name:ident: $variant:ident($of:ty),)*) => {
        impl Finding {
            $(
                #[$doc]
                pub fn $name(&self) -> Option<&$of> {
                    self.pieces.iter().find_map(|piece| match &piece.fact {
                        Fact::$variant(fact) => Some(fact),
                        _ => None,
                    })
                }
            )*
        }
    };
}

piece! {
    /// The file that was written.
    file: FileWrite(FileWrite),
    /// The process that was started.
    process: ProcessStart(Box<ProcessStart>),
    /// The service that was set.
    service: ServiceSet(ServiceSet),
    /// The pipe that was made.
    pipe: Pipe(Pipe),
    /// The logon that it came with.
    logon: Logon(Box<Logon>),
}

/// Whether `piece` was logged from `before` ms before to `after` ms after `anchor`.
fn within(piece: &Evidence, anchor: &Evidence, before: i64, after: i64) -> bool {
    let offset = piece.time.ms.saturating_sub(anchor.time.ms);
    (before.saturating_neg()..=after).contains(&offset)
}

/// The piece on `shelf` that `fits` and is nearest to `anchor` within the window.
fn nearest<'l>(
    locker: &'l Locker,
    shelf: Shelf,
    anchor: &Evidence,
    (before, after): (i64, i64),
    fits: impl Fn(&Fact) -> bool,
) -> Option<&'l Rc<Evidence>> {
    locker
        .shelf(shelf)
        .filter(|piece| within(piece, anchor, before, after) && fits(&piece.fact))
        .min_by_key(|piece| piece.time.ms.abs_diff(anchor.time.ms))
}

/// The command line of a process; its program if it was not logged.
fn command_of(process: &ProcessStart) -> &str {
    process.command_line.as_deref().unwrap_or(&process.image)
}

/// Whether the command line of a process is one that only the tools give whose `commands` these are. A process hangs on one
/// chain's shelf, so it is always asked with the same ones.
fn is_typical(process: &ProcessStart, commands: &Patterns) -> bool {
    process.long.as_ref().map_or_else(
        || {
            *process
                .typical
                .get_or_init(|| commands.hit(command_of(process)))
        },
        |long| long.typical,
    )
}

/// Whether a program runs what it is told, or lies where users can write or on a share.
fn is_suspicious(
    program: &crate::normalize::path::PathKey,
    command: &str,
    policy: &Policy,
) -> bool {
    policy.is_interpreter(program)
        || policy.suspicious.folders.hit(program.as_str())
        || command.trim_start_matches('"').starts_with(r"\\")
}
