//! Reads logs: lines of JSON, gzip of lines of JSON, and EVTX. The first bytes of a file tell which.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

/// What is read from a log.
pub enum Item {
    /// A record and the number of its line (EVTX: its number in the file), from 1.
    Record(u64, Vec<u8>),
    /// The number of something that is not a record, and what is wrong with it.
    Fault(u64, String),
}

const GZIP: &[u8] = &[0x1f, 0x8b];
const EVTX: &[u8] = b"ElfFile\0";
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Passes every item of the file `path` (`-` is standard input, lines only) to `take`, which returns false to stop. The error
/// is a message for the operator and names the file.
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

/// Passes every line of `from` that is not blank to `take`, which returns false to stop. If reading fails, as it does at the
/// end of a truncated gzip file, that is a fault of the line in which it fails.
pub fn lines(mut from: impl BufRead, take: &mut dyn FnMut(Item) -> bool) {
    for number in 1u64.. {
        let mut line = Vec::new();
        match from.read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => {
                take(Item::Fault(
                    number,
                    format!("cannot be read further: {error}"),
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

/// What is wrong with a line; `None` if it is a JSON object.
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

/// Whether a log can be read more than once: standard input and pipes cannot. A file that cannot be looked at counts as one that
/// can, because reading it fails each time.
pub fn is_rereadable(path: &Path) -> bool {
    path.as_os_str() != "-" && std::fs::metadata(path).map_or(true, |data| data.is_file())
}

/// The message of serde_json without its position: it counts lines within the record, which has one.
fn message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ")
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// Passes the records of an EVTX file to `take`, as the JSON that the crate `evtx` makes of them.
fn read_evtx(path: &Path, take: &mut dyn FnMut(Item) -> bool) -> Result<(), String> {
    let settings = evtx::ParserSettings::new().indent(false);
    let parser = evtx::EvtxParser::from_path(path)
        .map_err(|error| format!("{}: not a readable EVTX file: {error}", path.display()))?;
    let mut parser = parser.with_configuration(settings);
    for (number, record) in (1u64..).zip(parser.records_json()) {
        let item = match record {
            Ok(record) => Item::Record(number, record.data.into_bytes()),
            Err(error) => Item::Fault(number, format!("EVTX record cannot be read: {error}")),
        };
        if !take(item) {
            break;
        }
    }
    Ok(())
}
