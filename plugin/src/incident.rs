//! Incidents: what a chain found, followed over time under one id, and when that is worth another alert.

use crate::chain::{Chain, Finding, MAX_CHILDREN};
use crate::counters::{Counters, add};
use crate::evidence::{Evidence, Fact};
use crate::normalize::time::Timestamp;
use crate::policy::{Allow, Allowed, OnUnknown, Policy, Severity};
use crate::state::host::Host;
use crate::state::watch::{Watch, hash64};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::rc::Rc;

/// Anchors of one incident that are recognised again; older ones would count as repeats.
const MAX_ANCHORS: usize = 16;

/// An execution and its repeats.
#[derive(Serialize, Deserialize)]
pub struct Incident {
    /// The chain that found it.
    #[serde(with = "chain_by_rule")]
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
    /// Until when the first alert waits for a late connection, by the host's clock.
    pub held_until: Option<i64>,
    /// Identities of the anchors, the latest last.
    anchors: Vec<u64>,
    reported: Option<Reported>,
}

/// What an alert told; a revision is raised when it changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Reported {
    severity: Severity,
    source: Option<IpAddr>,
    domain: Option<String>,
    user: Option<String>,
    lateral: Option<bool>,
    allowed: bool,
    /// How many of the repeat marks 1, 10, 100, … were reached.
    repeats: u32,
}

/// A chain is saved by its rule.
mod chain_by_rule {
    use crate::chain::{CHAINS, Chain};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(
        chain: &&'static dyn Chain,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(chain.rule().id)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<&'static dyn Chain, D::Error> {
        let id = String::deserialize(deserializer)?;
        CHAINS
            .into_iter()
            .find(|chain| chain.rule().id == id)
            .ok_or_else(|| D::Error::custom(format_args!("no chain has the rule `{id}`")))
    }
}

impl std::fmt::Debug for Incident {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incident")
            .field("id", &self.id)
            .field("finding", &self.finding)
            .finish_non_exhaustive()
    }
}

impl Incident {
    /// Memory held, in bytes. Evidence shared with the locker is counted in both places: the safe side.
    pub fn bytes(&self) -> usize {
        let all = self.finding.pieces.iter().chain(&self.finding.children);
        let pieces = all
            .map(|piece| piece.bytes())
            .fold(0, usize::saturating_add);
        let candidates = self
            .finding
            .source
            .candidates
            .len()
            .saturating_mul(size_of::<IpAddr>());
        let texts = self
            .id
            .len()
            .saturating_add(self.finding.fold.len())
            .saturating_add(self.allowed.as_deref().map_or(0, str::len));
        size_of::<Incident>()
            .saturating_add(pieces)
            .saturating_add(candidates)
            .saturating_add(texts)
            .saturating_add(self.anchors.len().saturating_mul(8))
            .saturating_add(128)
    }

    fn new(
        chain: &'static dyn Chain,
        host: &str,
        finding: Finding,
        allowed: Option<String>,
    ) -> Incident {
        let anchor = identity(&finding.anchor);
        let (first_seen, last_seen) = span(&finding);
        Incident {
            chain,
            id: id(chain.rule().chain, host, &anchor),
            severity: if allowed.is_some() {
                Severity::Informational
            } else {
                finding.severity
            },
            finding,
            allowed,
            first_seen,
            last_seen,
            repeat: 0,
            revision: 0,
            held_until: None,
            anchors: vec![hash64(&anchor)],
            reported: None,
        }
    }

    /// Whether a finding is about an execution that is part of this incident.
    fn knows(&self, rule: &str, finding: &Finding) -> bool {
        self.chain.rule().id == rule && self.anchors.contains(&hash64(&identity(&finding.anchor)))
    }

    /// Whether a finding belongs to this incident: the same thing, not longer than `suppress` away.
    /// What is allowed and what is not never share an incident.
    fn folds(&self, rule: &str, finding: &Finding, allowed: bool, suppress: i64) -> bool {
        let ms = finding.anchor.time.ms;
        let (ours, theirs) = (&self.finding.source.candidates, &finding.source.candidates);
        let by_source = !finding.fold_by_source
            || ours.is_empty()
            || theirs.is_empty()
            || theirs.iter().any(|ip| ours.contains(ip));
        self.chain.rule().id == rule
            && self.allowed.is_some() == allowed
            && by_source
            && self.finding.fold == finding.fold
            && ms.saturating_sub(self.last_seen.ms) <= suppress
            && self.first_seen.ms.saturating_sub(ms) <= suppress
    }

    fn absorb(&mut self, finding: Finding, allowed: Option<String>, counters: &mut Counters) {
        let anchor = hash64(&identity(&finding.anchor));
        let known = self.anchors.contains(&anchor);
        if !known {
            self.repeat = self.repeat.saturating_add(1);
            if self.anchors.len() >= MAX_ANCHORS {
                self.anchors.remove(0);
                add(&mut counters.evicted_anchors);
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
        // Allowed only if every execution is: one that is not takes the whole incident with it.
        self.allowed = match allowed {
            Some(reason) if self.allowed.is_some() || known && self.anchors.len() == 1 => {
                Some(reason)
            }
            _ => None,
        };
        let old = &self.finding;
        // Who wrote the file stays known where the file's event is no longer remembered.
        let known_local = old.lateral == Some(false)
            && finding.file().is_none()
            && Rc::ptr_eq(&old.anchor, &finding.anchor);
        if finding.severity >= old.severity && !known_local {
            self.finding = merged(finding, old);
        } else if let Some(connection) = &finding.source.connection
            && !known_local
            && old.source.connection.is_none()
            && Rc::ptr_eq(&old.anchor, &finding.anchor)
        {
            self.finding.pieces.push(Rc::clone(connection));
            self.finding.source = finding.source;
        }
        self.severity = if self.allowed.is_some() {
            Severity::Informational
        } else {
            self.finding.severity
        };
    }

    fn report(&self) -> Reported {
        Reported {
            severity: self.severity,
            source: self.finding.source.ip,
            domain: self.finding.source.domain.clone(),
            user: self.finding.user(),
            lateral: self.finding.lateral,
            allowed: self.allowed.is_some(),
            repeats: self
                .repeat
                .checked_ilog10()
                .map_or(0, |digits| digits.saturating_add(1)),
        }
    }
}

/// The reason of the allow-list entry that covers a finding.
fn covering(finding: &Finding, host: &str, policy: &Policy) -> Option<String> {
    policy
        .allow
        .iter()
        .find(|entry| covers(entry, finding, host, policy))
        .map(|entry| entry.reason.clone())
}

/// Whether every field that the entry gives holds. By source only if every candidate is in its ranges, or something
/// beside the time names the one that is.
fn covers(entry: &Allow, finding: &Finding, host: &str, policy: &Policy) -> bool {
    let unknown_source = policy.alert.on_unknown_source == OnUnknown::Allow;
    let in_ranges = |ip: &IpAddr| entry.source.iter().any(|range| range.contains(*ip));
    let by_source = || match (finding.source.ip, finding.source.named) {
        (None, _) => unknown_source,
        (Some(ip), true) => in_ranges(&ip),
        (Some(_), false) => finding.source.candidates.iter().all(in_ranges),
    };
    let by_user = || match finding
        .person()
        .filter(|_| finding.source.sure_user || finding.logon().is_none())
    {
        None => policy.alert.on_unknown_user == OnUnknown::Allow,
        // A name without its domain is enough where the entry gives none.
        Some(user) => {
            entry.user.hit(&user)
                || user
                    .split_once('\\')
                    .is_some_and(|(_, name)| entry.user.hit(name))
        }
    };
    let process = finding.process();
    let by_process = || {
        process.is_some_and(|process| {
            entry.process.hit(process.key.as_str()) || entry.process.hit(&process.image)
        })
    };
    let by_hash = || {
        let hashes = process
            .and_then(|process| process.hashes.as_deref())
            .unwrap_or_default();
        let mut values = hashes
            .split([',', ' '])
            .map(|hash| hash.rsplit('=').next().unwrap_or_default());
        values.any(|value| {
            entry
                .hash
                .iter()
                .any(|hash| hash.eq_ignore_ascii_case(value))
        })
    };
    let by_service = || {
        finding
            .service()
            .is_some_and(|set| entry.service.hit(&set.service))
    };
    entry
        .until
        .as_ref()
        .is_none_or(|until| finding.anchor.time.ms <= until.ms)
        && (entry.source.is_empty() || by_source())
        && (entry.host.is_empty() || entry.host.hit(host))
        && (entry.user.is_empty() || by_user())
        && (entry.process.is_empty() || by_process())
        && (entry.hash.is_empty() || by_hash())
        && (entry.service.is_empty() || by_service())
}

/// Takes a finding into the host's incidents. Returns the index of the incident if it is to be alerted (again).
///
/// Apart from what has the chains judge: its locals would lie on Fluent Bit's stack, of 8 KiB, below each of them.
#[inline(never)]
pub fn absorb(
    host: &mut Host,
    name: &str,
    chain: &'static dyn Chain,
    finding: Finding,
    policy: &Policy,
    watch: &mut Watch,
    counters: &mut Counters,
) -> Option<usize> {
    for piece in finding.pieces.iter().chain(&finding.children) {
        host.locker.join(piece);
    }
    if let Some(entity_id) = finding
        .process()
        .and_then(|process| process.entity_id.as_deref())
        && watch.add(entity_id, policy.limits.watched.get())
    {
        add(&mut counters.evicted_watched);
    }
    let suppress = policy.windows.suppress.0;
    let rule = chain.rule().id;
    let known = host
        .incidents
        .iter()
        .rposition(|incident| incident.knows(rule, &finding));
    let allowed = covering(&finding, name, policy);
    let known = known.or_else(|| {
        host.incidents
            .iter()
            .rposition(|incident| incident.folds(rule, &finding, allowed.is_some(), suppress))
    });
    let index = match known {
        Some(index) => {
            if let Some(incident) = host.incidents.get_mut(index) {
                incident.absorb(finding, allowed, counters);
            }
            index
        }
        None => {
            let keep = suppress.saturating_add(policy.windows.connection_before.0);
            let clock = &host.clock;
            host.incidents.retain(|incident| {
                incident.held_until.is_some() || !clock.is_past(incident.last_seen.ms, keep)
            });
            while host.incidents.len() >= policy.limits.incidents_per_host.get() {
                // The least of those that have told what they had to tell.
                let worth =
                    |incident: &Incident| (incident.held_until.is_some(), incident.severity);
                let least = host
                    .incidents
                    .iter()
                    .enumerate()
                    .min_by_key(|(index, incident)| (worth(incident), *index));
                let index = least.map_or(0, |(index, _)| index);
                host.incidents.remove(index);
                add(&mut counters.evicted_incidents);
            }
            host.incidents
                .push(Incident::new(chain, name, finding, allowed));
            host.incidents.len().saturating_sub(1)
        }
    };
    let incident = host.incidents.get_mut(index)?;
    // Who it was may be about to be told; an alert about what turns out to be allowed helps nobody.
    let asks_for_source = policy.allow.iter().any(|entry| !entry.source.is_empty());
    if incident.revision == 0
        && asks_for_source
        && incident.finding.source.ip.is_none()
        && incident.finding.lateral != Some(false)
    {
        if incident.held_until.is_none() {
            add(&mut counters.held);
            incident.held_until = Some(
                incident
                    .finding
                    .anchor
                    .time
                    .ms
                    .saturating_add(policy.windows.grace.0),
            );
        }
        return None;
    }
    raise(incident, policy, counters).then_some(index)
}

/// The incident that has waited for a late connection long enough by the host's clock (`now`; `None` at the end of all
/// records) and is now to be alerted.
pub fn overdue(
    host: &mut Host,
    now: Option<i64>,
    policy: &Policy,
    counters: &mut Counters,
) -> Option<usize> {
    let due = |incident: &Incident| {
        incident
            .held_until
            .is_some_and(|until| now.is_none_or(|now| now > until))
    };
    while let Some(index) = host.incidents.iter().position(due) {
        if raise(host.incidents.get_mut(index)?, policy, counters) {
            return Some(index);
        }
    }
    None
}

/// Makes the next revision of an incident, if there is something to tell.
fn raise(incident: &mut Incident, policy: &Policy, counters: &mut Counters) -> bool {
    incident.held_until = None;
    let now = incident.report();
    if incident.reported.as_ref() == Some(&now) {
        add(&mut counters.suppressed);
        return false;
    }
    if incident.finding.severity < policy.alert.min_severity {
        add(&mut counters.below_min_severity);
        return false;
    }
    // What was alerted before and is now known to be legitimate is told all the same.
    if incident.allowed.is_some() && policy.alert.allowed == Allowed::Drop && incident.revision == 0
    {
        add(&mut counters.allowed);
        return false;
    }
    if incident.revision as usize >= policy.limits.revisions.get() {
        add(&mut counters.revisions_over_limit);
        return false;
    }
    incident.reported = Some(now);
    incident.revision = incident.revision.saturating_add(1);
    add(if incident.revision == 1 {
        &mut counters.alerts
    } else {
        &mut counters.revisions
    });
    if incident.allowed.is_some() {
        add(&mut counters.allowed);
    }
    true
}

/// The new finding, with the pieces it lacks taken from the old one: what was once seen stays seen.
fn merged(new: Finding, old: &Finding) -> Finding {
    let mut merged = new;
    let same = Rc::ptr_eq(&merged.anchor, &old.anchor);
    for piece in old
        .pieces
        .iter()
        .filter(|piece| same || !matches!(piece.fact, Fact::Connection(_) | Fact::Logon(_)))
    {
        if !merged
            .pieces
            .iter()
            .any(|have| have.shelf() == piece.shelf())
        {
            merged.pieces.push(Rc::clone(piece));
        }
    }
    // Who did it is told of one execution, not of those it is folded with.
    if merged.source.ip.is_none() && same {
        merged.source = old.source.clone();
    }
    for child in &old.children {
        if merged.children.len() < MAX_CHILDREN
            && !merged.children.iter().any(|have| Rc::ptr_eq(have, child))
        {
            merged.children.push(Rc::clone(child));
        }
    }
    merged.children.sort_by_key(|child| child.time.ms);
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
    let hash = parts
        .iter()
        .flat_map(|part| part.bytes())
        .fold(BASIS, |hash, byte| {
            (hash ^ u128::from(byte)).wrapping_mul(PRIME)
        });
    format!("{hash:032x}")
}
