//! The filter: the road of a record through all the parts, from bytes to the text that is to be added to it.

use crate::alert;
use crate::chain::{CHAINS, Chain, service};
use crate::counters::{Counters, add};
use crate::event::{Event, HostNames, Kind, Reject};
use crate::evidence::{Evidence, Fact, Outcome, Shelf, Sieve};
use crate::incident;
use crate::normalize::time;
use crate::policy::Policy;
use crate::record::{self, Fault, Fields, Interest, Reader, scan};
use crate::state::host::{Host, Pending};
use crate::state::hosts::Hosts;
use crate::state::locker::Put;
use crate::state::watch::Watch;
use serde::{Deserialize, Serialize};
use std::rc::Rc;

/// The whole filter, with its state. Knows nothing of pointers; the module's ABI and the tests both use it.
pub struct Filter {
    policy: Policy,
    reader: Reader,
    chains: Vec<&'static dyn Chain>,
    wanted: Vec<Kind>,
    /// The shelves that hold the anchors of the chains in use.
    anchors: Vec<Shelf>,
    sieve: Sieve,
    watch: Watch,
    names: HostNames,
    hosts: Hosts,
    counters: Counters,
    stats_at: Option<i64>,
    /// How far [`Filter::save_next`] is: the use of the last host it gave; `None` before the head.
    saved: Option<u64>,
}

/// What is saved before the hosts. Not the counters: they tell of one instance, and whoever reads them knows resets.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedHead {
    state: u32,
    watch: Watch,
    stats_at: Option<i64>,
}

/// A host as it is saved; generic over whether it is borrowed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedHost<N, H> {
    name: N,
    host: H,
}

/// A host whose saved form is longer than this many bytes is not saved: there must be room for it beside all state. Only a host
/// whose every command line was written to be long comes near it.
const MAX_SAVED_HOST: usize = 1024 * 1024;

/// Text of no more than [`MAX_SAVED_HOST`] bytes.
struct Limited(Vec<u8>);

impl std::io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len().saturating_add(bytes.len()) > MAX_SAVED_HOST
            || self.0.try_reserve(bytes.len()).is_err()
        {
            return Err(std::io::ErrorKind::OutOfMemory.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Number of the form that state is saved in. Another number is refused.
pub const STATE_FORMAT: u32 = 1;

/// What the chains in use are interested in.
struct Wanted<'f> {
    kinds: &'f [Kind],
    sieve: &'f Sieve,
    watch: &'f Watch,
    names: &'f HostNames,
    hosts: &'f Hosts,
    /// Whether events that are no evidence matter too.
    all: bool,
}

impl Interest for Wanted<'_> {
    fn wants(&self, event_id: u32) -> bool {
        Kind::of(event_id).is_some_and(|kind| self.kinds.contains(&kind))
    }

    fn deciding(&self, event_id: u32) -> u64 {
        Kind::of(event_id).map_or(0, Sieve::deciding)
    }

    fn is_hopeless(&self, event_id: u32, so_far: &Fields<'_>) -> bool {
        let host = || self.hosts.get(&self.names.of(so_far)?.key);
        let owns = |ip| host().is_some_and(|host| host.own.contains(ip));
        !self.all
            && Kind::of(event_id)
                .is_some_and(|kind| self.sieve.rules_out(kind, so_far, self.watch, &owns))
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
        let chains: Vec<&'static dyn Chain> = CHAINS
            .into_iter()
            .filter(|chain| chain.enabled(&policy))
            .collect();
        let wanted = distinct(
            chains
                .iter()
                .flat_map(|chain| chain.shelves())
                .flat_map(|shelf| shelf.kinds()),
        );
        let anchors = distinct(chains.iter().flat_map(|chain| chain.anchors()));
        let sieve = Sieve::new(&policy);
        Filter {
            policy,
            reader: Reader::default(),
            chains,
            wanted,
            anchors,
            sieve,
            watch: Watch::default(),
            names: HostNames::default(),
            hosts: Hosts::default(),
            counters: Counters::default(),
            stats_at: None,
            saved: None,
        }
    }

    /// A filter with the policy in `json`; with the defaults, and a count of it, if that is none.
    pub fn from_json(json: &str) -> Filter {
        match serde_json::from_str::<Policy>(json) {
            Ok(policy) if policy.make_patterns().is_ok() => Filter::new(policy),
            _ => {
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
        let all = self.hosts.waiting() > 0;
        let interest = Wanted {
            kinds: &self.wanted,
            sieve: &self.sieve,
            watch: &self.watch,
            names: &self.names,
            hosts: &self.hosts,
            all,
        };
        let fields = match record::read(record, &mut self.reader, &interest) {
            Ok(Some(fields)) => fields,
            Ok(None) => return None,
            Err(fault) => {
                self.counters.fault(fault);
                return None;
            }
        };
        self.process_event(record, &fields, time::from_shipper(seconds, nanoseconds))
    }

    /// Apart from the above, because most records do not come so far, and all pay for what a function holds.
    #[inline(never)]
    fn process_event(
        &mut self,
        record: &[u8],
        fields: &Fields<'_>,
        shipper_time: Option<time::Timestamp>,
    ) -> Option<Splice> {
        let event = match Event::new(fields, shipper_time, &self.names) {
            Ok(event) => event,
            Err(reject) => {
                add(match reject {
                    Reject::WrongProvider => &mut self.counters.wrong_provider,
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
        if fields.has_cut_text() || fields.is_cut.get() {
            add(&mut self.counters.text_cut);
        }
        let (policy, chains, anchors, watch) =
            (&self.policy, &self.chains, &self.anchors, &mut self.watch);
        let splice = self.hosts.with(
            &event.host.key,
            &policy.limits,
            &mut self.counters,
            |host, counters| {
                host.computer = Rc::clone(&event.host.computer);
                if let Some(evidence) = examine(&event, host, policy, chains, watch, counters) {
                    service::note(&evidence, &host.locker, policy);
                    if has_near(&evidence, anchors, host, policy) {
                        judge(
                            &evidence,
                            &event.host.key,
                            host,
                            policy,
                            chains,
                            watch,
                            counters,
                        );
                    }
                }
                while let Some(index) =
                    incident::overdue(host, Some(event.time.ms), policy, counters)
                {
                    queue(host, index, policy, counters);
                }
                // The oldest alert that waits on this host rides on this record, whatever the record is.
                let oldest = host.pending.pop_front()?;
                match splice(record, policy, &oldest.alert, counters) {
                    Some(splice) => Some(splice),
                    None => {
                        add(&mut counters.put_off);
                        host.pending.push_front(oldest);
                        None
                    }
                }
            },
        );
        if fields.invalid_utf8.get() {
            add(&mut self.counters.invalid_utf8);
        }
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
        let (policy, counters) = (&self.policy, &mut self.counters);
        // What is held for a late connection will not get one any more.
        while let Some(name) = self.hosts.next_held() {
            self.hosts
                .with(&name, &policy.limits, counters, |host, counters| {
                    while let Some(index) = incident::overdue(host, None, policy, counters) {
                        queue(host, index, policy, counters);
                    }
                });
        }
        self.hosts.pop_pending()
    }

    /// The next piece of everything that is remembered, as JSON for [`Filter::restore`]; `None` behind the last one, after
    /// which it begins anew. In pieces, so that no more than one host is in memory twice.
    pub fn save_next(&mut self) -> Option<String> {
        let Some(used) = self.saved else {
            self.saved = Some(0);
            let head = SavedHead {
                state: STATE_FORMAT,
                watch: self.watch.clone(),
                stats_at: self.stats_at,
            };
            return serde_json::to_string(&head).ok();
        };
        let mut last = used;
        while let Some((used, name, host)) = self.hosts.used_after(last) {
            let mut piece = Limited(Vec::new());
            if serde_json::to_writer(&mut piece, &SavedHost { name, host }).is_ok() {
                self.saved = Some(used);
                return String::from_utf8(piece.0).ok();
            }
            add(&mut self.counters.unsaved_hosts);
            last = used;
        }
        self.saved = None;
        None
    }

    /// Takes in a piece of saved state. False, and nothing changed, if it is none or of another format.
    pub fn restore(&mut self, piece: &[u8]) -> bool {
        if let Ok(SavedHost { name, mut host }) =
            serde_json::from_slice::<SavedHost<String, Host>>(piece)
        {
            host.rejoin(&self.policy.limits);
            self.hosts
                .restore(&name, host, &self.policy.limits, &mut self.counters);
            return true;
        }
        match serde_json::from_slice::<SavedHead>(piece) {
            Ok(head) if head.state == STATE_FORMAT => {
                self.watch = head.watch;
                self.stats_at = head.stats_at;
                true
            }
            _ => false,
        }
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

    /// Notes that this filter stands in for others whose last call did not return: so many so far.
    pub fn set_restarts(&mut self, restarts: u32) {
        self.counters.restarts = u64::from(restarts);
    }
}

/// Each of a few things once.
fn distinct<'t, T: Copy + PartialEq + 't>(things: impl Iterator<Item = &'t T>) -> Vec<T> {
    things.fold(Vec::new(), |mut found, thing| {
        if !found.contains(thing) {
            found.push(*thing);
        }
        found
    })
}

/// Reads the evidence out of an event and puts it into the host's locker. `None` if there is nothing new.
fn examine(
    event: &Event<'_>,
    host: &mut Host,
    policy: &Policy,
    chains: &[&'static dyn Chain],
    watch: &Watch,
    counters: &mut Counters,
) -> Option<Rc<Evidence>> {
    if host.clock.observe(event.time.ms) {
        add(&mut counters.clock_jumps);
    }
    if host.own.learn(event) {
        add(&mut counters.evicted_addresses);
    }
    let evidence = match Evidence::from_event(event, &host.own, watch, policy) {
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
    let tolerance = policy.windows.clock_tolerance.0;
    match host.locker.put(
        &evidence,
        policy.limits.evidence_per_host.get(),
        &host.clock,
        reach(policy),
        tolerance,
    ) {
        Put::Duplicate => {
            add(&mut counters.evidence_duplicate);
            None
        }
        Put::NoRoom => {
            add(&mut counters.evicted_evidence);
            None
        }
        Put::Kept { evicted } => {
            add(&mut counters.evidence);
            counters.evicted_evidence = counters.evicted_evidence.saturating_add(evicted as u64);
            Some(evidence)
        }
    }
}

/// The longest time over which any chain joins two pieces.
fn reach(policy: &Policy) -> i64 {
    let windows = &policy.windows;
    let longest = windows
        .connection_before
        .max(windows.file_to_process)
        .max(windows.service_put_back);
    longest.0.saturating_add(windows.connection_after.0)
}

/// Whether any anchor is near enough to be joined to a piece. Mostly there is none, and no chain need be asked.
fn has_near(evidence: &Evidence, anchors: &[Shelf], host: &Host, policy: &Policy) -> bool {
    let within = reach(policy);
    anchors
        .iter()
        .flat_map(|shelf| host.locker.shelf(*shelf))
        .any(|anchor| is_near(anchor, evidence, within))
}

fn is_near(anchor: &Evidence, evidence: &Evidence, within: i64) -> bool {
    anchor.time.ms.abs_diff(evidence.time.ms) <= within.unsigned_abs()
}

/// Asks every chain that wants the piece about each of its anchors on the host; what is to be alerted joins the
/// host's waiting alerts.
#[inline(never)]
fn judge(
    evidence: &Rc<Evidence>,
    name: &str,
    host: &mut Host,
    policy: &Policy,
    chains: &[&'static dyn Chain],
    watch: &mut Watch,
    counters: &mut Counters,
) {
    let within = reach(policy);
    for chain in chains.iter().filter(|chain| chain.wants(evidence, policy)) {
        let shelves = chain
            .anchors()
            .iter()
            .flat_map(|shelf| host.locker.shelf(*shelf));
        let near = shelves.filter(|anchor| is_near(anchor, evidence, within));
        let anchors: Vec<Rc<Evidence>> = near
            .filter(|anchor| chain.wants(anchor, policy))
            .cloned()
            .collect();
        for anchor in anchors {
            let Some(mut finding) = chain.judge(&anchor, &host.locker, policy) else {
                continue;
            };
            // Only a finding that the new piece is part of can have changed, unless it says what was done to the service, or
            // gives away who it was.
            let says_more = match &evidence.fact {
                Fact::ServiceMark(mark) => finding
                    .service()
                    .is_some_and(|set| set.service.eq_ignore_ascii_case(&mark.service)),
                Fact::Pipe(_) | Fact::FileWrite(_) => finding.source.domain.is_some(),
                _ => false,
            };
            if !says_more && !finding.holds(evidence) {
                continue;
            }
            finding.severity = chain.levels(policy).told(finding.severity);
            if let Some(index) =
                incident::absorb(host, name, *chain, finding, policy, watch, counters)
            {
                queue(host, index, policy, counters);
            }
        }
    }
}

/// Writes the alert about an incident and lets it wait for a record of the host.
fn queue(host: &mut Host, index: usize, policy: &Policy, counters: &mut Counters) {
    let Some(incident) = host.incidents.get(index) else {
        return;
    };
    let (severity, alert) = (incident.severity, alert::write(incident, &host.computer));
    host.pending.push_back(Pending { severity, alert });
    if host.pending.len() > policy.limits.pending_per_host.get() && host.drop_pending() {
        add(&mut counters.evicted_pending);
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
    Some(Splice {
        at: found.last_brace,
        text: format!("{comma}\"{key}\":{object}"),
    })
}
