//! The program that an anchor is about: its start, or a pipe of its process where the start was not logged.

use super::{Join, Piece};
use crate::evidence::{Evidence, Fact, Pipe, ProcessStart};
use crate::normalize::path::PathKey;
use std::rc::Rc;

/// The program that an anchor is about.
pub struct Program<'j> {
    /// The program for joining.
    pub key: &'j PathKey,
    /// The ProcessGuid of its process, normalized.
    pub process_guid: Option<&'j str>,
    /// Its start, if that is the anchor.
    pub start: Option<&'j ProcessStart>,
}

impl<'j> Program<'j> {
    /// The program that evidence is about, if it is its start or its pipe.
    pub fn of(anchor: &'j Evidence) -> Option<Program<'j>> {
        Some(match &anchor.fact {
            Fact::ProcessStart(start) => Program {
                key: &start.key,
                process_guid: start.process_guid.as_deref(),
                start: Some(start),
            },
            Fact::Pipe(pipe) => Program {
                key: &pipe.image,
                process_guid: pipe.process_guid.as_deref(),
                start: None,
            },
            _ => return None,
        })
    }

    /// Whether a pipe was made by the program.
    pub fn made(&self, pipe: &Pipe) -> bool {
        self.process_guid.is_some() && pipe.process_guid.as_deref() == self.process_guid
            || pipe.image.matches(self.key)
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

    /// Whether the start itself is stored, among the evidence of `piece`, and is the anchor therefore.
    #[inline(never)]
    pub fn has_better_anchor(&self, join: &Join<'_>, piece: &Piece) -> bool {
        let is_start = |fact: &Fact| match fact {
            Fact::ProcessStart(start) => {
                let is_same = self.process_guid.is_some()
                    && start.process_guid.as_deref() == self.process_guid;
                is_same || start.key.matches(self.key)
            }
            _ => false,
        };
        self.start.is_none() && join.nearest(piece, is_start).is_some()
    }
}
