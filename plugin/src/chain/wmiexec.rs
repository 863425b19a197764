//! `wmiexec`: a process started by WMI, told to from another machine.
//!
//! impacket `wmiexec.py`, NetExec, CrackMapExec, smbmap, `wmic /node:`, SharpWMI, Empire. Two forms. Strong: the command
//! line is one that only such a tool gives (a shell whose output goes into a file), whoever connected. Weak: any child of
//! WMI's provider host in a logon session of a person, with a connection to RPC before it.

use super::psexec::is_smb_or_rpc;
use super::source::{self, Hints};
use super::{Chain, Finding, Rule, command_of, is_service_account, is_suspicious, is_typical};
use crate::evidence::{Connection, Evidence, Fact, Parent, ProcessStart, Shelf};
use crate::policy::{Levels, Policy, Severity};
use crate::state::locker::Locker;
use std::rc::Rc;

/// The chain; anchored in the process start.
pub struct Wmiexec;

static RULE: Rule = Rule {
    chain: "wmiexec",
    id: "psexec-filter-wmiexec",
    name: "Process started by remote WMI (WMIExec)",
    techniques: &["T1047", "T1021.003"],
};

/// The RPC endpoint mapper, where every DCOM session begins.
const ENDPOINT_MAPPER: u16 = 135;

impl Chain for Wmiexec {
    fn rule(&self) -> &'static Rule {
        &RULE
    }

    fn enabled(&self, policy: &Policy) -> bool {
        policy.wmiexec.enabled
    }

    fn levels<'p>(&self, policy: &'p Policy) -> &'p Levels {
        &policy.wmiexec.severity
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
            Fact::Connection(connection) => is_smb_or_rpc(connection, policy),
            // Inventories start so much that it would leave no room for what can be an execution.
            Fact::ProcessStart(start) => match start.parent {
                Parent::Wmi => {
                    is_typical(start, &policy.wmiexec.commands) || is_by_person(start, policy)
                }
                parent => parent == Parent::Watched,
            },
            Fact::Logon(_) => true,
            _ => false,
        }
    }

    fn judge(&self, anchor: &Rc<Evidence>, locker: &Locker, policy: &Policy) -> Option<Finding> {
        let Fact::ProcessStart(process) = &anchor.fact else {
            return None;
        };
        if process.parent != Parent::Wmi {
            return None;
        }
        let command = command_of(process);
        let typical = |start: &ProcessStart| is_typical(start, &policy.wmiexec.commands);
        let strong = typical(process);
        let hints = Hints {
            logon_id: process.logon_id,
            ..Hints::default()
        };
        let any = source::find(anchor, locker, policy, hints, |connection| {
            is_smb_or_rpc(connection, policy)
        });
        let by_rpc = source::find(anchor, locker, policy, Hints::default(), |connection| {
            is_rpc(connection, policy)
        })
        .is_connected();
        let connected = any.is_connected();
        let severity = if strong {
            let window = policy.windows.shell.0;
            let again = locker.shelf(Shelf::ComStart).filter(|other| {
                !Rc::ptr_eq(other, anchor) && super::within(other, anchor, window, window)
            });
            let shell = again.filter_map(|other| match &other.fact {
                Fact::ProcessStart(start) => Some(start),
                _ => None,
            });
            // impacket alone starts with two commands of its own.
            if shell
                .into_iter()
                .any(|start| start.logon_id == process.logon_id && typical(start))
            {
                Severity::Critical
            } else {
                Severity::High
            }
        } else if by_rpc && is_by_person(process, policy) {
            if is_suspicious(&process.key, command, policy) {
                Severity::High
            } else {
                Severity::Medium
            }
        } else {
            return None;
        };
        let connection = any.connection.clone();
        let pieces = [
            ("connection", connection.as_ref()),
            ("process", Some(anchor)),
        ];
        let mut finding = Finding::new(anchor, severity, &pieces, any, locker);
        finding.fold = process
            .logon_id
            .map(|id| format!("{id:x}"))
            .unwrap_or_default();
        finding.fold_by_source = process.logon_id.is_none();
        finding.lateral = connected.then_some(true);
        Some(finding)
    }
}

/// Whether a program that management tools do not start runs in the session of a person.
fn is_by_person(process: &ProcessStart, policy: &Policy) -> bool {
    process.logon_id.is_some()
        && !is_service_account(process)
        && !policy.wmiexec.ignore.hit(process.key.as_str())
}

fn is_rpc(connection: &Connection, policy: &Policy) -> bool {
    connection.local_port == ENDPOINT_MAPPER
        || is_smb_or_rpc(connection, policy)
            && connection.local_port >= policy.connection.dynamic_from
}
