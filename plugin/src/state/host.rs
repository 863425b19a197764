//! One host: its clock, its own addresses, its evidence, its incidents, and alerts waiting for a record.

use super::clock::Clock;
use super::locker::Locker;
use crate::evidence::{ALLOCATION, Evidence, OwnAddresses};
use crate::incident::Incident;
use crate::policy::{Limits, Severity};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::rc::Rc;

/// Everything remembered about one host.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Host {
    /// Its name as it was last written.
    pub computer: Rc<str>,
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
#[derive(Debug, Serialize, Deserialize)]
pub struct Pending {
    /// How bad it is.
    pub severity: Severity,
    /// The alert, as JSON.
    pub alert: String,
}

impl Host {
    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        let incidents = self
            .incidents
            .iter()
            .map(Incident::bytes)
            .fold(0, usize::saturating_add);
        let pending = self
            .pending
            .iter()
            .map(|pending| pending.alert.len().saturating_add(ALLOCATION))
            .fold(0, usize::saturating_add);
        size_of::<Host>()
            .saturating_add(self.computer.len())
            .saturating_add(self.locker.bytes())
            .saturating_add(incidents)
            .saturating_add(pending)
    }

    /// Puts right what a host that was saved and read back has lost: that incidents and locker share their evidence, and
    /// that it keeps the policy's limits.
    pub fn rejoin(&mut self, limits: &Limits) {
        let mut pool: Vec<Rc<Evidence>> = Vec::new();
        let in_incidents = self
            .incidents
            .iter_mut()
            .flat_map(|incident| incident.finding.evidence_mut());
        for piece in self.locker.evidence_mut().chain(in_incidents) {
            match pool.iter().find(|known| ***known == **piece) {
                Some(known) => *piece = Rc::clone(known),
                None => pool.push(Rc::clone(piece)),
            }
        }
        self.locker.recount();
        while self.locker.len() > limits.evidence_per_host.get() && self.locker.evict_one() {}
        while self.pending.len() > limits.pending_per_host.get() && self.drop_pending() {}
        let surplus = self
            .incidents
            .len()
            .saturating_sub(limits.incidents_per_host.get());
        self.incidents.drain(..surplus);
    }

    /// How many of its alerts wait for a record, or for a late connection.
    pub fn waiting(&self) -> usize {
        self.pending.len().saturating_add(self.held())
    }

    /// How many of its incidents wait for a late connection.
    pub fn held(&self) -> usize {
        self.incidents
            .iter()
            .filter(|incident| incident.held_until.is_some())
            .count()
    }

    /// Gives up the oldest of the waiting alerts that say least; false if none waits.
    pub fn drop_pending(&mut self) -> bool {
        let least = self
            .pending
            .iter()
            .enumerate()
            .min_by_key(|(index, pending)| (pending.severity, *index));
        least
            .map(|(index, _)| index)
            .and_then(|index| self.pending.remove(index))
            .is_some()
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
