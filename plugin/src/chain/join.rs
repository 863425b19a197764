//! What a technique sees of a host: an anchor, and the stored evidence within the windows that the technique's table declares.

use super::table::{Piece, Table, Window};
use crate::evidence::{Evidence, EvidenceKind, Fact, Logon};
use crate::settings::Windows;
use crate::store::EvidenceStore;
use std::rc::Rc;

/// An anchor with what is stored around it.
#[derive(Clone, Copy)]
pub struct Join<'j> {
    /// The anchor.
    pub anchor: &'j Rc<Evidence>,
    /// The evidence that just arrived, because of which the anchor is looked at.
    pub arrived: &'j Rc<Evidence>,
    /// The name of the host as it was logged.
    pub computer: &'j str,
    table: &'static Table,
    store: &'j EvidenceStore,
    windows: &'j Windows,
}

impl<'j> Join<'j> {
    /// An anchor of the technique with this table, on the host with this store.
    pub fn new(
        anchor: &'j Rc<Evidence>,
        arrived: &'j Rc<Evidence>,
        table: &'static Table,
        (computer, store): (&'j str, &'j EvidenceStore),
        windows: &'j Windows,
    ) -> Join<'j> {
        Join {
            anchor,
            arrived,
            computer,
            table,
            store,
            windows,
        }
    }

    /// The stored evidence that can be this piece: of its kind, and within its window around the anchor.
    pub fn all(&self, piece: &Piece) -> impl Iterator<Item = &'j Rc<Evidence>> + use<'j> {
        self.all_around(piece, self.anchor)
    }

    /// The stored evidence that can be this piece, around other evidence than the anchor.
    ///
    /// This and [`Join::session`] are the only ways to stored evidence, so that nothing else is looked for outside the windows that
    /// the table declares.
    pub fn all_around(
        &self,
        piece: &Piece,
        center: &Evidence,
    ) -> impl Iterator<Item = &'j Rc<Evidence>> + use<'j> {
        debug_assert!(
            self.table
                .pieces
                .iter()
                .any(|listed| listed.name == piece.name),
            "the table does not list `{}`",
            piece.name
        );
        let (window, center) = (piece.window(self.windows), center.time.ms);
        let stored = self.store.of_some(piece.kind());
        stored.filter(move |evidence| window.contains(center, evidence.time.ms))
    }

    /// Of the stored evidence that can be this piece and fits, the one that was logged nearest to the anchor.
    ///
    /// Not inlined, so that what the caller looks for does not add to its frame on the interpreter's stack.
    #[inline(never)]
    pub fn nearest(&self, piece: &Piece, fits: impl Fn(&Fact) -> bool) -> Option<&'j Rc<Evidence>> {
        let anchor = self.anchor.time.ms;
        self.all(piece)
            .filter(|evidence| fits(&evidence.fact))
            .min_by_key(|evidence| evidence.time.ms.abs_diff(anchor))
    }

    /// The logon whose session has this id, unless the session had ended before the anchor. However long ago it was: a session
    /// lasts as long as somebody works in it.
    pub fn session(&self, logon_id: u64) -> Option<(&'j Logon, &'j Rc<Evidence>)> {
        let anchor = self.anchor.time.ms;
        let tolerance = self.windows.clock_tolerance.0;
        let began = self.store.of(EvidenceKind::Logon);
        let began = began.filter(|logon| logon.time.ms <= anchor.saturating_add(tolerance));
        let sessions = began.filter_map(|evidence| match &evidence.fact {
            Fact::Logon(logon) => Some((&**logon, evidence)),
            _ => None,
        });
        sessions
            .filter(|(logon, _)| logon.logon_id == Some(logon_id))
            .filter(|(logon, _)| !logon.had_ended(anchor.saturating_sub(tolerance)))
            .max_by_key(|(_, evidence)| evidence.time.ms)
    }

    /// Whether a connection, or a person's logon, that was logged at `since` (milliseconds) or later was evicted, so that its absence
    /// shows nothing.
    pub fn lost_sources_since(&self, since: i64) -> bool {
        self.store.lost_sources_since(since)
    }

    /// Whether evidence lies within a window around the anchor.
    pub fn is_within(&self, evidence: &Evidence, window: Window) -> bool {
        window.contains(self.anchor.time.ms, evidence.time.ms)
    }
}
