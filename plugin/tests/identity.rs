//! Who it was, on which host, and what was done to a service: a table for each question, through the native filter.

mod common;

use common::{incidents, pass};
use psexec_filter_fixtures::{DELETED, Host, SERVICES, SMB_SERVER, SYSTEM};
use psexec_filter_plugin::filter::Filter;
use serde_json::{Value, json};

const TOOL: &str = r"C:\Windows\a.exe";
const ATTACKER: &str = "10.55.1.77";
const ADMIN: &str = "10.20.0.7";
const CLIENT: &str = "10.0.0.9";

/// As `chain severity`, in the order of the chains.
fn levels(incidents: &[Value]) -> Vec<String> {
    let mut levels: Vec<String> = incidents
        .iter()
        .map(|alert| {
            [&alert["chain"], &alert["severity"]]
                .map(|text| text.as_str().unwrap_or("?"))
                .join(" ")
        })
        .collect();
    levels.sort();
    levels
}

/// A program that comes over SMB and is started as a new service, without a connection.
fn dropped(host: &Host, ms: i64, number: u32) -> Vec<String> {
    let mut records = vec![host.file(ms, SMB_SERVER, TOOL)];
    records.extend(host.new_service(ms + 40, "abcd", TOOL));
    records.push(host.start(ms + 80, number, TOOL));
    records
}

#[test]
fn the_source_is_the_best_evidence_of_it() {
    let host = Host::new("PC1");
    let logon = |ms, address, user: &str| {
        let record = host.logon(ms, address, "0x99", "EVIL");
        record.replace("alice", user)
    };
    let key = |ms, machine: &str| {
        host.file(
            ms,
            SMB_SERVER,
            &format!(r"C:\Windows\PSEXEC-{machine}-1A2B3C4D.key"),
        )
    };
    let rows: [(&str, Vec<String>, Option<&str>); 9] = [
        ("nothing", vec![], None),
        (
            "the only connection",
            vec![host.connection(1_500, ATTACKER)],
            Some(ATTACKER),
        ),
        (
            "the connection that fits best",
            vec![
                host.connection(-9_000, CLIENT),
                host.connection(1_580, ATTACKER),
            ],
            Some(ATTACKER),
        ),
        (
            "a person's logon just before, though another machine connected",
            vec![
                logon(-500, ATTACKER, "bob"),
                host.connection(-20_000, CLIENT),
            ],
            Some(ATTACKER),
        ),
        (
            "a machine's logon is nobody's",
            vec![
                logon(-500, CLIENT, "PC9$"),
                host.connection(1_580, ATTACKER),
            ],
            Some(ATTACKER),
        ),
        (
            "an anonymous logon is nobody's",
            vec![
                logon(-100, CLIENT, "ANONYMOUS LOGON"),
                host.connection(1_580, ATTACKER),
            ],
            Some(ATTACKER),
        ),
        (
            "a key file of this run names the logon",
            vec![
                logon(-60_000, ATTACKER, "bob"),
                key(10, "EVIL"),
                host.connection(1_580, CLIENT),
            ],
            Some(ATTACKER),
        ),
        (
            "a key file of another run names nobody",
            vec![
                logon(-60_000, CLIENT, "bob"),
                key(-30_000, "EVIL"),
                host.connection(1_580, ATTACKER),
            ],
            Some(ATTACKER),
        ),
        (
            "the port of the other machine decides nothing",
            vec![host.inbound(1_580, (ATTACKER, 445), (Host::ADDRESS, 135))],
            Some(ATTACKER),
        ),
    ];
    for (what, before, source) in rows {
        let (late, mut records): (Vec<String>, Vec<String>) = before
            .into_iter()
            .partition(|record| record.contains("09:00:01"));
        records.extend(dropped(&host, 0, 7));
        records.extend(late);
        let found = incidents("{}", &records);
        assert_eq!(found.len(), 1, "{what}: {found:#?}");
        assert_eq!(found[0]["source"]["ip"].as_str(), source, "{what}");
    }
}

#[test]
fn an_entry_with_sources_needs_proof_and_not_presence() {
    let policy = json!({"allow": [{"source": [ADMIN], "reason": "jump host"}]}).to_string();
    let host = Host::new("PC1");
    let rows: [(&str, Vec<String>, bool); 6] = [
        (
            "its connection fits best",
            vec![host.connection(1_580, ADMIN)],
            true,
        ),
        (
            "thirty clients were there before",
            (0..30)
                .map(|n| host.connection(-90_000 + n * 2_000, &format!("10.0.4.{n}")))
                .chain([host.connection(1_580, ADMIN)])
                .collect(),
            true,
        ),
        (
            "it polled half a minute before",
            vec![host.connection(-30_000, ADMIN)],
            false,
        ),
        (
            "another connection fits better",
            vec![
                host.connection(-2_000, ADMIN),
                host.connection(1_580, ATTACKER),
            ],
            false,
        ),
        (
            "somebody else logged on just before",
            vec![
                host.logon(-300, ATTACKER, "0x99", "EVIL"),
                host.connection(1_580, ADMIN),
            ],
            false,
        ),
        ("nothing is known", vec![], false),
    ];
    for (what, others, is_allowed) in rows {
        let (late, mut records): (Vec<String>, Vec<String>) = others
            .into_iter()
            .partition(|record| record.contains("09:00:01"));
        records.extend(dropped(&host, 0, 7));
        records.extend(late);
        let found = incidents(&policy, &records);
        let allowed: Vec<bool> = found
            .iter()
            .map(|alert| alert["status"] == "allowed")
            .collect();
        assert_eq!(allowed, [is_allowed], "{what}");
    }
}

/// What it is, what is written with the command, what follows, and the incidents.
type Row<'r> = (&'r str, Vec<&'r String>, Option<&'r String>, &'r [&'r str]);

#[test]
fn a_service_is_new_or_changed_by_what_was_written_and_what_follows() {
    let host = Host::new("PC1");
    const COMMAND: &str = "cmd.exe /c net user eve x /add";
    let value = |name, details| host.service_value(0, "Fax", name, details);
    let (kind, start, account) = (
        value("Type", "DWORD (0x00000010)"),
        value("Start", "DWORD (0x00000003)"),
        value("ObjectName", "LocalSystem"),
    );
    let deleted = host.service_value(700, "Fax", DELETED.0, DELETED.1);
    let restored = host.service(5_000, "Fax", r"C:\Windows\system32\fxssvc.exe");
    let rows: [Row<'_>; 8] = [
        (
            "all three values",
            vec![&kind, &start, &account],
            None,
            &["smbexec low"],
        ),
        ("nothing but the command", vec![], None, &["scshell medium"]),
        (
            "nothing, then restored",
            vec![],
            Some(&restored),
            &["scshell high"],
        ),
        (
            "Start, then restored",
            vec![&start],
            Some(&restored),
            &["scshell high"],
        ),
        (
            "ObjectName, then restored",
            vec![&account],
            Some(&restored),
            &["scshell high"],
        ),
        (
            "Start, then deleted",
            vec![&start],
            Some(&deleted),
            &["smbexec medium"],
        ),
        (
            "Start, and nothing follows",
            vec![&start],
            None,
            &["smbexec low"],
        ),
        (
            "all three, then another program",
            vec![&kind, &start, &account],
            Some(&restored),
            &["smbexec low"],
        ),
    ];
    for (what, marks, after, expected) in rows {
        let mut records: Vec<String> = marks.into_iter().cloned().collect();
        records.push(host.service(1, "Fax", COMMAND));
        records.push(host.command(60, 7, COMMAND));
        records.extend(after.cloned());
        assert_eq!(levels(&incidents("{}", &records)), expected, "{what}");
    }
}

#[test]
fn an_update_of_a_service_is_no_restoration() {
    let host = Host::new("PC1");
    let agent = |version: &str| format!(r"C:\Program Files\Acme\{version}\agent.exe");
    let update = |ms: i64, number, version: &str| {
        let program = agent(version);
        [
            host.service(ms, "Acme", &program),
            host.start(ms + 500, number, &program),
        ]
    };
    let two = [update(0, 7, "4.1"), update(180_000, 8, "4.2")].concat();
    let rollback = [
        update(0, 7, "4.1"),
        update(60_000, 8, "4.2"),
        update(120_000, 9, "4.1"),
    ]
    .concat();
    for (what, records) in [("two updates", two), ("a rollback", rollback)] {
        assert_eq!(levels(&incidents("{}", &records)), [""; 0], "{what}");
    }
}

#[test]
fn a_host_is_its_whole_name() {
    let id = |records: &[String]| {
        let found = incidents("{}", records);
        assert_eq!(levels(&found), ["psexec high"]);
        (found[0]["id"].clone(), found[0]["host"]["name"].clone())
    };
    let (short, whole) = (Host::new("DC01"), Host::new("dc01.alpha.example"));
    let (of_short, of_whole) = (dropped(&short, 0, 7), dropped(&whole, 0, 7));
    assert_eq!(id(&of_short).0, id(&of_whole).0);
    // One machine under both names, in both orders.
    for at in 1..of_short.len() {
        for (first, second) in [(&of_short, &of_whole), (&of_whole, &of_short)] {
            let mixed = [&first[..at], &second[at..]].concat();
            assert_eq!(
                id(&mixed),
                (id(&of_whole).0, json!("dc01.alpha.example")),
                "{at}"
            );
        }
    }
    // Two machines of one short name: what belongs to one is never joined to the other's.
    let other = dropped(&Host::new("DC01.beta.example"), 0, 7);
    for at in 1..of_whole.len() {
        let torn = [&of_whole[..at], &other[at..]].concat();
        let apart = [&of_whole[..at], &other[at..]].map(|part| levels(&incidents("{}", part)));
        assert_eq!(levels(&incidents("{}", &torn)), apart.concat(), "{at}");
    }
}

/// A file server on which hundreds of documents are written between the copy of a program and its start.
#[test]
fn documents_do_not_push_out_a_program() {
    let host = Host::new("PC1");
    for program in [r"C:\Windows\a.exe", r"C:\Windows\a.dat", r"C:\Windows\a"] {
        for extension in ["docx", "exe", "dat", "tmp"] {
            let mut records = vec![host.file(0, SMB_SERVER, program)];
            let document = |n: i64| host.file(n, SMB_SERVER, &format!(r"D:\Share\{n}.{extension}"));
            records.extend((1..=200).map(document));
            records.extend(host.new_service(1_000, "abcd", program));
            records.push(host.start(1_100, 7, program));
            let found = levels(&incidents("{}", &records));
            assert_eq!(found, ["psexec high"], "{program} and {extension}");
        }
    }
}

#[test]
fn every_source_of_an_incident_is_alerted() {
    let host = Host::new("PC1");
    let mut filter = Filter::new(Default::default());
    let mut sources = Vec::new();
    for (n, address) in (0..).zip([ADMIN, ADMIN, ATTACKER, ADMIN, ATTACKER]) {
        let mut records = dropped(&host, n * 20_000, 7 + n as u32);
        records.push(host.connection(n * 20_000 + 1_500, address));
        for alert in records
            .iter()
            .filter_map(|record| pass(&mut filter, record))
        {
            assert_eq!(
                alert["severity"] == "critical",
                alert["source"]["ip"].is_string()
            );
            sources.extend(alert["source"]["ip"].as_str().map(str::to_owned));
        }
    }
    sources.dedup();
    assert_eq!(sources[..2], [ADMIN, ATTACKER]);
}

/// Twenty runs from one machine are one incident with few alerts.
#[test]
fn repeats_are_counted_and_not_alerted_each() {
    let host = Host::new("PC1");
    let mut filter = Filter::new(Default::default());
    let mut alerts = Vec::new();
    for n in 0..20 {
        let mut records = dropped(&host, n * 20_000, 7 + n as u32);
        records.push(host.connection(n * 20_000 + 1_500, ATTACKER));
        alerts.extend(
            records
                .iter()
                .filter_map(|record| pass(&mut filter, record)),
        );
    }
    assert!(alerts.windows(2).all(|pair| pair[0]["id"] == pair[1]["id"]));
    assert!(alerts.len() <= 6, "{}", alerts.len());
    assert_eq!(filter.counters().revisions_over_limit, 0);
}

/// Where Sysmon does not log the start of the program, its pipe stands for it; both make one incident.
#[test]
fn a_pipe_stands_for_the_start_of_its_program() {
    let host = Host::new("PC1");
    let pipe = host.pipe(120, 7, TOOL, r"\PSEXESVC");
    let mut all = dropped(&host, 0, 7);
    let start = all.pop().expect("the start");
    let unlogged = [&all[..], std::slice::from_ref(&pipe)].concat();
    let found = incidents("{}", &unlogged);
    assert_eq!(levels(&found), ["psexec high"]);
    assert_eq!(found[0]["missing"], json!(["connection", "process"]));
    for order in [[pipe.clone(), start.clone()], [start, pipe]] {
        let whole = incidents("{}", &[&all[..], &order[..]].concat());
        assert_eq!(levels(&whole), ["psexec high"]);
        assert_eq!(whole[0]["id"], found[0]["id"]);
    }
    // A pipe alone, of a program that did not come over SMB, is no execution.
    let service = host.new_service(40, "abcd", TOOL);
    let local = [service, vec![host.pipe(120, 7, TOOL, r"\PSEXESVC")]].concat();
    assert_eq!(levels(&incidents("{}", &local)), [""; 0]);
}

/// An address that the host had a day ago is not its own today.
#[test]
fn an_address_that_the_host_once_had_is_not_its_own() {
    let host = Host::new("PC1");
    let own = |ms: i64| {
        let mut record: Value =
            serde_json::from_str(&host.inbound(ms, (ATTACKER, 50_000), ("10.0.0.2", 443)))
                .expect("JSON");
        record["Initiated"] = json!("true");
        record.to_string()
    };
    const DAY: i64 = 86_400_000;
    for (before, severity) in [(DAY, "psexec critical"), (60_000, "psexec high")] {
        let mut records = vec![own(-before)];
        records.extend(dropped(&host, 0, 7));
        records.push(host.connection(1_500, ATTACKER));
        assert_eq!(levels(&incidents("{}", &records)), [severity], "{before}");
    }
}

/// Programs that every Windows has, run by a service that a connected machine made or changed.
#[test]
fn a_service_that_runs_what_the_system_has_is_medium() {
    let host = Host::new("PC1");
    for (name, command) in [
        ("net.exe", "net user eve x /add"),
        ("schtasks.exe", r"C:\Windows\System32\schtasks.exe /create"),
    ] {
        let image = format!(r"C:\Windows\System32\{name}");
        let start = host.process(60, (7, &image, command), (1, SERVICES), SYSTEM);
        let connection = host.connection(1_500, ATTACKER);
        let new = [
            host.new_service(0, "b", command),
            vec![start.clone(), connection.clone()],
        ]
        .concat();
        assert_eq!(
            levels(&incidents("{}", &new)),
            ["psexec medium"],
            "{command}"
        );
        let changed = [host.service(0, "Fax", command), start, connection];
        assert_eq!(
            levels(&incidents("{}", &changed)),
            ["scshell medium"],
            "{command}"
        );
    }
    // What services of Windows run is no execution.
    let own = r"C:\Windows\system32\svchost.exe -k AarSvcGroup -p";
    let start = host.process(
        60,
        (7, r"C:\Windows\system32\svchost.exe", own),
        (1, SERVICES),
        SYSTEM,
    );
    let mut records = host.new_service(0, "AarSvc_59839", own);
    records.extend([start, host.connection(1_500, ATTACKER)]);
    assert_eq!(levels(&incidents("{}", &records)), [""; 0]);
}
