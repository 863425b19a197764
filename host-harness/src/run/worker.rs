//! The one thread that takes lines from the queue, has them examined and writes them.

use super::examiner::{Examiner, Verdict};
use super::input::Input;
use super::metrics::Metrics;
use super::output::{Closed, Sink};
use super::{Emit, Load, Options, state_file};
use serde_json::Value;
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// What the worker is told.
pub enum Message {
    /// Whole lines, the last one perhaps without its newline.
    Lines {
        /// Who sent them.
        from: Arc<str>,
        /// Number of the first one, from 1, as he counts.
        first: u64,
        /// The lines.
        lines: Vec<u8>,
    },
    /// A line that is too long to be held, as it comes.
    Long {
        /// Who sends it.
        from: Arc<str>,
        /// Its number.
        line: u64,
        /// What has come of it.
        first: Vec<u8>,
        /// What comes.
        rest: mpsc::Receiver<Vec<u8>>,
        /// Whether it may leave without a newline if it comes without one.
        may_be_open: bool,
    },
    /// Read module and policy again.
    Reload,
    /// Take what is in the queue and end.
    End {
        /// Whether it was told to, so that it will be started again; else the input has ended for good.
        told: bool,
    },
}

/// How it ended.
pub struct Ended {
    /// Lines that were passed on unexamined.
    pub unexamined: u64,
}

/// How long others wait for a client in the middle of a line that is too long to be held.
const STALLED: Duration = Duration::from_secs(5);

/// And the least that has to come of it, in bytes a second.
const LEAST_RATE: u64 = 1024 * 1024;

const TOO_LONG: &str = "the line is longer than --max-line";

/// How often the module is asked for its counters.
const STATS_EVERY: Duration = Duration::from_secs(1);

/// Lines with faults that are shown in a minute.
const SHOWN_A_MINUTE: u32 = 20;

/// The worker.
pub struct Worker {
    queue: mpsc::Receiver<Message>,
    examiner: Examiner,
    writer: Writer,
    state: Option<PathBuf>,
    state_interval: Duration,
    idle: Duration,
    metrics: Arc<Metrics>,
    complaints: Complaints,
    unexamined: u64,
    /// Longer lines are not examined.
    longest: usize,
    /// Whether the input has no end of its own.
    endless: bool,
    /// Held as long as the program uses the state.
    _lock: Option<File>,
    /// Since when no line came, if alerts may be waiting for one.
    quiet_since: Option<Instant>,
    /// Whether anything came since the last snapshot.
    unsaved: bool,
}

impl Worker {
    /// Gets everything ready: module, state, output. The error is a message for people.
    pub fn new(
        options: &Options,
        load: Load,
        queue: mpsc::Receiver<Message>,
        metrics: Arc<Metrics>,
    ) -> Result<Worker, String> {
        let mut examiner = Examiner::new(load, Arc::clone(&metrics))?;
        let mut lock = None;
        if let Some(path) = &options.state {
            lock = Some(state_file::lock(path).map_err(|why| format!("--state {why}"))?);
            restore(&mut examiner, path)?;
        }
        let sink = Sink::open(&options.output)?;
        Ok(Worker {
            queue,
            examiner,
            writer: Writer {
                sink,
                emit: options.emit,
                metrics: Arc::clone(&metrics),
                buffer: Vec::new(),
                open: false,
            },
            state: options.state.clone(),
            state_interval: options.state_interval,
            idle: options.idle,
            metrics,
            complaints: Complaints::default(),
            unexamined: 0,
            longest: options.limits.line,
            endless: options.inputs.iter().any(|input| *input != Input::Stdin),
            _lock: lock,
            quiet_since: None,
            unsaved: false,
        })
    }

    /// Works until it is told to end, or the output is closed.
    pub fn work(mut self, runtime: &Handle) -> Result<Ended, String> {
        let worked = self.work_on(runtime);
        self.examiner.note_stats();
        // However it ended, what was learned is kept.
        let saved = self.save();
        match worked {
            Err(Closed::Broken(message)) => Err(message),
            Err(Closed::ByReader) if self.endless => Err("nobody reads standard output any more; what was not written is lost".to_owned()),
            Ok(()) | Err(Closed::ByReader) if saved => Ok(Ended { unexamined: self.unexamined }),
            Ok(()) | Err(Closed::ByReader) => {
                Err("the last snapshot could not be written: after a restart it begins with an older one".to_owned())
            }
        }
    }

    fn work_on(&mut self, runtime: &Handle) -> Result<(), Closed> {
        let (mut stats_at, mut save_at) = (Instant::now(), Instant::now() + self.state_interval);
        let mut told = false;
        loop {
            let message = runtime
                .block_on(async { tokio::time::timeout(STATS_EVERY, self.queue.recv()).await });
            match message {
                Ok(None) => break,
                Ok(Some(Message::End { told: now_told })) => {
                    told = now_told;
                    // What is in the queue still comes, then nothing.
                    self.queue.close();
                }
                Ok(Some(Message::Reload)) => self.reload(),
                Ok(Some(Message::Lines { from, first, lines })) => {
                    self.take_lines(&from, first, &lines)?
                }
                Ok(Some(Message::Long {
                    from,
                    line,
                    first,
                    rest,
                    may_be_open,
                })) => {
                    self.take_long(runtime, &from, line, first, rest, may_be_open)?;
                }
                Err(_) => self.idle()?,
            }
            let now = Instant::now();
            self.metrics.note_alive();
            if now >= stats_at {
                self.examiner.note_stats();
                stats_at = now + STATS_EVERY;
            }
            if now >= save_at {
                self.save();
                save_at = Instant::now() + self.state_interval;
            }
        }
        // What is saved waits for the records that come after the restart.
        if !(told && self.state.is_some()) {
            self.flush()?;
        }
        Ok(())
    }

    fn take_lines(&mut self, from: &str, first: u64, lines: &[u8]) -> Result<(), Closed> {
        self.quiet_since = Some(Instant::now());
        self.unsaved = true;
        self.metrics.line_bytes.inc_by(lines.len() as u64);
        let mut number = first;
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            let record = line.strip_suffix(b"\n").unwrap_or(line);
            let record = record.strip_suffix(b"\r").unwrap_or(record);
            let verdict = if record.len() > self.longest {
                self.metrics.lines_too_long.inc();
                Verdict::Unexamined(TOO_LONG.to_owned())
            } else {
                let verdict = self.examiner.examine(record);
                self.metrics
                    .failed_calls
                    .inc_by(u64::from(matches!(verdict, Verdict::Unexamined(_))));
                verdict
            };
            if let Verdict::Unexamined(why) = &verdict {
                self.unexamined += 1;
                self.complaints
                    .say(format_args!("{from}:{number}: passed on unexamined: {why}"));
            }
            self.writer.line(line, record, verdict)?;
            number += 1;
        }
        self.metrics.lines.inc_by(number - first);
        self.writer.flush()
    }

    fn take_long(
        &mut self,
        runtime: &Handle,
        from: &str,
        number: u64,
        first: Vec<u8>,
        mut rest: mpsc::Receiver<Vec<u8>>,
        may_be_open: bool,
    ) -> Result<(), Closed> {
        self.unexamined += 1;
        self.metrics.lines.inc();
        self.metrics.lines_too_long.inc();
        self.complaints.say(format_args!(
            "{from}:{number}: passed on unexamined: {TOO_LONG}"
        ));
        let mut last = first.last().copied();
        self.writer.raw(&first)?;
        self.metrics.line_bytes.inc_by(first.len() as u64);
        let (mut waited, mut bytes) = (Duration::ZERO, 0u64);
        loop {
            let start = Instant::now();
            let next = runtime.block_on(async { tokio::time::timeout(STALLED, rest.recv()).await });
            waited += start.elapsed();
            if let Ok(None) = next {
                break;
            }
            if let Ok(Some(chunk)) = &next {
                last = chunk.last().copied().or(last);
                bytes += chunk.len() as u64;
                self.writer.raw(chunk)?;
                self.metrics.note_alive();
            }
            // A trickle holds up the others as well as a stall does.
            if next.is_err() || waited > STALLED && bytes < waited.as_secs() * LEAST_RATE {
                // What is on its way already still belongs to it.
                rest.close();
                while let Some(chunk) = rest.blocking_recv() {
                    last = chunk.last().copied().or(last);
                    bytes += chunk.len() as u64;
                    self.writer.raw(&chunk)?;
                }
                if last != Some(b'\n') {
                    self.metrics.lines_cut.inc();
                    self.complaints
                        .say(format_args!("{from}:{number}: ended here, as its rest does not come; that will be a line of its own"));
                }
                break;
            }
        }
        self.metrics.line_bytes.inc_by(bytes);
        self.writer.end_raw(last == Some(b'\n'), may_be_open)
    }

    /// Nothing came for a while.
    fn idle(&mut self) -> Result<(), Closed> {
        self.complaints.turn();
        if self
            .quiet_since
            .is_some_and(|since| since.elapsed() >= self.idle)
        {
            self.quiet_since = None;
            self.flush()?;
        }
        Ok(())
    }

    /// Writes the alerts that wait for a record without one.
    fn flush(&mut self) -> Result<(), Closed> {
        // What is told now must not be told again after a restart.
        self.unsaved = true;
        match self.examiner.flush() {
            Ok(alerts) => {
                for alert in alerts {
                    self.writer.alert(self.examiner.key(), &alert)?;
                }
            }
            Err(error) => {
                self.unexamined += 1;
                self.complaints.say(format_args!(
                    "alerts that wait for a record are lost: {error}"
                ));
            }
        }
        self.writer.flush()
    }

    fn reload(&mut self) {
        match self.examiner.reload() {
            Ok(()) => {
                self.metrics.reloads.inc();
                tracing::info!("module and policy were read again; what is remembered was kept");
            }
            Err(why) => tracing::error!("module and policy stay as they were: {why}"),
        }
    }

    /// Takes a snapshot, on disk if wanted; false if there it could not be written.
    fn save(&mut self) -> bool {
        if !std::mem::take(&mut self.unsaved) {
            return true;
        }
        let forgot = self.examiner.forgot();
        let pieces = match self.examiner.save() {
            Ok(pieces) => pieces,
            Err(why) => {
                self.unsaved = true;
                self.metrics.snapshot_failures.inc();
                self.complaints
                    .say(format_args!("no snapshot could be taken: {why}"));
                return self.state.is_none();
            }
        };
        let Some(path) = &self.state else { return true };
        if forgot && let Ok(aside) = state_file::put_aside(path) {
            tracing::warn!("what was saved before is kept as {}", aside.display());
        }
        match state_file::write(path, pieces) {
            Ok(bytes) => {
                self.metrics.snapshots.inc();
                self.metrics
                    .snapshot_bytes
                    .set(i64::try_from(bytes).unwrap_or(i64::MAX));
                let now = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default();
                self.metrics
                    .snapshot_time_seconds
                    .set(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
                true
            }
            Err(error) => {
                // It is tried again, also if nothing more comes.
                self.unsaved = true;
                self.metrics.snapshot_failures.inc();
                self.complaints.say(format_args!(
                    "--state {}: the snapshot cannot be written: {error}; the last one stays",
                    path.display()
                ));
                false
            }
        }
    }
}

/// Gives the module the snapshot on disk. One that cannot be used is put aside; the error is a message for people and means
/// that none could ever be written.
fn restore(examiner: &mut Examiner, path: &Path) -> Result<(), String> {
    let name = path.display();
    let refused = match state_file::read(path) {
        Ok(None) => return Ok(()),
        Ok(Some(pieces)) => match examiner.restore(pieces)? {
            true => {
                tracing::info!("went on from the state in {name}");
                return Ok(());
            }
            false => format!("{name}: is not taken by the module; it was saved by another version"),
        },
        Err(why) => why,
    };
    let aside = state_file::put_aside(path)
        .map_err(|error| format!("{refused}; and it cannot be put aside: {error}"))?;
    tracing::warn!(
        "{refused}; beginning empty, the file is kept as {}",
        aside.display()
    );
    Ok(())
}

/// What is written of lines and alerts.
struct Writer {
    sink: Sink,
    emit: Emit,
    metrics: Arc<Metrics>,
    buffer: Vec<u8>,
    /// Whether what was written last still lacks its newline, as the last line of an input may.
    open: bool,
}

impl Writer {
    /// A line that came, `record` with its ending.
    fn line(&mut self, line: &[u8], record: &[u8], verdict: Verdict) -> Result<(), Closed> {
        let ending = &line[record.len()..];
        let (text, object) = match verdict {
            Verdict::Changed(changed, object) => (Some(changed), Some(object)),
            Verdict::Unchanged | Verdict::Unexamined(_) => (None, None),
        };
        if self.emit != Emit::Alerts {
            self.close();
            self.buffer
                .extend_from_slice(text.as_deref().unwrap_or(record));
            self.buffer.extend_from_slice(ending);
            self.open = !ending.ends_with(b"\n");
        }
        // Counters that ride on a record are no alert.
        if let Some(object) =
            object.filter(|object| object.get("kind").is_some_and(|kind| kind == "alert"))
        {
            self.metrics.alerts_written.inc();
            if self.emit != Emit::Records {
                self.own_line(format_args!("{}", Value::Object(object)));
            }
        }
        if self.buffer.len() > 1024 * 1024 {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// An alert without a record.
    fn alert(&mut self, key: &str, alert: &str) -> Result<(), Closed> {
        self.metrics.alerts_written.inc();
        match self.emit {
            // A record of its own: there is none left to ride on.
            Emit::Records => self.own_line(format_args!("{{\"{key}\":{alert}}}")),
            Emit::Alerts | Emit::Both => self.own_line(format_args!("{alert}")),
        }
        Ok(())
    }

    /// A part of a line that nobody looks into.
    fn raw(&mut self, part: &[u8]) -> Result<(), Closed> {
        if self.emit == Emit::Alerts {
            return Ok(());
        }
        self.close();
        self.buffer.extend_from_slice(part);
        self.flush()
    }

    fn end_raw(&mut self, ended: bool, may_be_open: bool) -> Result<(), Closed> {
        if self.emit == Emit::Alerts || ended {
            return Ok(());
        }
        if may_be_open {
            self.open = true;
            return Ok(());
        }
        self.buffer.push(b'\n');
        self.flush()
    }

    fn own_line(&mut self, text: fmt::Arguments<'_>) {
        self.close();
        // Writing into memory does not fail.
        let _written = writeln!(self.buffer, "{text}");
    }

    /// Ends a line that lacks its newline before something stands behind it.
    fn close(&mut self) {
        if std::mem::take(&mut self.open) {
            self.buffer.push(b'\n');
        }
    }

    fn flush(&mut self) -> Result<(), Closed> {
        let result = self.sink.write(&self.buffer, &self.metrics);
        self.buffer.clear();
        result
    }
}

/// Messages about lines: however many there are, the log stays readable.
#[derive(Default)]
struct Complaints {
    since: Option<Instant>,
    count: u32,
}

impl Complaints {
    fn say(&mut self, message: fmt::Arguments<'_>) {
        self.turn();
        self.since.get_or_insert_with(Instant::now);
        self.count = self.count.saturating_add(1);
        if self.count <= SHOWN_A_MINUTE {
            tracing::warn!("{message}");
        }
    }

    /// Begins another minute if one is over.
    fn turn(&mut self) {
        if self
            .since
            .is_some_and(|since| since.elapsed() >= Duration::from_secs(60))
        {
            let more = self.count.saturating_sub(SHOWN_A_MINUTE);
            if more > 0 {
                tracing::warn!("{more} more such messages in the last minute");
            }
            *self = Complaints::default();
        }
    }
}
