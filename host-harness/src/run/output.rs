//! Where lines go: standard output, a file, TCP. An output that takes nothing is waited for: that holds up the worker, the
//! queue, and in the end whoever sends. Nothing is dropped.

use super::metrics::Metrics;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// An output as it is written on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// `-`
    Stdout,
    /// `file:///PATH`, appended to.
    File(PathBuf),
    /// `tcp://HOST:PORT`, connected to, and again whenever the connection is lost.
    Tcp(String),
}

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Output, String> {
        if text == "-" {
            return Ok(Output::Stdout);
        }
        if let Some(path) = text
            .strip_prefix("file://")
            .filter(|path| path.starts_with('/'))
        {
            return Ok(Output::File(path.into()));
        }
        match text.strip_prefix("tcp://") {
            Some(address)
                if address.rsplit_once(':').is_some_and(|(host, port)| {
                    !host.is_empty() && port.parse::<u16>().is_ok()
                }) =>
            {
                Ok(Output::Tcp(address.to_owned()))
            }
            _ => Err("expected `-`, `file:///PATH` or `tcp://HOST:PORT`".to_owned()),
        }
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Output::Stdout => f.write_str("stdout"),
            Output::File(path) => write!(f, "file://{}", path.display()),
            Output::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

/// Why nothing more can be written.
#[derive(Debug, PartialEq, Eq)]
pub enum Closed {
    /// The reader has seen enough (`| head`): no fault.
    ByReader,
    /// A message for people.
    Broken(String),
}

/// Between two tries.
const AGAIN: Duration = Duration::from_secs(1);

/// An output that is open.
pub struct Sink {
    output: Output,
    to: To,
}

enum To {
    File(File),
    /// `None` while there is no connection.
    Tcp(Option<TcpStream>),
}

impl Sink {
    /// Opens it. The error is a message for people. Nobody needs to listen yet at the other end of TCP.
    pub fn open(output: &Output) -> Result<Sink, String> {
        let to = match output {
            Output::Stdout => {
                To::File(stdout().map_err(|error| format!("stdout: cannot be written: {error}"))?)
            }
            Output::File(path) => {
                let file = File::options().append(true).create(true).open(path);
                To::File(file.map_err(|error| format!("{output}: cannot be opened: {error}"))?)
            }
            Output::Tcp(_) => To::Tcp(None),
        };
        Ok(Sink {
            output: output.clone(),
            to,
        })
    }

    /// Writes whole lines, however long that takes.
    pub fn write(&mut self, lines: &[u8], metrics: &Metrics) -> Result<(), Closed> {
        let mut rest = lines;
        let mut complained = false;
        // A connection that was closed meanwhile would take the first lines and lose them.
        if let To::Tcp(stream) = &mut self.to
            && stream.as_ref().is_some_and(is_closed)
        {
            *stream = None;
        }
        while !rest.is_empty() {
            let result = match (&mut self.to, &self.output) {
                (To::File(file), _) => file.write(rest),
                (To::Tcp(Some(stream)), _) => stream.write(rest),
                (to, Output::Tcp(address)) => match TcpStream::connect(address.as_str()) {
                    Ok(stream) => {
                        tracing::info!("connected to {}", self.output);
                        *to = To::Tcp(Some(stream));
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
            match &mut self.to {
                To::Tcp(stream) => {
                    // How much of the last lines the other end has is not known: they are sent again from their start.
                    if stream.take().is_some() {
                        rest = lines;
                    }
                }
                To::File(_) if error.kind() == io::ErrorKind::BrokenPipe => {
                    return Err(Closed::ByReader);
                }
                To::File(_) if !may_pass(&error) => {
                    return Err(Closed::Broken(format!(
                        "{}: cannot be written: {error}",
                        self.output
                    )));
                }
                To::File(_) => {}
            }
            metrics.output_retries.inc();
            if !std::mem::replace(&mut complained, true) {
                tracing::warn!(
                    "{}: takes nothing ({error}); what comes waits until it does",
                    self.output
                );
            }
            std::thread::sleep(AGAIN);
        }
        if complained {
            tracing::info!("{}: takes what comes again", self.output);
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

/// Whether somebody can make room.
fn may_pass(error: &io::Error) -> bool {
    use io::ErrorKind::{
        FileTooLarge, QuotaExceeded, ResourceBusy, StorageFull, WouldBlock, WriteZero,
    };
    matches!(
        error.kind(),
        StorageFull | QuotaExceeded | FileTooLarge | ResourceBusy | WouldBlock | WriteZero
    )
}

/// Standard output without the buffer that the standard library puts before it: how much was written must be known.
fn stdout() -> io::Result<File> {
    #[cfg(unix)]
    let owned = std::os::fd::AsFd::as_fd(&io::stdout()).try_clone_to_owned()?;
    #[cfg(windows)]
    let owned = std::os::windows::io::AsHandle::as_handle(&io::stdout()).try_clone_to_owned()?;
    Ok(File::from(owned))
}
