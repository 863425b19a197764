//! `run` as a service: several clients, outputs that accept nothing, signals, a full disk, a kill.

#![cfg(unix)]

use crate::program::Place;
use psexec_filter::replay::DEMO;
use psexec_filter_fixtures::data;
use psexec_filter_tests::{Host, SERVICES, SYSTEM};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// Longer than anything here takes on a slow machine: a test that waits this long has failed.
const LONG: Duration = Duration::from_secs(180);

/// The program while it runs.
pub struct Running {
    child: Child,
    says: mpsc::Receiver<String>,
    said: String,
}

impl Running {
    /// Starts it and keeps what it writes to standard error.
    pub fn start(place: &Place, arguments: &str) -> Running {
        let mut command = place.command(arguments);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        Running::of(command)
    }

    fn of(mut command: Command) -> Running {
        let mut child = command.spawn().expect("it starts");
        let (send, says) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        std::thread::spawn(move || {
            stderr
                .lines()
                .try_for_each(|line| send.send(line.expect("UTF-8")))
        });
        Running {
            child,
            says,
            said: String::new(),
        }
    }

    /// Waits for a log line with `what` in it; returns what comes after that in the line.
    fn wait_for(&mut self, what: &str) -> String {
        let end = Instant::now() + LONG;
        while let Ok(line) = self
            .says
            .recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            self.said += &line;
            self.said += "\n";
            if let Some((_, rest)) = line.split_once(what) {
                return rest.to_owned();
            }
        }
        panic!("it never logged `{what}`, but:\n{}", self.said);
    }

    /// Starts it with TCP as input and the file `out` as output. Returns it with the address it listens on.
    pub fn listening(place: &Place, options: &str) -> (Running, String) {
        let mut running = Running::start(
            place,
            &format!("run --input tcp://127.0.0.1:0 {options} {}", out(place)),
        );
        let address = running.address();
        (running, address)
    }

    /// The address that metrics are served on.
    fn metrics(&mut self) -> String {
        self.wait_for("serving http://")
            .split('/')
            .next()
            .expect("an address")
            .to_owned()
    }

    /// The address it listens on.
    pub fn address(&mut self) -> String {
        self.wait_for("listening on tcp://")
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([format!("-{name}"), self.child.id().to_string()])
            .status()
            .expect("kill");
        assert!(status.success());
    }

    /// Waits for its end; returns its exit code and everything it logged.
    fn end(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().expect("it ends").code();
        self.said.extend(self.says.iter().map(|line| line + "\n"));
        (code, std::mem::take(&mut self.said))
    }

    pub fn stop(self) -> String {
        self.signal("TERM");
        let (code, said) = self.end();
        assert_eq!(code, Some(0), "{said}");
        said
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that failed leaves no process running.
        let _killed = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// Waits until something holds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn lines(place: &Place, file: &str) -> Vec<String> {
    let bytes = place.get(file).unwrap_or_default();
    bytes
        .split_inclusive(|byte| *byte == b'\n')
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect()
}

pub fn out(place: &Place) -> String {
    format!("--output file://{}/out", place.0.path().display())
}

fn ids(place: &Place, file: &str) -> BTreeSet<String> {
    let alert = |line: String| {
        serde_json::from_str::<Value>(&line).ok()?["detection"]["id"]
            .as_str()
            .map(str::to_owned)
    };
    lines(place, file).into_iter().filter_map(alert).collect()
}

/// Requests a path of the metrics server; returns the answer with its status line.
fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

fn metric(address: &str, name: &str) -> Option<f64> {
    let text = get(address, "/metrics");
    text.lines().find_map(|line| {
        line.strip_prefix(name)?
            .strip_prefix(' ')?
            .trim()
            .parse()
            .ok()
    })
}

/// Every line of every client comes out whole, those of each client in their order, with clients on TCP and on a Unix socket at the
/// same time. The record that completes an attack has its alert, although the attack's records came from several clients.
#[test]
fn lines_of_several_clients_come_out_whole_and_in_order() {
    let place = Place::new();
    let socket = place.0.path().join("in.sock");
    let arguments = format!(
        "run --input tcp://127.0.0.1:0 --input unix://{} {} --metrics 127.0.0.1:0",
        socket.display(),
        out(&place)
    );
    let mut running = Running::start(&place, &arguments);
    let address = running.address();
    running.wait_for("listening on unix://");
    let metrics = running.metrics();
    assert_eq!(
        std::fs::metadata(&socket)
            .expect("it is there")
            .permissions()
            .mode()
            & 0o777,
        0o600
    );

    const EACH: usize = 2_000;
    std::thread::scope(|scope| {
        for client in 0..6 {
            let (address, socket) = (&address, &socket);
            scope.spawn(move || {
                let mut stream: Box<dyn Write> = match client % 2 {
                    0 => Box::new(TcpStream::connect(address).expect("TCP")),
                    _ => Box::new(UnixStream::connect(socket).expect("a socket")),
                };
                for n in 0..EACH {
                    // In two writes, so that lines arrive cut anywhere.
                    let line = format!(
                        "{{\"client\":{client},\"n\":{n},\"fill\":\"{}\"}}\n",
                        "x".repeat(n % 300)
                    );
                    let (head, tail) = line.split_at(n % line.len());
                    stream
                        .write_all(head.as_bytes())
                        .and_then(|()| stream.write_all(tail.as_bytes()))
                        .expect("it reads");
                }
            });
        }
        for (n, line) in DEMO.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let mut stream = TcpStream::connect(&address).expect("TCP");
            stream.write_all(line).expect("it reads");
            drop(stream);
            // One after the other, because between clients there is no order.
            eventually("the line is out", || {
                lines(&place, "out")
                    .iter()
                    .filter(|line| line.contains("Sysmon"))
                    .count()
                    > n
            });
        }
    });
    let demo = DEMO
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .count();
    eventually("all lines", || {
        lines(&place, "out").len() == 6 * EACH + demo
    });
    let mut next = [0; 6];
    for line in lines(&place, "out") {
        let line: Value = serde_json::from_str(&line).expect("a whole line");
        if let Some(client) = line["client"].as_u64() {
            assert_eq!(line["n"], next[client as usize]);
            next[client as usize] += 1;
        }
    }
    assert_eq!(ids(&place, "out").len(), 1);
    eventually("the counts", || {
        metric(&metrics, "psexec_filter_module_records_total") == Some((6 * EACH + demo) as f64)
    });
    for (name, value) in [
        ("psexec_filter_lines_total", (6 * EACH + demo) as f64),
        ("psexec_filter_connections_total", (6 + demo) as f64),
        ("psexec_filter_call_seconds_count", (6 * EACH + demo) as f64),
        ("psexec_filter_module_hosts", 1.0),
        ("psexec_filter_module_incidents", 1.0),
        ("psexec_filter_module_alerts_total", 1.0),
        ("psexec_filter_failed_calls_total", 0.0),
        ("psexec_filter_queued_batches", 0.0),
    ] {
        assert_eq!(metric(&metrics, name), Some(value), "{name}");
    }
    assert!(metric(&metrics, "psexec_filter_module_state_bytes").is_some_and(|bytes| bytes > 0.0));
    assert!(get(&metrics, "/healthz").starts_with("HTTP/1.1 200"));
    running.stop();
    assert!(!socket.exists(), "the socket is taken away");
}

/// Addresses that others can reach, and addresses that are in use.
#[test]
fn public_and_used_addresses_are_refused() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("it has one").port();
    for (arguments, says) in [
        (
            "run --input tcp://0.0.0.0:9000".to_owned(),
            "put a TLS proxy in front of it",
        ),
        (
            "run --input tcp://10.1.2.3:9000".to_owned(),
            "listen on 127.0.0.1:9000",
        ),
        (
            "run --input tcp://[::]:9000".to_owned(),
            "put a TLS proxy in front of it",
        ),
        (
            "run --metrics 0.0.0.0:9000".to_owned(),
            "put a TLS proxy in front of it",
        ),
        (
            "run --input udp://127.0.0.1:9000".to_owned(),
            "expected `-`, `tcp://127.0.0.1:PORT` or `unix:///PATH`",
        ),
        (
            "run --input tcp://somewhere".to_owned(),
            "expected for example 127.0.0.1:9000",
        ),
        (
            format!("run --input tcp://127.0.0.1:{port}"),
            "another program listens there already",
        ),
        (
            format!("run --metrics 127.0.0.1:{port}"),
            "is the port in use?",
        ),
        (
            "run --output file:///nowhere/at/all".to_owned(),
            "cannot be opened",
        ),
        (
            "run --output file://server/share/out".to_owned(),
            "expected file:///PATH",
        ),
        (
            "run --output file:///tmp/100%".to_owned(),
            "write `%25` for the character `%`",
        ),
        (
            "run --log-file nowhere/log".to_owned(),
            "--log-file nowhere/log: cannot be written",
        ),
        (
            "run --state nowhere/state".to_owned(),
            "does its folder exist?",
        ),
    ] {
        let ran = place.run(&arguments, b"{}\n");
        assert!(
            ran.code.is_some_and(|code| code != 0) && ran.err.contains(says) && ran.out.is_empty(),
            "{arguments}: {}",
            ran.err
        );
    }
    // The socket of a program that was killed is replaced; one that is in use is not.
    let socket = place.0.path().join("in.sock");
    let arguments = format!("run --input unix://{}", socket.display());
    let mut first = Running::start(&place, &arguments);
    first.wait_for("listening on");
    let ran = place.run(&arguments, b"");
    assert!(
        ran.err.contains("another program listens there already"),
        "{}",
        ran.err
    );
    first.signal("KILL");
    first.end();
    assert!(socket.exists());
    let mut second = Running::start(&place, &arguments);
    second.wait_for("listening on");
    second.stop();
}

/// Half a line, bytes that are no text, a client that sends a byte at a time, thousands that connect and leave: everything comes out,
/// and no client waits for another.
#[test]
fn clients_that_misbehave_do_not_hold_up_others() {
    let place = Place::new();
    let (running, address) = Running::listening(&place, "");
    let connect = || TcpStream::connect(&address).expect("TCP");
    let mut slow = connect();
    let mut say = |bytes: &[u8]| {
        for byte in bytes {
            slow.write_all(&[*byte]).expect("it reads");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    say(b"{\"slow");
    connect().write_all(b"{\"half\":").expect("it reads");
    connect()
        .write_all(b"{\"text\":\"\xff\xfe\"}\n\xc3\x28\n")
        .expect("it reads");
    for _ in 0..10_000 {
        drop(connect());
    }
    connect().write_all(b"{\"last\":1}\n").expect("it reads");
    eventually("the last one is out", || {
        lines(&place, "out")
            .iter()
            .any(|line| line == "{\"last\":1}\n")
    });
    say(b"\":1}\n");
    eventually("the slow one is out", || {
        lines(&place, "out")
            .iter()
            .any(|line| line == "{\"slow\":1}\n")
    });
    running.stop();
    let whole = place.get("out").expect("output");
    let mut got: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    got.sort();
    let want: [&[u8]; 5] = [
        b"{\"half\":\n",
        b"{\"last\":1}\n",
        b"{\"slow\":1}\n",
        b"{\"text\":\"\xff\xfe\"}\n",
        b"\xc3\x28\n",
    ];
    assert_eq!(got, want);
}

/// What the program takes of memory, in KiB; 0 where there is no /proc.
fn resident_kib(running: &Running) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", running.child.id())).unwrap_or_default();
    let resident = status.lines().find_map(|line| {
        line.strip_prefix("VmRSS:")?
            .trim()
            .strip_suffix(" kB")?
            .parse()
            .ok()
    });
    assert!(resident.is_some() || !cfg!(target_os = "linux"));
    resident.unwrap_or(0)
}

/// A line that is too long to be examined is passed on whole. Clients that stop in the middle of one hold up nobody.
#[test]
fn a_line_that_is_too_long_is_passed_on_and_does_not_hold_up_others() {
    let place = Place::new();
    let (running, address) = Running::listening(&place, "--max-line 1024");
    let long = format!("{{\"a\":\"{}\"}}\n", "x".repeat(3_000_000));
    let mut stream = TcpStream::connect(&address).expect("TCP");
    stream
        .write_all(format!("{{\"first\":1}}\n{long}{{\"then\":1}}\n").as_bytes())
        .expect("it reads");
    eventually("all of it", || {
        place
            .get("out")
            .is_some_and(|bytes| bytes.ends_with(b"{\"then\":1}\n"))
    });
    assert!(lines(&place, "out") == ["{\"first\":1}\n", &long, "{\"then\":1}\n"]);

    let (head, tail) = long.split_at(1_000_000);
    let mut slow: Vec<TcpStream> = (0..20)
        .map(|_| TcpStream::connect(&address).expect("TCP"))
        .collect();
    for stream in &mut slow {
        stream.write_all(head.as_bytes()).expect("it reads");
    }
    let start = Instant::now();
    for n in 0..20 {
        send(&address, &[format!("{{\"other\":{n}}}")]);
        eventually("another's line", || lines(&place, "out").len() == 4 + n);
        // One goes on, byte by byte.
        slow[0].write_all(b"x").expect("it reads");
    }
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
    for stream in &mut slow {
        stream.write_all(tail.as_bytes()).expect("it reads");
    }
    eventually("the rest", || lines(&place, "out").len() == 3 + 20 + 20);
    let said = running.stop();
    let out = lines(&place, "out");
    let whole = out[23..].iter().filter(|line| **line == long).count();
    assert_eq!(whole, 19, "as they were sent");
    assert!(
        said.contains("the line is longer than --max-line"),
        "{said}"
    );
}

/// A client that never ends its line takes little memory, and other clients and snapshots go on. The line is passed on as far as it was
/// kept, its rest is skipped, and the client's next line counts again. That is said once and counted.
#[test]
fn a_line_without_an_end_is_cut_and_holds_up_nobody() {
    const MEBIBYTE: usize = 1024 * 1024;
    let place = Place::new();
    let arguments = format!(
        "run --input tcp://127.0.0.1:0 --state state --state-interval 1 --metrics 127.0.0.1:0 {}",
        out(&place)
    );
    let mut running = Running::start(&place, &arguments);
    let address = running.address();
    let metrics = running.metrics();
    let done = Arc::new(AtomicBool::new(false));
    let mut endless = TcpStream::connect(&address).expect("TCP");
    let is_done = Arc::clone(&done);
    // It ends with the program, if the test fails.
    let sender = std::thread::spawn(move || -> std::io::Result<()> {
        let chunk = vec![b'x'; MEBIBYTE];
        let mut sent = 0;
        while sent < 64 || !is_done.load(Ordering::Relaxed) {
            endless.write_all(&chunk)?;
            sent += 1;
            if sent > 64 {
                // If nothing cuts the line, it does not fill the disk.
                std::thread::sleep(Duration::from_millis(250));
            }
        }
        endless.write_all(b"\n{\"after\":1}\n")
    });
    let start = Instant::now();
    for n in 0..5 {
        let snapshots = metric(&metrics, "psexec_filter_snapshots_total");
        let other = format!("{{\"other\":{n}}}");
        send(&address, std::slice::from_ref(&other));
        eventually("another's line", || {
            let bytes = place.get("out").unwrap_or_default();
            bytes
                .windows(other.len())
                .any(|part| part == other.as_bytes())
        });
        eventually("a snapshot", || {
            metric(&metrics, "psexec_filter_snapshots_total") > snapshots
        });
    }
    let took = start.elapsed();
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert!(resident_kib(&running) < 200 * 1024);
    done.store(true, Ordering::Relaxed);
    sender.join().expect("it ends").expect("all is read");
    eventually("the next line", || {
        lines(&place, "out")
            .iter()
            .any(|line| line == "{\"after\":1}\n")
    });
    let out = lines(&place, "out");
    assert_eq!(out.len(), 5 + 1 + 1);
    let cut = out
        .iter()
        .find(|line| line.starts_with('x'))
        .expect("its beginning");
    assert!(
        cut.len() > 4 * MEBIBYTE && cut.len() < 17 * MEBIBYTE,
        "{}",
        cut.len()
    );
    assert!(cut.trim_end().bytes().all(|byte| byte == b'x'));
    assert_eq!(metric(&metrics, "psexec_filter_lines_cut_total"), Some(1.0));
    let skipped = metric(&metrics, "psexec_filter_skipped_bytes_total").expect("counted");
    assert!(skipped > (40 * MEBIBYTE) as f64, "{skipped}");
    let said = running.stop();
    assert_eq!(said.matches("its rest is skipped").count(), 1, "{said}");
}

/// Long lines of several clients have 64 MiB together. One that finds no room is cut; the others come out whole.
#[test]
fn long_lines_of_several_clients_have_a_limit_together() {
    const LENGTH: usize = 15 * 1024 * 1024;
    let place = Place::new();
    let (running, address) = Running::listening(&place, "--max-line 1024");
    let half = vec![b'x'; LENGTH];
    let mut clients = Vec::new();
    for n in 0..8 {
        let mut stream = TcpStream::connect(&address).expect("TCP");
        write!(stream, "{n}").expect("it reads");
        stream.write_all(&half).expect("it reads");
        clients.push(stream);
    }
    assert!(resident_kib(&running) < 250 * 1024);
    for stream in &mut clients {
        stream.write_all(b"\nnext\n").expect("it reads");
    }
    eventually("all lines", || {
        let out = lines(&place, "out");
        out.iter().filter(|line| *line == "next\n").count() == 8
    });
    let out = lines(&place, "out");
    assert_eq!(out.len(), 16);
    let whole = out.iter().filter(|line| line.len() == LENGTH + 2).count();
    assert!((1..8).contains(&whole), "{whole}");
    running.stop();
}

/// An output that accepts nothing holds up the input, and loses nothing when it accepts again. If the program must end while its
/// output accepts nothing, it logs what is lost.
#[test]
fn an_output_that_accepts_nothing_holds_up_the_input() {
    let place = Place::new();
    let reader = TcpListener::bind("127.0.0.1:0").expect("a port");
    let to = reader.local_addr().expect("it has one");
    let arguments = format!(
        "run --input tcp://127.0.0.1:0 --output tcp://{to} --metrics 127.0.0.1:0 --drain 2"
    );
    let mut running = Running::start(&place, &arguments);
    let address = running.address();
    let metrics = running.metrics();
    let send = |count: usize| {
        let mut stream = TcpStream::connect(&address).expect("TCP");
        std::thread::spawn(move || {
            for n in 0..count {
                if writeln!(stream, "{{\"n\":{n},\"fill\":\"{}\"}}", "x".repeat(2_000)).is_err() {
                    return;
                }
            }
        })
    };
    const COUNT: usize = 60_000;
    let sender = send(COUNT);
    let (stream, _) = reader.accept().expect("it connects");
    // 120 MB do not fit into all buffers together: the sender is held up, and the program's memory stays within its limits.
    std::thread::sleep(Duration::from_secs(2));
    assert!(!sender.is_finished(), "the sender was not held up");
    let resident = resident_kib(&running);
    assert!(resident < 200 * 1024, "{resident} KiB");
    assert!(metric(&metrics, "psexec_filter_queued_batches").is_some_and(|queued| queued > 0.0));
    let mut got = BufReader::new(stream).lines();
    for n in 0..COUNT {
        let line = got.next().expect("more").expect("UTF-8");
        assert!(line.starts_with(&format!("{{\"n\":{n},")), "{n}: {line}");
    }
    sender.join().expect("all is sent");
    // The connection is lost: another one is made, and the line that was being written comes again.
    drop(got);
    let mut stream = TcpStream::connect(&address).expect("TCP");
    let (send_on, received) = mpsc::channel();
    std::thread::spawn(move || {
        let (stream, _) = reader.accept().expect("it connects again");
        let first = BufReader::new(&stream).lines().next();
        let _waiting = send_on.send(first.expect("a line").expect("UTF-8"));
        // And reads nothing more, ever.
        std::thread::sleep(LONG);
    });
    stream.write_all(b"{\"again\":1}\n").expect("it reads");
    assert_eq!(
        received.recv_timeout(LONG).as_deref(),
        Ok("{\"again\":1}"),
        "the first line after the loss"
    );
    send(COUNT);
    std::thread::sleep(Duration::from_secs(1));
    running.signal("TERM");
    let (code, said) = running.end();
    assert!(
        code == Some(1) && said.contains("the output did not accept all lines within 2 s"),
        "{code:?} {said}"
    );
}

/// On SIGTERM while a client sends without pause, every line that was read comes out whole.
#[test]
fn on_sigterm_with_a_busy_client_every_line_comes_out_whole() {
    let place = Place::new();
    let (running, address) = Running::listening(&place, "");
    let sender = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(&address).expect("TCP");
        for n in 0.. {
            if writeln!(stream, "{{\"n\":{n}}}").is_err() {
                return;
            }
        }
    });
    eventually("some lines", || lines(&place, "out").len() > 1_000);
    running.stop();
    sender.join().expect("it was cut off");
    let out = lines(&place, "out");
    let (last, whole) = out.split_last().expect("lines");
    for (n, line) in whole.iter().enumerate() {
        assert_eq!(line, &format!("{{\"n\":{n}}}\n"));
    }
    assert!(
        format!("{{\"n\":{}}}\n", whole.len()).starts_with(last.trim_end()),
        "{last}"
    );
}

/// The reader of standard output has closed it: with an input that has no end that is an error.
#[test]
fn a_reader_that_closes_the_output_of_an_endless_input_is_an_error() {
    let place = Place::new();
    let mut command = place.command("run --input tcp://127.0.0.1:0 --state state");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    command
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::piped());
    let mut running = Running::of(command);
    let address = running.address();
    drop(reader);
    send(&address, &attack()[..1]);
    let (code, said) = running.end();
    assert!(
        code == Some(1) && said.contains("stdout: its reader has closed it"),
        "{code:?} {said}"
    );
    assert!(place.get("state").is_some(), "the state is saved");
}

/// If the log cannot be written, the program goes on.
#[test]
fn a_full_disk_for_the_log_stops_nothing() {
    let place = Place::new();
    let mut command = place.command("run --max-line 1024");
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .expect("/dev/full");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(full)
        .spawn()
        .expect("it starts");
    let input = format!("{{\"a\":\"{}\"}}\n{{}}\n", "x".repeat(5_000));
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(input.as_bytes())
        .expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.code() == Some(1) && output.stdout == input.as_bytes());
}

/// An alert that was written without a record is not written again after a restart. Two programs cannot share a state file.
#[test]
fn an_alert_is_not_written_again_after_a_restart() {
    let place = Place::new();
    let arguments = format!(
        "run --input tcp://127.0.0.1:0 --state state --state-interval 1 {}",
        out(&place)
    );
    let full =
        |record: String| record.replacen('{', r#"{"detection":1,"detection_psexec_filter":1,"#, 1);
    let (host, path) = (Host::new("PC1"), r"C:\Windows\a.exe");
    let mut running = Running::start(&place, &arguments);
    let address = running.address();
    send(
        &address,
        &[
            full(host.file(0, "System", path)),
            full(host.start(100, 20, path)),
        ],
    );
    eventually("a third line", || lines(&place, "out").len() == 3);
    let other = place.run(&arguments, b"");
    assert!(
        other.code == Some(1) && other.err.contains("another running program uses this file"),
        "{}",
        other.err
    );
    running.stop();
    let mut again = Running::start(&place, &arguments);
    again.wait_for("continuing from this snapshot");
    std::thread::sleep(Duration::from_secs(3));
    again.stop();
    assert_eq!(lines(&place, "out").len(), 3);
}

/// With a full disk for the output the program waits; with one for the state it loses the snapshot and nothing else.
#[test]
fn a_full_disk_for_output_or_state() {
    let place = Place::new();
    let mut running = Running::start(
        &place,
        "run --input tcp://127.0.0.1:0 --output file:///dev/full --drain 1",
    );
    let address = running.address();
    TcpStream::connect(&address)
        .expect("TCP")
        .write_all(b"{}\n")
        .expect("it reads");
    running.wait_for("file:///dev/full: does not accept data");
    running.signal("TERM");
    let (code, said) = running.end();
    assert!(
        code == Some(1) && said.contains("did not accept all lines"),
        "{code:?} {said}"
    );

    // The snapshot is written to a file beside the state file first: there the disk is full.
    std::os::unix::fs::symlink("/dev/full", place.0.path().join("state.new")).expect("a link");
    let (mut running, address) = Running::listening(&place, "--state state --state-interval 1");
    let mut stream = TcpStream::connect(&address).expect("TCP");
    stream.write_all(b"{\"a\":1}\n").expect("it reads");
    running.wait_for("--state state: the snapshot cannot be written");
    stream.write_all(b"{\"b\":1}\n").expect("it reads");
    eventually("it goes on", || lines(&place, "out").len() == 2);
    drop(stream);
    running.signal("TERM");
    let (code, said) = running.end();
    assert!(
        code == Some(1) && said.contains("the last snapshot could not be written"),
        "{code:?} {said}"
    );
}

/// The attack of the tests below: four executions on one host, which are grouped into one incident.
fn attack() -> Vec<String> {
    let host = Host::new("PC1");
    (0..4u32)
        .flat_map(|run| host.psexec(i64::from(run) * 10_000, 20 + run, "10.0.0.5"))
        .collect()
}

pub fn send(address: &str, records: &[String]) {
    let mut stream = TcpStream::connect(address).expect("TCP");
    for record in records {
        writeln!(stream, "{record}").expect("it reads");
    }
}

/// The program is killed, started again, and sent the last records again: it finds the same incidents under the same ids.
#[test]
fn a_kill_loses_no_incident_if_the_last_records_are_sent_again() {
    let whole = Place::new();
    let records = attack();
    let text: String = records.iter().map(|record| format!("{record}\n")).collect();
    std::fs::write(
        whole.0.path().join("out"),
        whole.run("run", text.as_bytes()).good(),
    )
    .expect("written");
    let want = ids(&whole, "out");
    assert!(!want.is_empty());
    for cut in [3, records.len() / 2] {
        let place = Place::new();
        let arguments = format!(
            "run --input tcp://127.0.0.1:0 --state state --state-interval 1 {}",
            out(&place)
        );
        let mut first = Running::start(&place, &arguments);
        let address = first.address();
        send(&address, &records[..cut]);
        eventually("they are out", || lines(&place, "out").len() == cut);
        // Waits for a snapshot that was begun after that. Each line lets the program begin one.
        let saved = || {
            std::fs::metadata(place.0.path().join("state"))
                .and_then(|data| data.modified())
                .ok()
        };
        let out_at = saved();
        let mut nudges = 0;
        eventually("a snapshot", || {
            send(&address, &["{}".to_owned()]);
            nudges += 1;
            std::thread::sleep(Duration::from_millis(100));
            nudges > 12 && saved() > out_at
        });
        eventually("they are out", || {
            lines(&place, "out").len() == cut + nudges
        });
        first.signal("KILL");
        first.end();
        let mut second = Running::start(&place, &arguments);
        let address = second.address();
        second.wait_for("--state state: continuing from this snapshot");
        let again = &records[cut.saturating_sub(5)..];
        send(&address, again);
        eventually("they are out", || {
            lines(&place, "out").len() == cut + nudges + again.len()
        });
        second.stop();
        assert_eq!(ids(&place, "out"), want, "cut at {cut}");
    }
}

/// On SIGTERM the program writes everything that came and saves its state; the next one goes on from there.
#[test]
fn on_sigterm_everything_is_written_and_the_state_is_saved() {
    let place = Place::new();
    let arguments = format!(
        "run --input tcp://127.0.0.1:0 --state state {}",
        out(&place)
    );
    let records = attack();
    let mut sent = 0;
    for record in records.chunks(records.len().div_ceil(4)) {
        let mut running = Running::start(&place, &arguments);
        let address = running.address();
        send(&address, record);
        // At once: what is on its way is still read.
        running.stop();
        sent += record.len();
        assert_eq!(lines(&place, "out").len(), sent);
    }
    assert_eq!(ids(&place, "out").len(), 1);
}

/// A state file that cannot be used is put aside, which is logged, and the program begins without state.
#[test]
fn a_state_file_that_cannot_be_used_is_put_aside() {
    let place = Place::new();
    let arguments = format!(
        "run --input tcp://127.0.0.1:0 --state state {}",
        out(&place)
    );
    let mut running = Running::start(&place, &arguments);
    let address = running.address();
    send(&address, &attack()[..2]);
    running.stop();
    let good = String::from_utf8(place.get("state").expect("state")).expect("UTF-8");
    let crc = |body: &str| crc32fast::hash(body.as_bytes());
    let body =
        good.split_once('\n')
            .expect("a head")
            .1
            .replacen(r#""state":4"#, r#""state":99"#, 1);
    let other = format!(
        "{{\"psexec_filter_state\":1,\"pieces\":{},\"crc32\":{}}}\n{body}",
        body.lines().count(),
        crc(&body)
    );
    for (bytes, says) in [
        (good[..good.len() - 30].to_owned(), "is damaged"),
        (good.replace("PC1", "PC2"), "is damaged: its checksum"),
        (
            "hello".to_owned(),
            "is damaged: it does not begin like a snapshot",
        ),
        (
            good.replacen("\"psexec_filter_state\":1", "\"psexec_filter_state\":7", 1),
            "was written by another version of this program, in file format 7",
        ),
        (
            other,
            "was written by another version of the module, in state format 99",
        ),
    ] {
        place.put("state", &bytes);
        let mut running = Running::start(&place, &arguments);
        running.wait_for(says);
        running.stop();
        assert_eq!(
            place.get("state.refused").as_deref(),
            Some(bytes.as_bytes()),
            "{says}"
        );
        assert!(
            place.get("state").is_none(),
            "{says}: no record came, so nothing is saved"
        );
    }
}

/// On SIGHUP the program reads module and policy again and keeps its state. If they cannot be read, it goes on with the old ones.
#[test]
fn on_sighup_module_and_policy_are_read_again() {
    let place = Place::new();
    place.put("policy.toml", "");
    let (mut running, address) = Running::listening(&place, "--policy policy.toml");
    let host = Host::new("PC1");
    let path = r"C:\Windows\a.exe";
    send(&address, &[host.file(0, "System", path)]);
    eventually("it is out", || lines(&place, "out").len() == 1);
    place.put("policy.toml", "[alert]\nkey = 7");
    running.signal("HUP");
    running.wait_for("module and policy were not replaced: policy.toml:2:");
    place.put("policy.toml", "[alert]\nkey = \"found\"");
    running.signal("HUP");
    running.wait_for("module and policy were read again");
    send(&address, &[host.start(100, 20, path)]);
    eventually("it is out", || lines(&place, "out").len() == 2);
    let last: Value = serde_json::from_str(&lines(&place, "out")[1]).expect("JSON");
    assert_eq!(last["found"]["kind"], "alert", "{last}");
    running.stop();
}

/// An alert that its record cannot carry is written as a line of its own.
#[test]
fn an_alert_that_no_record_carries_is_a_line_of_its_own() {
    let place = Place::new();
    let (running, address) = Running::listening(&place, "");
    let host = Host::new("PC1");
    let full =
        |record: String| record.replacen('{', r#"{"detection":1,"detection_psexec_filter":1,"#, 1);
    let path = r"C:\Windows\a.exe";
    send(
        &address,
        &[
            full(host.file(0, "System", path)),
            full(host.start(100, 20, path)),
        ],
    );
    eventually("a third line", || lines(&place, "out").len() == 3);
    let alert: Value = serde_json::from_str(&lines(&place, "out")[2]).expect("JSON");
    assert_eq!(alert["detection"]["kind"], "alert");
    running.stop();
}

/// Records on which the module hangs or traps are passed on unchanged.
#[test]
fn records_on_which_the_module_hangs_or_traps_are_passed_on() {
    let place = Place::new();
    // The third byte of the record says what to do: L loops, T traps, G asks for 128 MiB and traps if it does not get them.
    let module = r#"(module (memory (export "memory") 6) (global (export "PSEXEC_FILTER_POLICY") i32 (i32.const 131072))
        (global $at (mut i32) (i32.const 1024))
        (func (export "malloc") (param i32) (result i32)
            (global.set $at (i32.xor (global.get $at) (i32.const 65536))) (global.get $at))
        (func (export "free") (param i32))
        (func (export "psexec_filter_save") (result i32) (i32.const 0))
        (func (export "psexec_filter_abi") (result i32) (i32.const ABI))
        (func (export "psexec_filter") (param i32 i32 i32 i32 i32 i32) (result i32)
            (if (i32.eq (i32.load8_u offset=2 (local.get 4)) (i32.const 76)) (then (loop $l (br $l))))
            (if (i32.eq (i32.load8_u offset=2 (local.get 4)) (i32.const 84)) (then (unreachable)))
            (if (i32.eq (i32.load8_u offset=2 (local.get 4)) (i32.const 71))
                (then (if (i32.eq (memory.grow (i32.const 2048)) (i32.const -1)) (then (unreachable)))))
            (local.get 4)))"#;
    let module = module.replace("ABI", &psexec_filter_plugin::ABI.to_string());
    place.put("m.wasm", wat::parse_str(module).expect("good WAT"));
    let input = "{\"a\":1}\n{\"L\":1}\n{\"b\":1}\n{\"T\":1}\n{\"c\":1}\n{\"G\":1}\n";
    let ran = place.run("run --module m.wasm --call-deadline 100", input.as_bytes());
    assert_eq!(
        (ran.code, String::from_utf8_lossy(&ran.out).as_ref()),
        (Some(1), input)
    );
    for says in [
        "stdin:2: passed on unexamined: the module trapped (the call took longer than its deadline)",
        "stdin:4: passed on unexamined: the module trapped (",
        "stdin:6: passed on unexamined: the module trapped (",
    ] {
        assert!(ran.err.contains(says), "{says} in {}", ran.err);
    }
}

#[test]
fn the_log_is_appended_to_a_file_that_may_be_renamed() {
    let place = Place::new();
    place.put("log", "from an earlier run\n");
    let log = || String::from_utf8(place.get("log").unwrap_or_default()).expect("UTF-8");
    let wait_for = |what: &str, meanwhile: &dyn Fn()| {
        let end = Instant::now() + LONG;
        while !log().contains(what) {
            assert!(Instant::now() < end, "no `{what}` in {}", log());
            meanwhile();
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let arguments = "run --input tcp://127.0.0.1:0 --log-file log";
    let running = Running::start(&place, arguments);
    wait_for("listening on tcp://", &|| ());
    assert!(log().starts_with("from an earlier run\n"), "{}", log());
    std::fs::rename(place.0.path().join("log"), place.0.path().join("log.1")).expect("renamed");
    // Before the module is ready the signal has no effect.
    wait_for("module and policy were read again", &|| {
        running.signal("HUP")
    });
    running.signal("TERM");
    let (code, said) = running.end();
    assert_eq!((code, said.as_str()), (Some(0), ""));
    assert!(log().contains("asked to end"), "{}", log());
    // What ends the program is there, too.
    let ran = place.run("run --policy missing.toml --log-file log", b"");
    assert_eq!(ran.code, Some(1));
    assert!(
        log().contains("ERROR missing.toml: cannot be read"),
        "{}",
        log()
    );
}

/// How many alerts [`too_large_for_a_snapshot`] leads to.
const LARGE_ALERTS: u32 = 60;

/// Records of a host that is too large for a snapshot: names and command lines that are as long as any that is kept. Its alerts are held,
/// because an entry of the policy asks for sources.
fn too_large_for_a_snapshot() -> (&'static str, Vec<String>) {
    let policy = "[limits]\nevidence_per_host = 256\nincidents_per_host = 64\n
        [[allow]]\nsource = [\"10.9.9.9\"]\nreason = \"test\"\n";
    let (large, pad) = (Host::new("LARGE"), "\u{1}".repeat(980));
    let records = (0..LARGE_ALERTS).flat_map(|n| {
        let path = format!(r"C:\Windows\{n}{pad}.exe");
        let mut data = data::process((100 + n, &path, &path), (1, SERVICES), SYSTEM);
        data["OriginalFileName"] = pad.as_str().into();
        let at = i64::from(n) * 10;
        [
            large.file(at, "System", &path),
            large.event(1, at + 5, data),
        ]
    });
    (policy, records.collect())
}

/// At SIGTERM, and when the policy is read again, the alerts that wait on a host which is too large to be saved are written, once, and
/// the loss of the rest is said.
#[test]
fn alerts_of_a_host_that_is_too_large_to_be_saved_are_written_at_the_end() {
    let (policy, records) = too_large_for_a_snapshot();
    let small = Host::new("SMALL").psexec(0, 20, "10.0.0.5");
    for signal in ["TERM", "HUP"] {
        let place = Place::new();
        place.put("policy.toml", policy);
        let arguments = format!(
            "run --input tcp://127.0.0.1:0 --state state --policy policy.toml --emit alerts {}",
            out(&place)
        );
        let mut running = Running::start(&place, &arguments);
        let address = running.address();
        send(&address, &small[..3]);
        send(&address, &records);
        let said = match signal {
            "TERM" => running.stop(),
            _ => {
                // What is on its way is not waited for.
                std::thread::sleep(Duration::from_secs(1));
                running.signal(signal);
                running.wait_for("module and policy were read again");
                running.stop()
            }
        };
        assert!(
            said.contains(
                "hosts that hold too much to be saved: 1; alerts that waited were written"
            ),
            "{signal}: {said}"
        );
        // The other host goes on from the snapshot.
        let mut again = Running::start(&place, &arguments);
        let address = again.address();
        again.wait_for("continuing from this snapshot");
        send(&address, &small[3..]);
        let is_of = |line: &&String, host: &str| line.contains(&format!(r#""name":"{host}""#));
        let count = |host: &str| {
            let out = lines(&place, "out");
            out.iter().filter(|line| is_of(line, host)).count()
        };
        eventually("the other host's alert", || {
            lines(&place, "out")
                .iter()
                .any(|line| is_of(&line, "SMALL") && line.contains(r#""severity":"critical""#))
        });
        let said = again.stop();
        assert!(!said.contains("too much to be saved"), "{signal}: {said}");
        assert_eq!(count("LARGE"), LARGE_ALERTS as usize, "{signal}");
    }
}

/// The output file is rotated again and again while lines come, in every way in which that is done: no line is lost or divided.
#[test]
fn an_output_file_that_is_rotated_loses_no_line() {
    let place = Place::new();
    let (mut running, address) = Running::listening(&place, "");
    let path = place.0.path().join("out");
    let mut stream = TcpStream::connect(&address).expect("TCP");
    let mut rotated = Vec::new();
    let mut sent = 0;
    let mut some = |count: usize| {
        for _ in 0..count {
            writeln!(
                stream,
                "{{\"n\":{sent},\"fill\":\"{}\"}}",
                "x".repeat(sent % 3_000)
            )
            .expect("it reads");
            sent += 1;
        }
    };
    for (round, way) in ["renamed", "HUP", "created", "renamed", "HUP", "created"]
        .iter()
        .enumerate()
    {
        some(3_000);
        eventually("the first lines", || !lines(&place, "out").is_empty());
        let old = format!("out.{round}");
        std::fs::rename(&path, place.0.path().join(&old)).expect("renamed");
        if *way == "created" {
            place.put("out", "");
        }
        if *way == "HUP" {
            running.signal("HUP");
        }
        some(3_000);
        running.wait_for("out: opened again");
        rotated.push(old);
    }
    // It is removed while the program is idle: the next line is in a new file.
    some(1);
    rotated.push("out.last".to_owned());
    eventually("all lines", || {
        let ends = |bytes: &[u8]| {
            bytes
                .split(|byte| *byte == b'\n')
                .rev()
                .nth(1)
                .is_some_and(|line| line.starts_with(format!("{{\"n\":{},", sent - 1).as_bytes()))
        };
        place.get("out").is_some_and(|bytes| ends(&bytes))
    });
    std::fs::copy(&path, place.0.path().join("out.last")).expect("copied");
    std::fs::remove_file(&path).expect("removed");
    running.wait_for("out: opened again");
    writeln!(stream, "{{\"last\":1}}").expect("it reads");
    eventually("the last line", || {
        lines(&place, "out") == ["{\"last\":1}\n"]
    });
    running.stop();
    let all = rotated.iter().flat_map(|file| lines(&place, file));
    let mut next = 0;
    for line in all {
        let value: Value = serde_json::from_str(&line).expect("a whole line");
        assert_eq!(value["n"], next);
        next += 1;
    }
    assert_eq!(next, sent);
}

/// A disk is full, and the operator moves the output elsewhere: what waits goes there, whole.
#[test]
fn an_output_file_that_is_moved_from_a_full_disk_gets_all_lines() {
    let place = Place::new();
    let path = place.0.path().join("out");
    std::os::unix::fs::symlink("/dev/full", &path).expect("a link");
    let (mut running, address) = Running::listening(&place, "");
    let sent: Vec<String> = (0..1_000).map(|n| format!("{{\"n\":{n}}}")).collect();
    send(&address, &sent);
    running.wait_for("out: does not accept data");
    std::fs::remove_file(&path).expect("removed");
    running.wait_for("out: accepts data again");
    let want: Vec<String> = sent.iter().map(|line| format!("{line}\n")).collect();
    eventually("all lines", || lines(&place, "out") == want);
    running.stop();
}

/// While the folder is away no new file can be made: lines go to the old one, which is said once, until it can.
#[test]
fn an_output_file_that_cannot_be_opened_again_is_written_on() {
    let place = Place::new();
    let folder = place.0.path().join("logs");
    let away = place.0.path().join("away");
    std::fs::create_dir(&folder).expect("created");
    let arguments = format!(
        "run --input tcp://127.0.0.1:0 --output file://{}/out",
        folder.display()
    );
    let mut running = Running::start(&place, &arguments);
    let address = running.address();
    send(&address, &["{\"a\":1}".to_owned()]);
    eventually("the first line", || lines(&place, "logs/out").len() == 1);
    std::fs::rename(&folder, &away).expect("renamed");
    running.wait_for("was renamed or removed, and cannot be opened again");
    send(&address, &["{\"b\":1}".to_owned()]);
    eventually("the line is in the old file", || {
        lines(&place, "away/out") == ["{\"a\":1}\n", "{\"b\":1}\n"]
    });
    std::thread::sleep(Duration::from_secs(2));
    std::fs::create_dir(&folder).expect("created");
    running.wait_for("out: opened again");
    send(&address, &["{\"c\":1}".to_owned()]);
    eventually("the line is in the new file", || {
        lines(&place, "logs/out") == ["{\"c\":1}\n"]
    });
    let said = running.stop();
    assert_eq!(said.matches("cannot be opened again").count(), 1, "{said}");
}
