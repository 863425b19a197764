//! Real logs, where they are at hand: nothing of them may be lost, reordered or changed, on either engine.

use crate::engines::same;
use psexec_filter::engine::Answer;
use psexec_filter_tests::corpus_files;
use serde_json::{Map, Value};

/// Each record comes out as it went in, or with one object added; and both engines say the same, as does the filter without one.
///
/// The order needs no test of its own: a call takes one record and gives one.
#[test]
fn each_record_comes_out_as_it_was_or_with_one_object_more() {
    for path in corpus_files() {
        let name = path.display();
        let log = std::fs::read(&path).expect("readable");
        let records: Vec<&[u8]> = log
            .split(|byte| *byte == b'\n')
            .filter(|record| !record.is_empty())
            .collect();
        let answers = same(&name.to_string(), &Default::default(), true, &records);
        for (number, (record, answer)) in records.iter().zip(answers).enumerate() {
            let Answer::Changed(changed) = answer else {
                continue;
            };
            let before: Map<String, Value> = serde_json::from_slice(record).expect("JSON");
            let mut after: Map<String, Value> = serde_json::from_slice(&changed)
                .unwrap_or_else(|error| panic!("{name}, record {number}: {error}"));
            let key = if before.contains_key("detection") {
                "detection_psexec_filter"
            } else {
                "detection"
            };
            assert_eq!(
                after.remove(key).map(|alert| alert["kind"].clone()),
                Some(Value::from("alert")),
                "{name}, record {number}"
            );
            assert_eq!(after, before, "{name}, record {number}");
            assert!(
                psexec_filter::engine::added(record, &changed).is_some(),
                "{name}, record {number}: other bytes changed"
            );
        }
    }
}
