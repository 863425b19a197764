//! Where an execution came from: the connections and logons around it, and which of several sources is the likeliest.

use super::join::Join;
use super::table::{Piece, Window};
use crate::evidence::{Connection, Evidence, EvidenceKind, Fact, Logon};
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

/// Whether a connection can be that of a remote execution: to a service port, or to a dynamic port of the service controller or of
/// another host of RPC services.
pub fn is_smb_or_rpc(connection: &Connection, settings: &ConnectionSettings) -> bool {
    let mut programs = settings.dynamic_programs.iter();
    settings.is_service_port(connection.local_port)
        || programs.any(|program| **program == *connection.program)
}

/// Looks for the source of an execution at `center` among the connections that are a `piece` of it and that the technique `accepts`.
///
/// Sysmon writes event 3 about 1.5 s late (median), so of several connections the best is the one with the smallest
/// |logged - 1.5 s - center|. A logon weighs more: the one whose session the process runs in or whose machine gave the name that is
/// known, else the last one before from an address that connected.
#[inline(never)]
pub fn find(
    join: &Join<'_>,
    center: &Evidence,
    piece: &Piece,
    settings: &ConnectionSettings,
    hints: Hints,
    accepts: impl Fn(&Connection) -> bool,
) -> Source {
    let mut source = Source {
        machine: hints.machine,
        ..Source::default()
    };
    let center_ms = center.time.ms;
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
            Fact::Logon(logon) => Some((evidence.time.ms.abs_diff(center_ms), &**logon, evidence)),
            _ => None,
        })
        .collect();
    let nearest = |fits: &dyn Fn(&Logon) -> bool| {
        let fitting = logons.iter().filter(|(_, logon, _)| fits(logon));
        fitting.min_by_key(|(distance, _, _)| *distance)
    };
    let is_same_session =
        |logon: &Logon| hints.logon_id.is_some() && logon.logon_id == hints.logon_id;
    let is_same_machine = |logon: &Logon| match (&source.machine, &logon.workstation) {
        (Some(machine), Some(workstation)) => workstation.eq_ignore_ascii_case(machine),
        _ => false,
    };
    let candidates = &source.candidates;
    let is_connected = |logon: &Logon| candidates.is_empty() || candidates.contains(&logon.remote);
    let identified = nearest(&is_same_session).or_else(|| nearest(&is_same_machine));
    let logon = identified
        .or_else(|| nearest(&is_connected))
        .map(|(_, logon, evidence)| (logon.remote, Rc::clone(evidence)));
    source.is_identified = identified.is_some();
    source.is_user_certain = source.is_identified
        || logons.windows(2).all(|pair| {
            matches!(pair, [(_, a, _), (_, b, _)] if a.user == b.user && a.domain == b.domain)
        });

    let best = connections.first().map(|(_, remote, _)| *remote);
    source.ip = logon.as_ref().map(|(remote, _)| *remote).or(best);
    source.connection = connections
        .iter()
        .find(|(_, remote, _)| Some(*remote) == source.ip)
        .map(|(_, _, evidence)| Rc::clone(evidence));
    source.logon = logon.map(|(_, evidence)| evidence);
    // Whoever logged on may have come over a connection that was not logged.
    for (_, logon, _) in &logons {
        if !source.candidates.contains(&logon.remote) {
            source.candidates.push(logon.remote);
        }
    }
    source
}

impl Source {
    /// Whether a connection from another machine was seen.
    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// The port that the connection came from.
    pub fn port(&self) -> Option<u16> {
        match &self.connection.as_ref()?.fact {
            Fact::Connection(connection) => connection.remote_port,
            _ => None,
        }
    }
}
