//! The program for Windows, on Windows or under Wine: `make windows` builds it and runs these tests. They are skipped where the
//! variable WINDOWS_PROGRAM does not name it, or there is no Wine.

use crate::program::{PATIENCE, wait_for};
use psexec_filter::engine::{Compiled, Options, Start};
use psexec_filter::replay::{self, DEMO, Format};
use psexec_filter_pack::unpack;
use psexec_filter_tests::{Host, module, skipped};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::{LazyLock, mpsc};
use std::time::{Duration, Instant};

/// Debian's compiler for the target of the program.
const COMPILER: &str = "x86_64-w64-mingw32-gcc";

/// Where and how programs for Windows run.
struct Windows {
    /// A folder of a Windows drive that is empty at first, for the program and the files of the tests.
    folder: PathBuf,
    /// Wine's drive C, where this is not Windows.
    drive: Option<PathBuf>,
    /// A program that waits for the end of the tests: with its last program Wine ends all services.
    waiting: Option<Child>,
}

static WINDOWS: LazyLock<Option<Windows>> = LazyLock::new(|| {
    let Some(program) = std::env::var_os("WINDOWS_PROGRAM") else {
        skipped("WINDOWS_PROGRAM does not name a program for Windows; `make windows` builds one");
        return None;
    };
    let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let mut windows = Windows {
        // A path with a blank, as many on Windows are.
        folder: temporary.join("psexec filter"),
        drive: None,
        waiting: None,
    };
    if !cfg!(windows) {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&path).any(|folder| folder.join("wine").is_file()) {
            skipped("no wine on PATH, which would run the program for Windows");
            return None;
        }
        let drive = temporary.join("wine/drive_c");
        std::fs::create_dir_all(temporary.join("wine")).expect("a folder");
        windows.folder = drive.join("psexec filter");
        windows.drive = Some(drive);
        // Makes drive C, if there is none.
        let made = windows.command("wineboot").arg("--init").status();
        assert!(made.is_ok_and(|status| status.success()), "no drive C");
        // Services that Wine starts when drive C is new may take minutes. When Wine begins again it starts them in seconds.
        let mut ended = Command::new("wineserver");
        ended
            .env("WINEPREFIX", temporary.join("wine"))
            .arg("--wait");
        assert!(
            ended.status().is_ok_and(|status| status.success()),
            "Wine does not end"
        );
        let events = std::fs::File::create(temporary.join("wine/events.log")).expect("a file");
        let mut waiting = windows.command("cmd.exe");
        waiting.args(["/c", "set /p line="]).stdin(Stdio::piped());
        waiting.stdout(Stdio::null()).stderr(events);
        windows.waiting = Some(waiting.spawn().expect("it starts"));
    }
    let _left_by_another_run = std::fs::remove_dir_all(&windows.folder);
    std::fs::create_dir_all(&windows.folder).expect("a folder");
    std::fs::copy(program, windows.folder.join("psexec-filter.exe")).expect("WINDOWS_PROGRAM");
    windows.compile("console.exe", "console.c", &["-municode"]);
    windows.compile("control.exe", "control.c", &["-municode", "-ladvapi32"]);
    if !cfg!(windows) {
        windows.compile(
            "bcryptprimitives.dll",
            "bcryptprimitives.c",
            &["-shared", "-ladvapi32"],
        );
    }
    Some(windows)
});

impl Windows {
    /// A program for Windows. It is not started yet.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let Some(drive) = &self.drive else {
            return Command::new(program);
        };
        let mut wine = Command::new("wine");
        wine.arg(program.as_ref())
            .env("WINEPREFIX", drive.parent().expect("a prefix"))
            // Errors in the event log are shown by the first program, which starts the service controller.
            .env("WINEDEBUG", "-all,err+eventlog")
            // Not needed, and Wine would offer to download them.
            .env("WINEDLLOVERRIDES", "mscoree,mshtml=");
        wine
    }

    fn compile(&self, to: &str, from: &str, options: &[&str]) {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/windows");
        let mut compiler = Command::new(COMPILER);
        compiler
            .arg("-o")
            .arg(self.folder.join(to))
            .arg(sources.join(from))
            .args(options);
        assert!(
            compiler.status().is_ok_and(|status| status.success()),
            "{COMPILER} does not compile {from}"
        );
    }

    /// A path as Windows writes it.
    fn path(&self, path: &Path) -> String {
        let Some(drive) = &self.drive else {
            return path.display().to_string();
        };
        let path = path.strip_prefix(drive).expect("on drive C");
        format!(r"C:\{}", path.display().to_string().replace('/', r"\"))
    }
}

/// A folder of its own for a test.
struct Place {
    windows: &'static Windows,
    folder: tempfile::TempDir,
}

impl Place {
    /// An empty folder. `None` if the test is skipped.
    fn new() -> Option<Place> {
        let windows = WINDOWS.as_ref()?;
        let folder = tempfile::tempdir_in(&windows.folder).expect("a folder");
        Some(Place { windows, folder })
    }

    /// A file there.
    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The file's path as Windows writes it.
    fn path(&self, name: &str) -> String {
        self.windows.path(&self.file(name))
    }

    /// The file's URL.
    fn url(&self, name: &str) -> String {
        let path = self.path(name).replace('\\', "/");
        format!("file:///{}", path.replace(' ', "%20"))
    }

    /// The program in a folder, with arguments.
    fn command(&self, arguments: &[&str]) -> Command {
        let program = self.windows.folder.join("psexec-filter.exe");
        let mut command = self.windows.command(self.windows.path(&program));
        command.args(arguments).current_dir(self.folder.path());
        command
    }

    /// Runs the program to its end.
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        command.stdin(Stdio::null()).output().expect("it starts")
    }

    /// What it prints, if it succeeds.
    fn good(&self, arguments: &[&str]) -> Vec<u8> {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        output.stdout
    }

    /// What it reports, if it fails.
    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?}: {output:?}");
        text(output.stderr)
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("UTF-8")
}

/// What `replay` prints here for the built-in demo log.
fn demo_report() -> String {
    let compiled = Compiled::new(module()).expect("it loads");
    let start: Start = Box::new(move || Ok(Box::new(compiled.start(Options::default())?)));
    let filter = replay::Filter {
        start: &start,
        policy: &Default::default(),
    };
    let mut report = Vec::new();
    replay::replay(&filter, &[], Format::Text, &mut report, &mut Vec::new()).expect("to memory");
    text(report)
}

#[test]
fn on_windows_replay_finds_what_it_finds_elsewhere() {
    let Some(place) = Place::new() else { return };
    let version = text(place.good(&["--version"]));
    let first = version.lines().next();
    let expected = format!("psexec-filter {}", env!("CARGO_PKG_VERSION"));
    assert_eq!(first, Some(expected.as_str()), "{version}");
    let report = demo_report();
    assert!(report.contains("CRITICAL"), "{report}");
    assert_eq!(text(place.good(&["replay"])), report);
    // A log as Windows programs write it, found by its drive.
    let log = String::from_utf8_lossy(DEMO).replace('\n', "\r\n");
    std::fs::write(place.file("log of today.ndjson"), log).expect("written");
    let path = place.path("log of today.ndjson");
    assert!(path.as_bytes().get(1) == Some(&b':'), "{path}");
    let found = text(place.good(&["replay", &path]));
    assert!(found.contains("CRITICAL"), "{found}");
    assert!(found.contains(r"C:\Windows\PSEXESVC.exe"), "{found}");
    let missing = place.refused(&["replay", &place.path("missing.ndjson")]);
    assert!(missing.contains(&place.path("missing.ndjson")), "{missing}");
}

#[test]
fn on_windows_a_module_with_a_policy_is_packed_and_used() {
    let Some(place) = Place::new() else { return };
    let policy = "[alert]\nkey = \"finding\"\n";
    std::fs::write(place.file("policy.toml"), policy).expect("written");
    let packed = place.path("filter.wasm");
    place.good(&[
        "pack",
        "--policy",
        &place.path("policy.toml"),
        "--out",
        &packed,
    ]);
    let bytes = std::fs::read(place.file("filter.wasm")).expect("packed");
    let inside = unpack(&bytes).expect("a module").expect("a policy");
    assert_eq!(inside.alert.key.as_str(), "finding");
    // And it is the module that Windows runs.
    assert_eq!(
        text(place.good(&["replay", "--module", &packed])),
        demo_report()
    );
    let shown = text(place.good(&["policy", "show", &packed]));
    assert!(shown.contains("key = \"finding\""), "{shown}");
}

/// The built-in module is machine code for Windows since it was built; a module from a file is compiled at each start.
#[test]
fn on_windows_the_built_in_module_is_not_compiled_at_the_start() {
    let Some(place) = Place::new() else { return };
    let (policy, packed) = (place.path("policy.toml"), place.path("filter.wasm"));
    std::fs::write(place.file("policy.toml"), "[alert]\nkey = \"finding\"\n").expect("written");
    place.good(&["pack", "--policy", &policy, "--out", &packed]);
    let least = |arguments: &[&str]| {
        (0..3)
            .map(|_| {
                let start = Instant::now();
                place.good(arguments);
                start.elapsed()
            })
            .min()
            .expect("three")
    };
    let built_in = least(&["replay"]);
    let compiled = least(&["replay", "--module", &packed]);
    assert!(
        built_in < compiled / 2,
        "{built_in:?} with the built-in module, {compiled:?} with one that is compiled"
    );
}

#[test]
fn on_windows_urls_that_name_no_file_are_refused() {
    let Some(place) = Place::new() else { return };
    for (option, url, message) in [
        (
            "--output",
            "file://C:/out.ndjson",
            "expected three slashes: file:///C:/out.ndjson",
        ),
        (
            "--output",
            "file:///logs/out.ndjson",
            "expected file:///C:/",
        ),
        ("--output", "file:///C:/NUL", "no file of the name `NUL`"),
        ("--output", r"C:\out.ndjson", "expected `-`, `file:///C:/"),
        (
            "--input",
            "unix:///run/in.sock",
            "no Unix sockets on Windows",
        ),
    ] {
        let refused = place.refused(&["run", option, url]);
        assert!(refused.contains(message), "{url}: {refused}");
        assert!(refused.contains(url), "{url}: {refused}");
    }
}

/// `run` in a console.
struct Running {
    child: Child,
    console: ChildStdin,
    log: mpsc::Receiver<String>,
    address: String,
}

/// Events of a console, and their names for files. Wine 8 sends no other than the first.
const EVENTS: &[(&str, &str)] = if cfg!(windows) {
    &[("0", "c"), ("1", "break")]
} else {
    &[("0", "c")]
};

impl Running {
    /// Starts `run` with TCP as input, in a console in which [`Running::stop`] causes `event`.
    fn start(place: &Place, event: &str, options: &[&str]) -> Running {
        let windows = place.windows;
        let at = |name: &str| windows.path(&windows.folder.join(name));
        let mut child = windows
            .command(at("console.exe"))
            .args([event, &at("psexec-filter.exe"), "run"])
            .args(["--input", "tcp://127.0.0.1:0"])
            .args(options)
            .current_dir(place.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let (send, log) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        std::thread::spawn(move || {
            stderr
                .lines()
                .try_for_each(|line| send.send(line.expect("UTF-8")))
        });
        let mut running = Running {
            console: child.stdin.take().expect("piped"),
            child,
            log,
            address: String::new(),
        };
        running.address = running.wait_for("listening on tcp://");
        running
    }

    /// Waits for a message with `what` in it; returns what comes after that.
    fn wait_for(&mut self, what: &str) -> String {
        let end = Instant::now() + PATIENCE;
        let mut all = String::new();
        while let Ok(line) = self
            .log
            .recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            if let Some((_, rest)) = line.split_once(what) {
                return rest.trim_end().to_owned();
            }
            all += &line;
        }
        panic!("it never logged `{what}`, but:\n{all}");
    }

    fn send(&self, records: &[String]) {
        TcpStream::connect(&self.address)
            .and_then(|stream| send(stream, records))
            .expect("it listens");
    }

    /// Causes the event in the console; returns the exit code.
    fn stop(mut self) -> Option<i32> {
        self.console.write_all(b"\n").expect("the console waits");
        let end = Instant::now() + PATIENCE;
        loop {
            match self.child.try_wait().expect("a child") {
                Some(status) => return status.code(),
                None if Instant::now() > end => panic!("it does not end"),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that failed leaves no process running.
        let _ = self.console.write_all(b"\n");
    }
}

/// Sends records as a shipper does.
fn send(mut stream: TcpStream, records: &[String]) -> std::io::Result<()> {
    records
        .iter()
        .try_for_each(|record| writeln!(stream, "{record}"))
}

/// What the last alert among lines lacks to be the whole attack; `None` without an alert.
fn missing(lines: &[Value]) -> Option<Vec<Value>> {
    let mut alerts = lines.iter().rev().map(|line| &line["detection"]["missing"]);
    alerts.find_map(|missing| missing.as_array().cloned())
}

#[test]
fn on_windows_run_stopped_in_an_attack_detects_it_after_a_restart() {
    let Some(place) = Place::new() else { return };
    let records = Host::new("PC1").psexec(0, 7, "10.55.1.77");
    for (event, name) in EVENTS {
        let state = place.path(&format!("{name}.state"));
        let output = format!("{name}.ndjson");
        let url = place.url(&output);
        // Only the signal saves the state: the interval is longer than the test.
        let options = [
            "--output",
            &url,
            "--state",
            &state,
            "--state-interval",
            "3600",
        ];
        let running = Running::start(&place, event, &options);
        // Not one of these lines has been written when the signal comes, or all: they are drained.
        running.send(&records[..2]);
        assert_eq!(running.stop(), Some(0), "{name}");
        let before = wait_for(&place.file(&output), 2);
        assert_eq!((before.len(), missing(&before)), (2, None), "{name}");

        let mut running = Running::start(&place, event, &options);
        running.wait_for("continuing from this snapshot");
        running.send(&records[2..]);
        let after = wait_for(&place.file(&output), records.len());
        assert_eq!(missing(&after), Some(Vec::new()), "{name}: {after:?}");
        assert_eq!(running.stop(), Some(0), "{name}");

        // Without the state these records are not the whole attack.
        let other = format!("{name}-without.ndjson");
        let running = Running::start(&place, event, &["--output", &place.url(&other)]);
        running.send(&records[2..]);
        let without = wait_for(&place.file(&other), records.len() - 2);
        assert!(
            missing(&without).is_some_and(|missing| !missing.is_empty()),
            "{name}: {without:?}"
        );
        assert_eq!(running.stop(), Some(0), "{name}");
    }
}

/// A service with a name of its own, removed at the end of a test.
struct Service<'a> {
    place: &'a Place,
    name: &'static str,
}

impl Service<'_> {
    fn new<'a>(place: &'a Place, name: &'static str) -> Service<'a> {
        let service = Service { place, name };
        // A run of this test that was killed may have left it.
        service.place.run(&["service", "uninstall", "--name", name]);
        service
    }

    /// Installs it; returns what that reports.
    fn install(&self, arguments: &[&str]) -> String {
        let install = ["service", "install", "--name", self.name, "--"];
        let output = self.place.run(&[&install, arguments].concat());
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        text(output.stderr)
    }

    /// Asks the service controller to `stop` it, or with `query` for its state. Returns what it prints.
    fn controller(&self, what: &str) -> String {
        let mut command = self.place.windows.command("sc.exe");
        let output = command.args([what, self.name]).output().expect("sc.exe");
        text(output.stdout)
    }

    /// Starts it. The service controller refuses that while it starts another one. While Wine begins it may start this one by itself,
    /// because it has been installed.
    fn start(&self) {
        let start = || {
            let mut command = self.place.windows.command("sc.exe");
            let started = command.args(["start", self.name]).output().expect("sc.exe");
            let runs = || self.controller("query").contains("RUNNING");
            (started.status.success() || runs()).then_some(())
        };
        wait_until(start).unwrap_or_else(|| panic!("not started: {}", self.controller("query")));
    }

    /// Waits until the service controller says `what` about it.
    fn wait_for(&self, what: &str) -> String {
        wait_until(|| Some(self.controller("query")).filter(|says| says.contains(what)))
            .unwrap_or_else(|| panic!("no {what}: {}", self.controller("query")))
    }
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        self.place
            .run(&["service", "uninstall", "--name", self.name]);
    }
}

/// Tries until there is something, for as long as Wine may refuse to start a service while it starts its own.
fn wait_until<T>(attempt: impl Fn() -> Option<T>) -> Option<T> {
    let end = Instant::now() + 3 * PATIENCE;
    loop {
        let result = attempt();
        if result.is_some() || Instant::now() > end {
            return result;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// An address on which nobody listens.
fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port")
        .to_string()
}

#[test]
fn on_windows_a_service_stopped_in_an_attack_detects_it_after_a_restart() {
    let Some(place) = Place::new() else { return };
    let service = Service::new(&place, "psexec-filter-test");
    let records = Host::new("PC1").psexec(0, 7, "10.55.1.77");
    let address = free_address();
    std::fs::write(place.file("policy.toml"), "").expect("written");
    let (input, output) = (format!("tcp://{address}"), place.url("out.ndjson"));
    let (state, policy) = (place.path("state"), place.path("policy.toml"));
    let log_file = place.path("log.txt");
    let mut arguments = vec!["--input", &input, "--output", &output];
    arguments.extend(["--state", &state, "--state-interval", "3600"]);
    arguments.extend(["--policy", &policy, "--log-file", &log_file]);
    let log = || std::fs::read_to_string(place.file("log.txt")).unwrap_or_default();
    let logs = |what: &str| {
        wait_until(|| log().contains(what).then_some(()))
            .unwrap_or_else(|| panic!("no `{what}` in {}", log()));
    };
    let send = |records: &[String]| {
        service.wait_for("RUNNING");
        TcpStream::connect(&address)
            .and_then(|stream| send(stream, records))
            .unwrap_or_else(|error| panic!("{error}; {}", log()));
    };

    let installed = service.install(&arguments);
    assert!(installed.contains("was installed"), "{installed}");
    service.start();
    send(&records[..2]);
    service.controller("stop");
    let stopped = service.wait_for("STOPPED");
    assert!(stopped.contains("WIN32_EXIT_CODE    : 0"), "{stopped}");
    let before = wait_for(&place.file("out.ndjson"), 2);
    assert_eq!((before.len(), missing(&before)), (2, None));

    // Another version is installed over it: policy and state are as they were.
    let files = || ["state", "policy.toml"].map(|name| std::fs::read(place.file(name)).ok());
    let kept = files();
    assert!(kept.iter().all(Option::is_some));
    let changed = service.install(&arguments);
    assert!(changed.contains("was changed"), "{changed}");
    assert_eq!(files(), kept);

    service.start();
    logs("continuing from this snapshot");
    send(&records[2..]);
    let after = wait_for(&place.file("out.ndjson"), records.len());
    assert_eq!(missing(&after), Some(Vec::new()), "{after:?}");

    // `paramchange`: the policy is read again.
    std::fs::write(place.file("policy.toml"), "[alert]\nkey = \"found\"\n").expect("written");
    let control = place.windows.folder.join("control.exe");
    let mut control = place.windows.command(place.windows.path(&control));
    let sent = control.args([service.name, "6"]).status();
    assert!(sent.is_ok_and(|status| status.success()));
    logs("module and policy were read again");
    send(&Host::new("PC2").psexec(60_000, 8, "10.55.1.78"));
    let found = wait_for(&place.file("out.ndjson"), records.len() * 2);
    assert!(
        found.iter().any(|line| !line["found"].is_null()),
        "{found:?}"
    );

    let kept = ["out.ndjson", "policy.toml", "log.txt"].map(|name| place.file(name));
    place.good(&["service", "uninstall", "--name", service.name]);
    assert!(!service.controller("query").contains("RUNNING"));
    assert!(kept.iter().all(|file| file.is_file()) && place.file("state").is_file());
    let gone = place.refused(&["service", "uninstall", "--name", service.name]);
    assert!(gone.contains("there is no service"), "{gone}");
}

#[test]
fn on_windows_a_service_that_cannot_start_logs_why() {
    let Some(place) = Place::new() else { return };
    let service = Service::new(&place, "psexec-filter-broken");
    let input = format!("tcp://{}", free_address());
    let output = place.url("out.ndjson");
    std::fs::write(place.file("policy.toml"), "").expect("written");
    let (policy, log_file) = (place.path("policy.toml"), place.path("log.txt"));
    let mut arguments = vec!["--input", &input, "--output", &output];
    arguments.extend(["--policy", &policy, "--log-file", &log_file]);
    service.install(&arguments);
    // Damaged after it was installed.
    std::fs::write(place.file("policy.toml"), "[alert]\nkeys = 1\n").expect("written");
    service.start();
    let says = service.wait_for("SERVICE_EXIT_CODE  : 1");
    assert!(says.contains("1066"), "{says}");
    let log = std::fs::read_to_string(place.file("log.txt")).expect("a log");
    assert!(
        log.contains("ERROR") && log.contains("unknown field `keys`"),
        "{log}"
    );
    if let Some(drive) = &place.windows.drive {
        let events = std::fs::read_to_string(drive.with_file_name("events.log")).expect("events");
        // Wine shows the text as C would write it.
        let policy = policy.replace('\\', r"\\");
        assert!(
            events.contains(&format!("{policy}:2: unknown field `keys`")),
            "{events}"
        );
    }
}

#[test]
fn on_windows_arguments_that_no_service_can_have_are_not_installed() {
    let Some(place) = Place::new() else { return };
    let name = "psexec-filter-refused";
    let install = ["service", "install", "--name", name, "--"];
    let input = ["--input", "tcp://127.0.0.1:9701"];
    let output = ["--output", "tcp://127.0.0.1:9702"];
    let (missing, folder) = (place.path("missing.toml"), place.path("missing/state"));
    for (arguments, message) in [
        (output, "no standard input"),
        (input, "no standard output"),
        (["--drain", "no"], "invalid value 'no'"),
    ] {
        let refused = place.refused(&[&install[..], &arguments].concat());
        assert!(refused.contains(message), "{arguments:?}: {refused}");
    }
    for (option, value, message) in [
        ("--state", "state", "expected an absolute path"),
        (
            "--output",
            "file:///C:/no/such/out",
            r"folder C:\no\such does not",
        ),
        ("--state", &folder, "does not exist"),
        ("--policy", &missing, "cannot be read"),
        ("--unknown", "1", "unexpected argument"),
    ] {
        let mut arguments = [&install[..], &input].concat();
        if option != "--output" {
            arguments.extend(output);
        }
        arguments.extend([option, value]);
        let refused = place.refused(&arguments);
        assert!(refused.contains(message), "{option} {value}: {refused}");
    }
    let mut query = place.windows.command("sc.exe");
    let query = query.args(["query", name]).output().expect("sc.exe");
    assert!(!text(query.stdout).contains("STATE"));
    // The program is not the service controller's, and a service of another program stays what it is.
    let alone = place.refused(&["service", "run", "--name", name, "--"]);
    assert!(alone.contains("is for the service controller"), "{alone}");
    let arguments = ["service", "install", "--name", "Spooler", "--"];
    let other = place.refused(&[&arguments[..], &input, &output].concat());
    assert!(other.contains("is another program"), "{other}");
}
