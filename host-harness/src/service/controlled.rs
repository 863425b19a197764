//! The program while the service controller runs it.

use super::{event_log, reason};
use crate::cli::{Cli, Command, RunArgs};
use crate::{log, run_until_end};
use clap::Parser;
use psexec_filter::run::signals::{Controller, Signal};
use std::ffi::OsString;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::sync::mpsc;
use windows_service::service::{
    ServiceControl, ServiceControlAccept, ServiceExitCode, ServiceState, ServiceStatus, ServiceType,
};
use windows_service::service_control_handler::{
    self, ServiceControlHandlerResult, ServiceStatusHandle,
};
use windows_service::{define_windows_service, service_dispatcher};

/// How long Windows waits for the service to start.
const START: Duration = Duration::from_secs(60);

/// How much longer than `--drain` Windows waits for the service to end: reading the clients, saving the state.
pub const SPARE: Duration = Duration::from_secs(5);

/// Windows' code for a program that the service controller did not start.
const ERROR_FAILED_SERVICE_CONTROLLER_CONNECT: i32 = 1063;

/// What the service's own thread and the handler of its controls need. Windows passes neither any data of ours.
static STARTED: OnceLock<Started> = OnceLock::new();

struct Started {
    name: String,
    arguments: Vec<OsString>,
    /// Set when the arguments of `run` are known.
    running: OnceLock<Running>,
    status: OnceLock<ServiceStatusHandle>,
}

struct Running {
    requests: mpsc::UnboundedSender<Signal>,
    drain: Duration,
}

define_windows_service!(service_main, serve);

/// Runs as the service until it ends. The error is a message for the operator.
pub fn run(name: String, arguments: Vec<OsString>) -> Result<(), String> {
    let started = STARTED.get_or_init(|| Started {
        name,
        arguments,
        running: OnceLock::new(),
        status: OnceLock::new(),
    });
    service_dispatcher::start(&started.name, service_main).map_err(|error| match error {
        windows_service::Error::Winapi(error)
            if error.raw_os_error() == Some(ERROR_FAILED_SERVICE_CONTROLLER_CONNECT) =>
        {
            "`service run` is for the service controller; use `psexec-filter run`, or `sc.exe start NAME`"
                .to_owned()
        }
        error => format!(
            "the service controller does not accept the program: {}",
            reason(error)
        ),
    })
}

/// The service's own thread.
fn serve(_arguments: Vec<OsString>) {
    let Some(started) = STARTED.get() else { return };
    match service_control_handler::register(&started.name, handle) {
        Ok(status) => {
            let _first = started.status.set(status);
        }
        Err(error) => {
            let message = format!(
                "the service controller does not accept the service: {}",
                reason(error)
            );
            return event_log::error(&started.name, &message);
        }
    }
    started.report(ServiceState::StartPending, START, 0);
    let failed = match started.serve() {
        Ok(()) => 0,
        Err(message) => {
            event_log::error(&started.name, &message);
            1
        }
    };
    started.report(ServiceState::Stopped, Duration::ZERO, failed);
}

/// Handles a control that Windows sends.
///
/// A function, not a closure with data: `windows-service` 0.8 frees that data with the first `Stop`, and Windows may still send
/// `Interrogate` after it.
fn handle(control: ServiceControl) -> ServiceControlHandlerResult {
    let Some(started) = STARTED.get() else {
        return ServiceControlHandlerResult::NotImplemented;
    };
    let request = match control {
        ServiceControl::Interrogate => return ServiceControlHandlerResult::NoError,
        ServiceControl::Stop | ServiceControl::Preshutdown => Signal::End,
        ServiceControl::ParamChange => Signal::Reload,
        _ => return ServiceControlHandlerResult::NotImplemented,
    };
    if let Some(running) = started.running.get() {
        if request == Signal::End {
            started.report(ServiceState::StopPending, running.drain + SPARE, 0);
        }
        // It fails if the program is ending already.
        let _sent = running.requests.send(request);
    }
    ServiceControlHandlerResult::NoError
}

impl Started {
    /// Runs `run`. The error is a message for the operator.
    fn serve(&'static self) -> Result<(), String> {
        let arguments = run_arguments(&self.arguments)?;
        match &arguments.log_file {
            Some(path) => log::to_file(path)?,
            None => {
                event_log::start(&self.name)?;
                std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
            }
        }
        let logged = arguments.log_file.is_some();
        let (requests, receiver) = mpsc::unbounded_channel();
        let running = Running {
            requests,
            drain: arguments.options().drain,
        };
        let _first = self.running.set(running);
        let controller = Controller {
            requests: receiver,
            ready: Box::new(|| self.report(ServiceState::Running, Duration::ZERO, 0)),
        };
        run_until_end(arguments, Some(controller))
            .map(|_examined| ())
            .inspect_err(|message| {
                // Otherwise the caller writes it where the log is.
                if logged {
                    tracing::error!("{message}");
                }
            })
    }

    /// Reports the state of the service. `wait` is how long the next state may take, `failed` the exit code.
    fn report(&self, state: ServiceState, wait: Duration, failed: u32) {
        let controls_accepted = if state == ServiceState::Running {
            // `Preshutdown` comes before `Shutdown` and leaves more time.
            ServiceControlAccept::STOP
                | ServiceControlAccept::PRESHUTDOWN
                | ServiceControlAccept::PARAM_CHANGE
        } else {
            ServiceControlAccept::empty()
        };
        let status = ServiceStatus {
            service_type: ServiceType::OWN_PROCESS,
            current_state: state,
            controls_accepted,
            exit_code: match failed {
                0 => ServiceExitCode::NO_ERROR,
                code => ServiceExitCode::ServiceSpecific(code),
            },
            checkpoint: 0,
            wait_hint: wait,
            process_id: None,
        };
        if let Some(handle) = self.status.get()
            && let Err(error) = handle.set_service_status(status)
        {
            let message = format!(
                "the service controller does not accept the state {state:?}: {}",
                reason(error)
            );
            event_log::error(&self.name, &message);
        }
    }
}

/// The arguments of `run`. The error is a message for the operator.
pub fn run_arguments(arguments: &[OsString]) -> Result<RunArgs, String> {
    let run = ["psexec-filter", "run"].map(OsString::from);
    let parsed = Cli::try_parse_from(run.into_iter().chain(arguments.iter().cloned()));
    match parsed.map(|cli| cli.command) {
        Ok(Command::Run(arguments)) => Ok(arguments),
        Ok(_) => Err("expected arguments of `run`".to_owned()),
        Err(error) => {
            let message = error.to_string();
            Err(message
                .strip_prefix("error: ")
                .unwrap_or(&message)
                .trim_end()
                .to_owned())
        }
    }
}
