//! Every target for a short time on mutations of the project's own fixtures, and on every input that once failed.

use psexec_filter_fixtures::{crashes, shapes};
use psexec_filter_fuzz::{TARGETS, accepted, mutate};
use std::path::Path;
use std::time::{Duration, Instant};

/// The policies that mutations start from.
fn policies() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds/policy");
    let entries = std::fs::read_dir(folder).expect("seeds/policy");
    let read = |path| std::fs::read(path).expect("a seed can be read");
    entries
        .map(|entry| read(entry.expect("seeds/policy can be read").path()))
        .collect()
}

/// The records of every shape, each alone and all of a shape together.
fn records() -> Vec<Vec<u8>> {
    let shapes = shapes();
    let lines = shapes.iter().flat_map(|(_, text)| text.lines());
    let whole = shapes.iter().map(|(_, text)| text.as_str());
    whole
        .chain(lines)
        .map(|text| text.as_bytes().to_vec())
        .collect()
}

#[test]
fn every_target_runs_on_mutations_and_accepts_some() {
    let records = records();
    assert!(records.len() > 100, "{} records", records.len());
    for (name, target) in TARGETS {
        let seeds = match name {
            "policy" => policies(),
            _ => records.clone(),
        };
        let (mut rng, start, before) = (fastrand::Rng::with_seed(7), Instant::now(), accepted());
        let mut executions = 0;
        while start.elapsed() < Duration::from_millis(1_500) {
            target(&mutate(&mut rng, &seeds));
            executions += 1;
        }
        assert!(executions >= 20, "{name}: {executions} executions");
        assert!(
            accepted() > before,
            "{name}: nothing of {executions} inputs was accepted"
        );
    }
}

#[test]
fn every_seed_of_a_policy_is_a_valid_one() {
    let policies = policies();
    assert!(!policies.is_empty());
    for policy in policies {
        let before = accepted();
        psexec_filter_fuzz::policy(&policy);
        let text = String::from_utf8_lossy(&policy);
        assert_eq!(accepted(), before + 1, "refused:\n{text}");
    }
}

#[test]
fn inputs_that_once_failed_do_not_fail_again() {
    for (name, target) in TARGETS {
        let (inputs, before) = (crashes(name), accepted());
        assert!(!inputs.is_empty(), "fixtures/crashes/{name} is empty");
        for (file, data) in inputs {
            // Shown if the target panics.
            println!("{name}/{file}");
            target(&data);
        }
        assert!(
            accepted() > before,
            "{name}: every input is refused at once, so nothing behind that is tested"
        );
    }
}

/// An input that is meant to lead to an alert still does: what is not read cannot fail.
#[test]
fn crash_inputs_with_an_attack_in_them_lead_to_alerts() {
    use psexec_filter_plugin::filter::Filter;
    let mut alerts = 0;
    for (file, data) in crashes("record") {
        let mut filter = Filter::new(Default::default());
        for line in data.split(|byte| *byte == b'\n') {
            filter.process(line, 0, 0);
        }
        let found = filter.counters().alerts;
        assert_eq!(
            found > 0,
            file.starts_with("attack-"),
            "{file}: {found} alerts"
        );
        alerts += found;
    }
    assert!(alerts > 0);
}
