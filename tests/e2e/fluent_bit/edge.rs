//! Edge filtering: `alert.pass` decides what leaves the machine.

use super::pipeline::{AGGREGATORS, FluentBit, Pipeline, parsed};
use psexec_filter_tests::{CMD, Host, module_with};
use serde_json::{Value, json};
use std::time::Duration;

/// An attack among other events, and at the end a record that is no Windows event, which always leaves.
fn records() -> Vec<Value> {
    let host = Host::new("WS01");
    let mut lines = host.psexec(0, 7, "10.1.2.3");
    for at in 1..100 {
        lines.push(host.event(5, at, json!({"Image": CMD})));
    }
    lines.push(last().to_string());
    parsed(&lines)
}

fn last() -> Value {
    json!({"message": "no event of Windows"})
}

/// All that comes out with that policy, up to the last record, and the alerts.
fn what_leaves(policy: &str, out: usize) -> Option<(Vec<Value>, Vec<Value>)> {
    let fluent_bit = FluentBit::find()?;
    let [name, _] = AGGREGATORS;
    let mut pipeline = Pipeline::aggregator(&fluent_bit, name, &module_with(policy), &[]);
    // Until the first tick the filter adds alerts to log records.
    std::thread::sleep(Duration::from_secs(3));
    pipeline.send(&records());
    let (alerts, records) = (pipeline.alerts(2), pipeline.records(out));
    Some((records, alerts))
}

fn severities(records: &[Value]) -> Vec<&Value> {
    let alerts = records.iter().map(|record| &record["detection"]);
    alerts.map(|alert| &alert["severity"]).collect()
}

#[test]
fn with_pass_alerts_only_records_with_an_alert_leave() {
    let Some((records, alerts)) = what_leaves("[alert]\npass = 'alerts'\n", 3) else {
        return;
    };
    assert_eq!(severities(&alerts), ["high", "critical"]);
    assert_eq!(records, [alerts, vec![last()]].concat());
}

#[test]
fn with_pass_alerts_and_emit_record_no_log_record_leaves() {
    let policy = "[alert]\npass = 'alerts'\nemit = 'record'\n";
    let Some((records, alerts)) = what_leaves(policy, 1) else {
        return;
    };
    assert_eq!(severities(&alerts), ["high", "critical"]);
    assert_eq!(records, [last()]);
}
