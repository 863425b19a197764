//! The allow-list: it covers incidents by what an entry names, up to the entry's end, and never by a guess.

use psexec_filter_tests::{CMD, Host, alerts, counter, policy_engine};
use serde_json::{Value, json};

const ADMIN: &str = "10.20.0.7";
const ATTACKER: &str = "10.55.1.77";

fn entry(fields: &str) -> String {
    format!("[[allow]]\nreason = \"ticket 4711\"\n{fields}\n")
}

/// Whether the last alert reports that the incident is allowed; `None` if there is no alert.
fn allowed(alerts: &[Value]) -> Option<bool> {
    alerts.last().map(|alert| {
        alert["status"] == "allowed"
            && alert["severity"] == "informational"
            && alert["reason"] == "ticket 4711"
    })
}

/// An execution with everything that an entry can name.
fn execution() -> Vec<String> {
    let host = Host::new("PC1.corp.example");
    let mut records = host.psexec(0, 7, ADMIN);
    let mut start: Value = serde_json::from_str(&records[2]).expect("JSON");
    start["Hashes"] = json!("MD5=00112233445566778899AABBCCDDEEFF,SHA256=AA");
    records[2] = start.to_string();
    records.insert(0, host.logon(-100, ADMIN, "0x5555", "ADMINPC"));
    records
}

#[test]
fn an_entry_covers_an_incident_if_all_its_fields_do() {
    for (fields, want) in [
        ("source = ['10.20.0.0/16']", true),
        ("source = ['::ffff:10.20.0.7']", true),
        ("source = ['10.21.0.0/16', 'fe80::/10']", false),
        ("user = ['CORP\\alice']", true),
        ("user = ['ALICE']", true),
        ("user = ['bob']", false),
        ("host = ['pc1']", true),
        ("host = ['PC1.corp.example']", true),
        ("host = ['*.corp.example']", true),
        ("host = ['pc1.corp']", false),
        ("host = ['pc', 'pc2*']", false),
        ("process = ['*\\psexesvc.exe']\nby_name_alone = true", true),
        (
            "process = ['re:psexe[a-z]+\\.exe$']\nby_name_alone = true",
            true,
        ),
        ("process = ['*\\paexec.exe']\nby_name_alone = true", false),
        ("service = ['psexesvc']\nby_name_alone = true", true),
        ("hash = ['00112233445566778899aabbccddeeff']", true),
        ("hash = ['ff112233445566778899aabbccddeeff']", false),
        (
            "source = ['10.20.0.7']\nhost = ['pc1']\nuser = ['alice']",
            true,
        ),
        ("source = ['10.20.0.7']\nhost = ['pc2']", false),
        ("host = ['pc1']\nuntil = '2024-09-14'", true),
        ("host = ['pc1']\nuntil = '2024-09-13'", false),
        ("host = ['pc1']\nuntil = '2024-09-14T08:59:59Z'", false),
    ] {
        let (engine, mut module) = policy_engine(&entry(fields));
        assert_eq!(
            allowed(&alerts(&mut *module, &execution())),
            Some(want),
            "{fields} on {engine}"
        );
    }
    // One entry of several is enough.
    let (_, mut module) = policy_engine(&(entry("host = ['pc2']") + &entry("host = ['pc1']")));
    assert_eq!(allowed(&alerts(&mut *module, &execution())), Some(true));
}

/// On a busy server others connect, too: the allowed address must fit best, unless a logon names the source.
#[test]
fn the_source_that_fits_best_must_be_allowed_unless_a_logon_names_the_source() {
    for (what, logon, (others, at), want) in [
        ("all are allowed", None, ("10.20.0.8", -3_000), true),
        ("another was there before", None, (ATTACKER, -3_000), true),
        ("another fits better", None, (ATTACKER, 1_580), false),
        (
            "the name of the machine in a key file names the logon",
            Some(ADMIN),
            (ATTACKER, -3_000),
            true,
        ),
        (
            "the logon names the address that is not allowed",
            Some(ATTACKER),
            (ATTACKER, -3_000),
            false,
        ),
    ] {
        let (engine, mut module) = policy_engine(&entry("source = ['10.20.0.0/16']"));
        let host = Host::new("PC1");
        let mut records = host.psexec(0, 7, ADMIN);
        records.insert(0, host.connection(at, others));
        if let Some(address) = logon {
            records.insert(0, host.logon(-100, address, "0x5555", "ADMINPC"));
            records.insert(
                1,
                host.file(10, "System", r"C:\Windows\PSEXEC-ADMINPC-1A2B3C4D.key"),
            );
        }
        assert_eq!(
            allowed(&alerts(&mut *module, &records)),
            Some(want),
            "{what} on {engine}"
        );
    }
}

/// While an entry asks for sources, an alert without a source waits for a late connection, so that an allowed execution is never
/// alerted as an attack first.
#[test]
fn an_alert_waits_for_a_late_connection() {
    let policy = entry("source = ['10.20.0.0/16']");
    let (engine, mut module) = policy_engine(&policy);
    let alerted = alerts(&mut *module, &Host::new("PC1").psexec(0, 7, ADMIN));
    assert_eq!(
        (alerted.len(), allowed(&alerted)),
        (1, Some(true)),
        "{engine}"
    );
    let alerted = alerts(&mut *module, &Host::new("PC2").psexec(0, 7, ATTACKER));
    assert_eq!(
        (alerted.len(), allowed(&alerted), &alerted[0]["severity"]),
        (1, Some(false), &json!("critical")),
        "{engine}"
    );
    assert_eq!(counter(&mut *module, "held"), 2, "{engine}");

    // It never comes: the host's next record after the grace carries the alert, an earlier one does not.
    let host = Host::new("PC3");
    for record in &host.psexec(0, 7, ATTACKER)[..4] {
        assert_eq!(
            psexec_filter_tests::call(&mut *module, record),
            None,
            "{engine}"
        );
    }
    let any = |ms| {
        host.event(
            1,
            ms,
            json!({"Image": r"C:\a.exe", "ParentImage": r"C:\b.exe"}),
        )
    };
    assert_eq!(
        psexec_filter_tests::call(&mut *module, &any(9_000)),
        None,
        "{engine}"
    );
    let late = psexec_filter_tests::call(&mut *module, &any(10_200)).expect("the alert");
    assert_eq!(
        (&late["severity"], &late["source"]),
        (&json!("high"), &Value::Null),
        "{engine}"
    );

    // No record comes either: the alert is handed out at the end.
    let alerted = alerts(&mut *module, &Host::new("PC4").psexec(0, 7, ATTACKER)[..4]);
    assert_eq!(alerted.len(), 1, "{engine}");
}

#[test]
fn incidents_that_the_policy_drops_are_counted_and_not_alerted() {
    let policy = format!(
        "[alert]\nallowed = \"drop\"\n{}",
        entry("source = ['10.20.0.0/16']")
    );
    let (engine, mut module) = policy_engine(&policy);
    assert_eq!(
        alerts(&mut *module, &Host::new("PC1").psexec(0, 7, ADMIN)),
        Vec::<Value>::new(),
        "{engine}"
    );
    assert!(counter(&mut *module, "allowed") >= 1, "{engine}");
    assert_eq!(
        allowed(&alerts(
            &mut *module,
            &Host::new("PC2").psexec(0, 7, ATTACKER)
        )),
        Some(false),
        "{engine}"
    );
}

/// An unknown source is not allowed, unless the policy says so.
#[test]
fn an_unknown_source_is_allowed_only_if_the_policy_says_so() {
    for (setting, want) in [
        ("", false),
        ("[alert]\non_unknown_source = \"allow\"\n", true),
    ] {
        let (engine, mut module) = policy_engine(&format!(
            "{setting}{}",
            entry("source = ['10.20.0.0/16']\nhost = ['pc1']")
        ));
        let alerted = alerts(&mut *module, &Host::new("PC1").psexec(0, 7, ADMIN)[..4]);
        assert_eq!(allowed(&alerted), Some(want), "{setting} on {engine}");
    }
}

/// Management tools look exactly like the attack; only their source tells them apart.
#[test]
fn the_starter_entries_allow_management_tools_from_their_servers_only() {
    let shell = r"cmd.exe /Q /c ipconfig 1> \Windows\Temp\tenable_1 2>&1";
    for (tool, path, service) in [
        (
            "SCCM client push",
            r"C:\Windows\ccmsetup\ccmsetup.exe",
            "ccmsetup",
        ),
        (
            "PDQ Deploy",
            r"C:\Windows\AdminArsenal\PDQDeployRunner\service-1\PDQDeployRunner-1.exe",
            "PDQDeployRunner-1",
        ),
        (
            "Veeam",
            r"C:\Windows\Veeam\VeeamDeploymentSvc.exe",
            "VeeamDeploymentService",
        ),
        (
            "Nessus",
            r"C:\Windows\tenable_mw_scan_142a90.exe",
            "tenable_mw_scan",
        ),
        (
            "ESET",
            r"C:\Windows\Temp\eset-remote-install-service.exe",
            "eset-remote-install-service",
        ),
        (
            "Ansible win_psexec",
            r"C:\Windows\PAExec-4711-ANSIBLE.exe",
            "PAExec-4711-ANSIBLE",
        ),
        ("Nessus over WMI", "", ""),
    ] {
        // The starter list as it stands in the default policy, uncommented, with the servers' addresses.
        let starter: String = psexec_filter_pack::DEFAULT_POLICY
            .split_once("# Entries to start from")
            .expect("the starter list")
            .1
            .lines()
            .skip(2)
            .filter_map(|line| line.strip_prefix("# "))
            .map(|line| format!("{line}\n"))
            .collect();
        for (from, want) in [("192.0.2", "informational"), ("198.51.100", "critical")] {
            let (engine, mut module) = policy_engine(&starter);
            let alerted: Vec<Value> = (10..=15)
                .filter_map(|server| {
                    let host = Host::new(&format!("PC{server}"));
                    let address = format!("{from}.{server}");
                    let records = if path.is_empty() {
                        let run =
                            |n: u32| host.wmi(i64::from(n) * 1_000, 7 + n, CMD, shell, "0x1d313d");
                        vec![host.connection(-100, &address), run(0), run(1)]
                    } else {
                        let mut records = vec![host.file(0, "System", path)];
                        records.extend(host.new_service(40, service, path));
                        records.extend([host.start(80, 7, path), host.connection(1_500, &address)]);
                        records
                    };
                    alerts(&mut *module, &records).pop()
                })
                .collect();
            assert_eq!(alerted.len(), 6, "{tool} on {engine}");
            assert!(
                alerted.iter().any(|alert| alert["severity"] == want),
                "{tool} from {from} on {engine}: {alerted:?}"
            );
            if want == "critical" {
                assert!(
                    alerted.iter().all(|alert| alert["severity"] == want),
                    "{tool} from anywhere else on {engine}"
                );
            }
        }
    }
}

/// An allowed execution does not cover another one, even of the same program within the suppression time.
#[test]
fn an_attack_does_not_hide_behind_an_administrator() {
    for dropped in ["", "[alert]\nallowed = \"drop\"\n"] {
        let (engine, mut module) =
            policy_engine(&format!("{dropped}{}", entry("source = ['10.20.0.0/16']")));
        let host = Host::new("PC1");
        let first = alerts(&mut *module, &host.psexec(0, 7, ADMIN));
        // Marked as allowed, or dropped.
        let want = dropped.is_empty().then_some(true);
        assert_eq!(allowed(&first), want, "{engine}");
        // Over a session that was open: no connection is logged.
        let second = alerts(&mut *module, &host.psexec(130_000, 8, ATTACKER)[..4]);
        assert_eq!(allowed(&second), Some(false), "{engine}");
        assert_eq!(
            second
                .last()
                .map(|alert| (&alert["severity"], &alert["source"])),
            Some((&json!("high"), &Value::Null)),
            "{engine}"
        );
        // When the administrator comes again, that does not make the attack legitimate.
        let third = alerts(&mut *module, &host.psexec(260_000, 9, ADMIN));
        let legitimate =
            |alert: &Value| alert["id"] == second[0]["id"] && alert["status"] == "allowed";
        assert!(!third.iter().any(legitimate), "{engine}");
        let of_attack = |alert: &Value| alert["id"] == second[0]["id"];
        assert!(
            third.iter().any(of_attack),
            "{engine}: a repeat of the attack"
        );
    }
}

/// Without event 3 every logon may be the attacker's, not only the nearest in time.
#[test]
fn the_nearest_logon_alone_allows_nothing() {
    let (engine, mut module) = policy_engine(&entry("source = ['10.20.0.0/16']"));
    let host = Host::new("PC1");
    let mut records = vec![
        host.logon(-5_000, ATTACKER, "0x1", "EVIL"),
        host.logon(-1_000, ADMIN, "0x2", "BACKUP"),
    ];
    records.extend(host.psexec(0, 7, ADMIN)[..4].to_vec());
    assert_eq!(
        allowed(&alerts(&mut *module, &records)),
        Some(false),
        "{engine}"
    );
}
