//! Plays whole networks against the filter, by seed: hosts with what is benign on them, attacks of every chain, floods, and
//! records that arrive late, in another order, twice, damaged or not at all, under limits that are short.
//!
//! After every record it holds the filter to what it promises:
//!
//! - memory and hosts stay within the policy's limits;
//! - a record leaves as it came, or with exactly one object more, before its last brace;
//! - an alert names only records that were there, all of one story, and tells it under one id that nothing else has;
//! - revisions and severity of an incident only rise;
//! - what is benign is told as low at most;
//! - and, at the end, every attack was told whose needed pieces arrived and could be kept.
//!
//! The same seed gives the same run. `make simulate SEED=n` tells one run record by record.

mod world;

use psexec_filter_plugin::counters::Counters;
use psexec_filter_plugin::evidence::Shelf;
use psexec_filter_plugin::filter::{Filter, SECOND_KEY, Splice};
use psexec_filter_plugin::policy::Severity;
use psexec_filter_plugin::state::hosts::{LOOK_BACK, SILENT_MS};
use psexec_filter_plugin::state::locker::share;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap, HashSet};
pub use world::{Record, Story, Theme, World};

/// A promise that was not kept.
#[derive(Debug)]
pub struct Violation {
    /// The run.
    pub seed: u64,
    /// The record at which it was seen: how many had arrived before it.
    pub step: usize,
    /// What it was.
    pub what: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "seed {}, step {}: {}\nagain, record by record: make simulate SEED={}",
            self.seed, self.step, self.what, self.seed
        )
    }
}

/// How many attacks of a chain there were.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recall {
    /// In all.
    pub played: u64,
    /// Of these, with all that is needed within the bounds. All of them are found, or it is a violation.
    pub complete: u64,
    /// Of the others, found all the same.
    pub found_incomplete: u64,
}

/// What came of one or many runs.
#[derive(Debug, Default)]
pub struct Report {
    /// Records played.
    pub records: u64,
    /// By chain.
    pub recall: BTreeMap<&'static str, Recall>,
    /// Benign stories told as low or informational.
    pub low: u64,
    /// Benign stories told above low. A violation, except where a flood had pushed out the file event that tells them apart.
    pub false_alerts: u64,
    /// The most memory held, in bytes, and the limit there.
    pub worst: (usize, usize),
    /// The same where it came nearest to its limit.
    pub nearest: (usize, usize),
}

impl Report {
    /// Adds another run's.
    pub fn add(&mut self, other: Report) {
        self.records += other.records;
        self.low += other.low;
        self.false_alerts += other.false_alerts;
        self.worst = self.worst.max(other.worst);
        if other.nearest.0 * self.nearest.1.max(1) >= self.nearest.0 * other.nearest.1.max(1) {
            self.nearest = other.nearest;
        }
        for (chain, more) in other.recall {
            let recall = self.recall.entry(chain).or_default();
            recall.played += more.played;
            recall.complete += more.complete;
            recall.found_incomplete += more.found_incomplete;
        }
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "chain       attacks   with all pieces   found of these   of the others   found of these"
        )?;
        for (
            chain,
            Recall {
                played,
                complete,
                found_incomplete,
            },
        ) in &self.recall
        {
            writeln!(
                f,
                "{chain:9} {played:9} {complete:17} {complete:16} {:15} {found_incomplete:16}",
                played - complete
            )?;
        }
        writeln!(
            f,
            "benign stories told as low: {}; above low, their file event lost to a flood: {}",
            self.low, self.false_alerts
        )?;
        writeln!(
            f,
            "most memory: {} bytes of {}; nearest to a limit: {} of {}",
            self.worst.0, self.worst.1, self.nearest.0, self.nearest.1
        )?;
        write!(f, "{} records, no violation", self.records)
    }
}

/// Plays the run of that seed. `told` is told of every record and what was added to it.
pub fn run(seed: u64, told: &mut dyn FnMut(&Record, Option<&str>)) -> Result<Report, Violation> {
    let world = World::new(seed);
    let mut filter = Filter::new(world.policy.clone());
    let mut check = Check::new(&world);
    let limits = &world.policy.limits;
    let mut step = 0;
    let violation = |step, what| Violation { seed, step, what };
    for record in &world.records {
        let splice = filter.process(record.text.as_bytes(), 0, 0);
        told(record, splice.as_ref().map(|splice| splice.text.as_str()));
        check.fed(record, filter.counters());
        let (bytes, hosts) = (filter.state_bytes(), filter.hosts());
        if bytes > limits.state_bytes.get() || hosts > limits.hosts.get() {
            return Err(violation(
                step,
                format!("{bytes} bytes for {hosts} hosts: over the limits"),
            ));
        }
        check.report.worst = check.report.worst.max((bytes, limits.state_bytes.get()));
        if let Some(splice) = splice {
            let object = added(record, &splice, &world).map_err(|what| violation(step, what))?;
            check
                .told(&object, Some(record.host))
                .map_err(|what| violation(step, what))?;
        }
        step += 1;
    }
    while let Some(alert) = filter.flush() {
        let object = serde_json::from_str(&alert)
            .map_err(|error| violation(step, format!("flushed {alert}: {error}")))?;
        check
            .told(&object, None)
            .map_err(|what| violation(step, what))?;
    }
    check.end().map_err(|(step, what)| violation(step, what))
}

/// The object that was added to a record, if nothing else was done to it.
fn added(record: &Record, splice: &Splice, world: &World) -> Result<Map<String, Value>, String> {
    let text = &record.text;
    if text.rfind('}') != Some(splice.at) {
        return Err(format!(
            "spliced at {}, which is not the last brace of {text}",
            splice.at
        ));
    }
    let (head, tail) = text.split_at(splice.at);
    let parse = |text: &str| {
        serde_json::from_str::<Map<String, Value>>(text)
            .map_err(|error| format!("{error} in {text}"))
    };
    let (before, mut after) = (
        parse(text)?,
        parse(&format!("{head}{}{tail}", splice.text))?,
    );
    let key = if before.contains_key(world.policy.alert.key.as_str()) {
        SECOND_KEY
    } else {
        world.policy.alert.key.as_str()
    };
    match after.remove(key) {
        Some(Value::Object(object)) if after == before => Ok(object),
        _ => Err(format!("not one object under {key} more: {}", splice.text)),
    }
}

/// Longer than any piece can matter.
const REMEMBERED: u64 = 310_000;

/// What is known of an incident by what was told of it.
struct Told {
    story: usize,
    chain: String,
    revision: u64,
    severity: Severity,
}

struct Check<'w> {
    world: &'w World,
    names: HashMap<&'w str, usize>,
    /// Record by (host, event, number) and (host, event, time): those that arrived, by their indices.
    by_id: HashMap<(usize, u64, u64), usize>,
    by_time: HashMap<(usize, u64, String), Vec<usize>>,
    /// Arrivals of each host.
    of_host: Vec<Vec<usize>>,
    step: usize,
    /// Incidents, anchors or alerts of a host that were given up.
    given_up: Vec<u64>,
    /// Whether evidence of a host was given up for room.
    crowded: Vec<bool>,
    /// What was given up for bytes before each step.
    for_bytes: Vec<u64>,
    /// Likewise the hosts that were forgotten.
    forgotten: Vec<u64>,
    last: Counters,
    incidents: HashMap<String, Told>,
    ids: HashMap<(usize, String), String>,
    found: HashSet<usize>,
    /// Benign stories and whether they were told above low, with the step.
    benign: BTreeMap<usize, Option<(usize, String)>>,
    report: Report,
}

impl<'w> Check<'w> {
    fn new(world: &'w World) -> Check<'w> {
        Check {
            world,
            names: world
                .hosts
                .iter()
                .enumerate()
                .map(|(index, host)| (host.name.as_str(), index))
                .collect(),
            by_id: HashMap::new(),
            by_time: HashMap::new(),
            of_host: vec![Vec::new(); world.hosts.len()],
            step: 0,
            given_up: vec![0; world.hosts.len()],
            crowded: vec![false; world.hosts.len()],
            for_bytes: vec![0],
            forgotten: vec![0],
            last: Counters::default(),
            incidents: HashMap::new(),
            ids: HashMap::new(),
            found: HashSet::new(),
            benign: BTreeMap::new(),
            report: Report::default(),
        }
    }

    fn fed(&mut self, record: &Record, counters: &Counters) {
        let index = self.report.records as usize;
        self.step = index;
        self.report.records += 1;
        self.of_host[record.host].push(index);
        if let Some(id) = record.record_id {
            self.by_id.insert((record.host, record.event, id), index);
        }
        self.by_time
            .entry((record.host, record.event, record.time.to_string()))
            .or_default()
            .push(index);
        let forgotten = |counters: &Counters| {
            counters.evicted_incidents
                + counters.evicted_anchors
                + counters.evicted_pending
                + counters.revisions_over_limit
        };
        self.given_up[record.host] += forgotten(counters) - forgotten(&self.last);
        self.crowded[record.host] |= counters.evicted_evidence > self.last.evicted_evidence;
        self.for_bytes.push(counters.evicted_bytes);
        self.forgotten.push(counters.evicted_hosts);
        self.last = counters.clone();
    }

    /// Holds an object that was added to a record of `host`, or handed out at the end, to what it must be.
    fn told(&mut self, object: &Map<String, Value>, host: Option<usize>) -> Result<(), String> {
        let alert = Value::Object(object.clone());
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match alert["kind"].as_str() {
            Some("alert") => {}
            Some("stats") if host.is_some() => return Ok(()),
            _ => return Err(format!("neither an alert nor statistics: {alert}")),
        }
        let wrong = |what: &str| Err(format!("{what}: {alert}"));
        let named = self
            .names
            .get(alert["host"]["name"].as_str().unwrap_or_default())
            .copied();
        let Some(on) = named.filter(|on| host.is_none_or(|host| host == *on)) else {
            return wrong("an alert of another host");
        };
        let (story, in_time, sure) = match self.story_of(&alert, on) {
            Ok(found) => found,
            Err(what) => return wrong(&what),
        };
        let (id, chain) = (text(&alert["id"]), text(&alert["chain"]));
        let severity: Severity = serde_json::from_value(alert["severity"].clone())
            .map_err(|error| format!("{error}: {alert}"))?;
        let Some(story) = story else {
            return if severity > Severity::Low {
                wrong("a false alert about no story at all")
            } else {
                Ok(())
            };
        };
        let forgot =
            self.given_up[on] > 0 || self.last.evicted_hosts > 0 || self.last.evicted_bytes > 0;
        match self.world.stories[story].chain {
            None => {
                let above = (severity > Severity::Low).then(|| (self.step, alert.to_string()));
                let known = self.benign.entry(story).or_default();
                *known = known.take().or(above);
            }
            Some(expected)
                if expected != chain && !self.world.stories[story].also.contains(&&*chain) =>
            {
                return wrong(&format!("an attack of {expected} told as another"));
            }
            Some(_) => {
                self.found.insert(story);
            }
        }
        if !sure {
            return Ok(());
        }
        // A command that seems hours away is told as another attack. Commands of services are brought together by who may have
        // sent them, which nobody knows where connections were given up.
        let apart = chain == "smbexec" && self.crowded[on];
        if in_time && !apart && !forgot {
            let first = self
                .ids
                .entry((story, chain.clone()))
                .or_insert_with(|| id.clone());
            if *first != id {
                return wrong(&format!("one attack under two ids, {first} before"));
            }
        }
        let revision = alert["revision"].as_u64().unwrap_or_default();
        let new = Told {
            story,
            chain,
            revision,
            severity,
        };
        if let Some(old) = self.incidents.insert(id, new) {
            let now = (story, alert["chain"].as_str().unwrap_or_default());
            if (old.story, old.chain.as_str()) != now {
                return wrong("one id for two attacks");
            }
            if !forgot && (revision <= old.revision || severity < old.severity) {
                return wrong("a revision or severity that falls");
            }
        }
        Ok(())
    }

    /// The story that the pieces of an alert belong to, whether their times are near the truth, and whether they can be of no other story; all
    /// of them arrived.
    fn story_of(&self, alert: &Value, host: usize) -> Result<(Option<usize>, bool, bool), String> {
        let mut common: Option<Vec<Option<usize>>> = None;
        let mut in_time = true;
        let evidence = alert["evidence"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        if evidence.is_empty() {
            return Err("an alert without evidence".to_owned());
        }
        for piece in evidence {
            let event = piece["event"].as_u64().unwrap_or_default();
            let time = piece["time"].as_str().unwrap_or_default();
            let records: Vec<usize> = match piece["record_id"].as_u64() {
                Some(id) => self
                    .by_id
                    .get(&(host, event, id))
                    .copied()
                    .into_iter()
                    .collect(),
                None => self
                    .by_time
                    .get(&(host, event, time.to_owned()))
                    .cloned()
                    .unwrap_or_default(),
            };
            let records = records
                .into_iter()
                .map(|index| &self.world.records[index])
                .filter(|record| record.time.to_string() == time);
            let stories: Vec<Option<usize>> = records.clone().map(|record| record.story).collect();
            in_time &= records.clone().all(|record| record.usable);
            if stories.is_empty() {
                return Err(format!("evidence that never was, {piece}"));
            }
            // Whose connection or logon it was may be a guess among several.
            if matches!(event, 3 | 4624) {
                continue;
            }
            let common = common.get_or_insert_with(|| stories.clone());
            common.retain(|story| stories.contains(story));
            if common.is_empty() {
                return Err(format!("evidence of two stories, {piece}"));
            }
        }
        // Without record numbers, what happened within a second may be of several: the likeliest.
        let chain = alert["chain"].as_str();
        let unlike = |story: &Option<usize>| {
            story.map_or(2, |story| {
                u8::from(self.world.stories[story].chain != chain)
            })
        };
        let common = common.unwrap_or_default();
        let sure = common.iter().all(|story| Some(story) == common.first());
        Ok((
            common.into_iter().min_by_key(unlike).flatten(),
            in_time,
            sure,
        ))
    }

    /// Whether all pieces that a story needs arrived, in one of its repeats, and could be kept until the last of them came.
    fn is_complete(&self, number: usize) -> bool {
        let story = &self.world.stories[number];
        let mut arrived: BTreeMap<(u32, &str), usize> = BTreeMap::new();
        for index in self.of_host[story.host].iter().copied() {
            let record = &self.world.records[index];
            if record.story == Some(number) && record.usable {
                arrived
                    .entry((record.piece.1, record.piece.0))
                    .or_insert(index);
            }
        }
        (0..4).any(|round| {
            story.needs.iter().any(|needs| {
                let pieces: Option<Vec<usize>> = needs
                    .iter()
                    .map(|name| arrived.get(&(round, *name)).copied())
                    .collect();
                pieces.is_some_and(|pieces| self.kept(&pieces, story.host))
            })
        })
    }

    fn kept(&self, pieces: &[usize], host: usize) -> bool {
        let (Some(first), Some(last)) =
            (pieces.iter().min().copied(), pieces.iter().max().copied())
        else {
            return true;
        };
        let limits = &self.world.policy.limits;
        if self.given_up[host] > 0 {
            return false;
        }
        // The host that holds the most gives first: others are to be spared.
        let swollen =
            self.world.hosts.iter().any(|host| host.swollen) && !self.world.hosts[host].swollen;
        if !swollen && self.for_bytes[first] != self.for_bytes[last + 1] {
            return false;
        }
        // To a host whose clock is ahead this one seems silent, and may be forgotten for it.
        let ahead = |record: &Record| {
            record
                .time
                .ms
                .saturating_sub(self.world.records[first].time.ms)
                > SILENT_MS
        };
        if self.forgotten[first] != self.forgotten[last + 1]
            && self.world.records[first..=last].iter().any(ahead)
        {
            return false;
        }
        let of_host = &self.of_host[host];
        let within = |index: &&usize| (first..=last).contains(*index);
        let steps: Vec<usize> = of_host.iter().filter(within).copied().collect();
        let crowded = steps.windows(2).any(|pair| {
            let others: HashSet<usize> = (pair[0]..pair[1])
                .map(|index| self.world.records[index].host)
                .collect();
            others.len() + LOOK_BACK >= limits.hosts.get()
        });
        !crowded
            && pieces.iter().all(|piece| {
                let record = &self.world.records[*piece];
                let Some((shelf, value)) = record.place else {
                    return true;
                };
                let rivals = of_host
                    .iter()
                    .filter(|index| **index != *piece && **index <= last)
                    .filter(|index| {
                        let other = &self.world.records[**index];
                        // One of another year may be remembered as long as its year is.
                        let near =
                            !other.usable || other.time.ms.abs_diff(record.time.ms) <= REMEMBERED;
                        // What supports an incident outlasts all else, and any connection may be taken for its source; then comes
                        // what is worth more, then what came later.
                        let supports = other.story.is_some() || shelf == Shelf::Connection;
                        let lasts = |worth: u8| match **index > *piece {
                            true => supports || worth >= value,
                            false => near && (supports || worth > value),
                        };
                        other
                            .place
                            .is_some_and(|(on, worth)| on == shelf && lasts(worth))
                    });
                rivals.count() < (limits.evidence_per_host.get() * share(shelf) / 64).max(1)
            })
    }

    /// Who was found, at the end of the run.
    fn end(mut self) -> Result<Report, (usize, String)> {
        let world = self.world;
        for (number, story) in world.stories.iter().enumerate() {
            let complete = self.is_complete(number);
            let Some(chain) = story.chain else {
                match self.benign.remove(&number) {
                    Some(Some((step, alert))) if complete => {
                        return Err((step, format!("a false alert: {alert}")));
                    }
                    Some(Some(_)) => self.report.false_alerts += 1,
                    Some(None) => self.report.low += 1,
                    None => {}
                }
                continue;
            };
            let found = self.found.contains(&number);
            if complete && !found {
                let last = self.of_host[story.host]
                    .iter()
                    .rfind(|index| world.records[**index].story == Some(number));
                let name = &world.hosts[story.host].name;
                return Err((
                    last.copied().unwrap_or_default(),
                    format!("an attack of {chain} on {name} was not found"),
                ));
            }
            let recall = self.report.recall.entry(chain).or_default();
            recall.played += 1;
            recall.complete += u64::from(complete);
            recall.found_incomplete += u64::from(found && !complete);
        }
        self.report.nearest = self.report.worst;
        Ok(self.report)
    }
}
