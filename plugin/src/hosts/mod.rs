//! All hosts, within a number of hosts and a number of bytes.

pub mod host;

pub use host::{Host, Pending};

use crate::counters::{Counters, add};
use crate::evidence::ALLOCATION;
use crate::normalize::host::{is_short, label};
use crate::settings::Limits;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::rc::Rc;

/// How many of the hosts that were silent longest are looked at for one without an open incident, when one must be forgotten.
pub const LOOK_BACK: usize = 16;

/// A host is silent if it logged nothing for an hour, in milliseconds, or for the policy's join window if that is longer. It then
/// has nothing left that any technique would join.
pub const SILENT_MS: i64 = 3_600_000;

/// How long after a host logged its whole name a short name is taken for it, in milliseconds of logged time.
const SAME_HOST_MS: u64 = 3_600_000;

/// Memory of a host's entries in the maps below, in bytes.
const ENTRY: usize = 128;

/// All hosts. In ordered maps, so that nothing depends on hashing and hostile names cost no more than others.
#[derive(Debug)]
pub struct Hosts {
    by_name: BTreeMap<Box<str>, Entry>,
    /// Number of the last use to name, the longest unused first.
    by_use: BTreeMap<u64, Box<str>>,
    /// Size in bytes and number of the last use, the largest last.
    by_size: BTreeSet<(usize, u64)>,
    uses: u64,
    bytes: usize,
    pending: usize,
    held: usize,
    incidents: usize,
    /// The host whose waiting alert was taken last.
    popped: Box<str>,
    silent_ms: i64,
}

#[derive(Debug, Default)]
struct Entry {
    host: Host,
    used: u64,
    bytes: usize,
}

/// Memory that a host of that name takes beside the host itself, in bytes.
fn beside(name: &str) -> usize {
    name.len()
        .saturating_add(ALLOCATION)
        .saturating_mul(2)
        .saturating_add(ENTRY)
}

impl Hosts {
    /// No hosts yet. `join_window` is the longest time over which evidence is joined, in milliseconds.
    pub fn new(join_window: i64) -> Hosts {
        Hosts {
            by_name: BTreeMap::new(),
            by_use: BTreeMap::new(),
            by_size: BTreeSet::new(),
            uses: 0,
            bytes: 0,
            pending: 0,
            held: 0,
            incidents: 0,
            popped: Box::default(),
            silent_ms: SILENT_MS.max(join_window),
        }
    }

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

    /// How many alerts wait for a record, or are held for a late connection.
    pub fn waiting(&self) -> usize {
        self.pending.saturating_add(self.held)
    }

    /// How many alerts wait for a record or a tick.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// How many incidents are followed.
    pub fn incidents(&self) -> usize {
        self.incidents
    }

    /// The name of the first host after `after`, in the order of names, that has an alert which is held for a late connection.
    /// `after` is empty for the very first.
    pub fn next_held(&self, after: &str) -> Option<Box<str>> {
        if self.held == 0 {
            return None;
        }
        let later = (Bound::Excluded(after), Bound::Unbounded);
        self.by_name
            .range::<str, _>(later)
            .find(|(_, entry)| entry.host.held() > 0)
            .map(|(name, _)| name.clone())
    }

    /// The whole name of the host that a record with a short name belongs to, at `now` (milliseconds of logged time): the one host
    /// with that label that logged its whole name within the last hour. `None` if there is none or more than one, and for a whole
    /// name: such a record's host has the name as it is.
    pub fn whole_name(&self, key: &str, now: i64) -> Option<Box<str>> {
        if !is_short(key) {
            return None;
        }
        let is_current = |entry: &Entry| {
            let last = entry.host.clock.now();
            last.is_some_and(|last| last.abs_diff(now) <= SAME_HOST_MS)
        };
        let mut current = self.with_label(key).filter(|(_, entry)| is_current(entry));
        match (current.next(), current.next()) {
            (Some((whole, _)), None) => Some(whole.into()),
            _ => None,
        }
    }

    /// The hosts whose whole names have this label.
    fn with_label(&self, label: &str) -> impl Iterator<Item = (&str, &Entry)> {
        // Between the dot and the character after it lie all names that go on with a dot.
        let (from, to) = ([label, "."].concat(), [label, "/"].concat());
        let range = (Bound::Included(&*from), Bound::Excluded(&*to));
        let hosts = self.by_name.range::<str, _>(range);
        hosts.map(|(name, entry)| (&**name, entry))
    }

    /// Gives a host that logs its whole name for the first time what was remembered under its short name, unless there is another
    /// host with that label.
    fn take_over(&mut self, name: &str) -> Option<Host> {
        let label = Some(label(name)).filter(|label| *label != name)?;
        if self.with_label(label).next().is_some() {
            return None;
        }
        self.take(label)
    }

    /// The host of that name. Does not count as a use of it.
    pub fn get(&self, name: &str) -> Option<&Host> {
        self.by_name.get(name).map(|entry| &entry.host)
    }

    /// A host that a record with this name may belong to: the host of that name, else one with that label.
    pub fn find(&self, key: &str) -> Option<&Host> {
        self.get(key).or_else(|| {
            let mut hosts = self.with_label(Some(key).filter(|key| is_short(key))?);
            hosts.next().map(|(_, entry)| &entry.host)
        })
    }

    /// Calls `work` with the host of that name, which is added if it is new, then evicts until the bounds hold.
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
                let host = self.take_over(name).unwrap_or_default();
                self.give(name, host);
                self.by_name.entry(name.into()).or_default()
            }
        };
        // In place: moving a host in and out of three maps costs more than most work.
        let (pending, held) = (entry.host.pending.len(), entry.host.held());
        let incidents = entry.host.incidents.len();
        let result = work(&mut entry.host, counters);
        let now = entry.host.clock.now();
        self.pending = self
            .pending
            .saturating_sub(pending)
            .saturating_add(entry.host.pending.len());
        self.held = self
            .held
            .saturating_sub(held)
            .saturating_add(entry.host.held());
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

    /// The host that was used next after the use numbered `used`, with the number of its last use and its name; `None` after the last.
    pub fn used_after(&self, used: u64) -> Option<(u64, &str, &Host)> {
        let (used, name) = self.by_use.range(used.saturating_add(1)..).next()?;
        self.by_name
            .get(name)
            .map(|entry| (*used, &**name, &entry.host))
    }

    /// Adds a host from a snapshot, as the one used last. It replaces one of that name.
    pub fn restore(&mut self, name: &str, host: Host, limits: &Limits, counters: &mut Counters) {
        self.take(name);
        self.with(name, limits, counters, |place, _| *place = host);
    }

    /// Removes and returns the oldest waiting alert of a host, with the host's name as it was last logged. Hosts take turns in the
    /// order of their names, each until none of its alerts waits.
    pub fn pop_pending(&mut self) -> Option<(Pending, Rc<str>)> {
        if self.pending == 0 {
            return None;
        }
        let from_last = (Bound::Included(&*self.popped), Bound::Unbounded);
        let waits = |entry: &Entry| !entry.host.pending.is_empty();
        let mut later = self.by_name.range::<str, _>(from_last);
        let next = later.find(|(_, entry)| waits(entry));
        let mut all = self.by_name.iter();
        let name = next
            .or_else(|| all.find(|(_, entry)| waits(entry)))?
            .0
            .clone();
        let mut host = self.take(&name)?;
        let pending = host.pending.pop_front();
        let computer = Rc::clone(&host.computer);
        self.give(&name, host);
        self.popped = name;
        pending.map(|pending| (pending, computer))
    }

    fn take(&mut self, name: &str) -> Option<Host> {
        let entry = self.by_name.remove(name)?;
        self.by_use.remove(&entry.used);
        self.by_size.remove(&(entry.bytes, entry.used));
        self.bytes = self.bytes.saturating_sub(entry.bytes);
        self.pending = self.pending.saturating_sub(entry.host.pending.len());
        self.held = self.held.saturating_sub(entry.host.held());
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
        self.pending = self.pending.saturating_add(host.pending.len());
        self.held = self.held.saturating_add(host.held());
        self.incidents = self.incidents.saturating_add(host.incidents.len());
        self.by_use.insert(used, name.into());
        self.by_size.insert((bytes, used));
        self.by_name
            .insert(name.into(), Entry { host, used, bytes });
    }

    /// Forgets the host that was unused longest, if possible one without an open incident.
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

    /// Forgets one of the hosts that were unused longest if it is silent by the clock of the host that needs room. A host whose clock
    /// is set far ahead gains no more room by this than its own evidence takes.
    fn forget_silent(&mut self, now: i64) -> bool {
        let silent = |name: &str| {
            self.by_name.get(name).is_some_and(|entry| {
                entry.host.waiting() == 0
                    && entry
                        .host
                        .clock
                        .latest()
                        .is_none_or(|last| now.saturating_sub(last) > self.silent_ms)
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

    /// Makes the host that holds the most evict its least valuable evidence; a host with nothing left is forgotten.
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
            // It keeps its place in the order of use.
            self.insert(&name, host, used);
        }
        true
    }
}
