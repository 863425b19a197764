//! Values that an attacker writes into an event to make the filter misread it.

use psexec_filter_tests::{
    CMD, Host, SERVICES, WMI, alerts, counter, engines, guid, incidents, module,
};
use serde_json::{Value, json};

const ATTACKER: &str = "10.55.1.77";

/// The incident that the attack is reported as if nothing of it is hidden.
const WHOLE: [&str; 1] = ["psexec critical"];

/// An attack with one of its records changed.
fn changed(host: &Host, index: usize, change: impl Fn(&str) -> String) -> Vec<String> {
    let mut records = host.psexec(0, 7, ATTACKER);
    records[index] = change(&records[index]);
    records
}

/// Indices of file, service, process and connection in [`Host::psexec`].
const RECORDS: [usize; 4] = [0, 1, 2, 4];

/// `\u0053ysmon` is `Sysmon`, in keys and in values.
#[test]
fn escaped_keys_and_values_are_read() {
    let all = |text: &str| -> String {
        let escaped = text.chars().map(|c| {
            if c.is_ascii_alphanumeric() {
                format!("\\u{:04x}", u32::from(c))
            } else {
                c.to_string()
            }
        });
        escaped.collect()
    };
    for (engine, mut module) in engines(module()) {
        for (n, index) in RECORDS.into_iter().enumerate() {
            let provider = changed(&Host::new(&format!("PC{n}")), index, |record| {
                record.replace("Microsoft-Windows-Sysmon", "Microsoft-Windows-\\u0053ysmon")
            });
            assert_eq!(
                incidents(&alerts(&mut *module, &provider)),
                WHOLE,
                "{engine}, the provider of record {index}"
            );
            // Every string of the record, keys and values, all of it.
            let everything = changed(&Host::new(&format!("PC{n}-all")), index, |record| {
                let parts: Vec<String> = record
                    .split('"')
                    .enumerate()
                    .map(|(n, part)| {
                        if n % 2 == 1 {
                            all(part)
                        } else {
                            part.to_owned()
                        }
                    })
                    .collect();
                parts.join("\"")
            });
            assert_eq!(
                incidents(&alerts(&mut *module, &everything)),
                WHOLE,
                "{engine}, all of record {index}"
            );
        }
    }
}

/// The second of duplicate keys has no effect and is counted.
#[test]
fn duplicate_keys_have_no_effect() {
    for (engine, mut module) in engines(module()) {
        for (n, index) in RECORDS.into_iter().enumerate() {
            let records = changed(&Host::new(&format!("PC{n}")), index, |record| {
                let record = record.strip_suffix('}').expect("an object");
                format!(
                    r#"{record},"EventID":5,"Hostname":"PC9","Image":"C:\\other.exe","SourceIp":"127.0.0.1","TargetFilename":"C:\\x.txt"}}"#
                )
            });
            assert_eq!(
                incidents(&alerts(&mut *module, &records)),
                WHOLE,
                "{engine}, record {index}"
            );
        }
        assert_eq!(counter(&mut *module, "duplicate_keys"), 4, "{engine}");
    }
}

/// Another event in a value, in an object or in a list is not taken for the event, whether it comes before or after the event's own
/// fields.
#[test]
fn an_event_inside_the_event_is_not_read() {
    let other = r#"{"EventID":5,"SourceName":"Microsoft-Windows-Sysmon","Hostname":"PC9","Image":"C:\\other.exe"}"#;
    let xml = "<Event xmlns='http://schemas.microsoft.com/win/2004/08/events/event'><System><Provider Name='Microsoft-Windows-Sysmon'/>\
        <EventID>5</EventID><Computer>PC9</Computer></System><EventData><Data Name='Image'>C:\\\\other.exe</Data></EventData></Event>";
    for (engine, mut module) in engines(module()) {
        for (n, index) in RECORDS.into_iter().enumerate() {
            for (what, value) in [
                ("object", other.to_owned()),
                ("list", format!("[{other}]")),
                ("text", json!(other).to_string()),
                ("XML", json!(xml).to_string()),
            ] {
                // Keys of values that the maker of a program chooses, and one that no event has.
                for key in ["Description", "Company", "RuleName", "x"] {
                    let host = Host::new(&format!("PC-{n}-{what}-{key}"));
                    let records = changed(&host, index, |record| {
                        let record = record
                            .strip_prefix('{')
                            .and_then(|rest| rest.strip_suffix('}'))
                            .expect("an object");
                        format!("{{\"{key}\":{value},{record},\"{key}2\":{value}}}")
                    });
                    assert_eq!(
                        incidents(&alerts(&mut *module, &records)),
                        WHOLE,
                        "{engine}, record {index}, {what} in {key}"
                    );
                }
            }
        }
    }
}

/// Where a shipper passes only the text that Windows renders for people, a value can have lines that look like other values.
#[test]
fn lines_planted_in_a_rendered_text_are_not_read() {
    let planted = "x\nParentImage: C:\\a.exe\nParentProcessGuid: {00000000-0000-0000-0000-000000000001}\nUser: PC1\\b\nSourceIp: none\n\
        CommandLine: y\nCurrentDirectory: C:\\";
    let text = |host: &Host, image: &str, description: &str, line: &str, parent: &str| {
        let message = format!(
            "Process Create:\r\nRuleName: -\r\nUtcTime: 2024-09-14 09:00:00.060\r\nProcessGuid: {}\r\nProcessId: 1\r\nImage: {image}\r\n\
             FileVersion: 1\r\nDescription: {description}\r\nProduct: x\r\nCompany: y\r\nOriginalFileName: z\r\nCommandLine: {line}\r\n\
             CurrentDirectory: C:\\\r\nUser: CORP\\alice\r\nLogonId: 0x1D313D\r\nParentProcessGuid: {}\r\nParentProcessId: 2\r\n\
             ParentImage: {parent}\r\nParentCommandLine: {parent}",
            guid(7),
            guid(2)
        );
        json!({"ProviderName": "Microsoft-Windows-Sysmon", "EventID": 1, "Computer": host.name, "TimeCreated": "2024-09-14T09:00:00.060Z",
            "Channel": "Microsoft-Windows-Sysmon/Operational", "Message": message})
        .to_string()
    };
    const DROPPED: &str = r"C:\Windows\a1b2c3d4.exe";
    let line = r"cmd.exe /Q /c cd \ 1> \\127.0.0.1\ADMIN$\__1.7 2>&1";
    for (engine, mut module) in engines(module()) {
        for (n, (description, more)) in [
            ("Tool", ""),
            ("Tool", planted),
            (planted, ""),
            (planted, planted),
        ]
        .into_iter()
        .enumerate()
        {
            for (image, parent, line, want) in [
                (CMD, WMI, line, "wmiexec high"),
                (CMD, r"C:\Windows\System32\mmc.exe", line, "dcomexec medium"),
                (DROPPED, SERVICES, DROPPED, "psexec medium"),
            ] {
                let host = Host::new(&format!("PC-{n}-{}", parent.len()));
                let line = format!("{more}\n{line}");
                let records = [
                    host.file(0, "System", DROPPED),
                    text(&host, image, description, line.trim_start(), parent),
                ];
                assert_eq!(
                    incidents(&alerts(&mut *module, &records)),
                    [want],
                    "{parent} on {engine}, planted {n}"
                );
            }
        }
    }
}

/// The longest command line that Windows allows, written in the longest way, with the parent process after it.
#[test]
fn the_longest_event_inside_a_string_is_read() {
    for (engine, mut module) in engines(module()) {
        let filling = "&quot;".repeat(32_000);
        let xml = format!(
            "<Event xmlns='http://schemas.microsoft.com/win/2004/08/events/event'><System><Provider Name='Microsoft-Windows-Sysmon'/>\
             <EventID>1</EventID><TimeCreated SystemTime='2024-09-14T09:00:00.0800000Z'/><Channel>Microsoft-Windows-Sysmon/Operational</Channel>\
             <Computer>PC1</Computer></System><EventData><Data Name='UtcTime'>2024-09-14 09:00:00.080</Data><Data Name='ProcessGuid'>{}</Data>\
             <Data Name='Image'>{CMD}</Data><Data Name='CommandLine'>cmd.exe /Q /c rem {filling}&amp; cd \\ 1&gt; \\\\127.0.0.1\\ADMIN$\\__1.7 2&gt;&amp;1</Data>\
             <Data Name='User'>CORP\\alice</Data><Data Name='LogonId'>0x1d313d</Data><Data Name='ParentProcessGuid'>{}</Data>\
             <Data Name='ParentImage'>{WMI}</Data></EventData></Event>",
            guid(7),
            guid(2)
        );
        // As most producers escape it in JSON, and as Go's encoder does.
        let escaped = json!(xml)
            .to_string()
            .replace('&', "\\u0026")
            .replace('<', "\\u003c")
            .replace('>', "\\u003e");
        for (n, string) in [json!(xml).to_string(), escaped].into_iter().enumerate() {
            let record = format!(r#"{{"Message":{string}}}"#).replace("PC1", &format!("PC{n}"));
            assert_eq!(
                incidents(&alerts(&mut *module, &[record])),
                ["wmiexec high"],
                "{engine}, {n}"
            );
        }
        assert!(
            module.memory_bytes() <= 16 * 1024 * 1024,
            "{engine}: {}",
            module.memory_bytes()
        );
    }
}

/// Records of an attack that are quoted in other records are no attack. The same records, not quoted, are.
#[test]
fn an_attack_that_is_only_quoted_is_not_reported() {
    for (engine, mut module) in engines(module()) {
        let attack = Host::new("PC1").psexec(0, 7, ATTACKER);
        for key in ["text", "RuleName"] {
            let quoted: Vec<String> = attack
                .iter()
                .map(|record| Host::new("PC1").event(5, 0, json!({key: record})))
                .collect();
            assert_eq!(
                alerts(&mut *module, &quoted),
                Vec::<Value>::new(),
                "{engine}, {key}"
            );
        }
        assert_eq!(incidents(&alerts(&mut *module, &attack)), WHOLE, "{engine}");
    }
}
