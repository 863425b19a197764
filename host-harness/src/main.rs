//! The program `psexec-filter`.

#![forbid(unsafe_code)]

mod cli;
mod log;
mod manual;
#[cfg(windows)]
mod service;

use clap::Parser;
use cli::{Cli, Command, EngineName, ModuleArgs, PolicyCommand, RunArgs};
use psexec_filter::engine::{Compiled, Options, Start, Wasmtime};
use psexec_filter::module::{self, Module};
use psexec_filter::run::signals::Controller;
use psexec_filter::run::supervisor::Loaded;
use psexec_filter::{replay, run};
use psexec_filter_pack::{encode_policy, pack, unpack, version};
use psexec_filter_plugin::ABI;
use psexec_filter_plugin::chain::TABLES;
use psexec_filter_plugin::policy::Policy;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn main() -> ExitCode {
    match execute(Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            // Nobody is left to be informed if standard error is closed.
            let _written = writeln!(io::stderr(), "psexec-filter: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether everything succeeded. The error is a message for the operator.
fn execute(command: Command) -> Result<bool, String> {
    match command {
        Command::Run(arguments) => run_between_streams(arguments),
        Command::Replay {
            files,
            format,
            stats,
            module,
        } => replay_logs(&files, format.into(), stats, &module),
        Command::Pack {
            policy,
            module,
            out,
        } => pack_policy(policy.as_deref(), module.as_deref(), &out),
        Command::Policy {
            command: PolicyCommand::Show { module },
        } => show_policy(module.as_deref()),
        Command::Policy {
            command: PolicyCommand::Check { policy },
        } => check_policy(&policy),
        Command::Generate { out } => manual::generate(&out)
            .map(|()| true)
            .map_err(|error| format!("{}: cannot be written: {error}", out.display())),
        #[cfg(windows)]
        Command::Service { command } => service::execute(command).map(|()| true),
    }
}

fn run_between_streams(arguments: RunArgs) -> Result<bool, String> {
    match arguments.log_file.clone() {
        None => log::to_stderr(),
        Some(path) => log::to_file(&path)?,
    }
    let logged = arguments.log_file.is_some();
    run_until_end(arguments, None).inspect_err(|message| {
        // Otherwise `main` writes it where the log is.
        if logged {
            tracing::error!("{message}");
        }
    })
}

/// Runs as `arguments` say. The log must have been started. The error is a message for the operator.
fn run_until_end(arguments: RunArgs, controller: Option<Controller>) -> Result<bool, String> {
    let deadline = arguments.call_deadline();
    let options = arguments.options();
    let module = arguments.module;
    let load = Box::new(move || load_to_run(&module, deadline));
    run::run(options, load, controller)
}

/// Loads the module for `run`; called again at each SIGHUP.
fn load_to_run(arguments: &ModuleArgs, deadline: Duration) -> Result<Loaded, String> {
    let module = Module::load(arguments.module.as_deref(), arguments.policy.as_deref())?;
    let alert_key = module.policy()?.alert.key.as_str().to_owned();
    let start = starter(module, arguments.engine, Some(deadline))?;
    let mut engine = start()?;
    module::check_policy_memory(&mut *engine)?;
    Ok(Loaded {
        engine,
        alert_key,
        start,
    })
}

/// Prepares a module to be started any number of times. `deadline` is the time that a call may take, if there is a limit.
fn starter(
    module: Module,
    engine: EngineName,
    deadline: Option<Duration>,
) -> Result<Start, String> {
    Ok(match engine {
        EngineName::Wasmtime => {
            let mut compiled = Compiled::new(module.bytes())?;
            if let Some(deadline) = deadline {
                compiled = compiled.with_deadline(deadline)?;
            }
            Box::new(move || Ok(Box::new(compiled.start(module.options())?)))
        }
        #[cfg(feature = "wamr")]
        EngineName::Wamr => Box::new(move || {
            let instance = psexec_filter::engine::Wamr::new(module.bytes(), module.options())?;
            Ok(Box::new(instance))
        }),
    })
}

fn replay_logs(
    files: &[PathBuf],
    format: replay::Format,
    stats: bool,
    arguments: &ModuleArgs,
) -> Result<bool, String> {
    let module = Module::load(arguments.module.as_deref(), arguments.policy.as_deref())?;
    let policy = module.policy()?;
    let start = starter(module, arguments.engine, None)?;
    module::check_policy_memory(&mut *start()?)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut faults = io::stderr().lock();
    let filter = replay::Filter {
        start: &start,
        policy: &policy,
    };
    let replayed = replay::replay(&filter, files, format, &mut out, &mut faults);
    let replayed = replayed.and_then(|replayed| out.flush().map(|()| replayed));
    let replayed = match replayed {
        Ok(replayed) => replayed,
        Err(error) => return accept_closed_output(error),
    };
    if stats {
        eprintln!("{}", replayed.stats);
    }
    Ok(replayed.all_read)
}

fn pack_policy(policy: Option<&Path>, module: Option<&Path>, out: &Path) -> Result<bool, String> {
    let (name, bytes) = module::read_module_to_use(module)?;
    let policy = policy.map(read_policy).transpose()?.unwrap_or_default();
    let packed = pack(&bytes, &policy).map_err(|error| format!("{name}: {error}"))?;
    try_policy(&name, &bytes, &policy)?;
    std::fs::write(out, &packed)
        .map_err(|error| format!("{}: cannot be written: {error}", out.display()))?;
    eprintln!(
        "{}: {} bytes, with the policy inside",
        out.display(),
        packed.len()
    );
    Ok(true)
}

/// Reads a policy, and writes to standard error what its author should know.
fn read_policy(path: &Path) -> Result<Policy, String> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.as_millis() as i64);
    let (policy, warnings) = module::read_policy_with_warnings(path, Some(now))?;
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
    Ok(policy)
}

/// Refuses a policy that leaves the module too little memory. It is tried in the module as it was, because the machine code of the
/// built-in one is at hand.
fn try_policy(name: &str, module: &[u8], policy: &Policy) -> Result<(), String> {
    let region = encode_policy(policy).map_err(|error| format!("{name}: {error}"))?;
    let options = Options {
        policy: Some(&region),
        ..Options::default()
    };
    module::check_policy_memory(&mut Wasmtime::new(module, options)?)
}

fn check_policy(policy: &Path) -> Result<bool, String> {
    let (name, bytes) = module::read_module_to_use(None)?;
    try_policy(&name, &bytes, &read_policy(policy)?)?;
    eprintln!("{}: the policy can be packed", policy.display());
    Ok(true)
}

fn show_policy(module: Option<&Path>) -> Result<bool, String> {
    let (name, bytes) = module::read_module(module)?;
    let policy = unpack(&bytes)
        .map_err(|error| format!("{name}: {error}"))?
        .unwrap_or_default();
    let policy = toml::to_string(&policy).map_err(|error| error.to_string())?;
    // A module of another ABI can be shown, too: its policy may have to be packed into a newer one.
    let version = match version(&bytes) {
        Ok(version) => version.to_string(),
        Err(_) => "a module without a version".to_owned(),
    };
    let text = format!(
        "# {version}; read by psexec-filter {}, ABI {ABI}\n\n{policy}{}",
        env!("CARGO_PKG_VERSION"),
        severity_tables()
    );
    io::stdout()
        .write_all(text.as_bytes())
        .map(|()| true)
        .or_else(accept_closed_output)
}

/// The severity tables of this program's techniques as TOML comments, so that the output is still a policy.
fn severity_tables() -> String {
    let mut text = String::from(
        "\n# What makes each level, by technique: the first line that matches counts. `severity` in the section of the technique\n\
         # maps these levels.\n",
    );
    for table in TABLES {
        text.push_str(&format!(
            "#\n# {} ({})\n",
            table.rule.chain, table.rule.name
        ));
        for row in table.severity {
            let level = row.level.name();
            text.push_str(&format!("#   {level:<8}  {}\n", table.describe(row)));
        }
    }
    text
}

/// A reader that closes standard output early, as `| head` does, is not an error.
fn accept_closed_output(error: io::Error) -> Result<bool, String> {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(true),
        _ => Err(format!("the output cannot be written: {error}")),
    }
}
