//! The filter: the road of a record through all the parts, from bytes to the text that is to be added to it.

use crate::alert;
use crate::chain::{CHAINS, Chain};
use crate::counters::{Counters, add};
use crate::event::{Event, Kind, Reject};
use crate::evidence::{self, Evidence, Outcome, Shelf};
use crate::incident;
use crate::normalize::time;
use crate::policy::Policy;
use crate::record::shapes::{PRODUCERS, PathTable};
use crate::record::{self, Fault, Fields, Interest, scan};
use crate::state::host::Host;
use crate::state::hosts::Hosts;
use crate::state::locker::Put;
use std::rc::Rc;

/// The whole filter, with its state. Knows nothing of pointers; the module's ABI and the tests both use it.
pub struct Filter {
    policy: Policy,
    table: PathTable,
    chains: Vec<&'static dyn Chain>,
    /// Bit n: Sysmon event n is wanted. No id above 31 is.
    wanted: u32,
    hosts: Hosts,
    counters: Counters,
    stats_at: Option<i64>,
}

/// What the chains in use are interested in.
struct Wanted {
    /// Bit n: Sysmon event n.
    ids: u32,
    /// Whether events that are no evidence matter too.
    all: bool,
}

impl Interest for Wanted {
    fn wants(&self, event_id: u32) -> bool {
        self.ids.checked_shr(event_id).is_some_and(|bits| bits & 1 == 1)
    }

    fn is_hopeless(&self, event_id: u32, so_far: &Fields<'_>) -> bool {
        !self.all && Kind::of(event_id).is_some_and(|kind| evidence::is_surely_irrelevant(kind, so_far))
    }
}

/// Text to add to a record.
#[derive(Debug, PartialEq, Eq)]
pub struct Splice {
    /// Where it goes: the offset of the record's last brace.
    pub at: usize,
    /// What goes there.
    pub text: String,
}

/// The key that is used when a record already has the policy's.
pub const SECOND_KEY: &str = "detection_psexec_filter";

impl Filter {
    /// A filter without memories.
    pub fn new(policy: Policy) -> Filter {
        let chains: Vec<&'static dyn Chain> = CHAINS.into_iter().filter(|chain| chain.enabled(&policy)).collect();
        let ids =
            (0..32u32).filter(|id| Kind::of(*id).is_some_and(|kind| chains.iter().any(|chain| chain.shelves().contains(&Shelf::of(kind)))));
        let wanted = ids.fold(0, |bits, id| bits | 1u32.wrapping_shl(id));
        Filter {
            policy,
            table: PathTable::new(PRODUCERS),
            chains,
            wanted,
            hosts: Hosts::default(),
            counters: Counters::default(),
            stats_at: None,
        }
    }

    /// A filter with the policy in `json`; with the defaults, and a count of it, if that is none.
    pub fn from_json(json: &str) -> Filter {
        match serde_json::from_str(json) {
            Ok(policy) => Filter::new(policy),
            Err(_) => {
                let mut filter = Filter::new(Policy::default());
                filter.counters.policy_refused = 1;
                filter
            }
        }
    }

    /// Takes a record. `None` leaves it as it is.
    ///
    /// `seconds` and `nanoseconds` are the time that the shipper passes, 0 if none.
    pub fn process(&mut self, record: &[u8], seconds: u32, nanoseconds: u32) -> Option<Splice> {
        add(&mut self.counters.records);
        if record.len() > self.policy.limits.max_record_bytes.get() {
            self.counters.fault(Fault::TooLarge);
            return None;
        }
        // While an alert waits for a record, every event with a wanted id may carry it.
        let interest = Wanted { ids: self.wanted, all: self.hosts.pending() > 0 };
        let fields = match record::read(record, &self.table, &interest) {
            Ok(Some(fields)) => fields,
            Ok(None) => return None,
            Err(fault) => {
                self.counters.fault(fault);
                return None;
            }
        };
        self.process_event(record, &fields, time::from_shipper(seconds, nanoseconds))
    }

    fn process_event(&mut self, record: &[u8], fields: &Fields<'_>, shipper_time: Option<time::Timestamp>) -> Option<Splice> {
        let event = match Event::new(fields, shipper_time) {
            Ok(event) => event,
            Err(reject) => {
                add(match reject {
                    Reject::NotSysmon => &mut self.counters.not_sysmon,
                    Reject::NoHost => &mut self.counters.no_host,
                    Reject::NoTime => &mut self.counters.no_time,
                });
                return None;
            }
        };
        add(&mut self.counters.events);
        if fields.duplicates > 0 {
            add(&mut self.counters.duplicate_keys);
        }
        if fields.has_invalid_utf8() {
            add(&mut self.counters.invalid_utf8);
        }
        let (policy, chains) = (&self.policy, &self.chains);
        let splice = self.hosts.with(&event.host, &policy.limits, &mut self.counters, |host, counters| {
            if let Some(evidence) = examine(&event, host, policy, chains, counters) {
                judge(&evidence, &event, host, policy, chains, counters);
            }
            // The oldest alert that waits on this host rides on this record, whatever the record is.
            let oldest = host.pending.pop_front()?;
            match splice(record, policy, &oldest, counters) {
                Some(splice) => Some(splice),
                None => {
                    add(&mut counters.put_off);
                    host.pending.push_front(oldest);
                    None
                }
            }
        });
        splice.or_else(|| self.stats_due(record, event.time.ms))
    }

    /// The counters as something to add to the record, when the policy's interval has passed.
    fn stats_due(&mut self, record: &[u8], now: i64) -> Option<Splice> {
        let interval = self.policy.alert.stats_interval.0.unsigned_abs();
        if interval == 0 {
            return None;
        }
        match self.stats_at {
            Some(at) if at.abs_diff(now) < interval => None,
            None => {
                self.stats_at = Some(now);
                None
            }
            Some(_) => {
                self.stats_at = Some(now);
                let stats = self.stats();
                splice(record, &self.policy, &stats, &mut self.counters)
            }
        }
    }

    /// The next alert that waits for a record, for hosts that can take one without.
    pub fn flush(&mut self) -> Option<String> {
        self.hosts.pop_pending()
    }

    /// The counters, and how much is remembered, as JSON.
    pub fn stats(&self) -> String {
        alert::write_stats(&self.counters, self.hosts.len(), self.hosts.bytes())
    }

    /// The counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Memory held for all hosts, in bytes.
    pub fn state_bytes(&self) -> usize {
        self.hosts.bytes()
    }

    /// How many hosts are remembered.
    pub fn hosts(&self) -> usize {
        self.hosts.len()
    }

    /// Notes that an earlier call did not return and this filter stands in for the one that was lost.
    pub fn count_restart(&mut self) {
        add(&mut self.counters.restarts);
    }
}

/// Reads the evidence out of an event and puts it into the host's locker. `None` if there is nothing new.
fn examine(
    event: &Event<'_>,
    host: &mut Host,
    policy: &Policy,
    chains: &[&'static dyn Chain],
    counters: &mut Counters,
) -> Option<Rc<Evidence>> {
    if host.clock.observe(event.time.ms) {
        add(&mut counters.clock_jumps);
    }
    host.own.learn(event);
    let evidence = match Evidence::from_event(event, &host.own, policy) {
        Outcome::Fact(evidence) => evidence,
        Outcome::Irrelevant => return None,
        Outcome::Incomplete => {
            add(&mut counters.incomplete);
            return None;
        }
    };
    if !chains.iter().any(|chain| chain.wants(&evidence, policy)) {
        return None;
    }
    let evidence = Rc::new(evidence);
    let windows = &policy.windows;
    let keep = windows.connection_before.max(windows.file_to_process).0.saturating_add(windows.connection_after.0);
    match host.locker.put(&evidence, policy.limits.evidence_per_host.get(), &host.clock, keep, windows.clock_tolerance.0) {
        Put::Duplicate => {
            add(&mut counters.evidence_duplicate);
            None
        }
        Put::Kept { evicted } => {
            add(&mut counters.evidence);
            counters.evicted_evidence = counters.evicted_evidence.saturating_add(evicted as u64);
            Some(evidence)
        }
    }
}

/// Asks every chain that wants the piece about each of its anchors on the host; what is to be alerted joins the
/// host's waiting alerts.
fn judge(
    evidence: &Rc<Evidence>,
    event: &Event<'_>,
    host: &mut Host,
    policy: &Policy,
    chains: &[&'static dyn Chain],
    counters: &mut Counters,
) {
    for chain in chains.iter().filter(|chain| chain.wants(evidence, policy)) {
        let anchors: Vec<Rc<Evidence>> = if evidence.shelf() == chain.anchor() {
            vec![Rc::clone(evidence)]
        } else {
            host.locker.shelf(chain.anchor()).filter(|anchor| chain.wants(anchor, policy)).cloned().collect()
        };
        for anchor in anchors {
            // Only a finding that the new piece is part of can have changed.
            let Some(finding) = chain.judge(&anchor, &host.locker, policy).filter(|finding| finding.holds(evidence)) else { continue };
            let Some(index) = incident::absorb(host, &event.host, *chain, finding, policy, counters) else { continue };
            let Some(incident) = host.incidents.get(index) else { continue };
            let alert = alert::write(incident, &event.computer);
            if host.pending.len() >= policy.limits.pending_per_host.get() {
                host.pending.pop_front();
                add(&mut counters.evicted_pending);
            }
            host.pending.push_back(alert);
        }
    }
}

/// Where and under which key `object` can be added to `record`; `None` if it cannot.
fn splice(record: &[u8], policy: &Policy, object: &str, counters: &mut Counters) -> Option<Splice> {
    let first = policy.alert.key.as_str();
    let found = scan::check_object(record, [first, SECOND_KEY]).ok()?;
    let key = match found.has {
        [false, _] => first,
        [true, false] => {
            add(&mut counters.key_taken);
            SECOND_KEY
        }
        [true, true] => return None,
    };
    let comma = if found.empty { "" } else { "," };
    Some(Splice { at: found.last_brace, text: format!("{comma}\"{key}\":{object}") })
}
