//! Correlation: new evidence is stored on its host, the techniques look at their anchors near it, and what they find is followed as
//! incidents.
//!
//! Nothing here knows a technique: windows, kinds, anchors and severities come from the techniques' tables.

use crate::alert;
use crate::allow;
use crate::chain::{CHILD, Finding, Join, Policy, Shared, Table, Technique, Window};
use crate::counters::{Counters, add};
use crate::event::Event;
use crate::evidence::{
    Context, Evidence, EvidenceKind, Fact, FileWrite, Needs, Reading, TrackedProcesses,
};
use crate::hosts::{Host, Pending};
use crate::incident::Incident;
use crate::normalize::host::label;
use crate::normalize::time::Timestamp;
use crate::settings::{Pass, Severity};
use crate::store::{Clock, Put};
use crate::tick::Ticks;
use std::rc::Rc;

/// The techniques in use, with everything about them that is worked out once.
pub struct Correlator {
    techniques: Vec<Correlated>,
    shared: Rc<Shared>,
    needs: Needs,
    /// The kinds of evidence that are an anchor of any technique.
    anchors: Vec<EvidenceKind>,
    /// The window around an anchor in which any technique looks for anything.
    window: Window,
    /// For how long evidence can matter, in milliseconds: two pieces of one execution can be logged this far apart, or be delivered
    /// this far apart.
    join_window: i64,
    asks_for_source: bool,
}

/// What an event was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// A technique wants it, even if it was not stored because it is a duplicate or there is no room for it.
    Evidence,
    /// It could not be read or used in full.
    Incomplete,
    /// No technique wants it.
    Unwanted,
}

/// What became of an event.
enum Stored {
    /// It is new evidence.
    New(Rc<Evidence>),
    /// It was not stored.
    Nothing(Taken),
}

struct Correlated {
    technique: Box<dyn Technique>,
    /// The window around an anchor in which this technique looks for anything.
    window: Window,
}

/// What the correlation changes beside the host.
pub struct Work<'w> {
    /// The policy.
    pub policy: &'w Policy,
    /// The processes whose children are wanted.
    pub tracked: &'w mut TrackedProcesses,
    /// The time that passes by ticks.
    pub ticks: &'w mut Ticks,
    /// The counters.
    pub counters: &'w mut Counters,
}

/// Which of the alerts that are held for a late connection are released.
#[derive(Clone, Copy, Debug)]
pub enum Release {
    /// Those that are due by the host's clock, at an event that was logged then (milliseconds), or by ticks.
    DueAt(i64),
    /// Those that are due by ticks.
    DueByTicks,
    /// All, because nothing more will come.
    All,
}

/// For how long all records of a host pass after an incident of medium or more, where `alert.pass` drops records, in milliseconds.
const CONTEXT_MS: i64 = 600_000;

impl Correlator {
    /// The techniques that a policy has in use.
    pub fn new(policy: &Policy) -> Correlator {
        let shared = Shared::of(policy);
        let windows = &shared.windows;
        let correlated = |technique: Box<dyn Technique>| Correlated {
            window: technique.table().join_window(windows),
            technique,
        };
        let techniques = policy.techniques(&shared).into_iter().map(correlated);
        let techniques: Vec<Correlated> = techniques.collect();
        let mut needs = Needs {
            connection: policy.connection.clone(),
            ..Needs::default()
        };
        let (mut anchors, mut window, mut join_window) = (Vec::new(), Window::default(), 0);
        for Correlated {
            technique,
            window: own,
        } in &techniques
        {
            technique.needs(&mut needs);
            for anchor in technique.table().anchors {
                if !anchors.contains(anchor) {
                    anchors.push(*anchor);
                }
            }
            window = window.or(*own);
            join_window = own.length().max(join_window);
        }
        // While an alert is held, its evidence has to be there for a connection that is delivered late.
        join_window = join_window.max(window.before.saturating_add(windows.grace.0));
        Correlator {
            techniques,
            shared,
            needs,
            anchors,
            window,
            join_window,
            asks_for_source: allow::asks_for_source(policy),
        }
    }

    /// What the techniques need of events.
    pub fn needs(&self) -> &Needs {
        &self.needs
    }

    /// For how long evidence can matter, in milliseconds.
    pub fn join_window(&self) -> i64 {
        self.join_window
    }

    /// Whether any technique wants a kind of evidence.
    pub fn wants_kind(&self, kind: EvidenceKind) -> bool {
        // What only says something about another kind is wanted where that is.
        let info = kind.info();
        let kind = match &info.related {
            Some(related) if info.only_relates => related.kind,
            _ => kind,
        };
        self.techniques.iter().any(|correlated| {
            let table = correlated.technique.table();
            let mut pieces = table.pieces.iter();
            table.anchors.contains(&kind) || pieces.any(|piece| piece.kind() == Some(kind))
        })
    }

    /// Takes in an event of a host. Alerts that come of it wait on the host.
    pub fn take(&self, event: &Event<'_>, host: &mut Host, work: &mut Work<'_>) -> Taken {
        match self.store(event, host, work) {
            Stored::New(evidence) => {
                if self.is_near_anchor(&evidence, host) {
                    self.judge(&evidence, label(&event.host.key), host, work);
                }
                Taken::Evidence
            }
            Stored::Nothing(taken) => taken,
        }
    }

    /// Reads the evidence out of an event and stores it.
    #[inline(never)]
    fn store(&self, event: &Event<'_>, host: &mut Host, work: &mut Work<'_>) -> Stored {
        let counters = &mut *work.counters;
        if host.clock.observe(event.time.ms) {
            add(&mut counters.clock_jumps);
        }
        if host.own.learn(event) {
            add(&mut counters.evicted_addresses);
        }
        let context = Context {
            own: &host.own,
            tracked: work.tracked,
            needs: &self.needs,
        };
        let evidence = match Evidence::read(event, &context) {
            Reading::Evidence(evidence) => evidence,
            Reading::Irrelevant => return Stored::Nothing(Taken::Unwanted),
            Reading::Incomplete => {
                add(&mut counters.incomplete);
                return Stored::Nothing(Taken::Incomplete);
            }
        };
        let only_relates = evidence.kind().info().only_relates;
        let mut techniques = self.techniques.iter();
        if !only_relates && !techniques.any(|correlated| correlated.technique.wants(&evidence)) {
            return Stored::Nothing(Taken::Unwanted);
        }
        let evidence = Rc::new(evidence);
        self.recall_file(&evidence, host, work);
        match self.put(&evidence, host, work) {
            Put::Duplicate => add(&mut work.counters.evidence_duplicate),
            Put::NoRoom => add(&mut work.counters.evicted_evidence),
            Put::NotKept => self.relate(&evidence, host),
            Put::Stored { .. } => {
                add(&mut work.counters.evidence);
                self.relate(&evidence, host);
                if !only_relates {
                    return Stored::New(evidence);
                }
            }
        }
        Stored::Nothing(Taken::Evidence)
    }

    /// Puts evidence into the host's store, and counts what had to give way.
    fn put(&self, evidence: &Rc<Evidence>, host: &mut Host, work: &mut Work<'_>) -> Put {
        let places = work.policy.limits.evidence_per_host.get();
        let tolerance = self.shared.windows.clock_tolerance.0;
        let (clock, keep) = (&host.clock, self.join_window);
        let put = host.store.put(evidence, places, clock, keep, tolerance);
        let counters = &mut *work.counters;
        let forgotten = host.store.take_forgotten();
        counters.forgotten_files = counters.forgotten_files.saturating_add(forgotten);
        if let Put::Stored { evicted } = put {
            let evicted = evicted as u64;
            counters.evicted_evidence = counters.evicted_evidence.saturating_add(evicted);
        }
        put
    }

    /// Stores again that a file came over SMB, if it is what was run now and its evidence had to give way.
    #[inline(never)]
    fn recall_file(&self, evidence: &Evidence, host: &mut Host, work: &mut Work<'_>) {
        let (path, key) = match &evidence.fact {
            Fact::ProcessStart(start) => (&*start.image, &start.key),
            Fact::ServiceSet(set) => (set.program.as_str(), &set.program),
            // It stands for the start of its program.
            Fact::Pipe(pipe) => (pipe.image.as_str(), &pipe.image),
            _ => return,
        };
        let Some(written) = host.store.recall(key) else {
            return;
        };
        let time = Timestamp {
            ms: written.ms,
            ..evidence.time
        };
        let file = Rc::new(FileWrite::recalled(path, key, time, written.event_id));
        // One that cannot be stored now is no new record that was lost.
        let _ = self.put(&file, host, work);
    }

    /// Shows new evidence to stored evidence of the related kind that was logged near it.
    fn relate(&self, evidence: &Evidence, host: &Host) {
        let Some(related) = &evidence.kind().info().related else {
            return;
        };
        let within = (related.within)(&self.shared.windows);
        let window = Window {
            before: within,
            after: within,
        };
        for other in host.store.of(related.kind) {
            if window.contains(evidence.time.ms, other.time.ms) {
                evidence.fact.relate(&other.fact);
            }
        }
    }

    /// Whether any anchor is so near that evidence can belong to it. There seldom is one, and then no technique has to be asked.
    fn is_near_anchor(&self, evidence: &Evidence, host: &Host) -> bool {
        let ms = evidence.time.ms;
        let anchors = self.anchors.iter().flat_map(|kind| host.store.of(*kind));
        let mut anchors = anchors.map(|anchor| anchor.time.ms);
        anchors.any(|anchor| self.window.contains(anchor, ms))
    }

    /// Asks every technique that wants the evidence about each of its anchors near it.
    #[inline(never)]
    fn judge(
        &self,
        evidence: &Rc<Evidence>,
        host_label: &str,
        host: &mut Host,
        work: &mut Work<'_>,
    ) {
        let ms = evidence.time.ms;
        for Correlated { technique, window } in &self.techniques {
            if !technique.wants(evidence) {
                continue;
            }
            let table = technique.table();
            let stored = table.anchors.iter().flat_map(|kind| host.store.of(*kind));
            let is_near = |anchor: &&Rc<Evidence>| window.contains(anchor.time.ms, ms);
            let near = stored.filter(is_near);
            let anchors = near.filter(|anchor| technique.wants(anchor)).cloned();
            for anchor in anchors.collect::<Vec<_>>() {
                let found = self.find(&**technique, &anchor, evidence, host);
                let to_alert =
                    found.and_then(|finding| self.follow(host, host_label, table, finding, work));
                if let Some(index) = to_alert {
                    queue(host, index, work);
                }
            }
        }
    }

    /// Looks at one anchor. `None` if it is no execution of the technique, or if the evidence that arrived has no part in it.
    ///
    /// Not inlined, like the functions that it calls and [`Correlator::follow`]: so the locals of none of them lie below those of
    /// another on Fluent Bit's stack of 8 KiB.
    #[inline(never)]
    fn find(
        &self,
        technique: &dyn Technique,
        anchor: &Rc<Evidence>,
        arrived: &Rc<Evidence>,
        host: &Host,
    ) -> Option<Finding> {
        let table = technique.table();
        let stored = (&*host.computer, &host.store);
        let join = Join::new(anchor, arrived, table, stored, &self.shared.windows);
        let joined = technique.join(&join)?;
        let level = table.level(joined.seen)?;
        let children = joined.children(&join, &CHILD);
        // A finding that the new evidence is not part of does not lead to an alert.
        let is_child = |child: &Rc<Evidence>| Rc::ptr_eq(child, arrived);
        if !joined.involves(arrived) && !children.iter().any(is_child) {
            return None;
        }
        let severity = technique.levels().map(level);
        Some(joined.into_finding(anchor, table, severity, children))
    }

    /// Takes a finding into the host's incidents. Returns the index of the incident if it is to be alerted (again).
    #[inline(never)]
    fn follow(
        &self,
        host: &mut Host,
        host_label: &str,
        table: &'static Table,
        mut finding: Finding,
        work: &mut Work<'_>,
    ) -> Option<usize> {
        let (policy, counters) = (work.policy, &mut *work.counters);
        for evidence in finding.evidence.iter().chain(&finding.children) {
            host.store.join(evidence);
        }
        let limit = policy.limits.tracked_processes.get();
        let is_one_evicted = match (finding.process_guid(), finding.dropped_program()) {
            (Some(guid), _) => work.tracked.add(guid, limit),
            // Its start was not logged (yet), but what it starts will be.
            (None, Some(program)) => work.tracked.add_program(program),
            (None, None) => false,
        };
        if is_one_evicted {
            add(&mut counters.evicted_tracked_processes);
        }
        let rule = &table.rule;
        let of_one = |incident: &&Incident| {
            incident.rule.id == rule.id && incident.finding.is_of_one_execution(&finding)
        };
        if let Some(before) = host.incidents.iter().find(of_one) {
            finding.remember(&before.finding);
        }
        let suppress = self.shared.windows.suppress.0;
        let allowed = allow::reason(&finding, [host_label, &host.computer], policy);
        // One change of a service is one execution: what waited to be decided is.
        let is_decided = |incident: &Incident| {
            incident.revision == 0
                && incident.finding.is_undecided
                && !Rc::ptr_eq(&incident.finding.anchor, &finding.anchor)
                && finding.shares_service(&incident.finding)
        };
        host.incidents.retain(|incident| !is_decided(incident));
        let incidents = &host.incidents;
        let known = incidents
            .iter()
            .rposition(|incident| incident.has(rule, &finding))
            .or_else(|| {
                let is_allowed = allowed.is_some();
                incidents
                    .iter()
                    .rposition(|incident| incident.groups(rule, &finding, is_allowed, suppress))
            });
        let index = match known {
            Some(index) => {
                if let Some(incident) = host.incidents.get_mut(index) {
                    incident.merge(finding, allowed, counters);
                }
                index
            }
            None => {
                self.make_room(host, policy, counters);
                let incident = Incident::new(rule, host_label, finding, allowed);
                host.incidents.push(incident);
                host.incidents.len().saturating_sub(1)
            }
        };
        let incident = host.incidents.get_mut(index)?;
        if policy.alert.pass == Pass::Evidence && incident.severity >= Severity::Medium {
            let until = host.clock.now().map(|now| now.saturating_add(CONTEXT_MS));
            host.passes_until = host.passes_until.max(until);
        }
        // The source may be about to be logged; an alert about what turns out to be allowed helps nobody.
        let finding = &incident.finding;
        let is_source_unknown = incident.allowed.is_none()
            && finding.lateral != Some(false)
            && allow::may_be_allowed(finding, policy);
        let is_waiting = finding.is_undecided || self.asks_for_source && is_source_unknown;
        if incident.revision == 0 && is_waiting {
            if incident.held_until.is_none() {
                counters.held = counters
                    .held
                    .saturating_add(u64::from(!finding.is_undecided));
                let grace = self.shared.windows.grace.0;
                incident.held_until = Some(finding.anchor.time.ms.saturating_add(grace));
                incident.held_at = work.ticks.elapsed();
                work.ticks.expect(incident.held_at.saturating_add(grace));
            }
            return None;
        }
        incident.emit_revision(policy, counters).then_some(index)
    }

    /// Removes the incidents of a host that nothing belongs to any more, then the least severe until there is room for another.
    fn make_room(&self, host: &mut Host, policy: &Policy, counters: &mut Counters) {
        let windows = &self.shared.windows;
        let suppress = windows.suppress.0.saturating_add(self.window.before);
        let keep = self.join_window.max(suppress);
        let clock = &host.clock;
        host.incidents.retain(|incident| {
            incident.held_until.is_some() || !clock.is_expired(incident.last_seen.ms, keep)
        });
        while host.incidents.len() >= policy.limits.incidents_per_host.get() {
            // One that is held was not alerted yet.
            let worth = |incident: &Incident| (incident.held_until.is_some(), incident.severity);
            let incidents = host.incidents.iter().enumerate();
            let least = incidents.min_by_key(|(index, incident)| (worth(incident), *index));
            host.incidents.remove(least.map_or(0, |(index, _)| index));
            add(&mut counters.evicted_incidents);
        }
    }
}

/// Queues the alerts of a host that were held for a late connection long enough, as many as have room.
pub fn release_held(host: &mut Host, release: Release, work: &mut Work<'_>) {
    let grace = work.policy.windows.grace.0;
    let elapsed = work.ticks.elapsed();
    let is_due = |held_at: i64| held_at.saturating_add(grace) <= elapsed;
    // A clock that was set back far does not come to that time for as long as it was set back.
    let was_set_back =
        |clock: &Clock, until: i64| clock.is_stale(until.saturating_sub(grace), i64::MAX);
    let is_expired = |incident: &Incident, clock: &Clock| match (incident.held_until, release) {
        (None, _) => false,
        (Some(until), Release::DueAt(now)) => {
            now > until || was_set_back(clock, until) || is_due(incident.held_at)
        }
        (Some(_), Release::DueByTicks) => is_due(incident.held_at),
        (Some(_), Release::All) => true,
    };
    let next = |host: &Host| {
        let mut incidents = host.incidents.iter();
        incidents.position(|incident| is_expired(incident, &host.clock))
    };
    // The others stay held: to drop them, or any that waits, would lose an alert for nothing.
    let limit = work.policy.limits.pending_per_host.get();
    while host.pending.len() < limit
        && let Some(index) = next(host)
    {
        let incident = host.incidents.get_mut(index);
        if incident.is_some_and(|incident| incident.emit_revision(work.policy, work.counters)) {
            queue(host, index, work);
        }
    }
}

/// Writes the alert about an incident and lets it wait for a record of the host.
fn queue(host: &mut Host, index: usize, work: &mut Work<'_>) {
    let Some(incident) = host.incidents.get(index) else {
        return;
    };
    let pending = Pending {
        severity: incident.severity,
        alert: alert::write(incident, &host.computer),
        last_seen: Some(incident.last_seen),
    };
    host.pending.push_back(pending);
    let limit = work.policy.limits.pending_per_host.get();
    if host.pending.len() > limit && host.drop_pending() {
        add(&mut work.counters.evicted_pending);
    }
}
