//! Helpers for the end-to-end tests: engines, and the alerts that records lead to.

use psexec_filter::engine::{Answer, Compiled, Engine, Options};
pub use psexec_filter_fixtures::{
    Added, CMD, DELETED, EXPLORER, Host, MMC, POWERSHELL, SERVICES, SYSTEM, WMI, added_object, guid,
};
use psexec_filter_plugin::policy::Policy;
use serde_json::Value;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// An engine with its name.
pub type Named = (&'static str, Box<dyn Engine>);

/// How tests drive a module: with 2 KiB less of WAMR's stack than Fluent Bit gives, so that inputs which no test tries have room,
/// too.
pub const TIGHT: Options<'static> = Options {
    function: psexec_filter_pack::FUNCTION,
    free: true,
    stack: Options::STACK - 2 * 1024,
    policy: None,
};

/// Every engine that this was built with, by name, each with a new instance of `module`.
pub fn engines(module: &[u8]) -> Vec<Named> {
    engines_with(module, TIGHT)
}

/// Every engine that this was built with, by name, each with a new instance of `module` that is driven as `options` say.
pub fn engines_with(module: &[u8], options: Options<'_>) -> Vec<Named> {
    STARTS
        .iter()
        .map(|(name, start)| (*name, start(module, options)))
        .collect()
}

/// Starts a module with options.
pub type Start = fn(&[u8], Options<'_>) -> Box<dyn Engine>;

/// Every engine that this was built with, by name.
pub const STARTS: &[(&str, Start)] = &[
    ("wasmtime", wasmtime_with),
    #[cfg(feature = "wamr")]
    ("wamr", wamr_with),
];

/// The faster engine, for tests with many records.
pub fn wasmtime(module: &[u8]) -> Box<dyn Engine> {
    wasmtime_with(module, Options::default())
}

/// The engine on which a policy given as TOML is tried: the interpreter, if this was built with it, because its stack is small. A
/// policy has the same effect on every engine.
pub fn policy_engine(policy: &str) -> Named {
    let (name, start) = STARTS.last().expect("an engine");
    (name, start(&module_with(policy), TIGHT))
}

fn wasmtime_with(module: &[u8], options: Options<'_>) -> Box<dyn Engine> {
    let (compiled, policy) = compiled(module);
    let options = Options {
        policy: policy.as_deref(),
        ..options
    };
    Box::new(compiled.start(options).expect("wasmtime starts the module"))
}

#[cfg(feature = "wamr")]
fn wamr_with(module: &[u8], options: Options<'_>) -> Box<dyn Engine> {
    Box::new(psexec_filter::engine::Wamr::new(module, options).expect("WAMR loads the module"))
}

/// The machine code of a module, and the policy to write into its instances. A module that is the built-in one with another
/// policy runs on the machine code of the built-in one, so that nothing is compiled for a policy. (That a packed policy and a
/// written one are the same is a test of its own, in `e2e/engines.rs`.) Others are compiled, once in a test run.
fn compiled(module: &[u8]) -> (Compiled, Option<Vec<u8>>) {
    type Known = (Vec<u8>, Compiled, Option<Vec<u8>>);
    static KNOWN: Mutex<Vec<Known>> = Mutex::new(Vec::new());
    // A test that failed while it held the lock has changed nothing.
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, compiled, policy)) = known.iter().find(|(bytes, ..)| bytes == module) {
        return (compiled.clone(), policy.clone());
    }
    let policy = policy_beside_embedded(module);
    let code = match &policy {
        Some(_) => psexec_filter::module::EMBEDDED,
        None => module,
    };
    let compiled = Compiled::new(code).expect("wasmtime takes the module");
    known.push((module.to_vec(), compiled.clone(), policy.clone()));
    (compiled, policy)
}

/// If `module` is the built-in module with another policy: the bytes of that policy's region.
fn policy_beside_embedded(module: &[u8]) -> Option<Vec<u8>> {
    let policy = psexec_filter_pack::unpack(module).ok()??;
    let packed = psexec_filter_pack::pack(psexec_filter::module::EMBEDDED, &policy).ok()?;
    if packed != module {
        return None;
    }
    psexec_filter_pack::encode_policy(&policy).ok()
}

/// The module with a policy given as TOML.
pub fn module_with(policy: &str) -> Vec<u8> {
    let policy: Policy =
        psexec_filter_pack::policy_from_toml(policy, "test policy").expect("a valid policy");
    psexec_filter_pack::pack(psexec_filter::module::EMBEDDED, &policy)
        .expect("the policy fits into the module")
}

/// The module with the default policy.
pub fn module() -> &'static [u8] {
    psexec_filter::module::EMBEDDED
}

/// Passes records to an engine and checks every answer: it must be the record, or the record with one object added. Returns all
/// alerts in order; those that found no record to be added to come last.
pub fn alerts(engine: &mut dyn Engine, records: &[String]) -> Vec<Value> {
    let mut alerts = Vec::new();
    for record in records {
        alerts.extend(call(engine, record));
    }
    for alert in engine.flush().expect("flush") {
        alerts.push(serde_json::from_str(&alert).expect("an alert is JSON"));
    }
    alerts
}

/// Passes one record to an engine and checks the answer. Returns the object that was added, if any.
pub fn call(engine: &mut dyn Engine, record: &str) -> Option<Value> {
    let answer = engine
        .call("test", 0, 0, record.as_bytes())
        .expect("the module answers");
    added(record.as_bytes(), &answer).map(|added| Value::Object(added.object))
}

/// The object that an answer adds to the record.
///
/// # Panics
///
/// If the answer does anything else to the record.
pub fn added(record: &[u8], answer: &Answer) -> Option<Added> {
    let changed = match answer {
        Answer::Unchanged => return None,
        Answer::Changed(changed) => changed,
        Answer::Dropped => panic!("the record was dropped"),
    };
    match added_object(record, changed) {
        Ok(Some(added)) => Some(added),
        Ok(None) => panic!("an answer that says it is changed and is not"),
        Err(fault) => panic!("{fault}"),
    }
}

/// The last alert of each incident, as `chain severity`, in the order in which the incidents were first alerted.
pub fn incidents(alerts: &[Value]) -> Vec<String> {
    let mut last: Vec<&Value> = Vec::new();
    for alert in alerts {
        match last.iter_mut().find(|known| known["id"] == alert["id"]) {
            Some(known) => *known = alert,
            None => last.push(alert),
        }
    }
    last.iter()
        .map(|alert| {
            format!(
                "{} {}",
                alert["chain"].as_str().unwrap_or("?"),
                alert["severity"].as_str().unwrap_or("?")
            )
        })
        .collect()
}

/// A counter of the module.
pub fn counter(engine: &mut dyn Engine, name: &str) -> u64 {
    let stats: Value =
        serde_json::from_str(&engine.stats().expect("stats").expect("some")).expect("JSON");
    stats["counters"][name]
        .as_u64()
        .unwrap_or_else(|| panic!("no counter {name}"))
}

/// Reports that a test is skipped, and why. Writes to standard error itself, because the test harness keeps back what a passing
/// test prints.
pub fn skipped(why: &str) {
    // A closed standard error is no reason to fail.
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// The fewest logs that the corpus has. Where the folder exists with fewer, tests that read it must fail.
const MIN_CORPUS_FILES: usize = 30;

/// The folder of recorded logs beside the project. Where it does not exist, this reports that the test is skipped.
pub fn corpus() -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    if !path.is_dir() {
        skipped("../shared/corpus is not here");
        return None;
    }
    Some(path)
}

/// All logs of the corpus; none only where its folder does not exist, which is reported.
///
/// # Panics
///
/// If the folder exists and has fewer logs than the corpus has.
pub fn corpus_files() -> Vec<PathBuf> {
    let Some(path) = corpus() else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = std::fs::read_dir(path)
        .expect("the corpus can be read")
        .map(|entry| entry.expect("the corpus can be read").path())
        .collect();
    files.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "ndjson")
    });
    assert!(
        files.len() >= MIN_CORPUS_FILES,
        "../shared/corpus has {} logs, expected {MIN_CORPUS_FILES} at least",
        files.len()
    );
    files.sort();
    files
}

/// Where records of the corpus hold the name of their host, as JSON pointers.
pub const HOST_PATHS: [&str; 6] = [
    "/Hostname",
    "/Computer",
    "/Event/System/Computer",
    "/winlog/computer_name",
    "/computer_name",
    "/host/name",
];
