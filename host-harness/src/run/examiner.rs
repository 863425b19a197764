//! The module as something that may die: each call has an end, and after a bad one the module is started again with what it
//! remembered when last asked.

use super::metrics::Metrics;
use super::{Load, Loaded};
use crate::engine::{Answer, CallError};
use crate::replay::added;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// What the module made of a record.
pub enum Verdict {
    /// Nothing.
    Unchanged,
    /// This record, in which the object is new.
    Changed(Vec<u8>, Map<String, Value>),
    /// Nothing can be said: why, for people.
    Unexamined(String),
}

/// The module, its last snapshot, and how to get it again.
pub struct Examiner {
    loaded: Loaded,
    load: Load,
    /// What the module remembered at the last [`Examiner::save`].
    pieces: Vec<String>,
    /// Whether the module had to begin empty though it had a past.
    forgot: bool,
    metrics: Arc<Metrics>,
}

impl Examiner {
    /// Loads the module. The error is a message for people.
    pub fn new(load: Load, metrics: Arc<Metrics>) -> Result<Examiner, String> {
        Ok(Examiner {
            loaded: load()?,
            load,
            pieces: Vec::new(),
            forgot: false,
            metrics,
        })
    }

    /// The policy's `alert.key`.
    pub fn key(&self) -> &str {
        &self.loaded.key
    }

    /// Puts a record through the module.
    pub fn examine(&mut self, record: &[u8]) -> Verdict {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let seconds = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
        let start = Instant::now();
        let answer = self
            .loaded
            .engine
            .call("run", seconds, now.subsec_nanos(), record);
        self.metrics
            .call_seconds
            .observe(start.elapsed().as_secs_f64());
        match answer {
            Ok(Answer::Unchanged) => Verdict::Unchanged,
            Ok(Answer::Changed(changed)) => match added(record, &changed) {
                Some(object) => Verdict::Changed(changed, object),
                None => Verdict::Unexamined(
                    "the module returned something that is not the record with one object added"
                        .to_owned(),
                ),
            },
            Err(error) => {
                self.look_after(&error);
                Verdict::Unexamined(error.to_string())
            }
        }
    }

    /// The alerts that wait for a record, until there are no more.
    pub fn flush(&mut self) -> Result<Vec<String>, CallError> {
        self.loaded
            .engine
            .flush()
            .inspect_err(|error| self.look_after(error))
    }

    /// Tells the metrics what the module counted.
    pub fn note_stats(&mut self) {
        match self.loaded.engine.stats() {
            Ok(Some(stats)) => self.metrics.note_module(&stats),
            Ok(None) => {}
            Err(error) => self.look_after(&error),
        }
    }

    /// Takes a snapshot of what the module remembers. The error is a message for people; the last snapshot stays.
    pub fn save(&mut self) -> Result<&[String], String> {
        match self.loaded.engine.save() {
            Ok(pieces) if is_whole(&pieces) => {
                self.pieces = pieces;
                Ok(&self.pieces)
            }
            Ok(_) => Err("the module did not give all of it".to_owned()),
            Err(error) => {
                self.look_after(&error);
                Err(error.to_string())
            }
        }
    }

    /// Gives the module what another one remembered. False if it is of another version; the module is then as new.
    pub fn restore(&mut self, pieces: Vec<String>) -> Result<bool, String> {
        if is_whole(&pieces) && self.loaded.engine.restore(&pieces) == Ok(true) {
            self.pieces = pieces;
            return Ok(true);
        }
        self.loaded.engine = (self.loaded.again)()?;
        Ok(false)
    }

    /// Whether, since last asked, the module had to begin empty: what was saved of it then is all there is.
    pub fn forgot(&mut self) -> bool {
        std::mem::take(&mut self.forgot)
    }

    /// Reads module and policy anew and hands over what is remembered. On error, a message for people, all stays as it was.
    pub fn reload(&mut self) -> Result<(), String> {
        let mut next = (self.load)()?;
        self.save()
            .map_err(|why| format!("the old module does not give its state: {why}"))?;
        match next.engine.restore(&self.pieces) {
            Ok(true) => {}
            Ok(false) => return Err("the new module is of a version that does not take the old one's state; restart to begin empty".into()),
            Err(error) => return Err(format!("the new module does not take the old one's state: {error}")),
        }
        self.loaded = next;
        Ok(())
    }

    /// A call failed. If it died, the module is in no state to be trusted, whatever it was at: it is started again.
    fn look_after(&mut self, error: &CallError) {
        if !matches!(error, CallError::Trap(_)) {
            return;
        }
        self.metrics.restarts.inc();
        let fresh =
            (self.loaded.again)().and_then(|mut engine| match engine.restore(&self.pieces) {
                Ok(true) => Ok(engine),
                Ok(false) => Err("it does not take its own snapshot".to_owned()),
                Err(error) => Err(error.to_string()),
            });
        // One that begins empty is better than one that died.
        match fresh.or_else(|why| {
            tracing::error!("the module is started again without its state: {why}");
            self.forgot = true;
            (self.loaded.again)()
        }) {
            Ok(engine) => self.loaded.engine = engine,
            Err(why) => {
                tracing::error!("the module cannot be started again and goes on as it is: {why}")
            }
        }
    }
}

/// Whether pieces begin with the head: a module that is short of memory may give less than all.
fn is_whole(pieces: &[String]) -> bool {
    pieces
        .first()
        .is_some_and(|head| head.starts_with("{\"state\":"))
}
