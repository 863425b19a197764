//! The techniques. One file each; adding one means writing its file and naming it in [`CHAINS`].
//!
//! A chain looks at the evidence of one host from an *anchor* (a process start, a service change) and says what, within
//! the policy's windows, belongs to it and how sure that makes us. It is asked again whenever a piece it wants
//! arrives, in whatever order; it keeps no state of its own.

mod psexec;

use crate::evidence::{Connection, Evidence, Fact, FileWrite, Pipe, ProcessStart, ServiceSet, Shelf};
use crate::policy::{Policy, Severity};
use crate::state::locker::Locker;
use std::net::IpAddr;
use std::rc::Rc;

/// All chains.
pub const CHAINS: [&dyn Chain; 1] = [&psexec::Psexec];

/// A technique.
pub trait Chain: Sync {
    /// What is said about it in an alert.
    fn rule(&self) -> &'static Rule;

    /// Whether the policy has it switched on.
    fn enabled(&self, policy: &Policy) -> bool;

    /// The kinds of evidence it is made of.
    fn shelves(&self) -> &'static [Shelf];

    /// The kind of evidence its executions hang on.
    fn anchor(&self) -> Shelf;

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
#[derive(Clone, Debug)]
pub struct Finding {
    /// The process start or service change it hangs on.
    pub anchor: Rc<Evidence>,
    /// What repeats of the same execution have in common.
    pub fold: String,
    /// How bad it is, by what supports it.
    pub severity: Severity,
    /// From another machine, from this one, or not to be told.
    pub lateral: Option<bool>,
    /// Everything that supports it, the anchor and the most likely connection included.
    pub pieces: Vec<Rc<Evidence>>,
    /// The distinct addresses that connected within the window.
    pub candidates: Vec<IpAddr>,
    /// What would have made it surer and was not seen.
    pub missing: Vec<&'static str>,
}

impl Finding {
    /// Whether a piece is part of what was found, if only as one of several possible connections.
    pub fn holds(&self, evidence: &Rc<Evidence>) -> bool {
        self.pieces.iter().any(|piece| Rc::ptr_eq(piece, evidence)) || remote(evidence).is_some_and(|ip| self.candidates.contains(&ip))
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
    /// The most likely connection.
    connection: Connection(Connection),
    /// The file that was written.
    file: FileWrite(FileWrite),
    /// The process that was started.
    process: ProcessStart(Box<ProcessStart>),
    /// The service that was set.
    service: ServiceSet(ServiceSet),
    /// The pipe that was made.
    pipe: Pipe(Pipe),
}

/// The connections around an anchor.
struct Sources {
    /// The one whose time fits best.
    best: Rc<Evidence>,
    /// The distinct addresses.
    candidates: Vec<IpAddr>,
}

/// Finds the connections in the window around `anchor`. On a busy server there are many; event 3 is logged about 1.5 s
/// late, so the best is the one with the smallest |logged - 1.5 s - anchor|.
fn sources(anchor: &Evidence, locker: &Locker, policy: &Policy) -> Option<Sources> {
    let windows = &policy.windows;
    let mut best: Option<(i64, &Rc<Evidence>)> = None;
    let mut candidates = Vec::new();
    for piece in locker.shelf(Shelf::Connection) {
        let Fact::Connection(connection) = &piece.fact else { continue };
        if !within(piece, anchor, windows.connection_before.0, windows.connection_after.0) {
            continue;
        }
        if !candidates.contains(&connection.remote) {
            candidates.push(connection.remote);
        }
        let late = piece.time.ms.saturating_sub(anchor.time.ms).saturating_sub(policy.connection.logged_late_by.0);
        let distance = late.saturating_abs();
        // A tie goes to the smaller address, so that the order of arrival decides nothing.
        if best.is_none_or(|(least, of)| (distance, remote(piece)) < (least, remote(of))) {
            best = Some((distance, piece));
        }
    }
    best.map(|(_, piece)| Sources { best: Rc::clone(piece), candidates })
}

fn remote(piece: &Evidence) -> Option<IpAddr> {
    match &piece.fact {
        Fact::Connection(connection) => Some(connection.remote),
        _ => None,
    }
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
