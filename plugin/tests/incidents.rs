//! What the simulation found: each promise it saw broken, as a story of a few records.

use psexec_filter_plugin::filter::Filter;
use psexec_filter_plugin::normalize::time::Timestamp;
use serde_json::{Value, json};

const SERVICES: &str = r"C:\Windows\System32\services.exe";
const CMD: &str = r"C:\Windows\System32\cmd.exe";

/// Passes an event of PC1 at `ms` and returns what was added to it.
fn pass(filter: &mut Filter, ms: i64, event: u32, data: Value) -> Option<Value> {
    let time = Timestamp {
        ms: 1_726_304_400_000 + ms,
        zoned: true,
    };
    let mut record = json!({"EventTime": time.to_string(), "Hostname": "PC1", "EventID": event, "SourceName": "Microsoft-Windows-Sysmon"});
    record
        .as_object_mut()
        .expect("an object")
        .extend(data.as_object().expect("an object").clone());
    let splice = filter.process(record.to_string().as_bytes(), 0, 0)?;
    let added: Value =
        serde_json::from_str(&format!("{{{}}}", splice.text.trim_start_matches(',')))
            .expect("JSON");
    Some(added["detection"].clone())
}

fn file(writer: &str, path: &str) -> Value {
    json!({"Image": writer, "TargetFilename": path})
}

fn start(number: u32, image: &str, line: &str, parent: &str, session: &str) -> Value {
    json!({"Image": image, "CommandLine": line, "ProcessGuid": guid(number), "LogonId": session, "ParentImage": parent,
        "ParentProcessGuid": guid(1)})
}

fn value(service: &str, name: &str, details: &str) -> Value {
    json!({"Image": SERVICES, "TargetObject": format!(r"HKLM\System\CurrentControlSet\Services\{service}\{name}"), "Details": details})
}

fn connection(image: &str, process: u32, port: &str) -> Value {
    json!({"Image": image, "ProcessGuid": guid(process), "Initiated": "false", "SourceIp": "10.55.1.77", "SourcePort": "50211",
        "DestinationIp": "10.0.0.21", "DestinationPort": port})
}

fn guid(number: u32) -> String {
    format!("{{3f1a2b4c-0a01-66e5-eb03-{number:012x}}}")
}

/// Evidence is told under the event that it came in.
#[test]
fn a_pipe_that_was_connected_to_is_event_18() {
    for event in [17, 18] {
        let mut filter = Filter::new(Default::default());
        pass(&mut filter, 0, 11, file("System", r"C:\Windows\a.exe"));
        pass(
            &mut filter,
            80,
            1,
            start(7, r"C:\Windows\a.exe", "a.exe", SERVICES, "0x3e7"),
        )
        .expect("an alert");
        let pipe =
            json!({"Image": r"C:\Windows\a.exe", "ProcessGuid": guid(7), "PipeName": r"\PSEXESVC"});
        let told = pass(&mut filter, 90, event, pipe).expect("a revision");
        assert_eq!(told["evidence"][2]["event"], json!(event));
    }
}

/// An inventory over WMI starts dozens of programs. They are no execution, and must not push out what may become one.
#[test]
fn an_inventory_leaves_room_for_dcomexec() {
    const MMC: &str = r"C:\Windows\System32\mmc.exe";
    const WMI: &str = r"C:\Windows\System32\wbem\WmiPrvSE.exe";
    let mut filter = Filter::new(Default::default());
    let inventory = |filter: &mut Filter, ms: i64, number: u32| {
        assert_eq!(
            pass(
                filter,
                ms,
                1,
                start(100 + number, CMD, "cmd.exe /c ver", WMI, "0x3e7")
            ),
            None
        );
        assert_eq!(
            pass(
                filter,
                ms,
                1,
                start(
                    200 + number,
                    r"C:\Windows\CCM\scan.exe",
                    "scan.exe",
                    WMI,
                    "0x3333"
                )
            ),
            None
        );
    };
    (0..6).for_each(|n| inventory(&mut filter, i64::from(n) * 10, n));
    assert_eq!(
        pass(
            &mut filter,
            100,
            1,
            start(7, r"C:\calc.exe", "calc.exe", MMC, "0x4444")
        ),
        None
    );
    (6..12).for_each(|n| inventory(&mut filter, i64::from(n) * 20, n));
    let told = pass(&mut filter, 1_600, 3, connection(MMC, 1, "49700")).expect("an alert");
    assert_eq!(told["chain"], "dcomexec");
}

/// Both are low at first; only one of them becomes an attack when the connection comes.
#[test]
fn a_local_getsystem_and_a_command_from_elsewhere_are_two() {
    let mut filter = Filter::new(Default::default());
    let mut low = |ms: i64, number: u32, service: &str, command: &str| {
        pass(
            &mut filter,
            ms,
            13,
            value(service, "Type", "DWORD (0x00000010)"),
        );
        pass(&mut filter, ms, 13, value(service, "ImagePath", command));
        pass(
            &mut filter,
            ms + 10,
            1,
            start(number, CMD, command, SERVICES, "0x3e7"),
        )
        .expect("an alert")
    };
    let local = low(0, 7, "abcdef", r"cmd.exe /c echo abcdef > \\.\pipe\abcdef");
    let plain = low(9_000, 8, "ghijkl", "cmd.exe /c net user x /add");
    assert_eq!(
        (&local["severity"], &plain["severity"]),
        (&json!("low"), &json!("low"))
    );
    assert_ne!(local["id"], plain["id"]);
    let told = pass(&mut filter, 10_500, 3, connection("System", 4, "445")).expect("a revision");
    assert_eq!(
        (&told["id"], &told["severity"]),
        (&plain["id"], &json!("high"))
    );
}

/// Each command of a shell is low until its service is deleted; by then the ones before it are more.
#[test]
fn plain_commands_of_a_shell_are_one() {
    let mut filter = Filter::new(Default::default());
    let mut told = Vec::new();
    for number in 0..3 {
        let (ms, service) = (i64::from(number) * 3_000, format!("service{number}"));
        for (name, details) in [
            ("Type", "DWORD (0x00000010)"),
            ("ImagePath", "cmd.exe /c net user x /add"),
        ] {
            told.extend(pass(&mut filter, ms, 13, value(&service, name, details)));
        }
        told.extend(pass(
            &mut filter,
            ms + 60,
            1,
            start(
                7 + number,
                CMD,
                "cmd.exe /c net user x /add",
                SERVICES,
                "0x3e7",
            ),
        ));
        told.extend(pass(
            &mut filter,
            ms + 900,
            13,
            value(&service, "DeleteFlag", "DWORD (0x00000001)"),
        ));
    }
    assert!(
        told.len() >= 2 && told.iter().all(|alert| alert["id"] == told[0]["id"]),
        "{told:?}"
    );
}

/// PsExec for SYSTEM on the own machine stays what it was when the file's event is no longer remembered.
#[test]
fn what_was_local_does_not_become_lateral_by_forgetting() {
    const TOOL: &str = r"C:\Windows\PSEXESVC.exe";
    let mut filter = Filter::new(Default::default());
    pass(&mut filter, 0, 11, file(r"C:\Tools\PsExec64.exe", TOOL));
    pass(
        &mut filter,
        118_000,
        13,
        value("PSEXESVC", "Type", "DWORD (0x00000010)"),
    );
    pass(
        &mut filter,
        118_000,
        13,
        value("PSEXESVC", "ImagePath", r"%%SystemRoot%%\PSEXESVC.exe"),
    );
    let told = pass(
        &mut filter,
        118_100,
        1,
        start(7, TOOL, TOOL, SERVICES, "0x3e7"),
    )
    .expect("an alert");
    assert_eq!(
        (&told["severity"], &told["lateral"]),
        (&json!("low"), &json!(false))
    );
    pass(&mut filter, 320_000, 11, file("System", r"D:\Share\a.docx"));
    assert_eq!(
        pass(&mut filter, 119_600, 3, connection("System", 4, "445")),
        None,
        "a client of the host's shares, told late"
    );
}

/// Several records of other years in a row are no reason to forget what is going on.
#[test]
fn wild_times_in_a_row_do_not_hide_an_attack() {
    const DAY: i64 = 86_400_000;
    let mut filter = Filter::new(Default::default());
    pass(&mut filter, 0, 11, file("System", r"C:\Windows\a.exe"));
    for days in [800, 25_000, -4_000] {
        pass(
            &mut filter,
            days * DAY,
            11,
            file("System", r"C:\Windows\b.exe"),
        );
    }
    pass(&mut filter, 50, 11, file("System", r"D:\Share\a.docx"));
    assert!(
        pass(
            &mut filter,
            80,
            1,
            start(7, r"C:\Windows\a.exe", "a.exe", SERVICES, "0x3e7")
        )
        .is_some()
    );
}
