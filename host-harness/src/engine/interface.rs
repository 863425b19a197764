//! What every engine offers, and how an instance is started.

use super::answer::{Answer, CallError};

/// An instance of the module.
pub trait Engine {
    /// Passes one record to the module. `seconds` and `nanoseconds` are the record's time (Unix), 0 if the caller has none.
    fn call(
        &mut self,
        tag: &str,
        seconds: u32,
        nanoseconds: u32,
        record: &[u8],
    ) -> Result<Answer, CallError>;

    /// Calls an export without parameters that returns the address of a NUL-terminated string; `None` for address 0.
    fn call_export(&mut self, export: &str) -> Result<Option<String>, CallError>;

    /// Copies a text into the module and passes it to an export that returns a number.
    fn send(&mut self, export: &str, text: &[u8]) -> Result<u32, CallError>;

    /// Size of the module's memory in bytes.
    fn memory_bytes(&mut self) -> usize;

    /// Takes a snapshot of the module's state, in parts for [`Engine::restore`].
    fn save(&mut self) -> Result<Vec<String>, CallError> {
        let mut parts = Vec::new();
        while let Some(part) = self.call_export("psexec_filter_save")? {
            parts.push(part);
        }
        Ok(parts)
    }

    /// Gives a new instance the snapshot of another one. Returns false at the first part that the module refuses; the parts
    /// before it are in force then.
    fn restore(&mut self, parts: &[String]) -> Result<bool, CallError> {
        for part in parts {
            if self.send("psexec_filter_restore", part.as_bytes())? != 1 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes all alerts that still wait for a record of their host.
    fn flush(&mut self) -> Result<Vec<String>, CallError> {
        let mut alerts = Vec::new();
        while let Some(alert) = self.call_export("psexec_filter_flush")? {
            alerts.push(alert);
        }
        Ok(alerts)
    }

    /// The module's counters as JSON.
    fn stats(&mut self) -> Result<Option<String>, CallError> {
        self.call_export("psexec_filter_stats")
    }
}

/// Starts an instance with empty state. The error is a message for the operator.
pub type Start = Box<dyn Fn() -> Result<Box<dyn Engine>, String>>;

/// How an instance is started and called. The defaults are Fluent Bit's.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Name of the export to call for each record.
    pub function: &'a str,
    /// Whether the two copies are freed after a call. Fluent Bit 4.1 does not free them (issue 11072).
    pub free: bool,
    /// WAMR's stack for operands, locals and constants, in bytes; wasmtime has its own.
    pub stack: u32,
    /// Contents of the policy region (see [`psexec_filter_pack::encode_policy`]), written before the first call; `None` for the
    /// policy that is packed into the module.
    pub policy: Option<&'a [u8]>,
}

impl Options<'_> {
    /// Fluent Bit's default stack in bytes: `FLB_WASM_DEFAULT_STACK_SIZE` (`plugins/filter_wasm/filter_wasm.h`).
    pub const STACK: u32 = 8 * 1024;
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options {
            function: psexec_filter_pack::FUNCTION,
            free: true,
            stack: Options::STACK,
            policy: None,
        }
    }
}

/// Message for a module without an export that Fluent Bit needs, or with one of another type.
pub fn missing_export(name: &str) -> String {
    format!("the module does not export `{name}` with the type that Fluent Bit calls")
}
