//! Everything that the simulator takes from the filter beside its answers: windows, limits and shares. In one place, because
//! none of it may be repeated here as a number of the simulator's own.

pub use psexec_filter_plugin::evidence::Shelf as Kind;
use psexec_filter_plugin::policy::{Millis, Policy};
/// How many hosts the filter looks at for one without an open incident, when it must forget one.
pub use psexec_filter_plugin::state::hosts::LOOK_BACK as HOSTS_LOOKED_AT;
/// A host that has been silent for this long, in milliseconds, may be forgotten for the memory of others.
pub use psexec_filter_plugin::state::hosts::SILENT_MS;
use psexec_filter_plugin::state::locker::share;

/// All kinds of evidence.
const KINDS: [Kind; Kind::COUNT] = [
    Kind::Connection,
    Kind::FileWrite,
    Kind::ProcessStart,
    Kind::ComStart,
    Kind::Child,
    Kind::ServiceSet,
    Kind::ServiceMark,
    Kind::Pipe,
    Kind::Logon,
];

/// How many pieces of evidence of that kind the policy has room for on one host.
pub fn room(policy: &Policy, kind: Kind) -> usize {
    let all: usize = KINDS.into_iter().map(share).sum();
    (policy.limits.evidence_per_host.get() * share(kind) / all).max(1)
}

/// The longest of the policy's windows, in milliseconds.
pub fn longest_window(policy: &Policy) -> i64 {
    let windows = serde_json::to_value(&policy.windows).expect("a policy is JSON");
    let spans = windows
        .as_object()
        .into_iter()
        .flat_map(|keys| keys.values());
    let spans = spans.map(|span| serde_json::from_value::<Millis>(span.clone()));
    spans
        .map(|span| span.expect("windows are spans of time").0)
        .max()
        .expect("there are windows")
}

/// How long evidence may have to be remembered, in milliseconds: for the longest window before the last piece of an execution,
/// and for a connection after it.
pub fn remembered(policy: &Policy) -> i64 {
    longest_window(policy) + policy.windows.connection_after.0
}
