//! `[[allow]]` entries as a policy writes them.

use super::Patterns;
use super::subject::Subject;
use crate::normalize::address::{Cidr, are_everything};
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
    /// Attacked hosts, by the first label of their names or by their whole names.
    pub host: Patterns,
    /// The program that ran, by its path.
    pub process: Patterns,
    /// MD5, SHA1 or SHA256 of that program.
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
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "ranges"
    )]
    source: Vec<Range>,
    #[serde(
        default,
        skip_serializing_if = "Patterns::is_empty",
        deserialize_with = "users"
    )]
    user: Patterns,
    #[serde(
        default,
        skip_serializing_if = "Patterns::is_empty",
        deserialize_with = "hosts"
    )]
    host: Patterns,
    #[serde(
        default,
        skip_serializing_if = "Patterns::is_empty",
        deserialize_with = "paths"
    )]
    process: Patterns,
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "hashes"
    )]
    hash: Vec<String>,
    #[serde(
        default,
        skip_serializing_if = "Patterns::is_empty",
        deserialize_with = "services"
    )]
    service: Patterns,
    reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Until>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    by_name_alone: bool,
}

#[derive(Clone)]
struct Range(Cidr);

/// A list that an entry has without anything in it would count as a field that it does not have.
fn not_empty<T, E: serde::de::Error>(list: T, is_empty: bool) -> Result<T, E> {
    if is_empty {
        return Err(E::custom(
            "an empty list in an [[allow]] entry restricts nothing; expected at least one text in it, or no such field",
        ));
    }
    Ok(list)
}

fn patterns<'de, D: Deserializer<'de>>(d: D, subject: Subject) -> Result<Patterns, D::Error> {
    let patterns = Patterns::read(d, subject)?;
    let is_empty = patterns.is_empty();
    not_empty(patterns, is_empty)
}

fn users<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Patterns, D::Error> {
    patterns(deserializer, Subject::User)
}

fn hosts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Patterns, D::Error> {
    patterns(deserializer, Subject::Host)
}

fn paths<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Patterns, D::Error> {
    patterns(deserializer, Subject::Path)
}

fn services<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Patterns, D::Error> {
    patterns(deserializer, Subject::Service)
}

#[inline(never)]
fn ranges<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Range>, D::Error> {
    let ranges = Vec::<Range>::deserialize(deserializer)?;
    if are_everything(ranges.iter().map(|range| range.0)) {
        return Err(D::Error::custom(
            "every address there is lies in these ranges, which allows everything; expected ranges that exclude something",
        ));
    }
    let is_empty = ranges.is_empty();
    not_empty(ranges, is_empty)
}

/// Hashes of a file without content.
const OF_NOTHING: [&str; 3] = [
    "d41d8cd98f00b204e9800998ecf8427e",
    "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
];

#[inline(never)]
fn hashes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let hashes = Vec::<String>::deserialize(deserializer)?;
    for hash in &hashes {
        let is_of_nothing = |known: &&str| known.eq_ignore_ascii_case(hash);
        let wrong = if !matches!(hash.len(), 32 | 40 | 64)
            || !hash.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            "is not a hash"
        } else if hash.bytes().all(|byte| byte == b'0') {
            "is what Sysmon writes for a file that it could not read"
        } else if OF_NOTHING.iter().any(is_of_nothing) {
            "is the hash of an empty file"
        } else {
            continue;
        };
        return Err(D::Error::custom(format_args!(
            "`{hash}` {wrong}; expected the MD5, SHA1 or SHA256 of a program in hexadecimal"
        )));
    }
    let is_empty = hashes.is_empty();
    not_empty(hashes, is_empty)
}

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
        // A 30th of February is a time that can be read, but the text of another day.
        let date = text.trim().get(..10)?.replace('/', "-");
        let midnight = time::parse([&date, "T00:00:00Z"].concat().as_bytes())?;
        if !midnight.to_string().starts_with(&date) {
            return None;
        }
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
                "`{text}` is not a date that there is; expected `2027-03-31` or `2027-03-31T18:00:00Z`"
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
