//! Starts Fluent Bit with a configuration of the project, sends records into it and reads what comes out.

use crate::program::{PATIENCE, shipper, wait_for};
use psexec_filter_tests::skipped;
use serde_json::Value;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The aggregators in which every record passes through the filter.
pub const AGGREGATORS: [&str; 2] = ["linux-aggregator.yaml", "classic.conf"];

/// The aggregator in which records bypass the filter by their event id.
pub const BY_ID: &str = "linux-aggregator-by-id.yaml";

/// A Fluent Bit that is installed here.
pub struct FluentBit {
    program: PathBuf,
    /// Major and minor version.
    version: (u32, u32),
}

impl FluentBit {
    /// The one on `PATH`, or that `FLUENT_BIT` names. If there is none, this reports that the test is skipped.
    pub fn find() -> Option<FluentBit> {
        let program = shipper("fluent-bit", "FLUENT_BIT")?;
        let output = Command::new(&program)
            .arg("--version")
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text.split_once("Fluent Bit v").and_then(|(_, version)| {
            let mut numbers = version.split('.').map(|number| number.parse().ok());
            numbers.next()?.zip(numbers.next()?)
        });
        let version = version.unwrap_or_else(|| panic!("no version in {text}"));
        Some(FluentBit { program, version })
    }

    /// Whether an emitter over its limit lets records pass with their old tag. If not, this reports that the test is skipped.
    pub fn keeps_what_it_cannot_emit(&self) -> bool {
        self.is_at_least((5, 0), "an emitter over its limit loses records")
    }

    /// Whether it runs the filters of network inputs in coroutines. If not, this reports that the test is skipped.
    pub fn has_coroutines(&self) -> bool {
        self.is_at_least((5, 1), "its network inputs have no coroutines")
    }

    fn is_at_least(&self, least: (u32, u32), otherwise: &str) -> bool {
        let is = self.version >= least;
        if !is {
            let (major, minor) = self.version;
            skipped(&format!("Fluent Bit {major}.{minor}: {otherwise}"));
        }
        is
    }

    /// Starts a configuration and waits until it is up. `log` is the file for what it reports.
    fn start(&self, config: &Path, log: PathBuf) -> Running {
        let file = File::create(&log).expect("a file");
        let child = Command::new(&self.program)
            .arg("-c")
            .arg(config)
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .expect("it starts");
        let mut running = Running { child, log };
        let start = Instant::now();
        while !running.log().contains("[sp] stream processor started") {
            let is_up = running.child.try_wait().expect("its status").is_none();
            assert!(
                is_up && start.elapsed() < PATIENCE,
                "Fluent Bit does not start: {}",
                running.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        running
    }
}

/// A Fluent Bit that ends with the test.
struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // If it has ended by itself, the missing records show it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An edit of a configuration: a text that must be in it, and what takes its place.
pub type Edit<'a> = (&'a str, &'a str);

/// A Fluent Bit with a configuration of the project, and its senders.
pub struct Pipeline<'f> {
    fluent_bit: &'f FluentBit,
    folder: tempfile::TempDir,
    port: String,
    receiver: Running,
    senders: Vec<Running>,
}

impl<'f> Pipeline<'f> {
    /// Starts an aggregator of `configs/fluent-bit` with that module.
    pub fn aggregator(
        fluent_bit: &'f FluentBit,
        name: &str,
        module: &[u8],
        edits: &[Edit<'_>],
    ) -> Pipeline<'f> {
        Pipeline::start(fluent_bit, name, module, |text, place, module, port| {
            let mut text = text.to_owned();
            for (from, to) in [
                ("/etc/fluent-bit/psexec_filter.wasm", module),
                ("/var/log/fluent-bit", place),
                ("24224", port),
                ("0.0.0.0", "127.0.0.1"),
            ]
            .iter()
            .chain(edits)
            {
                text = swap(&text, from, to);
            }
            text
        })
    }

    /// Starts a configuration of `configs/fluent-bit` with that module, after `edit`, which takes its text, the folder for output,
    /// the path of the module and the port that it is to listen on.
    pub fn start(
        fluent_bit: &'f FluentBit,
        name: &str,
        module: &[u8],
        edit: impl Fn(&str, &str, &str, &str) -> String,
    ) -> Pipeline<'f> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let port = free_port();
        std::fs::write(path("psexec_filter.wasm"), module).expect("written");
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../configs/fluent-bit")
            .join(name);
        let text = std::fs::read_to_string(&shipped)
            .unwrap_or_else(|error| panic!("{}: {error}", shipped.display()));
        let text = edit(
            &text,
            &folder.path().display().to_string(),
            &path("psexec_filter.wasm").display().to_string(),
            &port,
        );
        std::fs::write(path(name), text).expect("written");
        let receiver = fluent_bit.start(&path(name), path("receiver.log"));
        Pipeline {
            fluent_bit,
            folder,
            port,
            receiver,
            senders: Vec::new(),
        }
    }

    /// Sends records over the network from another Fluent Bit, in their order.
    pub fn send(&mut self, records: &[Value]) {
        let number = self.senders.len();
        let path = |name: &str| self.folder.path().join(format!("{number}.{name}"));
        let lines: String = records.iter().map(|record| format!("{record}\n")).collect();
        std::fs::write(path("ndjson"), lines).expect("written");
        // With more than one worker it has several connections, and the order is lost.
        let config = format!(
            "service: {{flush: 0.2, scheduler.base: 1, scheduler.cap: 2}}\nparsers:\n  - {{name: line, format: json}}\n\
             pipeline:\n  inputs:\n    \
             - {{name: tail, tag: ws01, path: '{}', read_from_head: true, parser: line}}\n  outputs:\n    \
             - {{name: forward, match: ws01, host: 127.0.0.1, port: {}, retry_limit: no_limits, workers: 1}}\n",
            path("ndjson").display(),
            self.port
        );
        std::fs::write(path("yaml"), config).expect("written");
        let sender = self.fluent_bit.start(&path("yaml"), path("log"));
        self.senders.push(sender);
    }

    /// Waits until so many records have come out, and returns all that have.
    pub fn records(&self, count: usize) -> Vec<Value> {
        wait_for(&self.folder.path().join("records.ndjson"), count)
    }

    /// Waits until so many records with the tag of alerts have come out, and returns all that have.
    pub fn alerts(&self, count: usize) -> Vec<Value> {
        wait_for(&self.folder.path().join("alerts.ndjson"), count)
    }

    /// The folder with its files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Waits until Fluent Bit has reported a text so many times.
    pub fn reported(&self, text: &str, times: usize) {
        let start = Instant::now();
        loop {
            let log = self.receiver.log();
            if log.matches(text).count() >= times {
                return;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "not {times} times: {text}\n{log}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Puts `to` in the place of `from`, which must be there.
pub fn swap(text: &str, from: &str, to: &str) -> String {
    assert!(
        text.contains(from),
        "{from} is not in the configuration any more"
    );
    text.replace(from, to)
}

fn free_port() -> String {
    TcpListener::bind("127.0.0.1:0")
        .expect("a free port")
        .local_addr()
        .expect("bound")
        .port()
        .to_string()
}

/// Records from lines.
pub fn parsed<'a>(lines: impl IntoIterator<Item = &'a String>) -> Vec<Value> {
    lines
        .into_iter()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

/// What was sent is what came out, in whatever order. `out` is what came out, without alerts.
pub fn assert_same_records(sent: &[Value], out: &[Value]) {
    let sorted = |records: &[Value]| {
        let mut texts: Vec<String> = records.iter().map(Value::to_string).collect();
        texts.sort_unstable();
        texts
    };
    assert_eq!(sorted(sent), sorted(out));
}
