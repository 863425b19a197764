//! The configurations of `configs/fluent-bit` under a real Fluent Bit: on `PATH`, or named by `FLUENT_BIT`.

use crate::program::{PATIENCE, shipper, wait_for};
use psexec_filter_tests::{Host, module};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

#[test]
fn linux_aggregator() {
    aggregator("linux-aggregator.yaml");
}

#[test]
fn classic() {
    aggregator("classic.conf");
}

/// The inputs of this configuration exist on Windows only. What comes after them is tried here, with records from a file.
#[test]
fn windows_endpoint_after_its_inputs() {
    let Some(fluent_bit) = shipper("fluent-bit", "FLUENT_BIT") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let text = config("windows-endpoint.yaml");
    let (_, after_inputs) = text.split_once("\n  filters:\n").expect("filters");
    let (filters, _) = after_inputs.split_once("\n  outputs:\n").expect("outputs");
    let records = records();
    let input = folder.path().join("in.ndjson");
    std::fs::write(&input, lines(&records)).expect("written");
    let place = folder.path().display();
    let text = format!(
        "service: {{flush: 1}}\nparsers:\n  - {{name: line, format: json}}\npipeline:\n  inputs:\n    \
         - {{name: tail, tag: sysmon.chain, path: '{}', read_from_head: true, parser: line}}\n  filters:\n{filters}\n  outputs:\n    \
         - {{name: file, match: sysmon.chain, path: '{place}', file: records.ndjson, format: plain}}\n    \
         - {{name: file, match: alert.psexec-filter, path: '{place}', file: alerts.ndjson, format: plain}}\n",
        input.display()
    );
    let text = swap(
        &text,
        r"C:\fluent-bit\psexec_filter.wasm",
        &write_module(folder.path()),
    );
    let _running = start(&fluent_bit, folder.path(), "windows.yaml", &text);
    check(folder.path(), &records);
}

/// Sends records over the network into an aggregator with that configuration.
fn aggregator(name: &str) {
    let Some(fluent_bit) = shipper("fluent-bit", "FLUENT_BIT") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let port = TcpListener::bind("127.0.0.1:0")
        .expect("a free port")
        .local_addr()
        .expect("bound")
        .port()
        .to_string();
    let text = swap(
        &config(name),
        "/etc/fluent-bit/psexec_filter.wasm",
        &write_module(folder.path()),
    );
    let text = swap(
        &text,
        "/var/log/fluent-bit",
        &folder.path().display().to_string(),
    );
    let text = swap(&text, "24224", &port);
    let text = swap(&text, "0.0.0.0", "127.0.0.1");
    let _aggregator = start(&fluent_bit, folder.path(), name, &text);

    let records = records();
    let input = folder.path().join("in.ndjson");
    std::fs::write(&input, lines(&records)).expect("written");
    let sender = format!(
        "service: {{flush: 1, scheduler.base: 1, scheduler.cap: 2}}\nparsers:\n  - {{name: line, format: json}}\npipeline:\n  inputs:\n    \
         - {{name: tail, tag: ws01, path: '{}', read_from_head: true, parser: line}}\n  outputs:\n    \
         - {{name: forward, match: ws01, host: 127.0.0.1, port: {port}, retry_limit: no_limits}}\n",
        input.display()
    );
    let _sender = start(&fluent_bit, folder.path(), "sender.yaml", &sender);
    check(folder.path(), &records);
}

/// One whole execution, with other records between; a second one on a record that has a `detection` of its own; and a
/// `detection` that is not ours.
fn records() -> Vec<Value> {
    let (one, two) = (Host::new("WS01.example.org"), Host::new("WS02"));
    let mut lines = vec![json!({"EventID": 4688, "Computer": "WS01", "ProviderName": "Microsoft-Windows-Security-Auditing"}).to_string()];
    for record in one.psexec(0, 7, "10.1.2.3") {
        lines.push(one.event(
            5,
            0,
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
    lines
        .iter()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

/// Waits for all records to come out and holds them to what came in.
fn check(folder: &Path, records: &[Value]) {
    let out = wait_for(&folder.join("records.ndjson"), records.len());
    let mut alerts = Vec::new();
    for (before, after) in records.iter().zip(&out) {
        let mut rest = after.clone();
        for key in ["detection", "detection_psexec_filter"] {
            if before.get(key).is_none()
                && let Some(alert) = rest.as_object_mut().expect("an object").remove(key)
            {
                alerts.push((
                    alert["host"]["name"].clone(),
                    alert["severity"].clone(),
                    alert["source"]["ip"].clone(),
                ));
            }
        }
        assert_eq!(&rest, before, "a record was changed beyond its alert");
    }
    let alert = |host: &str, severity: &str, source: Value| (json!(host), json!(severity), source);
    assert_eq!(
        alerts,
        [
            alert("WS01.example.org", "high", Value::Null),
            alert("WS01.example.org", "critical", json!("10.1.2.3")),
            alert("WS02", "medium", Value::Null)
        ]
    );
    let ours: Vec<&Value> = out
        .iter()
        .zip(records)
        .filter(|(after, before)| after != before)
        .map(|(after, _)| after)
        .collect();
    let copies = wait_for(&folder.join("alerts.ndjson"), ours.len());
    assert_eq!(
        copies.iter().collect::<Vec<_>>(),
        ours,
        "each record with an alert of ours, and no other, is copied"
    );
}

/// A Fluent Bit that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // If it has ended by itself, the missing records show it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts Fluent Bit with a configuration and waits until it is up.
fn start(fluent_bit: &Path, folder: &Path, name: &str, text: &str) -> Running {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("written");
    let mut child = Command::new(fluent_bit)
        .arg("-c")
        .arg(&path)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let log = BufReader::new(child.stderr.take().expect("piped"));
    let running = Running(child);
    let (up, is_up) = std::sync::mpsc::channel();
    // Reads to the end, or a full pipe would stop Fluent Bit.
    std::thread::spawn(move || {
        let mut seen = String::new();
        for line in log.lines().map_while(Result::ok) {
            seen.push_str(&line);
            seen.push('\n');
            if line.contains("[sp] stream processor started") || line.contains("[engine] started") {
                let _ = up.send(String::new());
            }
        }
        let _ = up.send(seen);
    });
    let log = is_up
        .recv_timeout(PATIENCE)
        .unwrap_or_else(|_| panic!("{name}: Fluent Bit did not start"));
    assert!(log.is_empty(), "{name}: Fluent Bit ended:\n{log}");
    running
}

fn write_module(folder: &Path) -> String {
    let path = folder.join("psexec_filter.wasm");
    std::fs::write(&path, module()).expect("written");
    path.display().to_string()
}

fn config(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../configs/fluent-bit")
        .join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Puts `to` in the place of `from`, which must be there.
fn swap(text: &str, from: &str, to: &str) -> String {
    assert!(
        text.contains(from),
        "{from} is not in the configuration any more"
    );
    text.replace(from, to)
}

fn lines(records: &[Value]) -> String {
    records.iter().map(|record| format!("{record}\n")).collect()
}
