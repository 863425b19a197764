//! Incidents: what a technique found, followed over time under one id, and when that is worth another alert.

use crate::chain::{Finding, MAX_CHILDREN, Rule};
use crate::counters::{Counters, add};
use crate::evidence::{Evidence, EvidenceKind, Fact};
use crate::normalize::time::Timestamp;
use crate::policy::{Allowed, Policy, Severity};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::rc::Rc;

/// How many sources of one incident are kept apart; a further one is alerted like those.
const MAX_SOURCES: usize = 32;

/// How many anchors of one incident are recognized again; an older one counts as a repeat.
const MAX_ANCHORS: usize = 16;

/// An execution and its repeats.
#[derive(Serialize, Deserialize)]
pub struct Incident {
    /// The rule of the technique that found it.
    #[serde(with = "rule_by_id")]
    pub rule: &'static Rule,
    /// `alert.id`: the same after a restart, in a replay and on any instance.
    pub id: String,
    /// What was found.
    pub finding: Finding,
    /// The finding's severity, or informational if the incident is allowed. It never falls, except to allowed.
    pub severity: Severity,
    /// The reason of the allow-list entry that covers it.
    pub allowed: Option<String>,
    /// Time of the earliest evidence.
    pub first_seen: Timestamp,
    /// Time of the latest evidence.
    pub last_seen: Timestamp,
    /// Further executions within the suppression time.
    pub repeat: u32,
    /// Number of the latest alert; 0 before the first.
    pub revision: u32,
    /// Until when the first alert is held for a late connection, in milliseconds of the host's clock.
    pub held_until: Option<i64>,
    /// How much time had passed by ticks when it was held first, in milliseconds. Not saved: a new instance counts from 0, so after a
    /// restart it is held for its whole time again.
    #[serde(skip)]
    pub held_at: i64,
    /// The sources that were alerted or merged so far, each once; at most [`MAX_SOURCES`].
    #[serde(skip)]
    sources: Vec<IpAddr>,
    /// Hashes of the anchors' identities, the latest last.
    anchors: Vec<u64>,
    reported: Option<Report>,
}

/// What an alert reports; another revision is emitted when it changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Report {
    severity: Severity,
    source: Option<IpAddr>,
    machine: Option<String>,
    user: Option<String>,
    lateral: Option<bool>,
    allowed: bool,
    /// How many of the repeats 1, 10, 100, … were reached.
    repeat_marks: u32,
}

/// A snapshot names a rule by its id.
mod rule_by_id {
    use crate::chain::{Rule, TABLES};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(
        rule: &&'static Rule,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(rule.id)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<&'static Rule, D::Error> {
        let id = String::deserialize(deserializer)?;
        let mut rules = TABLES.iter().map(|table| &table.rule);
        rules
            .find(|rule| rule.id == id)
            .ok_or_else(|| D::Error::custom(format_args!("no technique has the rule `{id}`")))
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
    /// Memory held, in bytes. Evidence that the store holds, too, is counted in both places, so the figure is never too small.
    pub fn bytes(&self) -> usize {
        let finding = &self.finding;
        let evidence = finding.evidence.iter().chain(&finding.children);
        let evidence = evidence
            .map(|evidence| evidence.bytes())
            .fold(0, usize::saturating_add);
        let candidates = finding.source.candidates.len();
        let reason = self.allowed.as_deref().map_or(0, str::len);
        size_of::<Incident>()
            .saturating_add(evidence)
            .saturating_add(candidates.saturating_mul(size_of::<IpAddr>()))
            .saturating_add(self.id.len())
            .saturating_add(finding.group.len())
            .saturating_add(reason)
            .saturating_add(self.anchors.len().saturating_mul(8))
            .saturating_add(self.sources.len().saturating_mul(size_of::<IpAddr>()))
            .saturating_add(128)
    }

    /// A new incident on the host with this first label.
    pub fn new(
        rule: &'static Rule,
        host: &str,
        finding: Finding,
        allowed: Option<String>,
    ) -> Incident {
        let anchor = finding.anchor.identity();
        let finding_source = finding.source.ip;
        let (first_seen, last_seen) = span(&finding);
        let severity = match allowed {
            Some(_) => Severity::Informational,
            None => finding.severity,
        };
        Incident {
            rule,
            id: id(rule.chain, host, &anchor),
            severity,
            finding,
            allowed,
            first_seen,
            last_seen,
            repeat: 0,
            revision: 0,
            held_until: None,
            held_at: 0,
            sources: finding_source.into_iter().collect(),
            anchors: vec![hash(&anchor)],
            reported: None,
        }
    }

    /// Whether a finding is about an execution that is part of this incident already.
    pub fn has(&self, rule: &Rule, finding: &Finding) -> bool {
        self.rule.id == rule.id && self.anchors.contains(&hash(&finding.anchor.identity()))
    }

    /// Whether a finding is a repeat that belongs to this incident: alike, and not more than `suppress` milliseconds away. An
    /// allowed and a not allowed execution never share an incident.
    pub fn groups(&self, rule: &Rule, finding: &Finding, allowed: bool, suppress: i64) -> bool {
        let ms = finding.anchor.time.ms;
        let (ours, theirs) = (&self.finding.source.candidates, &finding.source.candidates);
        let may_share_source = !finding.group_by_source
            || ours.is_empty()
            || theirs.is_empty()
            || theirs.iter().any(|ip| ours.contains(ip));
        self.rule.id == rule.id
            && self.allowed.is_some() == allowed
            && may_share_source
            && self.finding.is_grouped_with(finding)
            && ms.saturating_sub(self.last_seen.ms) <= suppress
            && self.first_seen.ms.saturating_sub(ms) <= suppress
    }

    /// Takes a finding that [is part of](Incident::has) or [belongs to](Incident::groups) this incident.
    pub fn merge(&mut self, finding: Finding, allowed: Option<String>, counters: &mut Counters) {
        let anchor = hash(&finding.anchor.identity());
        let is_known = self.anchors.contains(&anchor);
        if !is_known {
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
        // Allowed only if every execution is: one that is not makes the whole incident not allowed.
        self.allowed = match allowed {
            Some(reason) if self.allowed.is_some() || is_known && self.anchors.len() == 1 => {
                Some(reason)
            }
            _ => None,
        };
        // Somebody else, who does the same: never hidden behind the first, whatever the severity.
        let source = finding.source.ip;
        let is_new_source = source.is_some_and(|ip| !self.sources.contains(&ip));
        if let Some(ip) = source.filter(|_| is_new_source && self.sources.len() < MAX_SOURCES) {
            self.sources.push(ip);
        }
        let old = &self.finding;
        let is_same = old.is_of_one_execution(&finding);
        // The writer of the file stays known after the file's event was forgotten.
        let stays_local = old.lateral == Some(false) && finding.file().is_none() && is_same;
        let is_more = finding.severity >= old.severity || is_same || is_new_source;
        if is_more && !stays_local {
            let severity = finding.severity.max(old.severity);
            self.finding = Finding {
                severity,
                ..merged(finding, old)
            };
        }
        self.severity = match self.allowed {
            Some(_) => Severity::Informational,
            None => self.finding.severity,
        };
    }

    fn report(&self) -> Report {
        let digits = self.repeat.checked_ilog10();
        Report {
            severity: self.severity,
            source: self.finding.source.ip,
            machine: self.finding.source.machine.clone(),
            user: self.finding.user(),
            lateral: self.finding.lateral,
            allowed: self.allowed.is_some(),
            repeat_marks: digits.map_or(0, |digits| digits.saturating_add(1)),
        }
    }

    /// Makes the next revision, if there is something new to report. Returns whether it did.
    pub fn emit_revision(&mut self, policy: &Policy, counters: &mut Counters) -> bool {
        self.held_until = None;
        let report = self.report();
        if self.reported.as_ref() == Some(&report) {
            add(&mut counters.suppressed);
            return false;
        }
        if self.finding.severity < policy.alert.min_severity {
            add(&mut counters.below_min_severity);
            return false;
        }
        // An incident that was alerted before and turns out to be allowed is reported all the same.
        let is_allowed = self.allowed.is_some();
        if is_allowed && policy.alert.allowed == Allowed::Drop && self.revision == 0 {
            add(&mut counters.allowed);
            return false;
        }
        if self.revision as usize >= policy.limits.revisions.get() {
            add(&mut counters.revisions_over_limit);
            return false;
        }
        self.reported = Some(report);
        self.revision = self.revision.saturating_add(1);
        add(match self.revision {
            1 => &mut counters.alerts,
            _ => &mut counters.revisions,
        });
        if is_allowed {
            add(&mut counters.allowed);
        }
        true
    }
}

/// The new finding, with the evidence that it lacks taken from the old one: what was once seen stays seen.
fn merged(new: Finding, old: &Finding) -> Finding {
    let mut merged = new;
    let is_same = merged.is_of_one_execution(old);
    // The source is that of one execution, not of those that it is grouped with; and where these have but the source in common,
    // everything else is of one execution, too.
    let is_of_one = merged.group_by_source;
    let is_taken = |evidence: &&Rc<Evidence>| {
        is_same || !is_of_one && !matches!(evidence.fact, Fact::Connection(_) | Fact::Logon(_))
    };
    for evidence in old.evidence.iter().filter(is_taken) {
        let kind = evidence.kind();
        if !merged.evidence.iter().any(|have| have.kind() == kind) {
            merged.evidence.push(Rc::clone(evidence));
        }
    }
    for child in &old.children {
        let is_new = !merged.children.iter().any(|have| Rc::ptr_eq(have, child));
        if merged.children.len() < MAX_CHILDREN && is_new {
            merged.children.push(Rc::clone(child));
        }
    }
    merged.children.sort_by_key(|child| child.time.ms);
    merged.lateral = merged.lateral.or(old.lateral);
    merged.missing.retain(|name| old.missing.contains(name));
    merged
}

/// The times of the earliest and the latest evidence. A logon may be hours older than what is done in its session.
fn span(finding: &Finding) -> (Timestamp, Timestamp) {
    let anchor = finding.anchor.time;
    let is_part = |evidence: &&Rc<Evidence>| evidence.kind() != EvidenceKind::Logon;
    let times = finding
        .evidence
        .iter()
        .filter(is_part)
        .map(|evidence| evidence.time);
    let first = times.clone().min_by_key(|time| time.ms).unwrap_or(anchor);
    let last = times.max_by_key(|time| time.ms).unwrap_or(anchor);
    (first, last)
}

/// 64 bits of FNV-1a.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// 128 bits of FNV-1a over chain, host and anchor, in hexadecimal. No counter and no randomness, so that any instance that sees the
/// same events makes the same id.
fn id(chain: &str, host: &str, anchor: &str) -> String {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    let parts = [chain, "\0", host, "\0", anchor];
    let bytes = parts.iter().flat_map(|part| part.bytes());
    let hash = bytes.fold(BASIS, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(PRIME)
    });
    format!("{hash:032x}")
}
