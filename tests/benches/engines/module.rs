//! The module itself: its size, its start, the memory and the stack that it takes.

use crate::measure::median;
use crate::records::Logs;
use crate::report::Page;
use cpu_time::ThreadTime;
use psexec_filter::engine::{Compiled, Engine, Options};
use psexec_filter_tests::{Host, module};
use serde_json::Value;

/// Largest size of the module in bytes, without the names of its functions.
const LARGEST: usize = 1_000_000;

/// How often a start is measured.
const STARTS: usize = 9;

/// Measures what does not depend on the record.
pub fn measure(page: &mut Page<'_>, logs: &Logs) {
    println!("\n## The module\n\n| | |\n|---|---|");
    let size = module().len() - names(module());
    println!("| Size without names | {size} bytes |");
    println!("| Size with names | {} bytes |", module().len());
    page.goal(
        &format!("Size of the module without names: at most {LARGEST} bytes"),
        Some((size.to_string(), size <= LARGEST)),
    );
    let first = Host::new("PC1").file(0, "System", r"C:\Windows\a.exe");
    let start = ThreadTime::now();
    let compiled = Compiled::compile(module()).expect("wasmtime takes the module");
    println!(
        "| Compiled by wasmtime in | {:.0} ms |",
        start.elapsed().as_secs_f64() * 1e3
    );
    let wasmtime = || compiled.start(Options::default()).expect("it starts");
    println!(
        "| Start and first record on wasmtime, once compiled | {:.2} ms |",
        start_ms(&first, &|| Box::new(wasmtime()))
    );
    stack(page, logs, &first);
    let mut engine = wasmtime();
    engine
        .call("bench", 0, 0, first.as_bytes())
        .expect("an answer");
    println!(
        "| Memory after the first record | {} |",
        mib(engine.memory_bytes())
    );
    eprintln!("measuring a million hosts");
    for number in 0..1_000_000 {
        let host = Host::new(&format!("host-{number}.corp.example"));
        let record = host.file(number, "System", r"C:\Windows\PSEXESVC.exe");
        engine
            .call("bench", 0, 0, record.as_bytes())
            .expect("an answer");
    }
    let stats: Value =
        serde_json::from_str(&engine.stats().expect("stats").expect("some")).expect("JSON");
    println!(
        "| Memory after a file of each of 1,000,000 hosts | {} |",
        mib(engine.memory_bytes())
    );
    println!(
        "| State in it | {} of {} hosts |",
        mib(stats["state_bytes"].as_u64().unwrap_or(0) as usize),
        stats["hosts"]
    );
}

/// Bytes of the custom section `name`: names of functions, for readable traps.
fn names(module: &[u8]) -> usize {
    wasmparser::Parser::new(0)
        .parse_all(module)
        .flatten()
        .map(|payload| match payload {
            wasmparser::Payload::CustomSection(section) if section.name() == "name" => {
                // The section's id and length stand before its range.
                section.range().len() + 1 + 5
            }
            _ => 0,
        })
        .sum()
}

/// Milliseconds until an engine that is not started yet has answered its first record.
fn start_ms(first: &str, start: &dyn Fn() -> Box<dyn Engine>) -> f64 {
    median((0..STARTS).map(|_| {
        let begin = ThreadTime::now();
        start()
            .call("bench", 0, 0, first.as_bytes())
            .expect("an answer");
        begin.elapsed().as_secs_f64() * 1e3
    }))
}

#[cfg(not(feature = "wamr"))]
fn stack(page: &mut Page<'_>, _: &Logs, _: &str) {
    page.goal(STACK_GOAL, None);
}

const STACK_GOAL: &str = "6 KiB of the interpreter's stack are enough for all recorded logs";

/// The start on WAMR, and how much of its stack the module takes.
#[cfg(feature = "wamr")]
fn stack(page: &mut Page<'_>, logs: &Logs, first: &str) {
    use psexec_filter::engine::Wamr;

    let start = |stack: u32| {
        Wamr::new(
            module(),
            Options {
                stack,
                ..Options::default()
            },
        )
        .expect("it starts")
    };
    println!(
        "| Loading, start and first record on WAMR | {:.2} ms |",
        start_ms(first, &|| Box::new(start(Options::STACK)))
    );
    if logs.is_empty() {
        return page.goal(STACK_GOAL, None);
    }
    eprintln!("measuring the stack");
    let is_enough = |stack: u32| {
        let mut engine = start(stack);
        logs.records()
            .all(|record| engine.call("bench", 1, 0, &record.bytes).is_ok())
            && engine.flush().is_ok()
            && engine.stats().is_ok()
            && engine.save().is_ok()
    };
    const STEP: u32 = 64;
    let mut too_little = 1024;
    let mut enough = Options::STACK;
    while enough - too_little > STEP {
        let middle = (enough + too_little) / 2 / STEP * STEP;
        if is_enough(middle) {
            enough = middle;
        } else {
            too_little = middle;
        }
    }
    let measured = format!("{enough} bytes");
    println!(
        "| Least stack with which all recorded logs, `flush`, `stats` and `save` pass on WAMR | {measured} |"
    );
    page.goal(STACK_GOAL, Some((measured, enough <= 6 * 1024)));
}

fn mib(bytes: usize) -> String {
    format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0))
}
