//! A program that came over SMB and ran as a service, on hosts whose Sysmon does not log its start, as popular configurations do:
//! what else the log has stands for it, under one id whatever came and in whatever order.

mod common;

use common::{incidents, pass};
use psexec_filter_fixtures::{CMD, Host, SERVICES, SMB_SERVER, SYSTEM};
use psexec_filter_plugin::filter::Filter;
use serde_json::Value;

const TOOL: &str = r"C:\Windows\kXyzAbcd.exe";
const ATTACKER: &str = "10.55.1.77";
/// The number of the process of [`TOOL`].
const RAN: u32 = 7;

fn file(host: &Host) -> String {
    host.file(0, SMB_SERVER, TOOL)
}

fn service(host: &Host) -> String {
    host.service(40, "abcd", TOOL)
}

fn start(host: &Host) -> String {
    host.start(80, RAN, TOOL)
}

fn pipe(host: &Host) -> String {
    host.pipe(120, RAN, TOOL, r"\abcd-stdin")
}

fn child(host: &Host) -> String {
    host.process(400, (8, CMD, "cmd.exe"), (RAN, TOOL), SYSTEM)
}

fn connection(host: &Host) -> String {
    host.connection(1_500, ATTACKER)
}

/// The only alert.
fn only(records: &[String]) -> Value {
    let mut all = incidents("{}", records);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn names(list: &Value) -> Vec<&str> {
    let list = list.as_array().map_or(&[][..], Vec::as_slice);
    list.iter().filter_map(Value::as_str).collect()
}

#[test]
fn what_is_logged_stands_for_the_start() {
    let host = &Host::new("PC1");
    let id_of_start = only(&[file(host), service(host), start(host)])["id"].clone();
    // (records, severity, what is missing, whether the process is known)
    type Row = (Vec<String>, &'static str, &'static [&'static str], bool);
    let rows: Vec<Row> = vec![
        (
            vec![file(host), service(host)],
            "high",
            &["connection", "process", "pipe"],
            false,
        ),
        (
            vec![file(host), service(host), connection(host)],
            "critical",
            &["process", "pipe"],
            false,
        ),
        (
            vec![file(host), service(host), child(host)],
            "high",
            &["connection", "process", "pipe"],
            true,
        ),
        (
            vec![file(host), service(host), pipe(host), child(host)],
            "high",
            &["connection", "process"],
            true,
        ),
        (
            vec![file(host), pipe(host), child(host)],
            "high",
            &["connection", "process", "service"],
            true,
        ),
    ];
    for (records, severity, missing, is_known) in rows {
        let alert = only(&records);
        assert_eq!(alert["chain"], "psexec", "{records:#?}");
        assert_eq!(alert["severity"], severity, "{records:#?}");
        assert_eq!(names(&alert["missing"]), missing, "{records:#?}");
        assert_eq!(alert["id"] == id_of_start, is_known, "{records:#?}");
        assert_eq!(alert["process"].is_object(), is_known, "{records:#?}");
        if is_known {
            assert!(!alert["process"]["entity_id"].is_null(), "{alert}");
        }
        // A child that comes after the alert is no reason for another.
        let is_listed = records.contains(&child(host)) && !records.contains(&pipe(host));
        let children = alert["process"]["children"].as_array().map_or(0, Vec::len);
        assert_eq!(children, usize::from(is_listed), "{records:#?}");
    }
}

/// Every order of these.
fn orders(records: &[String]) -> Vec<Vec<String>> {
    let Some((last, rest)) = records.split_last() else {
        return vec![Vec::new()];
    };
    let mut all = Vec::new();
    for order in orders(rest) {
        for at in 0..=order.len() {
            let mut order = order.clone();
            order.insert(at, last.clone());
            all.push(order);
        }
    }
    all
}

#[test]
fn one_execution_has_one_id_in_every_order() {
    let host = &Host::new("PC1");
    let id = only(&[file(host), start(host)])["id"].clone();
    for records in [
        vec![file(host), service(host), start(host), child(host)],
        vec![file(host), service(host), pipe(host), connection(host)],
        vec![
            file(host),
            service(host),
            start(host),
            pipe(host),
            connection(host),
        ],
    ] {
        for order in orders(&records) {
            let alert = only(&order);
            assert_eq!(alert["id"], id, "{order:#?}");
        }
    }
}

#[test]
fn what_a_service_was_given_from_elsewhere_is_told_once_its_time_has_passed() {
    let host = &Host::new("PC1");
    let mut filter = Filter::from_json("{}");
    for record in [file(host), service(host)] {
        assert_eq!(pass(&mut filter, &record), None);
    }
    let later = pass(&mut filter, &host.irrelevant(5_000, 20));
    assert_eq!(later, None, "its start may still come");
    let late = host.file(11_000, SMB_SERVER, r"C:\share\letter.docx");
    let alert = pass(&mut filter, &late).expect("nothing else came");
    assert_eq!(alert["severity"], "high", "{alert}");
}

#[test]
fn a_program_of_the_host_itself_is_none() {
    let host = &Host::new("PC1");
    let setup = r"C:\Users\a\setup.exe";
    for records in [
        // An installer.
        vec![host.file(0, setup, TOOL), service(host), child(host)],
        // A service that was there, a document that came over SMB, and a program that people copied and ran.
        vec![
            service(host),
            host.file(0, SMB_SERVER, r"C:\Windows\kXyzAbcd.txt"),
        ],
        vec![file(host), child(host)],
        // Long before.
        vec![file(host), host.service(200_000, "abcd", TOOL)],
    ] {
        assert_eq!(incidents("{}", &records), Vec::<Value>::new());
    }
}

#[test]
fn an_entry_by_program_allows_what_stands_for_its_start() {
    let host = &Host::new("PC1");
    let policy = r#"{"allow":[{"process":["*\\kxyzabcd.exe"],"host":["PC1"],"reason":"agent"}]}"#;
    for records in [
        vec![file(host), service(host)],
        vec![file(host), service(host), child(host)],
        vec![file(host), pipe(host)],
    ] {
        let all = incidents(policy, &records);
        assert_eq!(all.len(), 1, "{all:?}");
        assert_eq!(all[0]["severity"], "informational", "{all:?}");
    }
}

#[test]
fn another_process_of_a_program_by_the_same_name_is_no_child() {
    let host = &Host::new("PC1");
    let other = host.process(
        500,
        (9, CMD, "cmd.exe"),
        (11, r"C:\Users\a\kXyzAbcd.exe"),
        SYSTEM,
    );
    let of_services = host.process(600, (10, CMD, "cmd.exe"), (1, SERVICES), SYSTEM);
    let alert = only(&[file(host), service(host), other, of_services]);
    assert!(alert["process"].is_null(), "{alert}");
}
