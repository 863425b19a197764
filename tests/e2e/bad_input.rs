//! Records that no shipper should send, and some do: each passes unchanged and is counted by its reason.

use psexec_filter::engine::{Answer, CallError};
use psexec_filter_tests::{Host, alerts, counter, engines, module, policy_engine};
use serde_json::json;

const MIB: usize = 1024 * 1024;

/// A file event that some chain wants, its text padded to so many bytes.
fn padded(bytes: usize) -> Vec<u8> {
    let record = Host::new("PC1").event(
        11,
        0,
        json!({"Image": "System", "TargetFilename": r"C:\Windows\a.exe", "Zpad": "PAD"}),
    );
    let missing = bytes.checked_sub(record.len()).expect("long enough") + 3;
    record.replace("PAD", &"x".repeat(missing)).into_bytes()
}

fn wanted() -> String {
    Host::new("PC1").file(0, "System", r"C:\Windows\a.exe")
}

fn replaced(from: &str, to: &[u8]) -> Vec<u8> {
    let record = wanted();
    let (before, after) = record.split_once(from).expect("it is there");
    [before.as_bytes(), to, after.as_bytes()].concat()
}

#[test]
fn a_bad_record_passes_unchanged_and_is_counted_by_its_reason() {
    let open = wanted().strip_suffix('}').expect("an object").to_owned();
    let nested = |with: &str, count: usize| {
        format!(
            "{{\"a\":{},{}",
            with.repeat(count),
            wanted().strip_prefix('{').expect("an object")
        )
        .into_bytes()
    };
    let table: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", Vec::new(), "unparsed_empty"),
        ("blank", b" \t ".to_vec(), "unparsed_empty"),
        ("4 MiB", padded(4 * MIB), "evidence"),
        (
            "4 MiB and a byte",
            padded(4 * MIB + 1),
            "unparsed_too_large",
        ),
        (
            "cut inside a key",
            open.as_bytes()[..20].to_vec(),
            "unparsed_truncated",
        ),
        (
            "cut inside a string",
            open.as_bytes()[..open.len() - 1].to_vec(),
            "unparsed_truncated",
        ),
        (
            "the last brace is missing",
            open.clone().into_bytes(),
            "unparsed_truncated",
        ),
        (
            "an array 100,000 deep",
            nested(&"[".repeat(100_000), 1),
            "unparsed_too_deep",
        ),
        (
            "objects 100,000 deep",
            nested("{\"a\":", 100_000),
            "unparsed_too_deep",
        ),
        (
            "objects where events stand",
            format!("{}1{}", "{\"Event\":".repeat(50_000), "}".repeat(50_000)).into_bytes(),
            "unparsed_too_deep",
        ),
        ("a list", b"[1,2]".to_vec(), "unparsed_not_object"),
        ("a string", b"\"x\"".to_vec(), "unparsed_not_object"),
        ("a number", b"1".to_vec(), "unparsed_not_object"),
        (
            "text",
            b"Sep 14 09:52:33 WS01 sysmon: hello".to_vec(),
            "unparsed_not_object",
        ),
        (
            "not UTF-8",
            replaced("a.exe", b"caf\xe9\xff.exe"),
            "invalid_utf8",
        ),
        (
            "a key twice",
            replaced("{", br#"{"Image":"C:\\x.exe","Image":"System","#),
            "duplicate_keys",
        ),
        ("NUL between members", replaced(",", b",\0"), "unparsed_nul"),
        (
            "NUL as a value",
            replaced("\"Microsoft-Windows-Sysmon\"", b"\0"),
            "unparsed_nul",
        ),
        (
            "no comma, no colon",
            replaced(":", b" "),
            "unparsed_malformed",
        ),
        (
            "no value",
            replaced("\"Microsoft-Windows-Sysmon\"", b""),
            "unparsed_malformed",
        ),
        (
            "another provider",
            replaced("Microsoft-Windows-Sysmon\"", b"Somebody-Elses\""),
            "wrong_provider",
        ),
        ("no host", replaced("\"PC1\"", b"null"), "no_host"),
        (
            "no time",
            replaced("\"2024-09-14T09:00:00.000Z\"", b"\"yesterday\""),
            "no_time",
        ),
        (
            "no path",
            replaced("\"TargetFilename\"", b"\"Other\""),
            "incomplete",
        ),
    ];
    for (what, record, reason) in table {
        for (engine, mut module) in engines(module()) {
            // Another record first: nothing of it may be left where the next one is read.
            let answer = module.call("t", 0, 0, wanted().replace("PC1", "PC0").as_bytes());
            assert_eq!(answer, Ok(Answer::Unchanged));
            let before = counter(&mut *module, reason);
            assert_eq!(
                module.call("t", 0, 0, &record),
                Ok(Answer::Unchanged),
                "{what} on {engine}"
            );
            assert_eq!(
                counter(&mut *module, reason),
                before + 1,
                "{what} on {engine}"
            );
            assert_eq!(counter(&mut *module, "records"), 2, "{what} on {engine}");
            // The records after it are examined as usual.
            let last = alerts(&mut *module, &Host::new("PC2").psexec(0, 7, "10.55.1.77")).pop();
            assert_eq!(
                last.map(|alert| alert["severity"].clone()),
                Some(json!("critical")),
                "{what} on {engine}"
            );
        }
    }
}

/// A NUL inside a string is no valid JSON, but no reason to overlook the event. The record cannot carry the alert, because Fluent Bit
/// would read up to the NUL only.
#[test]
fn a_record_with_a_nul_in_a_string_is_examined_and_carries_no_alert() {
    for (engine, mut module) in engines(module()) {
        let host = Host::new("PC1");
        assert_eq!(
            alerts(&mut *module, &[host.file(0, "System", r"C:\Windows\a.exe")]).len(),
            0
        );
        let start = host
            .start(50, 1, r"C:\Windows\a.exe")
            .replace("NT AUTHORITY", "NT\0AUTHORITY");
        assert_eq!(
            module.call("t", 0, 0, start.as_bytes()),
            Ok(Answer::Unchanged),
            "{engine}"
        );
        assert_eq!(counter(&mut *module, "put_off"), 1, "{engine}");
        let next = host.connection(1_000, "127.0.0.1");
        assert_eq!(alerts(&mut *module, &[next]).len(), 1, "{engine}");
    }
}

/// A record that would carry an alert and is cut, wherever, passes unchanged. The whole record carries the alert afterwards.
#[test]
fn a_record_cut_anywhere_passes_unchanged() {
    for (engine, mut module) in engines(module()) {
        let host = Host::new("PC1");
        let start = host.start(50, 1, r"C:\Windows\a.exe");
        assert_eq!(alerts(&mut *module, &[wanted()]).len(), 0, "{engine}");
        for length in 0..start.len() {
            let cut = start.as_bytes().get(..length).expect("within");
            assert_eq!(
                module.call("t", 0, 0, cut),
                Ok(Answer::Unchanged),
                "{length} bytes on {engine}"
            );
        }
        assert_eq!(alerts(&mut *module, &[start]).len(), 1, "{engine}");
    }
}

#[test]
fn a_policy_can_lower_the_length_up_to_which_records_are_examined() {
    let (_, mut module) = policy_engine("[limits]\nmax_record_bytes = 2048");
    for (bytes, count) in [(2_048, 0), (2_049, 1)] {
        assert_eq!(
            module.call("t", 0, 0, &padded(bytes)),
            Ok(Answer::Unchanged)
        );
        assert_eq!(counter(&mut *module, "unparsed_too_large"), count);
    }
}

/// A record far beyond the limit does not fit into the module's memory. The caller gets an error and keeps the record.
#[test]
fn a_record_larger_than_the_memory_is_an_error_and_changes_nothing() {
    for (engine, mut module) in engines(module()) {
        let huge = padded(8 * MIB);
        assert_eq!(
            module.call("t", 0, 0, &huge),
            Err(CallError::NoMemory(huge.len())),
            "{engine}"
        );
        let last = alerts(&mut *module, &Host::new("PC2").psexec(0, 7, "10.55.1.77")).pop();
        assert_eq!(
            last.map(|alert| alert["severity"].clone()),
            Some(json!("critical")),
            "{engine}"
        );
    }
}
