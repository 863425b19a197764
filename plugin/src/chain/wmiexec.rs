//! `wmiexec`: WMI starts a process for another machine.
//!
//! impacket `wmiexec.py`, NetExec, CrackMapExec, smbmap, `wmic /node:`, SharpWMI, Empire. Two forms. Strong: the command line is one
//! that only such a tool gives (a shell whose output goes into a file), whoever connected. Weak: any child of WMI's provider host in
//! a logon session of a person, with a connection to RPC before it.

use super::source::{self, Hints, LOGON, is_smb_or_rpc};
use super::{
    CHILD, Join, Joined, Piece, Row, Rule, Shared, Table, Technique, Window, is_tool_command,
    service,
};
use crate::evidence::{Connection, Evidence, EvidenceKind, Fact, Needs, Parent, ProcessStart};
use crate::normalize::cmd::Shape;
use crate::settings::{Levels, Patterns, Severity};
use serde::{Deserialize, Serialize};
use std::rc::Rc;

/// `[wmiexec]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Section {
    /// Whether the technique is in use.
    pub enabled: bool,
    /// What its levels map to.
    pub severity: Levels,
    /// Command lines that only such a tool gives, whoever connected, beside those that are known by their shape.
    #[serde(deserialize_with = "crate::settings::subject::commands")]
    pub commands: Patterns,
    /// Programs that management tools start over WMI, by their path. One with a tool command is alerted all the same.
    #[serde(deserialize_with = "crate::settings::subject::paths")]
    pub ignore: Patterns,
}

impl Default for Section {
    fn default() -> Self {
        let commands = [r"*> \\127.0.0.1\*$\* 2>&1*"];
        let ignore = [
            r"*:\windows\ccm\*",
            r"*:\windows\ccmsetup\*",
            r"*:\windows\system32\wbem\mofcomp.exe",
            r"*:\windows\microsoft.net\framework*\csc.exe",
            r"*:\windows\system32\powercfg.exe",
            r"*:\windows\system32\inetsrv\appcmd.exe",
            r"*:\windows\system32\wbem\wmiprvse.exe",
            r"*:\windows\system32\werfault.exe",
            r"*:\program files\microsoft monitoring agent\*",
        ];
        Section {
            enabled: true,
            severity: Levels::default(),
            commands: Patterns::known(&commands),
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
);
const PROCESS: Piece = Piece::evidence(
    1,
    "process",
    EvidenceKind::ComStart,
    |_| Window::default(),
    "WMI's provider host started a program",
);
const REPEATED: Piece = Piece::evidence(
    2,
    "repeated",
    EvidenceKind::ComStart,
    |windows| Window {
        before: windows.shell.0,
        after: windows.shell.0,
    },
    "another tool command ran in the same session within `windows.shell`",
)
.optional();
const TOOL_COMMAND: Piece = Piece::property(
    3,
    "tool command",
    "only a remote execution tool gives such a command",
);
const RPC: Piece = Piece::property(
    4,
    "RPC connection",
    "the connection is to RPC, or the process runs in the session of a logon from another machine",
);
const PERSON: Piece = Piece::property(
    5,
    "person's session",
    "the program runs in a person's logon session",
);
const SUSPICIOUS: Piece = Piece::property(
    6,
    "suspicious program",
    "the program is an interpreter, or it is on a share or where users can write",
);

/// Files that came over SMB, one of which the program may be.
const FILE: Piece = Piece::evidence(
    7,
    "file",
    EvidenceKind::FileWrite,
    service::file_window,
    "the program came over SMB just before",
)
.optional();

/// The table of the technique.
pub const TABLE: &Table = &Table {
    rule: Rule {
        chain: "wmiexec",
        id: "psexec-filter-wmiexec",
        name: "Process started by remote WMI (WMIExec)",
        techniques: &["T1047", "T1021.003"],
    },
    anchors: &[EvidenceKind::ComStart],
    pieces: &[
        CONNECTION,
        PROCESS,
        REPEATED,
        TOOL_COMMAND,
        RPC,
        PERSON,
        SUSPICIOUS,
        FILE,
        LOGON,
        CHILD,
    ],
    severity: &[
        // impacket alone starts with two commands of its own.
        Row::new(Severity::Critical, &[REPEATED, TOOL_COMMAND]),
        Row::new(Severity::High, &[TOOL_COMMAND]),
        Row::new(Severity::High, &[RPC, PERSON, SUSPICIOUS]),
        Row::new(Severity::Medium, &[RPC, PERSON]),
    ],
};

/// The RPC endpoint mapper, where every DCOM session begins.
const ENDPOINT_MAPPER: u16 = 135;

/// The technique; anchored in the process start.
pub struct Wmiexec {
    section: Section,
    shared: Rc<Shared>,
}

impl Wmiexec {
    /// The technique, if the policy has it in use.
    pub fn in_use(section: &Section, shared: &Rc<Shared>) -> Option<Box<dyn Technique>> {
        section.enabled.then(|| {
            Box::new(Wmiexec {
                section: section.clone(),
                shared: Rc::clone(shared),
            }) as Box<dyn Technique>
        })
    }

    fn is_tool_command(&self, start: &ProcessStart) -> bool {
        is_tool_command(start, &self.section.commands, |shape| {
            // The machine's own jobs run as a service account.
            let is_by_person = !start.is_service_account();
            shape.has(Shape::OUTPUT_TO_SHARE)
                || is_by_person && shape.has_any(Shape::QUIET.and(Shape::OUTPUT_TO_FILE))
        })
    }

    /// Whether a program runs in the session of a person.
    fn is_by_person(process: &ProcessStart) -> bool {
        process.logon_id.is_some() && !process.is_service_account()
    }

    /// Whether management tools start such a program, by its name. Names are free to take.
    fn is_ignored(&self, process: &ProcessStart) -> bool {
        self.section.ignore.hit(process.key.as_str())
    }

    /// Whether the program came over SMB just before.
    #[inline(never)]
    fn is_dropped(join: &Join<'_>, process: &ProcessStart) -> bool {
        let file = join.nearest(&FILE, |fact| match fact {
            Fact::FileWrite(file) => file.is_over_smb() && file.key.matches(&process.key),
            _ => false,
        });
        file.is_some()
    }

    fn is_rpc(&self, connection: &Connection) -> bool {
        let settings = &self.shared.connection;
        let port = connection.local_port;
        port == ENDPOINT_MAPPER
            || is_smb_or_rpc(connection, settings) && settings.is_dynamic_port(port)
    }

    /// Whether any machine connected to RPC, if not the likeliest source.
    fn is_by_rpc(&self, join: &Join<'_>) -> bool {
        let mut connections = join.all(&CONNECTION);
        connections
            .any(|found| matches!(&found.fact, Fact::Connection(found) if self.is_rpc(found)))
    }

    /// Whether another tool command of the same session ran near by.
    fn is_repeated(&self, join: &Join<'_>, process: &ProcessStart) -> bool {
        join.all(&REPEATED).any(|other| match &other.fact {
            Fact::ProcessStart(start) => {
                !Rc::ptr_eq(other, join.anchor)
                    && start.logon_id == process.logon_id
                    && self.is_tool_command(start)
            }
            _ => false,
        })
    }
}

impl Technique for Wmiexec {
    fn table(&self) -> &'static Table {
        TABLE
    }

    fn levels(&self) -> &Levels {
        &self.section.severity
    }

    fn needs(&self, needs: &mut Needs) {
        needs.com_commands = self.section.commands.clone();
    }

    fn wants(&self, evidence: &Evidence) -> bool {
        match &evidence.fact {
            Fact::Connection(connection) => is_smb_or_rpc(connection, &self.shared.connection),
            Fact::ProcessStart(start) => match start.parent {
                Parent::Wmi => {
                    // Inventories start so many programs that they would leave no room for others.
                    start.is_common.set(self.is_ignored(start));
                    self.is_tool_command(start) || Wmiexec::is_by_person(start)
                }
                parent => parent == Parent::Tracked,
            },
            Fact::Logon(_) | Fact::FileWrite(_) => true,
            _ => false,
        }
    }

    fn join<'j>(&self, join: &Join<'j>) -> Option<Joined<'j>> {
        let Fact::ProcessStart(process) = &join.anchor.fact else {
            return None;
        };
        if process.parent != Parent::Wmi {
            return None;
        }
        let connection = &self.shared.connection;
        let hints = Hints {
            logon_id: process.logon_id,
            ..Hints::default()
        };
        let accepts = |found: &_| is_smb_or_rpc(found, connection);
        let source = source::find(join, join.anchor, &CONNECTION, connection, hints, &accepts);
        let is_session_known = source.is_session_known;
        let is_connected = source.is_connected();
        let is_tool_command = self.is_tool_command(process);
        let mut joined = Joined::new(source);
        joined.seen.add(&CONNECTION, is_connected);
        joined.list(&PROCESS, Some(join.anchor));
        let seen = &mut joined.seen;
        seen.add(&TOOL_COMMAND, is_tool_command);
        if is_tool_command {
            seen.add(&REPEATED, self.is_repeated(join, process));
        } else {
            let suspicious = &self.shared.suspicious;
            // A name that management tools use is free to take: by whoever copied the program there just before.
            let is_named_legitimately =
                self.is_ignored(process) && !Wmiexec::is_dropped(join, process);
            let is_connected = !is_named_legitimately && self.is_by_rpc(join);
            seen.add(&RPC, is_connected || is_session_known);
            seen.add(&PERSON, Wmiexec::is_by_person(process));
            seen.add(
                &SUSPICIOUS,
                suspicious.is_suspicious(&process.key, process.command()),
            );
        }
        let session = process.logon_id.map(|id| format!("{id:x}"));
        joined.group = session.unwrap_or_default();
        joined.group_by_source = process.logon_id.is_none();
        joined.lateral = (is_connected || is_session_known).then_some(true);
        Some(joined)
    }
}
