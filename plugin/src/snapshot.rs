//! Snapshots: everything that is remembered, as pieces of JSON. In pieces, so that never more than one host is in memory twice.

use crate::counters::{Counters, add};
use crate::evidence::TrackedProcesses;
use crate::hosts::{Host, Hosts};
use crate::settings::Limits;
use serde::{Deserialize, Serialize};

/// Number of the format. Pieces of another one are refused. 2: evidence carries the id of its event, and kinds have new names. 3: a
/// service's marks are kept one by one, own addresses with their time. 4: programs are tracked by their paths, too.
pub const FORMAT: u32 = 4;

/// A host whose piece is longer than this many bytes is left out, because the piece needs room beside all state. Only a host on
/// which every command line was made long on purpose comes near it.
const MAX_HOST_BYTES: usize = 1024 * 1024;

/// The first piece. Without the counters: they are about one instance, and whoever reads them handles resets.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    state: u32,
    tracked: TrackedProcesses,
    stats_at: Option<i64>,
}

/// A piece with one host; generic over whether it is borrowed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HostPiece<N, H> {
    name: N,
    host: H,
}

/// How far a snapshot has been written.
#[derive(Default)]
pub struct Progress {
    /// Number of the last use of the host that was written last; `None` before the head.
    last_use: Option<u64>,
}

/// What a snapshot holds beside the hosts.
pub struct Remembered<'r> {
    /// The processes whose children are wanted.
    pub tracked: &'r mut TrackedProcesses,
    /// When the counters were last added to a record, in milliseconds.
    pub stats_at: &'r mut Option<i64>,
    /// The hosts.
    pub hosts: &'r mut Hosts,
}

impl Progress {
    /// Returns the next piece; `None` after the last one, after which the next snapshot begins.
    pub fn next(&mut self, remembered: &Remembered<'_>, counters: &mut Counters) -> Option<String> {
        let Some(mut last_use) = self.last_use else {
            self.last_use = Some(0);
            let head = Head {
                state: FORMAT,
                tracked: remembered.tracked.clone(),
                stats_at: *remembered.stats_at,
            };
            return serde_json::to_string(&head).ok();
        };
        while let Some((used, name, host)) = remembered.hosts.used_after(last_use) {
            let mut piece = Limited(Vec::new());
            if serde_json::to_writer(&mut piece, &HostPiece { name, host }).is_ok() {
                self.last_use = Some(used);
                return String::from_utf8(piece.0).ok();
            }
            add(&mut counters.unsaved_hosts);
            last_use = used;
        }
        self.last_use = None;
        None
    }
}

/// Takes in a piece of a snapshot. False, and nothing is changed, if it is damaged or of another format.
pub fn restore(
    piece: &[u8],
    remembered: Remembered<'_>,
    limits: &Limits,
    counters: &mut Counters,
) -> bool {
    if let Ok(HostPiece { name, mut host }) =
        serde_json::from_slice::<HostPiece<String, Host>>(piece)
    {
        host.complete(limits);
        remembered.hosts.restore(&name, host, limits, counters);
        return true;
    }
    match serde_json::from_slice::<Head>(piece) {
        Ok(head) if head.state == FORMAT => {
            *remembered.tracked = head.tracked;
            *remembered.stats_at = head.stats_at;
            true
        }
        _ => false,
    }
}

/// Text of at most [`MAX_HOST_BYTES`] bytes.
struct Limited(Vec<u8>);

impl std::io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let length = self.0.len().saturating_add(bytes.len());
        if length > MAX_HOST_BYTES || self.0.try_reserve(bytes.len()).is_err() {
            return Err(std::io::ErrorKind::OutOfMemory.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
