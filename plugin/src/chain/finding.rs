//! What a technique finds around one anchor.

use super::join::Join;
use super::source::Source;
use super::table::{Piece, Seen, Table};
use crate::evidence::{Evidence, Fact, FileWrite, Logon, ProcessStart, ServiceSet};
use crate::normalize::path::{self, PathKey};
use crate::settings::Severity;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::rc::Rc;

/// Evidence that a finding lists beside its connection and logon, at most.
const MAX_LISTED: usize = 5;

/// What a technique's join returns: the pieces that were seen. The engine looks up their severity.
pub struct Joined<'j> {
    /// Everything that was seen.
    pub seen: Seen,
    /// Pieces that are not missing though they were not seen, because this execution cannot have them.
    pub not_expected: Seen,
    /// Who it may have been. Its connection is listed as evidence.
    pub source: Source,
    /// From another machine, from this one, or unknown.
    pub lateral: Option<bool>,
    /// What repeats of the same execution have in common.
    pub group: String,
    /// Whether repeats must also have a possible source in common (where one is known).
    pub group_by_source: bool,
    /// Whether what follows may show that another technique found it, or give it a surer anchor: it is then not alerted before
    /// `windows.grace` has passed.
    pub is_undecided: bool,
    /// The ProcessGuid of the process that was started, where the start itself was not logged.
    pub process_guid: Option<&'j str>,
    listed: [Option<&'j Rc<Evidence>>; MAX_LISTED],
    /// Whether the evidence that just arrived was consulted.
    is_consulted: bool,
}

impl<'j> Joined<'j> {
    /// Nothing seen yet but the source.
    pub fn new(source: Source) -> Joined<'j> {
        Joined {
            seen: Seen::default(),
            not_expected: Seen::default(),
            source,
            lateral: None,
            group: String::new(),
            group_by_source: false,
            is_undecided: false,
            process_guid: None,
            listed: [None; MAX_LISTED],
            is_consulted: false,
        }
    }

    /// Adds a piece with its evidence, which the alert lists, if it was seen.
    pub fn list(&mut self, piece: &Piece, evidence: Option<&'j Rc<Evidence>>) {
        self.seen.add(piece, evidence.is_some());
        let free = self.listed.iter_mut().find(|place| place.is_none());
        debug_assert!(free.is_some(), "more evidence is listed than MAX_LISTED");
        if let Some(place) = free {
            *place = evidence;
        }
    }

    /// Notes evidence that the alert does not list but that may have changed what is found.
    pub fn consult(
        &mut self,
        join: &Join<'_>,
        evidence: impl IntoIterator<Item = &'j Rc<Evidence>>,
    ) {
        let mut evidence = evidence.into_iter();
        self.is_consulted |= evidence.any(|evidence| Rc::ptr_eq(evidence, join.arrived));
    }

    /// Whether the evidence that just arrived is part of what was found, if only as one of several possible sources, or changed
    /// it. Otherwise the finding does not lead to an alert.
    pub fn involves(&self, arrived: &Rc<Evidence>) -> bool {
        let is_it = |evidence: &Rc<Evidence>| Rc::ptr_eq(evidence, arrived);
        let candidates = &self.source.candidates;
        self.is_consulted
            || self.listed.iter().flatten().any(|evidence| is_it(evidence))
            || self.source.logon.as_ref().is_some_and(is_it)
            || match &arrived.fact {
                Fact::Connection(connection) => candidates.contains(&connection.remote),
                // It may show that somebody else was at work than was taken for the source.
                Fact::Logon(logon) => candidates.contains(&logon.remote),
                _ => false,
            }
    }

    /// The process that was started, if one is among the evidence.
    fn process(&self) -> Option<&ProcessStart> {
        let mut listed = self.listed.iter().flatten();
        listed.find_map(|evidence| match &evidence.fact {
            Fact::ProcessStart(start) => Some(&**start),
            _ => None,
        })
    }

    /// The stored children of the process that was started.
    #[inline(never)]
    pub fn children(&self, join: &Join<'_>, child: &Piece) -> Vec<Rc<Evidence>> {
        let process = self.process();
        let of_start = process.and_then(|process| process.process_guid.as_deref());
        let Some(parent) = of_start.or(self.process_guid) else {
            return Vec::new();
        };
        let is_child = |evidence: &&Rc<Evidence>| match &evidence.fact {
            Fact::ProcessStart(start) => start.parent_process_guid.as_deref() == Some(parent),
            _ => false,
        };
        join.all(child)
            .filter(is_child)
            .take(MAX_CHILDREN)
            .cloned()
            .collect()
    }

    /// The finding, once its severity is known.
    #[inline(never)]
    pub fn into_finding(
        self,
        anchor: &Rc<Evidence>,
        table: &Table,
        severity: Severity,
        children: Vec<Rc<Evidence>>,
    ) -> Finding {
        let mut present = self.seen;
        present.extend(self.not_expected);
        let listed = self.listed.into_iter().flatten().cloned();
        let source = &self.source;
        Finding {
            anchor: Rc::clone(anchor),
            group: self.group,
            group_by_source: self.group_by_source,
            is_undecided: self.is_undecided,
            severity,
            lateral: self.lateral,
            evidence: source
                .connection
                .iter()
                .cloned()
                .chain(listed)
                .chain(source.logon.clone())
                .collect(),
            missing: table.missing(present).map(Cow::Borrowed).collect(),
            source: self.source,
            children,
        }
    }
}

/// What a technique found around one anchor, with its severity.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Finding {
    /// The evidence that it is anchored in.
    pub anchor: Rc<Evidence>,
    /// What repeats of the same execution have in common.
    pub group: String,
    /// Whether repeats must also have a possible source in common (where one is known).
    pub group_by_source: bool,
    /// Whether what follows may show that another technique found it, or give it a surer anchor.
    pub is_undecided: bool,
    /// How bad it is.
    pub severity: Severity,
    /// From another machine, from this one, or unknown.
    pub lateral: Option<bool>,
    /// Everything that supports it, the anchor, the most likely connection and the logon included.
    pub evidence: Vec<Rc<Evidence>>,
    /// Who it may have been.
    pub source: Source,
    /// What its process started, oldest first; at most [`MAX_CHILDREN`].
    pub children: Vec<Rc<Evidence>>,
    /// The pieces that were expected and not seen, by name.
    pub missing: Vec<Cow<'static, str>>,
}

/// Children of a process that an alert lists.
pub const MAX_CHILDREN: usize = 8;

impl Finding {
    /// All evidence that it holds.
    pub fn evidence_mut(&mut self) -> impl Iterator<Item = &mut Rc<Evidence>> {
        let Finding {
            anchor,
            evidence,
            source,
            children,
            ..
        } = self;
        std::iter::once(anchor)
            .chain(evidence)
            .chain(&mut source.connection)
            .chain(&mut source.logon)
            .chain(children)
    }

    /// Takes in what was known before of the source of the same execution, see [`Source::remember`].
    #[inline(never)]
    pub fn remember(&mut self, before: &Finding) {
        if !self.source.remember(&before.source) {
            return;
        }
        let is_of_source =
            |evidence: &Evidence| matches!(evidence.fact, Fact::Connection(_) | Fact::Logon(_));
        self.evidence.retain(|evidence| !is_of_source(evidence));
        let source = self.source.connection.iter().chain(&self.source.logon);
        self.evidence.extend(source.cloned());
    }

    /// Whether both are about one execution, whatever stands for it.
    pub fn is_of_one_execution(&self, other: &Finding) -> bool {
        let process_guid = self.anchor.fact.process_guid();
        Rc::ptr_eq(&self.anchor, &other.anchor)
            || process_guid.is_some() && process_guid == other.anchor.fact.process_guid()
    }

    /// Whether both have in common what repeats of the same execution have: the same text, or two spellings of one path.
    pub fn is_grouped_with(&self, other: &Finding) -> bool {
        self.group == other.group || path::can_be_same(&self.group, &other.group)
    }

    /// The person behind it, as `domain\name` or `name`: the account of the process, unless that is a service's; else of the
    /// logon that it came with, else of the first child that runs as somebody else.
    pub fn person(&self) -> Option<String> {
        let account = |start: &ProcessStart| {
            let user = start.user.as_deref();
            user.filter(|_| !start.is_service_account())
                .map(str::to_owned)
        };
        let of_child = |child: &Rc<Evidence>| match &child.fact {
            Fact::ProcessStart(start) if start.logon_id.is_some() => account(start),
            _ => None,
        };
        self.process()
            .and_then(account)
            .or_else(|| self.logon().map(Logon::account))
            .or_else(|| self.children.iter().find_map(of_child))
    }

    /// The person behind it; where no person is known, the account of the process.
    pub fn user(&self) -> Option<String> {
        let of_process = || self.process()?.user.as_deref().map(str::to_owned);
        self.person().or_else(of_process)
    }

    fn find<'f, T>(&'f self, select: impl Fn(&'f Fact) -> Option<T>) -> Option<T> {
        self.evidence
            .iter()
            .find_map(|evidence| select(&evidence.fact))
    }

    /// The file that was written.
    pub fn file(&self) -> Option<&FileWrite> {
        self.find(|fact| match fact {
            Fact::FileWrite(file) => Some(file),
            _ => None,
        })
    }

    /// The process that was started.
    pub fn process(&self) -> Option<&ProcessStart> {
        self.find(|fact| match fact {
            Fact::ProcessStart(start) => Some(&**start),
            _ => None,
        })
    }

    /// The program that ran: the process that was started, else the file that came for it. As it was logged, and for matching.
    pub fn program(&self) -> Option<(&str, &PathKey)> {
        let started = self.process().map(|start| (&*start.image, &start.key));
        started.or_else(|| self.file().map(|file| (&*file.path, &file.key)))
    }

    /// The ProcessGuid of the process that was started, normalized.
    pub fn process_guid(&self) -> Option<&str> {
        let started = self
            .process()
            .and_then(|start| start.process_guid.as_deref());
        started.or_else(|| self.anchor.fact.process_guid())
    }

    /// The file that came over SMB and that a service was set to run, as its path for matching.
    pub fn dropped_program(&self) -> Option<&PathKey> {
        let (file, set) = self.file().zip(self.service())?;
        let is_it = file.is_over_smb() && file.key.matches(&set.program);
        is_it.then_some(&file.key)
    }

    /// The service whose program was set.
    pub fn service(&self) -> Option<&ServiceSet> {
        self.find(|fact| match fact {
            Fact::ServiceSet(set) => Some(set),
            _ => None,
        })
    }

    /// Whether both are about one change of a service.
    pub fn shares_service(&self, other: &Finding) -> bool {
        let is_set = |evidence: &&Rc<Evidence>| matches!(evidence.fact, Fact::ServiceSet(_));
        let mut own = self.evidence.iter().filter(is_set);
        own.any(|set| other.evidence.iter().any(|other| Rc::ptr_eq(other, set)))
    }

    /// The logon that it came with.
    pub fn logon(&self) -> Option<&Logon> {
        self.find(|fact| match fact {
            Fact::Logon(logon) => Some(&**logon),
            _ => None,
        })
    }
}
