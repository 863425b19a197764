//! `smbexec`: a command runs as the program of a new service.
//!
//! impacket `smbexec.py`, NetExec, CrackMapExec, Empire `Invoke-PSExec` and `Invoke-SMBExec`, Metasploit `psexec` with its
//! powershell and command targets, Cobalt Strike `psexec_psh`. Nothing is dropped: the service controller itself starts `cmd.exe` or
//! `powershell.exe`, with one throw-away service for each command. Services do not do that.

use super::source::{self, Hints, LOGON, is_to_services};
use super::{
    CHILD, Join, Joined, Piece, Row, Rule, Shared, Table, Technique, Window, is_tool_command,
    service,
};
use crate::evidence::{
    Change, Evidence, EvidenceKind, Fact, Needs, Parent, ProcessStart, ServiceSet,
};
use crate::settings::{Bounded, Levels, Patterns, Severity};
use serde::{Deserialize, Serialize};
use std::rc::Rc;

/// `[smbexec]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Section {
    /// Whether the technique is in use.
    pub enabled: bool,
    /// What its levels map to.
    pub severity: Levels,
    /// Commands that only such a tool gives a service, beside those that are known by their shape.
    #[serde(deserialize_with = "crate::settings::subject::commands")]
    pub commands: Patterns,
    /// This many tool commands within `windows.shell` are a shell.
    pub shell_commands: Bounded<2, 16>,
    /// Services, as `name command`, that look like it and are not.
    #[serde(deserialize_with = "crate::settings::subject::service_commands")]
    pub ignore: Patterns,
}

impl Default for Section {
    fn default() -> Self {
        Section {
            enabled: true,
            severity: Levels::default(),
            commands: Patterns::default(),
            shell_commands: Bounded::constant::<3>(),
            ignore: Patterns::default(),
        }
    }
}

const CONNECTION: Piece = Piece::evidence(
    0,
    "connection",
    EvidenceKind::Connection,
    source::connection_window,
    "another machine connected to SMB or RPC",
);
const SERVICE: Piece = Piece::evidence(
    1,
    "service",
    EvidenceKind::ServiceSet,
    service::command_window,
    "a new service was given the command",
);
const PROCESS: Piece = Piece::evidence(
    2,
    "process",
    EvidenceKind::ProcessStart,
    |_| Window::default(),
    "the service controller, or an unknown parent, started the command",
);
const DELETED: Piece = Piece::evidence(
    3,
    "deleted",
    EvidenceKind::ServiceMark,
    |windows| Window {
        before: windows.clock_tolerance.0,
        after: windows.service_deleted.0,
    },
    "the service was deleted soon after",
)
.optional();
const REPEATED: Piece = Piece::evidence(
    4,
    "repeated",
    EvidenceKind::ProcessStart,
    |windows| Window {
        before: windows.shell.0,
        after: windows.shell.0,
    },
    "several tool commands ran within `windows.shell`",
)
.optional();
const TOOL_COMMAND: Piece = Piece::property(
    5,
    "tool command",
    "only a remote execution tool gives such a command",
);
const BY_SERVICES: Piece = Piece::property(
    6,
    "started by services.exe",
    "the parent is known to be the service controller",
);
const LOCAL: Piece = Piece::property(
    7,
    "local getsystem",
    "the command only echoes into a pipe, or runs a DLL named like its service",
);
/// A later command of the same service: a perhaps new service that is restored was only changed, which is `scshell`.
const RESTORED: Piece = Piece::evidence(
    8,
    "restored",
    EvidenceKind::ServiceSet,
    service::restored_window,
    "the service got its old command back",
)
.optional()
.around(&SERVICE);
/// Files that the command may run, which is `psexec`.
const FILE: Piece = Piece::evidence(
    9,
    "file",
    EvidenceKind::FileWrite,
    service::file_window,
    "the command runs a file that came over SMB",
)
.optional();
const CREATION_MARKS: Piece = service::CREATION_MARKS.around(&SERVICE);

/// The table of the technique.
pub const TABLE: &Table = &Table {
    rule: Rule {
        chain: "smbexec",
        id: "psexec-filter-smbexec",
        name: "Command run as the program of a new service (SMBExec)",
        techniques: &["T1021.002", "T1569.002", "T1543.003", "T1059"],
    },
    anchors: &[EvidenceKind::ProcessStart],
    pieces: &[
        CONNECTION,
        SERVICE,
        PROCESS,
        DELETED,
        REPEATED,
        TOOL_COMMAND,
        BY_SERVICES,
        LOCAL,
        RESTORED,
        FILE,
        CREATION_MARKS,
        LOGON,
        CHILD,
    ],
    severity: &[
        Row::new(Severity::Low, &[LOCAL]),
        Row::new(Severity::Critical, &[CONNECTION, SERVICE, TOOL_COMMAND])
            .and_any(&[DELETED, REPEATED]),
        Row::new(Severity::High, &[SERVICE]).and_any(&[CONNECTION, TOOL_COMMAND]),
        Row::new(Severity::Medium, &[SERVICE, DELETED]),
        // An installer may run a command as a service.
        Row::new(Severity::Low, &[SERVICE]),
        Row::new(Severity::Medium, &[TOOL_COMMAND, BY_SERVICES]),
    ],
};

/// The technique; anchored in the process start.
pub struct Smbexec {
    section: Section,
    shared: Rc<Shared>,
}

impl Smbexec {
    /// The technique, if the policy has it in use.
    pub fn in_use(section: &Section, shared: &Rc<Shared>) -> Option<Box<dyn Technique>> {
        section.enabled.then(|| {
            Box::new(Smbexec {
                section: section.clone(),
                shared: Rc::clone(shared),
            }) as Box<dyn Technique>
        })
    }

    /// What a service change is to this technique, which takes services that were created: `None` if it belongs to another, else
    /// whether that is certain.
    ///
    /// Few of the values that CreateService writes may have been logged, or ChangeServiceConfig may have written them. Then what follows
    /// decides (deleted: created; restored: changed), and the command.
    #[inline(never)]
    fn is_certain(
        &self,
        join: &Join<'_>,
        (evidence, set): (&Evidence, &ServiceSet),
        is_deleted: bool,
    ) -> Option<bool> {
        if set.change() == Change::Created {
            return Some(true);
        }
        let suspicious = &self.shared.suspicious;
        if service::restored(join, &RESTORED, (evidence, set), suspicious).is_some() {
            return None;
        }
        if is_deleted || service::is_tool_shape(set.shape) {
            return Some(true);
        }
        (set.change() == Change::PerhapsCreated).then_some(false)
    }

    fn is_tool_command(&self, start: &ProcessStart) -> bool {
        is_tool_command(start, &self.section.commands, service::is_tool_shape)
    }

    /// Whether so many tool commands ran near by that they are a shell.
    #[inline(never)]
    fn is_shell(&self, join: &Join<'_>) -> bool {
        let is_tool = |other: &&Rc<Evidence>| match &other.fact {
            Fact::ProcessStart(start) => self.is_tool_command(start),
            _ => false,
        };
        let commands = join.all(&REPEATED).filter(is_tool).count();
        commands >= self.section.shell_commands.get()
    }
}

impl Technique for Smbexec {
    fn table(&self) -> &'static Table {
        TABLE
    }

    fn levels(&self) -> &Levels {
        &self.section.severity
    }

    fn needs(&self, needs: &mut Needs) {
        needs.service_commands = self.section.commands.clone();
    }

    fn wants(&self, evidence: &Evidence) -> bool {
        match &evidence.fact {
            Fact::Connection(connection) => is_to_services(connection, &self.shared.connection),
            Fact::ServiceSet(_) | Fact::ServiceMark(_) | Fact::FileWrite(_) | Fact::Logon(_) => {
                true
            }
            Fact::ProcessStart(start) => match start.parent {
                Parent::Tracked => true,
                Parent::Services | Parent::Unknown => {
                    service::read_interpreter(start, &self.shared.suspicious)
                }
                _ => false,
            },
            _ => false,
        }
    }

    fn join<'j>(&self, join: &Join<'j>) -> Option<Joined<'j>> {
        let Fact::ProcessStart(process) = &join.anchor.fact else {
            return None;
        };
        let command = process.command();
        let service = join.nearest(&SERVICE, |fact| match fact {
            Fact::ServiceSet(set) => service::runs(process, set),
            _ => false,
        });
        let set = service.and_then(|evidence| Some((evidence, service::set_of(evidence)?)));
        let marks = |set| service::of_service(join.all(&DELETED), set);
        let is_deleted =
            set.is_some_and(|(_, set)| marks(set).any(|mark| service::is_deletion(mark)));
        let is_certain = match set {
            Some((evidence, set)) => self.is_certain(join, (evidence, set), is_deleted)?,
            None => true,
        };
        // A file that came over SMB and is run by the command is `psexec`.
        if service::dropped_in(join, &FILE, process).is_some() {
            return None;
        }
        let name = set.map(|(_, set)| &*set.service);
        let ignore = &self.section.ignore;
        if !ignore.is_empty() && ignore.hit(&format!("{} {command}", name.unwrap_or_default())) {
            return None;
        }
        let connection = &self.shared.connection;
        let accepts = |found: &_| is_to_services(found, connection);
        let hints = Hints {
            first: service.map(|evidence| evidence.time.ms),
            ..Hints::default()
        };
        let source = source::find(join, join.anchor, &CONNECTION, connection, hints, &accepts);
        let is_connected = source.is_connected();
        let is_local = service::is_local_getsystem(name, command, process.shape);
        let mut joined = Joined::new(source);
        joined.seen.add(&CONNECTION, is_connected);
        joined.list(&SERVICE, service);
        joined.list(&PROCESS, Some(join.anchor));
        if let Some((evidence, set)) = set {
            joined.seen.add(&DELETED, is_deleted);
            joined.consult(join, marks(set));
            let marks = join.all_around(&CREATION_MARKS, evidence);
            joined.consult(join, service::of_service(marks, set));
        }
        let seen = &mut joined.seen;
        seen.add(&TOOL_COMMAND, self.is_tool_command(process));
        seen.add(&BY_SERVICES, process.parent == Parent::Services);
        seen.add(&LOCAL, is_local);
        seen.add(&REPEATED, set.is_some() && self.is_shell(join));
        joined.group_by_source = true;
        joined.is_undecided = !is_certain;
        if is_local {
            // A local getsystem is an incident of its own, even during an attack.
            joined.group = "local".to_owned();
        } else {
            // So is what an installer runs, so that it does not hide a tool's command.
            if joined.seen.has(&TOOL_COMMAND) {
                joined.group = "tool".to_owned();
            }
            joined.lateral = is_connected.then_some(true);
        }
        Some(joined)
    }
}
