//! Logon sessions (Security events 4624, 4634 and 4672): who a process in a session is of, and who may have done what was done.

mod common;

use psexec_filter_fixtures::{CMD, Host, SMB_SERVER};
use serde_json::Value;

const ATTACKER: &str = "10.55.1.77";
const ADMIN: &str = "10.20.0.7";
const SESSION: &str = "0x4444";
const HOUR: i64 = 3_600_000;

/// The alerts, and how much evidence had to give way.
fn run(policy: &str, records: &[String]) -> (Vec<Value>, u64) {
    let (filter, alerts) = common::run(policy, records);
    (alerts, filter.counters().evicted_evidence)
}

/// Alice, or somebody else, logs on.
fn logon(host: &Host, ms: i64, from: &str, session: &str, user: &str) -> String {
    let record = host.logon(ms, from, session, "CLIENT7");
    record.replace(r#":"alice""#, &format!(r#":"{user}""#))
}

/// WMI starts a command in a session.
fn command(host: &Host, ms: i64) -> String {
    host.wmi(ms, 7, CMD, "cmd.exe /c whoami", SESSION)
}

#[test]
fn a_process_in_a_session_from_elsewhere_is_remote_however_old_the_session_is() {
    let host = &Host::new("PC1");
    let other = |n: i64| format!("{:#x}", 0x9000 + n);
    let others = |count: i64, end: bool| -> Vec<String> {
        let one = |n: i64| {
            let mut records = vec![logon(host, 1_000 + n, "10.0.0.9", &other(n), "bob")];
            records.extend(end.then(|| host.logoff(1_500 + n, &other(n))));
            records
        };
        (0..count).flat_map(one).collect()
    };
    let own = || logon(host, 0, ATTACKER, SESSION, "alice");
    // (what, records, whether it is told)
    let rows: Vec<(&str, Vec<String>, bool)> = vec![
        (
            "a logon just before",
            vec![logon(host, HOUR - 500, ATTACKER, SESSION, "alice")],
            true,
        ),
        ("a logon an hour before", vec![own()], true),
        (
            "a logon of another session",
            vec![logon(host, 0, ATTACKER, "0x4445", "alice")],
            false,
        ),
        (
            "a session that had ended",
            vec![own(), host.logoff(60_000, SESSION)],
            false,
        ),
        (
            "another session ended",
            vec![own(), host.logoff(60_000, "0x4445")],
            true,
        ),
        (
            "it ends after the start",
            vec![own(), host.logoff(HOUR + 500, SESSION)],
            true,
        ),
        (
            "200 sessions that ended",
            [vec![own()], others(200, true)].concat(),
            true,
        ),
        (
            "31 sessions of others",
            [vec![own()], others(31, false)].concat(),
            true,
        ),
        (
            "32 sessions of others",
            [vec![own()], others(32, false)].concat(),
            false,
        ),
        (
            "200 sessions of others, and its own is an administrator's",
            [vec![own(), host.privileges(1, SESSION)], others(200, false)].concat(),
            true,
        ),
        (
            "the same id again",
            vec![own(), logon(host, HOUR - 900, ADMIN, SESSION, "alice")],
            true,
        ),
    ];
    for (what, mut records, is_told) in rows {
        records.push(command(host, HOUR));
        let (alerts, evicted) = run("{}", &records);
        assert_eq!(alerts.len(), usize::from(is_told), "{what}: {alerts:?}");
        assert_eq!(
            evicted > 0,
            what.starts_with("200") || what.starts_with("32"),
            "{what}"
        );
        let Some(alert) = alerts.last() else {
            continue;
        };
        assert_eq!(alert["chain"], "wmiexec", "{what}");
        assert_eq!(alert["severity"], "high", "{what}");
        let from = if what == "the same id again" {
            ADMIN
        } else {
            ATTACKER
        };
        assert_eq!(alert["source"]["ip"], from, "{what}");
        assert_eq!(alert["user"]["name"], "alice", "{what}");
        let first = alert["first_seen"].as_str();
        assert_eq!(
            first,
            Some("2024-09-14T10:00:00.000Z"),
            "{what}: the logon is no part of it"
        );
    }
}

/// A program that comes over SMB and is started as a service.
fn dropped(host: &Host) -> Vec<String> {
    const TOOL: &str = r"C:\Windows\a.exe";
    vec![
        host.file(0, SMB_SERVER, TOOL),
        host.service(40, "abcd", TOOL),
        host.start(80, 7, TOOL),
    ]
}

#[test]
fn who_has_the_rights_comes_before_who_has_not() {
    let host = &Host::new("PC1");
    let alice = || logon(host, -900, ATTACKER, "0x11", "alice");
    let bob = || logon(host, -300, ADMIN, "0x22", "bob");
    // (what, records before, source, user)
    type Row = (
        &'static str,
        Vec<String>,
        &'static str,
        Option<&'static str>,
    );
    let rows: Vec<Row> = vec![
        (
            "nobody's rights are logged: the nearest",
            vec![alice(), bob()],
            ADMIN,
            None,
        ),
        (
            "one has the rights",
            vec![alice(), host.privileges(-899, "0x11"), bob()],
            ATTACKER,
            Some("alice"),
        ),
        (
            "the rights are logged before the logon",
            vec![host.privileges(-901, "0x11"), alice(), bob()],
            ATTACKER,
            Some("alice"),
        ),
        (
            "both have the rights: the nearest",
            vec![
                alice(),
                host.privileges(-899, "0x11"),
                bob(),
                host.privileges(-299, "0x22"),
            ],
            ADMIN,
            None,
        ),
        (
            "the rights of a session that is not here",
            vec![alice(), host.privileges(-899, "0x33"), bob()],
            ADMIN,
            None,
        ),
    ];
    for (what, mut records, source, user) in rows {
        records.extend(dropped(host));
        let (alerts, _) = run("{}", &records);
        let alert = alerts.last().expect(what);
        assert_eq!(alert["source"]["ip"], source, "{what}");
        // Without a certain person the account is the service's.
        let by_person = alert["user"]["name"].as_str();
        if let Some(user) = user {
            assert_eq!(by_person, Some(user), "{what}");
        }
    }
}

#[test]
fn an_administrator_on_a_busy_server_is_allowed_and_not_in_place_of_another() {
    let host = &Host::new("PC1");
    let policy = format!(r#"{{"allow":[{{"source":["{ADMIN}"],"reason":"helpdesk"}}]}}"#);
    let admin = || {
        [
            logon(host, -900, ADMIN, "0x11", "alice"),
            host.privileges(-899, "0x11"),
            host.connection(1_580, ADMIN),
        ]
    };
    let client = |n: i64| {
        logon(
            host,
            -800 + n,
            "10.0.0.9",
            &format!("{:#x}", 0x50 + n),
            "bob",
        )
    };
    let clients = |count| (0..count).map(client).collect::<Vec<_>>();
    // (what, records, whether it is allowed)
    let rows: Vec<(&str, Vec<String>, bool)> = vec![
        ("alone", vec![], true),
        ("among thirty clients", clients(30), true),
        (
            "beside another administrator",
            [clients(1), vec![host.privileges(-800, "0x50")]].concat(),
            false,
        ),
        (
            "beside another administrator, long before",
            vec![
                logon(host, -60_000, ATTACKER, "0x22", "eve"),
                host.privileges(-59_999, "0x22"),
            ],
            true,
        ),
    ];
    for (what, others, is_allowed) in rows {
        let [on, rights, connection] = admin();
        let records = [vec![on, rights], others, dropped(host), vec![connection]].concat();
        let (alerts, _) = run(&policy, &records);
        let is_told = alerts.iter().any(|alert| alert["status"] != "allowed");
        assert_eq!(!is_told, is_allowed, "{what}: {alerts:#?}");
    }
}
