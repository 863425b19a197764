//! Several filters that each see some of the hosts find what one filter that sees all hosts finds.

use psexec_filter_tests::{HOST_PATHS, call, corpus_files, module, wasmtime};
use serde_json::Value;
use std::collections::BTreeSet;

const SHARDS: usize = 8;

/// How many incidents the corpus has at least: a run with fewer has not read it.
const MIN_INCIDENTS: usize = 12;

/// The incidents of a log, by their ids and the hosts they are on.
type Incidents = BTreeSet<(String, String)>;

/// Adds the incident of an alert.
fn add(incidents: &mut Incidents, alert: &Value) {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    incidents.insert((text(&alert["id"]), text(&alert["host"]["name"])));
}

/// The filter that a record goes to, by its host's name as a shipper would read it, without knowledge of our shapes.
fn shard(record: &str) -> usize {
    let record: Value = serde_json::from_str(record).expect("JSON");
    let host = HOST_PATHS
        .iter()
        .find_map(|path| record.pointer(path).and_then(Value::as_str))
        .unwrap_or_default()
        .to_lowercase();
    let first = host.split('.').next().unwrap_or_default();
    first.bytes().map(usize::from).sum::<usize>() % SHARDS
}

/// The same incidents under the same ids, however the hosts are distributed.
#[test]
fn eight_filters_find_what_one_finds() {
    let (files, mut found, mut shards) = (corpus_files(), 0, BTreeSet::new());
    for path in &files {
        let log = std::fs::read_to_string(path).expect("text");
        let mut one = wasmtime(module());
        let mut many: Vec<_> = (0..SHARDS).map(|_| wasmtime(module())).collect();
        let (mut whole, mut parts) = (Incidents::new(), Incidents::new());
        for record in log.lines().filter(|line| !line.is_empty()) {
            if let Some(alert) = call(&mut *one, record) {
                add(&mut whole, &alert);
            }
            let shard = shard(record);
            shards.insert(shard);
            if let Some(alert) = call(&mut *many[shard], record) {
                add(&mut parts, &alert);
            }
        }
        for alert in one.flush().expect("flush") {
            add(&mut whole, &serde_json::from_str(&alert).expect("JSON"));
        }
        for alert in many
            .iter_mut()
            .flat_map(|engine| engine.flush().expect("flush"))
        {
            add(&mut parts, &serde_json::from_str(&alert).expect("JSON"));
        }
        assert_eq!(parts, whole, "{}", path.display());
        found += whole.len();
    }
    assert!(
        files.is_empty() || found >= MIN_INCIDENTS && shards.len() > SHARDS / 2,
        "{found} incidents, hosts on {} shards",
        shards.len()
    );
}
