//! Warnings about single lines, of which only the first ones of each minute are logged: the log stays readable and small even if
//! every line has a fault.

use std::fmt;
use std::time::{Duration, Instant};

/// Warnings that are logged in a minute.
const SHOWN: u32 = 20;

const MINUTE: Duration = Duration::from_secs(60);

/// Counts the warnings of the current minute.
#[derive(Default)]
pub struct ThrottledLog {
    /// When the current minute began: with its first warning.
    since: Option<Instant>,
    count: u32,
}

impl ThrottledLog {
    /// Logs a warning, unless this minute has had enough.
    pub fn warn(&mut self, message: fmt::Arguments<'_>) {
        self.end_minute();
        self.since.get_or_insert_with(Instant::now);
        self.count = self.count.saturating_add(1);
        if self.count <= SHOWN {
            tracing::warn!("{message}");
        }
    }

    /// If the minute is over, logs how many warnings it did not show. To be called from time to time.
    pub fn end_minute(&mut self) {
        if self.since.is_some_and(|since| since.elapsed() >= MINUTE) {
            let hidden = self.count.saturating_sub(SHOWN);
            if hidden > 0 {
                tracing::warn!("{hidden} more such warnings in the last minute are not shown");
            }
            *self = ThrottledLog::default();
        }
    }
}
