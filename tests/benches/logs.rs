//! The recorded logs, as they are and moved to other hosts and years.

use psexec_filter_tests::{HOST_PATHS, corpus_files};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The recorded logs: in the folder that `CORPUS` names, or shared beside the project.
pub fn files() -> Vec<PathBuf> {
    let Some(folder) = std::env::var_os("CORPUS").filter(|folder| !folder.is_empty()) else {
        return corpus_files();
    };
    let entries = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("CORPUS={}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "ndjson"));
    files.sort();
    files
}

/// The records of a log.
pub fn records(path: &Path) -> Vec<Vec<u8>> {
    let text = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(<[u8]>::to_vec)
        .collect()
}

/// The record with every date in it so many years later, and as long as before.
pub fn later(record: &[u8], years: usize) -> Vec<u8> {
    let mut bytes = record.to_vec();
    // `20yy-` before a month, as every producer writes it.
    for at in 0..bytes.len().saturating_sub(8) {
        if let [
            b'"' | b' ' | b'>' | b'\'',
            b'2',
            b'0',
            tens @ b'0'..=b'9',
            ones @ b'0'..=b'9',
            b'-',
            b'0'..=b'1',
            b'0'..=b'9',
            b'-',
        ] = &mut bytes[at..at + 9]
        {
            let year = (usize::from(*tens - b'0') * 10 + usize::from(*ones - b'0') + years) % 100;
            (*tens, *ones) = (b'0' + (year / 10) as u8, b'0' + (year % 10) as u8);
        }
    }
    bytes
}

/// The record so many years later and on another host.
pub fn moved(record: &[u8], round: usize) -> Vec<u8> {
    let value: Value = serde_json::from_slice(record).expect("JSON");
    let host = HOST_PATHS
        .iter()
        .find_map(|path| value.pointer(path).and_then(Value::as_str))
        .unwrap_or_default();
    if host.is_empty() {
        return later(record, round);
    }
    let text = std::str::from_utf8(record).expect("JSON is text");
    let text = text.replace(&format!("\"{host}\""), &format!("\"r{round}-{host}\""));
    later(text.as_bytes(), round)
}
