//! `replay`: puts a log through the module and tells what it found.

use crate::engine::{Answer, Engine};
use crate::input::{self, Item};
use crate::story;
use serde_json::{Map, Value};
use std::io::{self, Write};
use std::path::PathBuf;

/// The log that is replayed when none is named.
pub const STORY: &[u8] = include_bytes!("story.ndjson");

/// How alerts are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Each incident as it stood at the end, for a person.
    Text,
    /// Every alert on a line of JSON, with the record that it rode on.
    Ndjson,
}

/// Faults shown in full; of the rest only the number.
const SHOWN_FAULTS: u64 = 10;

/// Replays `files`, or the embedded story if there are none. Returns whether all of them could be read.
///
/// Faults in the input go to `complaints`, a line each with file and line number. The error is that of `out`.
pub fn replay(
    engine: &mut dyn Engine,
    files: &[PathBuf],
    format: Format,
    out: &mut dyn Write,
    complaints: &mut dyn Write,
) -> io::Result<bool> {
    let mut replay = Replay {
        engine,
        format,
        out,
        complaints,
        incidents: Vec::new(),
        records: 0,
        faults: 0,
        error: None,
    };
    if files.is_empty() {
        replay.source("the built-in story", |take| {
            input::lines(STORY, take);
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
    complaints: &'r mut dyn Write,
    /// The latest alert of each incident, in order of the first.
    incidents: Vec<Value>,
    records: u64,
    faults: u64,
    error: Option<io::Error>,
}

impl Replay<'_> {
    fn source(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut dyn FnMut(Item) -> bool) -> Result<(), String>,
    ) {
        if self.error.is_some() {
            return;
        }
        let mut last = 0;
        let before = self.records;
        let mut faulty = false;
        let result = read(&mut |item| {
            match item {
                Item::Record(line, record) => {
                    last = line;
                    self.record(name, line, &record);
                }
                Item::Fault(line, fault) => {
                    faulty = true;
                    self.complain(&format!("{name}:{line}: {fault}"));
                }
            }
            self.error.is_none()
        });
        match result {
            Err(message) => self.complain(&message),
            Ok(()) if self.records == before && !faulty => {
                self.complain(&format!(
                    "{name}: holds no records; expected one JSON object a line"
                ));
            }
            Ok(()) => {}
        }
        // What waits for a record will not get one from this file.
        match self.engine.flush() {
            Ok(alerts) => alerts.iter().for_each(|alert| {
                self.alert(name, last, serde_json::from_str(alert).unwrap_or_default())
            }),
            Err(error) => self.complain(&format!("{name}: at its end {error}")),
        }
    }

    fn record(&mut self, name: &str, line: u64, record: &[u8]) {
        self.records += 1;
        match self.engine.call("replay", 0, 0, record) {
            Ok(Answer::Unchanged) => {}
            Ok(Answer::Changed(changed)) => match added(record, &changed) {
                Some(object) => self.alert(name, line, object),
                None => {
                    self.complain(&format!("{name}:{line}: the module returned something that is not the record with one object added"))
                }
            },
            Err(error) => self.complain(&format!("{name}:{line}: {error}")),
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
                self.note(written);
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

    fn complain(&mut self, message: &str) {
        self.faults += 1;
        if self.faults <= SHOWN_FAULTS {
            let written = writeln!(self.complaints, "{message}");
            self.note(written);
        }
    }

    fn note(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            self.error.get_or_insert(error);
        }
    }

    fn finish(mut self) -> io::Result<bool> {
        if self.format == Format::Text {
            for incident in &self.incidents {
                writeln!(self.out, "{}", story::tell(incident))?;
            }
            let plural = |count: u64, what: &str| {
                format!("{count} {what}{}", if count == 1 { "" } else { "s" })
            };
            writeln!(
                self.out,
                "{} read, {}.",
                plural(self.records, "record"),
                plural(self.incidents.len() as u64, "incident")
            )?;
        }
        if self.faults > SHOWN_FAULTS {
            let more = self.faults - SHOWN_FAULTS;
            writeln!(self.complaints, "{more} more faults are not shown")?;
        }
        match self.error.take() {
            Some(error) => Err(error),
            None => Ok(self.faults == 0),
        }
    }
}

/// The object that was added to a record: what stands between its bytes up to the last brace, and that brace.
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
