//! Starts the program for the tests.

use psexec_filter_tests::skipped;
use serde_json::Value;
use std::ffi::OsStr;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// The path of the program. Cargo builds it for tests of its own package only, and one that was built before may be old: so it is
/// built here, once, in the profile of these tests. That is quick, because its dependencies have been built for them.
pub static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
    // target/<profile>/deps/<this test>
    let test = std::env::current_exe().expect("this test");
    let folder = test.ancestors().nth(2).expect("the profile's folder");
    let profile = folder
        .file_name()
        .filter(|name| *name != "debug")
        .unwrap_or(OsStr::new("dev"));
    let mut build = Command::new(env!("CARGO"));
    build.args([
        "build",
        "--quiet",
        "--package",
        "psexec-filter",
        "--bin",
        "psexec-filter",
    ]);
    if cfg!(feature = "wamr") {
        build.args(["--features", "psexec-filter/wamr"]);
    }
    build
        .arg("--profile")
        .arg(profile)
        .arg("--target-dir")
        .arg(folder.parent().expect("the target folder"));
    let built = build
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo starts");
    assert!(built.success(), "the program does not build");
    folder
        .join("psexec-filter")
        .with_extension(std::env::consts::EXE_EXTENSION)
});

/// A folder for files. The program is started in it, so that messages name files as they were given.
pub struct Place(pub tempfile::TempDir);

impl Place {
    /// An empty folder.
    pub fn new() -> Place {
        Place(tempfile::tempdir().expect("a folder"))
    }

    /// Writes a file there.
    pub fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.0.path().join(name), bytes).expect("written");
    }

    /// The bytes of a file there, if it exists.
    pub fn get(&self, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.0.path().join(name)).ok()
    }

    /// The program with arguments, which are separated by spaces. It is not started yet.
    pub fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(&*PROGRAM);
        command
            .args(arguments.split_whitespace())
            .current_dir(self.0.path());
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &str, input: &[u8]) -> Ran {
        let mut stdin = tempfile::tempfile().expect("a file");
        stdin
            .write_all(input)
            .and_then(|()| stdin.rewind())
            .expect("written");
        let output = self
            .command(arguments)
            .stdin(stdin)
            .output()
            .expect("it starts");
        let err = String::from_utf8(output.stderr).expect("UTF-8");
        Ran {
            code: output.status.code(),
            out: output.stdout,
            err,
        }
    }
}

/// How a run of the program ended.
pub struct Ran {
    pub code: Option<i32>,
    pub out: Vec<u8>,
    pub err: String,
}

impl Ran {
    /// What it printed, if it succeeded and reported no error.
    pub fn good(self) -> Vec<u8> {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""));
        self.out
    }
}

/// Bytes that are text.
pub fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("UTF-8")
}

/// The longest time that a shipper may take to start and to pass on a few records.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The path of a shipper: named by `variable`, or found on `PATH`. If there is none, this reports that the test is skipped. An
/// empty `variable` counts as not set.
pub fn shipper(name: &str, variable: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable)
        .filter(|path| !path.is_empty())
        .map(PathBuf::from);
    let on_path = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path)
            .map(|folder| folder.join(name))
            .find(|file| file.is_file())
    };
    let found = named.or_else(on_path);
    if found.is_none() {
        skipped(&format!(
            "no {name} on PATH, and {variable} does not name one"
        ));
    }
    found
}

/// Waits until a shipper has written so many records.
pub fn wait_for(path: &Path, count: usize) -> Vec<Value> {
    let start = Instant::now();
    loop {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<Value> = text
            .lines()
            .map_while(|line| serde_json::from_str(line).ok())
            .collect();
        if lines.len() >= count {
            return lines;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "{}: {} of {count} records came",
            path.display(),
            lines.len()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}
