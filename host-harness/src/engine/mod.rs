//! Engines: each drives the module with the exact sequence of calls that Fluent Bit makes (`src/wasm/flb_wasm.c`,
//! `flb_wasm_call_function_format_json`): `malloc` and copy the tag, `malloc` and copy the record, call, read the returned
//! string up to its NUL, free both. A trap ends the call and not the instance.

mod native;
#[cfg(feature = "wamr")]
mod wamr;

pub use native::{Compiled, Wasmtime};
#[cfg(feature = "wamr")]
pub use wamr::Wamr;

use std::fmt;

/// A module that is loaded and can be called.
pub trait Engine {
    /// Hands one record to the module. `seconds` and `nanoseconds` are its time, 0 if the caller has none.
    fn call(
        &mut self,
        tag: &str,
        seconds: u32,
        nanoseconds: u32,
        record: &[u8],
    ) -> Result<Answer, CallError>;

    /// Calls an export that takes nothing and returns the address of a NUL-terminated string; `None` for address 0.
    fn ask(&mut self, export: &str) -> Result<Option<String>, CallError>;

    /// Calls an export that takes a text and returns a number.
    fn tell(&mut self, export: &str, text: &[u8]) -> Result<u32, CallError>;

    /// Everything the module remembers, in pieces for [`Engine::restore`].
    fn save(&mut self) -> Result<Vec<String>, CallError> {
        let mut pieces = Vec::new();
        while let Some(piece) = self.ask("psexec_filter_save")? {
            pieces.push(piece);
        }
        Ok(pieces)
    }

    /// Gives a module that was just started what another one remembered. False if it does not take it: it then knows only
    /// the pieces before.
    fn restore(&mut self, pieces: &[String]) -> Result<bool, CallError> {
        for piece in pieces {
            if self.tell("psexec_filter_restore", piece.as_bytes())? != 1 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Size of the module's memory in bytes.
    fn memory_bytes(&mut self) -> usize;

    /// Takes the alerts that found no record to ride on, until there are no more.
    fn flush(&mut self) -> Result<Vec<String>, CallError> {
        let mut alerts = Vec::new();
        while let Some(alert) = self.ask("psexec_filter_flush")? {
            alerts.push(alert);
        }
        Ok(alerts)
    }

    /// The module's counters as JSON.
    fn stats(&mut self) -> Result<Option<String>, CallError> {
        self.ask("psexec_filter_stats")
    }
}

/// How a module is driven. The defaults are Fluent Bit's.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Export to call.
    pub function: &'a str,
    /// Whether the two copies are freed after the call. Fluent Bit 4.1 does not (issue 11072).
    pub free: bool,
    /// WAMR's stack for operands, locals and constants, in bytes; wasmtime has its own.
    pub stack: u32,
}

impl Options<'_> {
    /// `FLB_WASM_DEFAULT_STACK_SIZE` (`plugins/filter_wasm/filter_wasm.h`).
    pub const STACK: u32 = 8 * 1024;
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options {
            function: psexec_filter_pack::FUNCTION,
            free: true,
            stack: Options::STACK,
        }
    }
}

/// What the module made of a record.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The record is as it was.
    Unchanged,
    /// The record is now this.
    Changed(Vec<u8>),
}

/// Why a call had no answer. Fluent Bit would lose the record; callers here keep it as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The module trapped.
    Trap(String),
    /// The module's `malloc` gave no memory for the record.
    NoMemory(usize),
    /// The address returned is outside memory, or what stands there does not end.
    BadAddress(u32),
    /// The module lacks an export.
    NoExport(String),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Trap(why) => {
                write!(
                    f,
                    "the module died in a call ({why}); this is a bug in it: keep the record that did it and report both"
                )
            }
            CallError::NoMemory(bytes) => write!(
                f,
                "the module has no memory for a record of {bytes} bytes; it takes up to 4 MiB"
            ),
            CallError::BadAddress(address) => {
                write!(
                    f,
                    "the module returned the address {address:#x}, where no string stands; is it a filter for Fluent Bit?"
                )
            }
            CallError::NoExport(name) => write!(
                f,
                "the module does not export `{name}`; it is older than this program, or another filter"
            ),
        }
    }
}

impl std::error::Error for CallError {}

/// Tells from the module's memory what it answered: `address` is what it returned for `record`, copied to `copied_to`.
fn answer(memory: &[u8], address: u32, copied_to: u32, record: &[u8]) -> Result<Answer, CallError> {
    let from = memory
        .get(address as usize..)
        .ok_or(CallError::BadAddress(address))?;
    // Compared by length first: a record with a NUL inside is still the record.
    if address == copied_to && from.starts_with(record) && from.get(record.len()) == Some(&0) {
        return Ok(Answer::Unchanged);
    }
    let end = from
        .iter()
        .position(|byte| *byte == 0)
        .ok_or(CallError::BadAddress(address))?;
    Ok(Answer::Changed(from[..end].to_vec()))
}

fn string(memory: &[u8], address: u32) -> Result<Option<String>, CallError> {
    if address == 0 {
        return Ok(None);
    }
    let from = memory
        .get(address as usize..)
        .ok_or(CallError::BadAddress(address))?;
    let end = from
        .iter()
        .position(|byte| *byte == 0)
        .ok_or(CallError::BadAddress(address))?;
    Ok(Some(String::from_utf8_lossy(&from[..end]).into_owned()))
}
