//! `[[allow]]` entries as a policy writes them.

use super::Patterns;
use crate::normalize::address::Cidr;
use crate::normalize::time;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `[[allow]]`: an incident that matches every field given is legitimate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "AllowText", into = "AllowText")]
pub struct AllowEntry {
    /// Address ranges; every candidate source has to be in one of them.
    pub source: Vec<Cidr>,
    /// Accounts, as `domain\name` or `name`.
    pub user: Patterns,
    /// Attacked hosts, by the first label of their names.
    pub host: Patterns,
    /// The program that ran, by its path.
    pub process: Patterns,
    /// Hashes of that program, of any kind that Sysmon computes.
    pub hash: Vec<String>,
    /// Names of services.
    pub service: Patterns,
    /// Why it is legitimate; shown in the alert.
    pub reason: String,
    /// When the entry ends, by the attacked host's clock.
    pub until: Option<Until>,
    /// Whether a program's path or a service's name alone is enough, which anybody can choose.
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

impl TryFrom<AllowText> for AllowEntry {
    type Error = String;

    fn try_from(text: AllowText) -> Result<AllowEntry, String> {
        let named = !text.process.is_empty() || !text.service.is_empty();
        let identified = !text.source.is_empty()
            || !text.user.is_empty()
            || !text.host.is_empty()
            || !text.hash.is_empty();
        if !named && !identified {
            return Err(
                "an [[allow]] entry without any of `source`, `user`, `host`, `process`, `hash`, `service` would allow everything; \
                        expected at least one of them"
                    .to_owned(),
            );
        }
        if !identified && !text.by_name_alone {
            return Err(
                "an [[allow]] entry by `process` or `service` alone allows everybody who chooses that name; expected `source`, `user`, \
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
        Ok(AllowEntry {
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

impl From<AllowEntry> for AllowText {
    fn from(allow: AllowEntry) -> AllowText {
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

/// The last moment of an entry: a date (the whole day counts) or a time, in UTC unless it names a zone.
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

/// Prints the moment as the policy has it.
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
