//! `scshell`: an existing service is given another program, started, and given its old program back.
//!
//! SCShell, SharpNoPSExec, `sc config` by hand. Nothing is created and nothing dropped. What it cannot avoid: the service's
//! `ImagePath` is written, its program runs under the service controller, and `ImagePath` is restored.

use super::source::{self, Hints, LOGON, is_to_services};
use super::{CHILD, Join, Joined, Piece, Row, Rule, Shared, Table, Technique, Window, service};
use crate::evidence::{Change, Evidence, EvidenceKind, Fact, Parent, ServiceSet};
use crate::normalize::lower;
use crate::settings::{Levels, Patterns, Severity};
use serde::{Deserialize, Serialize};
use std::rc::Rc;

/// `[scshell]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Section {
    /// Whether the technique is in use.
    pub enabled: bool,
    /// What its levels map to.
    pub severity: Levels,
    /// Programs of services, by their path, that the services' own updates change.
    #[serde(deserialize_with = "crate::settings::subject::paths")]
    pub ignore: Patterns,
}

impl Default for Section {
    fn default() -> Self {
        let ignore = [
            r"*:\programdata\microsoft\windows defender\platform\*",
            r"*:\programdata\microsoft\windows defender advanced threat protection\*",
            r"*:\program files*\google\update\*",
            r"*:\program files*\google\googleupdater\*",
            r"*:\program files*\google\chrome\application\*",
            r"*:\program files*\microsoft\edgeupdate\*",
            r"*:\program files*\microsoft\edge\application\*",
            r"*:\windows\ccmsetup\ccmsetup.exe",
        ];
        Section {
            enabled: true,
            severity: Levels::default(),
            ignore: Patterns::known(&ignore),
        }
    }
}

const CONNECTION: Piece = Piece::evidence(
    0,
    "connection",
    EvidenceKind::Connection,
    source::connection_window,
    "another machine connected to SMB or RPC",
)
.around(&PROCESS);
const SERVICE: Piece = Piece::evidence(
    1,
    "service",
    EvidenceKind::ServiceSet,
    |_| Window::default(),
    "an existing service was given another program",
);
const PROCESS: Piece = Piece::evidence(
    2,
    "process",
    EvidenceKind::ProcessStart,
    |windows| Window {
        before: windows.clock_tolerance.0,
        after: windows.service_to_process.0,
    },
    "the service controller started that program",
);
const RESTORED: Piece = Piece::evidence(
    3,
    "restored",
    EvidenceKind::ServiceSet,
    service::restored_window,
    "the service then got its own program back",
);
const SUSPICIOUS: Piece = Piece::property(
    4,
    "suspicious program",
    "the program is an interpreter, or it is on a share or where users can write",
);
const FILE: Piece = Piece::evidence(
    5,
    "file just written",
    EvidenceKind::FileWrite,
    service::file_window,
    "the program's file was written shortly before, as an installation does",
)
.optional();
const LOCAL: Piece = Piece::property(
    6,
    "local getsystem",
    "the command only echoes into a pipe, or runs a DLL named like its service",
);

const SYSTEM_PROGRAM: Piece = Piece::property(
    7,
    "system program",
    "every Windows has the program, and no service of Windows runs it",
);
const DELETED: Piece = Piece::evidence(
    8,
    "deleted",
    EvidenceKind::ServiceMark,
    |windows| Window {
        before: windows.clock_tolerance.0,
        after: windows.service_deleted.0,
    },
    "the service was deleted soon after, so it had been created",
)
.optional();

/// The table of the technique.
pub const TABLE: &Table = &Table {
    rule: Rule {
        chain: "scshell",
        id: "psexec-filter-scshell",
        name: "Existing service re-pointed and started (SCShell)",
        techniques: &["T1569.002", "T1543.003", "T1574.011"],
    },
    anchors: &[EvidenceKind::ServiceSet],
    pieces: &[
        CONNECTION,
        SERVICE,
        PROCESS,
        RESTORED,
        SUSPICIOUS,
        FILE,
        LOCAL,
        SYSTEM_PROGRAM,
        DELETED,
        service::CREATION_MARKS,
        AROUND_LOGON,
        AROUND_CHILD,
    ],
    severity: &[
        Row::new(Severity::Low, &[RESTORED, LOCAL]),
        Row::new(Severity::Low, &[PROCESS, SUSPICIOUS, LOCAL]).without(&[FILE]),
        Row::new(
            Severity::Critical,
            &[CONNECTION, PROCESS, RESTORED, SUSPICIOUS],
        ),
        Row::new(Severity::High, &[PROCESS, RESTORED]),
        Row::new(Severity::Medium, &[RESTORED, SUSPICIOUS]),
        Row::new(Severity::Low, &[RESTORED]),
        // Not restored, a program that does not run what its command line says is an update of the service.
        Row::new(Severity::High, &[CONNECTION, PROCESS, SUSPICIOUS]).without(&[FILE]),
        Row::new(Severity::Medium, &[PROCESS, SUSPICIOUS]).without(&[FILE]),
        Row::new(Severity::Medium, &[CONNECTION, PROCESS, SYSTEM_PROGRAM]),
    ],
};

const AROUND_LOGON: Piece = LOGON.around(&PROCESS);
const AROUND_CHILD: Piece = CHILD.around(&PROCESS);

/// The technique; anchored in the change of the service.
pub struct Scshell {
    section: Section,
    shared: Rc<Shared>,
}

impl Scshell {
    /// The technique, if the policy has it in use.
    pub fn in_use(section: &Section, shared: &Rc<Shared>) -> Option<Box<dyn Technique>> {
        section.enabled.then(|| {
            Box::new(Scshell {
                section: section.clone(),
                shared: Rc::clone(shared),
            }) as Box<dyn Technique>
        })
    }

    /// Whether the program of a service was written as a file shortly before: over SMB, or by whomever.
    fn is_just_written(join: &Join<'_>, set: &ServiceSet, over_smb: bool) -> bool {
        let is_it = |fact: &Fact| match fact {
            Fact::FileWrite(file) => {
                file.key.matches(&set.program) && (file.is_over_smb() || !over_smb)
            }
            _ => false,
        };
        join.all(&FILE).any(|evidence| is_it(&evidence.fact))
    }
}

impl Technique for Scshell {
    fn table(&self) -> &'static Table {
        TABLE
    }

    fn levels(&self) -> &Levels {
        &self.section.severity
    }

    fn wants(&self, evidence: &Evidence) -> bool {
        match &evidence.fact {
            Fact::Connection(connection) => is_to_services(connection, &self.shared.connection),
            Fact::FileWrite(_) | Fact::ServiceSet(_) | Fact::ServiceMark(_) | Fact::Logon(_) => {
                true
            }
            Fact::ProcessStart(start) => matches!(
                start.parent,
                Parent::Services | Parent::Unknown | Parent::Tracked
            ),
            _ => false,
        }
    }

    fn join<'j>(&self, join: &Join<'j>) -> Option<Joined<'j>> {
        let Fact::ServiceSet(set) = &join.anchor.fact else {
            return None;
        };
        let suspicious = &self.shared.suspicious;
        let restored = service::restored(join, &RESTORED, (join.anchor, set), suspicious);
        // One service change belongs to one technique: a service that was created is `smbexec` or `psexec`.
        let is_changed = match set.change() {
            Change::Created => false,
            Change::PerhapsCreated => restored.is_some(),
            Change::Changed => {
                let mut marks = service::of_service(join.all(&DELETED), set);
                restored.is_some()
                    || !service::is_tool_shape(set.shape)
                        && !marks.any(|mark| service::is_deletion(mark))
            }
        };
        if !is_changed {
            return None;
        }
        // By the program: an attacker chooses what stands in its arguments.
        let is_interpreter = || suspicious.is_interpreter(&set.program);
        let process = join.nearest(&PROCESS, |fact| match fact {
            Fact::ProcessStart(start) => {
                let is_any = || is_interpreter() || service::is_shared_host(&set.program);
                service::runs(start, set) || set.program.matches(&start.key) && !is_any()
            }
            _ => false,
        });
        let is_ignored = || self.section.ignore.hit(set.program.as_str()) && !is_interpreter();
        if restored.is_none() && process.is_none() || is_ignored() {
            return None;
        }
        // A program that came over SMB is `psexec`, whatever service it was given to.
        if Scshell::is_just_written(join, set, true) {
            return None;
        }
        let connection = &self.shared.connection;
        let center = process.unwrap_or(join.anchor);
        let accepts = |found: &_| is_to_services(found, connection);
        let hints = Hints {
            first: Some(join.anchor.time.ms),
            ..Hints::default()
        };
        let source = source::find(join, center, &CONNECTION, connection, hints, &accepts);
        let is_connected = source.is_connected();
        let is_local = service::is_local_getsystem(Some(&set.service), &set.command, set.shape);
        let mut joined = Joined::new(source);
        joined.seen.add(&CONNECTION, is_connected);
        joined.list(&SERVICE, Some(join.anchor));
        joined.list(&PROCESS, process);
        joined.list(&RESTORED, restored);
        // Agents live in ProgramData, and update themselves there.
        let is_agent = set.program.is_in_program_data() && !is_interpreter();
        let is_suspicious = suspicious.is_suspicious(&set.program, &set.command);
        let seen = &mut joined.seen;
        seen.add(
            &SUSPICIOUS,
            is_suspicious && (restored.is_some() || !is_agent),
        );
        seen.add(&SYSTEM_PROGRAM, suspicious.is_system_program(&set.program));
        seen.add(
            &FILE,
            restored.is_none() && Scshell::is_just_written(join, set, false),
        );
        seen.add(&LOCAL, is_local);
        for piece in [&service::CREATION_MARKS, &DELETED] {
            joined.consult(join, service::of_service(join.all(piece), set));
        }
        joined.group = lower(&set.service);
        joined.lateral = is_connected.then_some(true);
        Some(joined)
    }
}
