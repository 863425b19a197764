//! State that is saved from one module and restored into another: nothing is alerted again under another id, and nothing is
//! forgotten.

use psexec_filter::engine::{Answer, CallError, Engine};
use psexec_filter::run::metrics::Metrics;
use psexec_filter::run::supervisor::{Loaded, Supervisor, Verdict};
use psexec_filter_tests::{CMD, Host, alerts, call, engines, module, module_with, wasmtime};
use serde_json::Value;
use std::sync::Arc;

const ATTACKER: &str = "10.0.0.5";

/// Two hosts under attack by several techniques, with repeats.
fn attacks() -> Vec<String> {
    let mut records = Vec::new();
    for (n, name) in ["PC1", "PC2"].into_iter().enumerate() {
        let (host, at) = (Host::new(name), n as i64 * 30_000);
        records.push(host.connection(at, ATTACKER));
        for run in 0..3u32 {
            let (path, at) = (
                r"C:\Windows\PSEXESVC.exe",
                at + 1_000 + i64::from(run) * 5_000,
            );
            records.push(host.file(at, "System", path));
            records.extend(host.new_service(at + 50, "PSEXESVC", path));
            records.push(host.start(at + 100, 20 + run, path));
            records.push(host.process(
                at + 200,
                (40 + run, CMD, "cmd"),
                (20 + run, path),
                (r"CORP\alice", "0x5e1f2"),
            ));
            let command = r"cmd.exe /Q /c whoami 1> \\127.0.0.1\ADMIN$\__1556656369.7 2>&1";
            records.push(host.wmi(at + 2_000, 60 + run, CMD, command, "0x1d313d"));
        }
    }
    records
}

fn save_and_restore(from: &mut dyn Engine, into: &mut dyn Engine) -> bool {
    let saved = from.save().expect("it saves");
    into.restore(&saved).expect("it restores")
}

/// Wherever the restart is, the second module goes on as the first one would have.
#[test]
fn a_restart_changes_no_alert() {
    let records = attacks();
    for (index, step) in (0..engines(module()).len()).zip([1, 8]) {
        let engine = || engines(module()).swap_remove(index).1;
        let whole = alerts(&mut *engine(), &records);
        assert!(whole.len() > 6, "{whole:?}");
        for cut in (0..=records.len()).step_by(step) {
            let (mut first, mut second) = (engine(), engine());
            let mut found: Vec<Value> = records[..cut]
                .iter()
                .filter_map(|record| call(&mut *first, record))
                .collect();
            assert!(save_and_restore(&mut *first, &mut *second));
            assert_eq!(
                first.save().expect("again").len(),
                second.save().expect("its own").len(),
                "cut at {cut}"
            );
            found.extend(alerts(&mut *second, &records[cut..]));
            assert_eq!(found, whole, "cut at {cut}");
        }
    }
}

/// Records that a shipper sends again after a crash belong to the incidents that are known.
#[test]
fn records_that_are_sent_again_make_no_new_incident() {
    let records = attacks();
    let ids = |alerts: &[Value]| {
        alerts
            .iter()
            .map(|alert| alert["id"].to_string())
            .collect::<std::collections::BTreeSet<_>>()
    };
    let mut engine = wasmtime(module());
    let whole = ids(&alerts(&mut *engine, &records));
    for cut in (0..records.len()).step_by(3) {
        let (mut first, mut second) = (wasmtime(module()), wasmtime(module()));
        let mut found: Vec<Value> = records[..cut]
            .iter()
            .filter_map(|record| call(&mut *first, record))
            .collect();
        assert!(save_and_restore(&mut *first, &mut *second));
        // The last records again, and some that the snapshot does not have.
        found.extend(alerts(&mut *second, &records[cut.saturating_sub(12)..]));
        assert_eq!(ids(&found), whole, "cut at {cut}");
    }
}

/// Under another policy as much of the state is restored as fits into its limits.
#[test]
fn state_is_restored_under_another_policy() {
    for (policy, fits) in [
        ("[limits]\nhosts = 1", false),
        (
            "[limits]\nevidence_per_host = 16\nincidents_per_host = 1",
            true,
        ),
        ("", true),
    ] {
        let mut first = wasmtime(module());
        alerts(&mut *first, &attacks());
        let mut second = wasmtime(&module_with(policy));
        assert!(save_and_restore(&mut *first, &mut *second), "{policy}");
        let stats: Value =
            serde_json::from_str(&second.stats().expect("stats").expect("some")).expect("JSON");
        assert_eq!(
            stats["hosts"].as_u64(),
            Some(if fits { 2 } else { 1 }),
            "{policy}: {stats}"
        );
    }
}

/// Text that is no state, or state of another version, is refused and changes nothing.
#[test]
fn text_that_is_no_state_is_refused() {
    for (name, mut engine) in engines(module()) {
        let records = attacks();
        call(&mut *engine, &records[0]);
        let before = engine.save().expect("state");
        let other = before[0].replacen(r#""state":4"#, r#""state":3"#, 1);
        assert_ne!(other, before[0]);
        for text in [
            "",
            "{}",
            "[1]",
            "null",
            "{\"name\":\"x\",\"host\":{}}",
            "\u{0}",
            &"[".repeat(100_000),
            &other,
            &before[1][..200],
        ] {
            assert_eq!(
                engine.restore(&[text.to_owned()]),
                Ok(false),
                "{name}: {}",
                &text[..text.len().min(40)]
            );
        }
        assert_eq!(engine.save().expect("state"), before, "{name}");
    }
}

/// A module that traps on a certain record.
struct Trapping(Box<dyn Engine>);

const TRAP: &[u8] = b"trap";

impl Engine for Trapping {
    fn call(
        &mut self,
        tag: &str,
        seconds: u32,
        nanoseconds: u32,
        record: &[u8],
    ) -> Result<Answer, CallError> {
        if record == TRAP {
            return Err(CallError::Trap("on demand".to_owned()));
        }
        self.0.call(tag, seconds, nanoseconds, record)
    }

    fn call_export(&mut self, export: &str) -> Result<Option<String>, CallError> {
        self.0.call_export(export)
    }

    fn send(&mut self, export: &str, text: &[u8]) -> Result<u32, CallError> {
        self.0.send(export, text)
    }

    fn memory_bytes(&mut self) -> usize {
        self.0.memory_bytes()
    }
}

/// A module that trapped is started again with what it remembered at the last snapshot.
#[test]
fn a_module_that_traps_goes_on_from_its_snapshot() {
    let metrics = Arc::new(Metrics::new());
    let start =
        || -> Result<Box<dyn Engine>, String> { Ok(Box::new(Trapping(wasmtime(module())))) };
    let load = move || {
        Ok(Loaded {
            engine: start()?,
            alert_key: "detection".to_owned(),
            start: Box::new(start),
        })
    };
    let mut supervisor = Supervisor::new(Box::new(load), Arc::clone(&metrics)).expect("it loads");
    let host = Host::new("PC1");
    let path = r"C:\Windows\a.exe";
    assert!(matches!(
        supervisor.examine(host.file(0, "System", path).as_bytes()),
        Verdict::Unchanged
    ));
    supervisor.save().expect("a snapshot");
    for _ in 0..3 {
        assert!(matches!(supervisor.examine(TRAP), Verdict::Unexamined(_)));
    }
    assert_eq!(metrics.restarts.get(), 3);
    assert!(
        matches!(
            supervisor.examine(host.start(100, 20, path).as_bytes()),
            Verdict::Changed(..)
        ),
        "the file is remembered"
    );
    // Module and policy are read again, and the file is still remembered.
    supervisor.reload().expect("it loads");
    let again = supervisor.examine(
        host.process(
            300,
            (30, CMD, "cmd"),
            (20, path),
            (r"CORP\alice", "0x5e1f2"),
        )
        .as_bytes(),
    );
    assert!(!matches!(again, Verdict::Unexamined(_)));
    assert!(
        supervisor
            .save()
            .expect("state")
            .iter()
            .any(|part| part.contains("a.exe"))
    );
}
