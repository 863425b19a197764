//! Times with a zone and without one, of one host.

mod common;

use common::pass;
use psexec_filter_fixtures::Host;
use psexec_filter_plugin::filter::Filter;
use serde_json::{Value, json};

const ATTACKER: &str = "10.55.1.77";

/// How the records of one source write their time.
#[derive(Clone, Copy, Debug)]
enum Written {
    /// UTC, with its zone.
    Zoned,
    /// UTC, without it.
    Utc,
    /// Two hours ahead of UTC, without its zone, beside the event's `UtcTime`.
    Local,
    /// The same without `UtcTime`.
    LocalAlone,
}

const AHEAD_MS: i64 = 2 * 3_600_000;

/// A record with its time written in another way. Events of all kinds have `UtcTime` but logons; that of a connection is hours off.
fn write(record: &str, id: u64, written: Written) -> String {
    let mut record: Value = serde_json::from_str(record).expect("JSON");
    let time = record["EventTime"].as_str().expect("a time").to_owned();
    let utc = time.trim_end_matches('Z').replace('T', " ");
    let of = |ms: i64| {
        let parsed = psexec_filter_plugin::normalize::time::parse(time.as_bytes()).expect("a time");
        let moved = psexec_filter_plugin::normalize::time::Timestamp {
            ms: parsed.ms + ms,
            zoned: false,
        };
        moved.to_string().replace('T', " ")
    };
    if id == 3 {
        record["UtcTime"] = json!(of(-5 * 3_600_000 - 754_000));
    } else if id != 4624 {
        record["UtcTime"] = json!(of(-700));
    }
    match written {
        Written::Zoned => {}
        Written::Utc => record["EventTime"] = json!(utc),
        Written::Local => record["EventTime"] = json!(of(AHEAD_MS)),
        Written::LocalAlone => {
            record["EventTime"] = json!(of(AHEAD_MS));
            record.as_object_mut().expect("an object").remove("UtcTime");
        }
    }
    record.to_string()
}

/// The last alert about a PsExec whose records are written in these ways: the logon, the events of the process, the connection.
fn alert(logon: Written, events: Written, connection: Written) -> Option<Value> {
    let host = Host::new("PC1");
    let mut records = vec![(host.logon(-100, ATTACKER, "0x5555", "EVIL"), logon)];
    let mut attack = host.psexec(0, 7, ATTACKER);
    // The connection arrives before what it completes, and before the zone of a local time is known.
    records.extend(attack.pop().map(|record| (record, connection)));
    records.extend(attack.into_iter().map(|record| (record, events)));
    let mut filter = Filter::new(Default::default());
    let alerts = records.iter().filter_map(|(record, written)| {
        let id = serde_json::from_str::<Value>(record).expect("JSON")["EventID"].as_u64();
        pass(&mut filter, &write(record, id.expect("an id"), *written))
    });
    alerts.last()
}

#[test]
fn events_join_whether_their_times_name_the_zone_or_not() {
    use Written::{Local, LocalAlone, Utc, Zoned};
    for (logon, events, connection, time_zone) in [
        (Zoned, Zoned, Zoned, None),
        (Zoned, Utc, Zoned, None),
        (Utc, Utc, Utc, None),
        (Zoned, Local, Zoned, None),
        (Zoned, Local, Local, None),
        (Local, Local, Local, None),
        (Zoned, Zoned, Utc, Some("unspecified")),
        // All of them hours off, and alike.
        (LocalAlone, LocalAlone, LocalAlone, Some("unspecified")),
    ] {
        let alert = alert(logon, events, connection).expect("an alert");
        let what = format!("logon {logon:?}, events {events:?}, connection {connection:?}");
        let ids: Vec<u64> = alert["evidence"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|piece| piece["event"].as_u64())
            .collect();
        assert!(ids.contains(&3) && ids.contains(&4624), "{what}: {ids:?}");
        assert_eq!(alert["severity"], "critical", "{what}");
        assert_eq!(alert["source"]["ip"], ATTACKER, "{what}");
        let found = alert.get("time_zone").and_then(Value::as_str);
        assert_eq!(found, time_zone, "{what}: {alert}");
        let first_seen = alert["first_seen"].as_str().expect("a time");
        let hour = if matches!(events, LocalAlone) {
            "T11:00:00"
        } else {
            "T09:00:00"
        };
        assert!(first_seen.contains(hour), "{what}: {first_seen}");
    }
}
