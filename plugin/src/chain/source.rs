//! Where an execution came from: the connections and logons around it, and which of several sources is the likeliest.

use super::join::Join;
use super::table::{Piece, Window};
use crate::evidence::{Connection, Evidence, EvidenceKind, Fact, Logon};
use crate::normalize::host;
use crate::settings::{ConnectionSettings, Windows};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::rc::Rc;

/// Who an execution may have come from.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Source {
    /// The likeliest address.
    pub ip: Option<IpAddr>,
    /// The connection from that address that fits best.
    pub connection: Option<Rc<Evidence>>,
    /// The logon from that address.
    pub logon: Option<Rc<Evidence>>,
    /// Every address that connected or logged on within the window.
    pub candidates: Vec<IpAddr>,
    /// Whether something beside the time identifies the candidate.
    pub is_identified: bool,
    /// Whether the process runs in the session of the logon: it is remote, whatever else was logged.
    #[serde(skip)]
    pub is_session_known: bool,
    /// Whether the process itself gives the name of the machine away; a file may be that of another run.
    #[serde(skip)]
    is_named_by_process: bool,
    /// Whether more than its time ties the connection to the execution.
    #[serde(skip)]
    is_connection_tied: bool,
    /// Whether the logon lies within 2 s before the execution.
    #[serde(skip)]
    pub is_logon_near: bool,
    /// The addresses that connected within seconds of the execution, the one that fits best first, with how far they are from the
    /// time that fits, in milliseconds.
    #[serde(skip)]
    at_work: Vec<(i64, IpAddr)>,
    /// The addresses from which persons who may have done it logged on within seconds of the execution.
    #[serde(skip)]
    pub logged_on: Vec<IpAddr>,
    /// Whether connections or logons of that time were evicted, so that others may have been at work.
    #[serde(skip)]
    pub is_incomplete: bool,
    /// Whether the logon's account is certain: the source is identified, or nobody else logged on within the window.
    pub is_user_certain: bool,
    /// The name of the machine, where a pipe or a file gives it away.
    pub machine: Option<String>,
}

/// What a technique knows about the source beside the time.
#[derive(Default)]
pub struct Hints {
    /// The logon session that the process runs in.
    pub logon_id: Option<u64>,
    /// The name of the machine.
    pub machine: Option<String>,
    /// Whether the process itself gives that name away; a file may be that of another run.
    pub is_named_by_process: bool,
    /// When the first piece of the execution was logged, in milliseconds.
    pub first: Option<i64>,
    /// Whether more than its time ties a connection to the execution, so that a logon from elsewhere does not outweigh it.
    pub is_connection_tied: bool,
}

/// The window of connections around an execution.
pub fn connection_window(windows: &Windows) -> Window {
    Window {
        before: windows.connection_before.0,
        after: windows.connection_after.0,
    }
}

/// Logons that an execution may have come with. Part of every table that asks for a source.
pub const LOGON: Piece = Piece::evidence(
    30,
    "logon",
    EvidenceKind::Logon,
    |windows| Window {
        before: windows.connection_before.0,
        after: windows.clock_tolerance.0,
    },
    "a network logon (Security 4624) that the execution may have come with",
)
.optional();

/// Whether a connection from another machine can be that of a remote execution: to a service port, or to a dynamic port of the
/// service controller or of another host of RPC services.
pub fn is_smb_or_rpc(connection: &Connection, settings: &ConnectionSettings) -> bool {
    let mut programs = settings.dynamic_programs.iter();
    !connection.is_to_itself()
        && (settings.is_service_port(connection.local_port)
            || programs.any(|program| **program == *connection.program))
}

/// Whether a connection from another machine can be that of an execution through the service controller: to SMB or the endpoint
/// mapper, or to a dynamic port of the controller itself. Other hosts of RPC services are connected to for many reasons.
pub fn is_to_services(connection: &Connection, settings: &ConnectionSettings) -> bool {
    !connection.is_to_itself()
        && (settings.is_service_port(connection.local_port)
            || &*connection.program == "services.exe")
}

/// A person's logon this long before the first piece of an execution is the one that it came with, whoever else connected, in
/// milliseconds.
const LOGON_MS: i64 = 2_000;

/// How near to the first piece of an execution a connection or a logon must lie to be proof that its machine was at work then, in
/// milliseconds. A connection may be logged later, within its window.
const PROOF_MS: i64 = 5_000;

/// How many addresses that were at work, or logged on, are remembered of one execution. Of more that logged on nobody knows any more
/// that they were no rivals of an allowed one, so that it has no proof.
const MAX_REMEMBERED: usize = 32;

/// Looks for the source of an execution at `center` among the connections that are a `piece` of it and that the technique `accepts`.
///
/// Surest is the logon whose session the process runs in; then the machine that a pipe or key file of the execution names; then a
/// person's logon at most 2 s before the first piece, an administrator's first. Else it is the connection that fits best: Sysmon writes event 3 about 1.5 s
/// late (median), so that with the smallest |logged - 1.5 s - center|. Machine accounts and ANONYMOUS LOGON are no persons.
#[inline(never)]
pub fn find(
    join: &Join<'_>,
    center: &Evidence,
    piece: &Piece,
    settings: &ConnectionSettings,
    hints: Hints,
    accepts: &dyn Fn(&Connection) -> bool,
) -> Source {
    let mut source = Source {
        machine: hints.machine,
        is_named_by_process: hints.is_named_by_process,
        is_connection_tied: hints.is_connection_tied,
        ..Source::default()
    };
    let center_ms = center.time.ms;
    let first = hints.first.unwrap_or(center_ms).min(center_ms);
    let mut connections: Vec<(i64, IpAddr, &Rc<Evidence>)> = Vec::new();
    for evidence in join.all_around(piece, center) {
        let Fact::Connection(connection) = &evidence.fact else {
            continue;
        };
        if !accepts(connection) {
            continue;
        }
        if !source.candidates.contains(&connection.remote) {
            source.candidates.push(connection.remote);
        }
        let late = evidence
            .time
            .ms
            .saturating_sub(center_ms)
            .saturating_sub(settings.logged_late_by.0);
        connections.push((late.saturating_abs(), connection.remote, evidence));
    }
    // Of two that fit as well the smaller address is taken, so that the order of arrival decides nothing.
    connections.sort_by_key(|(distance, remote, _)| (*distance, *remote));

    let logons: Vec<(u64, &Logon, &Rc<Evidence>)> = join
        .all_around(&LOGON, center)
        .filter_map(|evidence| match &evidence.fact {
            Fact::Logon(logon) => Some((evidence.time.ms.abs_diff(first), &**logon, evidence)),
            _ => None,
        })
        .collect();
    let nearest = |fits: &dyn Fn(&Logon, i64) -> bool| {
        let fitting = logons
            .iter()
            .filter(|(_, logon, evidence)| fits(logon, evidence.time.ms));
        let rank = |logon: &Logon| (!logon.is_person(), !logon.is_administrative());
        let best = fitting.min_by_key(|(distance, logon, _)| (rank(logon), *distance));
        best.map(|(_, logon, evidence)| (*logon, *evidence))
    };
    let is_same_machine = |logon: &Logon, _| match (&source.machine, &logon.workstation) {
        (Some(machine), Some(workstation)) => host::is_same_netbios(machine, workstation),
        _ => false,
    };
    let is_just_before = |ms: i64| {
        (first.saturating_sub(LOGON_MS)..=center_ms.max(first).saturating_add(LOGON_MS))
            .contains(&ms)
    };
    let came_with = |logon: &Logon, ms| logon.is_person() && is_just_before(ms);
    let candidates = &source.candidates;
    let is_connected =
        |logon: &Logon, _| candidates.is_empty() || candidates.contains(&logon.remote);
    let came_connected = |logon: &Logon, ms| came_with(logon, ms) && is_connected(logon, ms);
    let by_session = hints.logon_id.and_then(|id| join.session(id));
    let identified = by_session.or_else(|| nearest(&is_same_machine));
    let best = connections.first().map(|(_, remote, _)| *remote);
    let is_of_best = |logon: &Logon, _| best.is_none_or(|best| logon.remote == best);
    let logon = identified
        .or_else(|| nearest(&came_connected))
        .or_else(|| nearest(&came_with).filter(|_| best.is_none() || !hints.is_connection_tied))
        .or_else(|| nearest(&is_of_best))
        .map(|(logon, evidence)| (logon.remote, Rc::clone(evidence)));
    source.is_identified = identified.is_some();
    source.is_session_known = by_session.is_some();
    source.is_logon_near = logons.iter().any(|(_, found, evidence)| {
        came_with(found, evidence.time.ms)
            && logon
                .as_ref()
                .is_some_and(|(_, chosen)| Rc::ptr_eq(chosen, evidence))
    });
    // A remote execution needs the rights of an administrator. Where these were logged, nobody else counts.
    let are_rights_logged = logons.iter().any(|(_, logon, _)| logon.is_administrative());
    let may_execute =
        |logon: &Logon| logon.is_person() && (!are_rights_logged || logon.is_administrative());
    let persons = || {
        let logons = logons.iter().map(|(_, logon, _)| *logon);
        logons.filter(|logon| may_execute(logon))
    };
    let first_person = persons().next();
    source.is_user_certain = source.is_identified
        || persons().all(|logon| {
            first_person
                .is_some_and(|first| logon.user == first.user && logon.domain == first.domain)
        });

    source.ip = logon.as_ref().map(|(remote, _)| *remote).or(best);
    source.connection = connections
        .iter()
        .find(|(_, remote, _)| Some(*remote) == source.ip)
        .map(|(_, _, evidence)| Rc::clone(evidence));
    source.logon = logon.map(|(_, evidence)| evidence);
    // Who was at work at that time: whoever connected, the best first, and whoever logged on.
    let is_near = |ms: i64, after: i64| {
        ms >= first.saturating_sub(PROOF_MS) && ms <= center_ms.saturating_add(after)
    };
    for (distance, remote, evidence) in &connections {
        if is_near(evidence.time.ms, i64::MAX) {
            source.add_at_work(*distance, *remote);
        }
    }
    for (_, logon, evidence) in &logons {
        if is_near(evidence.time.ms, LOGON_MS)
            && may_execute(logon)
            && !source.logged_on.contains(&logon.remote)
        {
            source.logged_on.push(logon.remote);
        }
    }
    source.is_incomplete = join.lost_sources_since(first.saturating_sub(PROOF_MS));
    // Whoever logged on may have come over a connection that was not logged.
    let logged_on = logons.iter().map(|(_, logon, _)| logon.remote);
    for remote in logged_on.chain(by_session.map(|(logon, _)| logon.remote)) {
        if !source.candidates.contains(&remote) {
            source.candidates.push(remote);
        }
    }
    source
}

impl Source {
    /// Adds an address that connected within seconds of the execution, `distance` milliseconds from the time that fits.
    fn add_at_work(&mut self, distance: i64, remote: IpAddr) {
        match self.at_work.iter_mut().find(|(_, known)| *known == remote) {
            Some((known, _)) => *known = distance.min(*known),
            None => self.at_work.push((distance, remote)),
        }
    }

    /// The addresses that connected within seconds of the execution, the one that fits best first.
    pub fn at_work(&self) -> impl Iterator<Item = IpAddr> {
        self.at_work.iter().map(|(_, remote)| *remote)
    }

    /// Takes in what was known of the source of the same execution before, when evidence was stored that may have had to give way:
    /// what once identified the source still does, and whoever was at work then was. Returns whether that source was surer and is the
    /// source again.
    #[inline(never)]
    pub fn remember(&mut self, before: &Source) -> bool {
        for (distance, remote) in &before.at_work {
            self.add_at_work(*distance, *remote);
        }
        self.at_work.sort_unstable();
        self.at_work.truncate(MAX_REMEMBERED);
        for remote in &before.logged_on {
            if !self.logged_on.contains(remote) {
                self.logged_on.push(*remote);
            }
        }
        // Whatever came before was looked at when it came.
        self.is_incomplete &= before.is_incomplete;
        self.is_incomplete |= self.logged_on.len() > MAX_REMEMBERED;
        self.logged_on.truncate(MAX_REMEMBERED);
        if self.rank() >= before.rank() {
            return false;
        }
        // Who else may have been there is what was just found.
        *self = Source {
            candidates: std::mem::take(&mut self.candidates),
            at_work: std::mem::take(&mut self.at_work),
            logged_on: std::mem::take(&mut self.logged_on),
            is_incomplete: self.is_incomplete,
            is_connection_tied: self.is_connection_tied,
            ..before.clone()
        };
        if let Some(ip) = before.ip.filter(|ip| !self.candidates.contains(ip)) {
            self.candidates.push(ip);
        }
        true
    }

    /// How sure the source is, the higher the surer.
    fn rank(&self) -> u8 {
        let is_connection_tied = self.is_connection_tied && self.connection.is_some();
        let by_process = self.is_session_known || self.is_identified && self.is_named_by_process;
        match self.ip {
            _ if by_process || is_connection_tied => 4,
            _ if self.is_identified => 3,
            _ if self.is_logon_near => 2,
            Some(_) => 1,
            None => 0,
        }
    }

    /// Whether a connection from another machine was seen, or a person's logon from there just before.
    pub fn is_connected(&self) -> bool {
        self.connection.is_some() || self.is_logon_near
    }

    /// The port that the connection came from.
    pub fn port(&self) -> Option<u16> {
        match &self.connection.as_ref()?.fact {
            Fact::Connection(connection) => connection.remote_port,
            _ => None,
        }
    }
}
