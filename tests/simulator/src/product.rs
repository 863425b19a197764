//! Everything that the simulator takes from the filter beside its answers: windows, limits and shares. In one place, because
//! none of it may be repeated here as a number of the simulator's own.

use psexec_filter_plugin::correlate::Correlator;
pub use psexec_filter_plugin::evidence::EvidenceKind as Kind;
/// How many hosts the filter looks at for one without an open incident, when it must forget one.
pub use psexec_filter_plugin::hosts::LOOK_BACK as HOSTS_LOOKED_AT;
/// A host that has been silent for this long, in milliseconds, may be forgotten for the memory of others.
pub use psexec_filter_plugin::hosts::SILENT_MS;
use psexec_filter_plugin::policy::{Millis, Policy};

/// So many files that came over SMB since do not hide one that is started: what the documents promise of a busy file server.
pub const RECALLED_FILES: usize = 200;

/// How much evidence of that kind the policy has room for on one host.
pub fn room(policy: &Policy, kind: Kind) -> usize {
    kind.room(policy.limits.evidence_per_host.get())
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

/// How long evidence may have to be remembered, in milliseconds.
pub fn remembered(policy: &Policy) -> i64 {
    Correlator::new(policy).join_window()
}
