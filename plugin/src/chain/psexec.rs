//! `psexec`: a program is dropped over SMB and started by the service controller.
//!
//! Sysinternals PsExec, impacket `psexec.py`, PAExec, RemCom, CSExec, Metasploit `psexec`, Cobalt Strike `jump psexec`. None of
//! their names is needed: what they cannot avoid is that the kernel's SMB server (`System`) writes a file and that `services.exe`
//! starts that very file. Connection, service and pipe make it surer and show who it was.
//!
//! Popular Sysmon configurations do not log that start. A pipe that the process makes then stands for it, or what the process
//! starts; where neither comes, the service that was given the file.

use super::program::{Anchors, Program};
use super::source::{self, Hints, LOGON, Source, is_to_services};
use super::{CHILD, Join, Joined, Piece, Row, Rule, Shared, Table, Technique, Window, service};
use crate::evidence::{Change, Evidence, EvidenceKind, Fact, Needs, Parent, Writer};
use crate::normalize::host;
use crate::settings::wildcard::wildcard;
use crate::settings::{Levels, Severity};
use serde::{Deserialize, Serialize};
use std::rc::Rc;

/// `[psexec]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Section {
    /// Whether the technique is in use.
    pub enabled: bool,
    /// What its levels map to.
    pub severity: Levels,
    /// Pipe names of PsExec and its relatives, kept in lower case, with `*` for any run of characters.
    #[serde(deserialize_with = "crate::settings::subject::pipes")]
    pub pipes: Vec<String>,
    /// Pieces without which nothing is alerted.
    pub require: Vec<Require>,
    /// How the pieces are brought together.
    pub r#match: Match,
}

/// `psexec.require`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // the pieces of the table below
pub enum Require {
    Connection,
    File,
    Process,
    Service,
    Pipe,
}

/// `psexec.match`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Match {
    /// By what they have in common: the file that was written is the one that was started.
    Joined,
    /// Without a join: three different event codes on one host in the window (`distinct_codes.rs`).
    DistinctCodes,
}

impl Default for Section {
    fn default() -> Self {
        let pipes = [
            "psexesvc*",
            "remcom_*",
            "paexec*",
            "csexecsvc*",
            "*-stdin",
            "*-stdout",
            "*-stderr",
        ];
        Section {
            enabled: true,
            severity: Levels::default(),
            pipes: pipes.map(str::to_owned).to_vec(),
            require: Vec::new(),
            r#match: Match::Joined,
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
const FILE: Piece = Piece::evidence(
    1,
    "file",
    EvidenceKind::FileWrite,
    service::file_window,
    "the program was written as a file",
);
const PROCESS: Piece = Piece::evidence(
    2,
    "process",
    EvidenceKind::ProcessStart,
    // Also around what stands for the start: a pipe of the process, or what it started as long as that belongs to it.
    |windows| Window {
        before: windows.process_to_pipe.0.max(windows.suppress.0),
        after: windows.service_to_process.0,
    },
    "the program was started by the service controller, or by an unknown parent",
);
const SERVICE: Piece = Piece::evidence(
    3,
    "service",
    EvidenceKind::ServiceSet,
    service::command_window,
    "a service was given the program",
);
const PIPE: Piece = Piece::evidence(
    4,
    "pipe",
    EvidenceKind::Pipe,
    |windows| Window {
        before: windows.clock_tolerance.0,
        after: windows.process_to_pipe.0,
    },
    "the process made a pipe of PsExec or a similar tool",
);
const OVER_SMB: Piece = Piece::property(5, "file over SMB", "`System` wrote the file");
const UNKNOWN_WRITER: Piece = Piece::property(
    6,
    "file of an unknown writer",
    "the event does not name the process that wrote the file",
);
const CREATED: Piece = Piece::property(7, "new service", "the service was created");
const INTERPRETER: Piece = Piece::property(
    8,
    "interpreter",
    "the program runs what its command line says",
);
const BY_SERVICES: Piece = Piece::property(
    9,
    "started by services.exe",
    "the parent is known to be the service controller",
);
/// Pipes by which the process names the machine that it was started from.
const NAMING_PIPE: Piece = Piece::evidence(
    10,
    "naming pipe",
    EvidenceKind::Pipe,
    |windows| Window {
        before: windows.clock_tolerance.0,
        after: windows.process_to_pipe.0.max(windows.suppress.0),
    },
    "a pipe of the process names the other machine",
)
.optional();
/// How near to the start of the process a key file is of this run, in milliseconds.
const KEY_FILE_MS: i64 = 5_000;
/// Key files by which PsExec names the machine that it was started from.
const KEY_FILE: Piece = Piece::evidence(
    11,
    "key file",
    EvidenceKind::FileWrite,
    |_| Window {
        before: KEY_FILE_MS,
        after: KEY_FILE_MS,
    },
    "a key file of PsExec names the other machine",
)
.optional();
const WINDOWS_OWN: Piece = Piece::property(
    12,
    "program of Windows",
    "the program lies in System32, no file came into that folder, and services of Windows may run it",
);
/// A file that the program may have been before it was renamed: SMB renames without an event.
const RENAMED: Piece = Piece::evidence(
    13,
    "renamed file",
    EvidenceKind::FileWrite,
    service::file_window,
    "`System` wrote another file into the program's folder",
)
.optional();
/// How long before the file a program of the host connects to the host's own shares when it copies the file itself, in milliseconds.
const SELF_MS: i64 = 5_000;
/// Connections by which a program of the host wrote the file over the host's own shares.
const SELF_CONNECTION: Piece = Piece::evidence(
    14,
    "connection to itself",
    EvidenceKind::SelfConnection,
    |windows| Window {
        before: SELF_MS,
        after: windows.connection_after.0,
    },
    "a program of the machine connected to the machine's own shares",
)
.optional()
.around(&FILE);
const FROM_ITSELF: Piece = Piece::property(
    15,
    "from the machine itself",
    "only a program of the machine itself used its shares, or what PsExec leaves names the machine itself",
);

/// The table of the technique.
pub const TABLE: &Table = &Table {
    rule: Rule {
        chain: "psexec",
        id: "psexec-filter-psexec",
        name: "Program dropped over SMB and started as a service (PsExec)",
        techniques: &["T1021.002", "T1569.002", "T1570"],
    },
    anchors: &[
        EvidenceKind::ProcessStart,
        EvidenceKind::Pipe,
        EvidenceKind::Child,
        EvidenceKind::ServiceSet,
    ],
    pieces: &[
        CONNECTION,
        FILE,
        PROCESS,
        SERVICE,
        PIPE,
        OVER_SMB,
        UNKNOWN_WRITER,
        CREATED,
        INTERPRETER,
        BY_SERVICES,
        NAMING_PIPE,
        KEY_FILE,
        WINDOWS_OWN,
        RENAMED,
        SELF_CONNECTION,
        FROM_ITSELF,
        CREATION_MARKS,
        LOGON,
        CHILD,
    ],
    severity: &[
        Row::new(Severity::Low, &[FROM_ITSELF]),
        Row::new(Severity::Critical, &[OVER_SMB, CONNECTION]).and_any(&[SERVICE, PIPE]),
        Row::new(Severity::High, &[OVER_SMB]).and_any(&[CONNECTION, SERVICE, PIPE]),
        Row::new(Severity::Medium, &[OVER_SMB]),
        Row::new(Severity::Medium, &[UNKNOWN_WRITER, CONNECTION]).and_any(&[SERVICE, PIPE]),
        // Written by a program of the host itself: an installer, or PsExec used for SYSTEM on the own machine.
        Row::new(Severity::Low, &[FILE]),
        Row::new(Severity::Medium, &[PIPE, CONNECTION, BY_SERVICES]),
        // A new service of a connected machine, whose program was renamed after it came, came long before, or is one that every
        // Windows has and no service of Windows runs.
        Row::new(Severity::Medium, &[CREATED, CONNECTION, BY_SERVICES])
            .without(&[INTERPRETER, WINDOWS_OWN]),
    ],
};

const CREATION_MARKS: Piece = service::CREATION_MARKS.around(&SERVICE);

/// Where surer anchors of one execution are.
const ANCHORS: Anchors<'static> = Anchors {
    start: &PROCESS,
    pipe: &PIPE,
    child: &CHILD,
};

/// The technique; anchored in the process start, or in what stands for it.
pub struct Psexec {
    section: Section,
    shared: Rc<Shared>,
}

impl Psexec {
    /// The technique, if the policy has it in use.
    pub fn in_use(section: &Section, shared: &Rc<Shared>) -> Option<Box<dyn Technique>> {
        if !section.enabled || section.r#match != Match::Joined {
            return None;
        }
        Some(Box::new(Psexec {
            section: section.clone(),
            shared: Rc::clone(shared),
        }))
    }

    /// The file that the process was started from, or that its command line runs.
    #[inline(never)]
    fn file<'j>(&self, join: &Join<'j>, program: &Program<'_>) -> Option<&'j Rc<Evidence>> {
        let started_from = |over_smb: bool| {
            join.nearest(&FILE, |fact| match fact {
                Fact::FileWrite(file) => {
                    file.is_over_smb() == over_smb && file.key.matches(&program.key)
                }
                _ => false,
            })
        };
        let is_interpreter = self.shared.suspicious.is_interpreter(&program.key);
        let run_by_command = || {
            let start = program.start.filter(|_| is_interpreter)?;
            service::dropped_in(join, &FILE, start)
        };
        // If several events wrote the file, the one over SMB counts.
        started_from(true)
            .or_else(run_by_command)
            .or_else(|| started_from(false))
    }

    /// A file that came over SMB into the program's folder.
    #[inline(never)]
    fn renamed<'j>(join: &Join<'j>, program: &Program<'_>) -> Option<&'j Rc<Evidence>> {
        join.nearest(&RENAMED, |fact| match fact {
            Fact::FileWrite(written) => {
                written.is_over_smb() && written.key.is_in_folder_of(&program.key)
            }
            _ => false,
        })
    }

    /// Who it came from, and the evidence that names the machine.
    #[inline(never)]
    fn source<'j>(
        &self,
        join: &Join<'j>,
        program: &Program<'_>,
        first: Option<&Rc<Evidence>>,
    ) -> (Source, Option<&'j Rc<Evidence>>) {
        let (machine, naming) = program.named_machine(join, &NAMING_PIPE, &KEY_FILE).unzip();
        let is_file = |naming: Option<&Rc<Evidence>>| {
            naming.is_some_and(|naming| matches!(naming.fact, Fact::FileWrite(_)))
        };
        let hints = Hints {
            machine,
            is_named_by_process: !is_file(naming.flatten()),
            first: first.map(|evidence| evidence.time.ms),
            ..Hints::default()
        };
        let connection = &self.shared.connection;
        let accepts = |found: &_| is_to_services(found, connection);
        let source = source::find(join, join.anchor, &CONNECTION, connection, hints, &accepts);
        (source, naming.flatten())
    }
}

impl Technique for Psexec {
    fn table(&self) -> &'static Table {
        TABLE
    }

    fn levels(&self) -> &Levels {
        &self.section.severity
    }

    fn needs(&self, needs: &mut Needs) {
        needs.pipes.extend(self.section.pipes.iter().cloned());
    }

    fn wants(&self, evidence: &Evidence) -> bool {
        match &evidence.fact {
            Fact::Connection(connection) => {
                connection.is_to_itself() || is_to_services(connection, &self.shared.connection)
            }
            Fact::ProcessStart(start) => match start.parent {
                Parent::Services | Parent::Unknown => {
                    service::read_interpreter(start, &self.shared.suspicious);
                    true
                }
                parent => parent == Parent::Tracked,
            },
            Fact::Pipe(pipe) => {
                let mut patterns = self.section.pipes.iter();
                patterns.any(|pattern| wildcard(pattern, &pipe.key))
            }
            other => matches!(
                other,
                Fact::FileWrite(_) | Fact::ServiceSet(_) | Fact::ServiceMark(_) | Fact::Logon(_)
            ),
        }
    }

    fn join<'j>(&self, join: &Join<'j>) -> Option<Joined<'j>> {
        let program = Program::of(join.anchor)?;
        if program.has_better_anchor(join, &ANCHORS) {
            return None;
        }
        let is_interpreter = self.shared.suspicious.is_interpreter(&program.key);
        let file = self.file(join, &program);
        // Without the start only what came over SMB shows that it is no service like any other.
        let over_smb = file.and_then(|file| match &file.fact {
            Fact::FileWrite(file) if file.is_over_smb() => Some(file),
            _ => None,
        });
        if program.start.is_none() && over_smb.is_none() || program.is_driver {
            return None;
        }
        let is_shared_host = service::is_shared_host(&program.key);
        let is_any = is_interpreter || is_shared_host;
        let service = join.nearest(&SERVICE, |fact| match fact {
            // The controller runs the command as it stands, so the line of the process is the command, whatever file that names.
            Fact::ServiceSet(set) => {
                !is_any && set.program.matches(&program.key)
                    || program.start.is_some_and(|start| service::runs(start, set))
            }
            _ => false,
        });
        let pipe = join.nearest(&PIPE, |fact| match fact {
            Fact::Pipe(pipe) => program.made(pipe),
            _ => false,
        });
        let writer = file.and_then(|file| match &file.fact {
            Fact::FileWrite(file) => Some(&file.writer),
            _ => None,
        });
        // An execution of the host itself has no source, whoever else used its shares at the time.
        let is_written_here = matches!(writer, Some(Writer::Process(_)));
        let self_connection =
            file.and_then(|file| program.used_own_shares(join, &SELF_CONNECTION, file));
        let (source, naming) = if is_written_here {
            (Source::default(), None)
        } else {
            self.source(join, &program, file.or(service))
        };
        let names_itself = source
            .machine
            .as_deref()
            .is_some_and(|machine| host::is_same_netbios(machine, join.computer));
        let is_from_itself =
            names_itself || self_connection.is_some() && source.candidates.is_empty();
        let source = if names_itself {
            Source::default()
        } else {
            source
        };
        let is_local = is_written_here || is_from_itself;
        let is_connected = source.is_connected();
        // Whether it is a program of Windows matters where no file is known and the program itself is what runs.
        let is_in_question = file.is_none() && !is_any && program.key.is_in_system32();
        let renamed = is_in_question.then(|| Psexec::renamed(join, &program));
        let renamed = renamed.flatten();
        let is_windows_own = program.key.is_in_system32()
            && renamed.is_none()
            && !self.shared.suspicious.is_system_program(&program.key);
        let set = service.and_then(|evidence| service::set_of(evidence));
        let mut joined = Joined::new(source);
        joined.seen.add(&CONNECTION, is_connected);
        joined.list(&FILE, file);
        joined.list(&PROCESS, program.start.map(|_| join.anchor));
        joined.list(&SERVICE, service);
        joined.list(&PIPE, pipe);
        let seen = &mut joined.seen;
        seen.add(&OVER_SMB, matches!(writer, Some(Writer::System)));
        seen.add(&UNKNOWN_WRITER, matches!(writer, Some(Writer::Unknown)));
        seen.add(
            &CREATED,
            set.is_some_and(|set| set.change() != Change::Changed),
        );
        seen.add(&INTERPRETER, is_interpreter);
        seen.add(&FROM_ITSELF, is_from_itself);
        seen.add(&WINDOWS_OWN, is_windows_own);
        let parent = program.start.map(|start| start.parent);
        seen.add(&BY_SERVICES, parent == Some(Parent::Services));
        let seen = joined.seen;
        let mut required = self.section.require.iter();
        if required.any(|piece| !seen.has(piece.piece())) {
            return None;
        }
        if is_local {
            joined.not_expected.add(&CONNECTION, true);
        }
        joined.consult(join, naming);
        joined.consult(join, renamed);
        joined.consult(join, self_connection);
        if let Some((service, set)) = service.zip(set) {
            let marks = join.all_around(&CREATION_MARKS, service);
            joined.consult(join, service::of_service(marks, set));
        }
        // The file's path is whole, however the service was given it.
        let path = over_smb.map_or(&*program.key, |file| &file.key);
        joined.group = path.as_str().to_owned();
        joined.process_guid = program.process_guid;
        joined.is_undecided = program.is_only_set();
        joined.lateral = match writer {
            _ if is_from_itself => Some(false),
            Some(Writer::System) => Some(true),
            Some(Writer::Process(_)) => Some(false),
            Some(Writer::Unknown) | None => is_connected.then_some(true),
        };
        Some(joined)
    }
}

impl Require {
    fn piece(self) -> &'static Piece {
        match self {
            Require::Connection => &CONNECTION,
            Require::File => &FILE,
            Require::Process => &PROCESS,
            Require::Service => &SERVICE,
            Require::Pipe => &PIPE,
        }
    }
}
