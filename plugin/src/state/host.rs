//! One host: its clock, its own addresses, its evidence, its incidents, and alerts waiting for a record.

use super::clock::Clock;
use super::locker::Locker;
use crate::evidence::{ALLOCATION, OwnAddresses};
use crate::incident::Incident;
use crate::policy::Severity;
use std::collections::VecDeque;

/// Everything remembered about one host.
#[derive(Debug, Default)]
pub struct Host {
    /// Its name as it was last written.
    pub computer: String,
    /// Its clock.
    pub clock: Clock,
    /// Its own addresses.
    pub own: OwnAddresses,
    /// Its evidence.
    pub locker: Locker,
    /// Its open incidents, oldest first.
    pub incidents: Vec<Incident>,
    /// Alerts that found no record to ride on yet, oldest first.
    pub pending: VecDeque<Pending>,
}

/// An alert that is to be told.
#[derive(Debug)]
pub struct Pending {
    /// How bad it is.
    pub severity: Severity,
    /// The alert, as JSON.
    pub alert: String,
}

impl Host {
    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        let incidents = self.incidents.iter().map(Incident::bytes).fold(0, usize::saturating_add);
        let pending = self.pending.iter().map(|pending| pending.alert.len().saturating_add(ALLOCATION)).fold(0, usize::saturating_add);
        size_of::<Host>()
            .saturating_add(self.computer.len())
            .saturating_add(self.locker.bytes())
            .saturating_add(incidents)
            .saturating_add(pending)
    }

    /// How many of its alerts wait for a record, or for a late connection.
    pub fn waiting(&self) -> usize {
        self.pending.len().saturating_add(self.held())
    }

    /// How many of its incidents wait for a late connection.
    pub fn held(&self) -> usize {
        self.incidents.iter().filter(|incident| incident.held_until.is_some()).count()
    }

    /// Gives up the oldest of the waiting alerts that say least; false if none waits.
    pub fn drop_pending(&mut self) -> bool {
        let least = self.pending.iter().enumerate().min_by_key(|(index, pending)| (pending.severity, *index));
        least.map(|(index, _)| index).and_then(|index| self.pending.remove(index)).is_some()
    }

    /// Gives up its least valuable piece, then its least waiting alert, then its oldest incident; false if nothing is left.
    pub fn evict_one(&mut self) -> bool {
        if self.locker.evict_one() || self.drop_pending() {
            return true;
        }
        if self.incidents.is_empty() {
            return false;
        }
        self.incidents.remove(0);
        true
    }
}
