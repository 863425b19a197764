//! Real logs, where they are at hand: nothing of them may be lost, reordered or changed, on either engine.

use psexec_filter::engine::Answer;
use psexec_filter_tests::{corpus_files, engines, module};
use serde_json::{Map, Value};

/// Each record comes out as it went in, or with one object added; and both engines say the same.
///
/// The order needs no test of its own: a call takes one record and gives one.
#[test]
fn each_record_comes_out_as_it_was_or_with_one_object_more() {
    for path in corpus_files() {
        let name = path.display();
        let log = std::fs::read(&path).expect("readable");
        let mut engines = engines(module());
        for (line, record) in (1..).zip(log.split(|byte| *byte == b'\n')).filter(|(_, record)| !record.is_empty()) {
            let mut answers = engines.iter_mut().map(|(_, engine)| engine.call("t", 0, 0, record).expect("an answer"));
            let first = answers.next().expect("an engine");
            assert!(answers.all(|answer| answer == first), "{name}:{line}: the engines differ");
            let Answer::Changed(changed) = first else { continue };
            let before: Map<String, Value> = serde_json::from_slice(record).expect("JSON");
            let mut after: Map<String, Value> = serde_json::from_slice(&changed).unwrap_or_else(|error| panic!("{name}:{line}: {error}"));
            let key = if before.contains_key("detection") { "detection_psexec_filter" } else { "detection" };
            assert_eq!(after.remove(key).map(|alert| alert["kind"].clone()), Some(Value::from("alert")), "{name}:{line}");
            assert_eq!(after, before, "{name}:{line}");
            assert!(psexec_filter::replay::added(record, &changed).is_some(), "{name}:{line}: other bytes changed");
        }
    }
}
