//! What comes of one or many runs, for people to read.

use std::collections::BTreeMap;

/// A promise that was not kept.
#[derive(Debug)]
pub struct Violation {
    /// The run.
    pub seed: u64,
    /// The record at which it was seen: how many had arrived before it.
    pub step: usize,
    /// What happened.
    pub what: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "seed {}, step {}: {}\nto see the run record by record: make simulate SEED={}",
            self.seed, self.step, self.what, self.seed
        )
    }
}

/// How many attacks of a chain there were.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recall {
    /// All that were played.
    pub played: u64,
    /// Of these, the ones of which everything needed arrived and could be kept. Each must be found, or it is a violation.
    pub complete: u64,
    /// Of the others, the ones that were found all the same.
    pub found_incomplete: u64,
}

/// How often a story was played.
#[derive(Clone, Copy, Debug, Default)]
pub struct Played {
    /// All of them.
    pub all: u64,
    /// Of these, the ones that had to come out as the story says.
    pub checked: u64,
    /// The ones that were reported above low and not as allowed.
    pub reported: u64,
}

/// What came of one or many runs.
#[derive(Debug, Default)]
pub struct Report {
    /// Records played.
    pub records: u64,
    /// Attacks, by chain.
    pub recall: BTreeMap<&'static str, Recall>,
    /// Stories, by name.
    pub stories: BTreeMap<&'static str, Played>,
    /// Attackers whose address had to be told, because it was certain. Each must be, or it is a violation.
    pub sources: u64,
    /// Benign scenarios that were reported as low or informational.
    pub low: u64,
    /// Benign scenarios that were reported above low. A violation, except where a flood had evicted the file event that tells them
    /// from an attack, or where what looks like one was not alone.
    pub false_alerts: u64,
    /// The most memory held, in bytes, and the limit of that run.
    pub worst: (usize, usize),
    /// The memory held, in bytes, in the run in which it came nearest to its limit, and that limit.
    pub nearest: (usize, usize),
}

impl Report {
    /// Adds another run's.
    pub fn add(&mut self, other: Report) {
        self.records += other.records;
        self.sources += other.sources;
        self.low += other.low;
        self.false_alerts += other.false_alerts;
        self.worst = self.worst.max(other.worst);
        if other.nearest.0 * self.nearest.1.max(1) >= self.nearest.0 * other.nearest.1.max(1) {
            self.nearest = other.nearest;
        }
        for (name, more) in other.stories {
            let played = self.stories.entry(name).or_default();
            played.all += more.all;
            played.checked += more.checked;
            played.reported += more.reported;
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
            "chain       attacks   complete   found   incomplete   found"
        )?;
        for (chain, recall) in &self.recall {
            let Recall {
                played,
                complete,
                found_incomplete,
            } = recall;
            let incomplete = played - complete;
            writeln!(
                f,
                "{chain:9} {played:9} {complete:10} {complete:7} {incomplete:12} {found_incomplete:7}"
            )?;
        }
        writeln!(f, "  played  checked   above low")?;
        for (name, played) in &self.stories {
            let Played {
                all,
                checked,
                reported,
            } = played;
            writeln!(f, "{all:8} {checked:8} {reported:11}  {name}")?;
        }
        writeln!(f, "sources that were certain, and told: {}", self.sources)?;
        writeln!(
            f,
            "benign scenarios reported as low: {}; above low, not alone or after a flood evicted their file event: {}",
            self.low, self.false_alerts
        )?;
        writeln!(
            f,
            "most memory: {} of {} bytes; nearest to a limit: {} of {} bytes",
            self.worst.0, self.worst.1, self.nearest.0, self.nearest.1
        )?;
        write!(f, "{} records", self.records)
    }
}
