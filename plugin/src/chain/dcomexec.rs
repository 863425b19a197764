//! `dcomexec`: a program that takes orders over DCOM (`mmc.exe`, `explorer.exe`, Office) is connected to and starts another.
//!
//! impacket `dcomexec.py` (MMC20, ShellWindows, ShellBrowserWindow) and its like. Connection and process are joined by
//! the ProcessGuid of the program between them, which is as sure as a join can be.

use super::source::{self, Hints};
use super::{Chain, Finding, Rule, is_typical, within};
use crate::evidence::{Evidence, Fact, Parent, Shelf};
use crate::policy::{Levels, Policy, Severity};
use crate::state::locker::Locker;
use std::rc::Rc;

/// The chain; anchored in the process start.
pub struct Dcomexec;

static RULE: Rule = Rule {
    chain: "dcomexec",
    id: "psexec-filter-dcomexec",
    name: "Process started over DCOM (dcomexec)",
    techniques: &["T1021.003", "T1559.001"],
};

impl Chain for Dcomexec {
    fn rule(&self) -> &'static Rule {
        &RULE
    }

    fn enabled(&self, policy: &Policy) -> bool {
        policy.dcomexec.enabled
    }

    fn levels<'p>(&self, policy: &'p Policy) -> &'p Levels {
        &policy.dcomexec.severity
    }

    fn shelves(&self) -> &'static [Shelf] {
        &[
            Shelf::Connection,
            Shelf::ComStart,
            Shelf::Child,
            Shelf::Logon,
        ]
    }

    fn anchors(&self) -> &'static [Shelf] {
        &[Shelf::ComStart]
    }

    fn wants(&self, evidence: &Evidence, policy: &Policy) -> bool {
        match &evidence.fact {
            Fact::Connection(connection) => policy
                .dcomexec
                .programs
                .iter()
                .any(|program| **program == *connection.program),
            Fact::ProcessStart(start) => matches!(start.parent, Parent::Dcom | Parent::Watched),
            Fact::Logon(_) => true,
            _ => false,
        }
    }

    fn judge(&self, anchor: &Rc<Evidence>, locker: &Locker, policy: &Policy) -> Option<Finding> {
        let Fact::ProcessStart(process) = &anchor.fact else {
            return None;
        };
        if process.parent != Parent::Dcom {
            return None;
        }
        let strong = is_typical(process, &policy.wmiexec.commands);
        let hints = Hints {
            logon_id: process.logon_id,
            ..Hints::default()
        };
        let mut source = source::find(anchor, locker, policy, hints, |connection| {
            let dynamic = |port: u16| port >= policy.connection.dynamic_from;
            let joined =
                connection.entity_id.is_some() && connection.entity_id == process.parent_entity_id;
            joined && dynamic(connection.local_port) && connection.remote_port.is_some_and(dynamic)
        });
        let near = |piece: &Rc<Evidence>| {
            within(
                piece,
                anchor,
                policy.windows.dcom.0,
                policy.windows.connection_after.0,
            )
        };
        if !source.connection.as_ref().is_some_and(near) {
            source.connection = None;
        }
        let connected = source.is_connected();
        let severity = match (connected, strong) {
            (true, true) => Severity::Critical,
            (true, false) => Severity::High,
            (false, true) => Severity::Medium,
            (false, false) => return None,
        };
        let connection = source.connection.clone();
        let pieces = [
            ("connection", connection.as_ref()),
            ("process", Some(anchor)),
        ];
        let mut finding = Finding::new(anchor, severity, &pieces, source, locker);
        finding.fold = process
            .parent_entity_id
            .as_deref()
            .unwrap_or_default()
            .to_owned();
        finding.lateral = connected.then_some(true);
        Some(finding)
    }
}
