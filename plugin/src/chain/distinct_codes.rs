//! `psexec` as platforms see it that cannot correlate: three different event codes on one host within the window, joined by
//! nothing. For comparison, and for logs that lack what a join needs (`psexec.match = "distinct-codes"`).

use super::source::{self, Hints};
use super::{Chain, Finding, Rule, nearest};
use crate::evidence::{Evidence, Fact, Parent, Shelf};
use crate::policy::{Levels, Match, Policy, Severity};
use crate::state::locker::Locker;
use std::rc::Rc;

/// The chain; anchored in any process start.
pub struct DistinctCodes;

static RULE: Rule = Rule {
    chain: "psexec",
    id: "psexec-filter-distinct-codes",
    name: "Connection, file in C:\\Windows and process on one host (not joined)",
    techniques: &["T1021.002", "T1569.002"],
};

impl Chain for DistinctCodes {
    fn rule(&self) -> &'static Rule {
        &RULE
    }

    fn enabled(&self, policy: &Policy) -> bool {
        policy.psexec.enabled && policy.psexec.r#match == Match::DistinctCodes
    }

    fn levels<'p>(&self, policy: &'p Policy) -> &'p Levels {
        &policy.psexec.severity
    }

    fn shelves(&self) -> &'static [Shelf] {
        &[
            Shelf::Connection,
            Shelf::FileWrite,
            Shelf::ProcessStart,
            Shelf::ComStart,
        ]
    }

    fn anchors(&self) -> &'static [Shelf] {
        &[Shelf::ProcessStart, Shelf::ComStart]
    }

    fn wants(&self, evidence: &Evidence, policy: &Policy) -> bool {
        match &evidence.fact {
            Fact::Connection(connection) => {
                policy.connection.ports.contains(&connection.local_port)
            }
            Fact::FileWrite(file) => in_windows(file.key.as_str()),
            Fact::ProcessStart(start) => {
                in_windows(start.key.as_str()) && start.parent != Parent::Watched
            }
            _ => false,
        }
    }

    fn judge(&self, anchor: &Rc<Evidence>, locker: &Locker, policy: &Policy) -> Option<Finding> {
        let windows = &policy.windows;
        let around = (windows.connection_before.0, windows.connection_after.0);
        let file = nearest(locker, Shelf::FileWrite, anchor, around, |fact| {
            self.wants_fact(fact)
        })?;
        let source = source::find(anchor, locker, policy, Hints::default(), |connection| {
            policy.connection.ports.contains(&connection.local_port)
        });
        let connection = source.connection.clone()?;
        let pieces = [
            ("connection", Some(&connection)),
            ("file", Some(file)),
            ("process", Some(anchor)),
        ];
        Some(Finding::new(
            anchor,
            Severity::Medium,
            &pieces,
            source,
            locker,
        ))
    }
}

impl DistinctCodes {
    fn wants_fact(&self, fact: &Fact) -> bool {
        matches!(fact, Fact::FileWrite(file) if in_windows(file.key.as_str()))
    }
}

/// Whether a path is a file of the folder `C:\Windows` itself, as the rule has it.
fn in_windows(path: &str) -> bool {
    path.get(1..)
        .and_then(|path| path.strip_prefix(r":\windows\"))
        .is_some_and(|name| !name.contains('\\'))
}
