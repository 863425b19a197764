//! The filter: the way of a record through all the parts, from its bytes to the text that is to be added to it.

use crate::alert;
use crate::chain::Policy;
use crate::correlate::{Correlator, Release, Taken, Work, release_held};
use crate::counters::{Counters, add};
use crate::edge;
use crate::event::{Event, HostNames, Reject};
use crate::evidence::{self, EVENT_IDS, Known, Prefilters, TrackedProcesses};
use crate::hosts::Hosts;
use crate::normalize::time;
use crate::record::{self, Fault, Fields, Prefilter, Reader};
use crate::settings::{Emit, Pass};
use crate::snapshot::{self, Progress, Remembered};
use crate::splice::{Answer, Splice};
use crate::tick::{self, Ticks};

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
    ticks: Ticks,
    counters: Counters,
    /// When the counters were last added to a record, in milliseconds.
    stats_at: Option<i64>,
    saving: Progress,
}

/// How many alerts may wait for a tick where `alert.emit` asks for records of their own. Beyond it alerts are added to log records.
const MAX_FOR_TICKS: usize = 64;

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
        let host = || self.hosts.find(&self.names.of(so_far)?.key);
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
            reader: Reader::default(),
            wanted: WantedIds::new(&correlator),
            prefilters: Prefilters::new(correlator.needs()),
            tracked: TrackedProcesses::default(),
            names: HostNames::new(policy.host.default.as_str()),
            hosts: Hosts::new(correlator.join_window()),
            correlator,
            ticks: Ticks::default(),
            counters: Counters::default(),
            stats_at: None,
            saving: Progress::default(),
            policy,
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

    /// Takes a record or a tick, and returns what leaves in its place.
    ///
    /// `seconds` and `nanoseconds` are the time that the shipper passes with the record, 0 if it passes none.
    pub fn process(&mut self, record: &[u8], seconds: u32, nanoseconds: u32) -> Answer {
        match tick::kind(record) {
            tick::Kind::Record => {}
            tick::Kind::Tick => return self.tick(time::from_shipper(seconds, nanoseconds)),
            tick::Kind::Other => add(&mut self.counters.bad_ticks),
        }
        add(&mut self.counters.records);
        if record.len() > self.policy.limits.max_record_bytes.get() {
            self.counters.fault(Fault::TooLarge);
            return Answer::Unchanged;
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
            Ok(None) if self.policy.alert.pass == Pass::All => return Answer::Unchanged,
            Ok(None) => return self.unwanted(record, time::from_shipper(seconds, nanoseconds)),
            Err(fault) => {
                self.counters.fault(fault);
                return Answer::Unchanged;
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
    ) -> Answer {
        let id = fields.event_id();
        let provider = id.and_then(evidence::provider_of);
        let event = match id.zip(provider) {
            Some((id, provider)) => Event::new(fields, id, provider, shipper_time, &self.names),
            None => Err(Reject::WrongProvider),
        };
        let mut event = match event {
            Ok(event) => event,
            Err(reject) => {
                self.counters.reject(reject);
                return match reject {
                    Reject::WrongProvider => self.without_alert(fields, shipper_time),
                    // It could not be read in full.
                    Reject::NoHost | Reject::NoTime => Answer::Unchanged,
                };
            }
        };
        add(&mut self.counters.events);
        if fields.duplicates > 0 {
            add(&mut self.counters.duplicate_keys);
        }
        if fields.has_truncated_text() || fields.is_truncated.get() {
            add(&mut self.counters.text_cut);
        }
        if !event.time.zoned {
            let host = self.hosts.find(&event.host.key);
            event.time = event.time.in_zone(host.and_then(|host| host.ahead));
        }
        let (policy, correlator, tracked) = (&self.policy, &self.correlator, &mut self.tracked);
        let whole_name = self.hosts.whole_name(&event.host.key, event.time.ms);
        let key = whole_name.as_deref().unwrap_or(&event.host.key);
        let limits = &policy.limits;
        let is_queued =
            policy.alert.emit == Emit::Record && self.ticks.are_coming(self.counters.records);
        let (ticks, pending) = (&mut self.ticks, self.hosts.pending());
        let (taken, splice) = self
            .hosts
            .with(key, limits, &mut self.counters, |host, counters| {
                host.name(&event.host.computer);
                if let Some(ahead) = event.ahead.filter(|ahead| host.ahead != Some(*ahead)) {
                    host.learn_zone(ahead);
                }
                let of_others = pending.saturating_sub(host.pending.len());
                let mut work = Work {
                    policy,
                    tracked,
                    ticks,
                    counters,
                };
                let mut taken = correlator.take(&event, host, &mut work);
                release_held(host, Release::DueAt(event.time.ms), &mut work);
                if is_queued {
                    if of_others.saturating_add(host.pending.len()) <= MAX_FOR_TICKS {
                        return (taken, None);
                    }
                    add(&mut counters.tagged_queue_full);
                }
                // The oldest alert that waits on this host is added to this record, whatever the record is.
                let Some(oldest) = host.pending.pop_front() else {
                    return (taken, None);
                };
                let key = policy.alert.key.as_str();
                let splice = Splice::new(record, key, &oldest.alert, counters);
                if splice.is_none() {
                    add(&mut counters.put_off);
                    host.pending.push_front(oldest);
                    taken = Taken::Incomplete;
                }
                (taken, splice)
            });
        if fields.invalid_utf8.get() {
            add(&mut self.counters.invalid_utf8);
        }
        if let Some(splice) = splice.or_else(|| self.stats_due(record, event.time.ms)) {
            return Answer::Add(splice);
        }
        match taken {
            Taken::Incomplete => Answer::Unchanged,
            Taken::Evidence if self.policy.alert.pass == Pass::Evidence => Answer::Unchanged,
            Taken::Evidence | Taken::Unwanted => self.without_alert(fields, shipper_time),
        }
    }

    /// What becomes of a record that no technique wants, where not all records leave.
    #[cold]
    #[inline(never)]
    fn unwanted(&mut self, record: &[u8], shipper_time: Option<time::Timestamp>) -> Answer {
        match record::read(record, &mut self.reader, &edge::Everything) {
            Ok(Some(fields)) => self.without_alert(&fields, shipper_time),
            Ok(None) | Err(_) => Answer::Unchanged,
        }
    }

    /// What becomes of a record that has no alert and is not evidence, or is not to leave as evidence.
    fn without_alert(
        &mut self,
        fields: &Fields<'_>,
        shipper_time: Option<time::Timestamp>,
    ) -> Answer {
        let pass = self.policy.alert.pass;
        let host = |key: &str| self.hosts.find(key);
        if pass == Pass::All || edge::leaves(pass, fields, shipper_time, &self.names, host) {
            return Answer::Unchanged;
        }
        add(&mut self.counters.dropped);
        Answer::Drop
    }

    /// Takes a tick: releases what is due, and sends one alert or the counters as a record of its own.
    #[inline(never)]
    fn tick(&mut self, now: Option<time::Timestamp>) -> Answer {
        add(&mut self.counters.ticks);
        let now_ms = now.map(|now| now.ms);
        self.ticks.advance(now_ms, self.counters.records);
        if self.ticks.take_due() {
            self.release(Release::DueByTicks);
        }
        let key = self.policy.alert.key.as_str();
        let (own, object) = if let Some((pending, computer)) = self.hosts.pop_pending() {
            let own = alert::write_record(&computer, pending.last_seen, now);
            (own, pending.alert)
        } else if self
            .ticks
            .take_stats_due(self.policy.alert.stats_interval.0)
        {
            (alert::write_stats_record(now), self.stats())
        } else {
            return Answer::Drop;
        };
        let splice = Splice::new(own.as_bytes(), key, &object, &mut self.counters);
        match splice.and_then(|splice| splice.apply(&own)) {
            Some(whole) => Answer::Replace(whole),
            None => Answer::Drop,
        }
    }

    /// Releases held alerts of all hosts; they then wait for a record or a tick.
    fn release(&mut self, release: Release) {
        let (policy, tracked, ticks) = (&self.policy, &mut self.tracked, &mut self.ticks);
        let mut last = Box::default();
        while let Some(name) = self.hosts.next_held(&last) {
            let counters = &mut self.counters;
            self.hosts
                .with(&name, &policy.limits, counters, |host, counters| {
                    let mut work = Work {
                        policy,
                        tracked: &mut *tracked,
                        ticks: &mut *ticks,
                        counters,
                    };
                    release_held(host, release, &mut work);
                    let held = host.incidents.iter();
                    let held = held.filter(|incident| incident.held_until.is_some());
                    if let Some(at) = held.map(|incident| incident.held_at).min() {
                        ticks.expect(at.saturating_add(policy.windows.grace.0));
                    }
                });
            last = name;
        }
    }

    /// The counters as text to add to the record, if the policy's interval has passed. `now` in milliseconds.
    fn stats_due(&mut self, record: &[u8], now: i64) -> Option<Splice> {
        let interval = self.policy.alert.stats_interval.0.unsigned_abs();
        if interval == 0 || self.ticks.are_coming(self.counters.records) {
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
        self.release(Release::All);
        self.hosts.pop_pending().map(|(pending, _)| pending.alert)
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
        // Which alerts are held, and how long, is found at the next tick.
        self.ticks.expect(0);
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
