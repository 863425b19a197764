//! Executions that are looked at again: what evidence that comes late changes, and what evidence that had to give way does not.

mod common;

use psexec_filter_fixtures::{DELETED, Host, PSEXESVC, SERVICES, SMB_SERVER, SVCHOST, SYSTEM};
use serde_json::Value;

const ATTACKER: &str = "10.55.1.77";
const SECOND: &str = "10.55.1.99";
const ADMIN: &str = "10.20.0.7";
const TOOL: &str = r"C:\Windows\a.exe";

/// All alerts, in their order.
fn alerts(policy: &str, records: &[String]) -> Vec<Value> {
    common::run(policy, records).1
}

/// Each alert as `chain severity source`.
fn lines(alerts: &[Value]) -> Vec<String> {
    let line = |alert: &Value| {
        let parts = [&alert["chain"], &alert["severity"], &alert["source"]["ip"]];
        parts.map(|part| part.as_str().unwrap_or("-")).join(" ")
    };
    alerts.iter().map(line).collect()
}

fn allow_admin() -> String {
    format!(r#"{{"allow":[{{"source":["{ADMIN}"],"reason":"helpdesk"}}]}}"#)
}

/// PsExec from the machine JUMP01, whose logon has that name.
fn psexec_of(host: &Host, ms: i64, from: &str) -> Vec<String> {
    let stdin = r"\PSEXESVC-JUMP01-4711-stdin";
    vec![
        host.logon(ms - 900, from, "0x11", "JUMP01"),
        host.file(ms, SMB_SERVER, PSEXESVC),
        host.service(ms + 40, "PSEXESVC", r"%%SystemRoot%%\PSEXESVC.exe"),
        host.start(ms + 80, 7, PSEXESVC),
        host.pipe(ms + 150, 7, PSEXESVC, stdin),
        host.connection(ms + 1_500, from),
    ]
}

/// Clients of a busy server: each logs on and connects.
fn clients(host: &Host, ms: i64, count: i64) -> Vec<String> {
    let client = |n: i64| {
        let address = format!("10.0.3.{n}");
        let session = format!("{:#x}", 0x900 + n);
        [
            host.logon(ms + n, &address, &session, "CLIENT")
                .replace(r#":"alice""#, r#":"carol""#),
            host.connection(ms + n, &address),
        ]
    };
    (1..=count).flat_map(client).collect()
}

#[test]
fn an_allowed_administrator_stays_allowed_when_the_proof_had_to_give_way() {
    let host = &Host::new("PC1");
    for records in [
        [psexec_of(host, 0, ADMIN), clients(host, 2_000, 60)].concat(),
        [clients(host, -9_000, 60), psexec_of(host, 0, ADMIN)].concat(),
        [
            clients(host, -9_000, 60),
            psexec_of(host, 0, ADMIN),
            clients(host, 2_000, 60),
        ]
        .concat(),
    ] {
        let all = alerts(&allow_admin(), &records);
        assert!(!all.is_empty());
        for alert in &all {
            assert_eq!(alert["severity"], "informational", "{alert:#}");
            assert_eq!(alert["source"]["ip"], ADMIN, "{alert:#}");
        }
    }
}

#[test]
fn a_rival_whose_logon_comes_late_revokes_what_was_allowed() {
    let host = &Host::new("PC1");
    let dropped = vec![
        host.logon(-900, ADMIN, "0x11", "JUMP01"),
        host.file(0, SMB_SERVER, TOOL),
        host.service(40, "abcd", TOOL),
        host.start(80, 7, TOOL),
        host.connection(1_580, ADMIN),
    ];
    let rival = host
        .logon(-500, ATTACKER, "0x22", "EVIL")
        .replace(r#":"alice""#, r#":"eve""#);
    let all = alerts(&allow_admin(), &[dropped, vec![rival]].concat());
    assert_eq!(
        all.first().map(|first| &first["status"]),
        Some(&"allowed".into())
    );
    let last = all.last().expect("an alert");
    assert_eq!(last["severity"], "critical", "{last:#}");
}

#[test]
fn a_second_attacker_is_named_when_better_evidence_of_it_comes_late() {
    let host = &Host::new("PC1");
    let run = |ms: i64, number, from: &str| {
        [
            host.connection(ms - 500, from),
            host.service(ms, "Fax", "cmd.exe /c whoami"),
            host.command(ms + 60, number, "cmd.exe /c whoami"),
        ]
    };
    let restored = host.service(5_000, "Fax", r"C:\Windows\system32\fxssvc.exe");
    let first = [&run(0, 7, ATTACKER)[..], &[restored]].concat();
    let [_, changed, command] = run(60_000, 8, "");
    let by_machine = host
        .logon(50_000, "10.0.0.9", "0x33", "PC9")
        .replace(r#":"alice""#, r#":"PC9$""#);
    let logon = host.logon(59_500, SECOND, "0x22", "EVIL");
    let second = vec![by_machine, changed, command, logon];
    let all = lines(&alerts("{}", &[first, second].concat()));
    assert!(all.iter().any(|line| line.ends_with(SECOND)), "{all:?}");
    assert!(all.iter().all(|line| !line.contains("low")), "{all:?}");
}

#[test]
fn a_start_or_a_pipe_recalls_a_file_among_documents() {
    let host = &Host::new("PC1");
    let program = r"C:\Windows\a.dat";
    let documents = (1..200).map(|n| host.file(n, SMB_SERVER, &format!(r"D:\Share\{n}.docx")));
    let file = host.event(
        29,
        0,
        serde_json::json!({"Image": "System", "TargetFilename": program}),
    );
    for anchor in [
        host.start(900, 7, program),
        host.pipe(900, 7, program, r"\abcd-stdin"),
    ] {
        let mut records = vec![file.clone()];
        records.extend(documents.clone());
        records.push(anchor);
        let all = alerts("{}", &records);
        let alert = all.first().expect("an alert");
        assert_eq!(alert["evidence"][0]["event"], 29, "{alert:#}");
        let path = alert["file"]["path"].as_str().unwrap_or_default();
        assert!(path.eq_ignore_ascii_case(program), "{alert:#}");
    }
}

#[test]
fn what_many_services_share_is_joined_by_its_whole_command() {
    let host = &Host::new("PC1");
    let line = r"C:\Windows\system32\svchost.exe -k UnistackSvcGroup";
    let other = r"C:\Windows\system32\svchost.exe -k netsvcs -p -s Schedule";
    let mut records = vec![
        host.connection(-5_000, "10.0.0.9"),
        host.file(-2_000, SMB_SERVER, r"C:\Windows\System32\drivers.txt"),
    ];
    records.extend(host.new_service(0, "CDPUserSvc_1a2b3", line));
    for (number, line) in [(7, line), (8, other)] {
        records.push(host.process(200, (number, SVCHOST, line), (1, SERVICES), SYSTEM));
    }
    let all = lines(&alerts("{}", &records));
    let is_quiet = |line: &String| line.contains("low") || line.contains("informational");
    assert!(all.iter().all(is_quiet), "{all:?}");
}

#[test]
fn a_command_names_its_file_with_either_slash() {
    let host = &Host::new("PC1");
    for command in [
        r"cmd.exe /c start /b C:\Windows\a.exe",
        "cmd.exe /c start /b C:/Windows/a.exe",
        "cmd.exe /c cd \\ & C:/Windows/a.exe -x",
        r#"cmd.exe /c start "" "C:/Windows/a.exe""#,
        "powershell.exe -c C:/Windows/a.exe",
    ] {
        let mut records = vec![host.file(0, SMB_SERVER, TOOL)];
        records.extend(host.new_service(40, "abcd", command));
        records.push(host.command(100, 7, command));
        records.push(host.connection(1_580, ATTACKER));
        let all = lines(&alerts("{}", &records));
        let last = all.last().expect(command);
        assert_eq!(last, &format!("psexec critical {ATTACKER}"), "{command}");
    }
}

/// A command as a new service's, that ran and was deleted.
fn by_service(host: &Host, ms: i64, number: u32, name: &str, command: &str) -> Vec<String> {
    let mut records = host.new_service(ms, name, command);
    records.push(host.command(ms + 60, number, command));
    records.push(host.service_value(ms + 300, name, DELETED.0, DELETED.1));
    records
}

#[test]
fn a_tools_command_is_not_hidden_behind_an_installers() {
    let host = &Host::new("PC1");
    let installer = r"powershell.exe -ExecutionPolicy Bypass -File C:\Setup\a.ps1";
    let tool = "cmd.exe /b /c start /b /min powershell.exe -nop -w hidden -e SQBFAFgA";
    let mut records = vec![host.connection(-1_000, ATTACKER)];
    records.extend(by_service(host, 0, 7, "setup", installer));
    records.extend(by_service(host, 60_000, 8, "qwertz", tool));
    let all = alerts("{}", &records);
    let of_tool = all
        .iter()
        .filter(|alert| alert["process"]["command_line"] == tool)
        .collect::<Vec<_>>();
    assert!(!of_tool.is_empty(), "{all:#?}");
    for alert in of_tool {
        assert_eq!(alert["service"]["name"], "qwertz", "{alert:#}");
        assert!(!alert.to_string().contains("setup was set"), "{alert:#}");
    }
}

#[test]
fn a_decoy_does_not_hide_that_a_service_was_restored() {
    let host = &Host::new("PC1");
    let own = r"C:\Windows\system32\fxssvc.exe";
    let records = [
        host.connection(-500, ATTACKER),
        host.service(-200, "Fax", r"C:\Windows\system32\decoy.exe"),
        host.service(0, "Fax", "cmd.exe /c whoami"),
        host.command(60, 7, "cmd.exe /c whoami"),
        host.service(5_000, "Fax", own),
    ];
    let all = lines(&alerts("{}", &records));
    assert_eq!(all.last(), Some(&format!("scshell critical {ATTACKER}")));
}

/// A client's connection is no reason to tell of an administrator whom a pipe is about to identify.
#[test]
fn an_administrator_is_not_told_of_before_the_pipe_that_names_him() {
    let host = &Host::new("PC1");
    let records = [clients(host, -9_000, 3), psexec_of(host, 0, ADMIN)].concat();
    let all = alerts(&allow_admin(), &records);
    assert!(!all.is_empty());
    for alert in &all {
        assert_eq!(alert["severity"], "informational", "{alert:#}");
    }
    // An attacker is told of all the same, once the time for that has passed.
    let other = [clients(host, -9_000, 3), psexec_of(host, 0, ATTACKER)].concat();
    let all = lines(&alerts(&allow_admin(), &other));
    assert_eq!(all.last(), Some(&format!("psexec critical {ATTACKER}")));
}
