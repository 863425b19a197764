//! The command line.

use clap::{Parser, Subcommand, ValueEnum};
use psexec_filter::engine::{Engine, Options, Wasmtime};
use psexec_filter::replay::Format;
use psexec_filter::run::Emit;
use psexec_filter::{module, replay, run};
use psexec_filter_pack::{pack, unpack};
use psexec_filter_plugin::policy::Policy;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// Finds PsExec-like remote execution in Sysmon records.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Read JSON lines from standard input and write them to standard output with the alerts inside.
    ///
    /// Whatever is not JSON, or too long, goes through as it came. Exits with 1 if the module failed on a line.
    Run {
        /// What to write.
        #[arg(long, value_enum, default_value_t = EmitArg::Records)]
        emit: EmitArg,
        #[command(flatten)]
        module: ModuleArgs,
    },
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
            eprintln!("psexec-filter: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether all went well; the error is a message for people.
fn execute(command: Command) -> Result<bool, String> {
    match command {
        Command::Run { emit, module } => {
            let bytes = load(&module)?;
            let key = policy_of(&bytes)?.alert.key;
            let mut engine = start(&bytes, module.engine)?;
            let emit = match emit {
                EmitArg::Records => Emit::Records,
                EmitArg::Alerts => Emit::Alerts,
                EmitArg::Both => Emit::Both,
            };
            let input = BufReader::with_capacity(256 * 1024, io::stdin().lock());
            let mut out = BufWriter::with_capacity(256 * 1024, io::stdout().lock());
            let mut complain = |message: String| eprintln!("psexec-filter: {message}");
            let totals = run::run(&mut *engine, emit, key.as_str(), input, &mut out, &mut complain);
            totals.map(|totals| totals.failed == 0).or_else(ended)
        }
        Command::Replay { files, format, stats, module } => {
            let mut engine = start(&load(&module)?, module.engine)?;
            let format = match format {
                FormatArg::Text => Format::Text,
                FormatArg::Ndjson => Format::Ndjson,
            };
            let mut out = BufWriter::new(io::stdout().lock());
            let result = replay::replay(&mut *engine, &files, format, &mut out, &mut io::stderr().lock());
            let good = result.and_then(|good| out.flush().map(|()| good)).or_else(ended)?;
            if stats {
                eprintln!("{}", engine.stats().map_err(|error| error.to_string())?.unwrap_or_default());
            }
            Ok(good)
        }
        Command::Pack { policy, module, out } => {
            let bytes = module::load(module.as_deref(), None)?;
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as i64);
            let policy = policy.as_deref().map(|path| module::read_policy_to_pack(path, now)).transpose()?.unwrap_or_default();
            let packed = pack(&bytes, &policy).map_err(|error| error.to_string())?;
            std::fs::write(&out, &packed).map_err(|error| format!("{}: cannot be written: {error}", out.display()))?;
            eprintln!("{}: {} bytes, policy inside", out.display(), packed.len());
            Ok(true)
        }
        Command::Policy { command: PolicyCommand::Show { module } } => {
            let policy = policy_of(&module::load(module.as_deref(), None)?)?;
            let text = toml::to_string(&policy).map_err(|error| error.to_string())?;
            io::stdout().write_all(text.as_bytes()).map(|()| true).or_else(ended)
        }
    }
}

fn load(arguments: &ModuleArgs) -> Result<Vec<u8>, String> {
    module::load(arguments.module.as_deref(), arguments.policy.as_deref())
}

fn policy_of(module: &[u8]) -> Result<Policy, String> {
    Ok(unpack(module).map_err(|error| error.to_string())?.unwrap_or_default())
}

fn start(module: &[u8], engine: EngineArg) -> Result<Box<dyn Engine>, String> {
    Ok(match engine {
        EngineArg::Wasmtime => Box::new(Wasmtime::new(module, Options::default())?),
        #[cfg(feature = "wamr")]
        EngineArg::Wamr => Box::new(psexec_filter::engine::Wamr::new(module, Options::default())?),
    })
}

/// A reader of ours that has seen enough (`| head`) is no fault.
fn ended(error: io::Error) -> Result<bool, String> {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(true),
        _ => Err(format!("cannot go on: {error}")),
    }
}
