//! A few runs with every test run. `make simulate` plays as many as wanted.

use psexec_filter_plugin::filter::Filter;
use psexec_filter_plugin::policy::Policy;
use psexec_filter_simulator::{Report, Theme, World, play, run, stories};
use serde_json::{Value, json};
use std::ops::Range;

/// Thirty runs in which every story is played.
const SEEDS: Range<u64> = 0..30;

#[test]
fn the_first_runs_keep_every_promise() {
    let mut all = Report::default();
    for seed in SEEDS {
        all.add(run(seed, &mut |_| {}).unwrap_or_else(|violation| panic!("{violation}")));
    }
    // Runs in which nothing happens prove nothing.
    assert_eq!(all.recall.len(), 5, "{all}");
    assert!(
        all.recall.values().all(|recall| recall.complete > 0),
        "{all}"
    );
    assert!(all.low > 0, "no benign scenario was reported: {all}");
    let incomplete = all
        .recall
        .values()
        .map(|recall| recall.played - recall.complete);
    assert!(incomplete.sum::<u64>() > 0, "no fault cost anything: {all}");
    assert!(all.sources > 0, "no source was certain: {all}");
    for story in stories() {
        let played = all.stories.get(story).copied().unwrap_or_default();
        assert!(
            played.checked > 0,
            "no {story:?} had to come out as it says: {all}"
        );
    }
}

#[test]
fn the_first_runs_have_every_theme_and_every_fault() {
    let worlds: Vec<World> = SEEDS.map(World::new).collect();
    for theme in Theme::ALL {
        assert!(worlds.iter().any(|world| world.theme == theme), "{theme:?}");
    }
    let records = || worlds.iter().flat_map(|world| &world.records);
    assert!(records().any(|record| record.scenario.is_some() && !record.usable));
    let twice = |world: &World| {
        let pairs = world.records.windows(2);
        pairs.filter(|pair| pair[0].text == pair[1].text).count()
    };
    assert!(worlds.iter().map(twice).sum::<usize>() > 0);
}

/// A seed is a whole run: what is found with it can be found again.
#[test]
fn a_seed_gives_the_same_run_again() {
    let texts = |seed| -> Vec<String> {
        let records = World::new(seed).records;
        records.into_iter().map(|record| record.text).collect()
    };
    for seed in SEEDS {
        assert!(texts(seed) == texts(seed), "seed {seed}");
    }
    assert!(texts(SEEDS.start) != texts(SEEDS.start + 1));
}

/// The first promise that a filter breaks in the run of that seed, if its policy differs from the run's by `change`.
fn broken(seed: u64, change: &Value) -> Option<String> {
    let world = World::new(seed);
    let mut policy = serde_json::to_value(&world.policy).expect("a policy is JSON");
    for (section, keys) in change.as_object().expect("sections") {
        match keys.as_object() {
            Some(keys) => {
                for (key, value) in keys {
                    policy[section][key] = value.clone();
                }
            }
            None => policy[section] = keys.clone(),
        }
    }
    let policy: Policy = serde_json::from_value(policy).expect("a valid policy");
    let played = play(&world, Filter::new(policy), &mut |_| {});
    played.err().map(|(_, what)| what)
}

/// The checks can fail: filters that break a promise are caught, each by the check for it.
#[test]
fn a_filter_that_breaks_a_promise_is_caught() {
    for (what, change, fault) in [
        (
            "does not look for one of the techniques",
            json!({"dcomexec": {"enabled": false}}),
            "an attack of dcomexec on ",
        ),
        (
            "adds its alerts under another key",
            json!({"alert": {"key": "alert"}}),
            "added under alert instead of detection",
        ),
        (
            "calls everything critical",
            json!({"psexec": {"severity": {"low": "critical", "medium": "critical", "high": "critical", "critical": "critical"}}}),
            "a false alert",
        ),
        (
            "calls a shell less than it is",
            json!({"wmiexec": {"severity": {"low": "low", "medium": "low", "high": "medium", "critical": "medium"}}}),
            "was reported below High",
        ),
        (
            "does not look at connections that are logged late",
            json!({"windows": {"connection_after": "0s"}}),
            "was not reported as one from",
        ),
        (
            "allows everybody",
            json!({"allow": [{"source": ["10.0.0.0/8"], "reason": "all"}]}),
            "was taken for an allowed one",
        ),
        (
            "allows nobody",
            json!({"allow": []}),
            "an allowed administrator ends as an attacker",
        ),
        (
            "remembers more hosts than it may",
            json!({"limits": {"hosts": 4096}}),
            "over the limits",
        ),
        (
            "reports each execution as another incident",
            json!({"windows": {"suppress": "0s"}}),
            "one attack under two ids",
        ),
    ] {
        let is_caught = SEEDS
            .filter_map(|seed| broken(seed, &change))
            .any(|found| found.contains(fault));
        assert!(is_caught, "a filter that {what} was not caught");
    }
}
