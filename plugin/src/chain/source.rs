//! Where an execution came from: the connections and logons around it, and who is the likeliest of several.

use super::within;
use crate::evidence::{Connection, Evidence, Fact, Logon, Shelf};
use crate::policy::Policy;
use crate::state::locker::Locker;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::rc::Rc;

/// Who an execution may have come from.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Source {
    /// The likeliest address.
    pub ip: Option<IpAddr>,
    /// The connection from it that fits best.
    pub connection: Option<Rc<Evidence>>,
    /// The logon from it.
    pub logon: Option<Rc<Evidence>>,
    /// Every address that connected or logged on within the window.
    pub candidates: Vec<IpAddr>,
    /// Whether something beside the time tells which of the candidates it was.
    pub named: bool,
    /// Whether the logon's account is beyond doubt: it is named, or nobody else logged on within the window.
    pub sure_user: bool,
    /// The name of the machine, where a pipe or a file gives it away.
    pub domain: Option<String>,
}

/// What a chain knows about the source beside the time.
#[derive(Default)]
pub struct Hints {
    /// The logon session that the process runs in.
    pub logon_id: Option<u64>,
    /// The name of the machine.
    pub domain: Option<String>,
}

/// Looks for the source of `anchor` among the connections that the chain `accepts`.
///
/// Sysmon writes event 3 about 1.5 s late, so of several connections the best is the one with the smallest
/// |logged - 1.5 s - anchor|. A logon says more: the one whose session the process runs in or whose machine gave the
/// name that is known, else the last one before from an address that connected.
pub fn find(
    anchor: &Evidence,
    locker: &Locker,
    policy: &Policy,
    hints: Hints,
    accepts: impl Fn(&Connection) -> bool,
) -> Source {
    let windows = &policy.windows;
    let mut source = Source {
        domain: hints.domain,
        ..Source::default()
    };
    let mut connections: Vec<(i64, IpAddr, &Rc<Evidence>)> = Vec::new();
    for piece in locker.shelf(Shelf::Connection) {
        let Fact::Connection(connection) = &piece.fact else {
            continue;
        };
        if !accepts(connection)
            || !within(
                piece,
                anchor,
                windows.connection_before.0,
                windows.connection_after.0,
            )
        {
            continue;
        }
        if !source.candidates.contains(&connection.remote) {
            source.candidates.push(connection.remote);
        }
        let late = piece
            .time
            .ms
            .saturating_sub(anchor.time.ms)
            .saturating_sub(policy.connection.logged_late_by.0);
        connections.push((late.saturating_abs(), connection.remote, piece));
    }
    // A tie goes to the smaller address, so that the order of arrival decides nothing.
    connections.sort_by_key(|(distance, remote, _)| (*distance, *remote));

    let logons: Vec<(u64, &Logon, &Rc<Evidence>)> = locker
        .shelf(Shelf::Logon)
        .filter(|piece| {
            within(
                piece,
                anchor,
                windows.connection_before.0,
                windows.clock_tolerance.0,
            )
        })
        .filter_map(|piece| match &piece.fact {
            Fact::Logon(logon) => Some((piece.time.ms.abs_diff(anchor.time.ms), &**logon, piece)),
            _ => None,
        })
        .collect();
    let nearest = |fits: &dyn Fn(&Logon) -> bool| {
        logons
            .iter()
            .filter(|(_, logon, _)| fits(logon))
            .min_by_key(|(distance, _, _)| *distance)
    };
    let same_session = |logon: &Logon| hints.logon_id.is_some() && logon.logon_id == hints.logon_id;
    let same_machine = |logon: &Logon| match (&source.domain, &logon.workstation) {
        (Some(domain), Some(workstation)) => workstation.eq_ignore_ascii_case(domain),
        _ => false,
    };
    let connected =
        |logon: &Logon| source.candidates.is_empty() || source.candidates.contains(&logon.remote);
    let sure = nearest(&same_session).or_else(|| nearest(&same_machine));
    let logon = sure
        .or_else(|| nearest(&connected))
        .map(|(_, logon, piece)| (logon.remote, Rc::clone(piece)));
    source.named = sure.is_some();
    source.sure_user =
        source.named || logons.windows(2).all(|pair| matches!(pair, [(_, a, _), (_, b, _)] if a.user == b.user && a.domain == b.domain));

    source.ip = logon
        .as_ref()
        .map(|(remote, _)| *remote)
        .or_else(|| connections.first().map(|(_, remote, _)| *remote));
    source.connection = connections
        .iter()
        .find(|(_, remote, _)| Some(*remote) == source.ip)
        .map(|(_, _, piece)| Rc::clone(piece));
    source.logon = logon.map(|(_, piece)| piece);
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

    /// The port it came from.
    pub fn port(&self) -> Option<u16> {
        match &self.connection.as_ref()?.fact {
            Fact::Connection(connection) => connection.remote_port,
            _ => None,
        }
    }
}
