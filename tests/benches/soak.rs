//! The recorded logs through `psexec-filter run` again and again, each time later and on other hosts, over TCP in and out
//! (`make soak RECORDS=N`). Ends with an error unless every record comes out and every alert that the same module gives
//! without `run`. Prints the memory that the program takes.

#[path = "logs.rs"]
mod logs;

use psexec_filter::engine::Answer;
use psexec_filter_tests::{module, wasmtime};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio, exit};
use std::time::Instant;

fn main() {
    let program = std::env::var_os("PROGRAM")
        .map(PathBuf::from)
        .filter(|program| program.is_file());
    let Some(program) = program else {
        fail("PROGRAM does not name the program; run this as `make soak`")
    };
    let Some(count) = std::env::var("RECORDS")
        .ok()
        .and_then(|count| count.parse().ok())
    else {
        fail("RECORDS is not a number; run this as `make soak`")
    };
    let records: Vec<Vec<u8>> = logs::files()
        .iter()
        .flat_map(|path| logs::records(path))
        .collect();
    if records.is_empty() {
        fail("nothing was measured: the recorded logs are not beside the project")
    }
    soak(&program, &records, count);
}

fn soak(program: &Path, records: &[Vec<u8>], count: usize) {
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
        let record = logs::moved(&records[index], round);
        expected += usize::from(matches!(
            filter.call("run", 1, 0, &record),
            Ok(Answer::Changed(_))
        ));
        stream
            .write_all(&record)
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
