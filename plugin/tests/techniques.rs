//! Every row of every technique's severity table, as a few records through the native filter: a change to a technique is proved in
//! seconds.

mod common;

use common::pass;
use psexec_filter_fixtures::{CMD, DELETED, Host, PSEXESVC, SERVICES, SMB_SERVER, SYSTEM};
use psexec_filter_plugin::chain::TABLES;
use psexec_filter_plugin::filter::Filter;
use psexec_filter_plugin::policy::Policy;
use serde_json::{Value, json};

const ATTACKER: &str = "10.55.1.77";
const TOOL: &str = r"C:\Windows\a.exe";
/// A command that remote execution tools give a service.
const SERVICE_TOOL: &str = "cmd.exe /c start powershell x";
/// A command that remote execution tools give WMI and DCOM.
const COM_TOOL: &str = r"cmd.exe /Q /c cd \ 1> \\127.0.0.1\ADMIN$\__1726304400.1 2>&1";
const PLAIN: &str = "cmd.exe /c whoami";
const GETSYSTEM: &str = r"cmd.exe /c echo abcdef > \\.\pipe\abcdef";
/// A program that is no interpreter and lies where users cannot write.
const NOTEPAD: &str = r"C:\Windows\notepad.exe";
/// A program that every Windows has, as a service's command.
const NET: &str = "net.exe user eve x /add";
const NET_PROGRAM: &str = r"C:\Windows\System32\net.exe";
const OWN: &str = r"C:\Windows\system32\fxssvc.exe";
const SESSION: &str = "0x4444";

/// A row, by the rule's id and the row's text, and records that make it.
type Case = (&'static str, &'static str, Vec<String>);

fn cases() -> Vec<Case> {
    let host = Host::new("PC1");
    let file = || host.file(0, SMB_SERVER, TOOL);
    let local_file = || host.file(0, r"C:\Users\a\setup.exe", TOOL);
    let file_of_nobody = || host.event(11, 0, json!({"TargetFilename": TOOL}));
    let start = || host.start(80, 7, TOOL);
    let connection = || host.connection(1_500, ATTACKER);
    let rpc = || host.inbound(1_500, (ATTACKER, 50_300), ("10.0.0.21", 135));
    let new_service = |command: &str| host.new_service(0, "abcdef", command);
    let command = |line: &str| host.command(60, 7, line);
    let deleted = || host.service_value(300, "abcdef", DELETED.0, DELETED.1);
    let wmi = |ms, number, line: &str| host.wmi(ms, number, CMD, line, SESSION);
    let program = || host.wmi(0, 7, r"C:\Program Files\x\y.exe", "y.exe", SESSION);
    let changed = |command: &str| host.service(0, "Fax", command);
    let restored = || host.service(5_000, "Fax", OWN);
    let all = |parts: Vec<Vec<String>>| parts.concat();

    let psexec = "psexec-filter-psexec";
    let smbexec = "psexec-filter-smbexec";
    let wmiexec = "psexec-filter-wmiexec";
    let dcomexec = "psexec-filter-dcomexec";
    let scshell = "psexec-filter-scshell";
    vec![
        (
            psexec,
            "connection + file over SMB + (service or pipe)",
            host.psexec(0, 7, ATTACKER),
        ),
        (
            psexec,
            "from the machine itself",
            vec![
                host.self_connection(-700, r"C:\Tools\PsExec.exe"),
                file(),
                start(),
            ],
        ),
        (
            psexec,
            "file over SMB + (connection or service or pipe)",
            vec![file(), start(), connection()],
        ),
        (psexec, "file over SMB", vec![file(), start()]),
        (
            psexec,
            "connection + file of an unknown writer + (service or pipe)",
            vec![
                file_of_nobody(),
                host.service(40, "s", TOOL),
                start(),
                connection(),
            ],
        ),
        (psexec, "file", vec![local_file(), start()]),
        (
            psexec,
            "connection + pipe + started by services.exe",
            vec![
                host.start(80, 7, PSEXESVC),
                host.pipe(90, 7, PSEXESVC, r"\PSEXESVC"),
                connection(),
            ],
        ),
        (
            psexec,
            "connection + new service + started by services.exe, no interpreter, no program of Windows",
            all(vec![
                vec![host.file(0, SMB_SERVER, r"C:\Windows\a.txt")],
                new_service(TOOL),
                vec![start(), connection()],
            ]),
        ),
        (
            "psexec-filter-distinct-codes",
            "connection + file + process",
            vec![local_file(), host.start(80, 7, NOTEPAD), connection()],
        ),
        (
            smbexec,
            "local getsystem",
            all(vec![new_service(GETSYSTEM), vec![command(GETSYSTEM)]]),
        ),
        (
            smbexec,
            "connection + service + tool command + (deleted or repeated)",
            all(vec![
                new_service(SERVICE_TOOL),
                vec![command(SERVICE_TOOL), deleted(), connection()],
            ]),
        ),
        (
            smbexec,
            "service + (connection or tool command)",
            all(vec![new_service(PLAIN), vec![command(PLAIN), connection()]]),
        ),
        (
            smbexec,
            "service + deleted",
            all(vec![new_service(PLAIN), vec![command(PLAIN), deleted()]]),
        ),
        (
            smbexec,
            "service",
            all(vec![new_service(PLAIN), vec![command(PLAIN)]]),
        ),
        (
            smbexec,
            "tool command + started by services.exe",
            vec![command(SERVICE_TOOL)],
        ),
        (
            wmiexec,
            "repeated + tool command",
            vec![wmi(0, 7, COM_TOOL), wmi(9_000, 8, COM_TOOL)],
        ),
        (wmiexec, "tool command", vec![wmi(0, 7, COM_TOOL)]),
        (
            wmiexec,
            "RPC connection + person's session + suspicious program",
            vec![wmi(0, 7, PLAIN), rpc()],
        ),
        (
            wmiexec,
            "RPC connection + person's session",
            vec![program(), rpc()],
        ),
        (
            dcomexec,
            "connection + tool command",
            host.dcomexec(0, 7, 3, COM_TOOL, ATTACKER),
        ),
        (
            dcomexec,
            "connection",
            host.dcomexec(0, 7, 3, PLAIN, ATTACKER),
        ),
        (
            dcomexec,
            "tool command",
            vec![host.dcom_start(0, 7, 3, COM_TOOL)],
        ),
        (
            scshell,
            "restored + local getsystem",
            vec![changed(GETSYSTEM), restored()],
        ),
        (
            scshell,
            "process + suspicious program + local getsystem, no file just written",
            vec![changed(GETSYSTEM), command(GETSYSTEM)],
        ),
        (
            scshell,
            "connection + process + restored + suspicious program",
            vec![changed(PLAIN), command(PLAIN), connection(), restored()],
        ),
        (
            scshell,
            "process + restored",
            vec![changed(NOTEPAD), host.start(60, 7, NOTEPAD), restored()],
        ),
        (
            scshell,
            "restored + suspicious program",
            vec![changed(PLAIN), restored()],
        ),
        (scshell, "restored", vec![changed(NOTEPAD), restored()]),
        (
            scshell,
            "connection + process + suspicious program, no file just written",
            vec![changed(PLAIN), command(PLAIN), connection()],
        ),
        (
            scshell,
            "process + suspicious program, no file just written",
            vec![changed(PLAIN), command(PLAIN)],
        ),
        (
            scshell,
            "connection + process + system program",
            vec![
                changed(NET),
                host.process(60, (7, NET_PROGRAM, NET), (1, SERVICES), SYSTEM),
                connection(),
            ],
        ),
    ]
}

/// The last alert of a rule.
fn last_alert(rule: &str, records: &[String]) -> Option<Value> {
    let mut policy = Policy::default();
    if rule == "psexec-filter-distinct-codes" {
        policy =
            serde_json::from_str(r#"{"psexec":{"match":"distinct-codes"}}"#).expect("a policy");
    }
    let mut filter = Filter::new(policy);
    let added: Vec<Value> = records
        .iter()
        .filter_map(|record| pass(&mut filter, record))
        .collect();
    let waiting = std::iter::from_fn(|| filter.flush());
    let waiting: Vec<Value> = waiting
        .map(|alert| serde_json::from_str(&alert).expect("JSON"))
        .collect();
    let mut alerts = added.into_iter().chain(waiting);
    let mut last = None;
    while let Some(alert) = alerts.find(|alert| alert["rule"]["id"] == rule) {
        last = Some(alert);
    }
    last
}

#[test]
fn every_row_of_every_table_makes_its_level() {
    let cases = cases();
    for table in TABLES {
        for row in table.severity {
            let (rule, text) = (table.rule.id, table.describe(row));
            let case = cases.iter().find(|case| (case.0, case.1) == (rule, &*text));
            let (_, _, records) = case.unwrap_or_else(|| panic!("{rule}: no case for `{text}`"));
            let alert = last_alert(rule, records);
            let alert = alert.unwrap_or_else(|| panic!("{rule}: no alert for `{text}`"));
            assert_eq!(alert["severity"], row.level.name(), "{rule}: {text}");
        }
    }
    let rows: usize = TABLES.iter().map(|table| table.severity.len()).sum();
    assert_eq!(cases.len(), rows, "a case is for no row");
}

/// Whatever the order in which the records of an execution arrive, the last alert has the same severity. Only what makes less of it must
/// come first, because an alert is not taken back.
#[test]
fn the_order_of_arrival_does_not_matter() {
    for (rule, text, records) in cases() {
        if text == "from the machine itself" {
            continue;
        }
        let want = last_alert(rule, &records).map(|alert| alert["severity"].clone());
        let mut backwards = records.clone();
        backwards.reverse();
        let mut rotated = records;
        rotated.rotate_left(1);
        for order in [backwards, rotated] {
            let found = last_alert(rule, &order).map(|alert| alert["severity"].clone());
            assert_eq!(found, want, "{rule}: {text}");
        }
    }
}
