//! A few runs with every test run. `make simulate` plays as many as wanted.

use psexec_filter_plugin::filter::Filter;
use psexec_filter_plugin::policy::Policy;
use psexec_filter_simulator::{Report, Theme, World, play, run};
use serde_json::{Value, json};

const SEEDS: u64 = 30;

#[test]
fn the_first_runs_keep_every_promise() {
    let mut all = Report::default();
    for seed in 0..SEEDS {
        all.add(run(seed, &mut |_, _| {}).unwrap_or_else(|violation| panic!("{violation}")));
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
}

#[test]
fn the_first_runs_have_every_theme_and_every_fault() {
    let worlds: Vec<World> = (0..SEEDS).map(World::new).collect();
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
    for seed in 0..SEEDS {
        assert!(texts(seed) == texts(seed), "seed {seed}");
    }
    assert!(texts(0) != texts(1));
}

/// The first promise that a filter breaks in the run of that seed, if its policy differs from the run's by `change`.
fn broken(seed: u64, change: &Value) -> Option<String> {
    let world = World::new(seed);
    let mut policy = serde_json::to_value(&world.policy).expect("a policy is JSON");
    for (section, keys) in change.as_object().expect("sections") {
        for (key, value) in keys.as_object().expect("keys") {
            policy[section][key] = value.clone();
        }
    }
    let policy: Policy = serde_json::from_value(policy).expect("a valid policy");
    let played = play(&world, Filter::new(policy), &mut |_, _| {});
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
        let is_caught = (0..SEEDS)
            .filter_map(|seed| broken(seed, &change))
            .any(|found| found.contains(fault));
        assert!(is_caught, "a filter that {what} was not caught");
    }
}
