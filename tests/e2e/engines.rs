//! The filter gives the same answers wherever it runs: natively (as in the simulator and the fuzz targets), on wasmtime, and on Fluent
//! Bit's interpreter.

use psexec_filter::engine::{Answer, Compiled, Engine, Options};
use psexec_filter::module::EMBEDDED;
use psexec_filter_fixtures::shapes;
use psexec_filter_fuzz::{mutate, stream};
use psexec_filter_plugin::filter::Filter;
use psexec_filter_plugin::policy::Policy;
use psexec_filter_plugin::splice;
use psexec_filter_simulator::World;
use psexec_filter_tests::{Host, engines};
use serde_json::Value;

/// What every engine gives for the same records.
pub struct Same {
    /// The answers.
    pub answers: Vec<Answer>,
    /// The counters after them.
    pub counters: Value,
}

impl Same {
    /// How many records had something added to them.
    fn changed(&self) -> usize {
        let changed = |answer: &&Answer| **answer != Answer::Unchanged;
        self.answers.iter().filter(changed).count()
    }
}

/// Passes records to every engine and, if `native`, to the filter without an engine, too. Fails where answers, alerts at the end or
/// counters differ.
///
/// Evidence takes more memory natively, because pointers are larger. So `limits.state_bytes` takes effect sooner there than in the
/// module, and must not take effect at all where the two are compared.
pub fn same(what: &str, policy: &Policy, native: bool, records: &[&[u8]]) -> Same {
    let mut filter = Filter::new(policy.clone());
    let mut engines = engines(&psexec_filter_pack::pack(EMBEDDED, policy).expect("it packs"));
    let answers = records.iter().enumerate().map(|(number, record)| {
        let mut answers = engines.iter_mut().map(|(_, engine)| {
            engine
                .call("t", 1_726_304_400, 5, record)
                .expect("an answer")
        });
        let first = answers.next().expect("an engine");
        assert!(
            answers.all(|answer| answer == first),
            "{what}, record {number}: the engines differ"
        );
        if native {
            let alone = match filter.process(record, 1_726_304_400, 5) {
                splice::Answer::Unchanged => Answer::Unchanged,
                splice::Answer::Drop => Answer::Dropped,
                splice::Answer::Replace(record) => Answer::Changed(record.into_bytes()),
                splice::Answer::Add(splice) => {
                    let (head, tail) = record.split_at(splice.at);
                    Answer::Changed([head, splice.text.as_bytes(), tail].concat())
                }
            };
            assert_eq!(alone, first, "{what}, record {number}: natively it differs");
        }
        first
    });
    let answers: Vec<Answer> = answers.collect();
    let mut waiting = engines
        .iter_mut()
        .map(|(_, engine)| engine.flush().expect("flush"));
    let first = waiting.next().expect("an engine");
    assert!(
        waiting.all(|alerts| alerts == first),
        "{what}: the engines differ at the end"
    );
    let mut stats = engines
        .iter_mut()
        .map(|(_, engine)| engine.stats().expect("stats"));
    let counted = stats.next().expect("an engine");
    assert!(
        stats.all(|stats| stats == counted),
        "{what}: the engines count differently"
    );
    if native {
        assert_eq!(
            std::iter::from_fn(|| filter.flush()).collect::<Vec<_>>(),
            first,
            "{what}: natively it differs at the end"
        );
        assert_eq!(filter.counters().evicted_bytes, 0, "{what}: not comparable");
    }
    let counted = counted.expect("the module has statistics");
    let stats: Value = serde_json::from_str(&counted).expect("JSON");
    Same {
        answers,
        counters: stats["counters"].clone(),
    }
}

/// Records of every shape, and mutations of them: with bytes changed, cut and doubled.
#[test]
fn records_of_every_shape_and_their_mutations() {
    let shapes = shapes();
    // Each shape with a host of its own, so that each has an alert of its own.
    let texts = shapes.iter().enumerate().map(|(n, (_, text))| {
        let host = format!("WS{}.corp.example", n + 10);
        text.replace("WS01.corp.example", &host)
    });
    let seeds: Vec<Vec<u8>> = texts
        .flat_map(|text| {
            text.split('\n')
                .map(|line| line.as_bytes().to_vec())
                .collect::<Vec<_>>()
        })
        .collect();
    let mut rng = fastrand::Rng::with_seed(7);
    let mutants: Vec<Vec<u8>> = (0..400).map(|_| mutate(&mut rng, &seeds)).collect();
    let records: Vec<&[u8]> = seeds.iter().chain(&mutants).map(Vec::as_slice).collect();
    // One alert for each shape, at least.
    let same = same("shapes", &Policy::default(), true, &records);
    assert!(same.changed() >= shapes.len(), "{} alerts", same.changed());
}

/// Events with hostile times, names and paths, as the fuzz target makes them, under short limits.
#[test]
fn hostile_events_of_the_fuzz_target() {
    let stream = |seed: u64| {
        let mut data = vec![0; 8_192];
        fastrand::Rng::with_seed(seed).fill(&mut data);
        stream(&data)
    };
    let alerts = (0..8).map(|seed| {
        let (mut policy, records) = stream(seed);
        policy.limits.state_bytes = Policy::default().limits.state_bytes;
        let records: Vec<&[u8]> = records.iter().map(String::as_bytes).collect();
        same(&format!("events of seed {seed}"), &policy, true, &records).changed()
    });
    assert!(alerts.sum::<usize>() > 0);
}

/// Whole networks under attack, as the simulator plays them.
#[test]
fn simulated_networks() {
    let alerts = (0..4).map(|seed| {
        let world = World::new(seed);
        let records: Vec<&[u8]> = world
            .records
            .iter()
            .map(|record| record.text.as_bytes())
            .collect();
        same(
            &format!("simulation {seed}"),
            &Policy::default(),
            true,
            &records,
        )
        .changed()
    });
    assert!(alerts.sum::<usize>() > 20);
}

/// A flood beyond `limits.state_bytes`, between the records of an attack.
#[test]
fn a_flood_beyond_the_memory_for_state() {
    let policy: Policy =
        serde_json::from_str(r#"{"limits":{"state_bytes":65536,"evidence_per_host":256}}"#)
            .expect("a policy");
    let flood = |n: i64| {
        Host::new(&format!("PC{}", n % 3)).file(
            n,
            "System",
            &format!(r"C:\Windows\{}\{n}.exe", "x".repeat(900)),
        )
    };
    let mut records = Host::new("victim").psexec(0, 7, "10.55.1.77");
    for at in (1..records.len()).rev() {
        records.splice(at..at, (0..200).map(|n| flood(n + 200 * at as i64)));
    }
    let records: Vec<&[u8]> = records.iter().map(String::as_bytes).collect();
    let same = same("a flood", &policy, false, &records);
    assert!(same.changed() > 0);
    let evicted = same.counters["evicted_bytes"].as_u64();
    assert!(evicted > Some(0), "the limit was not reached: {evicted:?}");
}

/// The policy reaches the module in two ways: packed into it, as for Fluent Bit, or written into the memory of each instance, as
/// `--policy` does. Both give the same answers. The packed module is compiled here as it is.
#[test]
fn a_packed_policy_and_a_written_one_are_the_same() {
    let policy: Policy = serde_json::from_str(
        r#"{"alert":{"key":"found"},"allow":[{"user":["re:^NT AUTH.*$"],"reason":"a test"}]}"#,
    )
    .expect("a policy");
    let packed = psexec_filter_pack::pack(EMBEDDED, &policy).expect("it packs");
    let region = psexec_filter_pack::encode_policy(&policy).expect("it fits");
    let written = Options {
        policy: Some(&region),
        ..Options::default()
    };
    let records = Host::new("PC1").psexec(0, 7, "10.55.1.77");
    let embedded = Compiled::new(EMBEDDED).expect("it loads");
    let mut instances: Vec<(&str, Box<dyn Engine>)> = vec![
        (
            "wasmtime, packed",
            Box::new(
                Compiled::compile(&packed)
                    .and_then(|compiled| compiled.start(Options::default()))
                    .expect("it starts"),
            ),
        ),
        (
            "wasmtime, written",
            Box::new(embedded.start(written).expect("it starts")),
        ),
        // Every instance of the same machine code gets it, as after a restart.
        (
            "wasmtime, written again",
            Box::new(embedded.start(written).expect("it starts")),
        ),
    ];
    #[cfg(feature = "wamr")]
    {
        let start = |module, options| -> Box<dyn Engine> {
            Box::new(psexec_filter::engine::Wamr::new(module, options).expect("it starts"))
        };
        instances.push(("wamr, packed", start(&packed, Options::default())));
        instances.push(("wamr, written", start(EMBEDDED, written)));
    }
    let results: Vec<_> = instances
        .iter_mut()
        .map(|(_, instance)| {
            let answers: Vec<Answer> = records
                .iter()
                .map(|record| instance.call("t", 0, 0, record.as_bytes()).expect("answer"))
                .collect();
            let end = (instance.flush(), instance.stats(), instance.save());
            (answers, end)
        })
        .collect();
    for ((name, _), result) in instances.iter().zip(&results) {
        assert_eq!(result, &results[0], "{name}");
    }
    let answers = &results[0].0;
    let found = answers.iter().any(|answer| {
        matches!(answer, Answer::Changed(record) if String::from_utf8_lossy(record).contains(r#""found":{"kind":"alert""#))
    });
    assert!(found, "the policy is not in force: {answers:?}");
}
