//! What the simulator found: each promise that it saw broken, as a few records.

mod common;

use common::pass;
use psexec_filter_fixtures::{CMD, DELETED, Host, MMC, SERVICES, SMB_SERVER, SYSTEM, WMI, data};
use psexec_filter_plugin::filter::Filter;
use serde_json::json;

const ATTACKER: &str = "10.55.1.77";

fn host() -> Host {
    Host::new("PC1")
}

/// Evidence is reported under the id of the event that it came in.
#[test]
fn a_pipe_that_was_connected_to_is_event_18() {
    const TOOL: &str = r"C:\Windows\a.exe";
    for event in [17, 18] {
        let mut filter = Filter::new(Default::default());
        pass(&mut filter, &host().file(0, SMB_SERVER, TOOL));
        pass(&mut filter, &host().start(80, 7, TOOL)).expect("an alert");
        let pipe = host().event(event, 90, data::pipe((7, TOOL), r"\PSEXESVC"));
        let revision = pass(&mut filter, &pipe).expect("a revision");
        assert_eq!(revision["evidence"][2]["event"], json!(event));
    }
}

/// An inventory over WMI starts dozens of programs. They are no execution and must not evict what may become one.
#[test]
fn an_inventory_leaves_room_for_dcomexec() {
    let mut filter = Filter::new(Default::default());
    let inventory = |filter: &mut Filter, ms: i64, number: u32| {
        for (process, image, line, account) in [
            (100 + number, CMD, "cmd.exe /c ver", SYSTEM),
            (
                200 + number,
                r"C:\Windows\CCM\scan.exe",
                "scan.exe",
                (r"CORP\sccm", "0x3333"),
            ),
        ] {
            let start = host().process(ms, (process, image, line), (2, WMI), account);
            assert_eq!(pass(filter, &start), None);
        }
    };
    (0..6).for_each(|n| inventory(&mut filter, i64::from(n) * 10, n));
    let started = (7, r"C:\calc.exe", "calc.exe");
    let start = host().process(100, started, (1, MMC), (r"CORP\alice", "0x4444"));
    assert_eq!(pass(&mut filter, &start), None);
    (6..12).for_each(|n| inventory(&mut filter, i64::from(n) * 20, n));
    let connection = host().dcom_connection(1_600, (1, MMC), ATTACKER);
    let alert = pass(&mut filter, &connection).expect("an alert");
    assert_eq!(alert["chain"], "dcomexec");
}

/// Both are low at first. The connection makes an attack of one of them only.
#[test]
fn a_local_getsystem_and_a_command_from_elsewhere_are_two() {
    let mut filter = Filter::new(Default::default());
    let mut low = |ms: i64, number: u32, service: &str, command: &str| {
        for record in host().new_service(ms, service, command) {
            pass(&mut filter, &record);
        }
        pass(&mut filter, &host().command(ms + 10, number, command)).expect("an alert")
    };
    let local = low(0, 7, "abcdef", r"cmd.exe /c echo abcdef > \\.\pipe\abcdef");
    let remote = low(9_000, 8, "ghijkl", "cmd.exe /c net user x /add");
    assert_eq!(
        (&local["severity"], &remote["severity"]),
        (&json!("low"), &json!("low"))
    );
    assert_ne!(local["id"], remote["id"]);
    let revision = pass(&mut filter, &host().connection(10_500, ATTACKER)).expect("a revision");
    assert_eq!(
        (&revision["id"], &revision["severity"]),
        (&remote["id"], &json!("high"))
    );
}

/// Each command of a shell is low until its service is deleted; by then the severity of the ones before it has risen.
#[test]
fn commands_of_one_shell_are_one_incident() {
    let mut filter = Filter::new(Default::default());
    let mut alerts = Vec::new();
    for number in 0..3 {
        let (ms, service) = (i64::from(number) * 3_000, format!("service{number}"));
        let command = "cmd.exe /c net user x /add";
        let mut records = host().new_service(ms, &service, command);
        records.push(host().command(ms + 60, 7 + number, command));
        records.push(host().service_value(ms + 900, &service, DELETED.0, DELETED.1));
        alerts.extend(
            records
                .iter()
                .filter_map(|record| pass(&mut filter, record)),
        );
    }
    assert!(
        alerts.len() >= 2 && alerts.iter().all(|alert| alert["id"] == alerts[0]["id"]),
        "{alerts:?}"
    );
}

/// PsExec used for SYSTEM on its own machine stays local when the file's event is no longer remembered.
#[test]
fn an_incident_that_was_local_does_not_become_lateral_by_forgetting() {
    const TOOL: &str = r"C:\Windows\PSEXESVC.exe";
    let mut filter = Filter::new(Default::default());
    for record in [
        host().file(0, r"C:\Tools\PsExec64.exe", TOOL),
        host().service_value(118_000, "PSEXESVC", "Type", "DWORD (0x00000010)"),
        host().service(118_000, "PSEXESVC", r"%%SystemRoot%%\PSEXESVC.exe"),
    ] {
        assert_eq!(pass(&mut filter, &record), None);
    }
    let start = host().process(118_100, (7, TOOL, TOOL), (1, SERVICES), SYSTEM);
    let alert = pass(&mut filter, &start).expect("an alert");
    assert_eq!(
        (&alert["severity"], &alert["lateral"]),
        (&json!("low"), &json!(false))
    );
    pass(
        &mut filter,
        &host().file(320_000, SMB_SERVER, r"D:\Share\a.docx"),
    );
    assert_eq!(
        pass(&mut filter, &host().connection(119_600, ATTACKER)),
        None,
        "a client of the host's shares, whose event arrives late"
    );
}

/// Several records of other years in a row do not make the filter forget an attack that is under way.
#[test]
fn wild_times_in_a_row_do_not_hide_an_attack() {
    const DAY: i64 = 86_400_000;
    let mut filter = Filter::new(Default::default());
    let file = |ms, path| host().file(ms, SMB_SERVER, path);
    pass(&mut filter, &file(0, r"C:\Windows\a.exe"));
    for days in [800, 25_000, -4_000] {
        pass(&mut filter, &file(days * DAY, r"C:\Windows\b.exe"));
    }
    pass(&mut filter, &file(50, r"D:\Share\a.docx"));
    assert!(pass(&mut filter, &host().start(80, 7, r"C:\Windows\a.exe")).is_some());
}
