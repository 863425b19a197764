//! The Linux configuration of `configs/vector` under a real Vector: on `PATH`, or named by `VECTOR`.

use crate::program::{PATIENCE, PROGRAM, shipper, wait_for};
use serde_json::Value;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
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

/// Every record comes out once, those that complete a chain with the alert; records of other events bypass the filter; records with an
/// alert are copied.
#[test]
fn linux_aggregator() {
    let Some(vector) = shipper("vector", "VECTOR") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().display().to_string();
    let port = || {
        TcpListener::bind("127.0.0.1:0")
            .expect("a free port")
            .local_addr()
            .expect("bound")
            .port()
            .to_string()
    };
    let (input, filter, metrics) = (port(), port(), port());
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/vector/linux-aggregator.yaml");
    let mut text = std::fs::read_to_string(path).expect("the configuration");
    // Records come as lines here, not from another Vector.
    let lines = format!(
        "    type: socket\n    mode: tcp\n    address: 127.0.0.1:{input}\n    decoding: {{ codec: json }}\n"
    );
    for (from, to) in [
        (
            "    type: vector\n    address: 0.0.0.0:6000\n",
            lines.as_str(),
        ),
        (
            "/usr/local/bin/psexec-filter",
            &PROGRAM.display().to_string(),
        ),
        ("127.0.0.1:9701", &format!("127.0.0.1:{filter}")),
        ("127.0.0.1:9598", &format!("127.0.0.1:{metrics}")),
        ("/var/lib/vector", &place),
        ("/var/log/vector", &place),
    ] {
        assert!(
            text.contains(from),
            "{from} is not in the configuration any more"
        );
        text = text.replace(from, to);
    }
    let config = folder.path().join("vector.yaml");
    std::fs::write(&config, text).expect("written");
    let child = Command::new(vector)
        .arg("--config")
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _running = Running(child.expect("it starts"));

    let attack = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/fixtures/shapes/vector_windows_event_log.ndjson"
    );
    let attack = std::fs::read_to_string(attack).expect("the fixture");
    let count = attack.lines().count();
    let start = Instant::now();
    let mut stream = loop {
        match TcpStream::connect(format!("127.0.0.1:{input}")) {
            Ok(stream) => break stream,
            Err(error) => assert!(
                start.elapsed() < PATIENCE,
                "Vector does not listen: {error}"
            ),
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    stream
        .write_all(format!("{{\"event_id\":4688}}\n{attack}").as_bytes())
        .expect("it reads");
    let records = wait_for(&folder.path().join("records.ndjson"), count + 1);
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
    let copies = wait_for(&folder.path().join("alerts.ndjson"), alerts.len());
    assert_eq!(copies.iter().collect::<Vec<_>>(), alerts);
}
