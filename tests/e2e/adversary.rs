//! What an attacker who knows the filter can do: attempts that fail, and attempts that succeed. `SECURITY.md` gives the reasons and
//! names these tests.

use psexec_filter::engine::Answer;
use psexec_filter_tests::{
    CMD, Host, SYSTEM, alerts, counter, engines, incidents, module, module_with, policy_engine,
    wasmtime,
};
use serde_json::json;

const ATTACKER: &str = "10.55.1.77";
const DROPPED: &str = r"C:\Windows\kXyzAbcd.exe";
/// Indices of the first record about the service and of the process start in what [`dropped`] returns.
const SERVICE: usize = 1;
const START: usize = 6;

/// No incident at all.
const NOTHING: [&str; 0] = [];

/// A policy that withstands some of the attempts.
const WIDER: &str = "[windows]\nfile_to_process = \"10m\"\n[limits]\nevidence_per_host = 256";

/// A program of no known name is dropped and started: file, service, process start, connection.
fn dropped(host: &Host, ms: i64, process: u32) -> Vec<String> {
    let mut records = vec![host.file(ms, "System", DROPPED)];
    records.extend(host.new_service(ms + 40, "abcd", DROPPED));
    records.extend([
        host.start(ms + 80, process, DROPPED),
        host.connection(ms + 1_500, ATTACKER),
    ]);
    records
}

/// The attack of [`dropped`] over a session that was open before: no connection is logged.
fn unconnected(host: &Host, ms: i64) -> Vec<String> {
    let mut records = dropped(host, ms, 7);
    records.pop();
    records
}

fn smbexec(host: &Host, ms: i64, command: &str) -> Vec<String> {
    let mut records = vec![host.connection(ms - 500, ATTACKER)];
    records.extend(host.new_service(ms, "b", command));
    records.extend([
        host.command(ms + 60, 7, command),
        host.service_value(ms + 300, "b", "DeleteFlag", "DWORD (0x00000001)"),
    ]);
    records
}

/// A service is given another program, started, and restored after `wait` milliseconds.
fn scshell(host: &Host, wait: i64) -> Vec<String> {
    const EVIL: &str = r"C:\Tools\evil.exe";
    let changed = [
        host.connection(-500, ATTACKER),
        host.service(0, "Fax", EVIL),
        host.start(60, 7, EVIL),
    ];
    changed
        .into_iter()
        .chain([host.service(wait, "Fax", r"C:\Windows\system32\fxssvc.exe")])
        .collect()
}

/// A command that only tools such as impacket's smbexec give a service.
const TOOL_COMMAND: &str = r"cmd.exe /Q /c echo whoami ^> \\PC1\C$\__output 2^>^&1 > C:\Windows\a.bat & cmd.exe /Q /c C:\Windows\a.bat";
/// A command that says nothing by itself.
const OTHER_COMMAND: &str = "cmd.exe /c net user eve secret /add";

fn address(n: i64) -> String {
    format!("10.200.{}.{}", n / 250, 1 + n % 250)
}

type Flood = fn(&Host, i64) -> String;

const CONNECTIONS: Flood = |host, n| host.connection(n % 1_000, &address(n));
const PROGRAMS: Flood = |host, n| host.file(n % 1_000, "System", &format!(r"C:\Share\{n}.exe"));
const SERVICES: Flood = |host, n| {
    host.service(
        n % 1_000,
        &format!("S{n}"),
        &format!(r"C:\Program Files\{n}.exe"),
    )
};

/// Each kind of evidence has room of its own, evidence of little worth never evicts evidence of more, and what supports an incident
/// is evicted last.
#[test]
fn floods_of_other_evidence_do_not_hide_an_attack() {
    let floods: [(&str, Flood); 9] = [
        ("connections", CONNECTIONS),
        ("documents over SMB", |host, n| {
            host.file(n % 1_000, "System", &format!(r"C:\Share\{n}.docx"))
        }),
        ("programs of an update", |host, n| {
            host.file(
                n % 1_000,
                r"C:\update.exe",
                &format!(r"C:\Windows\WinSxS\{n}.dll"),
            )
        }),
        ("processes of services", |host, n| {
            host.start(
                n % 1_000,
                1_000 + n as u32,
                &format!(r"C:\Windows\System32\{n}.exe"),
            )
        }),
        ("processes of WMI", |host, n| {
            host.wmi(
                n % 1_000,
                1_000 + n as u32,
                CMD,
                &format!("cmd /c {n}"),
                "0x77",
            )
        }),
        ("processes of the dropped program", |host, n| {
            host.process(
                n % 1_000,
                (1_000 + n as u32, CMD, "cmd"),
                (7, DROPPED),
                SYSTEM,
            )
        }),
        ("logons", |host, n| {
            host.logon(n % 1_000, &address(n), &format!("0x{n:x}"), "X")
        }),
        ("pipes", |host, n| {
            host.pipe(
                n % 1_000,
                1_000 + n as u32,
                r"C:\a.exe",
                &format!(r"\psexesvc{n}"),
            )
        }),
        ("values of services", |host, n| {
            host.service_value(n % 1_000, &format!("S{n}"), "Type", "DWORD (0x00000010)")
        }),
    ];
    let mut module = wasmtime(module());
    for (what, flood) in floods {
        let (host, mut n) = (Host::new(&what.replace(' ', "-")), 0);
        let mut records = Vec::new();
        for record in dropped(&host, 0, 7) {
            records.push(record);
            records.extend((0..200).map(|_| {
                n += 1;
                flood(&host, n)
            }));
        }
        assert_eq!(
            incidents(&alerts(&mut *module, &records)),
            ["psexec critical"],
            "{what}"
        );
    }
    assert!(counter(&mut *module, "evicted_evidence") > 1_000);
}

/// A flood of evidence of the same kind, on the attacked machine itself and in the middle of the attack, evicts what supports no
/// incident yet, oldest first. Each row shows the largest flood that hides nothing, and what is left after one record more.
#[test]
fn floods_of_the_same_evidence_hide_an_attack_from_a_known_size_on() {
    /// The flood, the attack, the record of the attack before which the flood comes, the largest flood that hides nothing, and the
    /// incidents reported with it and with one record more.
    type Row = (
        Flood,
        fn(&Host) -> Vec<String>,
        usize,
        i64,
        [&'static [&'static str]; 2],
    );
    let rows: [Row; 6] = [
        (
            PROGRAMS,
            |host| dropped(host, 0, 7),
            SERVICE,
            // As evidence, and by their paths alone.
            11 + 256,
            [&["psexec critical"], &["psexec medium"]],
        ),
        (
            PROGRAMS,
            |host| unconnected(host, 0),
            SERVICE,
            11 + 256,
            [&["psexec high"], &NOTHING],
        ),
        (
            SERVICES,
            |host| smbexec(host, 0, TOOL_COMMAND),
            6,
            7,
            [&["smbexec critical"], &["smbexec medium"]],
        ),
        (
            SERVICES,
            |host| smbexec(host, 0, OTHER_COMMAND),
            6,
            7,
            [&["smbexec high"], &NOTHING],
        ),
        (
            SERVICES,
            |host| scshell(host, 5_000),
            2,
            6,
            [&["scshell high"], &NOTHING],
        ),
        (
            CONNECTIONS,
            |host| {
                let rpc = host.inbound(0, (ATTACKER, 50_300), ("10.0.0.21", 135));
                vec![rpc, host.wmi(60, 7, CMD, "cmd /c whoami", "0x1d313d")]
            },
            1,
            15,
            [&["wmiexec high"], &NOTHING],
        ),
    ];
    for (engine, mut module) in engines(module()) {
        for (row, (flood, attack, before, largest, wants)) in rows.iter().enumerate() {
            for (more, want) in (0..).zip(wants) {
                let host = Host::new(&format!("PC{row}-{more}"));
                let mut records = attack(&host);
                records.splice(
                    before..before,
                    (1..=largest + more).map(|n| flood(&host, n)),
                );
                assert_eq!(
                    incidents(&alerts(&mut *module, &records)),
                    *want,
                    "row {row} on {engine}, {more} more than the largest harmless flood"
                );
            }
        }
        assert!(
            counter(&mut *module, "evicted_evidence") >= rows.len() as u64,
            "{engine}: evictions are counted"
        );
    }
    // With more room it takes a larger flood.
    let mut module = wasmtime(&module_with(WIDER));
    let mut records = dropped(&Host::new("PC1"), 0, 7);
    records.splice(
        START..START,
        (0..43).map(|n| PROGRAMS(&Host::new("PC1"), n)),
    );
    assert_eq!(
        incidents(&alerts(&mut *module, &records)),
        ["psexec critical"]
    );
}

/// Many machines connect at the time of the attack: it is reported, but its source is a guess, and `candidates` says so.
#[test]
fn a_flood_of_connections_hides_the_source() {
    for (engine, mut module) in engines(module()) {
        let host = Host::new("PC1");
        let mut records = unconnected(&host, 0);
        records.insert(0, host.connection(-10_000, ATTACKER));
        records.splice(1..1, (0..16).map(|n| host.connection(1_000, &address(n))));
        let alert = alerts(&mut *module, &records).pop().expect("an alert");
        assert_eq!(
            (&alert["severity"], &alert["source"]["candidates"]),
            (&json!("critical"), &json!(16)),
            "{engine}"
        );
        assert_ne!(alert["source"]["ip"], json!(ATTACKER), "{engine}");
    }
}

/// The host's name is in the record: whoever can write records makes the filter forget a host that has no incident yet.
#[test]
fn forged_host_names_make_the_filter_forget_a_host() {
    let host = Host::new("victim");
    for (count, want) in [(4_095, &["psexec high"][..]), (4_096, &NOTHING)] {
        let mut module = wasmtime(module());
        let mut records = unconnected(&host, 0);
        records.splice(
            SERVICE..SERVICE,
            (0..count).map(|n| Host::new(&format!("F{n}")).connection(0, "10.1.1.1")),
        );
        assert_eq!(incidents(&alerts(&mut *module, &records)), want, "{count}");
        assert_eq!(
            counter(&mut *module, "evicted_hosts"),
            if count == 4_096 { 2 } else { 0 },
            "{count}"
        );
    }
}

/// Evidence further apart than the policy's windows is not joined.
#[test]
fn an_attacker_who_waits_longer_than_a_window_is_missed() {
    type Row = (
        &'static str,
        i64,
        fn(&Host, i64) -> Vec<String>,
        [&'static [&'static str]; 2],
    );
    let rows: [Row; 6] = [
        (
            "from the file to its start",
            120_000,
            |host, wait| {
                let mut records = unconnected(host, wait);
                records[0] = host.file(80, "System", DROPPED);
                records
            },
            [&["psexec high"], &NOTHING],
        ),
        (
            "from the file to its start, and the connection is logged",
            120_000,
            |host, wait| {
                let mut records = dropped(host, wait, 7);
                records[0] = host.file(80, "System", DROPPED);
                records
            },
            [&["psexec critical"], &["psexec medium"]],
        ),
        (
            "from the connection to the start",
            120_000,
            |host, wait| {
                let mut records = unconnected(host, 0);
                records.insert(0, host.connection(80 - wait, ATTACKER));
                records
            },
            [&["psexec critical"], &["psexec high"]],
        ),
        (
            "from the service to the start",
            30_000,
            |host, wait| {
                let mut records = dropped(host, 0, 7);
                records.splice(
                    START..,
                    [
                        host.start(41 + wait, 7, DROPPED),
                        host.connection(41 + wait, ATTACKER),
                    ],
                );
                records
            },
            [&["psexec critical"], &["psexec high"]],
        ),
        (
            "from the service to its command",
            30_000,
            |host, wait| {
                let mut records = smbexec(host, 0, OTHER_COMMAND);
                records.splice(START.., [host.command(1 + wait, 7, OTHER_COMMAND)]);
                records
            },
            [&["smbexec high"], &NOTHING],
        ),
        (
            "until the service is restored",
            300_000,
            scshell,
            [&["scshell high"], &NOTHING],
        ),
    ];
    for (engine, mut module) in engines(module()) {
        for (what, window, attack, wants) in rows {
            for (more, want) in [0, 1_000].into_iter().zip(wants) {
                let host = Host::new(&format!("{}-{more}", what.replace(' ', "-")));
                assert_eq!(
                    incidents(&alerts(&mut *module, &attack(&host, window + more))),
                    want,
                    "{what} on {engine}, {more} ms more"
                );
            }
        }
    }
    // A longer window finds it.
    let mut module = wasmtime(&module_with(WIDER));
    let host = Host::new("PC1");
    let mut records = unconnected(&host, 540_000);
    records[0] = host.file(0, "System", DROPPED);
    assert_eq!(incidents(&alerts(&mut *module, &records)), ["psexec high"]);
}

/// Setting the clock by hours before or after the attack changes nothing. In the middle of it, the evidence is hours apart.
#[test]
fn a_clock_set_in_the_middle_of_an_attack_hides_it() {
    let hour = 3_600_000;
    for (engine, mut module) in engines(module()) {
        for (n, jump) in [3 * hour, -3 * hour, 24 * hour].into_iter().enumerate() {
            for (at, want) in [
                (0, &["psexec critical"][..]),
                (SERVICE, &["psexec medium"]),
                (START, &["psexec critical"]),
                (8, &["psexec critical"]),
            ] {
                let host = Host::new(&format!("PC{n}-{at}"));
                let before = [host.connection(-60_000, "10.1.1.1")]
                    .into_iter()
                    .chain(dropped(&host, 0, 7).into_iter().take(at));
                let after = dropped(&host, jump, 7)
                    .into_iter()
                    .skip(at)
                    .chain([host.connection(jump + 60_000, "10.1.1.1")]);
                let records: Vec<String> = before.chain(after).collect();
                assert_eq!(
                    incidents(&alerts(&mut *module, &records)),
                    want,
                    "{jump} ms before record {at} on {engine}"
                );
            }
        }
    }
}

/// Records of one host neither join with those of another nor hide them. Forged records that name a host are believed.
#[test]
fn records_of_another_host_change_nothing_and_forged_ones_are_believed() {
    for (engine, mut module) in engines(module()) {
        let (victim, other) = (Host::new("victim"), Host::new("other"));
        let (of_victim, of_other) = (unconnected(&victim, 0), unconnected(&other, 0));
        let split = [&of_victim[..SERVICE], &of_other[SERVICE..]].concat();
        assert_eq!(
            incidents(&alerts(&mut *module, &split)),
            NOTHING,
            "{engine}"
        );
        let mut records = dropped(&Host::new("victim2"), 0, 7);
        for at in (0..records.len()).rev() {
            records.splice(
                at..at,
                (0..60)
                    .map(|n| PROGRAMS(&other, n))
                    .chain((0..60).map(|n| SERVICES(&other, n))),
            );
        }
        assert_eq!(
            incidents(&alerts(&mut *module, &records)),
            ["psexec critical"],
            "{engine}"
        );
        assert_eq!(
            incidents(&alerts(
                &mut *module,
                &dropped(&Host::new("slandered"), 0, 9)
            )),
            ["psexec critical"],
            "{engine}"
        );
    }
}

/// Of a duplicate key the first one counts, and of two objects in a record the first is read: whoever can write into a record before
/// it comes here can hide what is in it. Duplicate keys are counted.
#[test]
fn the_first_of_duplicate_keys_and_of_two_objects_counts() {
    for (engine, mut module) in engines(module()) {
        for (n, first) in [
            r#"{"Image":"C:\\a.exe","CommandLine":"a","#,
            r#"{"Hostname":"PC9","#,
            "{} {",
            "{\"a\":1}\n{",
        ]
        .into_iter()
        .enumerate()
        {
            let mut records = dropped(&Host::new(&format!("PC{n}")), 0, 7);
            records[START] = records[START].replacen('{', first, 1);
            // A pipe of the process would stand for its start.
            records.retain(|record| !record.contains("PipeName"));
            for record in &records {
                assert_eq!(
                    module.call("t", 0, 0, record.as_bytes()),
                    Ok(Answer::Unchanged),
                    "{first} on {engine}"
                );
            }
        }
        assert_eq!(counter(&mut *module, "duplicate_keys"), 2, "{engine}");
    }
}

/// One incident has at most 32 alerts: an attacker who comes from another address each time uses them up. Another program is
/// another incident.
#[test]
fn an_attacker_with_many_addresses_uses_up_the_revisions() {
    for (engine, mut module) in engines(module()) {
        let host = Host::new("PC1");
        let mut numbers = Vec::new();
        for n in 0..40i64 {
            let mut records = dropped(&host, n * 20_000, 100 + n as u32);
            records[START + 1] = host.connection(n * 20_000 + 1_500, &address(n));
            numbers.push(alerts(&mut *module, &records).len());
        }
        assert_eq!(numbers.iter().sum::<usize>(), 32, "{engine}: {numbers:?}");
        assert_eq!(numbers[29..], [0; 11], "{engine}");
        assert!(
            counter(&mut *module, "revisions_over_limit") > 0,
            "{engine}"
        );
        let path = r"C:\Windows\another.exe";
        let another = [
            host.file(900_000, "System", path),
            host.start(900_050, 200, path),
            host.connection(901_000, ATTACKER),
        ];
        assert_eq!(
            incidents(&alerts(&mut *module, &another)),
            ["psexec high"],
            "{engine}"
        );
    }
}

/// The allow-list believes the names that its entries give.
#[test]
fn an_attacker_who_forges_allowed_names_is_allowed() {
    let host = Host::new("PC1");
    let by_source = "[[allow]]\nsource = ['10.20.0.0/16']\nreason = 'administrators'";
    let by_user = "[[allow]]\nuser = ['CORP\\alice']\nreason = 'administrators'";
    let admin = host.logon(-100, "10.20.0.7", "0x5555", "ADMINPC");
    let key = host.file(10, "System", r"C:\Windows\PSEXEC-ADMINPC-1A2B3C4D.key");
    let stolen = host.logon(-100, ATTACKER, "0x5555", "X");
    let child = host.process(
        2_000,
        (9, CMD, "cmd"),
        (7, DROPPED),
        (r"CORP\alice", "0x99"),
    );
    for (what, policy, first, last, want) in [
        (
            "an administrator is logged on",
            by_source,
            vec![admin.clone()],
            vec![],
            "psexec critical",
        ),
        (
            "a key file named after his machine",
            by_source,
            vec![key.clone()],
            vec![],
            "psexec critical",
        ),
        (
            "both",
            by_source,
            vec![admin, key],
            vec![],
            "psexec informational",
        ),
        (
            "with his password",
            by_user,
            vec![stolen],
            vec![],
            "psexec informational",
        ),
        (
            "a process is started as him",
            by_user,
            vec![],
            vec![child],
            "psexec informational",
        ),
    ] {
        let (engine, mut module) = policy_engine(policy);
        let records = [first.clone(), dropped(&host, 0, 7), last.clone()].concat();
        assert_eq!(
            incidents(&alerts(&mut *module, &records)),
            [want],
            "{what} on {engine}"
        );
    }
}

/// Every test that `SECURITY.md` names exists.
#[test]
fn the_tests_that_security_md_names_exist() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &std::path::Path| {
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let page = read(&folder.join("../SECURITY.md"));
    let mut named = 0;
    // Every second part is between backticks: `file::test`, or `test` of `adversary`.
    for name in page.split('`').skip(1).step_by(2) {
        let (file, test) = match name.split_once("::") {
            Some(both) => both,
            None if name.matches('_').count() > 2 => ("adversary", name),
            None => continue,
        };
        let source = read(&folder.join(format!("e2e/{file}.rs")));
        assert!(
            source.contains(&format!("#[test]\nfn {test}()")),
            "SECURITY.md names {name}, which is no test of tests/e2e/{file}.rs"
        );
        named += 1;
    }
    assert!(named > 10, "{named} tests are named");
}
