//! `scshell`: an existing service is given another program, started, and put back.
//!
//! SCShell, SharpNoPSExec, `sc config` by hand. Nothing is created and nothing dropped. What it cannot avoid: the service's
//! `ImagePath` is written, its program runs under the service controller, and `ImagePath` is written back.

use super::psexec::is_smb_or_rpc;
use super::source::{self, Hints};
use super::{Chain, Finding, Rule, is_suspicious, nearest, service};
use crate::evidence::{Change, Evidence, Fact, Parent, Shelf};
use crate::normalize::lower;
use crate::policy::{Levels, Policy, Severity};
use crate::state::locker::Locker;
use std::rc::Rc;

/// The chain; anchored in the change of the service.
pub struct Scshell;

static RULE: Rule = Rule {
    chain: "scshell",
    id: "psexec-filter-scshell",
    name: "Existing service re-pointed and started (SCShell)",
    techniques: &["T1569.002", "T1543.003", "T1574.011"],
};

impl Chain for Scshell {
    fn rule(&self) -> &'static Rule {
        &RULE
    }

    fn enabled(&self, policy: &Policy) -> bool {
        policy.scshell.enabled
    }

    fn levels<'p>(&self, policy: &'p Policy) -> &'p Levels {
        &policy.scshell.severity
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
        &[Shelf::ServiceSet]
    }

    fn wants(&self, evidence: &Evidence, policy: &Policy) -> bool {
        match &evidence.fact {
            Fact::Connection(connection) => is_smb_or_rpc(connection, policy),
            Fact::FileWrite(_) | Fact::ServiceSet(_) | Fact::ServiceMark(_) | Fact::Logon(_) => {
                true
            }
            Fact::ProcessStart(start) => matches!(
                start.parent,
                Parent::Services | Parent::Unknown | Parent::Watched
            ),
            _ => false,
        }
    }

    fn judge(&self, anchor: &Rc<Evidence>, locker: &Locker, policy: &Policy) -> Option<Finding> {
        let Fact::ServiceSet(set) = &anchor.fact else {
            return None;
        };
        let windows = &policy.windows;
        let put_back = service::put_back(anchor, set, locker, policy);
        // One service change belongs to one chain: what was created is `smbexec` or `psexec`.
        match set.change.get() {
            Change::Created => return None,
            Change::PerhapsCreated if put_back.is_none() => return None,
            Change::PerhapsCreated | Change::Changed => {}
        }
        // By the program: what stands in its arguments is whatever an attacker likes.
        let interpreter = || policy.is_interpreter(&set.program);
        let process = nearest(
            locker,
            Shelf::ProcessStart,
            anchor,
            (windows.clock_tolerance.0, windows.service_to_process.0),
            |fact| match fact {
                Fact::ProcessStart(start) => {
                    service::runs(start, set) || set.program.matches(&start.key) && !interpreter()
                }
                _ => false,
            },
        );
        if put_back.is_none() && process.is_none()
            || policy.scshell.ignore.hit(set.program.as_str()) && !interpreter()
        {
            return None;
        }
        let suspicious = is_suspicious(&set.program, &set.command, policy);
        // Not put back, a program that does not run what it is told is an update of the service; one that was just written
        // is an installation, or `psexec`.
        let written = || {
            let window = (windows.file_to_process.0, windows.clock_tolerance.0);
            nearest(
                locker,
                Shelf::FileWrite,
                anchor,
                window,
                |fact| matches!(fact, Fact::FileWrite(file) if file.key.matches(&set.program)),
            )
        };
        if put_back.is_none() && (!suspicious || written().is_some()) {
            return None;
        }
        let source = source::find(
            process.unwrap_or(anchor),
            locker,
            policy,
            Hints::default(),
            |connection| is_smb_or_rpc(connection, policy),
        );
        let connected = source.is_connected();
        let severity = match (process.is_some(), put_back.is_some()) {
            _ if service::is_local_getsystem(Some(&set.service), &set.command) => Severity::Low,
            (true, true) if suspicious && connected => Severity::Critical,
            (true, true) => Severity::High,
            (true, false) if connected => Severity::High,
            (true, false) => Severity::Medium,
            (false, _) if suspicious => Severity::Medium,
            (false, _) => Severity::Low,
        };
        let connection = source.connection.clone();
        let pieces = [
            ("connection", connection.as_ref()),
            ("service", Some(anchor)),
            ("process", process),
            ("put back", put_back),
        ];
        let mut finding = Finding::new(anchor, severity, &pieces, source, locker);
        finding.fold = lower(&set.service);
        finding.lateral = connected.then_some(true);
        Some(finding)
    }
}
