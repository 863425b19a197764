//! The configurations of `configs/vector` in a real Vector: on `PATH`, or named by `VECTOR`.

use crate::program::{PATIENCE, PROGRAM, shipper, wait_for};
use psexec_filter_tests::Host;
use serde_json::Value;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A Vector that ends with the test, together with the program that it started.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // SIGTERM, not SIGKILL: it has a child of its own to end.
        let _signalled = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ended = self.0.wait();
    }
}

/// A Vector with a configuration of the project, whose source is replaced by lines over TCP.
struct Pipeline {
    folder: tempfile::TempDir,
    input: String,
    _running: Running,
}

impl Pipeline {
    /// Starts a configuration after `edit`, which takes its text, the folder for files and the source to put in the place of its own.
    fn start(vector: PathBuf, name: &str, edit: impl Fn(&mut String, &str, &str)) -> Pipeline {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().display().to_string();
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../configs/vector")
            .join(name);
        let mut text = std::fs::read_to_string(shipped).expect("the configuration");
        let input = free_port();
        let source = format!(
            "    type: socket\n    mode: tcp\n    address: 127.0.0.1:{input}\n    decoding: {{ codec: json }}\n"
        );
        swap(
            &mut text,
            "127.0.0.1:9701",
            &format!("127.0.0.1:{}", free_port()),
        );
        edit(&mut text, &place, &source);
        let config = folder.path().join("vector.yaml");
        std::fs::write(&config, text).expect("written");
        let child = Command::new(vector)
            .arg("--config")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Pipeline {
            folder,
            input,
            _running: Running(child.expect("it starts")),
        }
    }

    fn linux(vector: PathBuf, options: &str) -> Pipeline {
        Pipeline::start(vector, "linux-aggregator.yaml", |text, place, source| {
            let metrics = format!("127.0.0.1:{}", free_port());
            for (from, to) in [
                ("    type: vector\n    address: 0.0.0.0:6000\n", source),
                (
                    "/usr/local/bin/psexec-filter run",
                    &format!("{} run {options}", PROGRAM.display()),
                ),
                ("127.0.0.1:9598", &metrics),
                ("/var/lib/vector", place),
                ("/var/log/vector", place),
            ] {
                swap(text, from, to);
            }
        })
    }

    /// Sends lines as soon as Vector listens.
    fn send(&self, lines: &str) {
        let start = Instant::now();
        let mut stream = loop {
            match TcpStream::connect(format!("127.0.0.1:{}", self.input)) {
                Ok(stream) => break stream,
                Err(error) => assert!(
                    start.elapsed() < PATIENCE,
                    "Vector does not listen: {error}"
                ),
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        stream.write_all(lines.as_bytes()).expect("it reads");
    }

    /// Waits until so many lines have come out, and returns all that have.
    fn wait(&self, file: &str, count: usize) -> Vec<Value> {
        wait_for(&self.folder.path().join(file), count)
    }
}

fn free_port() -> String {
    TcpListener::bind("127.0.0.1:0")
        .expect("a free port")
        .local_addr()
        .expect("bound")
        .port()
        .to_string()
}

/// Puts `to` in the place of `from`, which must be there.
fn swap(text: &mut String, from: &str, to: &str) {
    assert!(
        text.contains(from),
        "{from} is not in the configuration any more"
    );
    *text = text.replace(from, to);
}

#[test]
fn linux_aggregator() {
    if let Some(vector) = shipper("vector", "VECTOR") {
        check(&Pipeline::linux(vector, ""));
    }
}

/// The source `windows_event_log` exists on Windows only. Everything after it is run.
#[test]
fn windows_endpoint_after_its_source() {
    let Some(vector) = shipper("vector", "VECTOR") else {
        return;
    };
    let pipeline = Pipeline::start(vector, "windows-endpoint.yaml", |text, place, source| {
        for (from, to) in [
            (
                "    type: windows_event_log\n    channels: ['Microsoft-Windows-Sysmon/Operational', Security]\n",
                source,
            ),
            (
                r"'C:\Program Files\psexec-filter\psexec-filter.exe'",
                &format!("'{}'", PROGRAM.display()),
            ),
            (
                r"C:\ProgramData\Vector\psexec-filter.state",
                &format!("{place}/psexec-filter.state"),
            ),
            (
                r"C:\ProgramData\Vector\alerts.ndjson",
                &format!("{place}/alerts.ndjson"),
            ),
            (r"C:\ProgramData\Vector", place),
            (
                "    type: vector\n    inputs: [wanted._unmatched, clean]\n    address: collector.example:6000\n",
                &format!(
                    "    type: file\n    inputs: [wanted._unmatched, clean]\n    path: {place}/records.ndjson\n    encoding: {{ codec: json }}\n"
                ),
            ),
        ] {
            swap(text, from, to);
        }
    });
    check(&pipeline);
}

/// Every record comes out once, those that complete a chain with the alert; records of other events bypass the filter; records with
/// an alert are copied.
fn check(pipeline: &Pipeline) {
    let attack = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/fixtures/shapes/vector_windows_event_log.ndjson"
    );
    let attack = std::fs::read_to_string(attack).expect("the fixture");
    let count = attack.lines().count();
    pipeline.send(&format!("{{\"event_id\":4688}}\n{attack}"));
    let records = pipeline.wait("records.ndjson", count + 1);
    assert_eq!(records.len(), count + 1, "{records:?}");
    let alerts: Vec<&Value> = records
        .iter()
        .filter(|record| record["detection"]["kind"] == "alert")
        .collect();
    assert!(!alerts.is_empty(), "{records:?}");
    for record in &records {
        assert!(
            ["pid", "command", "stream"]
                .iter()
                .all(|key| record.get(key).is_none()),
            "{record}"
        );
    }
    let copies = pipeline.wait("alerts.ndjson", alerts.len());
    assert_eq!(copies.iter().collect::<Vec<_>>(), alerts);
}

/// An alert that is held and whose host sends nothing more: a record of its own, which goes where alerts go.
#[test]
fn a_host_that_falls_silent_is_alerted() {
    let Some(vector) = shipper("vector", "VECTOR") else {
        return;
    };
    let policy = tempfile::NamedTempFile::new().expect("a file");
    let text = "[[allow]]\nsource = ['10.9.9.9']\nreason = 'test'\n[windows]\ngrace = '2s'\n";
    std::fs::write(policy.path(), text).expect("written");
    let pipeline = Pipeline::linux(vector, &format!("--policy {}", policy.path().display()));
    let host = Host::new("SILENT");
    let tool = r"C:\Windows\a.exe";
    let lines: String = [host.file(0, "System", tool), host.start(80, 7, tool)]
        .iter()
        // The configuration goes by the field of Vector's own source.
        .map(|line| line.replacen('{', r#"{"event_id":1,"#, 1) + "\n")
        .collect();
    pipeline.send(&lines);
    let [alert] = pipeline.wait("alerts.ndjson", 1).try_into().expect("one");
    assert_eq!(alert["psexec_filter"], "alert", "{alert}");
    assert_eq!(alert["host"]["name"], "SILENT", "{alert}");
    assert_eq!(pipeline.wait("records.ndjson", 3).len(), 3);
}
