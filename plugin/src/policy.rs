//! The policy: every window, list and limit, with its default.
//!
//! People write it as TOML (`configs/policy.toml` documents every key); `psexec-filter pack` checks it and puts it
//! into the module as JSON. Both are read into these types, so what packs is what the module understands.
//! Unknown keys are refused, missing ones have their defaults.

use crate::normalize::address::Cidr;
use crate::normalize::path::PathKey;
use crate::normalize::time;
pub use crate::pattern::Patterns;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Everything that can be set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// How alerts look.
    pub alert: AlertPolicy,
    /// How far apart the pieces of one execution may be.
    pub windows: Windows,
    /// Which connections count.
    pub connection: ConnectionPolicy,
    /// The `psexec` chain.
    pub psexec: PsexecPolicy,
    /// The `smbexec` chain.
    pub smbexec: SmbexecPolicy,
    /// The `wmiexec` chain.
    pub wmiexec: WmiexecPolicy,
    /// The `dcomexec` chain.
    pub dcomexec: DcomexecPolicy,
    /// The `scshell` chain.
    pub scshell: ScshellPolicy,
    /// What makes a program suspicious, in any chain.
    pub suspicious: SuspiciousPolicy,
    /// Bounds on memory and output.
    pub limits: Limits,
    /// What is legitimate.
    pub allow: Vec<Allow>,
}

/// `[alert]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlertPolicy {
    /// Key under which an alert is added to a record.
    pub key: Key,
    /// Incidents below this severity are not alerted.
    pub min_severity: Severity,
    /// How often the counters ride on a record; 0 is never.
    pub stats_interval: Millis,
    /// What becomes of an incident that an `[[allow]]` entry covers.
    pub allowed: Allowed,
    /// Whether an incident of an unknown user can be covered by an entry that names users.
    pub on_unknown_user: OnUnknown,
    /// Whether an incident of an unknown source can be covered by an entry that names sources.
    pub on_unknown_source: OnUnknown,
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
    /// What is not known is not allowed.
    Alert,
    /// The entry's other fields decide.
    Allow,
}

/// `[windows]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Windows {
    /// A connection may be logged this long before the process start.
    pub connection_before: Millis,
    /// And this long after it: Sysmon writes event 3 late.
    pub connection_after: Millis,
    /// From the file write to the process start.
    pub file_to_process: Millis,
    /// From the service's ImagePath to the process start.
    pub service_to_process: Millis,
    /// Between the process start and its pipe.
    pub process_to_pipe: Millis,
    /// From a service's change until it is put back.
    pub service_put_back: Millis,
    /// Between the values that are written when a service is created.
    pub service_created: Millis,
    /// From the process start until its service is deleted.
    pub service_gone: Millis,
    /// Between commands of one session that make a shell of it.
    pub shell: Millis,
    /// Between a connection to a DCOM server and what that starts.
    pub dcom: Millis,
    /// How long an alert without a source waits for a late connection, while an `[[allow]]` entry asks for sources.
    pub grace: Millis,
    /// How far order may be wrong: clocks with whole seconds, events written a little late.
    pub clock_tolerance: Millis,
    /// How long after the last piece a repeat still belongs to the same incident.
    pub suppress: Millis,
}

/// `[connection]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectionPolicy {
    /// Local ports on which a remote execution arrives.
    pub ports: Vec<u16>,
    /// From this port on, ports are dynamic (RPC).
    pub dynamic_from: u16,
    /// Programs whose dynamic ports count.
    pub dynamic_programs: Vec<String>,
    /// How long after the fact Sysmon usually writes event 3.
    pub logged_late_by: Millis,
}

/// `[psexec]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PsexecPolicy {
    /// Whether the chain is in use.
    pub enabled: bool,
    /// What its levels are told as.
    pub severity: Levels,
    /// Pipe names of PsExec and its relatives, lower case, `*` stands for anything.
    pub pipes: Vec<String>,
    /// Pieces without which nothing is alerted.
    pub require: Vec<Require>,
    /// How the pieces are brought together.
    pub r#match: Match,
}

/// `psexec.require`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // the pieces, as `missing` in an alert names them
pub enum Require {
    Connection,
    File,
    Process,
    Service,
    Pipe,
}

impl Require {
    /// As `missing` in an alert names it.
    pub fn name(self) -> &'static str {
        match self {
            Require::Connection => "connection",
            Require::File => "file",
            Require::Process => "process",
            Require::Service => "service",
            Require::Pipe => "pipe",
        }
    }
}

/// `psexec.match`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Match {
    /// By what they have in common: the file that was written is the one that was started.
    Joined,
    /// Not at all: three different event codes on one host in the window.
    DistinctCodes,
}

/// `severity` in a chain's section: what the chain's own four levels are told as.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)] // the levels by their names
pub struct Levels {
    pub low: Severity,
    pub medium: Severity,
    pub high: Severity,
    pub critical: Severity,
}

impl Default for Levels {
    fn default() -> Self {
        Levels {
            low: Severity::Low,
            medium: Severity::Medium,
            high: Severity::High,
            critical: Severity::Critical,
        }
    }
}

impl Levels {
    /// What a level is told as.
    pub fn told(&self, level: Severity) -> Severity {
        match level {
            Severity::Informational => Severity::Informational,
            Severity::Low => self.low,
            Severity::Medium => self.medium,
            Severity::High => self.high,
            Severity::Critical => self.critical,
        }
    }
}

/// `[smbexec]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SmbexecPolicy {
    /// Whether the chain is in use.
    pub enabled: bool,
    /// What its levels are told as.
    pub severity: Levels,
    /// Commands that only such a tool gives a service.
    pub commands: Patterns,
    /// So many of them within `windows.shell` are a shell.
    pub shell_commands: Bounded<2, 16>,
    /// Services, as `name command`, that look like it and are not.
    pub ignore: Patterns,
}

/// `[wmiexec]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WmiexecPolicy {
    /// Whether the chain is in use.
    pub enabled: bool,
    /// What its levels are told as.
    pub severity: Levels,
    /// Command lines that only such a tool gives, whoever connected.
    pub commands: Patterns,
    /// Programs that management tools start over WMI, by their path. What has a typical command is told all the same.
    pub ignore: Patterns,
}

/// `[dcomexec]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DcomexecPolicy {
    /// Whether the chain is in use.
    pub enabled: bool,
    /// What its levels are told as.
    pub severity: Levels,
    /// Programs that start others when told to over DCOM.
    pub programs: Vec<String>,
}

/// `[scshell]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScshellPolicy {
    /// Whether the chain is in use.
    pub enabled: bool,
    /// What its levels are told as.
    pub severity: Levels,
    /// Programs of services, by their path, that their own updates change.
    pub ignore: Patterns,
}

/// `[suspicious]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SuspiciousPolicy {
    /// Programs that run what they are told: interpreters and loaders.
    pub interpreters: Vec<String>,
    /// Where users can write.
    pub folders: Patterns,
}

impl Policy {
    /// Makes all [`Patterns`], unless that was done. The error says what is none, and what was expected.
    pub fn make_patterns(&self) -> Result<(), String> {
        let Policy {
            smbexec,
            wmiexec,
            scshell,
            suspicious,
            ..
        } = self;
        let once = [
            &smbexec.commands,
            &smbexec.ignore,
            &wmiexec.commands,
            &wmiexec.ignore,
            &scshell.ignore,
            &suspicious.folders,
        ];
        let allow = self
            .allow
            .iter()
            .flat_map(|entry| [&entry.user, &entry.host, &entry.process, &entry.service]);
        once.into_iter().chain(allow).try_for_each(Patterns::make)
    }

    /// Whether a program runs what it is told (`suspicious.interpreters`).
    pub fn is_interpreter(&self, program: &PathKey) -> bool {
        self.suspicious
            .interpreters
            .iter()
            .any(|name| name == program.file_name())
    }

    /// Programs whose dynamic ports count, lower case.
    pub fn dynamic_programs(&self) -> impl Iterator<Item = &str> {
        let dcom = if self.dcomexec.enabled {
            self.dcomexec.programs.as_slice()
        } else {
            &[]
        };
        self.connection
            .dynamic_programs
            .iter()
            .chain(dcom)
            .map(String::as_str)
    }
}

/// `[limits]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Longer records pass unexamined, in bytes.
    pub max_record_bytes: Bounded<1024, 4_194_304>,
    /// Hosts remembered.
    pub hosts: Bounded<1, 4096>,
    /// Pieces of evidence remembered for one host.
    pub evidence_per_host: Bounded<16, 256>,
    /// Incidents open on one host.
    pub incidents_per_host: Bounded<1, 64>,
    /// Alerts of one host waiting for a record to ride on.
    pub pending_per_host: Bounded<1, 64>,
    /// Revisions of one incident.
    pub revisions: Bounded<1, 1000>,
    /// Processes whose children are looked at, over all hosts.
    pub watched: Bounded<1, 4096>,
    /// All state together, in bytes.
    pub state_bytes: Bounded<65_536, 8_388_608>,
}

/// `[[allow]]`: an incident for which every field given holds is legitimate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "AllowText", into = "AllowText")]
pub struct Allow {
    /// Ranges that hold every candidate source.
    pub source: Vec<Cidr>,
    /// Accounts, as `domain\name` or `name`.
    pub user: Patterns,
    /// Hosts attacked, by first label.
    pub host: Patterns,
    /// The program that ran, by its path.
    pub process: Patterns,
    /// A hash of it, of any kind that Sysmon was told to take.
    pub hash: Vec<String>,
    /// Name of the service.
    pub service: Patterns,
    /// Why; shown in the alert.
    pub reason: String,
    /// Until when, by the host's clock.
    pub until: Option<Until>,
    /// Said by whoever wrote an entry that a program's path or a service's name is to be enough.
    pub by_name_alone: bool,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AllowText {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    source: Vec<Range>,
    #[serde(default, skip_serializing_if = "Patterns::is_empty")]
    user: Patterns,
    #[serde(default, skip_serializing_if = "Patterns::is_empty")]
    host: Patterns,
    #[serde(default, skip_serializing_if = "Patterns::is_empty")]
    process: Patterns,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    hash: Vec<String>,
    #[serde(default, skip_serializing_if = "Patterns::is_empty")]
    service: Patterns,
    reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Until>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    by_name_alone: bool,
}

#[derive(Clone)]
struct Range(Cidr);

impl TryFrom<AllowText> for Allow {
    type Error = String;

    fn try_from(text: AllowText) -> Result<Allow, String> {
        let named = !text.process.is_empty() || !text.service.is_empty();
        let sure = !text.source.is_empty()
            || !text.user.is_empty()
            || !text.host.is_empty()
            || !text.hash.is_empty();
        if !named && !sure {
            return Err(
                "an [[allow]] entry without any of `source`, `user`, `host`, `process`, `hash`, `service` would allow everything; \
                        expected at least one of them"
                    .to_owned(),
            );
        }
        if !sure && !text.by_name_alone {
            return Err(
                "an [[allow]] entry by `process` or `service` alone lets in everybody who takes that name; expected `source`, `user`, \
                        `host` or `hash` as well, or `by_name_alone = true`"
                    .to_owned(),
            );
        }
        if text.reason.trim().is_empty() {
            return Err("an [[allow]] entry needs a `reason`; it is shown in the alert".to_owned());
        }
        if text.source.iter().any(|range| range.0.is_everything()) {
            return Err(
                "an [[allow]] entry for every address there is allows everything; expected ranges"
                    .to_owned(),
            );
        }
        for hash in &text.hash {
            if !matches!(hash.len(), 32 | 40 | 64) || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(format!(
                    "`{hash}` is not a hash; expected an MD5, IMPHASH, SHA1 or SHA256 in hexadecimal"
                ));
            }
        }
        Ok(Allow {
            source: text.source.iter().map(|range| range.0).collect(),
            user: text.user,
            host: text.host,
            process: text.process,
            hash: text.hash,
            service: text.service,
            reason: text.reason,
            until: text.until,
            by_name_alone: text.by_name_alone,
        })
    }
}

impl From<Allow> for AllowText {
    fn from(allow: Allow) -> AllowText {
        AllowText {
            source: allow.source.into_iter().map(Range).collect(),
            user: allow.user,
            host: allow.host,
            process: allow.process,
            hash: allow.hash,
            service: allow.service,
            reason: allow.reason,
            until: allow.until,
            by_name_alone: allow.by_name_alone,
        }
    }
}

/// The last moment of an entry: a date (its whole day) or a time, UTC unless it names a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Until {
    text: String,
    /// In milliseconds since 1970.
    pub ms: i64,
}

impl Until {
    fn parse(text: &str) -> Option<Until> {
        let day = text.len() == 10;
        let ms = time::parse(
            if day {
                format!("{text}T23:59:59.999Z")
            } else {
                text.trim().to_owned()
            }
            .as_bytes(),
        )?
        .ms;
        Some(Until {
            text: text.to_owned(),
            ms,
        })
    }
}

/// As it was written.
impl std::fmt::Display for Until {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Until {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Until {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Until, D::Error> {
        let text = String::deserialize(deserializer)?;
        Until::parse(&text).ok_or_else(|| {
            D::Error::custom(format_args!(
                "`{text}` is not a date; expected `2027-03-31` or `2027-03-31T18:00:00Z`"
            ))
        })
    }
}

impl Serialize for Range {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Range {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Range, D::Error> {
        let text = String::deserialize(deserializer)?;
        Cidr::parse(&text).map(Range).map_err(D::Error::custom)
    }
}

impl Default for AlertPolicy {
    fn default() -> Self {
        AlertPolicy {
            key: Key("detection".to_owned()),
            min_severity: Severity::Low,
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
            service_put_back: Millis(300_000),
            service_created: Millis(2_000),
            service_gone: Millis(60_000),
            shell: Millis(60_000),
            dcom: Millis(60_000),
            grace: Millis(10_000),
            clock_tolerance: Millis(2_000),
            suppress: Millis(300_000),
        }
    }
}

impl Default for ConnectionPolicy {
    fn default() -> Self {
        ConnectionPolicy {
            ports: vec![445, 139, 135],
            dynamic_from: 49_152,
            dynamic_programs: vec!["services.exe".to_owned(), "svchost.exe".to_owned()],
            logged_late_by: Millis(1_500),
        }
    }
}

impl Default for PsexecPolicy {
    fn default() -> Self {
        let pipes = [
            "psexesvc*",
            "remcom_*",
            "paexec*",
            "csexecsvc*",
            "*-stdin",
            "*-stdout",
            "*-stderr",
        ];
        PsexecPolicy {
            enabled: true,
            severity: Levels::default(),
            pipes: pipes.map(str::to_owned).to_vec(),
            require: Vec::new(),
            r#match: Match::Joined,
        }
    }
}

impl Default for SmbexecPolicy {
    fn default() -> Self {
        let commands = [
            r"*cmd* /c *echo *>*.bat*",
            r"*cmd* /c *> \\*$\* 2*>*&1*",
            r"*cmd* /c *start *powershell*",
            r"*powershell* -e* *",
        ];
        SmbexecPolicy {
            enabled: true,
            severity: Levels::default(),
            commands: Patterns::known(&commands),
            shell_commands: Bounded(3),
            ignore: Patterns::default(),
        }
    }
}

impl Default for WmiexecPolicy {
    fn default() -> Self {
        let commands = [r"*cmd* /c *>*2>&1*", r"*> \\127.0.0.1\*$\* 2>&1*"];
        let ignore = [
            r"*:\windows\ccm\*",
            r"*:\windows\ccmsetup\*",
            r"*:\windows\system32\wbem\mofcomp.exe",
            r"*:\windows\microsoft.net\framework*\csc.exe",
            r"*:\windows\system32\powercfg.exe",
            r"*:\windows\system32\inetsrv\appcmd.exe",
            r"*:\windows\system32\wbem\wmiprvse.exe",
            r"*:\windows\system32\werfault.exe",
            r"*:\program files\microsoft monitoring agent\*",
        ];
        WmiexecPolicy {
            enabled: true,
            severity: Levels::default(),
            commands: Patterns::known(&commands),
            ignore: Patterns::known(&ignore),
        }
    }
}

impl Default for DcomexecPolicy {
    fn default() -> Self {
        let programs = [
            "mmc.exe",
            "explorer.exe",
            "excel.exe",
            "winword.exe",
            "powerpnt.exe",
            "outlook.exe",
            "visio.exe",
            "mshta.exe",
        ];
        DcomexecPolicy {
            enabled: true,
            severity: Levels::default(),
            programs: programs.map(str::to_owned).to_vec(),
        }
    }
}

impl Default for ScshellPolicy {
    fn default() -> Self {
        let ignore = [
            r"*:\programdata\microsoft\windows defender\platform\*",
            r"*:\programdata\microsoft\windows defender advanced threat protection\*",
            r"*:\program files*\google\update\*",
            r"*:\program files*\google\googleupdater\*",
            r"*:\program files*\google\chrome\application\*",
            r"*:\program files*\microsoft\edgeupdate\*",
            r"*:\program files*\microsoft\edge\application\*",
            r"*:\windows\ccmsetup\ccmsetup.exe",
        ];
        ScshellPolicy {
            enabled: true,
            severity: Levels::default(),
            ignore: Patterns::known(&ignore),
        }
    }
}

impl Default for SuspiciousPolicy {
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
        let folders = [
            r"*\users\*",
            r"*\programdata\*",
            r"*\windows\temp\*",
            r"*\temp\*",
            r"*\perflogs\*",
            r"*\$recycle.bin\*",
        ];
        SuspiciousPolicy {
            interpreters: interpreters.map(str::to_owned).to_vec(),
            folders: Patterns::known(&folders),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_record_bytes: Bounded(4_194_304),
            hosts: Bounded(4096),
            evidence_per_host: Bounded(64),
            incidents_per_host: Bounded(16),
            pending_per_host: Bounded(16),
            revisions: Bounded(32),
            watched: Bounded(256),
            state_bytes: Bounded(8_388_608),
        }
    }
}

/// How bad an incident is. Ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Severity {
    Informational,
    Low,
    Medium,
    High,
    Critical,
}

/// A span of time in milliseconds, written as `1500ms`, `10s`, `5m` or `1h`; at most a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub i64);

impl Millis {
    /// No window makes sense beyond this: a day.
    const MAX: i64 = 86_400_000;

    fn parse(text: &str) -> Option<Millis> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let factor = match text.get(digits.len()..)? {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        let number: i64 = digits.parse().ok()?;
        let ms = number.checked_mul(factor)?;
        (0..=Millis::MAX).contains(&ms).then_some(Millis(ms))
    }
}

impl std::fmt::Display for Millis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            ms if ms % 1000 != 0 => write!(f, "{ms}ms"),
            ms if ms % 60_000 != 0 || ms == 0 => write!(f, "{}s", ms / 1000),
            ms if ms % 3_600_000 != 0 => write!(f, "{}m", ms / 60_000),
            ms => write!(f, "{}h", ms / 3_600_000),
        }
    }
}

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Millis, D::Error> {
        let text = String::deserialize(deserializer)?;
        Millis::parse(&text).ok_or_else(|| {
            D::Error::custom(format_args!(
                "`{text}` is not a span of time; expected a number with a unit up to a day, such as `1500ms`, `10s`, `5m` or `1h`"
            ))
        })
    }
}

/// A number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bounded<const MIN: u32, const MAX: u32>(u32);

impl<const MIN: u32, const MAX: u32> Bounded<MIN, MAX> {
    /// The number.
    pub fn get(self) -> usize {
        self.0 as usize
    }
}

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Bounded<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(deserializer)?;
        match u32::try_from(number) {
            Ok(value) if (MIN..=MAX).contains(&value) => Ok(Bounded(value)),
            _ => Err(D::Error::custom(format_args!(
                "{number} is out of range; expected a whole number from {MIN} to {MAX}"
            ))),
        }
    }
}

/// A key of a JSON object that needs no escaping: 1 to 64 letters, digits, `_`, `-`, `.` or `@`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Key(String);

impl Key {
    /// The key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        let text = String::deserialize(deserializer)?;
        let plain = text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-.@".contains(&b));
        if (1..=64).contains(&text.len()) && plain {
            Ok(Key(text))
        } else {
            Err(D::Error::custom(format_args!(
                "`{text}` is not a usable key; expected 1 to 64 letters, digits, `_`, `-`, `.` or `@`"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_survives_its_packing() {
        let text = r#"{"windows":{"suppress":"1h"},"limits":{"hosts":7},"alert":{"key":"x","min_severity":"high","stats_interval":"90s"},
            "allow":[{"source":["10.0.0.0/8","fe80::1"],"host":["WS01"],"reason":"backup"}]}"#;
        let policy: Policy = serde_json::from_str(text).unwrap();
        assert_eq!(policy.windows.suppress, Millis(3_600_000));
        assert_eq!(policy.limits.hosts.get(), 7);
        assert!(policy.allow[0].host.hit("ws01"));
        let packed = serde_json::to_string(&policy).unwrap();
        assert_eq!(serde_json::from_str::<Policy>(&packed).unwrap(), policy);
    }

    #[test]
    fn what_is_wrong_is_refused_with_what_was_expected() {
        for (text, want) in [
            (
                r#"{"windos":{}}"#,
                "unknown field `windos`, expected one of",
            ),
            (
                r#"{"windows":{"suppress":"5 minutes"}}"#,
                "such as `1500ms`",
            ),
            (r#"{"windows":{"suppress":"25h"}}"#, "up to a day"),
            (r#"{"limits":{"hosts":0}}"#, "from 1 to 4096"),
            (r#"{"limits":{"hosts":-1}}"#, "from 1 to 4096"),
            (r#"{"alert":{"key":"a\"b"}}"#, "expected 1 to 64 letters"),
            (
                r#"{"alert":{"min_severity":"urgent"}}"#,
                "expected one of `informational`",
            ),
            (
                r#"{"allow":[{"source":["10.0.0.0/40"],"reason":"x"}]}"#,
                "expected for example `10.1.2.3`",
            ),
            (r#"{"allow":[{"reason":"x"}]}"#, "would allow everything"),
            (r#"{"allow":[{"host":["a"]}]}"#, "missing field `reason`"),
            (
                r#"{"allow":[{"process":["*\\a.exe"],"reason":"x"}]}"#,
                "lets in everybody who takes that name",
            ),
            (
                r#"{"allow":[{"host":["*"],"reason":"x"}]}"#,
                "matches everything",
            ),
            (
                r#"{"allow":[{"user":["*\\*"],"reason":"x"}]}"#,
                "matches everything",
            ),
            (
                r#"{"allow":[{"process":["*.*"],"reason":"x"}]}"#,
                "matches everything",
            ),
            (
                r#"{"allow":[{"user":["re:."],"reason":"x"}]}"#,
                "matches everything",
            ),
            (
                r#"{"allow":[{"source":["0.0.0.0/0"],"reason":"x"}]}"#,
                "every address",
            ),
            (
                r#"{"allow":[{"user":["re:.*"],"reason":"x"}]}"#,
                "matches everything",
            ),
            (
                r#"{"allow":[{"user":["re:(a"],"reason":"x"}]}"#,
                "is not a regular expression",
            ),
            (
                r#"{"allow":[{"user":["re:^(a(b(c)))"],"reason":"x"}]}"#,
                "has 3 groups in one another; expected at most 2",
            ),
            (
                r#"{"allow":[{"user":["re:^xa{2}{2}{2}{2}{2}{2}{2}{2}"],"reason":"x"}]}"#,
                "too much nesting",
            ),
            (
                r#"{"allow":[{"user":["re:(?x)^a #"],"reason":"x"}]}"#,
                "without blanks and remarks",
            ),
            (
                r#"{"allow":[{"hash":["abc"],"reason":"x"}]}"#,
                "is not a hash",
            ),
            (
                r#"{"allow":[{"host":["a"],"until":"tomorrow","reason":"x"}]}"#,
                "expected `2027-03-31`",
            ),
            (
                r#"{"allow":[{"host":["a"],"reason":" "}]}"#,
                "needs a `reason`",
            ),
        ] {
            let error = serde_json::from_str::<Policy>(text)
                .unwrap_err()
                .to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
