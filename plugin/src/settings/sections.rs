//! The sections of a policy that no single technique owns. `configs/policy.toml` explains every key to those who write one.

use super::Patterns;
use super::subject;
use super::values::{Bounded, HostLabel, Key, Millis, Severity};
use crate::normalize::path::PathKey;
use serde::{Deserialize, Serialize};

/// `[alert]`: how alerts look.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlertSettings {
    /// Key under which an alert is added to a record.
    pub key: Key,
    /// Incidents below this severity are not alerted.
    pub min_severity: Severity,
    /// How alerts leave.
    pub emit: Emit,
    /// Which records leave.
    pub pass: Pass,
    /// How often the counters leave, on a tick or added to a record; 0 is never.
    pub stats_interval: Millis,
    /// What happens to an incident that an `[[allow]]` entry covers.
    pub allowed: Allowed,
    /// Whether an entry that names users can cover an incident of an unknown user.
    pub on_unknown_user: OnUnknown,
    /// Whether an entry that names sources can cover an incident of an unknown source.
    pub on_unknown_source: OnUnknown,
}

/// `alert.emit`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Emit {
    /// Added to the record that completes them; on a tick if there is no record that can carry them.
    Tag,
    /// As records of their own, on ticks. Every record leaves as it came. As with `Tag` while no ticks come.
    Record,
}

/// `alert.pass`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pass {
    /// All records.
    All,
    /// Evidence, for ten minutes after an incident of medium or more everything of its host, and whatever is not a Windows event.
    Evidence,
    /// Records with an alert, and whatever is not a Windows event.
    Alerts,
}

/// `alert.allowed`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Allowed {
    /// Alerted as informational, with `"status":"allowed"` and the reason.
    Mark,
    /// Not alerted, only counted.
    Drop,
}

/// `alert.on_unknown_user` and `alert.on_unknown_source`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnUnknown {
    /// An unknown user or source is not allowed.
    Alert,
    /// The entry's other fields decide.
    Allow,
}

/// `[host]`: whose records these are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostSettings {
    /// The host of records that name none; empty if such records are not to be examined.
    pub default: HostLabel,
}

/// `[windows]`: how far apart, by logged time, the evidence of one execution may be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Windows {
    /// How long before the process start a connection may be logged.
    pub connection_before: Millis,
    /// How long after the process start a connection may be logged: Sysmon writes event 3 late.
    pub connection_after: Millis,
    /// From the file write to the process start.
    pub file_to_process: Millis,
    /// From the service's ImagePath to the process start.
    pub service_to_process: Millis,
    /// From the process start to the pipe that the process makes.
    pub process_to_pipe: Millis,
    /// From a service's change until its old program is restored.
    pub service_restored: Millis,
    /// Between the values that are written when a service is created.
    pub service_created: Millis,
    /// From the process start until its service is deleted.
    pub service_deleted: Millis,
    /// Between two commands that together count as a shell.
    pub shell: Millis,
    /// From a connection to a DCOM server to the process that the server starts.
    pub dcom: Millis,
    /// How long an alert without a source is held for a late connection while an `[[allow]]` entry asks for sources.
    pub grace: Millis,
    /// How far the order of two events may be wrong: clocks with whole seconds, events written a little late.
    pub clock_tolerance: Millis,
    /// How long after an incident's last evidence a repeat or a child process still belongs to it.
    pub suppress: Millis,
}

/// `[connection]`: which connections count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectionSettings {
    /// Local ports at which a remote execution arrives.
    #[serde(deserialize_with = "subject::ports")]
    pub ports: Vec<u16>,
    /// The first dynamic port (RPC).
    pub dynamic_from: u16,
    /// Programs whose dynamic ports count, by file name, which is kept in lower case.
    #[serde(deserialize_with = "subject::file_names")]
    pub dynamic_programs: Vec<String>,
    /// How long after the connection Sysmon usually writes event 3.
    pub logged_late_by: Millis,
}

impl ConnectionSettings {
    /// Whether this is a port at which a remote execution arrives.
    pub fn is_service_port(&self, port: u16) -> bool {
        self.ports.contains(&port)
    }

    /// Whether this is a dynamic port.
    pub fn is_dynamic_port(&self, port: u16) -> bool {
        port >= self.dynamic_from
    }
}

/// `[suspicious]`: what makes a program suspicious, in any technique.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SuspiciousSettings {
    /// Interpreters and loaders: programs that run what their command line says.
    #[serde(deserialize_with = "subject::file_names")]
    pub interpreters: Vec<String>,
    /// Programs that every Windows has and that no service of Windows runs.
    #[serde(deserialize_with = "subject::file_names")]
    pub system_programs: Vec<String>,
    /// Folders where users can write.
    #[serde(deserialize_with = "subject::paths")]
    pub folders: Patterns,
}

impl SuspiciousSettings {
    /// Whether a program is an interpreter or a loader.
    pub fn is_interpreter(&self, program: &PathKey) -> bool {
        is_listed(&self.interpreters, program)
    }

    /// Whether a program is one that Windows has and no service of Windows runs.
    pub fn is_system_program(&self, program: &PathKey) -> bool {
        is_listed(&self.system_programs, program)
    }

    /// Whether a program is an interpreter, lies where users can write, or is started from a share.
    pub fn is_suspicious(&self, program: &PathKey, command: &str) -> bool {
        self.is_interpreter(program)
            || self.folders.hit(program.as_str())
            || command.trim_start_matches('"').starts_with(r"\\")
    }
}

/// Whether a list of file names has that of a program. Case does not matter in the list.
fn is_listed(names: &[String], program: &PathKey) -> bool {
    let file_name = program.file_name();
    names
        .iter()
        .any(|name| name.eq_ignore_ascii_case(file_name))
}

/// `[limits]`: bounds on memory and output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Longer records pass unexamined, in bytes.
    pub max_record_bytes: Bounded<1024, 4_194_304>,
    /// Hosts remembered.
    pub hosts: Bounded<1, 4096>,
    /// Evidence remembered for one host.
    pub evidence_per_host: Bounded<16, 256>,
    /// Incidents open on one host.
    pub incidents_per_host: Bounded<1, 64>,
    /// Alerts of one host that wait for a record to carry them.
    pub pending_per_host: Bounded<1, 64>,
    /// Alerts about one incident.
    pub revisions: Bounded<1, 1000>,
    /// Processes whose children are looked at, over all hosts.
    pub tracked_processes: Bounded<1, 4096>,
    /// State of all hosts, in bytes.
    pub state_bytes: Bounded<65_536, 8_388_608>,
}

impl Default for AlertSettings {
    fn default() -> Self {
        AlertSettings {
            key: Key::detection(),
            min_severity: Severity::Low,
            emit: Emit::Tag,
            pass: Pass::All,
            stats_interval: Millis(0),
            allowed: Allowed::Mark,
            on_unknown_user: OnUnknown::Alert,
            on_unknown_source: OnUnknown::Alert,
        }
    }
}

impl Default for Windows {
    fn default() -> Self {
        Windows {
            connection_before: Millis(120_000),
            connection_after: Millis(10_000),
            file_to_process: Millis(120_000),
            service_to_process: Millis(30_000),
            process_to_pipe: Millis(30_000),
            service_restored: Millis(300_000),
            service_created: Millis(2_000),
            service_deleted: Millis(60_000),
            shell: Millis(60_000),
            dcom: Millis(60_000),
            grace: Millis(10_000),
            clock_tolerance: Millis(2_000),
            suppress: Millis(300_000),
        }
    }
}

impl Default for ConnectionSettings {
    fn default() -> Self {
        ConnectionSettings {
            ports: vec![445, 139, 135],
            dynamic_from: 49_152,
            dynamic_programs: vec!["services.exe".to_owned(), "svchost.exe".to_owned()],
            logged_late_by: Millis(1_500),
        }
    }
}

impl Default for SuspiciousSettings {
    fn default() -> Self {
        let interpreters = [
            "cmd.exe",
            "powershell.exe",
            "pwsh.exe",
            "rundll32.exe",
            "regsvr32.exe",
            "mshta.exe",
            "wscript.exe",
            "cscript.exe",
            "msbuild.exe",
            "installutil.exe",
            "regasm.exe",
            "regsvcs.exe",
            "certutil.exe",
            "bitsadmin.exe",
            "msiexec.exe",
            "wmic.exe",
            "forfiles.exe",
            "bash.exe",
        ];
        let system_programs = [
            "net.exe",
            "net1.exe",
            "reg.exe",
            "sc.exe",
            "schtasks.exe",
            "at.exe",
            "conhost.exe",
            "whoami.exe",
            "vssadmin.exe",
            "wbadmin.exe",
            "bcdedit.exe",
            "wevtutil.exe",
            "fsutil.exe",
            "netsh.exe",
            "nltest.exe",
            "ntdsutil.exe",
            "esentutl.exe",
            "diskshadow.exe",
            "taskkill.exe",
            "tasklist.exe",
            "systeminfo.exe",
            "ipconfig.exe",
            "ping.exe",
            "xcopy.exe",
            "robocopy.exe",
            "curl.exe",
            "tar.exe",
            "makecab.exe",
            "expand.exe",
            "extrac32.exe",
            "attrib.exe",
            "icacls.exe",
            "takeown.exe",
            "odbcconf.exe",
            "pcalua.exe",
            "scriptrunner.exe",
            "explorer.exe",
            "notepad.exe",
            "calc.exe",
        ];
        let folders = [
            r"*\users\*",
            r"*\programdata\*",
            r"*\windows\temp\*",
            r"*\temp\*",
            r"*\perflogs\*",
            r"*\$recycle.bin\*",
        ];
        SuspiciousSettings {
            interpreters: interpreters.map(str::to_owned).to_vec(),
            system_programs: system_programs.map(str::to_owned).to_vec(),
            folders: Patterns::known(&folders),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_record_bytes: Bounded::constant::<4_194_304>(),
            hosts: Bounded::constant::<4096>(),
            evidence_per_host: Bounded::constant::<64>(),
            incidents_per_host: Bounded::constant::<16>(),
            pending_per_host: Bounded::constant::<16>(),
            revisions: Bounded::constant::<32>(),
            tracked_processes: Bounded::constant::<256>(),
            state_bytes: Bounded::constant::<8_388_608>(),
        }
    }
}
