//! The module's memory: declared, bounded, and flat however long it runs.

use psexec_filter::engine::Answer;
use psexec_filter_tests::{Host, alerts, engines, module};
use serde_json::json;

/// The largest record still finds room when all state is full.
#[test]
fn four_mebibytes_beside_full_state() {
    for (engine, mut module) in engines(module()) {
        let text = "x".repeat(1_000);
        // More than 8 MiB of evidence, on hosts enough that none is at its own limit.
        for n in 0..9_000 {
            let host = Host::new(&format!("PC{}", n % 1_000));
            let record = host.file(n, "System", &format!(r"C:\Windows\{n}\{text}.exe"));
            assert_eq!(module.call("t", 0, 0, record.as_bytes()), Ok(Answer::Unchanged), "{engine}");
        }
        let stats: serde_json::Value = serde_json::from_str(&module.stats().expect("stats").expect("some")).expect("JSON");
        assert!(stats["counters"]["evicted_bytes"].as_u64() > Some(0), "state is not full on {engine}: {stats}");

        let host = Host::new("PC1");
        assert!(alerts(&mut *module, &[host.file(100_000, "System", r"C:\Windows\a.exe")]).is_empty(), "{engine}");
        let start = host.start(100_050, 1, r"C:\Windows\a.exe");
        let pad = format!(",\"pad\":\"{}\"}}", "x".repeat(4 * 1024 * 1024 - start.len() - 9));
        let large = format!("{}{pad}", start.strip_suffix('}').expect("an object"));
        assert_eq!(large.len(), 4 * 1024 * 1024);
        let alert = alerts(&mut *module, &[large]).pop().expect("an alert");
        assert_eq!(alert["severity"], json!("medium"), "{engine}");
        assert!(module.memory_bytes() <= 16 * 1024 * 1024, "{engine}: {}", module.memory_bytes());
    }
}

/// A million records of many hosts, on Fluent Bit's interpreter, freed as newer Fluent Bits do, and never as 4.1 does.
#[cfg(feature = "wamr")]
#[test]
fn a_million_records_take_no_more_memory_than_the_first_100_thousand() {
    use psexec_filter::engine::{Engine, Options, Wamr};

    /// Of them five are an attack, the others what a log is full of.
    const ROUND: u32 = 25;
    const ROUNDS: u32 = 1_000_000 / ROUND;
    const WARM_UP: u32 = 4_000;
    for free in [true, false] {
        let mut module = Wamr::new(module(), Options { free, ..Options::default() }).expect("WAMR takes the module");
        let (mut warm, mut alerts) = (0, 0);
        for number in 0..ROUNDS {
            // On each of 500 hosts in turn; time goes on.
            let host = Host::new(&format!("PC{}", number % 500));
            let other = host.event(5, 0, json!({"Image": r"C:\Windows\System32\svchost.exe"}));
            for _ in 5..ROUND {
                assert_eq!(module.call("t", 0, 0, other.as_bytes()), Ok(Answer::Unchanged));
            }
            for record in host.psexec(i64::from(number) * 1_000, number, "10.55.1.77") {
                match module.call("t", 0, 0, record.as_bytes()).expect("an answer") {
                    Answer::Changed(_) => alerts += 1,
                    Answer::Unchanged => {}
                }
            }
            if number == WARM_UP {
                warm = module.memory_bytes();
            }
        }
        assert!(alerts > ROUNDS, "{alerts} alerts");
        assert_eq!(module.memory_bytes(), warm, "free: {free}");
    }
}
