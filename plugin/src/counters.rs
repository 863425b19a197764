//! What the filter counts. Every bound that bites and every record that could not be examined shows here.

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
    /// Records that held an event some chain may want.
    events,
    /// Pieces of evidence kept.
    evidence,
    /// Pieces of evidence that said nothing new within the clock tolerance and were not kept.
    evidence_duplicate,
    /// Incidents alerted for the first time.
    alerts,
    /// Further revisions of an incident already alerted.
    revisions,
    /// Repeats and changes of an incident that raised no revision of their own.
    suppressed,
    /// Alerts that an allow-list entry made informational, or kept from being raised (`alert.allowed`).
    allowed,
    /// Incidents that waited for a late connection because an allow-list entry asks for their source.
    held,
    /// Incidents below the policy's `min_severity`.
    below_min_severity,
    /// Revisions not raised because the incident had reached `limits.revisions`.
    revisions_over_limit,
    /// Evidence given up for room on its own host (`limits.evidence_per_host`), or for the fifth that joins to the same.
    evicted_evidence,
    /// Evidence or incidents given up because all hosts together held too much (`limits.state_bytes`).
    evicted_bytes,
    /// Hosts forgotten for room (`limits.hosts`).
    evicted_hosts,
    /// Anchors of an incident forgotten for room (16 are recognised again); one that comes back counts as a repeat.
    evicted_anchors,
    /// Own addresses of a host forgotten for room (four are remembered).
    evicted_addresses,
    /// Processes whose children are no longer looked at, for newer ones (`limits.watched`).
    evicted_watched,
    /// Incidents forgotten for room on their host (`limits.incidents_per_host`); a further piece opens a new one.
    evicted_incidents,
    /// Alerts that waited for a record to ride on and were given up (`limits.pending_per_host`).
    evicted_pending,
    /// Alerts written under the second key because the record already had the first.
    key_taken,
    /// Alerts put off to the host's next record because this one could not take an object.
    put_off,
    /// Events whose provider and channel are neither Sysmon's nor, for logons, the Security channel's.
    wrong_provider,
    /// Events without a host name.
    no_host,
    /// Events without a time that can be used.
    no_time,
    /// Events that lack what their kind must have (a path, an address) or hold it in a form nobody writes.
    incomplete,
    /// Events with text that is not UTF-8 in a value that was asked for; examined all the same.
    invalid_utf8,
    /// Events that stated a field twice; examined, the first one holds.
    duplicate_keys,
    /// Events with a text of more than 1 KiB: its first KiB is kept. Command lines are examined to their end. Also events inside a
    /// string of more than 256 KiB, of which what stands behind was not seen.
    text_cut,
    /// Empty records.
    unparsed_empty,
    /// Records longer than `limits.max_record_bytes`, and those with a string of more than 256 KiB that should hold an event and in
    /// its beginning has none that can be read.
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
    /// Clocks of hosts that jumped further than any window.
    clock_jumps,
    /// 1 if the packed policy could not be read and the defaults are in force.
    policy_refused,
    /// Hosts that were not saved because they hold too much.
    unsaved_hosts,
    /// Times the filter started anew after a call that did not return.
    restarts,
}

impl Counters {
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
