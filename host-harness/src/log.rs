//! Where the log of `run` is written.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use tracing_subscriber::fmt::writer::{MakeWriter, OptionalWriter};

/// Starts the log on standard error.
pub fn to_stderr() {
    start(io::stderr);
}

/// Starts the log in a file, to which it is appended. The error is a message for the operator.
pub fn to_file(path: &Path) -> Result<(), String> {
    open(path)
        .map_err(|error| format!("--log-file {}: cannot be written: {error}", path.display()))?;
    start(LogFile(path.to_owned()));
    // Nobody reads standard error, if there is one.
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    Ok(())
}

fn start(writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static) {
    // If the log cannot be written, records still pass.
    tracing_subscriber::fmt()
        .with_writer(writer)
        .log_internal_errors(false)
        .with_ansi(false)
        .with_target(false)
        .init();
}

/// Opens its file for each message, so that the file can be renamed or removed. Messages are few: warnings about lines are limited
/// to 20 a minute.
struct LogFile(PathBuf);

impl MakeWriter<'_> for LogFile {
    type Writer = OptionalWriter<File>;

    fn make_writer(&self) -> Self::Writer {
        open(&self.0).ok().into()
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().append(true).create(true).open(path)
}
