//! Which logs may hold pieces of one incident: those with events of one host that are close in time. All others are replayed apart
//! from each other, so that none of them depends on what else is replayed.
//!
//! For that the logs are read once before they are replayed, but for what is kept of a record here: its host and its time.

use crate::input::{self, Item};

use psexec_filter_plugin::correlate::Correlator;
use psexec_filter_plugin::event::{Event, HostNames};
use psexec_filter_plugin::evidence::{EVENT_IDS, provider_of};
use psexec_filter_plugin::hosts::SILENT_MS;
use psexec_filter_plugin::normalize::host::label;
use psexec_filter_plugin::policy::Policy;
use psexec_filter_plugin::record::{self, Fields, Prefilter, Reader};
use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// How many spans of time are kept for all hosts together, of some 100 bytes each. Any further one is taken to be of one host, so that
/// rather too many logs are replayed together than too few.
const MAX_SPANS: usize = 250_000;

/// A log and the time of its first event, in milliseconds.
#[derive(Debug, PartialEq, Eq)]
pub struct Log {
    /// Its index among all logs.
    pub index: usize,
    /// The earliest time of its events; the lowest number if it has none.
    pub from: i64,
}

/// Divides logs into groups that are to be replayed apart from each other: in the order of their first logs, and in each the logs in
/// the order in which they begin.
pub fn groups(files: &[PathBuf], policy: &Policy) -> Vec<Vec<Log>> {
    let mut places = Places::new(policy.host.default.as_str());
    let mut spans = Spans::new(apart(policy), MAX_SPANS, files.len());
    let mut from: Vec<Option<i64>> = vec![None; files.len()];
    for ((index, path), from) in files.iter().enumerate().zip(&mut from) {
        // What is wrong with it is reported when it is replayed.
        let _fault = input::read(path, &mut |item| {
            if let Item::Record(_, record) = item
                && let Some((host, ms)) = places.of(&record)
            {
                *from = Some(from.map_or(ms, |from| from.min(ms)));
                spans.add(&host, ms, index);
            }
            true
        });
    }
    let mut groups: BTreeMap<usize, Vec<Log>> = BTreeMap::new();
    for (index, from) in from.into_iter().enumerate() {
        let from = from.unwrap_or(i64::MIN);
        let group = groups.entry(spans.groups.of(index)).or_default();
        group.push(Log { index, from });
    }
    let mut groups: Vec<Vec<Log>> = groups.into_values().collect();
    for group in &mut groups {
        // Not by their order on the command line, so that nothing depends on that.
        group.sort_by_key(|log| (log.from, &files[log.index]));
    }
    groups
}

/// How far apart the events of one host must be to have nothing to do with each other, in milliseconds.
fn apart(policy: &Policy) -> i64 {
    let joined = Correlator::new(policy).join_window();
    SILENT_MS.max(joined).max(policy.windows.suppress.0)
}

/// Finds host and time of the events that any technique may want.
pub struct Places {
    reader: Reader,
    names: HostNames,
}

impl Places {
    /// `default_host` is the host of records that name none; empty if there is no such host.
    pub fn new(default_host: &str) -> Places {
        Places {
            reader: Reader::default(),
            names: HostNames::new(default_host),
        }
    }

    /// The first label of a record's host, and the record's time in milliseconds. `None` for a record that no technique wants.
    pub fn of(&mut self, record: &[u8]) -> Option<(String, i64)> {
        let fields = record::read(record, &mut self.reader, &AnyEvidence).ok()??;
        let id = fields.event_id()?;
        let event = Event::new(&fields, id, provider_of(id)?, None, &self.names).ok()?;
        Some((label(&event.host.key).to_owned(), event.time.ms))
    }
}

/// Reads all events of the ids that techniques use.
struct AnyEvidence;

impl Prefilter for AnyEvidence {
    fn wants(&self, event_id: u32) -> bool {
        EVENT_IDS.iter().any(|(id, _)| *id == event_id)
    }

    fn fields(&self, _event_id: u32) -> u64 {
        0
    }

    fn rejects(&self, _event_id: u32, _so_far: &Fields<'_>) -> bool {
        false
    }
}

/// When each host logged events, as spans of time without a gap of `apart`. All logs with events in one span are in one group.
struct Spans {
    apart: i64,
    /// By host and beginning: the end, and one of the logs.
    hosts: HashMap<String, BTreeMap<i64, (i64, usize)>>,
    count: usize,
    most: usize,
    /// One of the logs with a span for which there was no room.
    beyond: Option<usize>,
    groups: Groups,
}

impl Spans {
    fn new(apart: i64, most: usize, logs: usize) -> Spans {
        Spans {
            apart,
            hosts: HashMap::new(),
            count: 0,
            most,
            beyond: None,
            groups: Groups((0..logs).collect()),
        }
    }

    /// Takes in an event of a log.
    fn add(&mut self, host: &str, ms: i64, log: usize) {
        let near: RangeInclusive<i64> = i64::MIN..=ms.saturating_add(self.apart);
        let spans = self.hosts.get_mut(host);
        if let Some(spans) = spans {
            let is_near = |end: i64| end.saturating_add(self.apart) >= ms;
            let before = spans.range(near.clone()).next_back();
            let before = before.map(|(start, (end, other))| (*start, *end, *other));
            if let Some((start, end, other)) = before.filter(|(_, end, _)| is_near(*end)) {
                self.groups.join(other, log);
                if (start..=end).contains(&ms) {
                    return;
                }
                // The event may close the gap to the span before that one.
                spans.remove(&start);
                let (mut first, mut last) = (start.min(ms), end.max(ms));
                let earlier = spans.range(near).next_back();
                let earlier = earlier.map(|(start, (end, other))| (*start, *end, *other));
                if let Some((start, end, other)) = earlier.filter(|(_, end, _)| is_near(*end)) {
                    self.groups.join(other, log);
                    spans.remove(&start);
                    self.count -= 1;
                    (first, last) = (first.min(start), last.max(end));
                }
                spans.insert(first, (last, log));
                return;
            }
        }
        if self.count >= self.most {
            self.groups.join(*self.beyond.get_or_insert(log), log);
            return;
        }
        self.count += 1;
        let spans = match self.hosts.get_mut(host) {
            Some(spans) => spans,
            None => self.hosts.entry(host.to_owned()).or_default(),
        };
        spans.insert(ms, (ms, log));
    }
}

/// Sets of logs: for each log an earlier one of its set, or itself if it is the first.
struct Groups(Vec<usize>);

impl Groups {
    /// The first log of a log's set.
    fn of(&self, log: usize) -> usize {
        let mut first = log;
        while self.0[first] != first {
            first = self.0[first];
        }
        first
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.of(a), self.of(b));
        self.0[a.max(b)] = a.min(b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APART: i64 = 100;

    /// The groups of as many logs as `events` name, of which each is host, time and log.
    fn groups(events: &[(&str, i64, usize)], most: usize) -> Vec<usize> {
        let logs = events.iter().map(|(.., log)| log + 1).max().unwrap_or(0);
        let mut spans = Spans::new(APART, most, logs);
        for (host, ms, log) in events {
            spans.add(host, *ms, *log);
        }
        let kept: usize = spans.hosts.values().map(BTreeMap::len).sum();
        assert_eq!(kept, spans.count);
        (0..logs).map(|log| spans.groups.of(log)).collect()
    }

    #[test]
    fn logs_are_related_by_a_host_and_a_time() {
        for (what, events, expected) in [
            ("near", vec![("a", 0, 0), ("a", 100, 1)], vec![0, 0]),
            (
                "near, backwards",
                vec![("a", 0, 0), ("a", -100, 1)],
                vec![0, 0],
            ),
            ("far", vec![("a", 0, 0), ("a", 101, 1)], vec![0, 1]),
            (
                "far, backwards",
                vec![("a", 0, 0), ("a", -101, 1)],
                vec![0, 1],
            ),
            ("other hosts", vec![("a", 0, 0), ("b", 0, 1)], vec![0, 1]),
            (
                "a bridge by another log",
                vec![("a", 0, 0), ("a", 180, 1), ("a", 90, 2)],
                vec![0, 0, 0],
            ),
            (
                "a bridge that grows",
                vec![("a", 0, 0), ("a", 300, 1), ("a", 100, 0), ("a", 200, 0)],
                vec![0, 0],
            ),
            (
                "inside a span",
                vec![("a", 0, 0), ("a", 80, 0), ("a", 160, 0), ("a", 10, 1)],
                vec![0, 0],
            ),
            (
                "over a third log",
                vec![
                    ("a", 0, 0),
                    ("b", 0, 1),
                    ("a", 9, 2),
                    ("b", 9, 2),
                    ("c", 0, 3),
                ],
                vec![0, 0, 0, 3],
            ),
            (
                "times at the limits",
                vec![("a", i64::MIN, 0), ("a", i64::MAX, 1), ("a", i64::MAX, 2)],
                vec![0, 1, 1],
            ),
        ] {
            assert_eq!(groups(&events, MAX_SPANS), expected, "{what}");
            // The order in which the logs are read does not matter.
            let reversed: Vec<_> = events.iter().rev().copied().collect();
            assert_eq!(groups(&reversed, MAX_SPANS), expected, "{what}, reversed");
        }
    }

    #[test]
    fn spans_beyond_the_limit_are_taken_to_be_of_one_host() {
        let events = [
            ("a", 0, 0),
            ("b", 0, 1),
            ("c", 0, 2),
            ("d", 9_000, 3),
            ("a", 9, 4),
        ];
        assert_eq!(groups(&events, 5), [0, 1, 2, 3, 0]);
        assert_eq!(groups(&events, 2), [0, 1, 2, 2, 0]);
    }
}
