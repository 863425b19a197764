//! Every key of the policy's `[windows]`, set to 20 minutes: what is 10 s inside of it counts, what is 10 s outside does not.
//!
//! The host goes on logging in between, as real hosts do, so that its clock moves and evidence that is no longer needed is
//! forgotten. A window only works if the evidence that it joins is remembered for as long as the window is.

mod common;

use common::pass;
use psexec_filter_fixtures::{CMD, DELETED, Host, MMC, SMB_SERVER, SVCHOST, data};
use psexec_filter_plugin::filter::Filter;
use psexec_filter_plugin::policy::Policy;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const ATTACKER: &str = "10.55.1.77";
const DROPPED: &str = r"C:\Windows\kXyzAbcd.exe";
/// A command that says nothing by itself: without the service that it belongs to, smbexec does not report it.
const COMMAND: &str = "cmd.exe /c net user eve secret /add";
/// A command line that only tools such as wmiexec give.
const SHELL: &str = r"cmd.exe /Q /c dir 1> \\127.0.0.1\ADMIN$\__1726304400.7 2>&1";
const EVIL: &str = r"C:\Tools\evil.exe";

/// The window of every row, in milliseconds.
const WINDOW: i64 = 20 * 60_000;
/// How far inside and outside of it the evidence is: far more than `clock_tolerance`, 2 s by default.
const MARGIN: i64 = 10_000;

/// A key of `[windows]` and the smallest attack that depends on it.
struct Row {
    key: &'static str,
    what: &'static str,
    /// The records before the evidence that is to be inside or outside of the window, and those from it on, by how far apart the
    /// two are in milliseconds.
    records: fn(i64) -> (Vec<String>, Vec<String>),
    /// What is reported where it is inside: the last alert of each incident.
    inside: &'static [&'static str],
    /// And where it is outside.
    outside: &'static [&'static str],
}

fn host() -> Host {
    Host::new("PC1")
}

/// A program that is dropped over SMB and started at once.
fn dropped(ms: i64, process: u32) -> Vec<String> {
    vec![
        host().file(ms - 100, SMB_SERVER, DROPPED),
        host().start(ms, process, DROPPED),
    ]
}

const ROWS: &[Row] = &[
    Row {
        key: "connection_before",
        what: "a connection, then the process start",
        records: |apart| (vec![host().connection(0, ATTACKER)], dropped(apart, 7)),
        inside: &["psexec high from 10.55.1.77"],
        outside: &["psexec medium"],
    },
    Row {
        key: "connection_before",
        what: "a logon, then the process start",
        records: |apart| {
            let logon = host().logon(0, ATTACKER, "0x5555", "EVIL");
            (vec![logon], dropped(apart, 7))
        },
        inside: &["psexec medium from 10.55.1.77"],
        outside: &["psexec medium"],
    },
    Row {
        key: "connection_after",
        what: "a process start, then the connection",
        records: |apart| (dropped(0, 7), vec![host().connection(apart, ATTACKER)]),
        inside: &["psexec high from 10.55.1.77"],
        outside: &["psexec medium"],
    },
    Row {
        key: "file_to_process",
        what: "a file, then the start of it",
        records: |apart| {
            let file = host().file(0, SMB_SERVER, DROPPED);
            (vec![file], vec![host().start(apart, 7, DROPPED)])
        },
        inside: &["psexec medium"],
        outside: &[],
    },
    Row {
        key: "service_to_process",
        what: "a new service, then its command",
        records: |apart| {
            let service = host().new_service(0, "abcd", COMMAND);
            (service, vec![host().command(apart, 7, COMMAND)])
        },
        inside: &["smbexec low"],
        outside: &[],
    },
    Row {
        key: "service_to_process",
        what: "a service, then its program, which was dropped",
        records: |apart| {
            let service = host().service(0, "abcd", DROPPED);
            (vec![service], dropped(apart, 7))
        },
        inside: &["psexec high"],
        outside: &["psexec medium"],
    },
    Row {
        key: "service_to_process",
        what: "a changed service, then its command",
        records: |apart| {
            let service = host().service(0, "Fax", &format!("{CMD} /c {EVIL}"));
            let command = host().command(apart, 7, &format!("{CMD} /c {EVIL}"));
            (vec![service], vec![command])
        },
        inside: &["scshell medium"],
        outside: &[],
    },
    Row {
        key: "process_to_pipe",
        what: "a process start, then its pipe",
        records: |apart| {
            (
                dropped(0, 7),
                vec![host().pipe(apart, 7, DROPPED, r"\PSEXESVC")],
            )
        },
        inside: &["psexec high"],
        outside: &["psexec medium"],
    },
    Row {
        key: "service_restored",
        what: "a changed service, then its own program again",
        records: |apart| {
            let changed = vec![host().service(0, "Fax", EVIL), host().start(60, 7, EVIL)];
            let own = host().service(apart, "Fax", r"C:\Windows\system32\fxssvc.exe");
            (changed, vec![own])
        },
        inside: &["scshell high"],
        outside: &[],
    },
    Row {
        key: "service_created",
        what: "what shows that a service is new, then its command, which runs at once",
        records: |apart| {
            let value = |name, details| host().service_value(0, "abcd", name, details);
            let created = vec![
                value("Type", "DWORD (0x00000010)"),
                value("Start", "DWORD (0x00000003)"),
                value("ObjectName", "LocalSystem"),
            ];
            let run = vec![
                host().service(apart, "abcd", COMMAND),
                host().command(apart + 60, 7, COMMAND),
            ];
            (created, run)
        },
        // What was not created is a service that was changed.
        inside: &["smbexec low"],
        outside: &["scshell medium"],
    },
    Row {
        key: "service_deleted",
        what: "a command, then the deletion of its service",
        records: |apart| {
            let mut run = host().new_service(-60, "abcd", COMMAND);
            run.push(host().command(0, 7, COMMAND));
            let deleted = host().service_value(apart, "abcd", DELETED.0, DELETED.1);
            (run, vec![deleted])
        },
        inside: &["smbexec medium"],
        outside: &["smbexec low"],
    },
    Row {
        key: "shell",
        what: "a command of a wmiexec session, then another of the same",
        records: |apart| {
            let run = |ms, process| host().wmi(ms, process, CMD, SHELL, "0x1d313d");
            (vec![run(0, 7)], vec![run(apart, 8)])
        },
        // More than `suppress` apart, so that they are two incidents.
        inside: &["wmiexec high", "wmiexec critical"],
        outside: &["wmiexec high", "wmiexec high"],
    },
    Row {
        key: "shell",
        what: "two commands by smbexec, then a third",
        records: |apart| {
            let line = |n: u32| {
                format!(
                    r"cmd.exe /Q /c echo dir {n} ^> \\PC1\C$\__output > C:\{n}.bat & cmd.exe /Q /c C:\{n}.bat"
                )
            };
            let run = |ms: i64, n: u32| {
                let mut records = host().new_service(ms - 60, &format!("svc{n}"), &line(n));
                records.push(host().command(ms, 7 + n, &line(n)));
                records
            };
            let mut last = vec![host().connection(apart - 1_000, ATTACKER)];
            last.extend(run(apart, 3));
            ([run(0, 1), run(1_000, 2)].concat(), last)
        },
        inside: &["smbexec high repeat 1", "smbexec critical from 10.55.1.77"],
        outside: &["smbexec high repeat 1", "smbexec high from 10.55.1.77"],
    },
    Row {
        key: "dcom",
        what: "a connection to a console, then what the console starts",
        records: |apart| {
            let connection = host().dcom_connection(0, (50, MMC), ATTACKER);
            let start = host().dcom_start(apart, 7, 50, "cmd.exe /c whoami");
            (vec![connection], vec![start])
        },
        inside: &["dcomexec high from 10.55.1.77"],
        outside: &[],
    },
    Row {
        key: "grace",
        what: "an alert without a source, then any record of the host",
        records: |apart| (dropped(0, 7), vec![host().irrelevant(apart, 20)]),
        // Inside it is still held for an event 3 that names an allowed source.
        inside: &[],
        outside: &["psexec medium"],
    },
    Row {
        key: "grace",
        what: "an alert without a source, then the connection, logged in time and delivered late",
        records: |apart| {
            let mut last = vec![host().file(apart, SMB_SERVER, r"D:\Share\last.docx")];
            // Beyond the grace the alert is out, and nobody needs to wait for the connection any more.
            last.extend((apart < WINDOW).then(|| host().connection(1_500, "10.20.0.7")));
            (dropped(0, 7), last)
        },
        inside: &["psexec informational from 10.20.0.7"],
        outside: &["psexec medium"],
    },
    Row {
        key: "clock_tolerance",
        what: "a process start, then the file that was started",
        records: |apart| {
            let start = host().start(0, 7, DROPPED);
            (vec![start], vec![host().file(apart, SMB_SERVER, DROPPED)])
        },
        inside: &["psexec medium"],
        outside: &[],
    },
    Row {
        key: "suppress",
        what: "an execution, then another of the same program",
        records: |apart| (dropped(0, 7), dropped(apart, 8)),
        inside: &["psexec medium repeat 1"],
        outside: &["psexec medium", "psexec medium"],
    },
];

/// The policy with that one window of 20 minutes. Held alerts are for the rows about `grace` only: they need an entry that asks
/// for sources.
fn policy(key: &str) -> Policy {
    let allow = match key {
        "grace" => json!([{"source": ["10.20.0.0/16"], "reason": "deployment"}]),
        _ => json!([]),
    };
    let policy = json!({"windows": {key: "20m"}, "allow": allow});
    serde_json::from_str(&policy.to_string()).expect("a valid policy")
}

/// What a host logs besides. A document over SMB every 30 s moves its clock. After 10 minutes one piece of evidence of every kind
/// comes that belongs to nothing: each makes the filter look for evidence of its kind to forget.
fn background(from: i64, to: i64) -> Vec<String> {
    let document = |ms: i64| host().file(ms, SMB_SERVER, &format!(r"D:\Share\{ms}.docx"));
    let half = WINDOW / 2;
    let others = [
        host().start(half, 900, SVCHOST),
        host().service(
            half + 3_000,
            "disk",
            r"\SystemRoot\System32\drivers\disk.sys",
        ),
        host().service_value(half + 6_000, "disk", "Start", "DWORD (0x00000002)"),
        host().dcom_connection(half + 9_000, (901, MMC), "10.1.1.1"),
        host().process(
            half + 12_000,
            (902, r"C:\Windows\regedit.exe", "regedit.exe"),
            (903, MMC),
            (r"CORP\carol", "0x2222"),
        ),
        host().pipe(half + 15_000, 904, r"C:\a.exe", r"\paexec-of-nobody"),
    ];
    let (before, after): (Vec<i64>, Vec<i64>) = (from + 30_000..to)
        .step_by(30_000)
        .partition(|ms| *ms <= half);
    let documents = |times: Vec<i64>| times.into_iter().map(document);
    documents(before)
        .chain(others)
        .chain(documents(after))
        .collect()
}

/// The last alert of each incident as `chain severity`, with its source and the number of its repeats where there are any.
fn report(alerts: &[Value]) -> Vec<String> {
    let show = |alert: &Value| {
        let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
        let mut line = format!("{} {}", text(&alert["chain"]), text(&alert["severity"]));
        if let Some(ip) = alert["source"]["ip"].as_str() {
            line += &format!(" from {ip}");
        }
        if let Some(repeat) = alert["repeat"].as_u64().filter(|repeat| *repeat > 0) {
            line += &format!(" repeat {repeat}");
        }
        line
    };
    let mut last: Vec<(&Value, String)> = Vec::new();
    for alert in alerts {
        match last.iter_mut().find(|(id, _)| **id == alert["id"]) {
            Some((_, line)) => *line = show(alert),
            None => last.push((&alert["id"], show(alert))),
        }
    }
    last.into_iter().map(|(_, line)| line).collect()
}

/// What is reported of a row whose evidence is so far apart, in milliseconds.
fn played(row: &Row, apart: i64) -> Vec<String> {
    let mut filter = Filter::new(policy(row.key));
    let (first, last) = (row.records)(apart);
    let records = [first, background(0, apart - 2_000), last].concat();
    let alerts: Vec<Value> = records
        .iter()
        .filter_map(|record| pass(&mut filter, record))
        .collect();
    report(&alerts)
}

#[test]
fn evidence_counts_up_to_the_end_of_its_window_and_not_beyond() {
    let mut faults = Vec::new();
    for row in ROWS {
        for (apart, want) in [
            (WINDOW - MARGIN, row.inside),
            (WINDOW + MARGIN, row.outside),
        ] {
            let found = played(row, apart);
            if found != want {
                let seconds = apart / 1_000;
                faults.push(format!(
                    "{}: {}, {seconds} s apart: {found:?} instead of {want:?}",
                    row.key, row.what
                ));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// A key that is added to `[windows]` needs a row above.
#[test]
fn every_window_has_a_row() {
    let policy = serde_json::to_value(Policy::default()).expect("JSON");
    let windows = policy["windows"].as_object().expect("a section");
    let keys: BTreeSet<&str> = windows.keys().map(String::as_str).collect();
    assert_eq!(keys, ROWS.iter().map(|row| row.key).collect());
}

/// What a person starts on another host need not be read to its end just because an alert waits for a record somewhere: a silent
/// host must not make all others dear. The waiting host's own records are read, since any of them may carry the alert.
#[test]
fn an_alert_that_waits_does_not_make_other_hosts_records_be_read_in_full() {
    let mut filter = Filter::new(policy("grace"));
    for record in dropped(0, 7) {
        assert_eq!(pass(&mut filter, &record), None, "held");
    }
    assert_eq!(filter.counters().held, 1);
    let others: Vec<Host> = (0..50).map(|n| Host::new(&format!("OTHER{n}"))).collect();
    // Known to the filter or not makes no difference.
    for host in &others[..25] {
        pass(&mut filter, &host.file(0, SMB_SERVER, r"D:\Share\a.docx"));
    }
    let before = filter.counters().clone();
    for n in 0..20 {
        for (number, host) in (0..).zip(&others) {
            let start = host.irrelevant(1_000 * n, 100 * number + 50 + n as u32);
            assert_eq!(pass(&mut filter, &start), None);
        }
    }
    let after = filter.counters();
    assert_eq!(after.records - before.records, 20 * 50);
    assert_eq!(
        after.events - before.events,
        0,
        "irrelevant process starts on other hosts were read in full"
    );
    // Held until the grace has passed by its own clock: then its next record carries the alert, whatever that record is.
    let waiting = host();
    assert_eq!(
        pass(&mut filter, &waiting.irrelevant(WINDOW - MARGIN, 30)),
        None
    );
    let alert = pass(&mut filter, &waiting.irrelevant(WINDOW + MARGIN, 31));
    let alert = alert.expect("the alert that waited");
    assert_eq!(
        (&alert["chain"], &alert["host"]["name"]),
        (&json!("psexec"), &json!("PC1"))
    );
    // And nothing waits any more.
    let before = filter.counters().events;
    assert_eq!(
        pass(&mut filter, &waiting.irrelevant(WINDOW + 2 * MARGIN, 32)),
        None
    );
    assert_eq!(filter.counters().events, before);
}

/// An alert that is due, but whose record could not carry it, waits for the next record of its own host only.
#[test]
fn an_alert_that_no_record_could_carry_yet() {
    let mut filter = Filter::new(Policy::default());
    let taken =
        |record: String| record.replacen('{', r#"{"detection":1,"detection_psexec_filter":1,"#, 1);
    for record in dropped(0, 7) {
        assert_eq!(pass(&mut filter, &taken(record)), None);
    }
    assert_eq!(filter.counters().put_off, 1);
    let before = filter.counters().events;
    let other = Host::new("OTHER");
    for n in 0..20 {
        assert_eq!(pass(&mut filter, &other.irrelevant(n, 50 + n as u32)), None);
    }
    assert_eq!(filter.counters().events, before);
    assert!(pass(&mut filter, &host().irrelevant(50, 30)).is_some());
    let pipe = host().event(17, 60, data::pipe((7, DROPPED), r"\PSEXESVC"));
    assert!(pass(&mut filter, &pipe).is_some(), "a revision");
}
