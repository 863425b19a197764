//! Of which attacks everything needed arrived and could be kept: only those must be found.

use crate::check::Check;
use crate::product::{self, HOSTS_LOOKED_AT, Kind, SILENT_MS};
use crate::world::{Record, Worth};
use std::collections::{BTreeMap, HashSet};

/// An alert that leaves on a tick does so at most so many records after it was made.
const ON_A_TICK: usize = 100;

/// The records of a scenario that arrived in a usable state: of each part of each repeat, the first.
pub(crate) struct Arrived {
    host: usize,
    parts: BTreeMap<(u32, &'static str), usize>,
}

impl Arrived {
    /// The record of a part in a repeat.
    pub(crate) fn part(&self, round: u32, name: &'static str) -> Option<usize> {
        self.parts.get(&(round, name)).copied()
    }

    /// The records of a repeat.
    pub(crate) fn round(&self, round: u32) -> impl Iterator<Item = (&'static str, usize)> {
        let of_round = self.parts.iter().filter(move |((of, _), _)| *of == round);
        of_round.map(|((_, name), index)| (*name, *index))
    }
}

impl Check<'_> {
    /// What arrived of a scenario.
    pub(crate) fn arrived(&self, number: usize) -> Arrived {
        let host = self.world.scenarios[number].host;
        let mut parts = BTreeMap::new();
        for index in self.of_host[host].iter().copied() {
            let record = &self.world.records[index];
            if record.scenario == Some(number) && record.usable {
                let (name, round) = record.part;
                parts.entry((round, name)).or_insert(index);
            }
        }
        Arrived { host, parts }
    }

    /// Whether all these parts arrived in a repeat, and could be kept until the last of them came.
    pub(crate) fn is_complete(
        &self,
        arrived: &Arrived,
        round: u32,
        parts: &[&'static str],
    ) -> bool {
        let indices = parts.iter().map(|name| arrived.part(round, name));
        let indices: Option<Vec<usize>> = indices.collect();
        indices.is_some_and(|indices| self.could_keep(&indices, arrived.host))
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
        // To a host whose clock is ahead this one seems silent, and may be forgotten for it; to every host, after a record of another year.
        let start = self.world.records[first].ms;
        let seems_silent = |record: &Record| {
            let is_behind = record.host == host && start.saturating_sub(record.ms) > SILENT_MS;
            is_behind || record.ms.saturating_sub(start) > SILENT_MS
        };
        if self.forgotten[first] != self.forgotten[last + 1]
            && self.world.records[first..=last].iter().any(seems_silent)
        {
            return false;
        }
        !self.is_crowded_out(first, last, host)
            && parts.iter().all(|part| {
                let room = self.recalled(*part, parts);
                self.has_room(*part, last, host, room)
            })
    }

    /// How many more files than are kept may follow this one, because what follows it calls it back to memory.
    fn recalled(&self, part: usize, parts: &[usize]) -> usize {
        let kept_as = |index: usize| self.world.records[index].kept_as;
        let is_document = kept_as(part).is_some_and(|(_, worth)| worth == Worth::Document);
        let runs = |kind: Kind| matches!(kind, Kind::ProcessStart | Kind::Pipe);
        let is_run =
            |later: &usize| *later > part && kept_as(*later).is_some_and(|(kind, _)| runs(kind));
        match is_document && parts.iter().any(is_run) {
            true => product::RECALLED_FILES,
            false => 0,
        }
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

    /// Whether the evidence of a record has room beside all other evidence of its kind that may outlast it until `last`, or beside so
    /// much more.
    fn has_room(&self, part: usize, last: usize, host: usize, recalled: usize) -> bool {
        let record = &self.world.records[part];
        let Some((kind, worth)) = record.kept_as else {
            return true;
        };
        // Nothing is worth less, and nothing has to be kept any longer.
        if part == last && worth == Worth::Equal {
            return true;
        }
        let remembered = product::remembered(&self.world.policy).unsigned_abs();
        let told = record.scenario.and_then(|number| self.told[number].first());
        let joined = told.map(|told| told.step.saturating_sub(ON_A_TICK));
        let outlasts = |index: usize| {
            let other = &self.world.records[index];
            // One of another year may be remembered as long as its year is.
            let near = !other.usable || other.ms.abs_diff(record.ms) <= remembered;
            // What supports an incident outlasts all else, and any connection may be taken for its source; then comes what is worth
            // more, then what came later. Once all that is kept supports an incident, it gives way to anything.
            let supports = other.scenario.is_some() || kind == Kind::Connection;
            let is_joined = || joined.is_some_and(|joined| joined < index);
            let lasts = |other: Worth| match index > part {
                true => supports || other >= worth || is_joined(),
                false => near && (supports || other > worth),
            };
            other
                .kept_as
                .is_some_and(|(on, worth)| on == kind && lasts(worth))
        };
        let rivals = self.of_host[host]
            .iter()
            .filter(|index| **index != part && **index <= last && outlasts(**index));
        let room = product::room(&self.world.policy, kind);
        rivals.count() < room + recalled
    }
}
