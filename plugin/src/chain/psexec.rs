//! `psexec`: a program is dropped over SMB and started by the service controller.
//!
//! Sysinternals PsExec, impacket `psexec.py`, PAExec, RemCom, CSExec, Metasploit `psexec`, Cobalt Strike `jump psexec`. None of
//! their names is needed: what they cannot avoid is that the kernel's SMB server (`System`) writes a file and that
//! `services.exe` starts that very file. Connection, service and pipe make it surer and say who.

use super::source::{self, Hints};
use super::{Chain, Finding, Rule, nearest, service};
use crate::evidence::{Change, Connection, Evidence, Fact, Parent, ProcessStart, Shelf, Writer};
use crate::pattern::wildcard;
use crate::policy::{Levels, Match, Policy, Severity};
use crate::state::locker::Locker;
use std::rc::Rc;

/// The chain; anchored in the process start.
pub struct Psexec;

static RULE: Rule = Rule {
    chain: "psexec",
    id: "psexec-filter-psexec",
    name: "Program dropped over SMB and started as a service (PsExec)",
    techniques: &["T1021.002", "T1569.002", "T1570"],
};

impl Chain for Psexec {
    fn rule(&self) -> &'static Rule {
        &RULE
    }

    fn enabled(&self, policy: &Policy) -> bool {
        policy.psexec.enabled && policy.psexec.r#match == Match::Joined
    }

    fn levels<'p>(&self, policy: &'p Policy) -> &'p Levels {
        &policy.psexec.severity
    }

    fn shelves(&self) -> &'static [Shelf] {
        &[
            Shelf::Connection,
            Shelf::FileWrite,
            Shelf::ProcessStart,
            Shelf::Child,
            Shelf::ServiceSet,
            Shelf::ServiceMark,
            Shelf::Pipe,
            Shelf::Logon,
        ]
    }

    fn anchors(&self) -> &'static [Shelf] {
        &[Shelf::ProcessStart]
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
            Fact::Pipe(pipe) => policy
                .psexec
                .pipes
                .iter()
                .any(|pattern| wildcard(pattern, &pipe.key)),
        }
    }

    fn judge(&self, anchor: &Rc<Evidence>, locker: &Locker, policy: &Policy) -> Option<Finding> {
        let Fact::ProcessStart(process) = &anchor.fact else {
            return None;
        };
        let windows = &policy.windows;
        let tolerance = windows.clock_tolerance.0;
        let interpreter = policy.is_interpreter(&process.key);
        let dropped = |by_system: bool| {
            nearest(
                locker,
                Shelf::FileWrite,
                anchor,
                (windows.file_to_process.0, tolerance),
                |fact| match fact {
                    Fact::FileWrite(file) => {
                        (file.writer == Writer::System) == by_system
                            && file.key.matches(&process.key)
                    }
                    _ => false,
                },
            )
        };
        let run_by = |process: &ProcessStart| match process.words() {
            Some(line) if interpreter => service::dropped_in(line, anchor, locker, policy),
            _ => None,
        };
        // A program that came over SMB stays one, whoever else wrote it as well.
        let file = dropped(true)
            .or_else(|| run_by(process))
            .or_else(|| dropped(false));
        let service = nearest(
            locker,
            Shelf::ServiceSet,
            anchor,
            (windows.service_to_process.0, tolerance),
            |fact| match fact {
                Fact::ServiceSet(set) if interpreter => service::runs(process, set),
                Fact::ServiceSet(set) => set.program.matches(&process.key),
                _ => false,
            },
        );
        let pipe = nearest(
            locker,
            Shelf::Pipe,
            anchor,
            (tolerance, windows.process_to_pipe.0),
            |fact| match fact {
                Fact::Pipe(pipe) => match (&pipe.entity_id, &process.entity_id) {
                    (Some(maker), Some(started)) if maker == started => true,
                    _ => pipe.image.matches(&process.key),
                },
                _ => false,
            },
        );
        let writer = file.and_then(|file| match &file.fact {
            Fact::FileWrite(file) => Some(&file.writer),
            _ => None,
        });
        // What the host did itself has no source, whoever else used its shares at the time.
        let local = matches!(writer, Some(Writer::Process(_)));
        let source = if local {
            source::Source::default()
        } else {
            let hints = Hints {
                domain: machine_named(anchor, process, locker, policy),
                ..Hints::default()
            };
            source::find(anchor, locker, policy, hints, |connection| {
                is_smb_or_rpc(connection, policy)
            })
        };

        let (connected, supported) = (source.is_connected(), service.is_some() || pipe.is_some());
        let created = service.is_some_and(|service| match &service.fact {
            Fact::ServiceSet(set) => set.change.get() != Change::Changed,
            _ => false,
        });
        let severity = match writer {
            Some(Writer::System) if connected && supported => Severity::Critical,
            Some(Writer::System) if connected || supported => Severity::High,
            Some(Writer::System) => Severity::Medium,
            // Not told who wrote it: only as good as what stands around it.
            Some(Writer::Unknown) if connected && supported => Severity::Medium,
            // Written on the host itself: an installer, or PsExec used for SYSTEM on the own machine.
            Some(Writer::Unknown | Writer::Process(_)) => Severity::Low,
            None if pipe.is_some() && connected && process.parent == Parent::Services => {
                Severity::Medium
            }
            // Renamed after it came, so that its file event has another name: a new service of a connected machine.
            None if created && connected && !interpreter && process.parent == Parent::Services => {
                Severity::Medium
            }
            None => return None,
        };
        let connection = source.connection.clone();
        let pieces = [
            ("connection", connection.as_ref()),
            ("file", file),
            ("process", Some(anchor)),
            ("service", service),
            ("pipe", pipe),
        ];
        let mut finding = Finding::new(anchor, severity, &pieces, source, locker);
        if policy
            .psexec
            .require
            .iter()
            .any(|piece| finding.missing.iter().any(|name| name == piece.name()))
        {
            return None;
        }
        if local {
            finding.missing.retain(|name| name != "connection");
        }
        finding.fold = process.key.as_str().to_owned();
        finding.lateral = match writer {
            Some(Writer::System) => Some(true),
            Some(Writer::Process(_)) => Some(false),
            Some(Writer::Unknown) | None => connected.then_some(true),
        };
        Some(finding)
    }
}

/// Whether a connection can be that of such a tool: to a service port, or to a dynamic port of the service controller or of
/// another host of RPC services.
pub fn is_smb_or_rpc(connection: &Connection, policy: &Policy) -> bool {
    policy.connection.ports.contains(&connection.local_port)
        || policy
            .connection
            .dynamic_programs
            .iter()
            .any(|program| **program == *connection.program)
}

/// The machine that a tool names in what it leaves behind: PsExec in its pipes (`\PSEXESVC-<HOST>-<pid>-stdin`) and, since
/// 2.30, in a key file (`PSEXEC-<HOST>-<8 hex>.key`); PAExec in its program (`PAExec-<pid>-<HOST>.exe`).
fn machine_named(
    anchor: &Evidence,
    process: &ProcessStart,
    locker: &Locker,
    policy: &Policy,
) -> Option<String> {
    let windows = &policy.windows;
    let own = process
        .key
        .file_name()
        .strip_suffix(".exe")
        .unwrap_or(process.key.file_name());
    if let Some((_pid, host)) = own
        .strip_prefix("paexec-")
        .and_then(|rest| rest.split_once('-'))
    {
        return Some(host.to_owned());
    }
    let pipes = locker
        .shelf(Shelf::Pipe)
        .filter_map(|piece| match &piece.fact {
            // The pipe is named after the service, whatever that was called, and ours.
            Fact::Pipe(pipe)
                if pipe.image.matches(&process.key)
                    || pipe.entity_id.is_some() && pipe.entity_id == process.entity_id =>
            {
                let stem = ["-stdin", "-stdout", "-stderr"]
                    .iter()
                    .find_map(|end| pipe.key.strip_suffix(end))?;
                let (stem, _pid) = stem.rsplit_once('-')?;
                stem.split_once('-').map(|(_, host)| host.to_owned())
            }
            _ => None,
        });
    let files = locker.shelf(Shelf::FileWrite).filter(|piece| {
        super::within(
            piece,
            anchor,
            windows.file_to_process.0,
            windows.process_to_pipe.0,
        )
    });
    let keys = files.filter_map(|piece| match &piece.fact {
        Fact::FileWrite(file) if file.writer == Writer::System => {
            let stem = file
                .key
                .file_name()
                .strip_prefix("psexec-")?
                .strip_suffix(".key")?;
            stem.rsplit_once('-').map(|(host, _)| host.to_owned())
        }
        _ => None,
    });
    pipes.chain(keys).find(|host| !host.is_empty())
}
