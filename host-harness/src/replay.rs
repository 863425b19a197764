//! `replay`: passes logs through the module and writes what it finds.

use crate::engine::{Answer, Engine, added};
use crate::input::{self, Item};
use crate::report;
use psexec_filter_plugin::tick;
use serde_json::{Map, Value};
use std::io::{self, Write};
use std::path::PathBuf;

/// The built-in demo log, which is replayed when no file is given: a PsExec execution, one record a line.
pub const DEMO: &[u8] = include_bytes!("demo.ndjson");

/// How alerts are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The last revision of each incident, as a report for a person.
    Text,
    /// Every alert as a line of JSON, with the file and line of its record.
    Ndjson,
}

/// Number of faults that are written in full; the others are counted.
const SHOWN_FAULTS: u64 = 10;

/// Replays `files`, or the demo log if there are none, and writes what is found to `out`. Returns whether all files could be
/// read in full.
///
/// Faults in the input go to `faults`, one a line, with file and line number. An error is one of writing.
pub fn replay(
    engine: &mut dyn Engine,
    files: &[PathBuf],
    format: Format,
    out: &mut dyn Write,
    faults: &mut dyn Write,
) -> io::Result<bool> {
    let mut replay = Replay {
        engine,
        format,
        out,
        faults,
        incidents: Vec::new(),
        record_count: 0,
        fault_count: 0,
        error: None,
    };
    if files.is_empty() {
        replay.source("the built-in demo log", |take| {
            input::lines(DEMO, take);
            Ok(())
        });
    }
    for path in files {
        replay.source(&path.display().to_string(), |take| input::read(path, take));
    }
    replay.finish()
}

struct Replay<'r> {
    engine: &'r mut dyn Engine,
    format: Format,
    out: &'r mut dyn Write,
    faults: &'r mut dyn Write,
    /// The latest alert of each incident, in the order of the first alerts.
    incidents: Vec<Value>,
    record_count: u64,
    fault_count: u64,
    /// The first error of `out` or `faults`.
    error: Option<io::Error>,
}

impl Replay<'_> {
    /// Replays one log, which `read` passes item by item to the function that it is given.
    fn source(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut dyn FnMut(Item) -> bool) -> Result<(), String>,
    ) {
        if self.error.is_some() {
            return;
        }
        let mut last_line = 0;
        let records_before = self.record_count;
        let mut has_faults = false;
        let result = read(&mut |item| {
            match item {
                Item::Record(line, record) => {
                    last_line = line;
                    self.record(name, line, &record);
                }
                Item::Fault(line, fault) => {
                    has_faults = true;
                    self.fault(&format!("{name}:{line}: {fault}"));
                }
            }
            self.error.is_none()
        });
        match result {
            Err(message) => self.fault(&message),
            Ok(()) if self.record_count == records_before && !has_faults => {
                self.fault(&format!(
                    "{name}: has no records; expected one JSON object a line"
                ));
            }
            Ok(()) => {}
        }
        // The file has no more records that alerts could wait for.
        match self.engine.flush() {
            Ok(alerts) => alerts.iter().for_each(|alert| {
                self.alert(
                    name,
                    last_line,
                    serde_json::from_str(alert).unwrap_or_default(),
                )
            }),
            Err(error) => self.fault(&format!("{name}: at the end of the file {error}")),
        }
    }

    fn record(&mut self, name: &str, line: u64, record: &[u8]) {
        self.record_count += 1;
        // A tick of somebody else is part of the log, not a tick.
        if tick::kind(record) == tick::Kind::Tick {
            return;
        }
        match self.engine.call("replay", 0, 0, record) {
            Ok(Answer::Unchanged | Answer::Dropped) => {}
            Ok(Answer::Changed(changed)) => match added(record, &changed) {
                Some(object) => self.alert(name, line, object),
                None => self.fault(&format!(
                    "{name}:{line}: the module returned something else than the record with one object added"
                )),
            },
            Err(error) => self.fault(&format!("{name}:{line}: {error}")),
        }
    }

    fn alert(&mut self, name: &str, line: u64, mut alert: Map<String, Value>) {
        match self.format {
            Format::Ndjson => {
                alert.insert(
                    "input".to_owned(),
                    serde_json::json!({"path": name, "line": line}),
                );
                let written = writeln!(self.out, "{}", Value::Object(alert));
                self.keep_error(written);
            }
            Format::Text if alert.get("kind").is_some_and(|kind| kind == "alert") => {
                let alert = Value::Object(alert);
                match self
                    .incidents
                    .iter_mut()
                    .find(|known| known["id"] == alert["id"])
                {
                    Some(known) => *known = alert,
                    None => self.incidents.push(alert),
                }
            }
            Format::Text => {}
        }
    }

    fn fault(&mut self, message: &str) {
        self.fault_count += 1;
        if self.fault_count <= SHOWN_FAULTS {
            let written = writeln!(self.faults, "{message}");
            self.keep_error(written);
        }
    }

    fn keep_error(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            self.error.get_or_insert(error);
        }
    }

    fn finish(mut self) -> io::Result<bool> {
        if self.format == Format::Text {
            for incident in &self.incidents {
                writeln!(self.out, "{}", report::render(incident))?;
            }
            let plural = |count: u64, what: &str| {
                format!("{count} {what}{}", if count == 1 { "" } else { "s" })
            };
            writeln!(
                self.out,
                "{} read, {}.",
                plural(self.record_count, "record"),
                plural(self.incidents.len() as u64, "incident")
            )?;
        }
        if self.fault_count > SHOWN_FAULTS {
            let more = self.fault_count - SHOWN_FAULTS;
            writeln!(self.faults, "{more} more faults are not shown")?;
        }
        match self.error.take() {
            Some(error) => Err(error),
            None => Ok(self.fault_count == 0),
        }
    }
}
