//! The policy: every window, list and limit, with its default.
//!
//! People write it as TOML (`configs/policy.toml` documents every key); `psexec-filter pack` checks it and puts it
//! into the module as JSON. Both are read into these types, so what packs is what the module understands.
//! Unknown keys are refused, missing ones have their defaults.

use crate::normalize::address::Cidr;
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
    /// Pipe names of PsExec and its relatives, lower case, `*` stands for anything.
    pub pipes: Vec<String>,
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
    /// All state together, in bytes.
    pub state_bytes: Bounded<65_536, 8_388_608>,
}

/// `[[allow]]`: an incident for which every field given holds is legitimate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "AllowText", into = "AllowText")]
pub struct Allow {
    /// Ranges that hold every candidate source.
    pub source: Vec<Cidr>,
    /// Hosts attacked, by first label.
    pub host: Vec<String>,
    /// Why; shown in the alert.
    pub reason: String,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AllowText {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    source: Vec<Range>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    host: Vec<String>,
    reason: String,
}

#[derive(Clone)]
struct Range(Cidr);

impl TryFrom<AllowText> for Allow {
    type Error = String;

    fn try_from(text: AllowText) -> Result<Allow, String> {
        if text.source.is_empty() && text.host.is_empty() {
            return Err("an [[allow]] entry without `source` or `host` would allow everything; expected at least one of them".to_owned());
        }
        if text.reason.trim().is_empty() {
            return Err("an [[allow]] entry needs a `reason`; it is shown in the alert".to_owned());
        }
        let host = text.host.iter().filter_map(|host| crate::normalize::host::key(host)).collect();
        Ok(Allow { source: text.source.iter().map(|range| range.0).collect(), host, reason: text.reason })
    }
}

impl From<Allow> for AllowText {
    fn from(allow: Allow) -> AllowText {
        AllowText { source: allow.source.into_iter().map(Range).collect(), host: allow.host, reason: allow.reason }
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
        AlertPolicy { key: Key("detection".to_owned()), min_severity: Severity::Low, stats_interval: Millis(0) }
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
        let pipes = ["psexesvc*", "remcom_*", "paexec*", "csexecsvc*", "*-stdin", "*-stdout", "*-stderr"];
        PsexecPolicy { enabled: true, pipes: pipes.map(str::to_owned).to_vec() }
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
            _ => Err(D::Error::custom(format_args!("{number} is out of range; expected a whole number from {MIN} to {MAX}"))),
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
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.@".contains(&b));
        if (1..=64).contains(&text.len()) && plain {
            Ok(Key(text))
        } else {
            Err(D::Error::custom(format_args!("`{text}` is not a usable key; expected 1 to 64 letters, digits, `_`, `-`, `.` or `@`")))
        }
    }
}

/// Whether `name` matches `pattern`, in which `*` stands for any run of characters. Case must already agree.
pub fn wildcard(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0usize, 0usize);
    // Where the last star was and how much of the name it has taken.
    let mut star: Option<(usize, usize)> = None;
    while let Some(c) = name.get(n) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p = p.saturating_add(1);
            }
            Some(same) if same == c => {
                p = p.saturating_add(1);
                n = n.saturating_add(1);
            }
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken.saturating_add(1)));
                p = at.saturating_add(1);
                n = taken.saturating_add(1);
            }
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_survives_its_packing() {
        let text = r#"{"windows":{"suppress":"1h"},"limits":{"hosts":7},"alert":{"key":"x","min_severity":"high","stats_interval":"90s"},
            "allow":[{"source":["10.0.0.0/8","fe80::1"],"host":["WS01.corp"],"reason":"backup"}]}"#;
        let policy: Policy = serde_json::from_str(text).unwrap();
        assert_eq!(policy.windows.suppress, Millis(3_600_000));
        assert_eq!(policy.limits.hosts.get(), 7);
        assert_eq!(policy.allow[0].host, ["ws01"]);
        let packed = serde_json::to_string(&policy).unwrap();
        assert_eq!(serde_json::from_str::<Policy>(&packed).unwrap(), policy);
    }

    #[test]
    fn what_is_wrong_is_refused_with_what_was_expected() {
        for (text, want) in [
            (r#"{"windos":{}}"#, "unknown field `windos`, expected one of"),
            (r#"{"windows":{"suppress":"5 minutes"}}"#, "such as `1500ms`"),
            (r#"{"windows":{"suppress":"25h"}}"#, "up to a day"),
            (r#"{"limits":{"hosts":0}}"#, "from 1 to 4096"),
            (r#"{"limits":{"hosts":-1}}"#, "from 1 to 4096"),
            (r#"{"alert":{"key":"a\"b"}}"#, "expected 1 to 64 letters"),
            (r#"{"alert":{"min_severity":"urgent"}}"#, "expected one of `informational`"),
            (r#"{"allow":[{"source":["10.0.0.0/40"],"reason":"x"}]}"#, "expected for example `10.1.2.3`"),
            (r#"{"allow":[{"reason":"x"}]}"#, "would allow everything"),
            (r#"{"allow":[{"host":["a"]}]}"#, "missing field `reason`"),
            (r#"{"allow":[{"host":["a"],"reason":" "}]}"#, "needs a `reason`"),
        ] {
            let error = serde_json::from_str::<Policy>(text).unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
    }

    #[test]
    fn wildcards() {
        for (pattern, name, want) in [
            ("psexesvc*", "psexesvc", true),
            ("psexesvc*", "psexesvc-pc1-77-stdin", true),
            ("*-stdin", "svchost-pc1-77-stdin", true),
            ("*-stdin", "svchost-stdin-x", false),
            ("*a*b", "xaybab", true),
            ("a", "", false),
            ("*", "", true),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(wildcard(pattern, name), want, "{pattern} {name}");
        }
    }
}
