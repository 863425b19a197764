//! `smbexec`: a new service whose program is a command.
//!
//! impacket `smbexec.py`, NetExec, CrackMapExec, Empire `Invoke-PSExec` and `Invoke-SMBExec`, Metasploit `psexec` with its
//! powershell and command targets, Cobalt Strike `psexec_psh`. Nothing is dropped: the service controller itself starts
//! `cmd.exe` or `powershell.exe`, one throw-away service a command. Services do not do that.

use super::psexec::is_smb_or_rpc;
use super::source::{self, Hints};
use super::{Chain, Finding, Rule, command_of, is_typical, nearest, service};
use crate::evidence::{Change, Evidence, Fact, Parent, ProcessStart, ServiceSet, Shelf};
use crate::policy::{Levels, Policy, Severity};
use crate::state::locker::Locker;
use std::rc::Rc;

/// The chain; anchored in the process start.
pub struct Smbexec;

static RULE: Rule = Rule {
    chain: "smbexec",
    id: "psexec-filter-smbexec",
    name: "Command run as the program of a new service (SMBExec)",
    techniques: &["T1021.002", "T1569.002", "T1543.003", "T1059"],
};

impl Chain for Smbexec {
    fn rule(&self) -> &'static Rule {
        &RULE
    }

    fn enabled(&self, policy: &Policy) -> bool {
        policy.smbexec.enabled
    }

    fn levels<'p>(&self, policy: &'p Policy) -> &'p Levels {
        &policy.smbexec.severity
    }

    fn shelves(&self) -> &'static [Shelf] {
        &[
            Shelf::Connection,
            Shelf::FileWrite,
            Shelf::ProcessStart,
            Shelf::Child,
            Shelf::ServiceSet,
            Shelf::ServiceMark,
            Shelf::Logon,
        ]
    }

    fn anchors(&self) -> &'static [Shelf] {
        &[Shelf::ProcessStart]
    }

    fn wants(&self, evidence: &Evidence, policy: &Policy) -> bool {
        match &evidence.fact {
            Fact::Connection(connection) => is_smb_or_rpc(connection, policy),
            Fact::ServiceSet(_) | Fact::ServiceMark(_) | Fact::FileWrite(_) | Fact::Logon(_) => {
                true
            }
            Fact::ProcessStart(start) => {
                start.parent == Parent::Watched
                    || matches!(start.parent, Parent::Services | Parent::Unknown)
                        && policy.is_interpreter(&start.key)
            }
            Fact::Pipe(_) => false,
        }
    }

    fn judge(&self, anchor: &Rc<Evidence>, locker: &Locker, policy: &Policy) -> Option<Finding> {
        let Fact::ProcessStart(process) = &anchor.fact else {
            return None;
        };
        let windows = &policy.windows;
        let command = command_of(process);
        let service = nearest(
            locker,
            Shelf::ServiceSet,
            anchor,
            (windows.service_to_process.0, windows.clock_tolerance.0),
            |fact| match fact {
                Fact::ServiceSet(set) => service::runs(process, set),
                _ => false,
            },
        );
        let set = service.and_then(|piece| match &piece.fact {
            Fact::ServiceSet(set) => Some((piece, set)),
            _ => None,
        });
        // One service change belongs to one chain: this one takes what was created.
        let is_others = |(piece, set): (&Rc<Evidence>, &ServiceSet)| match set.change.get() {
            Change::Created => false,
            Change::PerhapsCreated => service::put_back(piece, set, locker, policy).is_some(),
            Change::Changed => true,
        };
        // A file that came over SMB and is run by the command is `psexec`.
        if set.is_some_and(is_others)
            || service::dropped_in(process.words().unwrap_or(command), anchor, locker, policy)
                .is_some()
        {
            return None;
        }
        let name = set.map(|(_, set)| &*set.service);
        if !policy.smbexec.ignore.is_empty()
            && policy
                .smbexec
                .ignore
                .hit(&format!("{} {command}", name.unwrap_or_default()))
        {
            return None;
        }
        let typical = |start: &ProcessStart| is_typical(start, &policy.smbexec.commands);
        let strong = typical(process);
        let source = source::find(anchor, locker, policy, Hints::default(), |connection| {
            is_smb_or_rpc(connection, policy)
        });
        let connected = source.is_connected();
        let gone = set.is_some_and(|(_, set)| service::is_gone(anchor, set, locker, policy));
        let shell = || {
            let others = locker
                .shelf(Shelf::ProcessStart)
                .filter(|other| super::within(other, anchor, windows.shell.0, windows.shell.0));
            others
                .filter(|other| matches!(&other.fact, Fact::ProcessStart(start) if typical(start)))
                .count()
                >= policy.smbexec.shell_commands.get()
        };
        let local = service::is_local_getsystem(name, command);
        let severity = match set {
            _ if local => Severity::Low,
            Some(_) if connected && strong && (gone || shell()) => Severity::Critical,
            Some(_) if connected || strong => Severity::High,
            Some(_) if gone => Severity::Medium,
            // An installer may run a command as a service.
            Some(_) => Severity::Low,
            None if strong && process.parent == Parent::Services => Severity::Medium,
            None => return None,
        };
        let connection = source.connection.clone();
        let pieces = [
            ("connection", connection.as_ref()),
            ("service", service),
            ("process", Some(anchor)),
        ];
        let mut finding = Finding::new(anchor, severity, &pieces, source, locker);
        finding.fold_by_source = true;
        if local {
            // Beside the attack that it may be part of, not in it.
            finding.fold = "local".to_owned();
        } else {
            finding.lateral = connected.then_some(true);
        }
        Some(finding)
    }
}
