//! The alert: the JSON object that is added to a record. ECS names where ECS has one.

use crate::chain::Finding;
use crate::counters::Counters;
use crate::evidence::{Evidence, Fact};
use crate::hosts::Hosts;
use crate::incident::Incident;
use crate::normalize::time::Timestamp;
use crate::settings::Severity;
use serde::Serialize;
use std::borrow::Cow;
use std::net::IpAddr;
use std::rc::Rc;

#[derive(Serialize)]
struct Alert<'a> {
    kind: &'static str,
    id: &'a str,
    revision: u32,
    severity: Severity,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    chain: &'a str,
    lateral: Option<bool>,
    rule: Named<'a>,
    threat: Threat<'a>,
    host: HostName<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<Source<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<User<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<File<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<Process<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<Service<'a>>,
    first_seen: String,
    last_seen: String,
    /// Present when the logged times name no zone: they are then the host's local time, as they were written.
    #[serde(skip_serializing_if = "Option::is_none")]
    time_zone: Option<&'static str>,
    repeat: u32,
    missing: &'a [Cow<'static, str>],
    evidence: Vec<Piece>,
}

#[derive(Serialize)]
struct Named<'a> {
    id: &'a str,
    name: &'a str,
}

#[derive(Serialize)]
struct Threat<'a> {
    framework: &'static str,
    technique: Ids<'a>,
    tactic: Tactic,
}

#[derive(Serialize)]
struct Ids<'a> {
    id: &'a [&'a str],
}

#[derive(Serialize)]
struct Tactic {
    id: [&'static str; 2],
    name: [&'static str; 2],
}

/// The tactics of every technique here: something is executed, and from elsewhere.
const TACTIC: Tactic = Tactic {
    id: ["TA0002", "TA0008"],
    name: ["Execution", "Lateral Movement"],
};

#[derive(Serialize)]
struct HostName<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct Source<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    /// How many addresses connected within the window, this one included.
    candidates: usize,
    /// Name of the machine, where a pipe, a file or the logon gives it away.
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
}

#[derive(Serialize)]
struct User<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
    name: &'a str,
}

#[derive(Serialize)]
struct File<'a> {
    path: &'a str,
}

#[derive(Serialize)]
struct Process<'a> {
    executable: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    command_line: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entity_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    original_file_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hashes: Option<&'a str>,
    /// Absent where the start of the process was not logged.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<ParentProcess<'a>>,
    /// What it started; at most eight.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    children: Vec<Child<'a>>,
}

#[derive(Serialize)]
struct Child<'a> {
    executable: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    command_line: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<User<'a>>,
}

#[derive(Serialize)]
struct ParentProcess<'a> {
    executable: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entity_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Service<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct Piece {
    event: u32,
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    record_id: Option<u64>,
    summary: String,
}

/// The alert about an incident on the host of that name, as JSON. At most some 40 KiB: every text in it was cut to 1 KiB when it
/// was read and has no control characters, which JSON writes six bytes long; children and summaries are cut shorter.
pub fn write(incident: &Incident, computer: &str) -> String {
    let (finding, rule) = (&incident.finding, incident.rule);
    let account = finding.user();
    let mut pieces: Vec<&Evidence> = finding.evidence.iter().map(|piece| &**piece).collect();
    pieces.sort_by_key(|piece| (piece.time.ms, piece.kind() as u8));
    let zoned = pieces.iter().all(|piece| piece.time.zoned);
    let alert = Alert {
        kind: "alert",
        id: &incident.id,
        revision: incident.revision,
        severity: incident.severity,
        status: incident.allowed.as_ref().map(|_| "allowed"),
        reason: incident.allowed.as_deref(),
        chain: rule.chain,
        lateral: finding.lateral,
        rule: Named {
            id: rule.id,
            name: rule.name,
        },
        threat: Threat {
            framework: "MITRE ATT&CK",
            technique: Ids {
                id: rule.techniques,
            },
            tactic: TACTIC,
        },
        host: HostName { name: computer },
        source: (finding.source.ip.is_some() || finding.source.machine.is_some()).then(|| Source {
            ip: finding.source.ip,
            port: finding.source.port(),
            candidates: finding.source.candidates.len(),
            domain: finding.source.machine.as_deref().or_else(|| {
                finding
                    .logon()
                    .and_then(|logon| logon.workstation.as_deref())
            }),
        }),
        user: account.as_deref().map(user),
        file: finding.file().map(|file| File { path: &file.path }),
        process: process_of(finding),
        service: finding.service().map(|set| Service { name: &set.service }),
        first_seen: incident.first_seen.to_string(),
        last_seen: incident.last_seen.to_string(),
        time_zone: (!zoned).then_some("unspecified"),
        repeat: incident.repeat,
        missing: &finding.missing,
        evidence: pieces.into_iter().map(piece).collect(),
    };
    serde_json::to_string(&alert).unwrap_or_default()
}

#[derive(Serialize)]
struct Stats<'a> {
    kind: &'static str,
    hosts: usize,
    state_bytes: usize,
    incidents: usize,
    waiting: usize,
    counters: &'a Counters,
}

/// The process that was started. Where its start was not logged, what is known of it.
fn process_of(finding: &Finding) -> Option<Process<'_>> {
    let start = finding.process();
    let entity_id = finding.process_guid();
    // A file and a service do not show that anything was started.
    if start.is_none() && entity_id.is_none() {
        return None;
    }
    let (executable, _) = finding.program()?;
    Some(Process {
        executable,
        command_line: start.and_then(|start| start.command_line.as_deref()),
        entity_id,
        original_file_name: start.and_then(|start| start.original_file_name.as_deref()),
        hashes: start.and_then(|start| start.hashes.as_deref()),
        parent: start.map(|start| ParentProcess {
            executable: start.parent_image.as_deref(),
            entity_id: start.parent_process_guid.as_deref(),
        }),
        children: finding.children.iter().filter_map(child).collect(),
    })
}

/// The counters, and how much is remembered, as JSON.
pub fn write_stats(counters: &Counters, hosts: &Hosts) -> String {
    let stats = Stats {
        kind: "stats",
        hosts: hosts.len(),
        state_bytes: hosts.bytes(),
        incidents: hosts.incidents(),
        waiting: hosts.waiting(),
        counters,
    };
    serde_json::to_string(&stats).unwrap_or_default()
}

/// A record of its own for an alert or the counters, without them: they are added to it as to any record.
#[derive(Serialize)]
struct OwnRecord<'a> {
    psexec_filter: &'static str,
    #[serde(rename = "@timestamp", skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<Created>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<HostName<'a>>,
}

#[derive(Serialize)]
struct Created {
    created: String,
}

/// A record for an alert about the host of that name. `last_seen` is the time of its latest evidence, `now` the time of the tick.
pub fn write_record(
    computer: &str,
    last_seen: Option<Timestamp>,
    now: Option<Timestamp>,
) -> String {
    let record = OwnRecord {
        psexec_filter: "alert",
        timestamp: last_seen.map(|time| time.to_string()),
        event: now.map(|time| Created {
            created: time.to_string(),
        }),
        host: Some(HostName { name: computer }),
    };
    serde_json::to_string(&record).unwrap_or_default()
}

/// A record for the counters. `now` is the time of the tick.
pub fn write_stats_record(now: Option<Timestamp>) -> String {
    let record = OwnRecord {
        psexec_filter: "stats",
        timestamp: now.map(|time| time.to_string()),
        event: None,
        host: None,
    };
    serde_json::to_string(&record).unwrap_or_default()
}

/// `domain\name`, or a name alone.
fn user(account: &str) -> User<'_> {
    match account.split_once('\\') {
        Some((domain, name)) => User {
            domain: Some(domain),
            name,
        },
        None => User {
            domain: None,
            name: account,
        },
    }
}

/// As much of a text as identifies it, where there are many.
fn short(text: &str) -> &str {
    text.get(..text.floor_char_boundary(SHORT)).unwrap_or(text)
}

/// In bytes. Eight children and nine pieces of evidence are to fit beside the largest record.
const SHORT: usize = 256;

fn child(piece: &Rc<Evidence>) -> Option<Child<'_>> {
    let Fact::ProcessStart(start) = &piece.fact else {
        return None;
    };
    Some(Child {
        executable: short(&start.image),
        command_line: start.command_line.as_deref().map(short),
        user: start.user.as_deref().map(short).map(user),
    })
}

fn piece(evidence: &Evidence) -> Piece {
    let limit = SHORT.saturating_mul(2);
    Piece {
        event: evidence.event_id,
        time: evidence.time.to_string(),
        record_id: evidence.record_id,
        summary: crate::json::text::truncate(evidence.fact.summary(), limit),
    }
}
