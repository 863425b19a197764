//! What the filter counts. Every limit that was reached and every record that could not be examined shows here.

use crate::event::Reject;
use crate::record::Fault;
use serde::Serialize;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters since the module was started. They saturate, never wrap.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }
    };
}

counters! {
    /// Calls with a record.
    records,
    /// Calls with a tick.
    ticks,
    /// Records that begin with the key of ticks and are none; they are examined like any other record.
    bad_ticks,
    /// Records that were dropped because `alert.pass` does not let them pass.
    dropped,
    /// Events that may be evidence for a technique in use.
    events,
    /// Evidence stored.
    evidence,
    /// Evidence that was not stored because evidence that joins to the same was logged within the clock tolerance.
    evidence_duplicate,
    /// Incidents alerted for the first time.
    alerts,
    /// Further revisions of an incident already alerted.
    revisions,
    /// Repeats and changes of an incident that did not lead to a revision.
    suppressed,
    /// Alerts that an allow-list entry made informational, or suppressed (`alert.allowed`).
    allowed,
    /// Incidents that were held for a late connection because an allow-list entry asks for their source.
    held,
    /// Incidents below the policy's `min_severity`.
    below_min_severity,
    /// Revisions that were not emitted because the incident had reached `limits.revisions`.
    revisions_over_limit,
    /// Evidence evicted because its host had no room (`limits.evidence_per_host`), or because four that join to the
    /// same evidence are kept.
    evicted_evidence,
    /// Files that came over SMB and are forgotten altogether: beside its evidence a host remembers 256 by their path.
    forgotten_files,
    /// Evidence or incidents evicted because all hosts together held too much (`limits.state_bytes`).
    evicted_bytes,
    /// Hosts forgotten because there was no room (`limits.hosts`, `limits.state_bytes`).
    evicted_hosts,
    /// Anchors of an incident that were forgotten (16 are remembered); one that comes back counts as a repeat.
    evicted_anchors,
    /// Own addresses of a host that were forgotten (four are remembered).
    evicted_addresses,
    /// Processes whose children are no longer looked at, because newer ones took their places (`limits.tracked_processes`; 64 of those
    /// whose start was not logged).
    evicted_tracked_processes,
    /// Incidents forgotten because their host had no room (`limits.incidents_per_host`); further evidence opens a new one.
    evicted_incidents,
    /// Alerts that waited for a record and were dropped (`limits.pending_per_host`).
    evicted_pending,
    /// Alerts added to a record although `alert.emit` asks for records of their own, because 64 alerts waited for a tick.
    tagged_queue_full,
    /// Alerts written under the second key because the record already had the first.
    key_taken,
    /// Times an alert was put off to the host's next record because no object could be added to this one.
    put_off,
    /// Events with a wanted id of other providers and channels than Sysmon's or, for logons, the Security channel's.
    wrong_provider,
    /// Events without a host name.
    no_host,
    /// Events without a time that can be used.
    no_time,
    /// Events that lack a field that their kind must have (a path, an address), or have it in a form that no known producer writes.
    incomplete,
    /// Events with text that is not UTF-8 in a value that was read; they are examined all the same.
    invalid_utf8,
    /// Events that give a field twice; they are examined with the first value.
    duplicate_keys,
    /// Events with a text of more than 1 KiB, of which the first KiB is kept. Command lines are examined to their end. Also events
    /// inside a string of more than 256 KiB, of which the rest was not read.
    text_cut,
    /// Empty records.
    unparsed_empty,
    /// Records longer than `limits.max_record_bytes`, and those with a string of more than 256 KiB that should hold an
    /// event and has none in its first 256 KiB.
    unparsed_too_large,
    /// Records that are not a JSON object.
    unparsed_not_object,
    /// Records that end in the middle.
    unparsed_truncated,
    /// Records nested too deeply.
    unparsed_too_deep,
    /// Records with a NUL byte outside a string.
    unparsed_nul,
    /// Records that break JSON in another way.
    unparsed_malformed,
    /// Records whose time is far (15 minutes) from both watermarks of their host.
    clock_jumps,
    /// 1 if the packed policy could not be read and the defaults are in force.
    policy_refused,
    /// Hosts left out of a snapshot because they hold too much.
    unsaved_hosts,
    /// Times the filter was started again after a call that did not return.
    restarts,
}

impl Counters {
    /// Counts a record that is not an event that can be used.
    pub fn reject(&mut self, reject: Reject) {
        add(match reject {
            Reject::WrongProvider => &mut self.wrong_provider,
            Reject::NoHost => &mut self.no_host,
            Reject::NoTime => &mut self.no_time,
        });
    }

    /// Counts a record that could not be examined.
    pub fn fault(&mut self, fault: Fault) {
        add(match fault {
            Fault::Empty => &mut self.unparsed_empty,
            Fault::TooLarge => &mut self.unparsed_too_large,
            Fault::NotObject => &mut self.unparsed_not_object,
            Fault::Truncated => &mut self.unparsed_truncated,
            Fault::TooDeep => &mut self.unparsed_too_deep,
            Fault::Nul => &mut self.unparsed_nul,
            Fault::Malformed => &mut self.unparsed_malformed,
        });
    }
}

/// Counts one.
pub fn add(counter: &mut u64) {
    *counter = counter.saturating_add(1);
}
