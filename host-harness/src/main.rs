//! The command line.

use clap::{Parser, Subcommand, ValueEnum};
use psexec_filter::engine::{Compiled, Engine, Options, Wasmtime};
use psexec_filter::replay::Format;
use psexec_filter::run::input::{Input, Limits, loopback};
use psexec_filter::run::output::Output;
use psexec_filter::run::{Emit, Loaded};
use psexec_filter::{module, replay, run};
use psexec_filter_pack::{pack, unpack};
use psexec_filter_plugin::policy::Policy;
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Finds PsExec-like remote execution in Sysmon records.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Read JSON lines from somewhere and write them somewhere else with the alerts inside.
    ///
    /// Whatever is not JSON, or too long, goes through as it came. SIGTERM ends it when all that came is written; SIGHUP has it
    /// read module and policy again. Exits with 1 if a line was passed on unexamined, or something was lost.
    Run(RunArgs),
    /// Put logs through the module and tell what it finds; without a FILE, a small story that is built in.
    ///
    /// Exits with 1 if a file, or a line of one, could not be read; the rest is read all the same.
    Replay {
        /// Logs: one JSON object a line, gzip of that, or EVTX. `-` is standard input.
        files: Vec<PathBuf>,
        /// How to show the alerts.
        #[arg(long, value_enum, default_value_t = FormatArg::Text)]
        format: FormatArg,
        /// Show the module's counters at the end, on standard error.
        #[arg(long)]
        stats: bool,
        #[command(flatten)]
        module: ModuleArgs,
    },
    /// Check a policy and put it into a module.
    Pack {
        /// The policy; without it, the defaults.
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
        /// The module to put it into; without it, the built-in one.
        #[arg(long, value_name = "FILE")]
        module: Option<PathBuf>,
        /// Where to write the module with the policy in it.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Look at policies.
    Policy {
        #[command(subcommand)]
        command: PolicyCommand,
    },
}

#[derive(Subcommand)]
enum PolicyCommand {
    /// Print the policy inside a module as TOML.
    Show {
        /// The module; without it, the built-in one.
        module: Option<PathBuf>,
    },
}

#[derive(clap::Args)]
struct RunArgs {
    /// Where records come from: `-`, `tcp://127.0.0.1:PORT` or `unix:///PATH`. May be given several times.
    #[arg(long, value_name = "INPUT", default_value = "-")]
    input: Vec<Input>,
    /// Where they go: `-`, `file:///PATH` or `tcp://HOST:PORT`. One that takes nothing is waited for.
    #[arg(long, value_name = "OUTPUT", default_value = "-")]
    output: Output,
    /// What to write.
    #[arg(long, value_enum, default_value_t = EmitArg::Records)]
    emit: EmitArg,
    /// Keep what is remembered in this file over restarts.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Seconds between two snapshots of what is remembered; a module that dies is started again with the last one.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    state_interval: u64,
    /// Serve `/metrics` (Prometheus) and `/healthz` here, for example on 127.0.0.1:9598.
    #[arg(long, value_name = "ADDRESS", value_parser = loopback)]
    metrics: Option<SocketAddr>,
    /// Milliseconds that the module may take for a record (wasmtime only).
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    call_deadline: u64,
    /// Seconds without a record after which alerts that wait for one are written without.
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=3600))]
    idle: u64,
    /// Seconds that what is left may take after SIGTERM.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    drain: u64,
    /// Longest line that is examined, in bytes; longer ones go through as they came.
    #[arg(long, value_name = "BYTES", default_value_t = 4_194_304, value_parser = clap::value_parser!(u32).range(1024..=4_194_304))]
    max_line: u32,
    /// Clients of one input at a time; further ones wait.
    #[arg(long, value_name = "NUMBER", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1024))]
    max_clients: u32,
    /// Mode of a Unix socket, octal.
    #[arg(long, value_name = "MODE", default_value = "0600", value_parser = mode)]
    socket_mode: u32,
    #[command(flatten)]
    module: ModuleArgs,
}

fn mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| "expected an octal mode such as 0660".to_owned())
}

#[derive(clap::Args)]
struct ModuleArgs {
    /// The module to use; without it, the one built in.
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,
    /// A policy to use instead of the module's.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// What to run the module on.
    #[arg(long, value_enum, default_value_t = EngineArg::Wasmtime)]
    engine: EngineArg,
}

#[derive(Clone, Copy, ValueEnum)]
enum EngineArg {
    /// Compiles it: fast.
    Wasmtime,
    /// The interpreter that Fluent Bit uses.
    #[cfg(feature = "wamr")]
    Wamr,
}

#[derive(Clone, Copy, ValueEnum)]
enum EmitArg {
    /// Every record, those that complete a chain with the alert inside.
    Records,
    /// Only the alerts, one a line.
    Alerts,
    /// Records, and each alert once more on a line of its own.
    Both,
}

#[derive(Clone, Copy, ValueEnum)]
enum FormatArg {
    /// For people: each incident as it stood at the end.
    Text,
    /// For programs: every alert and revision, one JSON object a line.
    Ndjson,
}

fn main() -> ExitCode {
    match execute(Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            let _unsaid = writeln!(io::stderr(), "psexec-filter: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether all went well; the error is a message for people.
fn execute(command: Command) -> Result<bool, String> {
    match command {
        Command::Run(arguments) => {
            // Where the log cannot be written the records still can.
            tracing_subscriber::fmt()
                .with_writer(io::stderr)
                .log_internal_errors(false)
                .with_ansi(false)
                .with_target(false)
                .init();
            let options = run::Options {
                inputs: arguments.input,
                limits: Limits {
                    line: arguments.max_line as usize,
                    clients: arguments.max_clients as usize,
                    socket_mode: arguments.socket_mode,
                },
                output: arguments.output,
                emit: match arguments.emit {
                    EmitArg::Records => Emit::Records,
                    EmitArg::Alerts => Emit::Alerts,
                    EmitArg::Both => Emit::Both,
                },
                state: arguments.state,
                state_interval: Duration::from_secs(arguments.state_interval),
                idle: Duration::from_secs(arguments.idle),
                drain: Duration::from_secs(arguments.drain),
                metrics: arguments.metrics,
            };
            let deadline = Duration::from_millis(arguments.call_deadline);
            let module = arguments.module;
            run::run(options, Box::new(move || load_to_run(&module, deadline)))
        }
        Command::Replay {
            files,
            format,
            stats,
            module,
        } => {
            let mut engine = start(&load(&module)?, module.engine)?;
            module::check_room(&mut *engine)?;
            let format = match format {
                FormatArg::Text => Format::Text,
                FormatArg::Ndjson => Format::Ndjson,
            };
            let mut out = BufWriter::new(io::stdout().lock());
            let result = replay::replay(
                &mut *engine,
                &files,
                format,
                &mut out,
                &mut io::stderr().lock(),
            );
            let good = result
                .and_then(|good| out.flush().map(|()| good))
                .or_else(ended)?;
            if stats {
                eprintln!(
                    "{}",
                    engine
                        .stats()
                        .map_err(|error| error.to_string())?
                        .unwrap_or_default()
                );
            }
            Ok(good)
        }
        Command::Pack {
            policy,
            module,
            out,
        } => {
            let bytes = module::load(module.as_deref(), None)?;
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |now| now.as_millis() as i64);
            let policy = policy
                .as_deref()
                .map(|path| module::read_policy_to_pack(path, now))
                .transpose()?
                .unwrap_or_default();
            let packed = pack(&bytes, &policy).map_err(|error| error.to_string())?;
            // What would die at its first record is not packed.
            module::check_room(&mut Wasmtime::new(&packed, Options::default())?)?;
            std::fs::write(&out, &packed)
                .map_err(|error| format!("{}: cannot be written: {error}", out.display()))?;
            eprintln!("{}: {} bytes, policy inside", out.display(), packed.len());
            Ok(true)
        }
        Command::Policy {
            command: PolicyCommand::Show { module },
        } => {
            let policy = policy_of(&module::load(module.as_deref(), None)?)?;
            let text = toml::to_string(&policy).map_err(|error| error.to_string())?;
            io::stdout()
                .write_all(text.as_bytes())
                .map(|()| true)
                .or_else(ended)
        }
    }
}

fn load(arguments: &ModuleArgs) -> Result<Vec<u8>, String> {
    module::load(arguments.module.as_deref(), arguments.policy.as_deref())
}

/// What `run` needs of a module, and again at every SIGHUP.
fn load_to_run(arguments: &ModuleArgs, deadline: Duration) -> Result<Loaded, String> {
    let bytes = load(arguments)?;
    let key = policy_of(&bytes)?.alert.key.as_str().to_owned();
    let again: Box<dyn Fn() -> Result<Box<dyn Engine>, String>> = match arguments.engine {
        EngineArg::Wasmtime => {
            let compiled = Compiled::with_deadline(&bytes, deadline)?;
            Box::new(move || Ok(Box::new(compiled.start(Default::default())?)))
        }
        #[cfg(feature = "wamr")]
        EngineArg::Wamr => Box::new(move || start(&bytes, EngineArg::Wamr)),
    };
    let mut engine = again()?;
    module::check_room(&mut *engine)?;
    Ok(Loaded { engine, key, again })
}

fn policy_of(module: &[u8]) -> Result<Policy, String> {
    Ok(unpack(module)
        .map_err(|error| error.to_string())?
        .unwrap_or_default())
}

fn start(module: &[u8], engine: EngineArg) -> Result<Box<dyn Engine>, String> {
    Ok(match engine {
        EngineArg::Wasmtime => Box::new(Wasmtime::new(module, Options::default())?),
        #[cfg(feature = "wamr")]
        EngineArg::Wamr => Box::new(psexec_filter::engine::Wamr::new(
            module,
            Options::default(),
        )?),
    })
}

/// A reader of ours that has seen enough (`| head`) is no fault.
fn ended(error: io::Error) -> Result<bool, String> {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(true),
        _ => Err(format!("cannot go on: {error}")),
    }
}
