//! Reading logs: lines of JSON, the same compressed with gzip, and EVTX. The kind is told by the first bytes.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

/// What a file yields.
pub enum Item {
    /// A record, with the line it stood on (EVTX: its number in the file), from 1.
    Record(u64, Vec<u8>),
    /// Something that is no record: where, and what is wrong with it.
    Fault(u64, String),
}

const GZIP: &[u8] = &[0x1f, 0x8b];
const EVTX: &[u8] = b"ElfFile\0";
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Hands every item of `path` (`-` is standard input, lines only) to `take`, which returns false to stop. The error is a message for people and names the file.
pub fn read(path: &Path, take: &mut dyn FnMut(Item) -> bool) -> Result<(), String> {
    let name = path.display();
    let cannot = |error: io::Error| format!("{name}: cannot be read: {error}");
    if path.as_os_str() == "-" {
        lines(io::stdin().lock(), take);
        return Ok(());
    }
    let mut file = BufReader::new(File::open(path).map_err(cannot)?);
    let head = file.fill_buf().map_err(cannot)?;
    if head.is_empty() {
        return Err(format!(
            "{name}: is empty; expected one JSON object a line, gzip of that, or EVTX"
        ));
    }
    if head.starts_with(EVTX) {
        return read_evtx(path, take);
    }
    if head.starts_with(GZIP) {
        lines(
            BufReader::new(flate2::bufread::MultiGzDecoder::new(file)),
            take,
        );
    } else {
        lines(file, take);
    }
    Ok(())
}

/// The same for lines from anywhere. Where reading fails, as in a gzip that was cut, is a fault of the line it fails in.
pub fn lines(mut from: impl BufRead, take: &mut dyn FnMut(Item) -> bool) {
    for number in 1u64.. {
        let mut line = Vec::new();
        match from.read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => {
                take(Item::Fault(
                    number,
                    format!("cannot be read any further: {error}"),
                ));
                return;
            }
        }
        if number == 1 && line.starts_with(BOM) {
            line.drain(..BOM.len());
        }
        line.truncate(line.trim_ascii_end().len());
        if line.is_empty() {
            continue;
        }
        let item = match fault(&line) {
            None => Item::Record(number, line),
            Some(fault) => Item::Fault(number, fault),
        };
        if !take(item) {
            return;
        }
    }
}

/// What is wrong with a line, if it is not a JSON object.
pub fn fault(line: &[u8]) -> Option<String> {
    let expected = "expected one JSON object a line";
    if line.trim_ascii_start().first() != Some(&b'{') {
        return Some(format!("not a JSON object; {expected}"));
    }
    let error = serde_json::from_slice::<serde::de::IgnoredAny>(line).err()?;
    Some(format!(
        "not JSON at column {} ({}); {expected}",
        error.column(),
        message(&error)
    ))
}

/// serde_json's message without its position, which is always line 1 here.
fn message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ")
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// EVTX records as the crate's JSON, which is a shape like any other.
fn read_evtx(path: &Path, take: &mut dyn FnMut(Item) -> bool) -> Result<(), String> {
    let settings = evtx::ParserSettings::new().indent(false);
    let parser = evtx::EvtxParser::from_path(path)
        .map_err(|error| format!("{}: not a readable EVTX file: {error}", path.display()))?;
    let mut parser = parser.with_configuration(settings);
    for (number, record) in (1u64..).zip(parser.records_json()) {
        let item = match record {
            Ok(record) => Item::Record(number, record.data.into_bytes()),
            Err(error) => Item::Fault(
                number,
                format!("an EVTX record that cannot be read: {error}"),
            ),
        };
        if !take(item) {
            break;
        }
    }
    Ok(())
}
