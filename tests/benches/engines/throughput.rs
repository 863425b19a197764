//! How fast `psexec-filter run` is, as a ratio to the same program with a module that returns its input at once.
//!
//! Records come from a file and go to nowhere: a disk takes sometimes half as long, sometimes three times as long as
//! everything else together. The two take turns.

use crate::logs::moved;
use crate::records::Logs;
use crate::report::Page;
use crate::rows::NO_LOGS;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

const ROUNDS: usize = 5;

/// How often the logs are gone through in a round, each time on other hosts: so long that reading the clock, in steps of
/// 10 ms, is small beside it.
const TIMES: usize = 10;

const GOAL: &str = "`run`: at least 60 % of the same program with a pass-through";

/// Returns its input at once.
const PASS_THROUGH: &str = r#"(module (memory (export "memory") 200) (global (export "PSEXEC_FILTER_POLICY") i32 (i32.const 131072))
    (global $at (mut i32) (i32.const 1048576))
    (func (export "malloc") (param i32) (result i32) (global.set $at (i32.xor (global.get $at) (i32.const 6291456))) (global.get $at))
    (func (export "free") (param i32))
    (func (export "psexec_filter_flush") (result i32) (i32.const 0))
    (func (export "psexec_filter_stats") (result i32) (i32.const 0))
    (func (export "psexec_filter_save") (result i32) (i32.const 0))
    (func (export "psexec_filter_abi") (result i32) (i32.const ABI))
    (func (export "psexec_filter") (param i32 i32 i32 i32 i32 i32) (result i32) (local.get 4)))"#;

/// Measures `program` on all recorded logs.
pub fn measure(page: &mut Page<'_>, program: &Path, logs: &Logs) {
    println!("\n## `run`\n");
    if !program.is_file() {
        crate::stop(&format!("PROGRAM={}: no such file", program.display()));
    }
    if logs.is_empty() {
        println!("Not measured: {NO_LOGS}.");
        return page.goal(GOAL, None);
    }
    eprintln!("measuring run");
    let folder = tempfile::tempdir().expect("a folder");
    let [module, input, nothing] =
        ["pass.wasm", "in", "nothing"].map(|name| folder.path().join(name));
    let pass_through = PASS_THROUGH.replace("ABI", &psexec_filter_plugin::ABI.to_string());
    std::fs::write(&module, wat::parse_str(pass_through).expect("good WAT")).expect("written");
    let mut text = Vec::new();
    for round in 0..TIMES {
        for record in logs.records() {
            text.extend(moved(&record.bytes, round));
            text.push(b'\n');
        }
    }
    let count = logs.records().count() * TIMES;
    std::fs::write(&input, &text).expect("written");
    std::fs::write(&nothing, "").expect("written");
    let other: [&Path; 2] = [Path::new("--module"), &module];
    // The start is measured for itself and taken off. The least of all rounds is the least disturbed.
    let mut least = [f64::INFINITY; 4];
    for _ in 0..ROUNDS {
        let runs: [(&Path, &[&Path]); 4] = [
            (&nothing, &[]),
            (&nothing, &other),
            (&input, &[]),
            (&input, &other),
        ];
        for (least, (input, arguments)) in least.iter_mut().zip(runs) {
            *least = least.min(seconds(program, input, arguments));
        }
    }
    let [start_ours, start_other, ours, pass] = least;
    let (ours, pass) = (ours - start_ours, pass - start_other);
    let share = pass / ours * 100.0;
    println!(
        "From a file to /dev/null on one core, {count} records, {} MB: {:.0} records in a second of processor time, which is {share:.0} % of the same\n\
         program with a module that returns its input at once.",
        text.len() / 1_000_000,
        count as f64 / ours,
    );
    page.goal(GOAL, Some((format!("{share:.0} %"), share >= 60.0)));
}

/// How long `run` takes for the records of a file: the processor time of all its threads, or where Linux does not tell
/// that, the time that passes.
fn seconds(program: &Path, input: &Path, arguments: &[&Path]) -> f64 {
    let start = Instant::now();
    // On one core, where that can be had: what its threads cost each other on several depends on what else runs there.
    let mut command = if Path::new("/usr/bin/taskset").exists() {
        let mut taskset = Command::new("/usr/bin/taskset");
        taskset.args(["-c", "0"]).arg(program);
        taskset
    } else {
        Command::new(program)
    };
    let mut child = command
        .arg("run")
        .args(arguments)
        .stdin(std::fs::File::open(input).expect("it was written"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // Closed when the program ends.
    let mut log = String::new();
    let _ = child.stderr.take().expect("piped").read_to_string(&mut log);
    let processor = processor_seconds(&child);
    let passed = start.elapsed().as_secs_f64();
    let status = child.wait().expect("it ends");
    assert!(status.success(), "{status}: {log}");
    processor.unwrap_or(passed)
}

/// The processor time of a program that has ended and was not waited for (`proc_pid_stat(5)`, `utime` and `stime`).
fn processor_seconds(child: &Child) -> Option<f64> {
    /// `sysconf(_SC_CLK_TCK)`, on every Linux of today.
    const TICKS: f64 = 100.0;
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).ok()?;
        // The program's name, which may hold blanks, ends with the last bracket.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        if fields.first() != Some(&"Z") {
            std::thread::sleep(std::time::Duration::from_millis(1));
            continue;
        }
        let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
        return Some((ticks(11)? + ticks(12)?) / TICKS);
    }
}
