//! Values of a policy that need checking: spans of time, numbers in a range, keys, names of hosts, severities.

use crate::normalize::host;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How bad an incident is. Ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // the levels by their names
pub enum Severity {
    Informational,
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    /// The level as alerts and policies write it.
    pub const fn name(self) -> &'static str {
        match self {
            Severity::Informational => "informational",
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
            Severity::Critical => "critical",
        }
    }
}

/// `severity` in a technique's section: what the technique's own four levels map to.
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
    /// The severity that a level maps to.
    pub fn map(&self, level: Severity) -> Severity {
        match level {
            Severity::Informational => Severity::Informational,
            Severity::Low => self.low,
            Severity::Medium => self.medium,
            Severity::High => self.high,
            Severity::Critical => self.critical,
        }
    }
}

/// A span of time in milliseconds, written as `1500ms`, `10s`, `5m` or `1h`; at most a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub i64);

impl Millis {
    /// A day. No join needs a longer window.
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
    /// A default, which the compiler holds to the range.
    pub(crate) const fn constant<const VALUE: u32>() -> Self {
        const { assert!(MIN <= VALUE && VALUE <= MAX) };
        Bounded(VALUE)
    }

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
    /// The key under which alerts are added unless the policy names another.
    pub(crate) fn detection() -> Key {
        Key("detection".to_owned())
    }

    /// The key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a host, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct HostLabel(String);

/// The longest name of a host, in bytes: that of a full DNS name.
const MAX_HOST: usize = 255;

impl HostLabel {
    /// The name; empty if there is none.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for HostLabel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<HostLabel, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_name = text.len() <= MAX_HOST
            && !text.chars().any(char::is_control)
            && host::key(&text).is_some();
        if text.is_empty() || is_name {
            Ok(HostLabel(text))
        } else {
            Err(D::Error::custom(format_args!(
                "`{text}` is not a usable name of a host; expected for example `WS01` or `ws01.corp.example`, or nothing"
            )))
        }
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        let text = String::deserialize(deserializer)?;
        let needs_no_escape = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.@".contains(&byte);
        if (1..=64).contains(&text.len()) && text.bytes().all(needs_no_escape) {
            Ok(Key(text))
        } else {
            Err(D::Error::custom(format_args!(
                "`{text}` is not a usable key; expected 1 to 64 letters, digits, `_`, `-`, `.` or `@`"
            )))
        }
    }
}
