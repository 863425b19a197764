//! The program that an anchor is about: its start or, where that was not logged, what stands for it.

use super::{Join, Piece};
use crate::evidence::{Evidence, Fact, Parent, Pipe, ProcessStart};
use crate::normalize::path::PathKey;
use std::borrow::Cow;
use std::rc::Rc;

/// The program that an anchor is about.
pub struct Program<'j> {
    /// The program for joining.
    pub key: Cow<'j, PathKey>,
    /// The ProcessGuid of its process, normalized.
    pub process_guid: Option<&'j str>,
    /// Its start, if that is the anchor.
    pub start: Option<&'j ProcessStart>,
    /// Whether it is a driver: nothing that is started.
    pub is_driver: bool,
    /// What the anchor is. The surest comes first.
    rank: Rank,
}

/// What tells of a program, from the surest to the least sure. An execution has one anchor: the surest that is stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Start,
    Pipe,
    Child,
    Service,
}

/// The pieces among which a surer anchor is looked for.
pub struct Anchors<'p> {
    /// Starts of programs.
    pub start: &'p Piece,
    /// Pipes.
    pub pipe: &'p Piece,
    /// What programs started.
    pub child: &'p Piece,
}

impl<'j> Program<'j> {
    /// The program that evidence is about: that was started, that made a pipe, that started another, or that a service was given.
    pub fn of(anchor: &'j Evidence) -> Option<Program<'j>> {
        Some(match &anchor.fact {
            Fact::ProcessStart(child) if child.parent == Parent::Tracked => Program {
                key: Cow::Owned(PathKey::new(child.parent_image.as_deref()?)),
                process_guid: child.parent_process_guid.as_deref(),
                start: None,
                is_driver: false,
                rank: Rank::Child,
            },
            Fact::ProcessStart(start) => Program {
                key: Cow::Borrowed(&start.key),
                process_guid: start.process_guid.as_deref(),
                start: Some(start),
                is_driver: false,
                rank: Rank::Start,
            },
            Fact::Pipe(pipe) => Program {
                key: Cow::Borrowed(&pipe.image),
                process_guid: pipe.process_guid.as_deref(),
                start: None,
                is_driver: false,
                rank: Rank::Pipe,
            },
            Fact::ServiceSet(set) => Program {
                key: Cow::Borrowed(&set.program),
                process_guid: None,
                start: None,
                is_driver: set.is_driver(),
                rank: Rank::Service,
            },
            _ => return None,
        })
    }

    /// Whether the anchor is a service that was given the program: nothing was seen yet of its process.
    pub fn is_only_set(&self) -> bool {
        self.rank == Rank::Service
    }

    /// Whether both are one process, or one program where a ProcessGuid was not logged.
    fn is_same(&self, other: &Program<'_>) -> bool {
        match (self.process_guid, other.process_guid) {
            (Some(own), Some(other)) => own == other,
            _ => other.key.matches(&self.key),
        }
    }

    /// Whether a pipe was made by the program.
    pub fn made(&self, pipe: &Pipe) -> bool {
        self.process_guid.is_some() && pipe.process_guid.as_deref() == self.process_guid
            || pipe.image.matches(&self.key)
    }

    /// The connection of a program of the host to the host's own shares, among the evidence of `piece`, by which `file` may have
    /// been written. What the program itself connects to, it was started before.
    #[inline(never)]
    pub fn used_own_shares<'e>(
        &self,
        join: &Join<'e>,
        piece: &Piece,
        file: &Evidence,
    ) -> Option<&'e Rc<Evidence>> {
        let mut all = join.all_around(piece, file);
        all.find(|found| match &found.fact {
            Fact::Connection(found) => {
                found.process_guid.is_none() || found.process_guid.as_deref() != self.process_guid
            }
            _ => false,
        })
    }

    /// Whether surer evidence of the same program is stored among the evidence of these pieces, and is the anchor therefore.
    #[inline(never)]
    pub fn has_better_anchor(&self, join: &Join<'_>, among: &Anchors<'_>) -> bool {
        let ranks = [
            (Rank::Start, among.start),
            (Rank::Pipe, among.pipe),
            (Rank::Child, among.child),
        ];
        let mut better = ranks.iter().filter(|(rank, _)| *rank < self.rank);
        better.any(|(_, piece)| {
            let is_of_it = |evidence: &Rc<Evidence>| {
                Program::of(evidence).is_some_and(|other| self.is_same(&other))
            };
            join.all(piece).any(is_of_it)
        })
    }

    /// The machine that a tool names in what it leaves behind, and the evidence that names it: PsExec in its pipes
    /// (`\PSEXESVC-<HOST>-<pid>-stdin`), looked for among `pipes`, and, since 2.30, in a key file (`PSEXEC-<HOST>-<8 hex>.key`), looked
    /// for among `key_files`; PAExec in its program (`PAExec-<pid>-<HOST>.exe`).
    #[inline(never)]
    pub fn named_machine<'e>(
        &self,
        join: &Join<'e>,
        pipes: &Piece,
        key_files: &Piece,
    ) -> Option<(String, Option<&'e Rc<Evidence>>)> {
        let own = self.key.file_name();
        let own = own.strip_suffix(".exe").unwrap_or(own);
        if let Some((_pid, host)) = own
            .strip_prefix("paexec-")
            .and_then(|rest| rest.split_once('-'))
        {
            return Some((host.to_owned(), None));
        }
        let pipes = join.all(pipes).filter_map(|evidence| match &evidence.fact {
            // The pipe is named after the service, whatever that was called.
            Fact::Pipe(pipe) if self.made(pipe) => {
                Some((pipe.other_machine()?.to_owned(), Some(evidence)))
            }
            _ => None,
        });
        let key_files = join
            .all(key_files)
            .filter_map(|evidence| match &evidence.fact {
                Fact::FileWrite(file) if file.is_over_smb() => {
                    let name = file.key.file_name();
                    let stem = name.strip_prefix("psexec-")?.strip_suffix(".key")?;
                    let (host, _random) = stem.rsplit_once('-')?;
                    Some((host.to_owned(), Some(evidence)))
                }
                _ => None,
            });
        pipes.chain(key_files).find(|(host, _)| !host.is_empty())
    }
}
