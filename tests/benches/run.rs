//! `psexec-filter run` as a whole (`make bench`, `make soak RECORDS=N`).
//!
//! Throughput: records from a file on one core, as a ratio to the same program with a module that returns its input
//! at once; the two take turns, and the figure is the median over the rounds. Written to nowhere: a disk takes now half as long,
//! now three times as long as all else together. It is the last part of the page BENCHMARKS.md.
//!
//! Soak: the corpus again and again, each time later and on other hosts, over TCP in and out. What must come out is worked out
//! beside it with the same module.

use psexec_filter::engine::Answer;
use psexec_filter_tests::{HOST_PATHS, corpus_files, module, wasmtime};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio, exit};
use std::time::Instant;

const ROUNDS: usize = 5;

/// How often the corpus is gone through in a round, each time on other hosts: so long that compiling the module is small beside it.
const TIMES: usize = 10;

/// Returns its input at once.
const PASS_THROUGH: &str = r#"(module (memory (export "memory") 200) (global (export "PSEXEC_FILTER_POLICY") i32 (i32.const 131072))
    (global $at (mut i32) (i32.const 1048576))
    (func (export "malloc") (param i32) (result i32) (global.set $at (i32.xor (global.get $at) (i32.const 6291456))) (global.get $at))
    (func (export "free") (param i32))
    (func (export "psexec_filter_flush") (result i32) (i32.const 0))
    (func (export "psexec_filter_stats") (result i32) (i32.const 0))
    (func (export "psexec_filter_save") (result i32) (i32.const 0))
    (func (export "psexec_filter") (param i32 i32 i32 i32 i32 i32) (result i32) (local.get 4)))"#;

fn main() {
    let program = std::env::var_os("PROGRAM")
        .map(PathBuf::from)
        .filter(|program| program.is_file());
    let Some(program) = program else {
        fail("PROGRAM does not name the program; run this as `make bench` or `make soak`")
    };
    let records: Vec<String> = corpus_files()
        .iter()
        .map(|path| {
            std::fs::read_to_string(path)
                .unwrap_or_else(|error| fail(&format!("{}: {error}", path.display())))
        })
        .flat_map(|text| {
            text.lines()
                .filter(|line| !line.is_empty())
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect();
    if records.is_empty() {
        println!("\n## `run`\n\nNot measured: the recorded logs are not beside the project.");
        return;
    }
    match std::env::var("SOAK").ok() {
        None => throughput(&program, &records),
        Some(count) => match count.parse() {
            Ok(count) => soak(&program, &records, count),
            Err(_) => fail("RECORDS is not a number"),
        },
    }
}

fn throughput(program: &Path, records: &[String]) {
    let folder = tempfile::tempdir().expect("a folder");
    let (module, input) = (folder.path().join("pass.wasm"), folder.path().join("in"));
    std::fs::write(&module, wat::parse_str(PASS_THROUGH).expect("good WAT")).expect("written");
    let text: String = (0..TIMES)
        .flat_map(|round| {
            records
                .iter()
                .map(move |record| moved(record, round) + "\n")
        })
        .collect();
    let count = records.len() * TIMES;
    std::fs::write(&input, &text).expect("written");
    let nothing = folder.path().join("nothing");
    std::fs::write(&nothing, "").expect("written");
    let run = |input: &Path, arguments: &[&Path]| {
        // One core, where that can be had.
        let mut command = if Path::new("/usr/bin/taskset").exists() {
            let mut taskset = Command::new("/usr/bin/taskset");
            taskset.args(["-c", "0"]).arg(program);
            taskset
        } else {
            Command::new(program)
        };
        let stdin = std::fs::File::open(input).expect("there");
        let start = Instant::now();
        let status = command
            .arg("run")
            .args(arguments)
            .stdin(stdin)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("it starts");
        assert!(status.success(), "{status}");
        start.elapsed().as_secs_f64()
    };
    let other: [&Path; 2] = [Path::new("--module"), &module];
    // Compiling the module is not what is asked about. It is on the one core here, too.
    let (start_ours, start_other) = (run(&nothing, &[]), run(&nothing, &other));
    let mut ratios = Vec::new();
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        let (ours, pass) = (
            run(&input, &[]) - start_ours,
            run(&input, &other) - start_other,
        );
        ratios.push(pass / ours);
        rates.push(count as f64 / ours);
    }
    ratios.sort_by(f64::total_cmp);
    rates.sort_by(f64::total_cmp);
    println!(
        "\n## `run`\n\nFrom a file to /dev/null on one core, {count} records, {} MB: {:.0} records/s, which is {:.0} % of the same program with a\n\
         module that returns its input at once (goal: at least 60 %).",
        text.len() / 1_000_000,
        rates[ROUNDS / 2],
        ratios[ROUNDS / 2] * 100.0
    );
}

fn soak(program: &Path, records: &[String], count: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut command = Command::new(program);
    command.args(["run", "--input", "tcp://127.0.0.1:0", "--output"]);
    command
        .arg(format!("tcp://{}", listener.local_addr().expect("bound")))
        .arg("--state")
        .arg(folder.path().join("state"));
    let mut child = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut log = BufReader::new(child.stderr.take().expect("piped")).lines();
    let address = log
        .find_map(|line| {
            line.expect("text")
                .split_once("listening on tcp://")
                .map(|(_, address)| address.to_owned())
        })
        .unwrap_or_else(|| fail("it does not listen"));
    std::thread::spawn(move || log.for_each(|line| eprintln!("{}", line.unwrap_or_default())));

    let reader = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("it connects");
        let (mut lines, mut alerts) = (0usize, 0usize);
        let mut stream = BufReader::with_capacity(1 << 20, stream);
        let mut line = Vec::new();
        while stream
            .read_until(b'\n', &mut line)
            .is_ok_and(|read| read > 0)
        {
            lines += 1;
            alerts += usize::from(memchr::memmem::find(&line, br#""kind":"alert""#).is_some());
            line.clear();
        }
        (lines, alerts)
    });
    let mut stream = std::io::BufWriter::with_capacity(
        1 << 20,
        TcpStream::connect(address).expect("it listens"),
    );
    let mut filter = wasmtime(module());
    let (mut expected, mut resident, start) = (0usize, Vec::new(), Instant::now());
    for number in 0..count {
        let (round, index) = (number / records.len(), number % records.len());
        let record = moved(&records[index], round);
        expected += usize::from(matches!(
            filter.call("run", 1, 0, record.as_bytes()),
            Ok(Answer::Changed(_))
        ));
        stream
            .write_all(record.as_bytes())
            .and_then(|()| stream.write_all(b"\n"))
            .expect("it reads");
        if number % (count / 10).max(1) == 0 {
            resident.push(resident_kib(&child));
        }
    }
    drop(stream.into_inner().expect("sent"));
    Command::new("kill")
        .arg(child.id().to_string())
        .status()
        .expect("kill");
    let status = child.wait().expect("it ends");
    let (lines, alerts) = reader.join().expect("read");
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "soak: {count} records in {seconds:.0} s ({:.0}/s); out: {lines} lines, {} lost; alerts: {alerts}, expected {expected}; exit {status}",
        count as f64 / seconds,
        count - lines.min(count)
    );
    println!(
        "resident KiB at every tenth: {resident:?}; the module at the end: {}",
        filter.stats().expect("stats").unwrap_or_default()
    );
    if lines != count || alerts != expected || !status.success() {
        exit(1);
    }
}

/// A record of another year and of another host.
fn moved(record: &str, round: usize) -> String {
    let value: Value = serde_json::from_str(record).expect("JSON");
    let host = HOST_PATHS
        .iter()
        .find_map(|path| value.pointer(path).and_then(Value::as_str))
        .unwrap_or_default();
    let mut text = record.to_owned();
    if !host.is_empty() {
        text = text.replace(&format!("\"{host}\""), &format!("\"r{round}-{host}\""));
    }
    // `20yy-` in front of a month, as every producer writes it.
    let mut bytes = text.into_bytes();
    for at in 0..bytes.len().saturating_sub(8) {
        if let [
            b'"' | b' ' | b'>' | b'\'',
            b'2',
            b'0',
            tens @ b'0'..=b'9',
            ones @ b'0'..=b'9',
            b'-',
            b'0'..=b'1',
            b'0'..=b'9',
            b'-',
        ] = &mut bytes[at..at + 9]
        {
            let year = (usize::from(*tens - b'0') * 10 + usize::from(*ones - b'0') + round) % 100;
            (*tens, *ones) = (b'0' + (year / 10) as u8, b'0' + (year % 10) as u8);
        }
    }
    String::from_utf8(bytes).expect("still text")
}

fn resident_kib(child: &Child) -> u64 {
    let mut status = String::new();
    let _unread = std::fs::File::open(format!("/proc/{}/status", child.id()))
        .and_then(|mut file| file.read_to_string(&mut status));
    status
        .lines()
        .find_map(|line| {
            line.strip_prefix("VmRSS:")?
                .trim()
                .strip_suffix(" kB")?
                .parse()
                .ok()
        })
        .unwrap_or_default()
}

fn fail(message: &str) -> ! {
    eprintln!("error: {message}");
    exit(2)
}
