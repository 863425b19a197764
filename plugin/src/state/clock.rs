//! Whether a piece of evidence is too old to matter, by the times that the host itself logs.
//!
//! Joins compare logged times pairwise and need no clock. This only decides what may be forgotten, and must not be
//! fooled: records from the year 2100 must neither wipe what is kept (all would seem old) nor freeze it. So
//! a host has two tracks of time; a record moves the track it is near to, and one that is near to neither
//! stands alone until another bears it out: then the two start a new track in place of the staler one. Only what is old on
//! all of them is forgotten.

use serde::{Deserialize, Serialize};

/// The tracks of one host, in milliseconds.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Clock {
    tracks: [Option<i64>; 2],
    alone: Option<i64>,
}

/// A step further than this starts a new track: longer than any window of the default policy.
const NEAR_MS: i64 = 900_000;

impl Clock {
    /// Takes note of a logged time; tells whether it was a jump.
    pub fn observe(&mut self, ms: i64) -> bool {
        let near = |track: &Option<i64>| {
            track.is_some_and(|now| now.abs_diff(ms) <= NEAR_MS.unsigned_abs())
        };
        let [current, other] = &mut self.tracks;
        if near(current) {
            *current = (*current).max(Some(ms));
            return false;
        }
        if near(other) {
            *other = (*other).max(Some(ms));
            // The track in use stands first.
            self.tracks.swap(0, 1);
            return false;
        }
        if current.is_none() {
            *current = Some(ms);
            return false;
        }
        if near(&self.alone) {
            *other = self.alone.take().max(Some(ms));
            self.tracks.swap(0, 1);
            return false;
        }
        self.alone = Some(ms);
        true
    }

    /// Whether a time is further than `keep` from all tracks.
    pub fn is_past(&self, ms: i64, keep: i64) -> bool {
        self.tracks
            .iter()
            .chain([&self.alone])
            .flatten()
            .all(|now| is_far(*now, ms, keep))
    }

    /// The latest time of the track in use.
    pub fn now(&self) -> Option<i64> {
        self.tracks.first().copied().flatten()
    }

    /// Whether a time is further than `keep` from the track in use: of a time that the host may never come back to.
    pub fn is_left(&self, ms: i64, keep: i64) -> bool {
        self.now().is_some_and(|now| is_far(now, ms, keep))
    }
}

fn is_far(now: i64, ms: i64, keep: i64) -> bool {
    let most = if ms > now { NEAR_MS } else { keep };
    now.abs_diff(ms) > most.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wild_time_neither_wipes_nor_freezes() {
        let mut clock = Clock::default();
        assert!(!clock.observe(1_000_000));
        assert!(clock.observe(4_000_000_000_000));
        assert!(!clock.is_past(1_000_000, 120_000), "not wiped");
        assert!(!clock.observe(1_200_000));
        assert!(clock.is_past(1_000_000, 120_000), "not frozen");
        assert!(!clock.is_past(1_190_000, 120_000));
        // Further wild times take the place of the first, not of the track in use.
        for wild in [-5_000_000_000, 9_000_000_000_000, 2_000_000_000_000] {
            assert!(clock.observe(wild));
            assert!(!clock.is_past(1_190_000, 120_000));
            assert!(!clock.is_past(wild, 120_000));
        }
    }

    #[test]
    fn what_is_past_is_far_on_either_side() {
        const KEEP: i64 = NEAR_MS * 10;
        let mut clock = Clock::default();
        clock.observe(0);
        for (ms, is_past) in [
            (-KEEP, false),
            (-KEEP - 1, true),
            (NEAR_MS, false),
            (NEAR_MS + 1, true),
            (i64::MIN, true),
            (i64::MAX, true),
        ] {
            assert_eq!(clock.is_past(ms, KEEP), is_past, "{ms}");
        }
    }

    #[test]
    fn a_quiet_host_starts_anew() {
        let mut clock = Clock::default();
        clock.observe(0);
        assert!(clock.observe(40_000_000));
        assert!(!clock.observe(39_999_500), "borne out");
        assert!(!clock.observe(10_000));
        assert!(!clock.observe(40_000_000));
        assert!(!clock.is_past(39_999_000, 120_000));
        assert!(clock.is_past(20_000_000, 120_000));
    }
}
