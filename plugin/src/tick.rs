//! Ticks: calls without a record of a host. By them the filter learns that time passes while hosts are silent, and can send records
//! of its own: Fluent Bit calls a filter for records only and takes one record back.
//!
//! Tick time serves to release what waits. It is never compared with logged time and never expires evidence, so a forged tick can
//! at most release a held alert early.

/// A tick, byte for byte: what a `dummy` input of Fluent Bit sends.
pub const TICK: &[u8] = br#"{"psexec_filter":"tick"}"#;

/// The first bytes of a tick, which no record of a producer has.
const START: &[u8; 8] = br#"{"psexec"#;

/// The key of a tick, and of the records that answer it.
const KEY: &[u8] = br#"{"psexec_filter":"#;

/// The longest time that passes by one tick, in milliseconds. A longer gap is a clock that was set or a shipper that stood still;
/// less than the default `windows.grace`, so that a clock that is set forward releases nothing by itself.
const LONGEST_GAP: i64 = 5_000;

/// How many records may come without a tick before the filter takes it that ticks have ceased. At the recommended 20 ticks a second
/// this is a rate of 200,000 records a second, more than a filter can take.
const MOST_RECORDS_BETWEEN: u64 = 10_000;

/// What a record is to the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A tick.
    Tick,
    /// A record that begins with the key of ticks and is none.
    Other,
    /// Any other record.
    Record,
}

/// Whether a record is a tick. For nearly all records this is one comparison of eight bytes.
#[inline(always)]
pub fn kind(record: &[u8]) -> Kind {
    let start = record.first_chunk::<8>();
    if start.is_none_or(|start| u64::from_le_bytes(*start) != u64::from_le_bytes(*START)) {
        return Kind::Record;
    }
    kind_by_key(record)
}

#[cold]
#[inline(never)]
fn kind_by_key(record: &[u8]) -> Kind {
    if record == TICK {
        Kind::Tick
    } else if record.starts_with(KEY) {
        Kind::Other
    } else {
        Kind::Record
    }
}

/// How much time has passed, by ticks, and what is due next.
#[derive(Debug)]
pub struct Ticks {
    /// The time of the last tick, in milliseconds; `None` before the first that has a time.
    last: Option<i64>,
    /// The sum of the gaps between ticks, in milliseconds.
    elapsed: i64,
    /// When the next held alert is due, in milliseconds of `elapsed`; the largest number if none is held.
    next_due: i64,
    /// How many records there had been at the last tick; `None` before the first.
    records: Option<u64>,
    /// When the counters were last sent, in milliseconds of `elapsed`.
    stats_at: i64,
}

impl Default for Ticks {
    fn default() -> Ticks {
        Ticks {
            last: None,
            elapsed: 0,
            next_due: i64::MAX,
            records: None,
            stats_at: 0,
        }
    }
}

impl Ticks {
    /// Takes a tick. `now` is its time in milliseconds, if it has one; `records` is how many records there have been so far.
    pub fn advance(&mut self, now: Option<i64>, records: u64) {
        self.records = Some(records);
        if let Some(now) = now {
            let gap = now.saturating_sub(self.last.unwrap_or(now));
            self.elapsed = self.elapsed.saturating_add(gap.clamp(0, LONGEST_GAP));
            self.last = Some(now);
        }
    }

    /// How much time has passed by ticks, in milliseconds.
    pub fn elapsed(&self) -> i64 {
        self.elapsed
    }

    /// Whether ticks are coming. `records` is how many records there have been so far.
    pub fn are_coming(&self, records: u64) -> bool {
        self.records
            .is_some_and(|at| records.saturating_sub(at) < MOST_RECORDS_BETWEEN)
    }

    /// Takes note of an alert that is due at `due`, in milliseconds of [`Ticks::elapsed`].
    pub fn expect(&mut self, due: i64) {
        self.next_due = self.next_due.min(due);
    }

    /// Whether a held alert is due. If so, the caller finds it and [expects](Ticks::expect) those that are still held.
    pub fn take_due(&mut self) -> bool {
        let is_due = self.next_due <= self.elapsed;
        if is_due {
            self.next_due = i64::MAX;
        }
        is_due
    }

    /// Whether the counters are to be sent, once every `interval` milliseconds; never if that is 0.
    pub fn take_stats_due(&mut self, interval: i64) -> bool {
        let is_due = interval > 0 && self.elapsed.saturating_sub(self.stats_at) >= interval;
        if is_due {
            self.stats_at = self.elapsed;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_bytes_are_a_tick() {
        for (record, expected) in [
            (r#"{"psexec_filter":"tick"}"#, Kind::Tick),
            (r#"{"psexec_filter":"tick"} "#, Kind::Other),
            (r#"{"psexec_filter":"tick","a":1}"#, Kind::Other),
            (r#"{"psexec_filter":"alert"}"#, Kind::Other),
            (r#"{"psexec_filter":"#, Kind::Other),
            (r#"{"psexec_filters":1}"#, Kind::Record),
            (r#"{"psexec"#, Kind::Record),
            (r#"{ "psexec_filter":"tick"}"#, Kind::Record),
            (r#"{"EventID":1,"psexec_filter":"tick"}"#, Kind::Record),
            ("", Kind::Record),
        ] {
            assert_eq!(kind(record.as_bytes()), expected, "{record}");
        }
    }

    #[test]
    fn time_passes_by_what_lies_between_ticks() {
        let mut ticks = Ticks::default();
        // (time of the tick, elapsed after it): a clock that is set back or ahead counts little.
        for (now, elapsed) in [
            (Some(1_000_000), 0),
            (Some(1_001_000), 1_000),
            (None, 1_000),
            (Some(1_001_000), 1_000),
            (Some(9_000_000_000), 6_000),
            (Some(2_000_000), 6_000),
            (Some(2_004_999), 10_999),
            (Some(i64::MIN), 10_999),
            (Some(i64::MAX), 15_999),
        ] {
            ticks.advance(now, 0);
            assert_eq!(ticks.elapsed(), elapsed, "{now:?}");
        }
    }

    #[test]
    fn ticks_cease_when_only_records_come() {
        let mut ticks = Ticks::default();
        assert!(!ticks.are_coming(0), "none has come yet");
        ticks.advance(None, 7);
        assert!(ticks.are_coming(7 + MOST_RECORDS_BETWEEN - 1));
        assert!(!ticks.are_coming(7 + MOST_RECORDS_BETWEEN));
    }

    #[test]
    fn what_is_expected_first_is_due_first_and_once() {
        let mut ticks = Ticks::default();
        ticks.advance(Some(0), 0);
        ticks.expect(2_000);
        ticks.expect(1_000);
        let mut due = Vec::new();
        for now in (0..=3_000).step_by(500) {
            ticks.advance(Some(now), 0);
            if ticks.take_due() {
                due.push(now);
            }
        }
        assert_eq!(due, [1_000]);
    }

    #[test]
    fn counters_are_due_once_in_an_interval() {
        let mut ticks = Ticks::default();
        let mut due = Vec::new();
        for now in (0..=9_000).step_by(1_000) {
            ticks.advance(Some(now), 0);
            assert!(!ticks.take_stats_due(0));
            if ticks.take_stats_due(3_000) {
                due.push(now);
            }
        }
        assert_eq!(due, [3_000, 6_000, 9_000]);
    }
}
