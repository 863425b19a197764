//! Every target for a short time, on mutations of the project's own fixtures; and all that once crashed.

use psexec_filter_fuzz::TARGETS;
use std::path::Path;
use std::time::{Duration, Instant};

fn files(below: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(below);
    let Ok(entries) = std::fs::read_dir(&folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("readable").path()).filter(|path| path.is_file()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("readable")).collect()
}

/// What JSON, XML, paths and times are made of.
const TOKENS: [&str; 16] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "\\",
    "\\u0000",
    "\\ud83d",
    "null",
    "<Data Name='",
    "&#x10ffff;",
    "%%",
    "\n",
    "99999999999999999999",
];

fn mutate(rng: &mut fastrand::Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut data = seeds[rng.usize(..seeds.len())].clone();
    for _ in 0..rng.usize(0..8) {
        let at = rng.usize(..=data.len());
        let end = (at + rng.usize(..64)).min(data.len());
        match rng.u8(..6) {
            0 => data.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << rng.u8(..8)),
            1 => data.truncate(at),
            2 => drop(data.drain(at..end)),
            3 => drop(data.splice(at..at, data[at..end].to_vec())),
            4 => drop(data.splice(at..end, TOKENS[rng.usize(..TOKENS.len())].bytes())),
            _ => {
                let other = &seeds[rng.usize(..seeds.len())];
                let from = rng.usize(..=other.len());
                drop(data.splice(at..end, other[from..].iter().take(256).copied()));
            }
        }
    }
    data
}

#[test]
fn a_short_time_of_every_target() {
    let mut records: Vec<Vec<u8>> = files("../fixtures/shapes");
    assert!(!records.is_empty());
    records.extend(records.clone().iter().flat_map(|file| file.split(|byte| *byte == b'\n')).map(<[u8]>::to_vec));
    for (name, target) in TARGETS {
        let seeds = if name == "policy" { files("seeds/policy") } else { records.clone() };
        let (mut rng, start) = (fastrand::Rng::with_seed(7), Instant::now());
        while start.elapsed() < Duration::from_millis(1_500) {
            target(&mutate(&mut rng, &seeds));
        }
    }
}

#[test]
fn what_once_crashed() {
    for (name, target) in TARGETS {
        files(&format!("../fixtures/crashes/{name}")).iter().for_each(|data| target(data));
    }
}
