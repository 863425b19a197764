//! What the filter costs, as ratios against two baselines in the same run (`make bench`).
//!
//! Per record: a module that returns its input at once, ours, and one that parses into `serde_json::Value`, on WAMR and on
//! wasmtime, over a log of an attack (or, where that is not at hand, the fixtures). Each round takes all modules in turn
//! and the ratios are medians over the rounds, so a machine that changes its speed changes no ratio.

use psexec_filter::engine::{Engine, Options};
use psexec_filter_tests::{corpus, engines_with, module};
use serde_json::Value;
use std::time::Instant;

const ROUNDS: usize = 15;

/// Events that the filter is about; all others should cost next to nothing.
const WANTED: [u64; 7] = [1, 3, 11, 13, 17, 18, 4624];

fn main() {
    let Some(baseline) = std::env::var_os("BASELINE_MODULE") else {
        eprintln!("BASELINE_MODULE is not set; run this as `make bench`");
        std::process::exit(2);
    };
    let baseline = std::fs::read(&baseline).unwrap_or_else(|error| panic!("{}: {error}", baseline.display()));
    let (name, records) = records();
    let wanted: Vec<Vec<u8>> = records.iter().filter(|record| is_wanted(record)).cloned().collect();
    let bytes: usize = records.iter().map(Vec::len).sum();
    println!("{name}: {} records, mean {} bytes, {} of them wanted", records.len(), bytes / records.len(), wanted.len());
    println!("engine    records  pass-through     filter                serde_json::Value");
    let names: Vec<&str> = engines_with(module(), Options::default()).into_iter().map(|(name, _)| name).collect();
    for (index, engine) in names.iter().enumerate() {
        let make = |module: &[u8], function: &str| engines_with(module, Options { function, free: true }).swap_remove(index).1;
        let mut contenders =
            [make(&baseline, "pass_through"), make(module(), psexec_filter_pack::FUNCTION), make(&baseline, "parse_value")];
        for (label, records) in [("all", &records), ("wanted", &wanted)] {
            let [pass, ours, value] = measure(&mut contenders, records);
            println!(
                "{engine:<9} {label:<8} {:>6.2} us      {:>6.2} us = x{:<5.2}     {:>7.2} us = x{:.1}   (filter / Value = 1/{:.0})",
                pass.0,
                ours.0,
                ours.1,
                value.0,
                value.1,
                value.1 / ours.1
            );
        }
    }
}

/// Median microseconds per record, and median ratio to the first contender, of each.
fn measure(contenders: &mut [Box<dyn Engine>; 3], records: &[Vec<u8>]) -> [(f64, f64); 3] {
    let mut rounds: Vec<[f64; 3]> = Vec::new();
    for round in 0..=ROUNDS {
        let times = contenders.each_mut().map(|engine| pass(&mut **engine, records));
        // The first round warms up.
        if round > 0 {
            rounds.push(times);
        }
    }
    [0, 1, 2].map(|index| (median(rounds.iter().map(|times| times[index])), median(rounds.iter().map(|times| times[index] / times[0]))))
}

fn pass(engine: &mut dyn Engine, records: &[Vec<u8>]) -> f64 {
    let start = Instant::now();
    for record in records {
        let answer = engine.call("bench", 1, 0, record);
        std::hint::black_box(&answer);
        assert!(answer.is_ok(), "{answer:?}");
    }
    start.elapsed().as_secs_f64() * 1e6 / records.len() as f64
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn records() -> (String, Vec<Vec<u8>>) {
    let name = "otrf_empire_invoke_psexec.ndjson";
    let (name, texts) = match corpus().map(|path| std::fs::read_to_string(path.join(name))) {
        Some(Ok(text)) => (name.to_owned(), vec![text]),
        _ => {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/shapes");
            let files = std::fs::read_dir(folder).expect("fixtures").map(|entry| entry.expect("a file").path());
            (
                "the fixtures (wanted records only; no figure to quote)".to_owned(),
                files.map(|path| std::fs::read_to_string(path).expect("text")).collect(),
            )
        }
    };
    (name, texts.iter().flat_map(|text| text.lines()).map(|line| line.as_bytes().to_vec()).collect())
}

fn is_wanted(record: &[u8]) -> bool {
    let record: Value = serde_json::from_slice(record).expect("JSON");
    let id = &record["EventID"];
    id.as_u64().or_else(|| id.as_str()?.parse().ok()).is_none_or(|id| WANTED.contains(&id))
}
