//! Supervises the module: after a call that trapped or took too long it starts a new instance from the last snapshot.

use super::metrics::Metrics;
use crate::engine::{Answer, CallError, Engine, Start, added};
use psexec_filter_plugin::tick;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Reads module and policy from where the command line says. The error is a message for the operator.
pub type Load = Box<dyn Fn() -> Result<Loaded, String> + Send>;

/// A module that is ready to run.
pub struct Loaded {
    /// An instance with empty state.
    pub engine: Box<dyn Engine>,
    /// `alert.key` of its policy: the member that holds an alert which is written as a record of its own.
    pub alert_key: String,
    /// Starts another instance of this module, with this policy.
    pub start: Start,
}

/// What the module did with a record.
pub enum Verdict {
    /// It returned the record unchanged.
    Unchanged,
    /// It returned this record, to which it added this object.
    Changed(Vec<u8>, Map<String, Value>),
    /// It dropped the record, because its policy does not let it pass.
    Dropped,
    /// It did not examine the record: the reason, for the operator.
    Unexamined(String),
}

/// The module, its last snapshot, and the means to start it again.
pub struct Supervisor {
    loaded: Loaded,
    load: Load,
    /// The last snapshot; empty before the first.
    snapshot: Vec<String>,
    /// How many hosts the last snapshot lacks, because they hold too much.
    unsaved_hosts: u64,
    /// Whether an instance had to start without the state of the one before.
    state_lost: bool,
    metrics: Arc<Metrics>,
}

impl Supervisor {
    /// Loads the module. The error is a message for the operator.
    pub fn new(load: Load, metrics: Arc<Metrics>) -> Result<Supervisor, String> {
        Ok(Supervisor {
            loaded: load()?,
            load,
            snapshot: Vec::new(),
            unsaved_hosts: 0,
            state_lost: false,
            metrics,
        })
    }

    /// The policy's `alert.key`.
    pub fn alert_key(&self) -> &str {
        &self.loaded.alert_key
    }

    /// Passes a record to the module, with the current time.
    pub fn examine(&mut self, record: &[u8]) -> Verdict {
        // The program makes the module's ticks itself. One among the records is somebody's record.
        if tick::kind(record) == tick::Kind::Tick {
            return Verdict::Unchanged;
        }
        let (seconds, nanoseconds) = now();
        let start = Instant::now();
        let answer = self.loaded.engine.call("run", seconds, nanoseconds, record);
        self.metrics
            .call_seconds
            .observe(start.elapsed().as_secs_f64());
        match answer {
            Ok(Answer::Unchanged) => Verdict::Unchanged,
            Ok(Answer::Dropped) => Verdict::Dropped,
            Ok(Answer::Changed(changed)) => match added(record, &changed) {
                Some(object) => Verdict::Changed(changed, object),
                None => Verdict::Unexamined(
                    "the module returned something else than the record with one object added"
                        .to_owned(),
                ),
            },
            Err(error) => {
                self.recover(&error);
                Verdict::Unexamined(error.to_string())
            }
        }
    }

    /// Sends the module a tick with the current time. Returns the record that it answers with, if any: an alert that was due, or its
    /// counters.
    pub fn tick(&mut self) -> Result<Option<Map<String, Value>>, CallError> {
        let (seconds, nanoseconds) = now();
        let answer = self
            .loaded
            .engine
            .call("tick", seconds, nanoseconds, tick::TICK)
            .inspect_err(|error| self.recover(error))?;
        Ok(match answer {
            Answer::Changed(record) => serde_json::from_slice(&record).ok(),
            Answer::Unchanged | Answer::Dropped => None,
        })
    }

    /// Takes all alerts that still wait for a record of their host.
    pub fn flush(&mut self) -> Result<Vec<String>, CallError> {
        self.loaded
            .engine
            .flush()
            .inspect_err(|error| self.recover(error))
    }

    /// How many hosts the last snapshot lacks, because they hold too much. What is remembered of them would be lost with this instance.
    pub fn unsaved_hosts(&self) -> u64 {
        self.unsaved_hosts
    }

    /// The counter of hosts that were left out of a snapshot; 0 if the module has no such counter.
    fn count_unsaved(&mut self) -> u64 {
        let stats = self.loaded.engine.stats().ok().flatten();
        let stats = stats.and_then(|stats| serde_json::from_str::<Value>(&stats).ok());
        stats.map_or(0, |stats| {
            stats["counters"]["unsaved_hosts"]
                .as_u64()
                .unwrap_or_default()
        })
    }

    /// Copies the module's counters into the metrics.
    pub fn update_metrics(&mut self) {
        match self.loaded.engine.stats() {
            Ok(Some(stats)) => self.metrics.set_module_stats(&stats),
            Ok(None) => {}
            Err(error) => self.recover(&error),
        }
    }

    /// The last snapshot; empty before the first.
    pub fn snapshot(&self) -> &[String] {
        &self.snapshot
    }

    /// Takes a snapshot of the module's state. On error, a message for the operator, the last snapshot is kept.
    pub fn save(&mut self) -> Result<&[String], String> {
        let unsaved_before = self.count_unsaved();
        match self.loaded.engine.save() {
            Ok(parts) if is_whole(&parts) => {
                self.snapshot = parts;
                self.unsaved_hosts = self.count_unsaved().saturating_sub(unsaved_before);
                Ok(&self.snapshot)
            }
            Ok(_) => Err("the module returned only a part of its state".to_owned()),
            Err(error) => {
                self.recover(&error);
                Err(error.to_string())
            }
        }
    }

    /// Gives the module a snapshot. Returns false if the module refuses it, because another version took it; the module then
    /// starts again with empty state. The error is a message for the operator.
    pub fn restore(&mut self, snapshot: Vec<String>) -> Result<bool, String> {
        if is_whole(&snapshot) && self.loaded.engine.restore(&snapshot) == Ok(true) {
            self.snapshot = snapshot;
            return Ok(true);
        }
        self.loaded.engine = (self.loaded.start)()?;
        Ok(false)
    }

    /// Whether state was lost since the last call of this function: the next snapshot knows nothing of what was before.
    pub fn take_state_lost(&mut self) -> bool {
        std::mem::take(&mut self.state_lost)
    }

    /// Reads module and policy again and gives them the current state. On error, a message for the operator, the old module and
    /// policy stay in use.
    pub fn reload(&mut self) -> Result<(), String> {
        let mut next = (self.load)()?;
        self.save()
            .map_err(|why| format!("no snapshot of the running module could be taken: {why}"))?;
        match next.engine.restore(&self.snapshot) {
            Ok(true) => {}
            Ok(false) => {
                return Err(
                    "the new module does not read the state of the running one; restart the program to begin with empty state"
                        .into(),
                );
            }
            Err(error) => {
                return Err(format!(
                    "the new module failed to read the state of the running one: {error}"
                ));
            }
        }
        self.loaded = next;
        Ok(())
    }

    /// Handles a failed call. After a trap the instance may be inconsistent, so a new one replaces it.
    fn recover(&mut self, error: &CallError) {
        if !matches!(error, CallError::Trap(_)) {
            return;
        }
        self.metrics.restarts.inc();
        let restored =
            (self.loaded.start)().and_then(|mut engine| match engine.restore(&self.snapshot) {
                Ok(true) => Ok(engine),
                Ok(false) => Err("the module refused its own snapshot".to_owned()),
                Err(error) => Err(error.to_string()),
            });
        // Empty state is better than an instance that trapped.
        let replacement = restored.or_else(|why| {
            tracing::error!("the module is restarted with empty state: {why}");
            self.state_lost = true;
            (self.loaded.start)()
        });
        match replacement {
            Ok(engine) => self.loaded.engine = engine,
            Err(why) => {
                tracing::error!(
                    "the module cannot be restarted, its old instance stays in use: {why}"
                );
            }
        }
    }
}

/// The current time as Fluent Bit passes it to a module: seconds since 1970, and nanoseconds.
fn now() -> (u32, u32) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let seconds = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
    (seconds, now.subsec_nanos())
}

/// Whether a snapshot begins with its head. A module that is short of memory may return less than all of its state.
fn is_whole(snapshot: &[String]) -> bool {
    snapshot
        .first()
        .is_some_and(|head| head.starts_with("{\"state\":"))
}
