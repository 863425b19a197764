//! Outputs: standard output, a file, TCP. While an output accepts nothing, the worker waits, the queue fills up, and in the end
//! the clients wait (back-pressure). Nothing is dropped.

use super::metrics::Metrics;
use super::options::Output;
use std::fs::File;
use std::io::{self, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Why nothing more can be written.
#[derive(Debug, PartialEq, Eq)]
pub enum Closed {
    /// The reader of standard output has closed it, as `| head` does.
    ByReader,
    /// Writing failed for good: a message for the operator.
    Failed(String),
}

/// Pause between two attempts to write.
const RETRY: Duration = Duration::from_secs(1);

/// Time between two looks at whether an output file was renamed or removed.
const LOOK: Duration = Duration::from_secs(1);

/// An open output.
pub struct Sink {
    output: Output,
    target: Target,
    /// When to look next whether the file was renamed or removed.
    look_at: Instant,
    /// Whether the last byte written was not the end of a line.
    in_line: bool,
    /// Whether it is logged that the file cannot be opened again.
    is_reported: bool,
}

enum Target {
    File(File),
    /// `None` while there is no connection.
    Tcp(Option<TcpStream>),
}

impl Sink {
    /// Opens an output. A TCP connection is made with the first write. The error is a message for the operator.
    pub fn open(output: &Output) -> Result<Sink, String> {
        let target = match output {
            Output::Stdout => Target::File(
                stdout().map_err(|error| format!("stdout: cannot be written: {error}"))?,
            ),
            Output::File(path) => Target::File(
                append(path).map_err(|error| format!("{output}: cannot be opened: {error}"))?,
            ),
            Output::Tcp(_) => Target::Tcp(None),
        };
        Ok(Sink {
            output: output.clone(),
            target,
            look_at: Instant::now() + LOOK,
            in_line: false,
            is_reported: false,
        })
    }

    /// If the output is a file that was renamed or removed, begins a new one in its place: at once if `now`, else at most every
    /// [`LOOK`]. A line is never divided between two files.
    pub fn follow(&mut self, now: bool) {
        if !self.in_line && (now || Instant::now() >= self.look_at) {
            self.reopen(now);
        }
    }

    /// Opens an output file again if it is not the one at its path. `now`: somebody says that it was renamed. Returns whether it did.
    fn reopen(&mut self, now: bool) -> bool {
        let (Output::File(path), Target::File(file)) = (&self.output, &mut self.target) else {
            return false;
        };
        self.look_at = Instant::now() + LOOK;
        if is_at(file, path, now) {
            return false;
        }
        match append(path) {
            Ok(new) => {
                *file = new;
                (self.in_line, self.is_reported) = (false, false);
                tracing::info!("{}: opened again", self.output);
                return true;
            }
            Err(error) if !std::mem::replace(&mut self.is_reported, true) => {
                tracing::warn!(
                    "{}: was renamed or removed, and cannot be opened again: {error}; lines go to the old file, and opening is tried again every {} s",
                    self.output,
                    LOOK.as_secs()
                );
            }
            Err(_) => {}
        }
        false
    }

    /// Writes whole lines, and waits until the output accepts them.
    pub fn write(&mut self, lines: &[u8], metrics: &Metrics) -> Result<(), Closed> {
        self.follow(false);
        let mut rest = lines;
        let mut warned = false;
        // On a connection that the other end has closed the first lines would be accepted and lost.
        if let Target::Tcp(stream) = &mut self.target
            && stream.as_ref().is_some_and(is_closed)
        {
            *stream = None;
        }
        while !rest.is_empty() {
            let result = match (&mut self.target, &self.output) {
                (Target::File(file), _) => file.write(rest),
                (Target::Tcp(Some(stream)), _) => stream.write(rest),
                (target, Output::Tcp(address)) => match TcpStream::connect(address.as_str()) {
                    Ok(stream) => {
                        tracing::info!("connected to {}", self.output);
                        *target = Target::Tcp(Some(stream));
                        continue;
                    }
                    Err(error) => Err(error),
                },
                _ => Err(io::ErrorKind::NotConnected.into()),
            };
            let error = match result {
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Ok(count) => {
                    let (written, left) = rest.split_at(count.min(rest.len()));
                    self.in_line = !written.ends_with(b"\n");
                    rest = left;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            match &mut self.target {
                Target::Tcp(stream) => {
                    // It is not known how much the other end has read: all these lines are sent again.
                    if stream.take().is_some() {
                        rest = lines;
                    }
                }
                Target::File(_) if error.kind() == io::ErrorKind::BrokenPipe => {
                    return Err(Closed::ByReader);
                }
                Target::File(_) if !may_pass(&error) => {
                    return Err(Closed::Failed(format!(
                        "{}: cannot be written: {error}",
                        self.output
                    )));
                }
                Target::File(_) => {}
            }
            metrics.output_retries.inc();
            if !std::mem::replace(&mut warned, true) {
                tracing::warn!(
                    "{}: does not accept data ({error}); lines wait, and writing is tried again every {} s",
                    self.output,
                    RETRY.as_secs()
                );
            }
            std::thread::sleep(RETRY);
            // The file may have been moved away to make room. A line of which a part was written goes to the new one as a whole.
            if self.reopen(false) {
                let written = &lines[..lines.len() - rest.len()];
                let start = memchr::memrchr(b'\n', written).map_or(0, |at| at + 1);
                rest = &lines[start..];
            }
        }
        if warned {
            tracing::info!("{}: accepts data again", self.output);
        }
        Ok(())
    }
}

/// Opens a file to write at its end.
fn append(path: &Path) -> io::Result<File> {
    File::options().append(true).create(true).open(path)
}

/// Whether an open file is the one at its path. If that cannot be found out, it is taken to be.
#[cfg(unix)]
fn is_at(file: &File, path: &Path, _now: bool) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |data: std::fs::Metadata| (data.dev(), data.ino());
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(there)) => identity(open) == identity(there),
        (Ok(_), Err(error)) => error.kind() != io::ErrorKind::NotFound,
        (Err(_), _) => true,
    }
}

/// Whether an open file is taken to be the one at its path. Windows does not say cheaply which file is at a path: a file there counts
/// as the open one, unless somebody asks `now`, because it was renamed.
#[cfg(not(unix))]
fn is_at(_file: &File, path: &Path, now: bool) -> bool {
    !now && !matches!(std::fs::metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

/// Whether the other end has closed the connection.
fn is_closed(stream: &TcpStream) -> bool {
    let peeked = stream
        .set_nonblocking(true)
        .and_then(|()| stream.peek(&mut [0]));
    let closed = match peeked {
        Ok(count) => count == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    };
    closed || stream.set_nonblocking(false).is_err()
}

/// Whether the cause of the error can go away, as a full disk does when somebody deletes files.
fn may_pass(error: &io::Error) -> bool {
    use io::ErrorKind::{
        FileTooLarge, QuotaExceeded, ResourceBusy, StorageFull, WouldBlock, WriteZero,
    };
    matches!(
        error.kind(),
        StorageFull | QuotaExceeded | FileTooLarge | ResourceBusy | WouldBlock | WriteZero
    )
}

/// Standard output without the standard library's buffer: the sink has to know how much was written.
fn stdout() -> io::Result<File> {
    #[cfg(unix)]
    let owned = std::os::fd::AsFd::as_fd(&io::stdout()).try_clone_to_owned()?;
    #[cfg(windows)]
    let owned = std::os::windows::io::AsHandle::as_handle(&io::stdout()).try_clone_to_owned()?;
    Ok(File::from(owned))
}
