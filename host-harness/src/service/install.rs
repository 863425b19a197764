//! Configures the service.

use super::controlled::{SPARE, run_arguments};
use super::{event_log, reason};
use crate::load_to_run;
use psexec_filter::run::options::{Input, Output};
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};
use windows_service::service::{
    Service, ServiceAccess, ServiceAction, ServiceActionType, ServiceErrorControl,
    ServiceFailureActions, ServiceFailureResetPeriod, ServiceInfo, ServiceSidType,
    ServiceStartType, ServiceState, ServiceType,
};
use windows_service::service_manager::{ServiceManager, ServiceManagerAccess};

const DISPLAY_NAME: &str = "psexec-filter";

const DESCRIPTION: &str = "Finds PsExec-like remote execution in Sysmon records.";

/// Pauses before a service that failed is restarted; the last one again and again.
const RESTARTS: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(10),
    Duration::from_secs(60),
];

/// Time without a failure after which the first of [`RESTARTS`] comes again.
const FORGET_FAILURES: Duration = Duration::from_secs(60 * 60);

/// How long `uninstall` waits for the service to stop, beyond what it reports itself.
const STOP: Duration = Duration::from_secs(90);

/// Windows' code for a service that does not exist.
const ERROR_SERVICE_DOES_NOT_EXIST: i32 = 1060;

/// Installs the service, or changes its configuration if it is installed. Nothing is changed if `arguments` are not good arguments
/// of `run`. The error is a message for the operator.
pub fn install(name: &str, account: &str, arguments: &[OsString]) -> Result<(), String> {
    let drain = check(arguments)?;
    let program = std::env::current_exe()
        .map_err(|error| format!("the path of this program is not known: {error}"))?;
    let manager = manager(ServiceManagerAccess::CONNECT | ServiceManagerAccess::CREATE_SERVICE)?;
    let mut launch_arguments = ["service", "run", "--name", name, "--"]
        .map(OsString::from)
        .to_vec();
    launch_arguments.extend_from_slice(arguments);
    let info = ServiceInfo {
        name: name.into(),
        display_name: if name == super::NAME {
            DISPLAY_NAME.into()
        } else {
            format!("{DISPLAY_NAME} ({name})").into()
        },
        service_type: ServiceType::OWN_PROCESS,
        start_type: ServiceStartType::AutoStart,
        error_control: ServiceErrorControl::Normal,
        executable_path: program,
        launch_arguments,
        dependencies: Vec::new(),
        account_name: Some(account.into()),
        account_password: None,
    };
    // Windows wants the right to start it of whoever has it restarted.
    let access = ServiceAccess::QUERY_CONFIG
        | ServiceAccess::QUERY_STATUS
        | ServiceAccess::CHANGE_CONFIG
        | ServiceAccess::START;
    let cannot = |what: &str| {
        let what = what.to_owned();
        move |error| format!("the service `{name}` cannot be {what}: {}", reason(error))
    };
    let (service, what) = match open(&manager, name, access)? {
        Some(service) => {
            service.change_config(&info).map_err(cannot("changed"))?;
            (service, "was changed")
        }
        None => {
            let created = manager.create_service(&info, access);
            (created.map_err(cannot("created"))?, "was installed")
        }
    };
    let is_running = service
        .query_status()
        .is_ok_and(|status| status.current_state != ServiceState::Stopped);
    eprintln!(
        "the service `{name}` {what}; {}",
        if is_running {
            format!(
                "it gets the new arguments when it is restarted: powershell Restart-Service '{name}'"
            )
        } else {
            format!("it starts with Windows, or now with: sc.exe start \"{name}\"")
        }
    );
    let mut warnings: Vec<String> = details(&service, drain)
        .into_iter()
        .filter_map(|(what, set)| set.err().map(|error| cannot(what)(error)))
        .collect();
    warnings.extend(event_log::add_source(name).err());
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
    Ok(())
}

/// Sets what the service can do without: it runs even if Windows refuses one of these. Returns each, as what the service is given,
/// with its result.
fn details(service: &Service, drain: Duration) -> [(&'static str, windows_service::Result<()>); 5] {
    let restarts = RESTARTS.map(|delay| ServiceAction {
        action_type: ServiceActionType::Restart,
        delay,
    });
    [
        ("given a description", service.set_description(DESCRIPTION)),
        (
            "set to be restarted if it fails",
            service.update_failure_actions(ServiceFailureActions {
                reset_period: ServiceFailureResetPeriod::After(FORGET_FAILURES),
                reboot_msg: None,
                command: None,
                actions: Some(restarts.to_vec()),
            }),
        ),
        (
            "set to be restarted if it ends with an error",
            service.set_failure_actions_on_non_crash_failures(true),
        ),
        (
            "given the time of --drain when Windows shuts down",
            service.set_preshutdown_timeout(drain + SPARE),
        ),
        (
            "given the identity `NT SERVICE\\NAME` to grant access to",
            service.set_config_service_sid_info(ServiceSidType::Unrestricted),
        ),
    ]
}

/// Stops the service and removes it. The error is a message for the operator.
pub fn uninstall(name: &str) -> Result<(), String> {
    let manager = manager(ServiceManagerAccess::CONNECT)?;
    let access = ServiceAccess::QUERY_CONFIG
        | ServiceAccess::QUERY_STATUS
        | ServiceAccess::STOP
        | ServiceAccess::DELETE;
    let service = open(&manager, name, access)?
        .ok_or_else(|| format!("there is no service `{name}`; nothing was changed"))?;
    let cannot = |what: &'static str| {
        move |error| format!("the service `{name}` cannot be {what}: {}", reason(error))
    };
    let state = || {
        service
            .query_status()
            .map(|status| (status.current_state, status.wait_hint))
            .map_err(cannot("queried"))
    };
    if state()?.0 != ServiceState::Stopped {
        let hint = service.stop().map_err(cannot("stopped"))?.wait_hint;
        let end = Instant::now() + STOP + hint;
        while state()?.0 != ServiceState::Stopped {
            if Instant::now() > end {
                return Err(format!(
                    "the service `{name}` does not stop; it was not removed"
                ));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    service.delete().map_err(cannot("removed"))?;
    event_log::remove_source(name);
    eprintln!("the service `{name}` was removed; its policy, state, output and log are kept");
    Ok(())
}

fn manager(access: ServiceManagerAccess) -> Result<ServiceManager, String> {
    ServiceManager::local_computer(None::<&str>, access).map_err(|error| {
        format!(
            "the service controller cannot be used: {}; this needs an administrator's console",
            reason(error)
        )
    })
}

/// Opens a service; `None` if there is none. One of another program is refused. The error is a message for the operator.
fn open(
    manager: &ServiceManager,
    name: &str,
    access: ServiceAccess,
) -> Result<Option<Service>, String> {
    let cannot = |error| format!("the service `{name}` cannot be opened: {}", reason(error));
    let service = match manager.open_service(name, access) {
        Ok(service) => service,
        Err(windows_service::Error::Winapi(error)) if does_not_exist(&error) => return Ok(None),
        Err(error) => return Err(cannot(error)),
    };
    // The whole command line.
    let command = service.query_config().map_err(cannot)?.executable_path;
    if command.to_string_lossy().contains(" service run --name ") {
        return Ok(Some(service));
    }
    Err(format!(
        "the service `{name}` is another program: {}; nothing was changed, give another --name",
        command.display()
    ))
}

fn does_not_exist(error: &io::Error) -> bool {
    error.raw_os_error() == Some(ERROR_SERVICE_DOES_NOT_EXIST)
}

/// Checks the arguments of `run` as far as that can be done without running it. Returns `--drain`. The error is a message for the
/// operator.
fn check(arguments: &[OsString]) -> Result<Duration, String> {
    let arguments = run_arguments(arguments)?;
    let options = arguments.options();
    if options.inputs.contains(&Input::Stdin) {
        return Err(
            "--input: a service has no standard input; expected tcp://127.0.0.1:PORT".to_owned(),
        );
    }
    let output = match &options.output {
        Output::Stdout => {
            return Err(
                "--output: a service has no standard output; expected file:///C:/FOLDER/FILE or tcp://HOST:PORT"
                    .to_owned(),
            );
        }
        Output::File(path) => Some(path),
        Output::Tcp(_) => None,
    };
    let module = &arguments.module;
    for (option, path, is_written) in [
        ("--output", output, true),
        ("--state", options.state.as_ref(), true),
        ("--log-file", arguments.log_file.as_ref(), true),
        ("--module", module.module.as_ref(), false),
        ("--policy", module.policy.as_ref(), false),
    ] {
        let Some(path) = path else { continue };
        if !path.is_absolute() {
            return Err(format!(
                "{option} {}: expected an absolute path, because a service starts in a folder of Windows",
                path.display()
            ));
        }
        let folder = path.parent().filter(|folder| !folder.is_dir());
        if let Some(folder) = folder.filter(|_| is_written) {
            return Err(format!(
                "{option}: the folder {} does not exist",
                Path::display(folder)
            ));
        }
    }
    load_to_run(module, arguments.call_deadline())?;
    Ok(options.drain)
}
