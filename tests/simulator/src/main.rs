//! `simulate seeds 1000` plays the runs of the seeds 0 to 999; `simulate seed 17` shows one run record by record.

use psexec_filter_simulator::{Record, Report, Violation, World, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = words.get(1).and_then(|word| word.parse().ok());
    let outcome = match (words.first().map(String::as_str), number) {
        (Some("seeds"), Some(seeds)) => many(seeds),
        (Some("seed"), Some(seed)) => one(seed),
        _ => {
            eprintln!("usage: simulate seeds COUNT | simulate seed NUMBER");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(violation) => {
            println!("{violation}");
            ExitCode::FAILURE
        }
    }
}

fn many(seeds: u64) -> Result<Report, Violation> {
    let mut all = Report::default();
    for seed in 0..seeds {
        all.add(run(seed, &mut |_, _| {})?);
    }
    Ok(all)
}

fn one(seed: u64) -> Result<Report, Violation> {
    let world = World::new(seed);
    println!(
        "{:?}: {} hosts, {} scenarios, {} records",
        world.theme,
        world.hosts.len(),
        world.scenarios.len(),
        world.records.len()
    );
    let mut step = 0;
    run(seed, &mut |record: &Record, added| {
        let scenario = match record.scenario {
            Some(number) => {
                let chain = world.scenarios[number].chain.unwrap_or("benign");
                let (part, round) = record.part;
                format!("{chain} {number}, {part} of round {round}")
            }
            None => "background".to_owned(),
        };
        let fault = if record.usable { "" } else { ", not usable" };
        println!("{step}: {scenario}{fault}: {}", record.text);
        if let Some(added) = added {
            println!("    added {added}");
        }
        step += 1;
    })
}
