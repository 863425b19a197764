//! The module's memory: it stays within what is declared, and does not grow however long the module runs.

use psexec_filter::engine::{Answer, Options};
use psexec_filter_tests::{Host, TIGHT, alerts, counter, engines, engines_with, module};
use serde_json::json;

/// The largest record fits beside full state.
#[test]
fn a_record_of_four_mebibytes_fits_beside_full_state() {
    for (engine, mut module) in engines(module()) {
        let text = "x".repeat(1_000);
        // More than 8 MiB of evidence, on so many hosts that none is at its own limit.
        for n in 0..9_000 {
            let host = Host::new(&format!("PC{}", n % 1_000));
            let record = host.file(n, "System", &format!(r"C:\Windows\{n}\{text}.exe"));
            assert_eq!(
                module.call("t", 0, 0, record.as_bytes()),
                Ok(Answer::Unchanged),
                "{engine}"
            );
        }
        let stats: serde_json::Value =
            serde_json::from_str(&module.stats().expect("stats").expect("some")).expect("JSON");
        assert!(
            stats["counters"]["evicted_bytes"].as_u64() > Some(0),
            "state is not full on {engine}: {stats}"
        );

        let host = Host::new("PC1");
        assert!(
            alerts(
                &mut *module,
                &[host.file(100_000, "System", r"C:\Windows\a.exe")]
            )
            .is_empty(),
            "{engine}"
        );
        let start = host.start(100_050, 1, r"C:\Windows\a.exe");
        let pad = format!(
            ",\"pad\":\"{}\"}}",
            "x".repeat(4 * 1024 * 1024 - start.len() - 9)
        );
        let large = format!("{}{pad}", start.strip_suffix('}').expect("an object"));
        assert_eq!(large.len(), 4 * 1024 * 1024);
        let alert = alerts(&mut *module, &[large]).pop().expect("an alert");
        assert_eq!(alert["severity"], json!("medium"), "{engine}");
        // An event inside a string that is as long as any that is read.
        let line = format!(
            "<Event><EventData><Data Name='CommandLine'>{}",
            r"\u0026quot;".repeat(400_000 / 6)
        );
        let event = line.replacen(
            "<EventData>",
            "<System><Provider Name='Microsoft-Windows-Sysmon'/><EventID>1</EventID></System>",
            1,
        );
        let head = format!(r#"{{"Message":"{event}","pad":""#);
        let large = format!("{head}{}\"}}", "x".repeat(4 * 1024 * 1024 - head.len() - 2));
        assert_eq!(
            module.call("t", 0, 0, large.as_bytes()),
            Ok(Answer::Unchanged),
            "{engine}"
        );
        assert!(
            module.memory_bytes() <= 16 * 1024 * 1024,
            "{engine}: {}",
            module.memory_bytes()
        );
    }
}

/// A million records, with the answers freed, as newer versions of Fluent Bit do, and never freed, as 4.1 does. The interpreter is
/// ten times slower, so it plays the first tenth only: up to there it must take as much memory as wasmtime.
#[test]
fn a_million_records_take_no_more_memory_than_the_first_100_thousand() {
    /// Records of a round: five are an attack, the others are what a log is full of.
    const ROUND: u32 = 25;
    const ROUNDS: u32 = 1_000_000 / ROUND;
    const WARM_UP: u32 = ROUNDS / 10;
    for free in [true, false] {
        let mut warm = None;
        for (engine, mut module) in engines_with(module(), Options { free, ..TIGHT }) {
            let rounds = if engine == "wasmtime" {
                ROUNDS
            } else {
                WARM_UP
            };
            let mut alerts = 0;
            for number in 0..rounds {
                // On each of 500 hosts in turn; time goes on.
                let host = Host::new(&format!("PC{}", number % 500));
                let other = host.event(5, 0, json!({"Image": r"C:\Windows\System32\svchost.exe"}));
                for _ in 5..ROUND {
                    assert_eq!(
                        module.call("t", 0, 0, other.as_bytes()),
                        Ok(Answer::Unchanged)
                    );
                }
                for record in host.psexec(i64::from(number) * 1_000, number, "10.55.1.77") {
                    match module
                        .call("t", 0, 0, record.as_bytes())
                        .expect("an answer")
                    {
                        Answer::Changed(_) => alerts += 1,
                        Answer::Unchanged => {}
                        Answer::Dropped => panic!("a record was dropped"),
                    }
                }
                if number + 1 == WARM_UP {
                    assert_eq!(
                        module.memory_bytes(),
                        *warm.get_or_insert(module.memory_bytes()),
                        "{engine}, free: {free}"
                    );
                }
            }
            assert!(alerts > rounds, "{alerts} alerts on {engine}");
            assert_eq!(Some(module.memory_bytes()), warm, "{engine}, free: {free}");
        }
    }
}

/// A million hosts, each with something to remember, take no more memory than is declared, and an attack on the last is found.
#[test]
fn a_million_hosts_take_no_more_memory_than_is_declared() {
    // Made once: making the JSON for each host would take longer than the module does.
    let model = Host::new("NAME").psexec(0, 7, "10.55.1.77");
    for (engine, mut module) in engines(module()) {
        let hosts = if engine == "wasmtime" {
            1_000_000
        } else {
            10_000
        };
        for n in 1..hosts {
            let record = model[n % model.len()].replace("NAME", &format!("PC{n}"));
            assert_eq!(
                module.call("t", 0, 0, record.as_bytes()),
                Ok(Answer::Unchanged),
                "{engine}, {n}"
            );
        }
        assert_eq!(
            counter(&mut *module, "evidence"),
            hosts as u64 - 1,
            "{engine}"
        );
        assert_eq!(
            counter(&mut *module, "evicted_hosts"),
            hosts as u64 - 1 - 4_096,
            "{engine}"
        );
        let last = alerts(&mut *module, &Host::new("LAST").psexec(0, 7, "10.55.1.77"))
            .pop()
            .expect("an alert");
        assert_eq!(last["severity"], json!("critical"), "{engine}");
        // WebAssembly memory never shrinks: this is the most that it was.
        assert!(
            module.memory_bytes() <= 16 * 1024 * 1024,
            "{engine}: {}",
            module.memory_bytes()
        );
    }
}
