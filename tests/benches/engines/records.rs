//! The records that are measured: from the recorded logs, and made up.

use crate::logs;
use psexec_filter_tests::{CMD, Host, skipped};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Provider and event id.
pub type Kind = (String, u64);

/// Most records of a kind that are measured for it.
pub const OF_A_KIND: usize = 300;

/// A record of a log.
pub struct Logged {
    /// As it stands in the log.
    pub bytes: Vec<u8>,
    /// `None` if the record is not in NXLog's shape, which most recorded logs have.
    pub kind: Option<Kind>,
}

impl Logged {
    /// Whether it is of a kind that a chain uses.
    pub fn is_wanted(&self) -> bool {
        self.kind.as_ref().is_some_and(is_wanted)
    }
}

/// Whether a chain uses events of this kind.
pub fn is_wanted((provider, id): &Kind) -> bool {
    match provider.as_str() {
        "Sysmon" => [1, 3, 11, 13, 17, 18].contains(id),
        "Security" => *id == 4624,
        _ => false,
    }
}

/// The recorded logs by the name of their file.
pub struct Logs(pub BTreeMap<String, Vec<Logged>>);

impl Logs {
    /// Reads them all.
    pub fn read() -> Logs {
        let logs = logs::files().into_iter().map(|path| {
            let records = logs::records(&path).into_iter().map(|bytes| Logged {
                kind: kind(&bytes),
                bytes,
            });
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            (name.into_owned(), records.collect())
        });
        let logs = Logs(logs.collect());
        if logs.is_empty() {
            skipped("what needs the recorded logs is not measured");
        }
        logs
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All records, log after log.
    pub fn records(&self) -> impl Iterator<Item = &Logged> {
        self.0.values().flatten()
    }

    /// Up to [`OF_A_KIND`] records of every kind.
    pub fn kinds(&self) -> BTreeMap<&Kind, Vec<&[u8]>> {
        let mut kinds: BTreeMap<&Kind, Vec<&[u8]>> = BTreeMap::new();
        for record in self.records() {
            if let Some(kind) = &record.kind {
                let records = kinds.entry(kind).or_default();
                if records.len() < OF_A_KIND {
                    records.push(&record.bytes);
                }
            }
        }
        kinds
    }
}

/// Provider and event id of a record in NXLog's shape.
fn kind(record: &[u8]) -> Option<Kind> {
    let record: Map<String, Value> = serde_json::from_slice(record).ok()?;
    let provider = record
        .get("SourceName")?
        .as_str()?
        .trim_start_matches("Microsoft-Windows-")
        .trim_end_matches("-Auditing");
    Some((provider.to_owned(), record.get("EventID")?.as_u64()?))
}

/// The record with a `Message` that makes it `size` bytes long; `None` if it has none, or is longer without one.
pub fn sized(record: &[u8], size: usize) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(record).ok()?;
    let mut message = serde_json::from_str::<Map<String, Value>>(text)
        .ok()?
        .get("Message")?
        .as_str()?
        .to_owned();
    let old = format!("\"Message\":{}", json!(message));
    let (before, after) = text.split_once(&old)?;
    loop {
        let new = format!("{before}\"Message\":{}{after}", json!(message));
        match new.len().cmp(&size) {
            std::cmp::Ordering::Less => message.push_str(&"x".repeat(size - new.len())),
            std::cmp::Ordering::Equal => return Some(new.into_bytes()),
            std::cmp::Ordering::Greater => {
                // No character takes more than six bytes here, so that this never cuts too much.
                let characters = (new.len() - size).div_ceil(6);
                for _ in 0..characters {
                    message.pop()?;
                }
            }
        }
    }
}

/// Records of so many hosts, a second apart: connections, files, services and processes in turn, none of which can be
/// rejected early. Each `hour` goes on where the one before it ended.
pub fn busy_hour(hosts: i64, hour: i64) -> Vec<Vec<u8>> {
    const RECORDS: i64 = 16_384;
    let numbers = hour * RECORDS..(hour + 1) * RECORDS;
    let records = numbers.map(|number| {
        let (host, ms) = (Host::new(&format!("PC{}", number % hosts)), number * 1_000);
        match number / hosts % 4 {
            0 => host.connection(ms, &format!("10.1.{}.{}", number / 250 % 250, number % 250)),
            1 => host.file(ms, "System", &format!(r"C:\Windows\{number}.exe")),
            2 => host.service(
                ms,
                &format!("s{number}"),
                &format!(r"C:\Program Files\{number}\service.exe"),
            ),
            _ => host.process(
                ms,
                (number as u32, CMD, "cmd /c dir"),
                (7, r"C:\Windows\explorer.exe"),
                (r"CORP\alice", "0x4d2"),
            ),
        }
    });
    records.map(String::into_bytes).collect()
}
