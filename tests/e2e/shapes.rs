//! One attack (connection, file, service, process) as each shipper writes it; see `fixtures/shapes`.

use psexec_filter_tests::{alerts, engines, module};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// How a shape writes the time of the connection, the first of the four records, and `time_zone` in the alert.
fn first_seen(shape: &str) -> (&'static str, Option<&'static str>) {
    let of = |names: &[&str]| names.iter().any(|name| shape.starts_with(name));
    if of(&["nxlog", "syslog_snare"]) {
        // Local time without its zone, which the events after it show.
        ("2024-09-14T09:52:33.000Z", None)
    } else if of(&["fluentbit_winevtlog", "fluentbit_winlog"]) && !shape.contains("xml") {
        ("2024-09-14T09:52:33.000Z", None)
    } else if of(&["elastic_ecs"]) {
        // The ingest pipeline replaces the logged time by UtcTime.
        ("2024-09-14T09:52:31.870Z", None)
    } else {
        ("2024-09-14T09:52:33.118Z", None)
    }
}

/// The shapes by name, each with its records.
fn shapes() -> Vec<(String, Vec<String>)> {
    let lines = |text: String| text.lines().map(str::to_owned).collect();
    let shapes = psexec_filter_fixtures::shapes();
    shapes
        .into_iter()
        .map(|(name, text)| (name, lines(text)))
        .collect()
}

#[test]
fn every_shape_gives_the_same_alert() {
    let shapes = shapes();
    assert_eq!(shapes.len(), 56);
    for (shape, records) in shapes {
        for (engine, mut module) in engines(module()) {
            let alerts = alerts(&mut *module, &records);
            let [alert] = &alerts[..] else {
                panic!("{shape} on {engine}: {} alerts", alerts.len())
            };
            let (first_seen, time_zone) = first_seen(&shape);
            let found = json!({
                "kind": alert["kind"], "chain": alert["chain"], "revision": alert["revision"], "severity": alert["severity"],
                "lateral": alert["lateral"], "host": alert["host"], "source": alert["source"], "user": alert["user"],
                "file": alert["file"], "executable": alert["process"]["executable"], "parent": alert["process"]["parent"]["executable"],
                "service": alert["service"], "rule": alert["rule"]["id"], "technique": alert["threat"]["technique"],
                "first_seen": alert["first_seen"], "time_zone": alert.get("time_zone"), "repeat": alert["repeat"], "missing": alert["missing"],
                "events": alert["evidence"].as_array().expect("a list").iter().map(|evidence| evidence["event"].as_u64()).collect::<BTreeSet<_>>(),
            });
            let want = json!({
                "kind": "alert", "chain": "psexec", "revision": 1, "severity": "critical",
                "lateral": true, "host": {"name": "WS01.corp.example"}, "source": {"ip": "10.0.0.5", "port": 50211, "candidates": 1},
                "user": {"domain": "NT AUTHORITY", "name": "SYSTEM"},
                "file": {"path": r"C:\Windows\PSEXESVC.exe"}, "executable": r"C:\Windows\PSEXESVC.exe",
                "parent": r"C:\Windows\System32\services.exe",
                "service": {"name": "PSEXESVC"}, "rule": "psexec-filter-psexec", "technique": {"id": ["T1021.002", "T1569.002", "T1570"]},
                "first_seen": first_seen, "time_zone": time_zone, "repeat": 0, "missing": ["pipe"],
                "events": [1, 3, 11, 13],
            });
            assert_eq!(found, want, "{shape} on {engine}");
        }
    }
}

/// Shippers change the order of records: whichever comes last carries the complete alert, in every shape.
#[test]
fn the_order_of_arrival_does_not_matter_in_any_shape() {
    for (shape, records) in shapes() {
        for (engine, mut module) in engines(module()) {
            for (round, order) in [[3, 2, 1, 0], [2, 3, 0, 1], [1, 0, 3, 2]]
                .into_iter()
                .enumerate()
            {
                // A host of its own each time, in the same instance.
                let host = format!("WS9{round}.corp.example");
                let reordered: Vec<String> = order
                    .iter()
                    .map(|index| records[*index].replace("WS01.corp.example", &host))
                    .collect();
                let alerts = alerts(&mut *module, &reordered);
                let last = alerts
                    .last()
                    .unwrap_or_else(|| panic!("{shape} on {engine}: no alert"));
                let found = (
                    &last["severity"],
                    &last["source"]["ip"],
                    &last["host"]["name"],
                );
                assert_eq!(
                    found,
                    (&json!("critical"), &json!("10.0.0.5"), &Value::from(host)),
                    "{shape} on {engine}"
                );
            }
        }
    }
}
