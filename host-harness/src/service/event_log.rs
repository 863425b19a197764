//! Messages in the Windows event log "Application".

use std::path::Path;
use std::process::{Command, Stdio};
use tracing::Subscriber;
use tracing_layer_win_eventlog::EventLogLayer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;

/// Where Windows looks up the sources of the log.
const SOURCES: &str = r"HKLM\SYSTEM\CurrentControlSet\Services\EventLog\Application";

/// A program of Windows with a message table in which the texts of the numbers 1 to 1000 are `%1`: the message as it is given.
const TEXTS: &str = r"%SystemRoot%\System32\EventCreate.exe";

/// Number of all messages.
const ID: u32 = 1;

/// Adds a source, so that the event log shows messages without a remark that their text is missing. The error is a message for the
/// operator.
pub fn add_source(name: &str) -> Result<(), String> {
    let key = format!(r"{SOURCES}\{name}");
    let value = ["/v", "EventMessageFile", "/t", "REG_EXPAND_SZ", "/d", TEXTS];
    registry(&[&["add", &key, "/f"], &value[..]].concat())
        .map_err(|why| format!("the event source `{name}` cannot be registered: {why}"))
}

/// Removes a source. Its messages stay.
pub fn remove_source(name: &str) {
    // One that remains does no harm.
    let _removed = registry(&["delete", &format!(r"{SOURCES}\{name}"), "/f"]);
}

/// Changes the registry by Windows' own program.
fn registry(arguments: &[&str]) -> Result<(), String> {
    let windows = std::env::var_os("SystemRoot").unwrap_or_else(|| r"C:\Windows".into());
    let status = Command::new(Path::new(&windows).join(r"System32\reg.exe"))
        .args(arguments)
        .stdout(Stdio::null())
        .status()
        .map_err(|error| format!("reg.exe does not start: {error}"))?;
    if status.success() {
        return Ok(());
    }
    Err(format!("reg.exe failed, {status}"))
}

/// Writes an error, whether the log of `run` is here or elsewhere.
pub fn error(source: &str, message: &str) {
    // There is no other place to report to.
    if let Ok(log) = log(source) {
        tracing::subscriber::with_default(log, || tracing::error!("{message}"));
    }
}

/// Starts the log of `run` in the event log. The error is a message for the operator.
pub fn start(source: &str) -> Result<(), String> {
    log(source)?.init();
    Ok(())
}

fn log(source: &str) -> Result<impl Subscriber + Send + Sync + use<>, String> {
    let layer = EventLogLayer::new_with_default_id(source, Some(ID))
        .map_err(|error| format!("the event log cannot be opened: {error}"))?;
    Ok(tracing_subscriber::registry()
        .with(layer)
        .with(LevelFilter::INFO))
}
