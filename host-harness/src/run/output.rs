//! Outputs: standard output, a file, TCP. While an output accepts nothing, the worker waits, the queue fills up, and in the end
//! the clients wait (back-pressure). Nothing is dropped.

use super::metrics::Metrics;
use super::options::Output;
use std::fs::File;
use std::io::{self, Write};
use std::net::TcpStream;
use std::time::Duration;

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

/// An open output.
pub struct Sink {
    output: Output,
    target: Target,
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
            Output::File(path) => {
                let file = File::options().append(true).create(true).open(path);
                Target::File(file.map_err(|error| format!("{output}: cannot be opened: {error}"))?)
            }
            Output::Tcp(_) => Target::Tcp(None),
        };
        Ok(Sink {
            output: output.clone(),
            target,
        })
    }

    /// Writes whole lines, and waits until the output accepts them.
    pub fn write(&mut self, lines: &[u8], metrics: &Metrics) -> Result<(), Closed> {
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
                    rest = rest.get(count..).unwrap_or_default();
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
        }
        if warned {
            tracing::info!("{}: accepts data again", self.output);
        }
        Ok(())
    }
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
