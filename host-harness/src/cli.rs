//! The arguments of the command line.

use clap::{Parser, Subcommand, ValueEnum};
use psexec_filter::replay;
use psexec_filter::run::options::{self, Input, Limits, Output, loopback};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Finds PsExec-like remote execution in Sysmon records.
#[derive(Parser)]
#[command(version, long_version = concat!(env!("CARGO_PKG_VERSION"), "\n", env!("PSEXEC_FILTER_MODULE")))]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Read records as JSON lines and write them on, with alerts added.
    ///
    /// Lines that are not JSON objects, or too long, pass through unchanged; of a line of more than 16 MiB the rest is skipped. On
    /// SIGTERM (on Windows: Ctrl-C, or the end of the console) the program writes all lines that have arrived and ends; on SIGHUP it
    /// opens its output file again if that was renamed, and reads module and policy again. The exit code is 1 if a line passed
    /// through unexamined or something was lost.
    Run(RunArgs),
    /// Pass logs through the module and report what it finds; without FILES, a built-in demo log.
    ///
    /// Logs with events of one host that are less than an hour apart are taken for one log in pieces, and read in the order of their
    /// records' times. All others are examined apart from each other: what is found in them does not depend on what else is
    /// replayed. The order of FILES does not matter, unless one of them can be read only once (standard input, a pipe): then all
    /// are one log, in this order.
    ///
    /// The exit code is 1 if a file or a line could not be read; everything else is still examined.
    Replay {
        /// Logs: one JSON object a line, gzip of that, or EVTX. `-` is standard input.
        files: Vec<PathBuf>,
        /// How to write the alerts.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
        /// Write the module's counters to standard error at the end.
        #[arg(long)]
        stats: bool,
        #[command(flatten)]
        module: ModuleArgs,
    },
    /// Check a policy and put it into a module.
    Pack {
        /// The policy; the default policy if not given.
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
        /// The module to put it into; the built-in one if not given.
        #[arg(long, value_name = "FILE")]
        module: Option<PathBuf>,
        /// File to write the packed module to.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Inspect policies.
    Policy {
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// Write the man pages and shell completions of this program to a folder; `make dist` packs them.
    #[command(hide = true)]
    Generate {
        /// The folder; it is created if it does not exist.
        out: PathBuf,
    },
    /// `run` as a Windows service. Tried under Wine, not on Windows.
    #[cfg(windows)]
    Service {
        #[command(subcommand)]
        command: crate::service::ServiceCommand,
    },
}

#[derive(Subcommand)]
pub enum PolicyCommand {
    /// Check a policy as `pack` does, and write nothing.
    ///
    /// Warnings are about what is allowed by the rules and may not be meant. The exit code is 1 only if the policy is refused.
    Check {
        /// The policy.
        policy: PathBuf,
    },
    /// Print the policy inside a module as TOML.
    Show {
        /// The module; the built-in one if not given.
        module: Option<PathBuf>,
    },
}

#[derive(clap::Args)]
pub struct RunArgs {
    /// Where to read records: `-` (standard input), `tcp://127.0.0.1:PORT` or `unix:///PATH`. May be given several times.
    #[arg(long, value_name = "INPUT", default_value = "-")]
    input: Vec<Input>,
    /// Where to write: `-` (standard output), `file:///PATH` (on Windows `file:///C:/PATH`) or `tcp://HOST:PORT`. While it accepts
    /// nothing, the inputs wait. A file may be renamed or removed at any time, as logrotate does: within a second, or at once on
    /// SIGHUP, a new one is begun. Every line is in one of the two, whole.
    #[arg(long, value_name = "OUTPUT", default_value = "-")]
    output: Output,
    /// What to write.
    #[arg(long, value_enum, default_value_t = Emit::Records)]
    emit: Emit,
    /// Keep the state in this file, so that it survives a restart.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Seconds between two snapshots of the state. A module that traps restarts from the last snapshot.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    state_interval: u64,
    /// Append the program's log to this file instead of writing it to standard error. The file may be renamed or removed at any
    /// time; the next message begins a new one.
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// Serve `/metrics` (Prometheus) and `/healthz` on this address, for example 127.0.0.1:9598.
    #[arg(long, value_name = "ADDRESS", value_parser = loopback)]
    metrics: Option<SocketAddr>,
    /// Milliseconds that the module may take for a record (only with wasmtime).
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    call_deadline: u64,
    /// Seconds that writing the queued lines may take after SIGTERM.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    drain: u64,
    /// Longest line that is examined, in bytes; longer lines pass through unchanged. What is longer than 16 MiB is cut, or less if
    /// such lines of all clients together are longer than 64 MiB.
    #[arg(long, value_name = "BYTES", default_value_t = 4_194_304, value_parser = clap::value_parser!(u32).range(1024..=4_194_304))]
    max_line: u32,
    /// Clients of an input that are served at a time; further ones wait.
    #[arg(long, value_name = "NUMBER", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1024))]
    max_clients: u32,
    /// Mode of a Unix socket, in octal.
    #[arg(long, value_name = "MODE", default_value = "0600", value_parser = mode)]
    socket_mode: u32,
    #[command(flatten)]
    pub module: ModuleArgs,
}

impl RunArgs {
    /// The time that a call into the module may take.
    pub fn call_deadline(&self) -> Duration {
        Duration::from_millis(self.call_deadline)
    }

    /// Everything but the module.
    pub fn options(&self) -> options::Options {
        options::Options {
            inputs: self.input.clone(),
            limits: Limits {
                line: self.max_line as usize,
                clients: self.max_clients as usize,
                socket_mode: self.socket_mode,
            },
            output: self.output.clone(),
            emit: self.emit.into(),
            state: self.state.clone(),
            state_interval: Duration::from_secs(self.state_interval),
            drain: Duration::from_secs(self.drain),
            metrics: self.metrics,
        }
    }
}

fn mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| "expected an octal mode such as 0660".to_owned())
}

#[derive(clap::Args)]
pub struct ModuleArgs {
    /// The module to use; the built-in one if not given.
    #[arg(long, value_name = "FILE")]
    pub module: Option<PathBuf>,
    /// A policy to use instead of the one in the module.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// The engine that runs the module.
    #[arg(long, value_enum, default_value_t = EngineName::Wasmtime)]
    pub engine: EngineName,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum EngineName {
    /// Runs the module as machine code: fast.
    Wasmtime,
    /// The interpreter that Fluent Bit uses.
    #[cfg(feature = "wamr")]
    Wamr,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Emit {
    /// Every record; those that complete an attack have the alert inside.
    Records,
    /// Only the alerts, one a line.
    Alerts,
    /// Every record as with `records`, and each alert again on a line of its own.
    Both,
}

impl From<Emit> for options::Emit {
    fn from(emit: Emit) -> options::Emit {
        match emit {
            Emit::Records => options::Emit::Records,
            Emit::Alerts => options::Emit::Alerts,
            Emit::Both => options::Emit::Both,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Format {
    /// A report for people: the last revision of each incident.
    Text,
    /// Every alert and revision, one JSON object a line.
    Ndjson,
}

impl From<Format> for replay::Format {
    fn from(format: Format) -> replay::Format {
        match format {
            Format::Text => replay::Format::Text,
            Format::Ndjson => replay::Format::Ndjson,
        }
    }
}
