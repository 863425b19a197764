//! Every target for a short time, on mutations of the project's own fixtures; and all that once crashed.

use psexec_filter_fuzz::{TARGETS, mutate};
use std::path::Path;
use std::time::{Duration, Instant};

fn files(below: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(below);
    let Ok(entries) = std::fs::read_dir(&folder) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.is_file())
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| std::fs::read(path).expect("readable"))
        .collect()
}

#[test]
fn a_short_time_of_every_target() {
    let mut records: Vec<Vec<u8>> = files("../fixtures/shapes");
    assert!(!records.is_empty());
    records.extend(
        records
            .clone()
            .iter()
            .flat_map(|file| file.split(|byte| *byte == b'\n'))
            .map(<[u8]>::to_vec),
    );
    for (name, target) in TARGETS {
        let seeds = if name == "policy" {
            files("seeds/policy")
        } else {
            records.clone()
        };
        let (mut rng, start) = (fastrand::Rng::with_seed(7), Instant::now());
        while start.elapsed() < Duration::from_millis(1_500) {
            target(&mutate(&mut rng, &seeds));
        }
    }
}

#[test]
fn what_once_crashed() {
    for (name, target) in TARGETS {
        files(&format!("../fixtures/crashes/{name}"))
            .iter()
            .for_each(|data| target(data));
    }
}
