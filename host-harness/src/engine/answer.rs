//! What a call into the module returns, and how it is read from the module's memory.

use serde_json::{Map, Value};
use std::fmt;

/// What the module returned for a record.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The record as it was.
    Unchanged,
    /// Another record to use instead.
    Changed(Vec<u8>),
    /// Nothing: the record is to be dropped. The module returned an empty string, which Fluent Bit takes so, too.
    Dropped,
}

/// Why a call returned nothing. Fluent Bit loses the record then; this program passes it on unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The module trapped; the text is the engine's reason.
    Trap(String),
    /// The module's `malloc` returned 0 for this many bytes.
    NoMemory(usize),
    /// The module returned an address outside its memory, or one without a NUL after it.
    BadAddress(u32),
    /// The module does not export this function.
    NoExport(String),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Trap(why) => write!(
                f,
                "the module trapped ({why}); this is a bug in the module: please report it with the record"
            ),
            CallError::NoMemory(bytes) => write!(
                f,
                "the module has no memory for {bytes} bytes; a record may have 4 MiB"
            ),
            CallError::BadAddress(address) => write!(
                f,
                "the module returned the address {address:#x}, where there is no string; is it a filter for Fluent Bit?"
            ),
            CallError::NoExport(name) => write!(
                f,
                "the module does not export `{name}`; it is older than this program, or another filter"
            ),
        }
    }
}

impl std::error::Error for CallError {}

/// Reads the answer to `record` from the module's memory. `returned` is the address that the module returned, `copied_to`
/// the address of its copy of the record.
pub fn read_answer(
    memory: &[u8],
    returned: u32,
    copied_to: u32,
    record: &[u8],
) -> Result<Answer, CallError> {
    let from = memory
        .get(returned as usize..)
        .ok_or(CallError::BadAddress(returned))?;
    // Compared by length before a NUL is searched: a record may contain one.
    if returned == copied_to && from.starts_with(record) && from.get(record.len()) == Some(&0) {
        return Ok(Answer::Unchanged);
    }
    match terminated(from, returned)? {
        [] => Ok(Answer::Dropped),
        text => Ok(Answer::Changed(text.to_vec())),
    }
}

/// Reads the NUL-terminated string at `address`; `None` for address 0.
pub fn read_string(memory: &[u8], address: u32) -> Result<Option<String>, CallError> {
    if address == 0 {
        return Ok(None);
    }
    let from = memory
        .get(address as usize..)
        .ok_or(CallError::BadAddress(address))?;
    let text = terminated(from, address)?;
    Ok(Some(String::from_utf8_lossy(text).into_owned()))
}

fn terminated(from: &[u8], address: u32) -> Result<&[u8], CallError> {
    let end = from
        .iter()
        .position(|byte| *byte == 0)
        .ok_or(CallError::BadAddress(address))?;
    Ok(&from[..end])
}

/// Returns the object that the module added to `record`. `None` if `changed` is not the record with one object added
/// before its last brace.
pub fn added(record: &[u8], changed: &[u8]) -> Option<Map<String, Value>> {
    let brace = record.iter().rposition(|byte| *byte == b'}')?;
    let (head, tail) = record.split_at(brace);
    let text = changed.strip_prefix(head)?.strip_suffix(tail)?;
    let member = text.strip_prefix(b",").unwrap_or(text);
    let mut wrapped = b"{".to_vec();
    wrapped.extend_from_slice(member);
    wrapped.push(b'}');
    let outer: Map<String, Value> = serde_json::from_slice(&wrapped).ok()?;
    match outer.into_iter().next() {
        Some((_, Value::Object(object))) => Some(object),
        _ => None,
    }
}
