//! `service`: `run` as a Windows service. It was tried under Wine, not on Windows.
//!
//! * [`install`] configures the service: its arguments, its account, what Windows does if it fails.
//! * [`controlled`] is the program while the service controller runs it.
//! * [`event_log`] writes to the Windows event log, because a service has no standard error.

mod controlled;
mod event_log;
mod install;

use std::ffi::OsString;

/// Name of the service, unless the operator gives one.
const NAME: &str = "psexec-filter";

/// What to do with the service.
#[derive(clap::Subcommand)]
pub enum ServiceCommand {
    /// Install a service that runs `run` with these arguments, or give them to the service if it is installed already.
    ///
    /// The arguments are checked, and module and policy are loaded, before anything is changed. Windows starts the service when
    /// it starts, and restarts it if it fails. Stopping it works as SIGTERM does elsewhere, `sc.exe control NAME paramchange` as
    /// SIGHUP. Its errors are in the event log "Application", its other messages too, unless --log-file is given. Needs an
    /// administrator. Tried under Wine, not on Windows.
    #[command(
        after_help = "Example: psexec-filter service install -- --input tcp://127.0.0.1:9701 --output file:///C:/ProgramData/psexec-filter/out.ndjson --state C:\\ProgramData\\psexec-filter\\state"
    )]
    Install {
        /// Name of the service.
        #[arg(long, default_value = NAME)]
        name: String,
        /// Account that the service runs as, one without a password: `LocalSystem`, `NT AUTHORITY\LocalService`,
        /// `NT AUTHORITY\NetworkService` or `NT SERVICE\NAME`. It needs access to every file that the arguments name.
        #[arg(long, default_value = r"NT AUTHORITY\LocalService")]
        account: String,
        /// The arguments of `run`; paths must be absolute.
        #[arg(last = true, required = true)]
        arguments: Vec<OsString>,
    },
    /// Stop the service and remove it. Its files (policy, state, output, log) are kept.
    Uninstall {
        /// Name of the service.
        #[arg(long, default_value = NAME)]
        name: String,
    },
    /// What the service controller starts.
    #[command(hide = true)]
    Run {
        #[arg(long, default_value = NAME)]
        name: String,
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
}

/// Does it. The error is a message for the operator.
pub fn execute(command: ServiceCommand) -> Result<(), String> {
    match command {
        ServiceCommand::Install {
            name,
            account,
            arguments,
        } => install::install(&name, &account, &arguments),
        ServiceCommand::Uninstall { name } => install::uninstall(&name),
        ServiceCommand::Run { name, arguments } => controlled::run(name, arguments),
    }
}

/// What went wrong in a call of Windows. The text of `windows_service::Error` leaves it out.
fn reason(error: windows_service::Error) -> String {
    match error {
        windows_service::Error::Winapi(error) => error.to_string(),
        error => error.to_string(),
    }
}
