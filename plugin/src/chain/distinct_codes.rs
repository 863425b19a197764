//! `psexec` as platforms see it that cannot correlate: three different event codes on one host within the window, joined by nothing.
//! For comparison, and for logs that lack what a join needs (`psexec.match = "distinct-codes"`).

use super::psexec::{Match, Section};
use super::source::{self, Hints, LOGON};
use super::{CHILD, Join, Joined, Piece, Row, Rule, Shared, Table, Technique, Window};
use crate::evidence::{Connection, Evidence, EvidenceKind, Fact, Needs, Parent};
use crate::settings::{Levels, Severity};
use std::rc::Rc;

const CONNECTION: Piece = Piece::evidence(
    0,
    "connection",
    EvidenceKind::Connection,
    source::connection_window,
    "another machine connected to a service port",
);
const FILE: Piece = Piece::evidence(
    1,
    "file",
    EvidenceKind::FileWrite,
    source::connection_window,
    "a program was written to C:\\Windows",
);
const PROCESS: Piece = Piece::evidence(
    2,
    "process",
    EvidenceKind::ProcessStart,
    |_| Window::default(),
    "a program in C:\\Windows was started",
);

/// The table of the technique.
pub const TABLE: &Table = &Table {
    rule: Rule {
        chain: "psexec",
        id: "psexec-filter-distinct-codes",
        name: "Connection, file in C:\\Windows and process on one host (not joined)",
        techniques: &["T1021.002", "T1569.002"],
    },
    anchors: &[EvidenceKind::ProcessStart, EvidenceKind::ComStart],
    pieces: &[CONNECTION, FILE, PROCESS, LOGON, CHILD],
    severity: &[Row::new(Severity::Medium, &[CONNECTION, FILE, PROCESS])],
};

/// The technique; anchored in any process start.
pub struct DistinctCodes {
    levels: Levels,
    shared: Rc<Shared>,
}

impl DistinctCodes {
    /// The technique, if the policy has it in use.
    pub fn in_use(section: &Section, shared: &Rc<Shared>) -> Option<Box<dyn Technique>> {
        if !section.enabled || section.r#match != Match::DistinctCodes {
            return None;
        }
        Some(Box::new(DistinctCodes {
            levels: section.severity.clone(),
            shared: Rc::clone(shared),
        }))
    }
}

impl Technique for DistinctCodes {
    fn table(&self) -> &'static Table {
        TABLE
    }

    fn levels(&self) -> &Levels {
        &self.levels
    }

    fn needs(&self, needs: &mut Needs) {
        needs.any_parent = true;
    }

    fn wants(&self, evidence: &Evidence) -> bool {
        match &evidence.fact {
            Fact::Connection(connection) => {
                let settings = &self.shared.connection;
                settings.is_service_port(connection.local_port)
            }
            Fact::FileWrite(file) => is_in_windows(file.key.as_str()),
            Fact::ProcessStart(start) => {
                is_in_windows(start.key.as_str()) && start.parent != Parent::Tracked
            }
            _ => false,
        }
    }

    fn join<'j>(&self, join: &Join<'j>) -> Option<Joined<'j>> {
        let is_in_windows =
            |fact: &Fact| matches!(fact, Fact::FileWrite(file) if is_in_windows(file.key.as_str()));
        let file = join.nearest(&FILE, is_in_windows)?;
        let settings = &self.shared.connection;
        let accepts = |found: &Connection| settings.is_service_port(found.local_port);
        let hints = Hints::default();
        let source = source::find(join, join.anchor, &CONNECTION, settings, hints, &accepts);
        let is_connected = source.is_connected();
        let mut joined = Joined::new(source);
        joined.seen.add(&CONNECTION, is_connected);
        joined.list(&FILE, Some(file));
        joined.list(&PROCESS, Some(join.anchor));
        Some(joined)
    }
}

/// Whether a path is a file in the folder `C:\Windows` itself, as the rule has it.
fn is_in_windows(path: &str) -> bool {
    let below_drive = path.get(1..);
    let name = below_drive.and_then(|path| path.strip_prefix(r":\windows\"));
    name.is_some_and(|name| !name.contains('\\'))
}
