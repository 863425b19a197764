//! What the filter costs a shipper, as multiples of a module that returns its input at once: the page BENCHMARKS.md, on
//! standard output (`make bench`).
//!
//! Beside the filter stand a module that parses three fields with serde and one that parses into `serde_json::Value`. In each
//! round all modules take the same records in turn, and a figure is the median over the rounds, so that a machine that changes
//! its speed changes no multiple; and only the processor's time counts. Each is alone while it is measured, as a shipper's only
//! filter is: WAMR looks for a module among all that run whenever the host allocates in it (`wasm_clusters_search_exec_env`), so
//! that each one that was started later makes those before it slower.

use cpu_time::ThreadTime;
use psexec_filter::engine::{Compiled, Engine, Options};
use psexec_filter_tests::{CMD, Host, STARTS, corpus_files, module, skipped};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const ROUNDS: usize = 9;

/// A module goes through the records of a round as often as takes it this long.
const ROUND: Duration = Duration::from_millis(3);

/// The corpus file of an attack with everything beside it that a log of a whole machine holds.
const LOG: &str = "otrf_empire_invoke_psexec.ndjson";

/// Sysmon's events, and the one of Security, that a chain is about.
const WANTED: [u64; 7] = [1, 3, 11, 13, 17, 18, 4624];

/// Most records of a kind that are taken from the corpus.
const KIND: usize = 300;

const KIB: usize = 1024;

fn main() {
    let Some(path) = std::env::var_os("BASELINE_MODULE") else {
        eprintln!("BASELINE_MODULE is not set; run this as `make bench`");
        std::process::exit(2);
    };
    let baseline =
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let modules = [
        (&*baseline, "pass_through"),
        (module(), psexec_filter_pack::FUNCTION),
        (&*baseline, "parse_three"),
        (&*baseline, "parse_value"),
    ];
    println!("# What the filter costs\n");
    println!("Written by `make bench`. Do not edit.\n\n{}", machine());
    println!(
        "All chains are on. A figure is the median of {ROUNDS} rounds; x is a multiple of what a module costs that returns its\n\
         input at once (\"pass-through\"), called the same way in the same round: two copies in, the call, the reading of the answer. Time is the processor's.\n\
         \"3 fields\" parses EventID, Hostname and Image with serde, \"Value\" parses all into `serde_json::Value`.\n\
         WAMR is the interpreter that Fluent Bit uses, built as Fluent Bit builds it for Linux; wasmtime compiles, and is what `psexec-filter run` uses."
    );
    let logs = corpus();
    for (name, start) in STARTS.iter().rev() {
        eprintln!("measuring on {name}");
        let contenders = modules.map(|(module, function)| {
            move || {
                start(
                    module,
                    Options {
                        function,
                        ..Options::default()
                    },
                )
            }
        });
        let contenders = contenders
            .each_ref()
            .map(|start| start as &dyn Fn() -> Box<dyn Engine>);
        println!("\n## On {}", if *name == "wamr" { "WAMR" } else { name });
        whole_logs(contenders, &logs);
        unwanted_by_size(contenders);
        wanted_by_kind(contenders, &logs);
        by_kind(contenders, &logs);
        by_hosts(contenders);
    }
    module_itself();
}

/// Where and when this was measured, and with what.
fn machine() -> String {
    let output = |program: &str, arguments: &[&str]| {
        let output = std::process::Command::new(program).args(arguments).output();
        output
            .ok()
            .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
            .unwrap_or_default()
    };
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown", |(_, name)| name);
    let lock = include_str!("../../Cargo.lock");
    let version = |name: &str| {
        let package = lock
            .split_once(&format!("name = \"{name}\"\nversion = \""))
            .map(|(_, rest)| rest);
        package
            .and_then(|rest| rest.split('"').next())
            .unwrap_or("unknown")
            .to_owned()
    };
    format!(
        "| | |\n|---|---|\n| Date | {} |\n| Commit | {} |\n| Machine | {cpu}, {} cores, {} |\n| Versions | {}; wasmtime {}; WAMR of wamrx-sys {} |\n",
        output("date", &["-u", "+%F"]),
        output("git", &["describe", "--always", "--dirty"]),
        std::thread::available_parallelism().map_or(1, usize::from),
        output("uname", &["-srm"]),
        output("rustc", &["--version"]),
        version("wasmtime"),
        version("wamrx-sys"),
    )
}

/// What starts one after the other: pass-through, the filter, three fields, everything.
type Contenders<'a> = [&'a dyn Fn() -> Box<dyn Engine>; 4];

/// What each of the contenders takes for a record: microseconds, and the multiple of the first.
type Figures = [(f64, f64); 4];

/// One record after the other as the log has them.
fn whole_logs(contenders: Contenders<'_>, logs: &BTreeMap<String, Vec<Vec<u8>>>) {
    println!("\n### A whole log\n");
    let Some(log) = logs.get(LOG) else {
        return println!("Not measured: the recorded logs are not beside the project.");
    };
    let wanted: Vec<Vec<u8>> = log
        .iter()
        .filter(|record| kind(record).is_some_and(|(_, id)| WANTED.contains(&id)))
        .cloned()
        .collect();
    println!("`{LOG}`, an attack among all that its machines logged.\n");
    table_head(&["records", "how many", "mean bytes"]);
    for (label, records) in [
        ("all (goal: at most x2)", log),
        ("of a kind that a chain wants", &wanted),
    ] {
        let figures = measure(contenders, records, records);
        row(
            &[
                label,
                &records.len().to_string(),
                &mean_bytes(records).to_string(),
            ],
            &figures,
        );
    }
}

/// A record that no chain wants, as three shippers write it, from its smallest to 64 KiB.
fn unwanted_by_size(contenders: Contenders<'_>) {
    println!("\n### A record that no chain wants, by size (goal: at most x1.6)\n");
    println!("Event 10 in the shape of three producers, its event id in the first 256 bytes.\n");
    table_head(&["producer", "KiB"]);
    for (producer, head) in [
        (
            "Fluent Bit",
            r#"{"ProviderName":"Microsoft-Windows-Sysmon","ProviderGuid":"{5770385F-C22A-43E0-BF4C-06F5698FFBD9}","Qualifiers":"","EventID":10,"Version":3,"Level":4,"Task":10,"Opcode":0,"Keywords":"0x8000000000000000","TimeCreated":"2024-09-14 09:52:33 +0000","EventRecordID":133021,"ActivityID":"","RelatedActivityID":"","ProcessID":3204,"ThreadID":4512,"Channel":"Microsoft-Windows-Sysmon/Operational","Computer":"WS01.corp.example","UserID":"S-1-5-18","#,
        ),
        (
            "NXLog",
            r#"{"EventTime":"2024-09-14 09:52:33","Hostname":"WS01.corp.example","Keywords":-9223372036854775808,"EventType":"INFO","SeverityValue":2,"Severity":"INFO","EventID":10,"SourceName":"Microsoft-Windows-Sysmon","ProviderGuid":"{5770385F-C22A-43E0-BF4C-06F5698FFBD9}","Version":3,"#,
        ),
        (
            "Winlogbeat",
            r#"{"@timestamp":"2024-09-14T09:52:33.210Z","winlog":{"channel":"Microsoft-Windows-Sysmon/Operational","event_id":10,"computer_name":"WS01.corp.example"},"#,
        ),
    ] {
        for size in [512, KIB, 3 * KIB, 8 * KIB, 16 * KIB, 64 * KIB] {
            let tail = "\"Message\":\"\"}";
            let pad = "x".repeat(size.saturating_sub(head.len() + tail.len()));
            let record = format!("{head}\"Message\":\"{pad}\"}}").into_bytes();
            let record = [record];
            let figures = measure(contenders, &record, &record);
            row(
                &[producer, &(size as f64 / KIB as f64).to_string()],
                &figures,
            );
        }
    }
}

/// Records that the chains keep or look at, all brought to the same size.
fn wanted_by_kind(contenders: Contenders<'_>, logs: &BTreeMap<String, Vec<Vec<u8>>>) {
    println!("\n### A record of 3 KiB that a chain wants (goal: at most x8)\n");
    println!(
        "Up to {KIND} of each kind from all recorded logs; `Message` is cut or filled up until the record has 3 KiB.\n"
    );
    table_head(&["event", "how many"]);
    for ((source, id), records) in kinds(logs) {
        if !WANTED.contains(&id) || !["Sysmon", "Security"].contains(&&*source) {
            continue;
        }
        let records: Vec<Vec<u8>> = records
            .into_iter()
            .filter_map(|record| sized(&record, 3 * KIB))
            .collect();
        if !records.is_empty() {
            row(
                &[&format!("{source} {id}"), &records.len().to_string()],
                &measure(contenders, &records, &records),
            );
        }
    }
}

/// Everything that the recorded logs hold much of, as it is.
fn by_kind(contenders: Contenders<'_>, logs: &BTreeMap<String, Vec<Vec<u8>>>) {
    println!("\n### By kind of event\n");
    println!(
        "Up to {KIND} of each kind from all recorded logs, as they are; kinds with fewer than 50 are left out.\n"
    );
    table_head(&["event", "how many", "mean bytes"]);
    for ((source, id), records) in kinds(logs)
        .into_iter()
        .filter(|(_, records)| records.len() >= 50)
    {
        let figures = measure(contenders, &records, &records);
        row(
            &[
                &format!("{source} {id}"),
                &records.len().to_string(),
                &mean_bytes(&records).to_string(),
            ],
            &figures,
        );
    }
}

/// The same stream of wanted records, spread over more and more hosts.
fn by_hosts(contenders: Contenders<'_>) {
    println!("\n### By number of hosts\n");
    println!(
        "Connections, files, services and processes in turn, none of them harmless enough to be dropped at once.\n"
    );
    table_head(&["hosts"]);
    for hosts in [1, 100, 4_096] {
        row(
            &[&hosts.to_string()],
            &measure(contenders, &busy_hours(hosts, 0), &busy_hours(hosts, 1)),
        );
    }
}

/// 16,384 records of so many hosts, a second apart.
fn busy_hours(hosts: i64, round: i64) -> Vec<Vec<u8>> {
    const RECORDS: i64 = 16_384;
    let numbers = round * RECORDS..(round + 1) * RECORDS;
    let records = numbers.map(|number| {
        let (host, ms) = (Host::new(&format!("PC{}", number % hosts)), number * 1_000);
        match number / hosts % 4 {
            0 => host.connection(ms, &format!("10.1.{}.{}", number / 250 % 250, number % 250)),
            1 => host.file(ms, "System", &format!(r"C:\Windows\{number}.exe")),
            2 => host.service(
                ms,
                &format!("s{number}"),
                &format!(r"C:\Program Files\{number}\service.exe"),
            ),
            _ => host.process(
                ms,
                (number as u32, CMD, "cmd /c dir"),
                (7, r"C:\Windows\explorer.exe"),
                (r"CORP\alice", "0x4d2"),
            ),
        }
    });
    records.map(String::into_bytes).collect()
}

/// What the module takes when it does nothing yet, and when it has seen more hosts than it can keep.
fn module_itself() {
    println!("\n## The module\n\n| | |\n|---|---|");
    println!("| Size | {} KB |", module().len() / 1_000);
    let first = Host::new("PC1").file(0, "System", r"C:\Windows\a.exe");
    let start = Instant::now();
    let compiled = Compiled::compile(module()).expect("wasmtime takes the module");
    println!(
        "| Compiled by wasmtime in | {:.0} ms |",
        start.elapsed().as_secs_f64() * 1e3
    );
    let median_start = |start: &dyn Fn() -> Box<dyn Engine>| {
        median((0..ROUNDS).map(|_| {
            let begin = Instant::now();
            start()
                .call("bench", 0, 0, first.as_bytes())
                .expect("an answer");
            begin.elapsed().as_secs_f64() * 1e3
        }))
    };
    let wasmtime = || compiled.start(Options::default()).expect("it starts");
    println!(
        "| Start and first record on wasmtime, once compiled | {:.2} ms |",
        median_start(&|| Box::new(wasmtime()))
    );
    #[cfg(feature = "wamr")]
    {
        let wamr = || {
            Box::new(
                psexec_filter::engine::Wamr::new(module(), Options::default()).expect("it starts"),
            ) as Box<dyn Engine>
        };
        println!(
            "| Loading, start and first record on WAMR | {:.2} ms |",
            median_start(&wamr)
        );
    }
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

fn mib(bytes: usize) -> String {
    format!("{:.1} MiB", bytes as f64 / (KIB * KIB) as f64)
}

fn table_head(labels: &[&str]) {
    println!(
        "| {} | pass-through | filter | 3 fields | Value |",
        labels.join(" | ")
    );
    println!("|{}", "---|".repeat(labels.len() + 4));
}

fn row(labels: &[&str], [pass, ours, three, value]: &Figures) {
    println!(
        "| {} | {:.2} us | **x{:.2}** | x{:.1} | x{:.1} |",
        labels.join(" | "),
        pass.0,
        ours.1,
        three.1,
        value.1
    );
}

/// The figures of all contenders for `records`, when each has seen those `before` as often.
fn measure(contenders: Contenders<'_>, before: &[Vec<u8>], records: &[Vec<u8>]) -> Figures {
    // Few are repeated, so that a round takes a while; how often, a first try tells, and what is as fast as later a second one.
    let enough =
        |time: f64| (ROUND.as_secs_f64() * 1e6 / (time * records.len() as f64)).ceil() as u32;
    let contenders = contenders.map(|start| {
        let mut engine = start();
        let first = enough(pass(&mut *engine, before, 1));
        (start, enough(pass(&mut *engine, records, first)))
    });
    let rounds = (0..ROUNDS).map(|_| {
        contenders.map(|(start, repeats)| {
            let mut engine = start();
            pass(&mut *engine, before, repeats);
            pass(&mut *engine, records, repeats)
        })
    });
    let times: Vec<[f64; 4]> = rounds.collect();
    [0, 1, 2, 3].map(|index| {
        (
            median(times.iter().map(|time| time[index])),
            median(times.iter().map(|time| time[index] / time[0])),
        )
    })
}

/// Microseconds per record.
fn pass(engine: &mut dyn Engine, records: &[Vec<u8>], repeats: u32) -> f64 {
    // Of the processor, so that what else the machine does counts little.
    let start = ThreadTime::now();
    for _ in 0..repeats {
        for record in records {
            let answer = engine.call("bench", 1, 0, record);
            assert!(std::hint::black_box(&answer).is_ok(), "{answer:?}");
        }
    }
    start.elapsed().as_secs_f64() * 1e6 / (records.len() as f64 * f64::from(repeats))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The recorded logs by the name of their file.
fn corpus() -> BTreeMap<String, Vec<Vec<u8>>> {
    let files = corpus_files().into_iter().map(|path| {
        let text =
            std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let lines = text
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(<[u8]>::to_vec)
            .collect();
        (
            path.file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            lines,
        )
    });
    let logs: BTreeMap<String, Vec<Vec<u8>>> = files.collect();
    if logs.is_empty() {
        skipped("what needs the recorded logs is not measured");
    }
    logs
}

/// Source and event id of a record in NXLog's shape, which most recorded logs have.
fn kind(record: &[u8]) -> Option<(String, u64)> {
    let record: Map<String, Value> = serde_json::from_slice(record).ok()?;
    let source = record
        .get("SourceName")?
        .as_str()?
        .trim_start_matches("Microsoft-Windows-")
        .trim_end_matches("-Auditing");
    Some((source.to_owned(), record.get("EventID")?.as_u64()?))
}

/// Some records of every kind.
fn kinds(logs: &BTreeMap<String, Vec<Vec<u8>>>) -> BTreeMap<(String, u64), Vec<Vec<u8>>> {
    let mut kinds: BTreeMap<(String, u64), Vec<Vec<u8>>> = BTreeMap::new();
    for record in logs.values().flatten() {
        if let Some(kind) = kind(record) {
            let records = kinds.entry(kind).or_default();
            if records.len() < KIND {
                records.push(record.clone());
            }
        }
    }
    kinds
}

/// The record with a `Message` that makes it `size` bytes long; `None` if it is longer without one.
fn sized(record: &[u8], size: usize) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(record).ok()?;
    let mut message = serde_json::from_str::<Map<String, Value>>(text)
        .ok()?
        .get("Message")?
        .as_str()?
        .to_owned();
    let old = format!("\"Message\":{}", json!(message));
    let (before, after) = text.split_once(&old)?;
    loop {
        let new = format!("{before}\"Message\":{}{after}", json!(message));
        match new.len().cmp(&size) {
            std::cmp::Ordering::Less => message.push_str(&"x".repeat(size - new.len())),
            std::cmp::Ordering::Equal => return Some(new.into_bytes()),
            std::cmp::Ordering::Greater => drop(message.pop()?),
        }
    }
}

fn mean_bytes(records: &[Vec<u8>]) -> usize {
    records.iter().map(Vec::len).sum::<usize>() / records.len().max(1)
}
