//! Writes lines and alerts to the output, as `--emit` says.

use super::metrics::Metrics;
use super::options::Emit;
use super::output::{Closed, Sink};
use super::supervisor::Verdict;
use psexec_filter_plugin::splice::SECOND_KEY;
use serde_json::{Map, Value};
use std::fmt;
use std::io::Write;
use std::sync::Arc;

/// Size at which the buffer is written, in bytes, even if more lines follow at once.
const BUFFER: usize = 1024 * 1024;

/// Buffers what is to be written.
pub struct Writer {
    sink: Sink,
    emit: Emit,
    metrics: Arc<Metrics>,
    buffer: Vec<u8>,
    /// Whether the last line lacks its newline, as the last line of an input may.
    open: bool,
}

impl Writer {
    /// A writer to `sink`.
    pub fn new(sink: Sink, emit: Emit, metrics: Arc<Metrics>) -> Writer {
        Writer {
            sink,
            emit,
            metrics,
            buffer: Vec::new(),
            open: false,
        }
    }

    /// Writes a line that was received. `record` is the line without its ending.
    pub fn line(&mut self, line: &[u8], record: &[u8], verdict: Verdict) -> Result<(), Closed> {
        let ending = &line[record.len()..];
        let (text, object) = match verdict {
            Verdict::Changed(changed, object) => (Some(changed), Some(object)),
            Verdict::Unchanged | Verdict::Unexamined(_) => (None, None),
            Verdict::Dropped => return Ok(()),
        };
        if self.emit != Emit::Alerts {
            self.close_line();
            self.buffer
                .extend_from_slice(text.as_deref().unwrap_or(record));
            self.buffer.extend_from_slice(ending);
            self.open = !ending.ends_with(b"\n");
        }
        // The module's statistics are added to a record, too.
        if let Some(object) =
            object.filter(|object| object.get("kind").is_some_and(|kind| kind == "alert"))
        {
            self.metrics.alerts_written.inc();
            if self.emit != Emit::Records {
                self.own_line(format_args!("{}", Value::Object(object)));
            }
        }
        if self.buffer.len() > BUFFER {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// Writes a record with which the module answered a tick. `key` is the policy's `alert.key`.
    pub fn of_tick(&mut self, key: &str, record: &Map<String, Value>) {
        let of_kind = |object: &&Value, kind: &str| object["kind"] == kind;
        let objects = || {
            [key, SECOND_KEY]
                .into_iter()
                .filter_map(|key| record.get(key))
        };
        let alert = objects().find(|object| of_kind(object, "alert"));
        if alert.is_some() {
            self.metrics.alerts_written.inc();
        }
        match (self.emit, alert) {
            (Emit::Alerts | Emit::Both, Some(alert)) => self.own_line(format_args!("{alert}")),
            // The module's counters are a record, not an alert.
            (Emit::Alerts, None) => {}
            (Emit::Records, _) | (Emit::Both, None) => match serde_json::to_string(record) {
                Ok(text) => self.own_line(format_args!("{text}")),
                Err(error) => tracing::error!("a record of the module is lost: {error}"),
            },
        }
    }

    /// Writes an alert that has no record. With `--emit records` it becomes a record with one member, `key`.
    pub fn alert(&mut self, key: &str, alert: &str) -> Result<(), Closed> {
        self.metrics.alerts_written.inc();
        match self.emit {
            Emit::Records => self.own_line(format_args!("{{\"{key}\":{alert}}}")),
            Emit::Alerts | Emit::Both => self.own_line(format_args!("{alert}")),
        }
        Ok(())
    }

    /// Writes the buffer to the output, and waits until the output accepts it.
    pub fn flush(&mut self) -> Result<(), Closed> {
        let result = self.sink.write(&self.buffer, &self.metrics);
        self.buffer.clear();
        // A long line leaves no large buffer behind.
        self.buffer.shrink_to(2 * BUFFER);
        result
    }

    /// Begins a new output file if the old one was renamed or removed, after everything that was received before is written.
    pub fn follow_file(&mut self) -> Result<(), Closed> {
        self.flush()?;
        self.sink.follow(true);
        Ok(())
    }

    fn own_line(&mut self, text: fmt::Arguments<'_>) {
        self.close_line();
        // Writing to memory cannot fail.
        let _written = writeln!(self.buffer, "{text}");
    }

    /// Adds the newline that the last line lacks, because something follows it.
    fn close_line(&mut self) {
        if std::mem::take(&mut self.open) {
            self.buffer.push(b'\n');
        }
    }
}
