use super::testing::{SECURITY, SYSMON, fact_of, needs, with_event};
use super::*;
use crate::normalize::address;
use crate::normalize::path::PathKey;
use crate::settings::wildcard::wildcard;
use proptest::sample::select;

const IMAGES: &[&str] = &[
    "System",
    r"C:\Windows\services.exe",
    r"C:\Windows\System32\wbem\WMIPRVSE.EXE",
    r"C:\Windows\System32\services.exe",
    r"C:\Windows\System32\mmc.exe",
    r"C:\x\x.txt",
    r"C:\x\x.exe",
    "?",
    "-",
    "",
];
const VALUES: &[&str] = &[
    r"\Services\s\ImagePath",
    r"\Services\s\Start",
    r"\services\s\start",
    r"\Services\s\x",
    r"\x\Start",
    "",
];
const PIPES: &[&str] = &[
    r"\psexesvc",
    r"\PSEXESVC-PC-1-stdin",
    r"\paexec",
    r"\x-STDERR",
    r"\x-in",
    r"\\remcom_x",
    "psexesvc",
    "-",
    "",
];
const TRACKED: &str = "3f1a2b4c-5cd2-66e5-a907-000000004100";
const PARENTS: &[&str] = &[
    r#""{3F1A2B4C-5CD2-66E5-A907-000000004100}""#,
    r#""3f1a2b4c-5cd2-66e5-a907-000000004100""#,
    r#""{3f1a2b4c-5cd2-66e5-a907-00000000410\u0030}""#,
    r#"" {3f1a2b4c-5cd2-66e5-a907-000000004100}""#,
    r#""{3f1a2b4c-5cd2-66e5-a907-000000004101}""#,
    r#""{00000000-0000-0000-0000-000000000000}""#,
    r#""-""#,
    "null",
];
const ADDRESSES: &[&str] = &["10.9.9.9", "10.55.1.77", "127.0.0.1", "::1", "-", ""];

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(4000))]

    /// An event that is rejected early holds neither evidence nor a new address of the host.
    #[test]
    fn an_event_that_is_rejected_early_is_no_evidence(
        id in select(&[1, 3, 11, 13, 17, 18, 29, 4624, 4634, 4672][..]),
        initiated in select(&["true", "false", ""][..]),
        protocol in select(&["tcp", "udp", "UDP", "-"][..]),
        addresses in (select(ADDRESSES), select(ADDRESSES)),
        ports in select(&[(445, 50_211), (50_211, 445), (443, 443)][..]),
        image in select(IMAGES),
        value in select(VALUES),
        pipe in select(PIPES),
        logon_type in select(&["3", "2", "-"][..]),
        session in select(&["0x5a1f2c", "0x3e7", "999", "0X3E7", "-", ""][..]),
        parent in select(PARENTS),
        is_tracked: bool,
        is_program_tracked: bool,
        is_known: bool,
    ) {
        let provider = if id > 4000 { SECURITY } else { SYSMON };
        let record = serde_json::json!({
            "EventID": id, "ProviderName": provider, "Computer": "PC1", "EventTime": "2024-09-14T09:52:33Z",
            "Initiated": initiated, "Protocol": protocol, "SourceIp": addresses.0, "SourcePort": ports.0,
            "DestinationIp": addresses.1, "DestinationPort": ports.1, "Image": image, "ParentImage": image,
            "TargetFilename": image, "TargetObject": format!("HKLM{value}"), "Details": "cmd", "PipeName": pipe,
            "LogonType": logon_type, "IpAddress": addresses.0, "TargetUserName": "alice",
            "TargetLogonId": session, "SubjectLogonId": session,
        });
        let record = record.to_string().replacen('{', &format!(r#"{{"ParentProcessGuid":{parent},"#), 1);
        let own = if is_known {
            OwnAddresses::with(address::parse("10.9.9.9").expect("an address"))
        } else {
            OwnAddresses::default()
        };
        let (needs, mut tracked) = (needs(), TrackedProcesses::default());
        if is_tracked {
            tracked.add(TRACKED, 1);
        }
        if is_program_tracked {
            tracked.add_program(&PathKey::new(r"C:\x\x.exe"));
        }
        let mut outcome = Ok(());
        with_event(&record, |event| {
            let known = Known { tracked: &tracked, owns: &|ip| own.contains(ip) };
            if !Prefilters::new(&needs).rejects(id, event.fields, &known) {
                return;
            }
            let context = Context { own: &own, tracked: &tracked, needs: &needs };
            let is_used = match Evidence::read(event, &context) {
                Reading::Evidence(evidence) => match &evidence.fact {
                    Fact::Pipe(pipe) => needs.pipes.iter().any(|pattern| wildcard(pattern, &pipe.key)),
                    Fact::ProcessStart(start) => start.parent != Parent::Other,
                    _ => true,
                },
                Reading::Irrelevant | Reading::Incomplete => false,
            };
            let mut taught = OwnAddresses::default();
            if is_known {
                taught = OwnAddresses::with(address::parse("10.9.9.9").expect("an address"));
            }
            taught.learn(event);
            if is_used || taught != own {
                outcome = Err(format!("used: {is_used}, taught: {}", taught != own));
            }
        });
        proptest::prop_assert_eq!(outcome, Ok(()), "{}", record);
    }
}

#[test]
fn every_kind_comes_of_an_event_that_is_read() {
    for kind in EvidenceKind::ALL {
        let mut ids = EVENT_IDS.iter();
        assert!(ids.any(|(_, kinds)| kinds.contains(kind)), "{kind:?}");
    }
}

#[test]
fn the_service_controller_is_recognized_however_it_is_written() {
    for parent in [
        r"C:\\Windows\\System32\\services.exe",
        r"c:\\WINDOWS\\system32\\Services.exe",
        r"C:\\Windows\\System32\/services.exe",
    ] {
        let record = format!(
            r#"{{"EventID":1,"ProviderName":"{SYSMON}","Computer":"PC1","EventTime":"2024-09-14T09:52:33Z","Image":"C:\\a.exe","ParentImage":"{parent}"}}"#
        );
        with_event(&record, |event| {
            let Some(Fact::ProcessStart(start)) = fact_of(event) else {
                panic!("{record}")
            };
            assert_eq!(start.parent, Parent::Services, "{parent}");
            assert_eq!(
                start.parent_image.as_deref(),
                event.fields.text(Field::ParentImage).as_deref(),
                "{parent}"
            );
        });
    }
}

#[test]
fn a_logon_session_is_read_in_every_form() {
    for (id, want) in [
        ("0x3e7", Some(0x3e7)),
        ("0x0", Some(0)),
        ("0X3E7", Some(0x3e7)),
        ("999", Some(999)),
        ("0xffffffffffffffff", Some(u64::MAX)),
        ("0x10000000000000000", None),
        (r"0\u0078\u0033e7", Some(0x3e7)),
        ("0x", None),
        ("0x-1", None),
        ("-", None),
    ] {
        let record = format!(
            r#"{{"EventID":4624,"ProviderName":"{SECURITY}","Computer":"PC1","EventTime":"2024-09-14T09:52:33Z","LogonType":3,"IpAddress":"10.9.9.9","TargetUserName":"alice","TargetLogonId":"{id}"}}"#
        );
        with_event(&record, |event| {
            assert_eq!(logon::session(event, Field::TargetLogonId), want, "{id}");
        });
    }
}

#[test]
fn a_service_is_a_key_directly_below_services() {
    for (target, service) in [
        (
            r"HKLM\System\CurrentControlSet\Services\PSEXESVC\Start",
            Some("PSEXESVC"),
        ),
        (
            r"\REGISTRY\MACHINE\SYSTEM\ControlSet001\services\x\START",
            Some("x"),
        ),
        (
            r"HKLM\System\CurrentControlSet\Services\services\Start",
            Some("services"),
        ),
        (
            r"HKLM\System\CurrentControlSet\Services\BTHPORT\Parameters\Services\y\Start",
            None,
        ),
        (
            r"HKLM\System\CurrentControlSet\Services\services\x\Start",
            None,
        ),
        (r"HKLM\System\CurrentControlSet\Services\\Start", None),
        (r"HKLM\System\CurrentControlSet\Services\Start", None),
        (r"HKLM\Software\x\Start", None),
    ] {
        let record = serde_json::json!({
            "EventID": 13, "ProviderName": SYSMON, "Computer": "PC1", "EventTime": "2024-09-14T09:52:33Z",
            "Image": "System", "TargetObject": target, "Details": "DWORD (0x00000003)",
        });
        with_event(&record.to_string(), |event| {
            let found = match fact_of(event) {
                Some(Fact::ServiceMark(mark)) => Some(mark.service),
                _ => None,
            };
            assert_eq!(found.as_deref(), service, "{target}");
        });
    }
}
