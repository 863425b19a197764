//! `dcomexec`: a program that can be controlled over DCOM (`mmc.exe`, `explorer.exe`, Office) is connected to and starts another.
//!
//! impacket `dcomexec.py` (MMC20, ShellWindows, ShellBrowserWindow) and similar tools. Connection and process are joined by the
//! ProcessGuid of the program between them, which is as sure as a join can be.

use super::source::{self, Hints, LOGON};
use super::{
    CHILD, Join, Joined, Piece, Row, Rule, Shared, Table, Technique, Window, is_tool_command,
};
use crate::evidence::{Evidence, EvidenceKind, Fact, Needs, Parent};
use crate::normalize::cmd::Shape;
use crate::normalize::lower;
use crate::normalize::path::PathKey;
use crate::settings::{Levels, Patterns, Severity};
use serde::{Deserialize, Serialize};
use std::rc::Rc;

/// `[dcomexec]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Section {
    /// Whether the technique is in use.
    pub enabled: bool,
    /// What its levels map to.
    pub severity: Levels,
    /// Programs that can be controlled over DCOM, by file name, which is kept in lower case.
    #[serde(deserialize_with = "crate::settings::subject::file_names")]
    pub programs: Vec<String>,
}

impl Default for Section {
    fn default() -> Self {
        let programs = [
            "mmc.exe",
            "explorer.exe",
            "excel.exe",
            "winword.exe",
            "powerpnt.exe",
            "outlook.exe",
            "visio.exe",
            "mshta.exe",
            "msaccess.exe",
            "devenv.exe",
        ];
        Section {
            enabled: true,
            severity: Levels::default(),
            programs: programs.map(str::to_owned).to_vec(),
        }
    }
}

const CONNECTION: Piece = Piece::evidence(
    0,
    "connection",
    EvidenceKind::Connection,
    |windows| Window {
        before: windows.connection_before.0.max(windows.dcom.0),
        after: windows.connection_after.0,
    },
    "another machine connected to the process that started the program, or the program runs in the session of a logon from another",
);
const PROCESS: Piece = Piece::evidence(
    1,
    "process",
    EvidenceKind::ComStart,
    |_| Window::default(),
    "a program that can be controlled over DCOM started another",
);
const TOOL_COMMAND: Piece = Piece::property(
    2,
    "tool command",
    "only a remote execution tool gives such a command",
);

/// The table of the technique.
pub const TABLE: &Table = &Table {
    rule: Rule {
        chain: "dcomexec",
        id: "psexec-filter-dcomexec",
        name: "Process started over DCOM (dcomexec)",
        techniques: &["T1021.003", "T1559.001"],
    },
    anchors: &[EvidenceKind::ComStart],
    pieces: &[CONNECTION, PROCESS, TOOL_COMMAND, LOGON, CHILD],
    severity: &[
        Row::new(Severity::Critical, &[CONNECTION, TOOL_COMMAND]),
        Row::new(Severity::High, &[CONNECTION]),
        Row::new(Severity::Medium, &[TOOL_COMMAND]),
    ],
};

/// The technique; anchored in the process start.
pub struct Dcomexec {
    section: Section,
    /// Tool commands; those of `wmiexec`, whose tools are the same.
    commands: Patterns,
    shared: Rc<Shared>,
}

impl Dcomexec {
    /// The technique, if the policy has it in use. `commands` are those of `wmiexec`.
    pub fn in_use(
        section: &Section,
        commands: &Patterns,
        shared: &Rc<Shared>,
    ) -> Option<Box<dyn Technique>> {
        section.enabled.then(|| {
            Box::new(Dcomexec {
                section: section.clone(),
                commands: commands.clone(),
                shared: Rc::clone(shared),
            }) as Box<dyn Technique>
        })
    }
}

impl Technique for Dcomexec {
    fn table(&self) -> &'static Table {
        TABLE
    }

    fn levels(&self) -> &Levels {
        &self.section.severity
    }

    fn needs(&self, needs: &mut Needs) {
        let programs = self.section.programs.iter();
        needs.dcom_servers.extend(programs.map(|name| lower(name)));
        needs.com_commands = self.commands.clone();
    }

    fn wants(&self, evidence: &Evidence) -> bool {
        match &evidence.fact {
            Fact::Connection(connection) => {
                let mut programs = self.section.programs.iter();
                !connection.is_to_itself()
                    && programs.any(|program| program.eq_ignore_ascii_case(&connection.program))
            }
            Fact::ProcessStart(start) => matches!(start.parent, Parent::Dcom | Parent::Tracked),
            Fact::Logon(_) => true,
            _ => false,
        }
    }

    fn join<'j>(&self, join: &Join<'j>) -> Option<Joined<'j>> {
        let Fact::ProcessStart(process) = &join.anchor.fact else {
            return None;
        };
        if process.parent != Parent::Dcom {
            return None;
        }
        let hints = Hints {
            logon_id: process.logon_id,
            is_connection_tied: true,
            ..Hints::default()
        };
        let settings = &self.shared.connection;
        let mut source = source::find(
            join,
            join.anchor,
            &CONNECTION,
            settings,
            hints,
            &|connection| {
                connection.process_guid.is_some()
                    && connection.process_guid == process.parent_process_guid
                    && settings.is_dynamic_port(connection.local_port)
            },
        );
        let windows = &self.shared.windows;
        let window = Window {
            before: windows.dcom.0,
            after: windows.connection_after.0,
        };
        let is_near = |connection: &Rc<Evidence>| join.is_within(connection, window);
        if !source.connection.as_ref().is_some_and(is_near) {
            source.connection = None;
        }
        let is_connected = source.connection.is_some() || source.is_session_known;
        let mut joined = Joined::new(source);
        joined.seen.add(&CONNECTION, is_connected);
        joined.list(&PROCESS, Some(join.anchor));
        // People run commands from Explorer and macros from Office. Nobody has mmc.exe run commands.
        let is_by_console = process
            .parent_image
            .as_deref()
            .is_some_and(|image| PathKey::new(image).file_name() == "mmc.exe");
        let is_tool = is_tool_command(process, &self.commands, |shape| {
            const QUIET_TO_FILE: Shape = Shape::QUIET.and(Shape::OUTPUT_TO_FILE);
            shape.has(Shape::OUTPUT_TO_SHARE)
                || shape.has(QUIET_TO_FILE)
                || is_by_console && shape.has_any(QUIET_TO_FILE)
        });
        joined.seen.add(&TOOL_COMMAND, is_tool);
        let parent = process.parent_process_guid.as_deref();
        joined.group = parent.unwrap_or_default().to_owned();
        joined.lateral = is_connected.then_some(true);
        Some(joined)
    }
}
