//! Watermarks of a host's logged time: they decide which evidence has expired.
//!
//! Joins compare logged times of evidence pairwise and need no clock. The watermarks only decide what may be forgotten, and an
//! attacker must not be able to fool them: records from the year 2100 must neither expire everything that is stored nor keep it
//! from expiring. So a host has two watermarks. A record moves the one that its time is near to. A record that is near to neither
//! is set aside; a second record near to that one makes the two of them a new watermark in place of the older one. Evidence has
//! expired only if it is far from all of them.

use serde::{Deserialize, Serialize};

/// The watermarks of one host, in milliseconds.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Clock {
    /// The one in use first.
    watermarks: [Option<i64>; 2],
    set_aside: Option<i64>,
}

/// Times further apart than this do not belong to one watermark, in milliseconds: 15 minutes, three times the longest window of the
/// default policy.
const NEAR_MS: i64 = 900_000;

impl Clock {
    /// Takes in a logged time, in milliseconds. Returns whether it is far from both watermarks.
    pub fn observe(&mut self, ms: i64) -> bool {
        let is_near = |time: &Option<i64>| {
            time.is_some_and(|time| time.abs_diff(ms) <= NEAR_MS.unsigned_abs())
        };
        let [current, other] = &mut self.watermarks;
        if is_near(current) {
            *current = (*current).max(Some(ms));
            return false;
        }
        if is_near(other) {
            *other = (*other).max(Some(ms));
            self.watermarks.swap(0, 1);
            return false;
        }
        if current.is_none() {
            *current = Some(ms);
            return false;
        }
        if is_near(&self.set_aside) {
            *other = self.set_aside.take().max(Some(ms));
            self.watermarks.swap(0, 1);
            return false;
        }
        self.set_aside = Some(ms);
        true
    }

    /// Whether a time is further than `keep` milliseconds from all watermarks.
    pub fn is_expired(&self, ms: i64, keep: i64) -> bool {
        self.watermarks
            .iter()
            .chain([&self.set_aside])
            .flatten()
            .all(|time| is_far(*time, ms, keep))
    }

    /// The watermark in use, in milliseconds.
    pub fn now(&self) -> Option<i64> {
        self.watermarks.first().copied().flatten()
    }

    /// The later watermark, in milliseconds: a record of the past does not make a host silent.
    pub fn latest(&self) -> Option<i64> {
        self.watermarks.iter().flatten().max().copied()
    }

    /// Whether a time is further than `keep` milliseconds from the watermark in use. The host may never come back to such a time.
    pub fn is_stale(&self, ms: i64, keep: i64) -> bool {
        self.now().is_some_and(|now| is_far(now, ms, keep))
    }
}

fn is_far(watermark: i64, ms: i64, keep: i64) -> bool {
    let most = if ms > watermark { NEAR_MS } else { keep };
    watermark.abs_diff(ms) > most.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wild_time_neither_expires_evidence_nor_keeps_it() {
        let mut clock = Clock::default();
        assert!(!clock.observe(1_000_000));
        assert!(clock.observe(4_000_000_000_000));
        assert!(!clock.is_expired(1_000_000, 120_000), "not expired");
        assert!(!clock.observe(1_200_000));
        assert!(clock.is_expired(1_000_000, 120_000), "not kept");
        assert!(!clock.is_expired(1_190_000, 120_000));
        // Further wild times replace the first one, not the watermark in use.
        for wild in [-5_000_000_000, 9_000_000_000_000, 2_000_000_000_000] {
            assert!(clock.observe(wild));
            assert!(!clock.is_expired(1_190_000, 120_000));
            assert!(!clock.is_expired(wild, 120_000));
        }
    }

    #[test]
    fn what_is_expired_is_far_on_either_side() {
        const KEEP: i64 = NEAR_MS * 10;
        let mut clock = Clock::default();
        clock.observe(0);
        for (ms, is_expired) in [
            (-KEEP, false),
            (-KEEP - 1, true),
            (NEAR_MS, false),
            (NEAR_MS + 1, true),
            (i64::MIN, true),
            (i64::MAX, true),
        ] {
            assert_eq!(clock.is_expired(ms, KEEP), is_expired, "{ms}");
        }
    }

    #[test]
    fn records_of_the_past_do_not_set_the_latest_time_back() {
        let mut clock = Clock::default();
        assert_eq!(clock.latest(), None);
        for ms in [0, 1_000, 40_000_000, 40_000_500, 500, 700] {
            clock.observe(ms);
        }
        assert_eq!(
            (clock.now(), clock.latest()),
            (Some(1_000), Some(40_000_500))
        );
    }

    #[test]
    fn two_records_after_a_silence_set_a_watermark() {
        let mut clock = Clock::default();
        clock.observe(0);
        assert!(clock.observe(40_000_000));
        assert!(!clock.observe(39_999_500), "the second of its time");
        assert!(!clock.observe(10_000));
        assert!(!clock.observe(40_000_000));
        assert!(!clock.is_expired(39_999_000, 120_000));
        assert!(clock.is_expired(20_000_000, 120_000));
    }
}
