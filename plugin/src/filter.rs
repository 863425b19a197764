//! The filter: the way of a record through all the parts, from its bytes to the text that is to be added to it.

use crate::alert;
use crate::chain::Policy;
use crate::correlate::{Correlator, Work, release_held};
use crate::counters::{Counters, add};
use crate::event::{Event, HostNames, Reject};
use crate::evidence::{self, EVENT_IDS, Known, Prefilters, TrackedProcesses};
use crate::hosts::Hosts;
use crate::normalize::time;
use crate::record::{self, Fault, Fields, Prefilter, Reader};
use crate::snapshot::{self, Progress, Remembered};
use crate::splice::Splice;
use std::rc::Rc;

/// The whole filter, with its state. Knows nothing of pointers; the module's ABI and the tests both use it.
pub struct Filter {
    policy: Policy,
    reader: Reader,
    wanted: WantedIds,
    prefilters: Prefilters,
    correlator: Correlator,
    tracked: TrackedProcesses,
    names: HostNames,
    hosts: Hosts,
    counters: Counters,
    /// When the counters were last added to a record, in milliseconds.
    stats_at: Option<i64>,
    saving: Progress,
}

/// The ids of the events that the techniques in use want.
#[derive(Default)]
struct WantedIds {
    /// A bit for each id below 64. Asked for nearly every record, so it has to be cheap.
    small: u64,
    large: Vec<u32>,
}

impl WantedIds {
    fn new(correlator: &Correlator) -> WantedIds {
        let mut wanted = WantedIds::default();
        for (id, kinds) in EVENT_IDS {
            if !kinds.iter().any(|kind| correlator.wants_kind(*kind)) {
                continue;
            }
            match 1u64.checked_shl(*id) {
                Some(bit) => wanted.small |= bit,
                None => wanted.large.push(*id),
            }
        }
        wanted
    }

    fn has(&self, id: u32) -> bool {
        match 1u64.checked_shl(id) {
            Some(bit) => self.small & bit != 0,
            None => self.large.contains(&id),
        }
    }
}

/// Ends the reading of a record as soon as it is certain that nobody wants it.
struct EarlyEnd<'f> {
    wanted: &'f WantedIds,
    prefilters: &'f Prefilters,
    tracked: &'f TrackedProcesses,
    names: &'f HostNames,
    hosts: &'f Hosts,
    /// Whether an alert of any host waits for a record: every wanted event of that host can carry it.
    is_alert_waiting: bool,
}

impl Prefilter for EarlyEnd<'_> {
    fn wants(&self, event_id: u32) -> bool {
        self.wanted.has(event_id)
    }

    fn fields(&self, event_id: u32) -> u64 {
        let host = if self.is_alert_waiting {
            record::Field::Computer.bit()
        } else {
            0
        };
        Prefilters::fields(event_id) | host
    }

    fn rejects(&self, event_id: u32, so_far: &Fields<'_>) -> bool {
        let host = || self.hosts.get(&self.names.of(so_far)?.key);
        if self.is_alert_waiting {
            // The event may carry the alert if it is of that host, or if another host may still be named as its own.
            let is_of_another =
                so_far.has_certain_host() && host().is_none_or(|host| host.waiting() == 0);
            if !is_of_another {
                return false;
            }
        }
        let known = Known {
            tracked: self.tracked,
            owns: &|ip| host().is_some_and(|host| host.own.contains(ip)),
        };
        self.prefilters.rejects(event_id, so_far, &known)
    }
}

impl Filter {
    /// A filter that remembers nothing yet.
    pub fn new(policy: Policy) -> Filter {
        let correlator = Correlator::new(&policy);
        Filter {
            policy,
            reader: Reader::default(),
            wanted: WantedIds::new(&correlator),
            prefilters: Prefilters::new(correlator.needs()),
            tracked: TrackedProcesses::default(),
            names: HostNames::default(),
            hosts: Hosts::new(correlator.join_window()),
            correlator,
            counters: Counters::default(),
            stats_at: None,
            saving: Progress::default(),
        }
    }

    /// A filter with the policy in `json`. With the default policy, and `policy_refused` counted, if `json` is not a policy.
    pub fn from_json(json: &str) -> Filter {
        match Policy::from_json(json) {
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
    /// `seconds` and `nanoseconds` are the time that the shipper passes with the record, 0 if it passes none.
    pub fn process(&mut self, record: &[u8], seconds: u32, nanoseconds: u32) -> Option<Splice> {
        add(&mut self.counters.records);
        if record.len() > self.policy.limits.max_record_bytes.get() {
            self.counters.fault(Fault::TooLarge);
            return None;
        }
        let early_end = EarlyEnd {
            wanted: &self.wanted,
            prefilters: &self.prefilters,
            tracked: &self.tracked,
            names: &self.names,
            hosts: &self.hosts,
            is_alert_waiting: self.hosts.waiting() > 0,
        };
        let fields = match record::read(record, &mut self.reader, &early_end) {
            Ok(Some(fields)) => fields,
            Ok(None) => return None,
            Err(fault) => {
                self.counters.fault(fault);
                return None;
            }
        };
        self.process_event(record, &fields, time::from_shipper(seconds, nanoseconds))
    }

    /// Not inlined: most records do not come here, and each call of a function pays for all its locals.
    #[inline(never)]
    fn process_event(
        &mut self,
        record: &[u8],
        fields: &Fields<'_>,
        shipper_time: Option<time::Timestamp>,
    ) -> Option<Splice> {
        let id = fields.event_id();
        let provider = id.and_then(evidence::provider_of);
        let event = match id.zip(provider) {
            Some((id, provider)) => Event::new(fields, id, provider, shipper_time, &self.names),
            None => Err(Reject::WrongProvider),
        };
        let event = match event {
            Ok(event) => event,
            Err(reject) => {
                self.counters.reject(reject);
                return None;
            }
        };
        add(&mut self.counters.events);
        if fields.duplicates > 0 {
            add(&mut self.counters.duplicate_keys);
        }
        if fields.has_truncated_text() || fields.is_truncated.get() {
            add(&mut self.counters.text_cut);
        }
        let (policy, correlator, tracked) = (&self.policy, &self.correlator, &mut self.tracked);
        let (key, limits) = (&event.host.key, &policy.limits);
        let splice = self
            .hosts
            .with(key, limits, &mut self.counters, |host, counters| {
                host.computer = Rc::clone(&event.host.computer);
                let mut work = Work {
                    policy,
                    tracked,
                    counters,
                };
                correlator.take(&event, host, &mut work);
                release_held(host, Some(event.time.ms), &mut work);
                // The oldest alert that waits on this host is added to this record, whatever the record is.
                let oldest = host.pending.pop_front()?;
                let splice =
                    Splice::new(record, policy.alert.key.as_str(), &oldest.alert, counters);
                if splice.is_none() {
                    add(&mut counters.put_off);
                    host.pending.push_front(oldest);
                }
                splice
            });
        if fields.invalid_utf8.get() {
            add(&mut self.counters.invalid_utf8);
        }
        splice.or_else(|| self.stats_due(record, event.time.ms))
    }

    /// The counters as text to add to the record, if the policy's interval has passed. `now` in milliseconds.
    fn stats_due(&mut self, record: &[u8], now: i64) -> Option<Splice> {
        let interval = self.policy.alert.stats_interval.0.unsigned_abs();
        if interval == 0 {
            return None;
        }
        let last = self.stats_at;
        if last.is_some_and(|last| last.abs_diff(now) < interval) {
            return None;
        }
        self.stats_at = Some(now);
        last?;
        let stats = self.stats();
        let key = self.policy.alert.key.as_str();
        Splice::new(record, key, &stats, &mut self.counters)
    }

    /// The next alert that waits for a record or for a late connection, for callers that can take one without a record.
    pub fn flush(&mut self) -> Option<String> {
        let (policy, tracked) = (&self.policy, &mut self.tracked);
        while let Some(name) = self.hosts.next_held() {
            let counters = &mut self.counters;
            self.hosts
                .with(&name, &policy.limits, counters, |host, counters| {
                    let mut work = Work {
                        policy,
                        tracked: &mut *tracked,
                        counters,
                    };
                    release_held(host, None, &mut work);
                });
        }
        self.hosts.pop_pending()
    }

    /// The next piece of a snapshot of everything that is remembered, as JSON for [`Filter::restore`]; `None` after the last one,
    /// after which the next snapshot begins.
    pub fn save_next(&mut self) -> Option<String> {
        let remembered = Remembered {
            tracked: &mut self.tracked,
            stats_at: &mut self.stats_at,
            hosts: &mut self.hosts,
        };
        self.saving.next(&remembered, &mut self.counters)
    }

    /// Takes in a piece of a snapshot. False, and nothing is changed, if it is damaged or of another format.
    pub fn restore(&mut self, piece: &[u8]) -> bool {
        let remembered = Remembered {
            tracked: &mut self.tracked,
            stats_at: &mut self.stats_at,
            hosts: &mut self.hosts,
        };
        snapshot::restore(piece, remembered, &self.policy.limits, &mut self.counters)
    }

    /// The counters, and how much is remembered, as JSON.
    pub fn stats(&self) -> String {
        alert::write_stats(&self.counters, &self.hosts)
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

    /// Sets how many filters before this one were given up because a call did not return.
    pub fn set_restarts(&mut self, restarts: u32) {
        self.counters.restarts = u64::from(restarts);
    }
}
