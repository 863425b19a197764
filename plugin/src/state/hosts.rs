//! All hosts, within a number of hosts and a number of bytes.

use super::host::Host;
use crate::counters::{Counters, add};
use crate::evidence::ALLOCATION;
use crate::policy::Limits;
use std::collections::{BTreeMap, BTreeSet};

/// Hosts looked at for one without an open incident, when one must be forgotten.
pub const LOOK_BACK: usize = 16;

/// A host that was silent for an hour has nothing left that the default windows would join; in milliseconds.
pub const SILENT_MS: i64 = 3_600_000;

/// Memory of a host's entries in the maps below beside the host itself.
const ENTRY: usize = 128;

/// All hosts. Ordered maps, so that nothing depends on hashing and hostile names cost no more than others.
#[derive(Debug, Default)]
pub struct Hosts {
    by_name: BTreeMap<Box<str>, Entry>,
    /// Use number to name, the longest unused first.
    by_use: BTreeMap<u64, Box<str>>,
    /// Size and use number, the largest last.
    by_size: BTreeSet<(usize, u64)>,
    uses: u64,
    bytes: usize,
    waiting: usize,
    incidents: usize,
}

#[derive(Debug, Default)]
struct Entry {
    host: Host,
    used: u64,
    bytes: usize,
}

/// Memory of a host of that name beside the host itself, in bytes.
fn beside(name: &str) -> usize {
    name.len()
        .saturating_add(ALLOCATION)
        .saturating_mul(2)
        .saturating_add(ENTRY)
}

impl Hosts {
    /// How many hosts are remembered.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many alerts wait for a record, or for a late connection.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many incidents are followed.
    pub fn incidents(&self) -> usize {
        self.incidents
    }

    /// A host with an alert that waits for a late connection.
    pub fn next_held(&self) -> Option<Box<str>> {
        self.by_name
            .iter()
            .find(|(_, entry)| entry.host.held() > 0)
            .map(|(name, _)| name.clone())
    }

    /// The host of that name, without counting as a use of it.
    pub fn get(&self, name: &str) -> Option<&Host> {
        self.by_name.get(name).map(|entry| &entry.host)
    }

    /// Works on the host of that name (made if need be), then sees to it that the bounds hold.
    pub fn with<T>(
        &mut self,
        name: &str,
        limits: &Limits,
        counters: &mut Counters,
        work: impl FnOnce(&mut Host, &mut Counters) -> T,
    ) -> T {
        let entry = match self.by_name.get_mut(name) {
            Some(entry) => entry,
            None => {
                while self.len() >= limits.hosts.get() && self.forget_one() {
                    add(&mut counters.evicted_hosts);
                }
                self.give(name, Host::default());
                self.by_name.entry(name.into()).or_default()
            }
        };
        // In place: moving a host in and out of three maps would cost more than most of what is done to it.
        let (waiting, incidents) = (entry.host.waiting(), entry.host.incidents.len());
        let result = work(&mut entry.host, counters);
        let now = entry.host.clock.now();
        self.waiting = self
            .waiting
            .saturating_sub(waiting)
            .saturating_add(entry.host.waiting());
        self.incidents = self
            .incidents
            .saturating_sub(incidents)
            .saturating_add(entry.host.incidents.len());
        let (bytes, used) = (entry.host.bytes().saturating_add(beside(name)), entry.used);
        if used != self.uses {
            self.uses = self.uses.saturating_add(1);
            entry.used = self.uses;
            if let Some(name) = self.by_use.remove(&used) {
                self.by_use.insert(self.uses, name);
            }
        }
        if (bytes, self.uses) != (entry.bytes, used) {
            self.bytes = self.bytes.saturating_sub(entry.bytes).saturating_add(bytes);
            self.by_size.remove(&(entry.bytes, used));
            self.by_size.insert((bytes, self.uses));
            entry.bytes = bytes;
        }
        while self.bytes > limits.state_bytes.get() {
            if now.is_some_and(|now| self.forget_silent(now)) {
                add(&mut counters.evicted_hosts);
            } else if self.shrink_largest() {
                add(&mut counters.evicted_bytes);
            } else {
                break;
            }
        }
        result
    }

    /// The host that was used next after `used`, with its name and the number of its use; `None` behind the last.
    pub fn used_after(&self, used: u64) -> Option<(u64, &str, &Host)> {
        let (used, name) = self.by_use.range(used.saturating_add(1)..).next()?;
        self.by_name
            .get(name)
            .map(|entry| (*used, &**name, &entry.host))
    }

    /// Takes in a host that was saved, as the one used last. Any of that name is replaced.
    pub fn restore(&mut self, name: &str, host: Host, limits: &Limits, counters: &mut Counters) {
        self.take(name);
        self.with(name, limits, counters, |place, _| *place = host);
    }

    /// Takes the oldest waiting alert of the first host that has one.
    pub fn pop_pending(&mut self) -> Option<String> {
        let name = self
            .by_name
            .iter()
            .find(|(_, entry)| !entry.host.pending.is_empty())?
            .0
            .clone();
        let mut host = self.take(&name)?;
        let alert = host.pending.pop_front().map(|pending| pending.alert);
        self.give(&name, host);
        alert
    }

    fn take(&mut self, name: &str) -> Option<Host> {
        let entry = self.by_name.remove(name)?;
        self.by_use.remove(&entry.used);
        self.by_size.remove(&(entry.bytes, entry.used));
        self.bytes = self.bytes.saturating_sub(entry.bytes);
        self.waiting = self.waiting.saturating_sub(entry.host.waiting());
        self.incidents = self.incidents.saturating_sub(entry.host.incidents.len());
        Some(entry.host)
    }

    fn give(&mut self, name: &str, host: Host) {
        self.uses = self.uses.saturating_add(1);
        self.insert(name, host, self.uses);
    }

    fn insert(&mut self, name: &str, host: Host, used: u64) {
        let bytes = host.bytes().saturating_add(beside(name));
        self.bytes = self.bytes.saturating_add(bytes);
        self.waiting = self.waiting.saturating_add(host.waiting());
        self.incidents = self.incidents.saturating_add(host.incidents.len());
        self.by_use.insert(used, name.into());
        self.by_size.insert((bytes, used));
        self.by_name
            .insert(name.into(), Entry { host, used, bytes });
    }

    /// Forgets the host that was longest unused, if possible one without an open incident.
    fn forget_one(&mut self) -> bool {
        let idle = |name: &str| {
            self.by_name
                .get(name)
                .is_some_and(|entry| entry.host.incidents.is_empty())
        };
        let mut names = self.by_use.values().take(LOOK_BACK);
        let found = names
            .find(|name| idle(name))
            .or_else(|| self.by_use.values().next())
            .cloned();
        found.is_some_and(|name| self.take(&name).is_some())
    }

    /// Forgets one of the hosts that were longest unused if, by the clock of the host that needs room, it was silent for longer
    /// than anything is joined over. A host whose clock is set far ahead gains no more by it than its own evidence takes.
    fn forget_silent(&mut self, now: i64) -> bool {
        let silent = |name: &str| {
            self.by_name.get(name).is_some_and(|entry| {
                entry.host.waiting() == 0
                    && entry
                        .host
                        .clock
                        .now()
                        .is_none_or(|last| now.saturating_sub(last) > SILENT_MS)
            })
        };
        let found = self
            .by_use
            .values()
            .take(LOOK_BACK)
            .find(|name| silent(name))
            .cloned();
        found.is_some_and(|name| self.take(&name).is_some())
    }

    /// Makes the host that holds the most give up its least valuable piece; a host with nothing left goes whole.
    fn shrink_largest(&mut self) -> bool {
        let Some(name) = self
            .by_size
            .last()
            .and_then(|(_, used)| self.by_use.get(used))
            .cloned()
        else {
            return false;
        };
        let Some(used) = self.by_name.get(&name).map(|entry| entry.used) else {
            return false;
        };
        let Some(mut host) = self.take(&name) else {
            return false;
        };
        if host.evict_one() {
            // Its place in the order of use stays.
            self.insert(&name, host, used);
        }
        true
    }
}
