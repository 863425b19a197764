//! How `run` runs, as the command line says it.

use super::file_url::{self, Platform};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// How `run` runs.
pub struct Options {
    /// Where records come from.
    pub inputs: Vec<Input>,
    /// Limits of the inputs.
    pub limits: Limits,
    /// Where lines are written.
    pub output: Output,
    /// What is written.
    pub emit: Emit,
    /// File that keeps a snapshot of the module's state.
    pub state: Option<PathBuf>,
    /// Time between two snapshots. Without a file they only serve to restart a module that trapped.
    pub state_interval: Duration,
    /// Time that queued lines may take to be written after the program was asked to end.
    pub drain: Duration,
    /// Address that metrics are served on.
    pub metrics: Option<SocketAddr>,
}

impl Options {
    /// Whether an input has no end of its own: a listener may always get another client.
    pub fn listens(&self) -> bool {
        self.inputs.iter().any(|input| *input != Input::Stdin)
    }
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emit {
    /// Every line, with the alert inside where a record completes an attack.
    Records,
    /// Only the alerts, one a line.
    Alerts,
    /// Every line as with `Records`, and each alert on a line of its own after its record.
    Both,
}

/// Limits of an input.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest line that is examined, in bytes. Longer ones pass through unexamined.
    pub line: usize,
    /// Number of clients that are read at a time; further ones wait to be accepted.
    pub clients: usize,
    /// Mode of a Unix socket.
    pub socket_mode: u32,
}

/// An input as it is written on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// `-`
    Stdin,
    /// `tcp://127.0.0.1:9000`, an address of this machine's loopback.
    Tcp(SocketAddr),
    /// `unix:///run/psexec-filter.sock`
    Unix(PathBuf),
}

impl FromStr for Input {
    type Err = String;

    fn from_str(text: &str) -> Result<Input, String> {
        if text == "-" {
            return Ok(Input::Stdin);
        }
        if let Some(address) = text.strip_prefix("tcp://") {
            return loopback(address).map(Input::Tcp);
        }
        match text.strip_prefix("unix://") {
            Some(path) => file_url::socket_path(path, Platform::HERE).map(Input::Unix),
            None if cfg!(windows) => Err("expected `-` or `tcp://127.0.0.1:PORT`".to_owned()),
            None => Err("expected `-`, `tcp://127.0.0.1:PORT` or `unix:///PATH`".to_owned()),
        }
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Input::Stdin => f.write_str("stdin"),
            Input::Tcp(address) => write!(f, "tcp://{address}"),
            Input::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// Parses an address of the loopback interface. Others are refused, because `run` has neither encryption nor authentication.
pub fn loopback(text: &str) -> Result<SocketAddr, String> {
    let text = text
        .strip_prefix("localhost")
        .map_or_else(|| text.to_owned(), |port| format!("127.0.0.1{port}"));
    let address: SocketAddr = text
        .parse()
        .map_err(|_| format!("`{text}` is not an address; expected for example 127.0.0.1:9000"))?;
    if address.ip().is_loopback() {
        return Ok(address);
    }
    Err(format!(
        "{address} can be reached from other machines, and this program has neither TLS nor passwords; listen on \
         127.0.0.1:{port} and put a TLS proxy in front of it (stunnel, nginx `stream`, HAProxy)",
        port = address.port()
    ))
}

/// An output as it is written on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// `-`
    Stdout,
    /// `file:///PATH`, to which lines are appended. [`file_url`] says which paths there are.
    File(PathBuf),
    /// `tcp://HOST:PORT`, connected to again whenever the connection is lost.
    Tcp(String),
}

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Output, String> {
        if text == "-" {
            return Ok(Output::Stdout);
        }
        if let Some(path) = text.strip_prefix("file://") {
            return file_url::file_path(path, Platform::HERE).map(Output::File);
        }
        match text.strip_prefix("tcp://") {
            Some(address)
                if address.rsplit_once(':').is_some_and(|(host, port)| {
                    !host.is_empty() && port.parse::<u16>().is_ok()
                }) =>
            {
                Ok(Output::Tcp(address.to_owned()))
            }
            _ if cfg!(windows) => {
                Err("expected `-`, `file:///C:/FOLDER/FILE` or `tcp://HOST:PORT`".to_owned())
            }
            _ => Err("expected `-`, `file:///PATH` or `tcp://HOST:PORT`".to_owned()),
        }
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Output::Stdout => f.write_str("stdout"),
            Output::File(path) => f.write_str(&file_url::shown(path)),
            Output::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}
