//! What more than one machine rests on: filters that each see some of the hosts find what one that sees all finds.

use psexec_filter_tests::{HOST_PATHS, call, corpus_files, module, wasmtime};
use serde_json::Value;
use std::collections::BTreeSet;

const SHARDS: usize = 8;

/// The incidents of a log, by their ids and the hosts they are on.
type Incidents = BTreeSet<(String, String)>;

fn note(incidents: &mut Incidents, alert: &Value) {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    incidents.insert((text(&alert["id"]), text(&alert["host"]["name"])));
}

/// The host of a record as a shipper would tell it, without knowing our shapes.
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

/// The same incidents under the same ids, however the hosts are dealt out.
#[test]
fn eight_filters_find_what_one_finds() {
    let mut found = 0;
    for path in corpus_files() {
        let log = std::fs::read_to_string(&path).expect("text");
        let mut one = wasmtime(module());
        let mut many: Vec<_> = (0..SHARDS).map(|_| wasmtime(module())).collect();
        let (mut whole, mut parts) = (Incidents::new(), Incidents::new());
        for record in log.lines().filter(|line| !line.is_empty()) {
            if let Some(alert) = call(&mut *one, record) {
                note(&mut whole, &alert);
            }
            if let Some(alert) = call(&mut *many[shard(record)], record) {
                note(&mut parts, &alert);
            }
        }
        for alert in one.flush().expect("flush") {
            note(&mut whole, &serde_json::from_str(&alert).expect("JSON"));
        }
        for alert in many
            .iter_mut()
            .flat_map(|engine| engine.flush().expect("flush"))
        {
            note(&mut parts, &serde_json::from_str(&alert).expect("JSON"));
        }
        assert_eq!(parts, whole, "{}", path.display());
        found += whole.len();
    }
    assert!(
        found > 0 || corpus_files().is_empty(),
        "a test that finds nothing shows nothing"
    );
}
