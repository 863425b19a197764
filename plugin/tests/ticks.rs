//! Ticks, alerts as records of their own, and edge filtering, natively.

use psexec_filter_fixtures::{CMD, Host, SMB_SERVER, SYSTEM};
use psexec_filter_plugin::filter::Filter;
use psexec_filter_plugin::splice::Answer;
use psexec_filter_plugin::tick::TICK;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const TOOL: &str = r"C:\Windows\a.exe";

/// When the ticks of these tests begin, in seconds. Far from the logged times on purpose.
const START: u32 = 1_900_000_000;

/// An allow-list entry that asks for the source: alerts without one are held.
const HOLDS: &str = r#""allow":[{"source":["10.9.9.9"],"reason":"test"}]"#;

fn filter(policy: &str) -> Filter {
    let filter = Filter::from_json(&format!("{{{policy}}}"));
    assert_eq!(filter.counters().policy_refused, 0, "{policy}");
    filter
}

/// Sends a tick, `seconds` after the first. Returns the record that it brought out.
fn tick(filter: &mut Filter, seconds: u32) -> Option<Value> {
    match filter.process(TICK, START + seconds, 0) {
        Answer::Drop => None,
        Answer::Replace(record) => Some(serde_json::from_str(&record).expect("JSON")),
        other => panic!("{other:?}"),
    }
}

fn send(filter: &mut Filter, record: &str) -> Answer {
    filter.process(record.as_bytes(), START, 0)
}

/// A drop over SMB and its start, without a connection.
fn attack(host: &Host) -> [String; 2] {
    [host.file(0, SMB_SERVER, TOOL), host.start(80, 7, TOOL)]
}

#[test]
fn a_silent_host_is_alerted_when_the_grace_has_passed_by_ticks() {
    let mut filter = filter(HOLDS);
    tick(&mut filter, 0);
    for record in attack(&Host::new("WS01.corp.example")) {
        assert_eq!(send(&mut filter, &record), Answer::Unchanged);
    }
    for second in 1..10 {
        assert_eq!(tick(&mut filter, second), None, "{second}");
    }
    let record = tick(&mut filter, 10).expect("the alert");
    assert_eq!(
        tick(&mut filter, 11),
        None,
        "it is sent once: the rest is silence"
    );
    let alert = &record["detection"];
    assert_eq!(alert["kind"], "alert");
    assert_eq!(
        record,
        json!({
            "psexec_filter": "alert",
            "@timestamp": alert["last_seen"],
            "event": {"created": "2030-03-17T17:46:50.000Z"},
            "host": {"name": "WS01.corp.example"},
            "detection": alert,
        })
    );
}

/// The clock of the machine that makes the ticks is set, a day ahead and back, while an alert is held.
#[test]
fn a_clock_that_jumps_between_ticks_releases_nothing_early() {
    let mut filter = filter(HOLDS);
    tick(&mut filter, 0);
    for record in attack(&Host::new("WS01")) {
        send(&mut filter, &record);
    }
    assert_eq!(tick(&mut filter, 86_400), None);
    assert_eq!(tick(&mut filter, 1), None);
    // 5 s passed at most by the jump.
    for second in 2..6 {
        assert_eq!(tick(&mut filter, second), None, "{second}");
    }
    let late: Vec<Value> = (6..12)
        .filter_map(|second| tick(&mut filter, second))
        .collect();
    assert_eq!(late.len(), 1);
}

/// The host's own clock is set back while an alert is held, and no ticks come: later records of the host carry the alert, whatever
/// time they have. A clock that is a few minutes back comes to the end of the grace again; one that is further back does not have to.
#[test]
fn a_host_whose_clock_is_set_back_is_alerted() {
    const MINUTE: i64 = 60_000;
    // How far the clock is set back, and the time of each later record with whether it carries the alert.
    let cases: [(i64, &[(i64, bool)]); 4] = [
        (
            5,
            &[(0, false), (5 * MINUTE, false), (5 * MINUTE + 10_200, true)],
        ),
        (60, &[(0, false), (1_000, true), (2_000, false)]),
        (1_440, &[(0, false), (9_000, true)]),
        (
            525_600,
            &[(0, false), (10 * MINUTE, true), (11 * MINUTE, false)],
        ),
    ];
    for (back, records) in cases {
        let mut filter = filter(HOLDS);
        let host = Host::new("WS01");
        for record in attack(&host) {
            assert_eq!(send(&mut filter, &record), Answer::Unchanged);
        }
        for (ms, is_alerted) in records {
            let record = host.file(
                ms - back * MINUTE,
                SMB_SERVER,
                &format!(r"C:\Windows\{ms}.exe"),
            );
            let answer = send(&mut filter, &record);
            let has_alert = answer.into_splice().is_some();
            assert_eq!(has_alert, *is_alerted, "{back} minutes back, {ms} ms later");
        }
    }
}

/// One record of another time, which a shipper delivers late, is no clock that was set.
#[test]
fn an_old_record_that_comes_late_releases_nothing() {
    let mut filter = filter(HOLDS);
    let host = Host::new("WS01");
    for record in attack(&host) {
        send(&mut filter, &record);
    }
    for (ms, path) in [
        (-3_600_000, "a"),
        (1_000, "b"),
        (-7_200_000, "c"),
        (9_000, "d"),
    ] {
        let record = host.file(ms, SMB_SERVER, &format!(r"C:\Windows\old_{path}.exe"));
        assert_eq!(send(&mut filter, &record), Answer::Unchanged, "{ms}");
    }
}

/// The connection of what is allowed comes within the grace, with ticks between.
#[test]
fn what_turns_out_to_be_allowed_in_time_is_never_alerted_as_an_attack() {
    let mut filter = filter(HOLDS);
    let host = Host::new("WS01");
    tick(&mut filter, 0);
    for record in attack(&host) {
        send(&mut filter, &record);
    }
    for second in 1..8 {
        assert_eq!(tick(&mut filter, second), None);
    }
    let connection = host.connection(1_500, "10.9.9.9");
    let splice = send(&mut filter, &connection)
        .into_splice()
        .expect("an alert");
    assert!(
        splice.text.contains(r#""status":"allowed""#),
        "{}",
        splice.text
    );
    let more: Vec<Value> = (8..60)
        .filter_map(|second| tick(&mut filter, second))
        .collect();
    assert_eq!(more, [Value::Null; 0]);
}

/// A push onto many hosts: all of their alerts are due at once.
#[test]
fn five_hundred_alerts_due_at_once_leave_once_each() {
    for emit in ["tag", "record"] {
        let mut filter = filter(&format!(r#"{HOLDS},"alert":{{"emit":"{emit}"}}"#));
        tick(&mut filter, 0);
        let mut sent = BTreeMap::new();
        let mut count =
            |alert: &Value| *sent.entry(alert["host"]["name"].to_string()).or_insert(0) += 1;
        for number in 0..500 {
            for record in attack(&Host::new(&format!("WS{number:03}"))) {
                assert_eq!(send(&mut filter, &record), Answer::Unchanged);
            }
        }
        // Twenty a second, as the shipped configurations have it.
        for call in 0..1_000 {
            if let Some(record) = tick(&mut filter, 10 + call / 20) {
                count(&record["detection"]);
            }
        }
        assert_eq!(sent.len(), 500, "{emit}");
        assert!(sent.values().all(|times| *times == 1), "{emit}: {sent:?}");
        assert_eq!(filter.counters().evicted_pending, 0);
        assert_eq!(filter.flush(), None);
    }
}

#[test]
fn with_emit_record_every_log_record_leaves_as_it_came() {
    let mut filter = filter(r#""alert":{"emit":"record"}"#);
    let hosts: Vec<Host> = (0..3).map(|n| Host::new(&format!("WS{n}"))).collect();
    tick(&mut filter, 0);
    for host in &hosts {
        for record in attack(host) {
            assert_eq!(send(&mut filter, &record), Answer::Unchanged);
        }
    }
    let names: Vec<Value> = (1..9)
        .filter_map(|second| tick(&mut filter, second))
        .map(|record| record["host"]["name"].clone())
        .collect();
    assert_eq!(names, ["WS0", "WS1", "WS2"]);
}

#[test]
fn with_emit_record_alerts_are_added_to_records_until_ticks_come_and_when_they_cease() {
    let mut filter = filter(r#""alert":{"emit":"record"}"#);
    let is_added = |filter: &mut Filter, host: &str| {
        let [file, start] = attack(&Host::new(host));
        send(filter, &file);
        send(filter, &start) != Answer::Unchanged
    };
    assert!(is_added(&mut filter, "WS1"));
    tick(&mut filter, 0);
    assert!(!is_added(&mut filter, "WS2"));
    for _ in 0..10_000 {
        send(&mut filter, "{}");
    }
    assert!(is_added(&mut filter, "WS3"));
    // What waits for a tick is not lost.
    assert!(tick(&mut filter, 9_000).is_some_and(|record| record["host"]["name"] == "WS2"));
}

#[test]
fn with_emit_record_an_alert_is_added_to_its_record_while_64_wait() {
    let mut filter = filter(r#""alert":{"emit":"record"}"#);
    tick(&mut filter, 0);
    for number in 0..70 {
        let [file, start] = attack(&Host::new(&format!("WS{number:02}")));
        send(&mut filter, &file);
        let is_queued = send(&mut filter, &start) == Answer::Unchanged;
        assert_eq!(is_queued, number < 64, "{number}");
    }
    assert_eq!(filter.counters().tagged_queue_full, 6);
    let on_ticks = (1..100).filter(|second| tick(&mut filter, *second).is_some());
    assert_eq!(on_ticks.count(), 64);
}

/// Whoever can send records can send ticks. Nothing is lost by them, and nothing is told twice.
#[test]
fn a_tick_with_anything_else_in_it_passes_and_is_counted() {
    let mut filter = filter(HOLDS);
    let records = [
        r#"{"psexec_filter":"tick","EventID":1}"#,
        r#"{"psexec_filter":"alert","detection":{}}"#,
        r#"{"psexec_filter":{"tick":1}}"#,
        r#"{"psexec_filter":"tick"} "#,
    ];
    for record in records {
        assert_eq!(send(&mut filter, record), Answer::Unchanged, "{record}");
    }
    assert_eq!(filter.counters().bad_ticks, records.len() as u64);
    assert_eq!(filter.counters().ticks, 0);
}

/// Ten thousand ticks a second, in no order of time, around an alert that is held.
#[test]
fn any_number_of_ticks_sends_an_alert_once() {
    let mut filter = filter(HOLDS);
    for record in attack(&Host::new("WS01")) {
        send(&mut filter, &record);
    }
    let mut alerts = 0;
    for call in 0..100_000u32 {
        alerts += usize::from(tick(&mut filter, call.wrapping_mul(2_654_435_761) % 5).is_some());
    }
    assert_eq!(alerts, 1);
}

/// More alerts are held than there is room for waiting ones. However they are released, none is lost.
#[test]
fn held_alerts_wait_for_room() {
    let policy = format!(r#"{HOLDS},"limits":{{"pending_per_host":2}}"#);
    let held = |count: u32| {
        let mut filter = filter(&policy);
        tick(&mut filter, 0);
        let host = Host::new("WS01");
        for n in 0..count {
            let (path, at) = (format!(r"C:\Windows\{n}.exe"), i64::from(n));
            send(&mut filter, &host.file(at, SMB_SERVER, &path));
            send(&mut filter, &host.start(at + 80, 7 + n, &path));
        }
        assert_eq!(filter.counters().held, u64::from(count));
        filter
    };
    let mut flushed = held(5);
    assert_eq!(std::iter::from_fn(|| flushed.flush()).count(), 5);
    let mut ticked = held(5);
    let ticks = (10..30).filter(|second| tick(&mut ticked, *second).is_some());
    assert_eq!(ticks.count(), 5);
    // Later records of the host carry one each.
    let mut carried = held(5);
    let later = (0..9).map(|n| Host::new("WS01").start(20_000 + n * 1_000, 99, CMD));
    let alerts = later.filter(|record| send(&mut carried, record) != Answer::Unchanged);
    assert_eq!(alerts.count(), 5);
    for filter in [flushed, ticked, carried] {
        assert_eq!(filter.counters().evicted_pending, 0);
    }
}

#[test]
fn counters_leave_on_ticks() {
    let mut filter = filter(r#""alert":{"stats_interval":"1m"}"#);
    tick(&mut filter, 0);
    let mut at = Vec::new();
    for second in 1..=130 {
        if let Some(record) = tick(&mut filter, second) {
            assert_eq!(record["psexec_filter"], "stats");
            assert_eq!(record["detection"]["kind"], "stats");
            assert!(record["host"].is_null());
            at.push(second);
        }
        // No record of a host has to carry them.
        let event = Host::new("WS01").start(i64::from(second) * 1_000, 7, TOOL);
        assert_eq!(send(&mut filter, &event), Answer::Unchanged);
    }
    assert_eq!(at, [60, 120]);
}

/// `alert.key` may be one of the keys that such a record has.
#[test]
fn a_key_that_a_record_of_its_own_has_is_not_used_twice() {
    for key in ["host", "event", "@timestamp", "psexec_filter"] {
        let mut filter = filter(&format!(r#"{HOLDS},"alert":{{"key":"{key}"}}"#));
        tick(&mut filter, 0);
        for record in attack(&Host::new("WS01")) {
            send(&mut filter, &record);
        }
        let records: Vec<Value> = (1..12)
            .filter_map(|second| tick(&mut filter, second))
            .collect();
        let [record] = records.as_slice() else {
            panic!("{key}: {records:?}")
        };
        assert_eq!(record["detection_psexec_filter"]["kind"], "alert", "{key}");
        assert_eq!(record["psexec_filter"], "alert");
    }
}

#[test]
fn after_a_restart_a_held_alert_is_held_for_its_whole_time_again() {
    let mut before = filter(HOLDS);
    tick(&mut before, 0);
    for record in attack(&Host::new("WS01")) {
        send(&mut before, &record);
    }
    (1..=8).for_each(|second| assert_eq!(tick(&mut before, second), None));
    let mut after = filter(HOLDS);
    while let Some(piece) = before.save_next() {
        assert!(after.restore(piece.as_bytes()));
    }
    let at: Vec<u32> = (9..40)
        .filter(|second| tick(&mut after, *second).is_some())
        .collect();
    assert_eq!(at, [19]);
}

/// What passes with each value of `alert.pass`.
#[test]
fn only_windows_events_are_dropped() {
    let host = Host::new("WS01");
    let evidence = host.file(0, SMB_SERVER, TOOL);
    let duplicate = evidence.clone();
    let completes = host.start(80, 7, TOOL);
    let unwanted_id = host.event(5, 90, json!({"Image": CMD}));
    let unwanted_start = Host::new("WS02").process(
        0,
        (9, r"C:\Windows\notepad.exe", "notepad"),
        (3, CMD),
        SYSTEM,
    );
    let application = r#"{"EventID":1000,"ProviderName":"Application Error","Channel":"Application","Computer":"WS01"}"#;
    let others = [
        r#"{"log":"10.0.0.1 - - [14/Sep/2024] \"GET / HTTP/1.1\" 200"}"#,
        r#"{"EventID":5,"message":"another program's event"}"#,
        r#"{"EventID":1000,"ProviderName":"Application Error","Channel":"Application"}"#,
        r#"{"EventID":1,"ProviderName":"Microsoft-Windows-Sysmon","Computer":"WS01""#,
        r#"{"EventID":11,"ProviderName":"Microsoft-Windows-Sysmon","Computer":"WS01","EventData":{}}"#,
        "no JSON",
        "{}",
        "",
    ];
    for (pass, keeps) in [("all", 6), ("evidence", 3), ("alerts", 1)] {
        let mut filter = filter(&format!(r#""alert":{{"pass":"{pass}"}}"#));
        for record in others {
            // No time passed by the shipper: an event without one cannot be used, and leaves.
            let answer = filter.process(record.as_bytes(), 0, 0);
            assert_eq!(answer, Answer::Unchanged, "{pass}: {record}");
        }
        let events: [&str; 6] = [
            &unwanted_id,
            &unwanted_start,
            application,
            &evidence,
            &duplicate,
            &completes,
        ];
        let kept: Vec<&str> = events
            .into_iter()
            .filter(|record| send(&mut filter, record) != Answer::Drop)
            .collect();
        assert_eq!(kept.len(), keeps, "{pass}: {kept:#?}");
        assert_eq!(filter.counters().dropped, 6 - keeps as u64, "{pass}");
        assert!(kept.contains(&&*completes), "{pass}");
    }
}

#[test]
fn after_an_incident_everything_of_its_host_passes_for_ten_minutes() {
    let (host, other) = (Host::new("WS01"), Host::new("WS02"));
    let mut filter = filter(r#""alert":{"pass":"evidence"}"#);
    let passes = |filter: &mut Filter, host: &Host, ms: i64| {
        send(filter, &host.event(5, ms, json!({"Image": CMD}))) == Answer::Unchanged
    };
    assert!(!passes(&mut filter, &host, 0));
    for record in attack(&host) {
        send(&mut filter, &record);
    }
    for (ms, expected) in [(100, true), (600_080, true), (600_081, false)] {
        assert_eq!(passes(&mut filter, &host, ms), expected, "{ms}");
    }
    assert!(!passes(&mut filter, &other, 100));
}

#[test]
fn records_without_a_host_are_of_the_default_host() {
    for (policy, expected) in [("", None), (r#""host":{"default":"WS77"}"#, Some("WS77"))] {
        let mut filter = filter(policy);
        let mut named = None;
        for record in attack(&Host::new("WS01")) {
            let mut record: Value = serde_json::from_str(&record).expect("JSON");
            let removed = record
                .as_object_mut()
                .expect("an object")
                .remove("Hostname");
            assert!(removed.is_some());
            if let Some(splice) = send(&mut filter, &record.to_string()).into_splice() {
                let added = splice.text.trim_start_matches(',');
                let added: Value = serde_json::from_str(&format!("{{{added}}}")).expect("JSON");
                named = added["detection"]["host"]["name"]
                    .as_str()
                    .map(str::to_owned);
            }
        }
        assert_eq!(named.as_deref(), expected);
    }
}
