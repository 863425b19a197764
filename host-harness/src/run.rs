//! `run`: the module between two streams of JSON lines, for shippers other than Fluent Bit.

use crate::engine::{Answer, Engine};
use crate::replay::added;
use serde_json::Value;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::time::{SystemTime, UNIX_EPOCH};

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emit {
    /// Every line that came, those that completed a chain with the alert inside.
    Records,
    /// Only the alerts, one a line.
    Alerts,
    /// Every line, and behind one that completed a chain the alert once more on a line of its own.
    Both,
}

/// What went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Lines that came.
    pub lines: u64,
    /// Alerts that were written.
    pub alerts: u64,
    /// Lines for which the module had no answer; they were passed on as they came.
    pub failed: u64,
}

/// Puts every line of `input` through the module to `out`, in order, losing none: what is not JSON, or too long for the
/// module, goes on as it came. Flushes whenever no further input is at hand. `complain` gets a message per failed call;
/// `key` is the policy's, for alerts that are left without a record at the end.
pub fn run(
    engine: &mut dyn Engine,
    emit: Emit,
    key: &str,
    mut input: BufReader<impl Read>,
    out: &mut dyn Write,
    complain: &mut dyn FnMut(String),
) -> io::Result<Totals> {
    let mut totals = Totals::default();
    let mut line = Vec::new();
    // Whether what was written last still lacks its newline, as the last line of the input may.
    let mut open = false;
    loop {
        line.clear();
        if input.by_ref().read_until(b'\n', &mut line)? == 0 {
            break;
        }
        totals.lines += 1;
        let record = line.strip_suffix(b"\n").unwrap_or(&line);
        let record = record.strip_suffix(b"\r").unwrap_or(record);
        let ending = &line[record.len()..];
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
        let changed = match engine.call("run", seconds, now.subsec_nanos(), record) {
            Ok(Answer::Unchanged) => None,
            Ok(Answer::Changed(changed)) => match added(record, &changed) {
                Some(object) => Some((changed, object)),
                None => {
                    totals.failed += 1;
                    complain(format!("line {}: the module returned something that is not the record with one object added", totals.lines));
                    None
                }
            },
            Err(error) => {
                totals.failed += 1;
                complain(format!("line {}: {error}", totals.lines));
                None
            }
        };
        if emit != Emit::Alerts {
            out.write_all(changed.as_ref().map_or(record, |(changed, _)| changed))?;
            out.write_all(ending)?;
            open = !ending.ends_with(b"\n");
        }
        if let Some((_, object)) = changed {
            totals.alerts += 1;
            if emit != Emit::Records {
                write_line(out, &mut open, format_args!("{}", Value::Object(object)))?;
            }
        }
        // Nothing more at hand: what is done so far must not wait in a buffer.
        if input.buffer().is_empty() {
            out.flush()?;
        }
    }
    match engine.flush() {
        Ok(alerts) => {
            for alert in alerts {
                totals.alerts += 1;
                match emit {
                    // A record of its own: there is none left to ride on.
                    Emit::Records => write_line(out, &mut open, format_args!("{{\"{key}\":{alert}}}"))?,
                    Emit::Alerts | Emit::Both => write_line(out, &mut open, format_args!("{alert}"))?,
                }
            }
        }
        Err(error) => {
            totals.failed += 1;
            complain(format!("at the end of input: {error}"));
        }
    }
    out.flush()?;
    Ok(totals)
}

/// Writes a line of our own, behind the newline that what stands before it may lack.
fn write_line(out: &mut dyn Write, open: &mut bool, text: fmt::Arguments<'_>) -> io::Result<()> {
    if std::mem::take(open) {
        out.write_all(b"\n")?;
    }
    writeln!(out, "{text}")
}
