//! Alerts that no log record carries: they leave on ticks, as records of their own.

use super::pipeline::{AGGREGATORS, BY_ID, FluentBit, Pipeline, assert_same_records, parsed};
use psexec_filter_tests::{Host, module_with};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const TOOL: &str = r"C:\Windows\a.exe";

/// While an entry names sources, an alert without a source is held for `windows.grace`, 10 s.
const HOLDS: &str = "[[allow]]\nsource = ['10.9.9.9']\nreason = 'test'\n";

/// An execution whose connection is not logged: its alert has no source.
fn attack(host: &str) -> Vec<Value> {
    let host = Host::new(host);
    parsed(&[host.file(0, "System", TOOL), host.start(80, 7, TOOL)])
}

#[test]
fn a_silent_host_is_alerted_on_time_linux_aggregator() {
    let [name, _] = AGGREGATORS;
    if let Some(fluent_bit) = FluentBit::find() {
        silent_host(&fluent_bit, name);
    }
}

#[test]
fn a_silent_host_is_alerted_on_time_classic() {
    let [_, name] = AGGREGATORS;
    if let Some(fluent_bit) = FluentBit::find() {
        silent_host(&fluent_bit, name);
    }
}

#[test]
fn a_silent_host_is_alerted_on_time_by_id() {
    if let Some(fluent_bit) = FluentBit::find() {
        silent_host(&fluent_bit, BY_ID);
    }
}

/// Sends an attack and nothing after it.
fn silent_host(fluent_bit: &FluentBit, name: &str) {
    let mut pipeline = Pipeline::aggregator(fluent_bit, name, &module_with(HOLDS), &[]);
    let sent = attack("SILENT");
    pipeline.send(&sent);
    let out = pipeline.records(sent.len());
    let start = Instant::now();
    let alerts = pipeline.alerts(1);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(15), "{name}: {took:?}");
    assert!(took > Duration::from_secs(5), "{name}: it was not held");
    let [alert] = alerts.as_slice() else {
        panic!("{name}: {alerts:?}");
    };
    assert_eq!(alert["psexec_filter"], "alert", "{name}");
    assert_eq!(alert["host"], json!({"name": "SILENT"}), "{name}");
    assert_eq!(alert["detection"]["severity"], "medium", "{name}");
    assert_same_records(&sent, &out);
    assert_eq!(
        pipeline.records(sent.len()),
        out,
        "{name}: alerts of their own have the tag of alerts only, and ticks none"
    );
}

/// What the comment beside the `dummy` input says.
#[test]
fn without_ticks_an_alert_waits_until_its_host_sends_another_record() {
    let Some(fluent_bit) = FluentBit::find() else {
        return;
    };
    let [name, _] = AGGREGATORS;
    let other = r#"{"message":"no tick"}"#;
    let edits = [(r#"{"psexec_filter":"tick"}"#, other)];
    let mut pipeline = Pipeline::aggregator(&fluent_bit, name, &module_with(HOLDS), &edits);
    let sent = attack("SILENT");
    pipeline.send(&sent);
    // Long enough for an alert on a tick: twenty of the other records come a second.
    let out = pipeline.records(20 * 16);
    assert!(out.contains(&sent[1]), "{:?}", out.first());
    assert!(
        !pipeline.folder().join("alerts.ndjson").exists(),
        "alerted without a tick"
    );
    let later = Host::new("SILENT").start(11_000, 9, r"C:\Windows\System32\other.exe");
    pipeline.send(&parsed(&[later]));
    let alerts = pipeline.alerts(1);
    assert_eq!(alerts[0]["detection"]["severity"], "medium", "{alerts:?}");
    assert_eq!(alerts[0]["EventID"], 1, "{alerts:?}");
}

#[test]
fn five_hundred_alerts_that_are_due_at_once_all_arrive_once() {
    const HOSTS: usize = 500;
    let Some(fluent_bit) = FluentBit::find() else {
        return;
    };
    let policy = format!("{HOLDS}[windows]\ngrace = '2s'\n");
    let [name, _] = AGGREGATORS;
    let mut pipeline = Pipeline::aggregator(&fluent_bit, name, &module_with(&policy), &[]);
    let sent: Vec<Value> = (0..HOSTS)
        .flat_map(|number| attack(&format!("WS{number:03}.example.org")))
        .collect();
    pipeline.send(&sent);
    let alerts = pipeline.alerts(HOSTS);
    let hosts: BTreeSet<String> = alerts
        .iter()
        .map(|alert| alert["host"]["name"].to_string())
        .collect();
    assert_eq!((hosts.len(), alerts.len()), (HOSTS, HOSTS));
    assert_same_records(&sent, &pipeline.records(sent.len()));
}

#[test]
fn with_emit_record_every_log_record_leaves_as_it_came() {
    let Some(fluent_bit) = FluentBit::find() else {
        return;
    };
    let module = module_with("[alert]\nemit = 'record'\nstats_interval = '1s'\n");
    let [name, _] = AGGREGATORS;
    let mut pipeline = Pipeline::aggregator(&fluent_bit, name, &module, &[]);
    // Until the first tick the filter adds alerts to log records.
    std::thread::sleep(Duration::from_secs(3));
    let sent = parsed(&Host::new("WS01").psexec(0, 7, "10.1.2.3"));
    pipeline.send(&sent);
    let severities = |alerts: &[Value]| {
        let severity = |alert: &Value| {
            assert_eq!(alert["psexec_filter"], "alert", "{alert}");
            alert["detection"]["severity"].clone()
        };
        alerts.iter().map(severity).collect::<Vec<Value>>()
    };
    assert_eq!(severities(&pipeline.alerts(2)), ["high", "critical"]);
    let out = pipeline.records(sent.len());
    // Counters have left by now; they have a tag that no output of the configuration matches.
    assert_same_records(&sent, &out);
}
