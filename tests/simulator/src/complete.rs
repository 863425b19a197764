//! Of which attacks everything needed arrived and could be kept: only those must be found.

use crate::check::Check;
use crate::product::{self, HOSTS_LOOKED_AT, Kind, SILENT_MS};
use crate::world::{Record, Worth};
use std::collections::{BTreeMap, HashSet};

/// Repeats of a scenario, at most.
const ROUNDS: u32 = 4;

impl Check<'_> {
    /// Whether all records that a scenario needs arrived, in one of its repeats, and could be kept until the last of them came.
    pub(crate) fn is_complete(&self, number: usize) -> bool {
        let scenario = &self.world.scenarios[number];
        let mut arrived: BTreeMap<(u32, &str), usize> = BTreeMap::new();
        for index in self.of_host[scenario.host].iter().copied() {
            let record = &self.world.records[index];
            if record.scenario == Some(number) && record.usable {
                arrived
                    .entry((record.part.1, record.part.0))
                    .or_insert(index);
            }
        }
        (0..ROUNDS).any(|round| {
            scenario.needs.iter().any(|needs| {
                let parts: Option<Vec<usize>> = needs
                    .iter()
                    .map(|name| arrived.get(&(round, *name)).copied())
                    .collect();
                parts.is_some_and(|parts| self.could_keep(&parts, scenario.host))
            })
        })
    }

    /// Whether the filter could keep the evidence of these records of a host, within its limits, from the first to the last.
    fn could_keep(&self, parts: &[usize], host: usize) -> bool {
        let (Some(first), Some(last)) = (parts.iter().min().copied(), parts.iter().max().copied())
        else {
            return true;
        };
        if self.given_up[host] > 0 {
            return false;
        }
        // The host that holds the most gives up evidence first: others must be spared.
        let spared =
            self.world.hosts.iter().any(|host| host.swollen) && !self.world.hosts[host].swollen;
        if !spared && self.for_bytes[first] != self.for_bytes[last + 1] {
            return false;
        }
        // To a host whose clock is ahead this one seems silent, and may be forgotten for it.
        let start = self.world.records[first].ms;
        let ahead = |record: &Record| record.ms.saturating_sub(start) > SILENT_MS;
        if self.forgotten[first] != self.forgotten[last + 1]
            && self.world.records[first..=last].iter().any(ahead)
        {
            return false;
        }
        !self.is_crowded_out(first, last, host)
            && parts.iter().all(|part| self.has_room(*part, last, host))
    }

    /// Whether so many other hosts came between two records of this one that it may be forgotten.
    fn is_crowded_out(&self, first: usize, last: usize, host: usize) -> bool {
        let within = |index: &&usize| (first..=last).contains(*index);
        let steps: Vec<usize> = self.of_host[host].iter().filter(within).copied().collect();
        steps.windows(2).any(|pair| {
            let others: HashSet<usize> = (pair[0]..pair[1])
                .map(|index| self.world.records[index].host)
                .collect();
            others.len() + HOSTS_LOOKED_AT >= self.world.policy.limits.hosts.get()
        })
    }

    /// Whether the evidence of a record has room beside all other evidence of its kind that may outlast it until `last`.
    fn has_room(&self, part: usize, last: usize, host: usize) -> bool {
        let record = &self.world.records[part];
        let Some((kind, worth)) = record.kept_as else {
            return true;
        };
        let remembered = product::remembered(&self.world.policy).unsigned_abs();
        let outlasts = |index: usize| {
            let other = &self.world.records[index];
            // One of another year may be remembered as long as its year is.
            let near = !other.usable || other.ms.abs_diff(record.ms) <= remembered;
            // What supports an incident outlasts all else, and any connection may be taken for its source; then comes what is worth
            // more, then what came later.
            let supports = other.scenario.is_some() || kind == Kind::Connection;
            let lasts = |other: Worth| match index > part {
                true => supports || other >= worth,
                false => near && (supports || other > worth),
            };
            other
                .kept_as
                .is_some_and(|(on, worth)| on == kind && lasts(worth))
        };
        let rivals = self.of_host[host]
            .iter()
            .filter(|index| **index != part && **index <= last && outlasts(**index));
        rivals.count() < product::room(&self.world.policy, kind)
    }
}
