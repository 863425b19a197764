//! Incidents: what a chain found, followed over time under one id, and when that is worth another alert.

use crate::chain::{Chain, Finding};
use crate::counters::{Counters, add};
use crate::evidence::{Evidence, Fact};
use crate::normalize::time::Timestamp;
use crate::policy::{Allow, Policy, Severity};
use crate::state::host::Host;
use std::net::IpAddr;
use std::rc::Rc;

/// Anchors of one incident that are recognised again; older ones would count as repeats.
const MAX_ANCHORS: usize = 16;

/// An execution and its repeats.
pub struct Incident {
    /// The chain that found it.
    pub chain: &'static dyn Chain,
    /// `alert.id`: the same after a restart, in a replay and on any shard.
    pub id: String,
    /// What was found.
    pub finding: Finding,
    /// As alerted: the finding's, or informational if allowed. Never falls, except to allowed.
    pub severity: Severity,
    /// The allow-list entry that covers it, by its reason.
    pub allowed: Option<String>,
    /// Earliest piece.
    pub first_seen: Timestamp,
    /// Latest piece.
    pub last_seen: Timestamp,
    /// Further executions within the suppression time.
    pub repeat: u32,
    /// Number of the latest alert; 0 before the first.
    pub revision: u32,
    /// Identities of the anchors, the latest last.
    anchors: Vec<u64>,
    reported: Option<Reported>,
}

/// What an alert told; a revision is raised when it changes.
#[derive(Clone, Debug, PartialEq)]
struct Reported {
    severity: Severity,
    source: Option<IpAddr>,
    user: Option<Box<str>>,
    lateral: Option<bool>,
    allowed: bool,
    /// How many of the repeat marks 1, 10, 100, … were reached.
    repeats: u32,
}

impl std::fmt::Debug for Incident {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incident").field("id", &self.id).field("finding", &self.finding).finish_non_exhaustive()
    }
}

impl Incident {
    /// Memory held, in bytes. Evidence shared with the locker is counted in both places: the safe side.
    pub fn bytes(&self) -> usize {
        let pieces = self.finding.pieces.iter().map(|piece| piece.bytes()).fold(0, usize::saturating_add);
        let candidates = self.finding.candidates.len().saturating_mul(size_of::<IpAddr>());
        let texts = self.id.len().saturating_add(self.finding.fold.len()).saturating_add(self.allowed.as_deref().map_or(0, str::len));
        size_of::<Incident>()
            .saturating_add(pieces)
            .saturating_add(candidates)
            .saturating_add(texts)
            .saturating_add(self.anchors.len().saturating_mul(8))
            .saturating_add(128)
    }

    fn new(chain: &'static dyn Chain, host: &str, finding: Finding, policy: &Policy) -> Incident {
        let anchor = identity(&finding.anchor);
        let (first_seen, last_seen) = span(&finding);
        let mut incident = Incident {
            chain,
            id: id(chain.rule().chain, host, &anchor),
            severity: finding.severity,
            finding,
            allowed: None,
            first_seen,
            last_seen,
            repeat: 0,
            revision: 0,
            anchors: vec![hash64(&anchor)],
            reported: None,
        };
        incident.judge_allowed(host, policy);
        incident
    }

    /// Whether a finding belongs to this incident: the same thing, not longer than `suppress` away.
    fn folds(&self, chain: &str, finding: &Finding, suppress: i64) -> bool {
        let ms = finding.anchor.time.ms;
        self.chain.rule().chain == chain
            && self.finding.fold == finding.fold
            && ms.saturating_sub(self.last_seen.ms) <= suppress
            && self.first_seen.ms.saturating_sub(ms) <= suppress
    }

    fn absorb(&mut self, host: &str, finding: Finding, policy: &Policy) {
        let anchor = hash64(&identity(&finding.anchor));
        let known = self.anchors.contains(&anchor);
        if !known {
            self.repeat = self.repeat.saturating_add(1);
            if self.anchors.len() >= MAX_ANCHORS {
                self.anchors.remove(0);
            }
            self.anchors.push(anchor);
        }
        let (first, last) = span(&finding);
        if first.ms < self.first_seen.ms {
            self.first_seen = first;
        }
        if last.ms > self.last_seen.ms {
            self.last_seen = last;
        }
        let old = &self.finding;
        if finding.severity >= old.severity {
            self.finding = merged(finding, old);
        } else if let Some(connection) = finding.pieces.iter().find(|piece| matches!(piece.fact, Fact::Connection(_)))
            && old.connection().is_none()
        {
            self.finding.pieces.push(Rc::clone(connection));
            self.finding.candidates = finding.candidates;
        }
        self.judge_allowed(host, policy);
    }

    /// Severity after the allow-list. An incident is allowed by source only if every candidate is.
    fn judge_allowed(&mut self, host: &str, policy: &Policy) {
        let covers = |entry: &&Allow| {
            let by_source = entry.source.is_empty()
                || !self.finding.candidates.is_empty()
                    && self.finding.candidates.iter().all(|ip| entry.source.iter().any(|range| range.contains(*ip)));
            let by_host = entry.host.is_empty() || entry.host.iter().any(|name| name == host);
            by_source && by_host
        };
        let entry = policy.allow.iter().find(covers);
        self.allowed = entry.map(|entry| entry.reason.clone());
        self.severity = if entry.is_some() { Severity::Informational } else { self.finding.severity };
    }

    fn report(&self) -> Reported {
        let process = self.finding.process();
        Reported {
            severity: self.severity,
            source: self.finding.connection().map(|connection| connection.remote),
            user: process.and_then(|process| process.user.clone()),
            lateral: self.finding.lateral,
            allowed: self.allowed.is_some(),
            repeats: self.repeat.checked_ilog10().map_or(0, |digits| digits.saturating_add(1)),
        }
    }
}

/// Takes a finding into the host's incidents. Returns the index of the incident if it is to be alerted (again).
pub fn absorb(
    host: &mut Host,
    name: &str,
    chain: &'static dyn Chain,
    finding: Finding,
    policy: &Policy,
    counters: &mut Counters,
) -> Option<usize> {
    for piece in &finding.pieces {
        host.locker.join(piece);
    }
    let suppress = policy.windows.suppress.0;
    let known = host.incidents.iter().rposition(|incident| incident.folds(chain.rule().chain, &finding, suppress));
    let index = match known {
        Some(index) => {
            if let Some(incident) = host.incidents.get_mut(index) {
                incident.absorb(name, finding, policy);
            }
            index
        }
        None => {
            let keep = suppress.saturating_add(policy.windows.connection_before.0);
            let clock = &host.clock;
            host.incidents.retain(|incident| !clock.is_past(incident.last_seen.ms, keep));
            while host.incidents.len() >= policy.limits.incidents_per_host.get() {
                host.incidents.remove(0);
                add(&mut counters.evicted_incidents);
            }
            host.incidents.push(Incident::new(chain, name, finding, policy));
            host.incidents.len().saturating_sub(1)
        }
    };
    let incident = host.incidents.get_mut(index)?;
    let now = incident.report();
    if incident.reported.as_ref() == Some(&now) {
        add(&mut counters.suppressed);
        return None;
    }
    if incident.finding.severity < policy.alert.min_severity {
        add(&mut counters.below_min_severity);
        return None;
    }
    if incident.revision as usize >= policy.limits.revisions.get() {
        add(&mut counters.revisions_over_limit);
        return None;
    }
    incident.reported = Some(now);
    incident.revision = incident.revision.saturating_add(1);
    add(if incident.revision == 1 { &mut counters.alerts } else { &mut counters.revisions });
    if incident.allowed.is_some() {
        add(&mut counters.allowed);
    }
    Some(index)
}

/// The new finding, with the pieces it lacks taken from the old one: what was once seen stays seen.
fn merged(new: Finding, old: &Finding) -> Finding {
    let mut merged = new;
    for piece in &old.pieces {
        if !merged.pieces.iter().any(|have| have.shelf() == piece.shelf()) {
            merged.pieces.push(Rc::clone(piece));
        }
    }
    if merged.candidates.is_empty() {
        merged.candidates = old.candidates.clone();
    }
    merged.lateral = merged.lateral.or(old.lateral);
    merged.missing.retain(|name| old.missing.contains(name));
    merged
}

fn span(finding: &Finding) -> (Timestamp, Timestamp) {
    let anchor = finding.anchor.time;
    let times = finding.pieces.iter().map(|piece| piece.time);
    let first = times.clone().min_by_key(|time| time.ms).unwrap_or(anchor);
    let last = times.max_by_key(|time| time.ms).unwrap_or(anchor);
    (first, last)
}

/// What makes an anchor itself: its ProcessGuid, else its record id, else time and path.
fn identity(anchor: &Evidence) -> String {
    if let Fact::ProcessStart(start) = &anchor.fact
        && let Some(entity_id) = &start.entity_id
    {
        return format!("entity:{entity_id}");
    }
    if let Some(record_id) = anchor.record_id {
        return format!("record:{record_id}");
    }
    let path = match &anchor.fact {
        Fact::ProcessStart(start) => start.key.as_str(),
        Fact::ServiceSet(set) => &set.service,
        _ => "",
    };
    format!("time:{}:{path}", anchor.time.ms)
}

/// 128 bits of FNV-1a over chain, host and anchor, in hex. No counter and no randomness.
fn id(chain: &str, host: &str, anchor: &str) -> String {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    let parts = [chain, "\0", host, "\0", anchor];
    let hash = parts.iter().flat_map(|part| part.bytes()).fold(BASIS, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME));
    format!("{hash:032x}")
}

/// 64 bits of FNV-1a.
fn hash64(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
