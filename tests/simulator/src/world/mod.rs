//! What happens in one run: hosts, what is benign on them, attacks, floods, and how the records of all that arrive.

mod administrators;
mod attacks;
mod everyday;
mod faults;
mod hosts;
mod noise;
mod office;
mod scenario;
mod spelling;

use crate::product::longest_window;
use faults::Faults;
pub use hosts::Host;
use psexec_filter_plugin::policy::Policy;
pub use scenario::{Contact, Expected, Need, Party, Record, Scenario, Worth};
use serde_json::json;

/// Who acts: the host, the scenario and its repeat, and what happens to its records on their way.
#[derive(Clone, Copy)]
struct Actor {
    host: usize,
    scenario: Option<usize>,
    round: u32,
    faults: Faults,
}

/// What a run is about: the limit of the policy that is short in it, or the kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // limits of the policy by their names
pub enum Theme {
    Calm,
    Floods,
    Evidence,
    StateBytes,
    Hosts,
    Pending,
    Incidents,
    RecordBytes,
    Grace,
    Allowed,
    Busy,
}

impl Theme {
    /// All themes.
    pub const ALL: [Theme; 11] = [
        Theme::Calm,
        Theme::Floods,
        Theme::Evidence,
        Theme::StateBytes,
        Theme::Hosts,
        Theme::Pending,
        Theme::Incidents,
        Theme::RecordBytes,
        Theme::Grace,
        Theme::Allowed,
        Theme::Busy,
    ];
}

/// Everything that happens in one run.
pub struct World {
    /// What it is about.
    pub theme: Theme,
    /// The filter's policy.
    pub policy: Policy,
    /// How many records come between two ticks, one of which is a quarter of a second after the other; 0 if no ticks come.
    pub records_per_tick: usize,
    /// All hosts, those of a flood of host names last.
    pub hosts: Vec<Host>,
    /// All scenarios.
    pub scenarios: Vec<Scenario>,
    /// All records in the order in which they arrive.
    pub records: Vec<Record>,
    rng: fastrand::Rng,
    processes: u32,
}

/// Milliseconds of a day.
const DAY: i64 = 86_400_000;

impl World {
    /// The run of that seed.
    pub fn new(seed: u64) -> World {
        let mut rng = fastrand::Rng::with_seed(seed);
        let theme = Theme::ALL[rng.usize(0..Theme::ALL.len())];
        let few = rng.u32(1..4);
        let limits = match theme {
            Theme::Calm | Theme::Floods | Theme::Grace | Theme::Allowed | Theme::Busy => json!({}),
            Theme::Evidence => json!({"evidence_per_host": 16 * few}),
            Theme::StateBytes => json!({"state_bytes": 262_144, "evidence_per_host": 256}),
            Theme::Hosts => json!({"hosts": 16 + 12 * few}),
            Theme::Pending => json!({"pending_per_host": few}),
            Theme::Incidents => json!({"incidents_per_host": few}),
            Theme::RecordBytes => json!({"max_record_bytes": 4_096}),
        };
        // Where nobody has an address in that range, an alert waits for its source and is reported all the same.
        let by_source = json!({"source": ["192.0.2.0/24"], "reason": "deployment"});
        let by_user = json!({"user": [r"CORP\deploy"], "reason": "deployment"});
        let by_both = json!({"source": ["198.51.100.7"], "user": ["backup"], "reason": "backup"});
        let allow = match theme {
            Theme::Grace => json!([by_source]),
            Theme::Allowed => json!([by_source, by_user, by_both]),
            _ => json!([]),
        };
        // Of its own, so that what else is in a run does not depend on it.
        let mut ticks = fastrand::Rng::with_seed(!seed);
        let records_per_tick = ticks.usize(0..4);
        let emit = ["tag", "record"][ticks.usize(0..2)];
        let interval = if rng.u8(0..4) == 0 { "60s" } else { "0s" };
        let policy = json!({"limits": limits, "allow": allow, "alert": {"stats_interval": interval, "emit": emit}});
        let policy = serde_json::from_value(policy).expect("a valid policy");
        let mut world = World {
            theme,
            policy,
            records_per_tick,
            hosts: Vec::new(),
            scenarios: Vec::new(),
            records: Vec::new(),
            rng,
            processes: 100,
        };
        let count = if theme == Theme::StateBytes {
            5
        } else {
            world.rng.usize(2..12)
        };
        for number in 0..count {
            world.add_host(format!("PC{number}.corp.example"));
        }
        // Episodes of one host are so far apart that nothing of one is remembered in the next.
        let apart = 5 * longest_window(&world.policy);
        for host in 0..count {
            for episode in 0..world.rng.i64(1..4) {
                let start = episode * apart + world.rng.i64(0..300_000);
                world.episode(host, start, episode == 0);
                // The clock is set now and then, by days: two scenarios never state the same time.
                if world.rng.u8(0..4) == 0 {
                    world.hosts[host].skew += world.rng.i64(-3..4) * DAY;
                }
            }
        }
        world.records.sort_by_key(|record| record.at);
        world
    }

    /// Five minutes of a host: what always happens, and perhaps benign scenarios, attacks and a flood.
    fn episode(&mut self, host: usize, start: i64, is_first: bool) {
        let quiet = Actor {
            host,
            scenario: None,
            round: 0,
            faults: Faults::default(),
        };
        for _ in 0..self.rng.u32(20..120) {
            let when = start + self.rng.i64(-120_000..180_000);
            self.noise(quiet, when);
        }
        let stories = self.rng.usize(0..4);
        for _ in 0..stories {
            self.everyday(host, start);
        }
        if self.theme == Theme::Busy || self.theme == Theme::Allowed && self.rng.bool() {
            self.clients(quiet, start);
        }
        self.administrators(host, start);
        self.attacks(host, start, is_first);
        let floods = match self.theme {
            Theme::Floods | Theme::Hosts | Theme::RecordBytes | Theme::Evidence => {
                self.rng.u8(0..3) > 0
            }
            Theme::StateBytes => host == 0,
            _ => false,
        };
        if floods {
            self.flood(quiet, start - 40_000);
        }
    }

    /// Who plays a new scenario on a host.
    fn actor(&self, host: usize, faults: Faults) -> Actor {
        Actor {
            host,
            scenario: Some(self.scenarios.len()),
            round: 0,
            faults,
        }
    }

    /// The number of a new process.
    fn process_number(&mut self) -> u32 {
        self.processes += 1;
        self.processes
    }

    fn word(&mut self, letters: usize) -> String {
        (0..letters).map(|_| self.rng.alphabetic()).collect()
    }

    /// One of several, by chance.
    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.rng.usize(0..all.len())]
    }

    /// Whether something happens that happens once in so many times.
    fn once_in(&mut self, times: u8) -> bool {
        self.rng.u8(0..times) == 0
    }
}

/// The names of all stories.
pub fn stories() -> impl Iterator<Item = &'static str> {
    let everyday = everyday::STORIES.iter().chain(&office::STORIES);
    let attacks = attacks::STORIES.iter().chain(&administrators::STORIES);
    attacks.copied().chain(everyday.map(|story| story.name))
}
