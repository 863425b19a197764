//! The allow-list: whether an incident is legitimate.

use crate::chain::Finding;
use crate::policy::{AllowEntry, OnUnknown, Policy};
use std::net::IpAddr;

/// The reason of the first allow-list entry that covers a finding on the host with these names: its first label, and its whole name.
pub fn reason(finding: &Finding, host: [&str; 2], policy: &Policy) -> Option<String> {
    let mut entries = policy.allow.iter();
    let entry = entries.find(|entry| covers(entry, finding, host, policy))?;
    Some(entry.reason.clone())
}

/// Whether the policy has an entry that asks for sources.
pub fn asks_for_source(policy: &Policy) -> bool {
    policy.allow.iter().any(|entry| !entry.source.is_empty())
}

/// Whether it may turn out that an entry covers a finding that none covers yet: nothing identifies its source, and an address of an
/// entry may be it.
pub fn may_be_allowed(finding: &Finding, policy: &Policy) -> bool {
    let source = &finding.source;
    let mut ranges = policy.allow.iter().flat_map(|entry| &entry.source);
    let mut is_candidate =
        || ranges.any(|range| source.candidates.iter().any(|ip| range.contains(*ip)));
    !source.is_identified && (source.ip.is_none() || is_candidate())
}

/// Whether every field that the entry gives matches. A source matches if a session, a pipe or a key file identifies it; else if its
/// connection or logon lies within seconds of the execution, no other address fits better or logged on then, and no connection of that
/// time was evicted.
fn covers(entry: &AllowEntry, finding: &Finding, host: [&str; 2], policy: &Policy) -> bool {
    let source = &finding.source;
    let in_ranges = |ip: &IpAddr| entry.source.iter().any(|range| range.contains(*ip));
    let by_source = || match (source.ip, source.is_identified) {
        (None, _) => policy.alert.on_unknown_source == OnUnknown::Allow,
        (Some(ip), true) => in_ranges(&ip),
        // Presence is no proof: the allowed machine must have been at work at that time, fit best, and have been alone in logging on.
        (Some(ip), false) => {
            let logged_on = || source.logged_on.iter().copied();
            let is_at_work = source
                .at_work()
                .chain(logged_on())
                .any(|at_work| at_work == ip);
            let mut rivals = source.at_work().take(1).chain(logged_on());
            in_ranges(&ip) && is_at_work && !source.is_incomplete && rivals.all(|ip| in_ranges(&ip))
        }
    };
    // A logon that was merely there is no proof, either.
    let is_at_work = || source.ip.is_some_and(|ip| source.logged_on.contains(&ip));
    let is_logon_certain = source.is_user_certain && (source.is_identified || is_at_work());
    let is_user_certain = is_logon_certain || finding.logon().is_none();
    let by_user = || match finding.person().filter(|_| is_user_certain) {
        None => policy.alert.on_unknown_user == OnUnknown::Allow,
        // A name without its domain is enough where the entry gives none.
        Some(user) => {
            let name = user.split_once('\\').map(|(_, name)| name);
            entry.user.hit(&user) || name.is_some_and(|name| entry.user.hit(name))
        }
    };
    let process = finding.process();
    let by_process = || {
        let program = finding.program();
        program
            .is_some_and(|(path, key)| entry.process.hit(key.as_str()) || entry.process.hit(path))
    };
    let by_hash = || {
        let hashes = process.and_then(|process| process.hashes.as_deref());
        let values = hashes.unwrap_or_default().split([',', ' ']);
        let mut values = values.map(|hash| hash.split_once('=').unwrap_or(("", hash)));
        // Programs share an IMPHASH, and one of nothing is all zeros: neither says which file it is.
        let is_listed = |(algorithm, value): (&str, &str)| {
            let mut listed = entry.hash.iter();
            !algorithm.eq_ignore_ascii_case("IMPHASH")
                && !value.bytes().all(|byte| byte == b'0')
                && listed.any(|hash| hash.eq_ignore_ascii_case(value))
        };
        values.any(is_listed)
    };
    let by_service = || {
        let service = finding.service();
        service.is_some_and(|set| entry.service.hit(&set.service))
    };
    let until = entry.until.as_ref();
    until.is_none_or(|until| finding.anchor.time.ms <= until.ms)
        && (entry.source.is_empty() || by_source())
        && (entry.host.is_empty() || host.iter().any(|name| entry.host.hit(name)))
        && (entry.user.is_empty() || by_user())
        && (entry.process.is_empty() || by_process())
        && (entry.hash.is_empty() || by_hash())
        && (entry.service.is_empty() || by_service())
}
