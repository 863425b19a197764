//! What happens in one run: hosts, what is benign on them, attacks, floods, and how the records of all that arrive.

mod attacks;
mod faults;
mod hosts;
mod noise;

use crate::product::{Kind, longest_window};
use faults::Faults;
pub use hosts::Host;
use psexec_filter_plugin::policy::Policy;
use serde_json::json;

/// A record as it arrives, and what the checks must know about it.
#[derive(Clone)]
pub struct Record {
    /// When it arrives, in milliseconds of the run.
    pub at: i64,
    /// Its host: an index into [`World::hosts`].
    pub host: usize,
    /// The record.
    pub text: String,
    /// Its event id.
    pub event: u64,
    /// Its number, on hosts whose shipper passes one.
    pub record_id: Option<u64>,
    /// The time it states, in milliseconds since 1970.
    pub ms: i64,
    /// The time it states, as it is written.
    pub time: String,
    /// The scenario that it belongs to: an index into [`World::scenarios`].
    pub scenario: Option<usize>,
    /// Its part in the scenario, and in which repeat of it.
    pub part: (&'static str, u32),
    /// As which kind of evidence the filter keeps it, and what it is worth among others of that kind.
    pub kept_as: Option<(Kind, Worth)>,
    /// Whether the filter can make use of it: it is not damaged, not too long, and its time is near the truth.
    pub usable: bool,
}

/// Which evidence must outlast which, of one kind, when room is short. Later ones outlast earlier ones; evidence of kinds that
/// make no difference is [`Worth::Equal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Worth {
    /// One among equals.
    Equal,
    /// A file that is no program.
    Document,
    /// A program that was written on the host itself.
    LocalProgram,
    /// A program that came over SMB.
    SmbProgram,
    /// A process that a DCOM server or an ordinary program started.
    StartedByDcom,
    /// A process that WMI started for a person.
    StartedByWmi,
}

/// Several records that belong together.
pub struct Scenario {
    /// The host that it happens on: an index into [`World::hosts`].
    pub host: usize,
    /// The chain that an attack must be reported as. `None`: benign, and above low only where its file event is lost.
    pub chain: Option<&'static str>,
    /// Sets of parts, each of which is enough to find an attack (or, if it is benign, to report it as low at most).
    pub needs: Vec<&'static [&'static str]>,
    /// Chains that may report it as well while, or because, parts are missing.
    pub also: &'static [&'static str],
}

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
}

impl Theme {
    /// All themes.
    pub const ALL: [Theme; 9] = [
        Theme::Calm,
        Theme::Floods,
        Theme::Evidence,
        Theme::StateBytes,
        Theme::Hosts,
        Theme::Pending,
        Theme::Incidents,
        Theme::RecordBytes,
        Theme::Grace,
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
            Theme::Calm | Theme::Floods | Theme::Grace => json!({}),
            Theme::Evidence => json!({"evidence_per_host": 16 * few}),
            Theme::StateBytes => json!({"state_bytes": 262_144, "evidence_per_host": 256}),
            Theme::Hosts => json!({"hosts": 16 + 12 * few}),
            Theme::Pending => json!({"pending_per_host": few}),
            Theme::Incidents => json!({"incidents_per_host": few}),
            Theme::RecordBytes => json!({"max_record_bytes": 4_096}),
        };
        // No host in a run has an address in that range: an alert waits for its source and is reported all the same.
        let allow = if theme == Theme::Grace {
            json!([{"source": ["192.0.2.0/24"], "reason": "deployment"}])
        } else {
            json!([])
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
                world.episode(host, start);
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
    fn episode(&mut self, host: usize, start: i64) {
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
        let mut benign = [0, 1, 2, 3, 4, 5];
        self.rng.shuffle(&mut benign);
        for number in benign.into_iter().take(self.rng.usize(0..3)) {
            let when = start + self.rng.i64(-60_000..60_000);
            self.benign(host, number, when);
        }
        self.attacks(host, start);
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

    /// Adds a scenario of the actor's. Its records come after this.
    fn add_scenario(
        &mut self,
        actor: Actor,
        chain: Option<&'static str>,
        needs: Vec<&'static [&'static str]>,
        also: &'static [&'static str],
    ) {
        self.scenarios.push(Scenario {
            host: actor.host,
            chain,
            needs,
            also,
        });
    }

    /// The number of a new process.
    fn process_number(&mut self) -> u32 {
        self.processes += 1;
        self.processes
    }

    fn word(&mut self, letters: usize) -> String {
        (0..letters).map(|_| self.rng.alphabetic()).collect()
    }
}
