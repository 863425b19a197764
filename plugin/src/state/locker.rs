//! The recent evidence of one host, each kind on a shelf of its own.
//!
//! Every shelf has a fixed share of the host's places, so that a flood of one kind (connections to a busy server,
//! files copied to a share) can never push out another kind. On a shelf the least valuable goes first: what is past
//! every window, then what joined to nothing, and of that the cheapest and oldest.

use super::clock::Clock;
use crate::evidence::{Evidence, Shelf};
use serde::{Deserialize, Serialize};
use std::rc::Rc;

/// Each shelf's part of the host's places, in 64ths.
pub const fn share(shelf: Shelf) -> usize {
    match shelf {
        Shelf::Connection => 16,
        Shelf::FileWrite => 11,
        Shelf::ProcessStart => 8,
        Shelf::ComStart | Shelf::ServiceMark => 6,
        Shelf::ServiceSet | Shelf::Logon => 5,
        Shelf::Child => 4,
        Shelf::Pipe => 3,
    }
}

/// Pieces that join to the same things are kept this often: an attack may use one path twice within a window.
const ALIKE: usize = 4;

/// Memory of one place on a shelf beside the evidence itself.
const PLACE: usize = size_of::<Slot>();

/// The evidence of one host.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Locker {
    shelves: [Vec<Slot>; Shelf::COUNT],
    #[serde(skip)]
    bytes: usize,
}

#[derive(Debug, Serialize, Deserialize)]
struct Slot {
    piece: Rc<Evidence>,
    /// Whether it supports an incident.
    joined: bool,
}

/// What became of a piece.
pub enum Put {
    /// It is kept; so many others went for it.
    Kept {
        /// How many.
        evicted: usize,
    },
    /// One like it, at the same time, is kept already.
    Duplicate,
    /// Everything in its place is worth more.
    NoRoom,
}

impl Locker {
    /// The pieces on a shelf, oldest arrival first.
    pub fn shelf(&self, shelf: Shelf) -> impl Iterator<Item = &Rc<Evidence>> {
        self.slots(shelf).iter().map(|slot| &slot.piece)
    }

    fn slots(&self, shelf: Shelf) -> &[Slot] {
        self.shelves.get(shelf as usize).map_or(&[], Vec::as_slice)
    }

    /// All pieces.
    pub fn evidence_mut(&mut self) -> impl Iterator<Item = &mut Rc<Evidence>> {
        self.shelves
            .iter_mut()
            .flatten()
            .map(|slot| &mut slot.piece)
    }

    /// Works out anew how much memory is held: that is not saved.
    pub fn recount(&mut self) {
        let pieces = self
            .shelves
            .iter()
            .flatten()
            .map(|slot| slot.piece.bytes().saturating_add(PLACE));
        self.bytes = pieces.fold(0, usize::saturating_add);
    }

    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many pieces there are.
    pub fn len(&self) -> usize {
        self.shelves
            .iter()
            .map(Vec::len)
            .fold(0, usize::saturating_add)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps a piece. `places` is the number for the whole host, `keep` how long a piece can matter, `tolerance` within
    /// which two alike are one; all times in milliseconds.
    pub fn put(
        &mut self,
        piece: &Rc<Evidence>,
        places: usize,
        clock: &Clock,
        keep: i64,
        tolerance: i64,
    ) -> Put {
        let shelf = piece.shelf();
        let alike = |slot: &&Slot| slot.piece.joins_like(piece);
        let near =
            |slot: &Slot| slot.piece.time.ms.abs_diff(piece.time.ms) <= tolerance.unsigned_abs();
        let same = |slot: &Slot| {
            near(slot) || slot.piece.record_id.is_some() && slot.piece.record_id == piece.record_id
        };
        // What takes fewer steps first.
        if self
            .slots(shelf)
            .iter()
            .filter(|slot| same(slot))
            .any(|slot| alike(&slot))
        {
            return Put::Duplicate;
        }
        self.forget_past(shelf, clock, keep);
        let mut evicted = 0usize;
        if self.slots(shelf).iter().filter(alike).count() >= ALIKE
            && let Some(oldest) = self.slots(shelf).iter().position(|slot| alike(&slot))
        {
            self.remove(shelf, oldest);
            evicted = 1;
        }
        let room = (places.saturating_mul(share(shelf)) / 64).max(1);
        while self.slots(shelf).len() >= room {
            let Some(index) = self.cheapest(shelf, |slot| clock.is_left(slot.piece.time.ms, keep))
            else {
                break;
            };
            let worth_more = |slot: &Slot| {
                !slot.joined
                    && !clock.is_left(slot.piece.time.ms, keep)
                    && slot.piece.value() > piece.value()
            };
            if self.slots(shelf).get(index).is_some_and(worth_more) {
                return Put::NoRoom;
            }
            self.remove(shelf, index);
            evicted = evicted.saturating_add(1);
        }
        self.bytes = self
            .bytes
            .saturating_add(piece.bytes())
            .saturating_add(PLACE);
        if let Some(slots) = self.shelves.get_mut(shelf as usize) {
            slots.push(Slot {
                piece: Rc::clone(piece),
                joined: false,
            });
        }
        Put::Kept { evicted }
    }

    /// Marks a piece as part of an incident: it goes last.
    pub fn join(&mut self, piece: &Rc<Evidence>) {
        let slots = self
            .shelves
            .get_mut(piece.shelf() as usize)
            .into_iter()
            .flatten();
        for slot in slots.filter(|slot| Rc::ptr_eq(&slot.piece, piece)) {
            slot.joined = true;
        }
    }

    /// Gives up the least valuable piece of all; false if there is none.
    pub fn evict_one(&mut self) -> bool {
        const ORDER: [Shelf; Shelf::COUNT] = [
            Shelf::Connection,
            Shelf::Logon,
            Shelf::Child,
            Shelf::Pipe,
            Shelf::FileWrite,
            Shelf::ServiceMark,
            Shelf::ServiceSet,
            Shelf::ComStart,
            Shelf::ProcessStart,
        ];
        for joined in [false, true] {
            for shelf in ORDER {
                let found = self.cheapest(shelf, |_| false);
                if let Some(index) = found.filter(|index| {
                    self.slots(shelf)
                        .get(*index)
                        .is_some_and(|slot| slot.joined == joined)
                }) {
                    self.remove(shelf, index);
                    return true;
                }
            }
        }
        false
    }

    /// The piece to go first; before all others one that is `left` behind.
    fn cheapest(&self, shelf: Shelf, left: impl Fn(&Slot) -> bool) -> Option<usize> {
        // As one number: a comparison of three takes more steps than all else here.
        let worth = |slot: &Slot| {
            u32::from(!left(slot)) << 9
                | u32::from(slot.joined) << 8
                | u32::from(slot.piece.value())
        };
        self.slots(shelf)
            .iter()
            .enumerate()
            .min_by_key(|(_, slot)| worth(slot))
            .map(|(index, _)| index)
    }

    fn forget_past(&mut self, shelf: Shelf, clock: &Clock, keep: i64) {
        let Some(slots) = self.shelves.get_mut(shelf as usize) else {
            return;
        };
        let mut freed = 0usize;
        slots.retain(|slot| {
            let past = clock.is_past(slot.piece.time.ms, keep);
            if past {
                freed = freed
                    .saturating_add(slot.piece.bytes())
                    .saturating_add(PLACE);
            }
            !past
        });
        self.bytes = self.bytes.saturating_sub(freed);
    }

    fn remove(&mut self, shelf: Shelf, index: usize) {
        if let Some(slots) = self.shelves.get_mut(shelf as usize)
            && index < slots.len()
        {
            let slot = slots.remove(index);
            self.bytes = self
                .bytes
                .saturating_sub(slot.piece.bytes())
                .saturating_sub(PLACE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{Connection, Fact, FileWrite, Writer};
    use crate::normalize::path::PathKey;
    use crate::normalize::time::Timestamp;

    fn at(ms: i64, fact: Fact) -> Rc<Evidence> {
        Rc::new(Evidence {
            time: Timestamp { ms, zoned: true },
            record_id: None,
            fact,
        })
    }

    fn connection(ms: i64, last: u8) -> Rc<Evidence> {
        at(
            ms,
            Fact::Connection(Connection {
                remote: [10, 0, 0, last].into(),
                remote_port: None,
                local_port: 445,
                program: "system".into(),
                entity_id: None,
            }),
        )
    }

    fn file(ms: i64, path: &str, writer: Writer) -> Rc<Evidence> {
        at(
            ms,
            Fact::FileWrite(FileWrite {
                path: path.into(),
                key: PathKey::new(path),
                writer,
            }),
        )
    }

    fn put(locker: &mut Locker, piece: &Rc<Evidence>) -> Put {
        let mut clock = Clock::default();
        clock.observe(piece.time.ms);
        locker.put(piece, 64, &clock, 120_000, 2_000)
    }

    #[test]
    fn a_flood_of_one_kind_leaves_the_others_and_what_joined() {
        let mut locker = Locker::default();
        let dropped = file(0, r"C:\Windows\a.exe", Writer::System);
        let joined = connection(0, 250);
        put(&mut locker, &dropped);
        put(&mut locker, &joined);
        locker.join(&joined);
        for n in 0..200 {
            put(&mut locker, &connection(i64::from(n) * 10, n));
        }
        assert_eq!(locker.shelf(Shelf::Connection).count(), 16);
        assert!(
            locker
                .shelf(Shelf::Connection)
                .any(|piece| Rc::ptr_eq(piece, &joined))
        );
        assert!(
            locker
                .shelf(Shelf::FileWrite)
                .any(|piece| Rc::ptr_eq(piece, &dropped))
        );
    }

    #[test]
    fn worthless_files_go_before_programs_that_came_over_smb() {
        let mut locker = Locker::default();
        let dropped = file(0, r"C:\Windows\a.exe", Writer::System);
        put(&mut locker, &dropped);
        for n in 0..100 {
            put(
                &mut locker,
                &file(n * 10, &format!(r"C:\share\{n}.txt"), Writer::System),
            );
            put(
                &mut locker,
                &file(
                    n * 10,
                    &format!(r"C:\app\{n}.dll"),
                    Writer::Process("x".into()),
                ),
            );
        }
        assert_eq!(locker.len(), 11);
        assert!(
            locker
                .shelf(Shelf::FileWrite)
                .any(|piece| Rc::ptr_eq(piece, &dropped))
        );
    }

    #[test]
    fn what_joined_goes_after_all_that_did_not_whatever_it_is_worth() {
        let mut locker = Locker::default();
        let joined = file(0, r"C:\share\a.docx", Writer::System);
        put(&mut locker, &joined);
        locker.join(&joined);
        for n in 1..40 {
            put(
                &mut locker,
                &file(n * 10, &format!(r"C:\{n}.exe"), Writer::System),
            );
        }
        assert_eq!(locker.shelf(Shelf::FileWrite).count(), 11);
        assert!(
            locker
                .shelf(Shelf::FileWrite)
                .any(|piece| Rc::ptr_eq(piece, &joined))
        );
    }

    #[test]
    fn what_is_worth_less_than_all_there_is_does_not_push_it_out() {
        let mut locker = Locker::default();
        for n in 0..11 {
            put(
                &mut locker,
                &file(n * 10, &format!(r"C:\{n}.exe"), Writer::System),
            );
        }
        let first = Rc::clone(locker.shelf(Shelf::FileWrite).next().unwrap());
        assert!(matches!(
            put(&mut locker, &file(200, r"C:\share\a.docx", Writer::System)),
            Put::NoRoom
        ));
        assert!(
            locker
                .shelf(Shelf::FileWrite)
                .any(|piece| Rc::ptr_eq(piece, &first))
        );
        // What is worth as much takes the place of the oldest.
        assert!(matches!(
            put(&mut locker, &file(300, r"C:\b.exe", Writer::System)),
            Put::Kept { evicted: 1 }
        ));
        assert!(
            !locker
                .shelf(Shelf::FileWrite)
                .any(|piece| Rc::ptr_eq(piece, &first))
        );
    }

    /// A host that was silent for a while is on a new track of time; what its old one left must not hold the places.
    #[test]
    fn what_a_quiet_time_left_goes_first() {
        let (mut locker, mut clock) = (Locker::default(), Clock::default());
        let mut put = |piece: &Rc<Evidence>, join: bool| {
            clock.observe(piece.time.ms);
            locker.put(piece, 64, &clock, 310_000, 2_000);
            if join {
                locker.join(piece);
            }
            locker.shelf(Shelf::FileWrite).cloned().collect::<Vec<_>>()
        };
        for n in 0..11 {
            put(&file(n * 10, &format!(r"C:\{n}.exe"), Writer::System), true);
        }
        let dropped = file(1_500_000, r"C:\Windows\a.exe", Writer::System);
        put(&dropped, false);
        let document = file(1_500_500, r"C:\share\b.docx", Writer::System);
        let kept = put(&document, false);
        assert!(kept.iter().any(|piece| Rc::ptr_eq(piece, &dropped)));
        assert!(kept.iter().any(|piece| Rc::ptr_eq(piece, &document)));
    }

    #[test]
    fn bytes_are_given_back() {
        let mut locker = Locker::default();
        for n in 0..100 {
            put(&mut locker, &connection(n * 5_000, (n % 7) as u8));
            put(
                &mut locker,
                &file(n * 5_000, &format!(r"C:\{n}.exe"), Writer::System),
            );
        }
        assert!(locker.bytes() > 0);
        while locker.evict_one() {}
        assert_eq!((locker.bytes(), locker.len()), (0, 0));
    }

    #[test]
    fn the_same_thing_at_the_same_time_is_one_piece() {
        let mut locker = Locker::default();
        assert!(matches!(
            put(&mut locker, &connection(0, 1)),
            Put::Kept { .. }
        ));
        assert!(matches!(
            put(&mut locker, &connection(1_500, 1)),
            Put::Duplicate
        ));
        for n in 1..10 {
            assert!(matches!(
                put(&mut locker, &connection(n * 3_000, 1)),
                Put::Kept { .. }
            ));
        }
        assert_eq!(locker.len(), ALIKE);
    }
}
