//! Whole numbers, in whatever way pipelines write them that know only floating-point numbers.

use psexec_filter_fixtures::Host;
use psexec_filter_plugin::filter::Filter;
use serde_json::Value;

const ATTACKER: &str = "10.55.1.77";

/// The record with each number (of its digits alone) written by `write`.
fn with_numbers(record: &str, write: fn(&str) -> String) -> String {
    let parts = record.split_inclusive(':').map(|part| {
        let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, rest) = part.split_at(digits);
        match number {
            "" => rest.to_owned(),
            _ if !rest.starts_with([',', '}']) => part.to_owned(),
            _ => write(number) + rest,
        }
    });
    parts.collect()
}

/// The last alert about a PsExec with a logon, whose numbers are written by `write`.
fn alert(write: fn(&str) -> String) -> Option<Value> {
    let host = Host::new("PC1");
    let mut records = vec![host.logon(-100, ATTACKER, "0x5555", "EVIL")];
    records.extend(host.psexec(0, 7, ATTACKER));
    // The connection before what it completes, so that one alert has everything.
    records[1..].rotate_right(1);
    let mut filter = Filter::new(Default::default());
    let alerts = records.iter().enumerate().filter_map(|(index, record)| {
        let mut record: Value = serde_json::from_str(record).expect("JSON");
        record["RecordNumber"] = (184_200 + index).into();
        for key in ["LogonType", "SourcePort", "DestinationPort"] {
            let number = record[key]
                .as_str()
                .and_then(|text| text.parse::<u32>().ok());
            if let Some(number) = number {
                record[key] = number.into();
            }
        }
        let record = with_numbers(&record.to_string(), write);
        let splice = filter.process(record.as_bytes(), 0, 0).into_splice()?;
        let object = splice.text.split_once(':').expect("a key").1;
        Some(serde_json::from_str(object).expect("JSON"))
    });
    alerts.last()
}

#[test]
fn whole_numbers_are_read_however_they_are_written() {
    let as_usual = alert(str::to_owned);
    let events = as_usual
        .as_ref()
        .map(|alert| alert["evidence"].as_array().map_or(0, Vec::len));
    assert_eq!(events, Some(5), "{as_usual:?}");
    let ways: [fn(&str) -> String; 5] = [
        |number| format!("{number}.0"),
        |number| format!("{number}e0"),
        |number| format!("{number}.000E+0"),
        |number| format!("{number}00e-2"),
        |number| format!("\"{number}.0\""),
    ];
    for write in ways {
        assert_eq!(alert(write), as_usual, "{}", write("11"));
    }
    let none: [fn(&str) -> String; 3] = [
        |number| format!("{number}.5"),
        |number| format!("{number}e99"),
        |number| format!("-{number}"),
    ];
    for write in none {
        assert_eq!(alert(write), None, "{}", write("11"));
    }
}
