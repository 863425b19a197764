//! Tests of reading whole records.

use super::*;

struct Only11;

impl Prefilter for Only11 {
    fn wants(&self, event_id: u32) -> bool {
        event_id == 11
    }

    fn fields(&self, _: u32) -> u64 {
        Field::TargetFilename.bit()
    }

    fn rejects(&self, _: u32, so_far: &Fields<'_>) -> bool {
        so_far
            .text(Field::TargetFilename)
            .is_some_and(|file| file.to_lowercase().ends_with("rejected"))
    }
}

fn fields(record: &str) -> Fields<'_> {
    match read(record.as_bytes(), &mut Reader::default(), &Only11) {
        Ok(Some(fields)) => fields,
        Ok(None) => panic!("unwanted: {record}"),
        Err(fault) => panic!("{fault:?}: {record}"),
    }
}

fn outcome(record: &[u8]) -> Result<bool, Fault> {
    read(record, &mut Reader::default(), &Only11).map(|reading| reading.is_some())
}

#[test]
fn the_envelope_is_trusted_in_the_order_of_the_tables() {
    let flat = fields(
        r#"{"@timestamp":"collector","Hostname":"H","EventTime":"logged","EventID":"11","Image":"System","host":"wec"}"#,
    );
    assert_eq!(flat.text(Field::LoggedTime).as_deref(), Some("logged"));
    assert_eq!(flat.text(Field::Computer).as_deref(), Some("H"));
    assert_eq!(flat.text(Field::Image).as_deref(), Some("System"));
    let object = fields(
        r##"{ "Event" : { "System" : { "EventID" : { "#text" : 11 } , "Computer":"C" } } }"##,
    );
    assert_eq!(object.number(Field::EventId), Some(11));
    assert_eq!(object.text(Field::Computer).as_deref(), Some("C"));
}

#[test]
fn a_certain_host_is_not_replaced_by_a_later_member() {
    let paths = producers::PRODUCERS
        .iter()
        .flat_map(|producer| producer.envelope)
        .filter(|(_, field)| *field == Field::Computer);
    let mut certain = 0;
    for (path, _) in paths {
        let member = |value: &str| {
            path.rsplit('.').fold(format!("\"{value}\""), |value, key| {
                format!(r#"{{"{key}":{value}}}"#)
            })
        };
        let own = member("own");
        let own = &own[1..own.len() - 1];
        let is_host_name = *path == "host.name";
        for record in [
            format!(r#"{{"EventID":11,{own}}}"#),
            format!(r#"{{"EventID":11,{own},"host":{{"name":"collector"}}}}"#),
            format!(r#"{{"host":{{"name":"collector"}},"EventID":11,{own}}}"#),
        ] {
            let fields = fields(&record);
            assert_eq!(fields.has_certain_host(), !is_host_name, "{record}");
            if !is_host_name {
                assert_eq!(
                    fields.text(Field::Computer).as_deref(),
                    Some("own"),
                    "{record}"
                );
                certain += 1;
            }
        }
        let copy = format!(r#"{{"EventID":11,"fields":{{"{path}":["own"]}}}}"#);
        assert!(!fields(&copy).has_certain_host(), "{copy}");
    }
    assert!(certain >= 27, "{certain}");
    for record in [
        r#"{"EventID":11}"#,
        r#"{"EventID":11,"host":{"name":"collector"}}"#,
        r#"{"EventID":11,"host":"collector"}"#,
    ] {
        assert!(!fields(record).has_certain_host(), "{record}");
    }
    let xml = "<Event><System><EventID>11</EventID><Computer>own</Computer></System></Event>";
    let inside = format!(r#"{{"host":{{"name":"collector"}},"xml":"{xml}"}}"#);
    assert!(fields(&inside).has_certain_host());
}

#[test]
fn escapes_and_duplicates_do_not_hide_values() {
    let hidden = fields(
        r#"{"\u0045ventID":11,"Parent\u0050rocessGuid":"{g}","Image":"a","Image":"b","ProviderName":"Micro\u0073oft"}"#,
    );
    assert_eq!(
        hidden.text(Field::ParentProcessGuid).as_deref(),
        Some("{g}")
    );
    assert_eq!(hidden.text(Field::Provider).as_deref(), Some("Microsoft"));
    assert_eq!(hidden.text(Field::Image).as_deref(), Some("a"));
    assert_eq!(hidden.duplicates, 1);
}

#[test]
fn a_nested_or_quoted_copy_of_an_event_is_not_the_event() {
    assert_eq!(
        outcome(br#"{"x":{"EventID":11},"y":"\"EventID\":11","EventID":5}"#),
        Ok(false)
    );
    assert_eq!(outcome(br#"{"x":[{"EventID":5}],"EventID":11}"#), Ok(true));
}

#[test]
fn wrapped_flattened_and_listed_values_are_found() {
    for record in [
        r#"{"_source":{"winlog":{"event_id":"11","event_data":{"Image":"System"}}},"fields":{"winlog.event_data.Image":["copy"]}}"#,
        r#"{"fields":{"winlog.event_id":["11"],"winlog.event_data.Image":["System"]}}"#,
        r#"{"winlog.event_id":11,"winlog":{"event_data.Image":"System"}}"#,
        r#"{"event.code":"11","process.executable":"System"}"#,
        r#"{"document":{"data":{"Event":{"System":{"EventID":11},"EventData":{"Image":"System"}}}}}"#,
        r#"{"data.win.system.eventID":"11","data":{"win":{"eventdata":{"image":"System"}}}}"#,
        r#"{"winlog.\u0065vent_id":[ 11 ],"Image":"System"}"#,
    ] {
        assert_eq!(
            fields(record).text(Field::Image).as_deref(),
            Some("System"),
            "{record}"
        );
        assert_eq!(fields(record).duplicates, 0, "{record}");
    }
    for record in [
        r#"{"EventID":[11,5]}"#,
        r#"{"EventID":[]}"#,
        r#"{"EventID":[[11]]}"#,
        r#"{"EventID":[{"x":11}]}"#,
    ] {
        assert_eq!(outcome(record.as_bytes()), Ok(false), "{record}");
    }
}

#[test]
fn the_time_of_the_event_is_trusted_over_that_of_a_relay() {
    for record in [
        r#"{"timestamp":"relay","message":{"event_id":{"id":11},"system_time":"own"}}"#,
        r#"{"timestamp":"relay","data":{"win":{"system":{"eventID":"11","systemTime":"own"}}}}"#,
        r#"{"@timestamp":"relay","EventTime":"own","EventID":11}"#,
        r#"{"timestamp":"relay","message":"{\"EventID\":11,\"TimeCreated\":\"own\"}"}"#,
    ] {
        assert_eq!(
            fields(record).text(Field::LoggedTime).as_deref(),
            Some("own"),
            "{record}"
        );
    }
}

#[test]
fn values_in_parts_or_in_other_words_are_derived() {
    let ecs = fields(
        r#"{"event":{"code":"11"},"user":{"name":"alice","domain":"CORP"},"network":{"direction":"ingress"},
            "process":{"hash":{"md5":"ab","sha256":"cd"}},"source":{"ip":"10.0.0.5","port":50211}}"#,
    );
    assert_eq!(ecs.text(Field::User).as_deref(), Some("CORP\\alice"));
    assert_eq!(ecs.text(Field::Hashes).as_deref(), Some("MD5=AB,SHA256=CD"));
    assert_eq!(ecs.truth(Field::Initiated), Some(false));
    assert_eq!(ecs.number(Field::IpPort), Some(50211));
    assert_eq!(ecs.text(Field::IpAddress).as_deref(), Some("10.0.0.5"));
    let wazuh = fields(
        r#"{"win":{"system":{"eventID":"11"},"eventdata":{"image":"C:\\\\a &amp; b\\\\services.exe"}}}"#,
    );
    assert_eq!(
        wazuh.text(Field::Image).as_deref(),
        Some(r"C:\a & b\services.exe")
    );
    assert!(!wazuh.ends_with_none_of(Field::Image, &Suffixes::new(&["services.exe"])));
}

#[test]
fn every_way_to_write_nothing_is_no_value() {
    for nothing in [r#""-""#, r#""""#, "null", r#""(NULL)""#, "[]", "{}"] {
        let record = format!(r#"{{"EventID":11,"Image":{nothing},"TargetFilename":"x"}}"#);
        assert_eq!(fields(&record).text(Field::Image), None, "{record}");
    }
    assert_eq!(fields(r#"{"EventID":11}"#).text(Field::Image), None);
}

#[test]
fn bytes_that_are_no_text_are_replaced_and_reported() {
    let long = "a".repeat(2 * MAX_TEXT);
    for (raw, text, is_invalid) in [
        (
            b"a\\u0001b\\u007f\\tc".to_vec(),
            "a\u{fffd}b\u{fffd}\tc".to_owned(),
            false,
        ),
        (b"a\x01b\\\\".to_vec(), "a\u{fffd}b\\".to_owned(), false),
        (b"B\xdcRO".to_vec(), "B\u{fffd}RO".to_owned(), true),
        (
            "B\u{dc}RO".as_bytes().to_vec(),
            "B\u{dc}RO".to_owned(),
            false,
        ),
        // After the cut.
        (
            [long.as_bytes(), b"\xdc"].concat(),
            "a".repeat(MAX_TEXT),
            true,
        ),
        (
            [br"C:\\".as_slice(), long.as_bytes(), b"\xdc"].concat(),
            format!(r"C:\{}", "a".repeat(MAX_TEXT - 3)),
            true,
        ),
    ] {
        let record = [br#"{"EventID":11,"Image":""#.as_slice(), &raw, br#""}"#].concat();
        let fields = read(&record, &mut Reader::default(), &Only11)
            .expect("it is JSON")
            .expect("it is wanted");
        assert_eq!(fields.text(Field::Image).as_deref(), Some(&*text));
        assert_eq!(fields.invalid_utf8.get(), is_invalid, "{text}");
    }
}

#[test]
fn text_that_only_looks_like_an_event_is_none() {
    let event = r"<Event><System><EventID>11</EventID></System></Event>";
    for string in [
        "Sysmon",
        "Microsoft-Windows-Sysmon EventID=11",
        &format!("a user typed {event}"),
        r#"note {\"EventID\":11}"#,
        r"EventID=11\nProviderName=Microsoft-Windows-Sysmon",
        r"Process Create:\nUtcTime: 2024-09-14 09:52:34.210\nProcessGuid: {3f1a2b4c-5cd2-66e5-a907-000000004100}\nImage: C:\\a.exe",
        &format!(r#"{}\tMSWinEventLog\t1\tc\t1\tt\t11\tp"#, "x".repeat(200)),
        r"MSWinEventLog 1 c 1 t 11 p",
        r"<Event><System><EventID>11",
        r#"{\"EventID\":5}"#,
        r#"{\"x\":{\"EventID\":11}}"#,
        r#"{\"message\":\"{\\\"message\\\":\\\"{\\\\\\\"EventID\\\\\\\":11}\\\"}\"}"#,
    ] {
        for key in ["message", "log", "Message", "_raw"] {
            let record = format!(r#"{{"{key}":"{string}"}}"#);
            assert_eq!(outcome(record.as_bytes()), Ok(false), "{record}");
        }
    }
    // Nor is it one inside a value of another event.
    let quoted = format!(r#"{{"EventID":5,"CommandLine":"{event}","message":"{event}"}}"#);
    assert_eq!(outcome(quoted.as_bytes()), Ok(false));
    let quoted =
        format!(r#"{{"Image":"{event}","EventID":11,"CommandLine":"{{\"Image\":\"x\"}}"}}"#);
    assert_eq!(fields(&quoted).text(Field::Image).as_deref(), Some(event));
}

#[test]
fn the_walk_ends_at_an_unwanted_id() {
    // What follows is not even JSON, but is not read.
    assert_eq!(outcome(br#"{"EventID":5,!!!"#), Ok(false));
    // It also ends once both the id and a value that rejects the event are known, in either order.
    assert_eq!(
        outcome(br#"{"EventID":11,"TargetFilename":"c:\\Rejected",!!!"#),
        Ok(false)
    );
    assert_eq!(
        outcome(br#"{"TargetFilename":"rejected","EventID":11,!!!"#),
        Ok(false)
    );
    assert_eq!(
        outcome(br#"{"TargetFilename":"other","EventID":11}"#),
        Ok(true)
    );
}

#[test]
fn each_fault_is_named() {
    for (record, want) in [
        (&b""[..], Fault::Empty),
        (b"  ", Fault::Empty),
        (b"[1]", Fault::NotObject),
        (b"{\"EventID\":11", Fault::Truncated),
        (b"{\"EventID\":11,\"Image\":\"x", Fault::Truncated),
        (b"{\"EventID\":11,\"a\":", Fault::Truncated),
        (b"{\"EventID\":11,\"a\":[[[", Fault::Truncated),
        (b"{\"EventID\" 11}", Fault::Malformed),
        (b"{\"a\":,\"EventID\":11}", Fault::Malformed),
        (b"{\"a\":1,\0\"EventID\":11}", Fault::Nul),
        (b"{\"a\":\0,\"EventID\":11}", Fault::Nul),
    ] {
        assert_eq!(
            outcome(record),
            Err(want),
            "{}",
            String::from_utf8_lossy(record)
        );
    }
    let deep = format!(
        "{{\"a\":{}{},\"EventID\":11}}",
        "[".repeat(200),
        "]".repeat(200)
    );
    assert_eq!(outcome(deep.as_bytes()), Err(Fault::TooDeep));
    let fits = format!(
        "{{\"a\":{}{},\"EventID\":11}}",
        "[".repeat(128),
        "]".repeat(128)
    );
    assert_eq!(outcome(fits.as_bytes()), Ok(true));
}

/// Everything that was read from a record.
fn all_of(record: &str, reader: &mut Reader) -> Result<Option<String>, Fault> {
    let fields = read(record.as_bytes(), reader, &Only11)?;
    Ok(fields.map(|fields| {
        format!(
            "{:?} {:?} {}",
            fields.places, fields.decoded, fields.duplicates
        )
    }))
}

#[test]
fn more_keys_than_can_be_predicted_are_read_correctly() {
    let mut reader = Reader::default();
    let record = |n: u32| {
        let others: String = (0..64)
            .map(|key| format!(r#""Nobody{}":"x","#, n * 61 + key))
            .collect();
        format!(r#"{{{others}"EventID":11,{others}"Image":"{n}",{others}"TargetFilename":"x"}}"#)
    };
    for n in 0..100 {
        let record = record(n);
        let fields = read(record.as_bytes(), &mut reader, &Only11)
            .unwrap()
            .unwrap();
        assert_eq!(fields.text(Field::Image), Some(n.to_string().into()));
    }
}

proptest::proptest! {
    #[test]
    fn earlier_records_do_not_change_what_is_read(
        records in proptest::collection::vec(
            r#"\{("EventID":11,)?(("(Image|Ima\\u0067e|User|Source|data|winlog|event_data|win|eventdata|image|fields|Nonsense|Sourc#|A key of 24 letters, 1234|EventData|System|EventID)"[ ]?:[ ]?|[{},])("[a\\]{0,2}(\\")?"|11|null|\{|\}|\["x"\]|[{]"EventID":11,)?[ ]?[,}]?){0,12}\}"#,
            1..8,
        ),
    ) {
        // After each record spaces as long as a transition can be, so that every transition can be followed.
        let records: Vec<String> = records.iter().map(|record| format!("{record}{}", " ".repeat(48))).collect();
        let mut reader = Reader::default();
        for _ in 0..2 {
            for record in &records {
                proptest::prop_assert_eq!(all_of(record, &mut reader), all_of(record, &mut Reader::default()), "{}", record);
            }
        }
    }

    #[test]
    fn first_and_last_agree_with_the_text(raw in r#"(\\\\|\\[nu"x]|\\u00(41|5c)|[aZ-]|null|é|\(NULL\)){0,5}"#) {
        let record = format!(r#"{{"EventID":11,"PipeName":"{raw}"}}"#);
        let fields = fields(&record);
        let text = fields.text(Field::PipeName).unwrap_or_default();
        let name = crate::normalize::lower(text.trim_start_matches('\\'));
        if let Some((first, last)) = fields.first_and_last(Field::PipeName) {
            proptest::prop_assert_eq!((name.bytes().next(), name.bytes().last()), (Some(first), Some(last)), "{}", raw);
        }
    }

    #[test]
    fn any_bytes_are_accepted(record: Vec<u8>) {
        let _ = outcome(&record);
    }

    #[test]
    fn any_string_in_a_string_is_accepted(
        key in "message|log|EventData|resourceLogs",
        text in r##"(<Event|</System>|<EventID>11<|<Data Name='Image'>|\\"|\{|\}|\[|\]|,|:|EventID|11|MSWinEventLog|\\t|\\n|ProviderName=|EventID=|Message=|Image: |é|\\)*"##,
    ) {
        for record in [format!(r#"{{"{key}":"{text}"}}"#), format!(r#"{{"EventID":11,"{key}":"{text}"}}"#)] {
            if let Ok(Some(fields)) = read(record.as_bytes(), &mut Reader::default(), &Only11) {
                proptest::prop_assert_eq!(fields.number(Field::EventId), Some(11));
            }
        }
    }

    #[test]
    fn any_list_is_accepted(
        key in "StringInserts|EventData|resourceLogs",
        text in r##"([{}\[\],:]|"(key|value|values|kvlistValue|stringValue|intValue|body|scopeLogs|logRecords|EventID|Image|11)"|11| )*"##,
    ) {
        for record in [format!(r#"{{"{key}":[{text}]}}"#), format!(r#"{{"EventID":11,"{key}":[{text}]}}"#)] {
            let _ = outcome(record.as_bytes());
        }
    }

    #[test]
    fn any_text_like_json_is_accepted(text in r##"\{("EventID":(11|"11"|\{"#text":11\})|"System":"<Event><EventID>11|"StringInserts":\["[0-9:. {}-]{0,24}"|"[a-zEI\\\\]{0,20}"|[{}\[\],:0-9])*"##) {
        if let Ok(Some(fields)) = read(text.as_bytes(), &mut Reader::default(), &Only11) {
            proptest::prop_assert_eq!(fields.number(Field::EventId), Some(11));
        }
    }
}
