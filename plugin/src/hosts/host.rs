//! One host: its clock, its own addresses, its evidence, its incidents, and the alerts that wait for a record.

use crate::evidence::{ALLOCATION, Evidence, OwnAddresses};
use crate::incident::Incident;
use crate::normalize::time::Timestamp;
use crate::settings::{Limits, Severity};
use crate::store::{Clock, EvidenceStore};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::rc::Rc;

/// Everything remembered about one host.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Its name as it was last logged.
    pub computer: Rc<str>,
    /// Its clock.
    pub clock: Clock,
    /// Its own addresses.
    pub own: OwnAddresses,
    /// Its evidence.
    pub store: EvidenceStore,
    /// Its open incidents, oldest first.
    pub incidents: Vec<Incident>,
    /// Alerts that wait for a record that can carry them, oldest first.
    pub pending: VecDeque<Pending>,
    /// Until when all its records pass where `alert.pass` drops records, in milliseconds of its clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passes_until: Option<i64>,
    /// How far its zone is ahead of UTC, in milliseconds, if its records show it: for times that are logged without a zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ahead: Option<i64>,
}

/// An alert that waits for a record.
#[derive(Debug, Serialize, Deserialize)]
pub struct Pending {
    /// How bad the incident is.
    pub severity: Severity,
    /// The alert, as JSON.
    pub alert: String,
    /// The time of the incident's latest evidence.
    #[serde(default)]
    pub last_seen: Option<Timestamp>,
}

impl Host {
    /// Takes the name that it was logged by. Its whole name stays, where it is logged by its short name, too.
    pub fn name(&mut self, computer: &Rc<str>) {
        if computer.contains('.') || !self.computer.contains('.') {
            self.computer = Rc::clone(computer);
        }
    }

    /// Takes in how far its zone is ahead of UTC, in milliseconds. Evidence that was logged without a zone before that was known moves to
    /// UTC with it, unless an incident has it already.
    pub fn learn_zone(&mut self, ahead: i64) {
        if self.ahead.is_none() {
            for evidence in self.store.evidence_mut() {
                if let Some(evidence) = Rc::get_mut(evidence) {
                    evidence.time = evidence.time.in_zone(Some(ahead));
                }
            }
            if ahead != 0 {
                self.clock = Clock::default();
            }
        }
        self.ahead = Some(ahead);
    }

    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        let incidents = self.incidents.iter().map(Incident::bytes);
        let pending = self.pending.iter().map(|pending| pending.alert.len());
        let pending = pending.map(|bytes| bytes.saturating_add(ALLOCATION));
        size_of::<Host>()
            .saturating_add(self.computer.len())
            .saturating_add(self.store.bytes())
            .saturating_add(incidents.fold(0, usize::saturating_add))
            .saturating_add(pending.fold(0, usize::saturating_add))
    }

    /// Completes a host that was read from a snapshot: lets incidents and store share their evidence again, and makes it keep the
    /// policy's limits.
    pub fn complete(&mut self, limits: &Limits) {
        let mut pool: Vec<Rc<Evidence>> = Vec::new();
        let incidents = self.incidents.iter_mut();
        let in_incidents = incidents.flat_map(|incident| incident.finding.evidence_mut());
        for evidence in self.store.evidence_mut().chain(in_incidents) {
            match pool.iter().find(|known| ***known == **evidence) {
                Some(known) => *evidence = Rc::clone(known),
                None => pool.push(Rc::clone(evidence)),
            }
        }
        self.store.recount();
        while self.store.len() > limits.evidence_per_host.get() && self.store.evict_one() {}
        while self.pending.len() > limits.pending_per_host.get() && self.drop_pending() {}
        let surplus = self
            .incidents
            .len()
            .saturating_sub(limits.incidents_per_host.get());
        self.incidents.drain(..surplus);
    }

    /// How many of its alerts wait for a record, or are held for a late connection.
    pub fn waiting(&self) -> usize {
        self.pending.len().saturating_add(self.held())
    }

    /// How many of its incidents are held for a late connection.
    pub fn held(&self) -> usize {
        let incidents = self.incidents.iter();
        incidents
            .filter(|incident| incident.held_until.is_some())
            .count()
    }

    /// Drops the least severe of the waiting alerts, the oldest first; false if none waits.
    pub fn drop_pending(&mut self) -> bool {
        let pending = self.pending.iter().enumerate();
        let least = pending.min_by_key(|(index, pending)| (pending.severity, *index));
        let index = least.map(|(index, _)| index);
        index.and_then(|index| self.pending.remove(index)).is_some()
    }

    /// Evicts its least valuable evidence, then its least severe waiting alert, then its oldest incident; false if nothing is left.
    pub fn evict_one(&mut self) -> bool {
        if self.store.evict_one() || self.drop_pending() {
            return true;
        }
        if self.incidents.is_empty() {
            return false;
        }
        self.incidents.remove(0);
        true
    }
}
