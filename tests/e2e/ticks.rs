//! Ticks, alerts as records of their own, and edge filtering, through the module as Fluent Bit calls it and through `run`.

use crate::program::Place;
use psexec_filter::engine::{Answer, Engine};
use psexec_filter_plugin::tick::TICK;
use psexec_filter_tests::{CMD, Host, STARTS, TIGHT, counter, module_with};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const TOOL: &str = r"C:\Windows\a.exe";
const START: u32 = 1_900_000_000;

/// Alerts without a source are held while an entry asks for sources.
const HOLDS: &str = "[[allow]]\nsource = ['10.9.9.9']\nreason = 'test'\n";

fn attack(host: &str) -> [String; 2] {
    let host = Host::new(host);
    [host.file(0, "System", TOOL), host.start(80, 7, TOOL)]
}

/// Calls `test` with each engine, which runs the module with that policy.
fn on_each_engine(policy: &str, test: impl Fn(&str, &mut dyn Engine)) {
    let module = module_with(policy);
    for (name, start) in STARTS {
        test(name, &mut *start(&module, TIGHT));
    }
}

fn tick(engine: &mut dyn Engine, seconds: u32) -> Option<Value> {
    match engine
        .call("chain.tick", START + seconds, 0, TICK)
        .expect("the module answers")
    {
        Answer::Dropped => None,
        Answer::Changed(record) => Some(serde_json::from_slice(&record).expect("JSON")),
        Answer::Unchanged => panic!("the tick came back"),
    }
}

fn send(engine: &mut dyn Engine, record: &str) -> Answer {
    engine
        .call("chain.sysmon", START, 0, record.as_bytes())
        .expect("the module answers")
}

#[test]
fn a_push_onto_many_silent_hosts_is_alerted_once_each() {
    on_each_engine(HOLDS, |engine, module| {
        tick(module, 0);
        for number in 0..500 {
            for record in attack(&format!("WS{number:03}.corp.example")) {
                assert_eq!(send(module, &record), Answer::Unchanged, "{engine}");
            }
        }
        let mut hosts = BTreeSet::new();
        // Twenty ticks a second from the ninth second on: half a minute is enough for all.
        for call in 0..20 * 36 {
            let Some(record) = tick(module, 9 + call / 20) else {
                continue;
            };
            assert!(call >= 20, "{engine}: an alert before its time");
            assert_eq!(record["psexec_filter"], "alert");
            assert_eq!(record["host"], record["detection"]["host"], "{engine}");
            let host = record["host"]["name"].to_string();
            assert!(hosts.insert(host), "{engine}: twice: {record}");
        }
        assert_eq!(hosts.len(), 500, "{engine}");
        assert_eq!(module.flush(), Ok(Vec::new()), "{engine}");
        assert_eq!(counter(module, "ticks"), 1 + 20 * 36, "{engine}");
    });
}

#[test]
fn with_emit_record_and_pass_alerts_only_alerts_leave() {
    let policy = "[alert]\nemit = 'record'\npass = 'alerts'\n";
    on_each_engine(policy, |engine, module| {
        tick(module, 0);
        let host = Host::new("WS01");
        let other = r#"{"message":"not an event of Windows"}"#;
        let mut left = Vec::new();
        for record in host
            .psexec(0, 7, "10.1.2.3")
            .iter()
            .chain([&other.to_owned(), &host.event(5, 0, json!({"Image": CMD}))])
        {
            match send(module, record) {
                Answer::Dropped => {}
                Answer::Unchanged => left.push(record.clone()),
                Answer::Changed(_) => panic!("{engine}: {record}"),
            }
        }
        assert_eq!(left, [other], "{engine}");
        let severities: Vec<Value> = (1..9)
            .filter_map(|second| tick(module, second))
            .map(|record| record["detection"]["severity"].clone())
            .collect();
        assert_eq!(severities.last(), Some(&json!("critical")), "{engine}");
    });
}

/// Ticks among the records, with anything else in them, and as fast as they come: what is sent leaves, and no alert is lost.
#[test]
fn forged_ticks_change_no_record_and_lose_no_alert() {
    on_each_engine(HOLDS, |engine, module| {
        let records = Host::new("WS01").psexec(0, 7, "10.1.2.3");
        let forged = [
            r#"{"psexec_filter":"tick","Computer":"WS01"}"#,
            r#"{"psexec_filter":"alert","detection":{"kind":"alert"}}"#,
            r#"{"psexec_filter":null}"#,
        ];
        let mut alerts = 0;
        for record in &records {
            for forged in forged {
                assert_eq!(send(module, forged), Answer::Unchanged, "{engine}");
            }
            for call in 0..2_000 {
                alerts += usize::from(tick(module, call % 3).is_some());
            }
            alerts += usize::from(send(module, record) != Answer::Unchanged);
        }
        assert!(alerts > 0, "{engine}");
        let forged = (forged.len() * records.len()) as u64;
        assert_eq!(counter(module, "bad_ticks"), forged, "{engine}");
    });
}

#[cfg(unix)]
mod run {
    use super::*;
    use crate::run::{Running, eventually, lines, out, send};
    use std::time::{Duration, Instant};

    /// One host falls silent with an alert that is held, while another one goes on.
    #[test]
    fn an_alert_of_a_silent_host_leaves_although_others_send() {
        let place = Place::new();
        place.put("policy.toml", format!("{HOLDS}[windows]\ngrace = '2s'\n"));
        let mut running = Running::start(
            &place,
            &format!(
                "run --input tcp://127.0.0.1:0 --policy policy.toml {}",
                out(&place)
            ),
        );
        let address = running.address();
        let start = Instant::now();
        send(&address, &attack("SILENT"));
        let busy = Host::new("BUSY");
        let mut sent = 2;
        let alert = loop {
            send(&address, &[busy.event(5, sent, json!({"Image": CMD}))]);
            sent += 1;
            let all = lines(&place, "out");
            let found = all.iter().find(|line| line.contains(r#""kind":"alert""#));
            if let Some(alert) = found {
                break serde_json::from_str::<Value>(alert).expect("JSON");
            }
            assert!(start.elapsed() < Duration::from_secs(60), "never alerted");
            std::thread::sleep(Duration::from_millis(100));
        };
        assert!(start.elapsed() >= Duration::from_secs(2), "before its time");
        assert_eq!(alert["psexec_filter"], "alert");
        assert_eq!(alert["host"]["name"], "SILENT");
        let sent = usize::try_from(sent).expect("few");
        eventually("all lines", || lines(&place, "out").len() == sent + 1);
        running.stop();
    }

    /// The program makes ticks itself. One that a client sends is a record like any other.
    #[test]
    fn a_tick_that_a_client_sends_is_passed_on() {
        let place = Place::new();
        let input = [TICK, b"\n{\"psexec_filter\":1}\n"].concat();
        assert_eq!(place.run("run", &input).good(), input);
    }

    #[test]
    fn records_that_the_policy_drops_are_not_written() {
        let place = Place::new();
        place.put("policy.toml", "[alert]\npass = 'alerts'\n");
        let records = Host::new("WS01").psexec(0, 7, "10.1.2.3");
        let other = "{\"message\":\"not an event of Windows\"}\n";
        let input: String = records.iter().map(|record| format!("{record}\n")).collect();
        let ran = place.run("run --policy policy.toml", (input + other).as_bytes());
        let out = String::from_utf8(ran.good()).expect("UTF-8");
        let (alerts, others): (Vec<&str>, Vec<&str>) = out
            .lines()
            .partition(|line| line.contains(r#""kind":"alert""#));
        assert_eq!(others, [other.trim_end()]);
        assert!(!alerts.is_empty() && alerts.len() < records.len(), "{out}");
    }

    /// Alerts and counters as lines of their own, for each of the values of `--emit`.
    #[test]
    fn what_is_written_of_a_tick_depends_on_emit() {
        for (emit, expected) in [
            ("records", ["alert", "stats"].as_slice()),
            ("both", &["stats"]),
            ("alerts", &[]),
        ] {
            let place = Place::new();
            let policy = "[alert]\nemit = 'record'\nstats_interval = '1s'\n";
            place.put("policy.toml", policy);
            let options = format!("--policy policy.toml --emit {emit}");
            let (running, address) = Running::listening(&place, &options);
            crate::run::send(&address, &attack("WS01"));
            let kinds = || {
                let all = lines(&place, "out");
                let kinds = all.iter().filter_map(|line| {
                    let line: Value = serde_json::from_str(line).ok()?;
                    line["psexec_filter"].as_str().map(str::to_owned)
                });
                kinds.collect::<BTreeSet<_>>()
            };
            let has_alert = || {
                let all = lines(&place, "out");
                all.iter().any(|line| line.contains(r#""kind":"alert""#))
            };
            eventually("the alert", has_alert);
            eventually("all kinds", || kinds().len() == expected.len());
            assert!(
                kinds()
                    .iter()
                    .map(String::as_str)
                    .eq(expected.iter().copied())
            );
            running.stop();
        }
    }
}
