//! `simulate seeds 1000` plays the runs of the seeds 0 to 999; `simulate seed 17` shows one run record by record.

use psexec_filter_simulator::{Report, Seen, Violation, World, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = words.get(1).and_then(|word| word.parse().ok());
    let (report, violations) = match (words.first().map(String::as_str), number) {
        (Some("seeds"), Some(seeds)) => many(seeds),
        (Some("seed"), Some(seed)) => one(seed),
        _ => {
            eprintln!("usage: simulate seeds COUNT | simulate seed NUMBER");
            return ExitCode::from(2);
        }
    };
    println!("{report}");
    if violations == 0 {
        println!("no violation");
        ExitCode::SUCCESS
    } else {
        println!("{violations} runs with a violation, which the figures leave out");
        ExitCode::FAILURE
    }
}

/// Adds what came of a run, or prints its violation. Returns how many violations that is.
fn add(all: &mut Report, outcome: Result<Report, Violation>) -> u64 {
    match outcome {
        Ok(report) => {
            all.add(report);
            0
        }
        Err(violation) => {
            println!("{violation}\n");
            1
        }
    }
}

/// Plays many runs to their ends. Returns what came of them, and how many had a violation.
fn many(seeds: u64) -> (Report, u64) {
    let mut all = Report::default();
    let violations = (0..seeds).map(|seed| add(&mut all, run(seed, &mut |_| {})));
    let violations = violations.sum();
    (all, violations)
}

/// Plays one run and prints every record.
fn one(seed: u64) -> (Report, u64) {
    let world = World::new(seed);
    println!(
        "{:?}: {} hosts, {} scenarios, {} records",
        world.theme,
        world.hosts.len(),
        world.scenarios.len(),
        world.records.len()
    );
    let mut step = 0;
    let outcome = run(seed, &mut |seen| {
        let (record, added) = match seen {
            Seen::Record(record, added) => (record, added),
            Seen::Alert(alert) => {
                let alert = serde_json::Value::Object(alert.clone());
                println!("    alert of its own {alert}");
                return;
            }
        };
        let scenario = match record.scenario {
            Some(number) => {
                let scenario = &world.scenarios[number];
                let chain = scenario.chain().unwrap_or("benign");
                let (part, round) = record.part;
                format!(
                    "{number} ({}; {chain}), {part} of round {round}",
                    scenario.story
                )
            }
            None => "background".to_owned(),
        };
        let fault = if record.usable { "" } else { ", not usable" };
        println!("{step}: {scenario}{fault}: {}", record.text);
        if let Some(added) = added {
            println!("    added {added}");
        }
        step += 1;
    });
    let mut report = Report::default();
    let violations = add(&mut report, outcome);
    (report, violations)
}
