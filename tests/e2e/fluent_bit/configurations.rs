//! Each configuration as it is shipped: every record comes out once, with the right alerts.

use super::pipeline::{AGGREGATORS, BY_ID, FluentBit, Pipeline, assert_same_records, parsed, swap};
use psexec_filter_fixtures::shape_file;
use psexec_filter_tests::{Host, module};
use serde_json::{Value, json};

#[test]
fn linux_aggregator() {
    let [name, _] = AGGREGATORS;
    if let Some(fluent_bit) = FluentBit::find() {
        aggregator(&fluent_bit, name);
    }
}

#[test]
fn classic() {
    let [_, name] = AGGREGATORS;
    if let Some(fluent_bit) = FluentBit::find() {
        aggregator(&fluent_bit, name);
    }
}

#[test]
fn linux_aggregator_by_id() {
    if let Some(fluent_bit) = FluentBit::find() {
        aggregator(&fluent_bit, BY_ID);
    }
}

fn aggregator(fluent_bit: &FluentBit, name: &str) {
    let mut pipeline = Pipeline::aggregator(fluent_bit, name, module(), &[]);
    let records = records();
    pipeline.send(&records);
    check(&pipeline, &records);
}

/// Some producers log the event id as text.
#[test]
fn linux_aggregator_by_id_where_the_id_is_text() {
    let Some(fluent_bit) = FluentBit::find() else {
        return;
    };
    let mut pipeline = Pipeline::aggregator(&fluent_bit, BY_ID, module(), &[]);
    let mut records = records();
    for record in &mut records {
        if let Some(id) = record["EventID"].as_u64() {
            record["EventID"] = json!(id.to_string());
        }
    }
    pipeline.send(&records);
    check(&pipeline, &records);
}

/// The field that the comment names for Winlogbeat, which logs the id as a number or as text.
#[test]
fn linux_aggregator_by_id_of_winlogbeat() {
    let Some(fluent_bit) = FluentBit::find() else {
        return;
    };
    let edits = [
        ("int_key: EventID", "int_key: $winlog['event_id']"),
        ("$EventID", "$winlog['event_id']"),
    ];
    for shape in ["winlogbeat8_raw", "winlogbeat7_pre_7.13_int_ids"] {
        let mut pipeline = Pipeline::aggregator(&fluent_bit, BY_ID, module(), &edits);
        let text = std::fs::read_to_string(shape_file(shape)).expect("the sample");
        let records = parsed(&text.lines().map(str::to_owned).collect::<Vec<String>>());
        pipeline.send(&records);
        let [alert] = pipeline.alerts(1).try_into().expect("one alert");
        let mut out = pipeline.records(records.len());
        assert!(out.contains(&alert), "{shape}: {out:?}");
        for record in &mut out {
            record
                .as_object_mut()
                .expect("an object")
                .remove("detection");
        }
        assert_same_records(&records, &out);
    }
}

/// Inputs of the type `winevtlog` exist on Windows only. Everything else of the configuration is run, with records from files.
#[test]
fn windows_endpoint_without_its_event_logs() {
    let Some(fluent_bit) = FluentBit::find() else {
        return;
    };
    let (wanted, other): (Vec<Value>, Vec<Value>) = records()
        .into_iter()
        .partition(|record| record["Channel"] == "Microsoft-Windows-Sysmon/Operational");
    assert!(!wanted.is_empty() && !other.is_empty());
    let pipeline = Pipeline::start(
        &fluent_bit,
        "windows-endpoint.yaml",
        module(),
        |text, place, module, _| {
            let (before, rest) = text.split_once("  inputs:\n").expect("inputs");
            let (inputs, after) = rest.split_once("\n  filters:\n").expect("filters");
            let mut kept = String::new();
            for input in inputs.split("    - name: ").skip(1) {
                if !input.starts_with("winevtlog\n") {
                    kept.push_str(&format!("    - name: {input}"));
                }
            }
            for (tag, records) in [("chain.sysmon", &wanted), ("windows.other", &other)] {
                let lines: String = records.iter().map(|record| format!("{record}\n")).collect();
                std::fs::write(format!("{place}/{tag}"), lines).expect("written");
                kept.push_str(&format!(
                    "    - {{name: tail, tag: {tag}, path: '{place}/{tag}', read_from_head: true, parser: line}}\n"
                ));
            }
            let parsers = "parsers:\n  - {name: line, format: json}\n";
            let text = format!("{parsers}{before}  inputs:\n{kept}\n  filters:\n{after}");
            let text = swap(&text, r"C:\fluent-bit\psexec_filter.wasm", module);
            let text = swap(&text, r"C:\fluent-bit", place);
            let text = swap(&text, "name: forward", "name: file");
            swap(
                &text,
                "host: aggregator.example\n      port: 24224",
                &format!("path: {place}\n      file: records.ndjson\n      format: plain"),
            )
        },
    );
    check(&pipeline, &[wanted, other].concat());
}

/// One whole execution, with other records between; a second one on a record that has a `detection` of its own; and a
/// `detection` that is not ours.
fn records() -> Vec<Value> {
    let (one, two) = (Host::new("WS01.example.org"), Host::new("WS02"));
    let mut lines = vec![json!({"EventID": 4688, "Computer": "WS01", "ProviderName": "Microsoft-Windows-Security-Auditing"}).to_string()];
    for (at, record) in (1..).zip(one.psexec(0, 7, "10.1.2.3")) {
        lines.push(one.event(
            5,
            at,
            json!({"Image": r"C:\Windows\System32\svchost.exe", "note": "äöü \u{1F600} <>&"}),
        ));
        lines.push(record);
    }
    lines.push(two.file(0, "System", r"C:\Windows\PSEXESVC.exe"));
    let mut start: Value =
        serde_json::from_str(&two.start(500, 8, r"C:\Windows\PSEXESVC.exe")).expect("JSON");
    start["detection"] = json!({"rule": {"id": "somebody-elses"}});
    lines.push(start.to_string());
    lines.push(
        json!({"message": "no event at all", "Keywords": -9_223_372_036_854_775_808_i64})
            .to_string(),
    );
    parsed(&lines)
}

/// Waits for all records to come out and holds them to what came in.
fn check(pipeline: &Pipeline<'_>, records: &[Value]) {
    let out = pipeline.records(records.len());
    let (mut alerts, mut with_alert, mut rest) = (Vec::new(), Vec::new(), Vec::new());
    for record in &out {
        let mut without = record.clone();
        for key in ["detection", "detection_psexec_filter"] {
            if record[key]["kind"] == "alert" {
                let alert = &record[key];
                alerts.push((
                    alert["host"]["name"].clone(),
                    alert["severity"].clone(),
                    alert["source"]["ip"].clone(),
                ));
                with_alert.push(record.clone());
                without.as_object_mut().expect("an object").remove(key);
            }
        }
        rest.push(without);
    }
    assert_same_records(records, &rest);
    let alert = |host: &str, severity: &str, source: Value| (json!(host), json!(severity), source);
    assert_eq!(
        alerts,
        [
            alert("WS01.example.org", "high", Value::Null),
            alert("WS01.example.org", "critical", json!("10.1.2.3")),
            alert("WS02", "medium", Value::Null)
        ]
    );
    assert_eq!(
        pipeline.alerts(with_alert.len()),
        with_alert,
        "each record with an alert of ours, and no other, is copied"
    );
}
