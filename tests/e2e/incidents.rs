//! Incidents from start to end: local use, repeats, duplicates, several hosts, the allow-list.

use psexec_filter_tests::{Host, alerts, counter, engines, module, policy_engine};
use serde_json::{Value, json};

/// Severity and number of repeats of each alert.
fn severities(alerts: &[Value]) -> Vec<(&str, u64)> {
    alerts
        .iter()
        .map(|alert| {
            (
                alert["severity"].as_str().unwrap_or("?"),
                alert["repeat"].as_u64().unwrap_or(999),
            )
        })
        .collect()
}

/// PsExec used for SYSTEM on its own machine: the file is written by PsExec itself, and the connection is a loopback one.
#[test]
fn local_use_is_low_and_not_lateral() {
    for (engine, mut module) in engines(module()) {
        let host = Host::new("PC1");
        let mut records = host.psexec(0, 7, "127.0.0.1");
        records[0] = host.file(0, r"C:\tools\PsExec64.exe", r"C:\Windows\PSEXESVC.exe");
        let alerts = alerts(&mut *module, &records);
        assert_eq!(severities(&alerts), [("low", 0)], "{engine}");
        assert_eq!(
            (&alerts[0]["lateral"], &alerts[0]["source"]),
            (&json!(false), &Value::Null),
            "{engine}"
        );
    }
}

/// An installer writes its service and starts it while clients use file shares.
#[test]
fn an_installer_on_a_busy_server_is_low() {
    for (engine, mut module) in engines(module()) {
        let host = Host::new("SRV1");
        let program = r"C:\Program Files\Backup\agent.exe";
        let records = [
            host.connection(-5_000, "10.1.0.3"),
            host.file(0, r"C:\Windows\System32\msiexec.exe", program),
            host.service(500, "BackupAgent", &format!("\"{program}\" --service")),
            host.start(900, 7, program),
            host.connection(2_000, "10.1.0.4"),
        ];
        let alerts = alerts(&mut *module, &records);
        assert_eq!(severities(&alerts), [("low", 0)], "{engine}");
    }
}

/// A program that came over SMB and runs as a service is reported whatever its name and folder are, and however they are spelled.
#[test]
fn a_dropped_program_is_found_under_any_name_in_any_folder() {
    for (engine, mut module) in engines(module()) {
        for (number, (written, command, started)) in [
            (
                r"C:\Windows\xKjQrT.exe",
                r"%systemroot%\xKjQrT.exe",
                r"C:\WINDOWS\XKJQRT.EXE",
            ),
            (
                r"C:\Windows\Temp\svc.exe",
                r"\??\C:\Windows\Temp\svc.exe",
                r"\\?\C:\Windows\Temp\svc.exe",
            ),
            (
                r"C:\Shares\drop\a.exe",
                r"C:\Shares\drop\a.exe -k",
                r"C:\Shares\drop\a.exe",
            ),
            (
                r"\Device\HarddiskVolume3\Windows\b.exe",
                r"\\PC1\ADMIN$\b.exe",
                r"C:\Windows\b.exe",
            ),
            (
                r"C:\Windows\c.dat",
                r"C:\Windows\c.dat",
                r"C:\Windows\c.dat",
            ),
        ]
        .into_iter()
        .enumerate()
        {
            let host = Host::new(&format!("PC{number}"));
            let records = [
                host.file(0, "System", written),
                host.service(40, "xyz", command),
                host.start(80, 7, started),
                host.connection(1_500, "10.55.1.77"),
            ];
            let last = alerts(&mut *module, &records)
                .pop()
                .unwrap_or_else(|| panic!("{written}: no alert on {engine}"));
            let found = (
                &last["severity"],
                &last["service"]["name"],
                &last["process"]["executable"],
            );
            assert_eq!(
                found,
                (&json!("critical"), &json!("xyz"), &json!(started)),
                "{written} on {engine}"
            );
        }
    }
}

/// A script runs PsExec again and again: that is one incident, with a revision at 1, 10 and 100 repeats.
#[test]
fn repeats_are_counted_and_alerted_at_powers_of_ten() {
    for (engine, mut module) in engines(module()) {
        let host = Host::new("PC1");
        let records: Vec<String> = (0..150)
            .flat_map(|n| host.psexec(i64::from(n) * 20_000, 100 + n, "10.55.1.77"))
            .collect();
        let alerts = alerts(&mut *module, &records);
        let want = [
            ("high", 0),
            ("critical", 0),
            ("critical", 1),
            ("critical", 10),
            ("critical", 100),
        ];
        assert_eq!(severities(&alerts), want, "{engine}");
        assert!(
            alerts.iter().all(|alert| alert["id"] == alerts[0]["id"]),
            "{engine}"
        );
        assert!(counter(&mut *module, "suppressed") >= 100, "{engine}");
    }
}

/// After `windows.suppress` the same execution is a new incident.
#[test]
fn a_repeat_after_the_suppression_time_is_a_new_incident() {
    for (engine, mut module) in engines(module()) {
        let host = Host::new("PC1");
        let mut records = host.psexec(0, 7, "10.55.1.77");
        records.extend(host.psexec(302_000, 8, "10.55.1.77"));
        let alerts = alerts(&mut *module, &records);
        let first: Vec<&Value> = alerts
            .iter()
            .filter(|alert| alert["revision"] == 1)
            .collect();
        assert_eq!(first.len(), 2, "{engine}");
        assert_ne!(first[0]["id"], first[1]["id"], "{engine}");
        assert!(alerts.iter().all(|alert| alert["repeat"] == 0), "{engine}");
    }
}

/// Shippers deliver at least once: a record that comes twice is no repeat and leads to no new alert.
#[test]
fn records_delivered_twice_change_nothing() {
    for (engine, mut module) in engines(module()) {
        let records = Host::new("PC1").psexec(0, 7, "10.55.1.77");
        let once = alerts(&mut *module, &records);
        assert_eq!(
            once.last().map(|alert| &alert["severity"]),
            Some(&json!("critical")),
            "{engine}"
        );
        for _ in 0..3 {
            assert_eq!(
                alerts(&mut *module, &records),
                Vec::<Value>::new(),
                "{engine}"
            );
        }
        assert_eq!(counter(&mut *module, "evidence_duplicate"), 15, "{engine}");
    }
}

/// Records of different machines never join, in whatever order they come.
#[test]
fn records_of_different_hosts_do_not_join() {
    for (engine, mut module) in engines(module()) {
        let (one, two) = (Host::new("PC1"), Host::new("PC2"));
        let records = [
            one.file(0, "System", r"C:\Windows\PSEXESVC.exe"),
            one.connection(1_000, "10.55.1.77"),
            two.service(40, "PSEXESVC", r"%SystemRoot%\PSEXESVC.exe"),
            two.start(80, 7, r"C:\Windows\PSEXESVC.exe"),
        ];
        assert_eq!(
            alerts(&mut *module, &records),
            Vec::<Value>::new(),
            "{engine}"
        );
        // The short and the full name of a machine, in whatever case, are one host.
        let started = Host::new("pc1.corp.example").start(80, 7, r"C:\Windows\PSEXESVC.exe");
        assert_eq!(
            severities(&alerts(&mut *module, &[started])),
            [("high", 0)],
            "{engine}"
        );
    }
}

/// Ids are made from the records alone, so that another shard, a restart or a replay gives the same ones.
#[test]
fn ids_are_the_same_in_another_instance() {
    let both: Vec<Vec<Value>> = (0..2)
        .map(|_| {
            let mut found = Vec::new();
            for (_, mut module) in engines(module()) {
                let mut records = Host::new("PC1").psexec(0, 7, "10.55.1.77");
                records.extend(Host::new("PC2").psexec(0, 7, "10.55.1.77"));
                found.push(Value::from(alerts(&mut *module, &records)));
            }
            assert!(
                found.windows(2).all(|pair| pair[0] == pair[1]),
                "the engines differ"
            );
            found
        })
        .collect();
    assert_eq!(both[0], both[1]);
    let ids: std::collections::BTreeSet<&str> = both[0][0]
        .as_array()
        .expect("alerts")
        .iter()
        .filter_map(|alert| alert["id"].as_str())
        .collect();
    assert_eq!(ids.len(), 2, "one id a host");
}

#[test]
fn an_allowed_incident_is_alerted_as_informational() {
    const ALLOW: &str = r#"
        [[allow]]
        source = ["10.55.0.0/16", "fd00::/8"]
        host = ["pc1"]
        reason = "software deployment, ticket 4711"
    "#;
    let (engine, mut module) = policy_engine(ALLOW);
    let last = |alerts: Vec<Value>| {
        let last = alerts.last().cloned().unwrap_or_default();
        json!([last["severity"], last["status"], last["reason"]])
    };
    let allowed = json!([
        "informational",
        "allowed",
        "software deployment, ticket 4711"
    ]);
    let raised = json!(["critical", null, null]);
    for (host, ms, source, want) in [
        ("PC1", 0, "10.55.1.77", &allowed),
        ("PC2", 0, "10.55.1.77", &raised),
        ("PC1", 900_000, "10.56.1.77", &raised),
        ("PC1", 1_800_000, "fd00::77", &allowed),
    ] {
        let records = Host::new(host).psexec(ms, 7, source);
        assert_eq!(
            &last(alerts(&mut *module, &records)),
            want,
            "{host} from {source} on {engine}"
        );
    }
    // A candidate that is not allowed and fits better is enough, because it may be the source.
    let mut records = Host::new("PC1").psexec(2_700_000, 9, "10.55.1.77");
    records.push(Host::new("PC1").connection(2_701_590, "10.99.1.1"));
    assert_eq!(
        last(alerts(&mut *module, &records)),
        raised,
        "{engine}: one of two candidates"
    );
}
