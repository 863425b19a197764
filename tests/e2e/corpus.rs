//! Recorded logs, where they are at hand: no record of them may be lost or changed, on any engine.

use crate::engines::same;
use psexec_filter_tests::{added, corpus_files};
use serde_json::{Map, Value};

/// What the corpus has at least: a run with fewer has not read it.
const MIN_RECORDS: usize = 50_000;
const MIN_ALERTS: usize = 20;

/// Each record comes out as it went in, or with one alert added under the key that the record does not have. All engines, and the
/// filter without an engine, give the same bytes.
///
/// The order of records needs no test of its own: a call takes one record and gives one.
#[test]
fn each_recorded_event_comes_out_as_it_was_or_with_one_object_added() {
    let (files, mut count, mut alerts) = (corpus_files(), 0, 0);
    for path in &files {
        let name = path.display();
        let log = std::fs::read(path).expect("the log can be read");
        let records: Vec<&[u8]> = log
            .split(|byte| *byte == b'\n')
            .filter(|record| !record.is_empty())
            .collect();
        let answers = same(&name.to_string(), &Default::default(), true, &records).answers;
        assert_eq!(answers.len(), records.len(), "{name}");
        count += records.len();
        for (record, answer) in records.iter().zip(answers) {
            let Some(alert) = added(record, &answer) else {
                continue;
            };
            alerts += 1;
            assert_eq!(alert.object["kind"], "alert", "{name}");
            let before: Map<String, Value> = serde_json::from_slice(record).expect("JSON");
            let key = if before.contains_key("detection") {
                "detection_psexec_filter"
            } else {
                "detection"
            };
            assert_eq!(alert.key, key, "{name}");
        }
    }
    assert!(
        files.is_empty() || count >= MIN_RECORDS && alerts >= MIN_ALERTS,
        "{count} records and {alerts} alerts in {} logs",
        files.len()
    );
}
