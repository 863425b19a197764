//! How each kind of evidence is stored.

use super::EvidenceKind;
use crate::settings::Windows;

/// How a kind of evidence is stored.
#[derive(Debug)]
pub struct KindInfo {
    /// How many places it has on a host.
    pub room: Room,
    /// Whether it only says something about the [related](KindInfo::related) kind: it is wanted where that is, and no reason to look
    /// at anchors.
    pub only_relates: bool,
    /// Whether it stays as long as there is room, not only as long as any technique would join it by its time.
    pub outlasts_windows: bool,
    /// When all hosts together hold too much, kinds with a smaller number are evicted first.
    pub eviction_order: u8,
    /// A kind whose evidence shows something about this kind's. The facts are shown to each other when either is stored.
    pub related: Option<Related>,
}

impl EvidenceKind {
    /// How much evidence of this kind a host may store; `places` are those that kinds share (`limits.evidence_per_host`).
    pub fn room(self, places: usize) -> usize {
        match self.info().room {
            Room::Share(share) => {
                let room = places.saturating_mul(share);
                let room = room.checked_div(EvidenceKind::SHARES);
                room.unwrap_or_default().max(1)
            }
            Room::Own(room) => room,
            Room::None => 0,
        }
    }
}

impl KindInfo {
    /// A kind with this share, and an eviction order.
    pub const fn shared(share: usize, eviction_order: u8) -> KindInfo {
        KindInfo::with(Room::Share(share), eviction_order)
    }

    /// A kind with this room, and an eviction order.
    pub const fn with(room: Room, eviction_order: u8) -> KindInfo {
        KindInfo {
            room,
            outlasts_windows: false,
            only_relates: false,
            eviction_order,
            related: None,
        }
    }

    /// Its share of the places that kinds share.
    pub const fn share(&self) -> usize {
        match self.room {
            Room::Share(share) => share,
            Room::Own(_) | Room::None => 0,
        }
    }
}

/// The room of a kind of evidence on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// A part of the places that a host has (`limits.evidence_per_host`): this share of the sum of all
    /// [shares](EvidenceKind::SHARES).
    Share(usize),
    /// So many places of its own.
    Own(usize),
    /// It is never stored.
    None,
}

/// A related kind of evidence.
#[derive(Debug)]
pub struct Related {
    /// The kind.
    pub kind: EvidenceKind,
    /// How long before or after it was logged it is related, in milliseconds.
    pub within: fn(&Windows) -> i64,
}
