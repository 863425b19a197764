//! What a policy says that its author may not expect, though each value is right by itself: what is compared between entries and
//! sections. For people only, so the module has none of it.

use psexec_filter_plugin::chain::Shared;
use psexec_filter_plugin::normalize::address::{are_all_private, are_everything};
use psexec_filter_plugin::policy::{AllowEntry, OnUnknown, Policy};
use std::collections::BTreeSet;
use toml::de::{DeTable, DeValue};

/// Windows that may be 0: without the first nothing is held, without the second times are exact, without the third all is alerted.
const MAY_BE_ZERO: [&str; 3] = ["grace", "clock_tolerance", "suppress"];

/// Records of Sysmon have up to this many bytes as JSON.
const USUAL_RECORD: usize = 8 * 1024;

/// The pieces that `psexec.require` can name.
const PIECES: usize = 5;

/// The lines of a policy file.
pub struct Lines<'t> {
    text: &'t str,
    table: DeTable<'t>,
}

impl<'t> Lines<'t> {
    /// Those of a text that is TOML; of any other text nothing is found.
    pub fn of(text: &'t str) -> Lines<'t> {
        let table = DeTable::parse(text).map(|table| table.into_inner());
        Lines {
            text,
            table: table.unwrap_or_default(),
        }
    }

    /// The line of a key; 1 if the policy does not have it.
    fn of_key(&self, section: &str, key: &str) -> usize {
        let section = self
            .table
            .get(section)
            .and_then(|value| value.get_ref().as_table());
        let key = section.and_then(|section| section.get_key_value(key));
        key.map_or(1, |(key, _)| self.of_offset(key.span().start))
    }

    /// The line where an `[[allow]]` entry begins.
    fn of_entry(&self, index: usize) -> usize {
        let entry = self.entry(index);
        entry.map_or(1, |entry| self.of_offset(entry.span().start))
    }

    /// The line of a key of an `[[allow]]` entry.
    fn of_entry_key(&self, index: usize, key: &str) -> usize {
        let entry = self
            .entry(index)
            .and_then(|entry| entry.get_ref().as_table());
        let key = entry.and_then(|entry| entry.get_key_value(key));
        key.map_or_else(
            || self.of_entry(index),
            |(key, _)| self.of_offset(key.span().start),
        )
    }

    fn entry(&self, index: usize) -> Option<&toml::Spanned<DeValue<'t>>> {
        self.table.get("allow")?.get_ref().as_array()?.get(index)
    }

    /// The line of the byte at an offset.
    pub fn of_offset(&self, offset: usize) -> usize {
        let before = self.text.get(..offset).unwrap_or_default();
        1 + before.matches('\n').count()
    }
}

/// What makes a policy useless or dangerous as a whole: the line, and what is wrong and was expected.
pub fn refusal(policy: &Policy, lines: &Lines<'_>) -> Option<(usize, String)> {
    if policy.techniques(&Shared::of(policy)).is_empty() {
        let why = "no technique is enabled, so nothing would be detected; expected `enabled = true` for at least one";
        return Some((1, why.to_owned()));
    }
    // Entries that differ in their sources (and reasons) only.
    let rest = |entry: &AllowEntry| AllowEntry {
        source: Vec::new(),
        reason: String::new(),
        until: None,
        ..entry.clone()
    };
    let of_sources = || {
        policy
            .allow
            .iter()
            .enumerate()
            .filter(|(_, entry)| !entry.source.is_empty())
    };
    for (index, entry) in of_sources() {
        let same = of_sources().take_while(|(at, _)| *at <= index);
        let same = same.filter(|(_, other)| rest(other) == rest(entry));
        if are_everything(same.flat_map(|(_, other)| other.source.iter().copied())) {
            let why = "with this entry every address there is lies in the ranges of entries that are alike otherwise, which allows everything; \
                       expected ranges that exclude something";
            return Some((lines.of_entry(index), why.to_owned()));
        }
    }
    None
}

/// What the author of a policy should know, with lines. `now` is in milliseconds since 1970.
pub fn warnings(policy: &Policy, lines: &Lines<'_>, now: i64) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    of_sections(policy, lines, &mut found);
    for (index, entry) in policy.allow.iter().enumerate() {
        let mut warn = |key: &str, text: String| found.push((lines.of_entry_key(index, key), text));
        if let Some(until) = entry.until.as_ref().filter(|until| until.ms < now) {
            warn(
                "until",
                format!("this entry expired at {until} and covers nothing that happens now"),
            );
        }
        let is_host_alone = entry.source.is_empty()
            && entry.user.is_empty()
            && entry.process.is_empty()
            && entry.hash.is_empty()
            && entry.service.is_empty();
        if is_host_alone {
            warn(
                "host",
                "`host` alone allows every remote execution on that machine, an attacker's too"
                    .to_owned(),
            );
        }
        if are_all_private(entry.source.iter().copied()) {
            warn(
                "source",
                "these ranges contain every private IPv4 address, so most networks as a whole"
                    .to_owned(),
            );
        }
        let earlier = policy.allow.iter().take(index);
        if let Some(at) = earlier
            .enumerate()
            .find_map(|(at, other)| covers(other, entry).then_some(at))
        {
            let line = lines.of_entry(at);
            let text = format!(
                "the entry at line {line} covers everything that this one does, so this one has no effect"
            );
            found.push((lines.of_entry(index), text));
        }
    }
    found.sort();
    found
}

fn of_sections(policy: &Policy, lines: &Lines<'_>, found: &mut Vec<(usize, String)>) {
    let mut warn = |section: &str, key: &str, text: String| {
        found.push((
            lines.of_key(section, key),
            format!("`{section}.{key}` {text}"),
        ));
    };
    let written = serde_json::to_value(policy).unwrap_or_default();
    let windows = written["windows"].as_object();
    for (key, _) in windows
        .into_iter()
        .flatten()
        .filter(|(_, value)| *value == "0s")
    {
        if !MAY_BE_ZERO.contains(&key.as_str()) {
            warn(
                "windows",
                key,
                "is 0, so evidence does not join that is logged a millisecond apart".to_owned(),
            );
        }
    }
    let connection = &policy.connection;
    if connection.ports.is_empty() {
        warn(
            "connection",
            "ports",
            "is empty, so no connection to SMB or RPC is evidence and most sources stay unknown"
                .to_owned(),
        );
    }
    if connection.dynamic_from < 1024 {
        warn(
            "connection",
            "dynamic_from",
            "is so low that it makes every port a dynamic one; Windows' range begins at 49152"
                .to_owned(),
        );
    }
    for (section, key) in [
        ("connection", "dynamic_programs"),
        ("suspicious", "interpreters"),
        ("suspicious", "system_programs"),
        ("dcomexec", "programs"),
    ] {
        let names = written[section][key].as_array().into_iter().flatten();
        let names: Vec<&str> = names.filter_map(|name| name.as_str()).collect();
        if names.is_empty() {
            warn(
                section,
                key,
                "is empty, so nothing that needs one of these programs is found".to_owned(),
            );
        }
        for name in names.iter().filter(|name| !name.contains('.')) {
            warn(
                section,
                key,
                format!("has `{name}`, and whole file names are compared, such as `{name}.exe`"),
            );
        }
    }
    let required: BTreeSet<_> = policy
        .psexec
        .require
        .iter()
        .map(|piece| *piece as u8)
        .collect();
    if required.len() == PIECES {
        warn(
            "psexec",
            "require",
            "asks for every piece, which few executions leave".to_owned(),
        );
    }
    if policy.limits.max_record_bytes.get() < USUAL_RECORD {
        warn(
            "limits",
            "max_record_bytes",
            "is less than many records of Sysmon have, which then pass unexamined".to_owned(),
        );
    }
    let by_source_alone = |entry: &AllowEntry| {
        !entry.source.is_empty()
            && entry.host.is_empty()
            && entry.process.is_empty()
            && entry.hash.is_empty()
            && entry.service.is_empty()
    };
    if policy.alert.on_unknown_source == OnUnknown::Allow
        && policy.allow.iter().any(by_source_alone)
    {
        warn("alert", "on_unknown_source", "is \"allow\", and an entry names sources alone: every execution of unknown source is allowed".to_owned());
    }
    for technique in policy.techniques(&Shared::of(policy)) {
        let table = technique.table();
        let levels = table
            .severity
            .iter()
            .map(|row| technique.levels().map(row.level));
        let highest = levels
            .max()
            .filter(|highest| *highest < policy.alert.min_severity);
        if let Some(highest) = highest {
            let (chain, highest) = (table.rule.chain, highest.name());
            warn(
                "alert",
                "min_severity",
                format!("is above all that `{chain}` can reach ({highest}), so it alerts nothing"),
            );
        }
    }
}

/// Whether everything that `entry` covers is certain to be covered by `earlier`, too.
fn covers(earlier: &AllowEntry, entry: &AllowEntry) -> bool {
    let patterns = [
        (&earlier.user, &entry.user),
        (&earlier.host, &entry.host),
        (&earlier.process, &entry.process),
        (&earlier.service, &entry.service),
    ];
    let mut patterns = patterns.iter();
    let has_hash = |hash: &String| {
        earlier
            .hash
            .iter()
            .any(|known| known.eq_ignore_ascii_case(hash))
    };
    let ends_no_earlier = match (&earlier.until, &entry.until) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(first), Some(second)) => first.ms >= second.ms,
    };
    ends_no_earlier
        && patterns
            .all(|(ours, theirs)| ours.is_empty() || !theirs.is_empty() && ours.cover(theirs))
        && (earlier.hash.is_empty() || !entry.hash.is_empty() && entry.hash.iter().all(has_hash))
        && (earlier.source.is_empty()
            || !entry.source.is_empty()
                && entry
                    .source
                    .iter()
                    .all(|range| earlier.source.iter().any(|ours| ours.covers(range))))
}

#[cfg(test)]
mod tests {
    use crate::{policy_from_toml, warnings};

    /// 2026-11-28, in milliseconds.
    const NOW: i64 = 1_795_824_000_000;

    /// The policy, and each line that is warned about with a part of the warning.
    #[test]
    fn what_may_not_be_meant_is_warned_about_with_its_line() {
        let entry = |fields: &str| format!("[[allow]]\nreason = 'x'\n{fields}\n");
        let two = |first: &str, second: &str| entry(first) + &entry(second);
        const COVERED: &str = "the entry at line 1 covers everything that this one does";
        let policies: &[(String, &[(usize, &str)])] = &[
            (String::new(), &[]),
            (entry("source = ['10.1.0.0/16']\nuntil = '2026-11-28'"), &[]),
            (entry("host = ['a']"), &[(3, "`host` alone allows")]),
            (entry("host = ['a']\nsource = ['10.0.0.1']"), &[]),
            (
                entry("source = ['10.0.0.1']\nuntil = '2026-11-27'"),
                &[(4, "expired at 2026-11-27")],
            ),
            (
                entry("source = ['192.168.0.0/16', '10.0.0.0/8',\n'172.16.0.0/12']"),
                &[(3, "every private IPv4 address")],
            ),
            (
                two("user = ['a*']", "user = ['ab']\nhost = ['pc1']"),
                &[(4, COVERED)],
            ),
            (
                two("source = ['10.0.0.0/8']", "source = ['10.1.0.0/16']"),
                &[(4, COVERED)],
            ),
            (two("user = ['a']", "user = ['A']"), &[(4, COVERED)]),
            (two("user = ['ab']", "user = ['a*']"), &[]),
            (two("user = ['a']\nsource = ['10.0.0.1']", "user = ['a']"), &[]),
            (
                two("user = ['a']\nuntil = '2027-01-01'", "user = ['a']"),
                &[],
            ),
            (
                two("user = ['a']\nuntil = '2027-01-01'", "user = ['a']\nuntil = '2026-12-31'"),
                &[(5, COVERED)],
            ),
            (
                two(
                    "hash = ['00112233445566778899aabbccddeeff']",
                    "hash = ['00112233445566778899AABBCCDDEEFF']",
                ),
                &[(4, COVERED)],
            ),
            (
                "[windows]\nshell = '0s'\ngrace = '0s'\nsuppress = '0s'\nclock_tolerance = '0s'\n".to_owned(),
                &[(2, "`windows.shell` is 0")],
            ),
            (
                "[connection]\nports = []\ndynamic_from = 1\ndynamic_programs = []\n".to_owned(),
                &[
                    (2, "`connection.ports` is empty"),
                    (3, "makes every port a dynamic one"),
                    (4, "`connection.dynamic_programs` is empty"),
                ],
            ),
            (
                "suspicious.interpreters = ['cmd']\ndcomexec.programs = []".to_owned(),
                &[(1, "has `cmd`"), (2, "`dcomexec.programs` is empty")],
            ),
            (
                "[psexec]\nrequire = ['connection', 'file', 'process', 'service', 'pipe']".to_owned(),
                &[(2, "asks for every piece")],
            ),
            ("[psexec]\nrequire = ['connection', 'file', 'process']".to_owned(), &[]),
            (
                "[limits]\nmax_record_bytes = 2048".to_owned(),
                &[(2, "pass unexamined")],
            ),
            (
                format!("alert.on_unknown_source = 'allow'\n{}", entry("source = ['10.0.0.1']")),
                &[(1, "every execution of unknown source is allowed")],
            ),
            (
                "[scshell.severity]\nlow = 'low'\nmedium = 'low'\nhigh = 'low'\ncritical = 'medium'\n[alert]\nmin_severity = 'high'".to_owned(),
                &[(7, "above all that `scshell` can reach (medium)")],
            ),
        ];
        for (text, want) in policies {
            let policy =
                policy_from_toml(text, "p.toml").unwrap_or_else(|error| panic!("{text}: {error}"));
            let found = warnings(&policy, text, "p.toml", NOW);
            assert_eq!(found.len(), want.len(), "{text}: {found:#?}");
            for (found, (line, part)) in found.iter().zip(*want) {
                let is_right =
                    found.starts_with(&format!("p.toml:{line}: ")) && found.contains(part);
                assert!(is_right, "{part:?} at {line} in {found:?} of {text}");
            }
        }
    }

    #[test]
    fn entries_that_together_allow_every_address_are_refused() {
        let entry = |fields: &str| format!("[[allow]]\nreason = 'x'\n{fields}\n");
        for (first, second, is_refused) in [
            ("source = ['0.0.0.0/1']", "source = ['128.0.0.0/1']", true),
            (
                "source = ['::/1']",
                "source = ['8000::/1']\nuntil = '2099-01-01'",
                true,
            ),
            (
                "source = ['0.0.0.0/1']",
                "source = ['::ffff:128.0.0.0/97']",
                true,
            ),
            (
                "source = ['0.0.0.0/1']\nhost = ['a']",
                "source = ['128.0.0.0/1']\nhost = ['a']",
                true,
            ),
            (
                "source = ['0.0.0.0/1']\nhost = ['a']",
                "source = ['128.0.0.0/1']\nhost = ['b']",
                false,
            ),
            ("source = ['0.0.0.0/1']", "source = ['8000::/1']", false),
        ] {
            let text = entry(first) + &entry(second);
            let read = policy_from_toml(&text, "p.toml");
            assert_eq!(read.is_err(), is_refused, "{text}");
            if let Err(error) = read {
                let line = 1 + text.matches('\n').count() - entry(second).matches('\n').count();
                assert!(
                    error.starts_with(&format!("p.toml:{line}: with this entry every address")),
                    "{error}"
                );
            }
        }
    }
}
