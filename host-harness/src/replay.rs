//! `replay`: passes logs through the module and writes what it finds.
//!
//! Logs that may hold pieces of one incident ([`related`]) are replayed together, in the order of their records' times ([`merge`]).
//! All others are replayed apart, each with an instance of the module of its own: what is found in them does not depend on what else
//! is replayed.

mod merge;
mod related;

use crate::engine::{Answer, Engine, Start, added};
use crate::input::{self, Item};
use crate::report;
use merge::Step;
use psexec_filter_plugin::policy::Policy;
use psexec_filter_plugin::tick;
use related::Log;
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

/// What logs are passed through.
pub struct Filter<'f> {
    /// Starts the module.
    pub start: &'f Start,
    /// The policy that is in force in it.
    pub policy: &'f Policy,
}

/// How a replay ended.
pub struct Replayed {
    /// Whether all logs could be read in full.
    pub all_read: bool,
    /// The module's counters, added up over all instances.
    pub stats: Value,
}

/// Replays `files`, or the demo log if there are none, and writes what is found to `out`.
///
/// Faults in the input go to `faults`, one a line, with file and line number. An error is one of writing.
pub fn replay(
    filter: &Filter<'_>,
    files: &[PathBuf],
    format: Format,
    out: &mut dyn Write,
    faults: &mut dyn Write,
) -> io::Result<Replayed> {
    let mut replay = Replay {
        format,
        out,
        faults,
        incidents: Vec::new(),
        first_of_group: 0,
        record_count: 0,
        fault_count: 0,
        stats: Value::Null,
        error: None,
    };
    let names: Vec<String> = files
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let mut sources: Vec<Source<'_>> = names.iter().map(|name| Source::new(name)).collect();
    if files.is_empty() {
        let mut demo = Source::new("the built-in demo log");
        replay.group(filter, |instance| {
            input::lines(DEMO, &mut |item| instance.item(&mut demo, item));
            instance.end(&demo, Ok(()));
            Some(demo)
        });
    } else if files.len() == 1 || !files.iter().all(|path| input::is_rereadable(path)) {
        replay.group(filter, |instance| {
            let mut last = None;
            for (path, mut source) in files.iter().zip(sources) {
                let result = input::read(path, &mut |item| instance.item(&mut source, item));
                instance.end(&source, result);
                last = Some(source);
            }
            last
        });
    } else {
        let default_host = filter.policy.host.default.as_str();
        for group in related::groups(files, filter.policy) {
            replay.group(filter, |instance| {
                let last = instance.logs(files, &group, default_host, &mut sources)?;
                sources.get(last).cloned()
            });
        }
    }
    replay.finish()
}

/// A log that is being replayed.
#[derive(Clone)]
struct Source<'s> {
    /// Its name for messages and alerts.
    name: &'s str,
    /// The number of the last record.
    last_line: u64,
    /// Whether anything was read from it.
    is_empty: bool,
}

impl Source<'_> {
    fn new(name: &str) -> Source<'_> {
        Source {
            name,
            last_line: 0,
            is_empty: true,
        }
    }
}

struct Replay<'r> {
    format: Format,
    out: &'r mut dyn Write,
    faults: &'r mut dyn Write,
    /// The latest alert of each incident, in the order of the first alerts.
    incidents: Vec<Value>,
    /// Index of the first incident of the logs that are being replayed together. Unrelated logs may hold copies of one recording,
    /// and so incidents with one id.
    first_of_group: usize,
    record_count: u64,
    fault_count: u64,
    stats: Value,
    /// The first error of `out` or `faults`.
    error: Option<io::Error>,
}

/// An instance of the module, and what becomes of its answers.
struct Instance<'i, 'r> {
    engine: &'i mut dyn Engine,
    replay: &'i mut Replay<'r>,
}

impl<'r> Replay<'r> {
    /// Replays logs that are related with an instance of their own. `read` returns the log that was read last.
    fn group<'s>(
        &mut self,
        filter: &Filter<'_>,
        read: impl FnOnce(&mut Instance<'_, 'r>) -> Option<Source<'s>>,
    ) {
        if self.error.is_some() {
            return;
        }
        self.first_of_group = self.incidents.len();
        let mut engine = match (filter.start)() {
            Ok(engine) => engine,
            Err(message) => return self.fault(&message),
        };
        let mut instance = Instance {
            engine: &mut *engine,
            replay: self,
        };
        if let Some(last) = read(&mut instance) {
            instance.flush(&last);
        }
        match engine.stats() {
            Ok(stats) => {
                let stats = stats.and_then(|stats| serde_json::from_str(&stats).ok());
                add_up(&mut self.stats, stats.unwrap_or_default());
            }
            Err(error) => self.fault(&error.to_string()),
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
                let mut known = self.incidents.iter_mut().skip(self.first_of_group);
                match known.find(|known| known["id"] == alert["id"]) {
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

    fn finish(mut self) -> io::Result<Replayed> {
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
            None => Ok(Replayed {
                all_read: self.fault_count == 0,
                stats: self.stats,
            }),
        }
    }
}

impl Instance<'_, '_> {
    /// Replays logs that are related in the order of their records' times. Returns the index of the log that was read last.
    fn logs(
        &mut self,
        files: &[PathBuf],
        logs: &[Log],
        default_host: &str,
        sources: &mut [Source<'_>],
    ) -> Option<usize> {
        if let [log] = logs {
            let source = sources.get_mut(log.index)?;
            let result = input::read(&files[log.index], &mut |item| self.item(source, item));
            self.end(source, result);
            return Some(log.index);
        }
        let mut last = None;
        merge::read(files, logs, default_host, &mut |index, step| {
            last = Some(index);
            let Some(source) = sources.get_mut(index) else {
                return false;
            };
            match step {
                Step::Item(item) => self.item(source, item),
                Step::End(result) => {
                    self.end(source, result);
                    self.replay.error.is_none()
                }
            }
        });
        last
    }

    /// Takes what was read from a log. Returns false if nothing more is to be read.
    fn item(&mut self, source: &mut Source<'_>, item: Item) -> bool {
        source.is_empty = false;
        match item {
            Item::Record(line, record) => {
                source.last_line = line;
                self.record(source.name, line, &record);
            }
            Item::Fault(line, fault) => {
                let name = source.name;
                self.replay.fault(&format!("{name}:{line}: {fault}"));
            }
        }
        self.replay.error.is_none()
    }

    /// Takes the end of a log, or why it cannot be read.
    fn end(&mut self, source: &Source<'_>, result: Result<(), String>) {
        match result {
            Err(message) => self.replay.fault(&message),
            Ok(()) if source.is_empty => self.replay.fault(&format!(
                "{}: has no records; expected one JSON object a line",
                source.name
            )),
            Ok(()) => {}
        }
    }

    fn record(&mut self, name: &str, line: u64, record: &[u8]) {
        self.replay.record_count += 1;
        // A tick of somebody else is part of the log, not a tick.
        if tick::kind(record) == tick::Kind::Tick {
            return;
        }
        match self.engine.call("replay", 0, 0, record) {
            Ok(Answer::Unchanged | Answer::Dropped) => {}
            Ok(Answer::Changed(changed)) => match added(record, &changed) {
                Some(object) => self.replay.alert(name, line, object),
                None => self.replay.fault(&format!(
                    "{name}:{line}: the module returned something else than the record with one object added"
                )),
            },
            Err(error) => self.replay.fault(&format!("{name}:{line}: {error}")),
        }
    }

    /// Takes the alerts that still wait for a record, of which no more will come. `last` is the log that was read last.
    fn flush(&mut self, last: &Source<'_>) {
        match self.engine.flush() {
            Ok(alerts) => alerts.iter().for_each(|alert| {
                let alert = serde_json::from_str(alert).unwrap_or_default();
                self.replay.alert(last.name, last.last_line, alert);
            }),
            Err(error) => self
                .replay
                .fault(&format!("{}: at the end of the file {error}", last.name)),
        }
    }
}

/// Adds the numbers of `more` to those in `sum`.
fn add_up(sum: &mut Value, more: Value) {
    match (sum, more) {
        (Value::Object(sum), Value::Object(more)) => {
            for (key, value) in more {
                add_up(sum.entry(key).or_insert(Value::Null), value);
            }
        }
        (sum, more) => {
            *sum = match (sum.as_u64(), more.as_u64()) {
                (Some(a), Some(b)) => a.saturating_add(b).into(),
                _ => more,
            }
        }
    }
}
