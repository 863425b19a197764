//! What the plugin's native tests share.

use psexec_filter_fixtures::with_insertion;
use psexec_filter_plugin::filter::Filter;
use serde_json::Value;
use std::collections::BTreeMap;

/// Passes a record and checks that it leaves as it came or with one object added; returns that object.
pub fn pass(filter: &mut Filter, record: &str) -> Option<Value> {
    let splice = filter.process(record.as_bytes(), 0, 0).into_splice()?;
    let added = with_insertion(record.as_bytes(), splice.at, &splice.text)
        .unwrap_or_else(|fault| panic!("{fault}"));
    Some(Value::Object(added.object))
}

/// The filter with this policy after it took the records, and all alerts that left, those at the end included.
#[allow(dead_code)] // some tests drive the filter themselves
pub fn run(policy: &str, records: &[String]) -> (Filter, Vec<Value>) {
    let mut filter = Filter::from_json(policy);
    assert_eq!(filter.counters().policy_refused, 0, "{policy}");
    let mut alerts = Vec::new();
    for record in records {
        alerts.extend(pass(&mut filter, record));
    }
    while let Some(alert) = filter.flush() {
        alerts.push(serde_json::from_str(&alert).expect("JSON"));
    }
    (filter, alerts)
}

/// The last alert of each incident, by its id.
#[allow(dead_code)] // see above
pub fn incidents(policy: &str, records: &[String]) -> Vec<Value> {
    let (_, alerts) = run(policy, records);
    let by_id = |alert: Value| (alert["id"].to_string(), alert);
    let last: BTreeMap<String, Value> = alerts.into_iter().map(by_id).collect();
    last.into_values().collect()
}
