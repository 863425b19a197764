//! `psexec`: a program is dropped over SMB and started by the service controller.
//!
//! Sysinternals PsExec, impacket `psexec.py`, PAExec, RemCom, CSExec, Metasploit `psexec`, Cobalt Strike `jump psexec`. None of
//! their names is needed: what they cannot avoid is that the kernel's SMB server (`System`) writes a file and that
//! `services.exe` starts that very file. Connection, service and pipe make it surer and say who.

use super::{Chain, Finding, Rule, nearest, sources};
use crate::evidence::{Evidence, Fact, Parent, Shelf, Writer};
use crate::policy::{Policy, Severity, wildcard};
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
        policy.psexec.enabled
    }

    fn shelves(&self) -> &'static [Shelf] {
        &[Shelf::Connection, Shelf::FileWrite, Shelf::ProcessStart, Shelf::ServiceSet, Shelf::Pipe]
    }

    fn anchor(&self) -> Shelf {
        Shelf::ProcessStart
    }

    fn wants(&self, evidence: &Evidence, policy: &Policy) -> bool {
        match &evidence.fact {
            Fact::Connection(_) | Fact::FileWrite(_) | Fact::ServiceSet(_) => true,
            Fact::ProcessStart(start) => start.parent != Parent::Other,
            Fact::Pipe(pipe) => policy.psexec.pipes.iter().any(|pattern| wildcard(pattern, &pipe.key)),
        }
    }

    fn judge(&self, anchor: &Rc<Evidence>, locker: &Locker, policy: &Policy) -> Option<Finding> {
        let Fact::ProcessStart(process) = &anchor.fact else { return None };
        let windows = &policy.windows;
        let tolerance = windows.clock_tolerance.0;
        let dropped = |by_system: bool| {
            nearest(locker, Shelf::FileWrite, anchor, (windows.file_to_process.0, tolerance), |fact| match fact {
                Fact::FileWrite(file) => (file.writer == Writer::System) == by_system && file.key.matches(&process.key),
                _ => false,
            })
        };
        // A program that came over SMB stays one, whoever else wrote it as well.
        let file = dropped(true).or_else(|| dropped(false));
        let service = nearest(locker, Shelf::ServiceSet, anchor, (windows.service_to_process.0, tolerance), |fact| match fact {
            Fact::ServiceSet(set) => set.program.matches(&process.key),
            _ => false,
        });
        let pipe = nearest(locker, Shelf::Pipe, anchor, (tolerance, windows.process_to_pipe.0), |fact| match fact {
            Fact::Pipe(pipe) => match (&pipe.entity_id, &process.entity_id) {
                (Some(maker), Some(started)) if maker == started => true,
                _ => pipe.image.matches(&process.key),
            },
            _ => false,
        });
        let sources = sources(anchor, locker, policy);

        let (connected, supported) = (sources.is_some(), service.is_some() || pipe.is_some());
        let writer = file.and_then(|file| match &file.fact {
            Fact::FileWrite(file) => Some(&file.writer),
            _ => None,
        });
        let severity = match writer {
            Some(Writer::System) if connected && supported => Severity::Critical,
            Some(Writer::System) if connected || supported => Severity::High,
            Some(Writer::System) => Severity::Medium,
            // Not told who wrote it: only as good as what stands around it.
            Some(Writer::Unknown) if connected && supported => Severity::Medium,
            // Written on the host itself: an installer, or PsExec used for SYSTEM on the own machine.
            Some(Writer::Unknown | Writer::Process(_)) => Severity::Low,
            None if pipe.is_some() && connected && process.parent == Parent::Services => Severity::Medium,
            None => return None,
        };
        let lateral = match writer {
            Some(Writer::System) => Some(true),
            Some(Writer::Process(_)) => Some(false),
            Some(Writer::Unknown) | None => connected.then_some(true),
        };
        let connection = sources.as_ref().map(|sources| &sources.best);
        let found = [("connection", connection), ("file", file), ("process", Some(anchor)), ("service", service), ("pipe", pipe)];
        Some(Finding {
            anchor: Rc::clone(anchor),
            fold: process.key.as_str().to_owned(),
            severity,
            lateral,
            missing: found.iter().filter(|(_, piece)| piece.is_none()).map(|(name, _)| *name).collect(),
            pieces: found.iter().filter_map(|(_, piece)| piece.cloned()).collect(),
            candidates: sources.map(|sources| sources.candidates).unwrap_or_default(),
        })
    }
}
