//! The thread that takes lines from the queue, passes them to the module and writes them.

use super::metrics::Metrics;
use super::options::Options;
use super::output::{Closed, Sink};
use super::queue::{End, Lines, Message};
use super::snapshot_file;
use super::supervisor::{Load, Supervisor, Verdict};
use super::throttled_log::ThrottledLog;
use super::writer::Writer;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// How often the module's counters are read.
const STATS_INTERVAL: Duration = Duration::from_secs(1);

/// How often the module gets ticks, by which it releases alerts of hosts that are silent.
const TICK_INTERVAL: Duration = Duration::from_secs(1);

/// How many alerts are written at a tick at most, so that records never wait long. The rest follows at the next.
const MAX_TICKS: usize = 10_000;

const TOO_LONG: &str = "the line is longer than --max-line";

const CUT: &str = "the line has no end within the room that there is for long lines: it is ended here, and its rest is skipped";

/// The worker.
pub struct Worker {
    queue: mpsc::Receiver<Message>,
    supervisor: Supervisor,
    writer: Writer,
    metrics: Arc<Metrics>,
    log: ThrottledLog,
    /// File for snapshots.
    state: Option<PathBuf>,
    /// The lock of that file.
    _lock: Option<File>,
    state_interval: Duration,
    /// Longest line that is examined, in bytes.
    longest: usize,
    /// Whether an input has no end of its own.
    listens: bool,
    /// Lines that were passed on unexamined.
    unexamined: u64,
    /// Whether the state may have changed since the last snapshot.
    unsaved: bool,
    /// How many hosts the last snapshot lacks.
    unsaved_hosts: u64,
}

impl Worker {
    /// Prepares module, state and output. The error is a message for the operator.
    pub fn new(
        options: &Options,
        load: Load,
        queue: mpsc::Receiver<Message>,
        metrics: Arc<Metrics>,
    ) -> Result<Worker, String> {
        let mut supervisor = Supervisor::new(load, Arc::clone(&metrics))?;
        let mut lock = None;
        if let Some(path) = &options.state {
            lock = Some(snapshot_file::lock(path).map_err(|why| format!("--state {why}"))?);
            restore(&mut supervisor, path)?;
        }
        let sink = Sink::open(&options.output)?;
        Ok(Worker {
            queue,
            supervisor,
            writer: Writer::new(sink, options.emit, Arc::clone(&metrics)),
            metrics,
            log: ThrottledLog::default(),
            state: options.state.clone(),
            _lock: lock,
            state_interval: options.state_interval,
            longest: options.limits.line,
            listens: options.listens(),
            unexamined: 0,
            unsaved: false,
            unsaved_hosts: 0,
        })
    }

    /// Works until it gets [`Message::End`], or the output is closed. Returns the number of lines that were passed on
    /// unexamined. The error is a message for the operator.
    pub fn work(mut self, runtime: &Handle) -> Result<u64, String> {
        let worked = self.handle_messages(runtime);
        self.supervisor.update_metrics();
        // However it ended, the state is kept.
        let saved = self.save();
        match worked {
            Err(Closed::Failed(message)) => Err(message),
            Err(Closed::ByReader) if self.listens => Err(
                "stdout: its reader has closed it; lines that were not written are lost".to_owned(),
            ),
            Ok(()) | Err(Closed::ByReader) if saved => Ok(self.unexamined),
            Ok(()) | Err(Closed::ByReader) => Err(
                "the last snapshot could not be written: after a restart the program continues from an older one"
                    .to_owned(),
            ),
        }
    }

    fn handle_messages(&mut self, runtime: &Handle) -> Result<(), Closed> {
        let (mut stats_at, mut save_at) = (Instant::now(), Instant::now() + self.state_interval);
        // Before the first record: the module knows then that ticks come.
        self.tick()?;
        let mut tick_at = Instant::now() + TICK_INTERVAL;
        let mut end = End::Input;
        loop {
            let message = runtime
                .block_on(async { tokio::time::timeout(STATS_INTERVAL, self.queue.recv()).await });
            match message {
                Ok(None) => break,
                Ok(Some(Message::End(why))) => {
                    end = why;
                    // What is queued is still received, then `None`.
                    self.queue.close();
                }
                Ok(Some(Message::Reload)) => self.reload()?,
                Ok(Some(Message::Lines(lines))) => self.lines(&lines)?,
                Err(_) => self.log.end_minute(),
            }
            let now = Instant::now();
            if now >= tick_at {
                self.tick()?;
                tick_at = now + TICK_INTERVAL;
            }
            self.metrics.mark_progress();
            if now >= stats_at {
                self.supervisor.update_metrics();
                stats_at = now + STATS_INTERVAL;
            }
            if now >= save_at {
                self.save();
                save_at = Instant::now() + self.state_interval;
            }
        }
        // If the state is kept, alerts that wait get a record after the restart.
        if end == End::Signal && self.state.is_some() {
            let unsaved = self.flush_alerts_if_unsaved()?;
            warn_of_loss(unsaved);
            return Ok(());
        }
        self.flush_alerts()
    }

    fn lines(&mut self, lines: &Lines) -> Result<(), Closed> {
        let (from, bytes) = (&lines.from, &lines.bytes);
        self.unsaved = true;
        self.metrics.line_bytes.inc_by(bytes.len() as u64);
        let mut number = lines.first;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let record = line.strip_suffix(b"\n").unwrap_or(line);
            let record = record.strip_suffix(b"\r").unwrap_or(record);
            let verdict = if record.len() > self.longest {
                self.metrics.lines_too_long.inc();
                Verdict::Unexamined(if lines.is_cut { CUT } else { TOO_LONG }.to_owned())
            } else {
                let verdict = self.supervisor.examine(record);
                self.metrics
                    .failed_calls
                    .inc_by(u64::from(matches!(verdict, Verdict::Unexamined(_))));
                verdict
            };
            if let Verdict::Unexamined(why) = &verdict {
                self.unexamined += 1;
                self.log
                    .warn(format_args!("{from}:{number}: passed on unexamined: {why}"));
            }
            self.writer.line(line, record, verdict)?;
            number += 1;
        }
        self.metrics.lines.inc_by(number - lines.first);
        self.metrics.lines_cut.inc_by(u64::from(lines.is_cut));
        self.writer.flush()
    }

    /// Sends the module ticks until it has nothing more to say, and writes what it answers.
    fn tick(&mut self) -> Result<(), Closed> {
        for _ in 0..MAX_TICKS {
            match self.supervisor.tick() {
                Ok(None) => break,
                Ok(Some(record)) => {
                    // Without a snapshot it would be written again after a restart.
                    self.unsaved = true;
                    self.writer.of_tick(self.supervisor.alert_key(), &record);
                }
                Err(error) => {
                    self.log
                        .warn(format_args!("a tick of the module failed: {error}"));
                    break;
                }
            }
        }
        self.writer.flush()
    }

    /// Writes the alerts that wait for a record as lines of their own.
    fn flush_alerts(&mut self) -> Result<(), Closed> {
        // Without a snapshot these alerts would be written again after a restart.
        self.unsaved = true;
        match self.supervisor.flush() {
            Ok(alerts) => {
                for alert in alerts {
                    self.writer.alert(self.supervisor.alert_key(), &alert)?;
                }
            }
            Err(error) => {
                self.unexamined += 1;
                self.log.warn(format_args!(
                    "the alerts that waited for a record are lost: {error}"
                ));
            }
        }
        self.writer.flush()
    }

    /// Writes the alerts that wait, if a snapshot lacks a host: they may be alerts of that host. Returns how many hosts it lacks.
    fn flush_alerts_if_unsaved(&mut self) -> Result<u64, Closed> {
        // If no snapshot can be taken, the next attempt logs why.
        let hosts = match self.supervisor.save() {
            Ok(_) => self.supervisor.unsaved_hosts(),
            Err(_) => 0,
        };
        self.unsaved_hosts = hosts;
        if hosts > 0 {
            self.flush_alerts()?;
        }
        Ok(hosts)
    }

    fn reload(&mut self) -> Result<(), Closed> {
        self.writer.follow_file()?;
        let unsaved = self.flush_alerts_if_unsaved()?;
        match self.supervisor.reload() {
            Ok(()) => {
                self.metrics.reloads.inc();
                tracing::info!("module and policy were read again; the state was kept");
                warn_of_loss(unsaved);
            }
            Err(why) => {
                tracing::error!("module and policy were not replaced: {why}");
            }
        }
        Ok(())
    }

    /// Takes a snapshot and writes it to the file, if there is one. Returns false if the file could not be written.
    fn save(&mut self) -> bool {
        if !std::mem::take(&mut self.unsaved) {
            return true;
        }
        let state_lost = self.supervisor.take_state_lost();
        if let Err(why) = self.supervisor.save() {
            self.unsaved = true;
            self.metrics.snapshot_failures.inc();
            self.log.warn(format_args!(
                "no snapshot could be taken, the last one is kept: {why}"
            ));
            return self.state.is_none();
        }
        let hosts = self.supervisor.unsaved_hosts();
        if hosts != std::mem::replace(&mut self.unsaved_hosts, hosts) && hosts > 0 {
            self.log.warn(format_args!(
                "hosts that hold too much to be saved: {hosts}; if the program is killed, what is remembered of them is lost"
            ));
        }
        let Some(path) = &self.state else { return true };
        if state_lost && let Ok(aside) = snapshot_file::put_aside(path) {
            tracing::warn!(
                "--state {}: the state was lost; the last snapshot before is kept as {}",
                path.display(),
                aside.display()
            );
        }
        match snapshot_file::write(path, self.supervisor.snapshot()) {
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
                // Tried again at the next interval, even if no line arrives.
                self.unsaved = true;
                self.metrics.snapshot_failures.inc();
                self.log.warn(format_args!(
                    "--state {}: the snapshot cannot be written: {error}; the last one is kept, and writing is tried again",
                    path.display()
                ));
                false
            }
        }
    }
}

/// Logs that the memory of hosts is lost which no snapshot has.
fn warn_of_loss(hosts: u64) {
    if hosts > 0 {
        tracing::warn!(
            "hosts that hold too much to be saved: {hosts}; alerts that waited were written, everything else that was remembered of these hosts is lost"
        );
    }
}

/// Gives the module the snapshot in a file. One that cannot be used is put aside, and the program begins with empty state. The
/// error is a message for the operator; it means that a snapshot could not be written to that file either.
fn restore(supervisor: &mut Supervisor, path: &Path) -> Result<(), String> {
    let name = path.display();
    let refused = match snapshot_file::read(path) {
        Ok(None) => return Ok(()),
        Ok(Some(snapshot)) => {
            let format = state_format(&snapshot);
            if supervisor.restore(snapshot)? {
                tracing::info!("--state {name}: continuing from this snapshot");
                return Ok(());
            }
            format!(
                "{name}: was written by another version of the module, in state format {format}, which this version does not read"
            )
        }
        Err(why) => why,
    };
    let aside = snapshot_file::put_aside(path)
        .map_err(|error| format!("--state {refused}; and the file cannot be renamed: {error}"))?;
    tracing::warn!(
        "--state {refused}; beginning with empty state, the file is kept as {}",
        aside.display()
    );
    Ok(())
}

/// The number of the state format in the head of a snapshot, for a message.
fn state_format(snapshot: &[String]) -> String {
    let head = snapshot.first().map(String::as_str).unwrap_or_default();
    serde_json::from_str::<serde_json::Value>(head)
        .ok()
        .and_then(|head| head.get("state").map(ToString::to_string))
        .unwrap_or_else(|| "unknown".to_owned())
}
