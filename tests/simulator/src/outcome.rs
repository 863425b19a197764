//! Holds what was reported of each scenario, at the end of a run, to what had to be.

use crate::check::{Check, Told};
use crate::complete::Arrived;
use crate::report::{Played, Report};
use crate::world::{Contact, Expected, Party, Record, Scenario};
use psexec_filter_plugin::policy::Severity;

/// Parts that an execution itself consists of.
const CORE: [&str; 5] = ["file", "service", "start", "orphan", "pipe"];

/// A logon so long before the first piece of an execution is that of its source, in milliseconds. (The filter takes 2 s.)
const LOGON_MS: i64 = 1_900;

/// Other persons' logons so near leave it open which is that of the source, in milliseconds.
const RIVAL_LOGON_MS: i64 = 4_500;

/// An allowed machine that is at work so near an attack may be taken for its source, in milliseconds.
const AT_WORK_MS: i64 = 20_000;

/// A key file so near the start of a program is taken for its own, in milliseconds.
const KEY_FILE_MS: i64 = 8_000;

/// Why a run fails: how many records had arrived, and what is wrong.
type Wrong = (usize, String);

impl Check<'_> {
    /// What was found and what was not, at the end of the run.
    pub(crate) fn end(mut self) -> Result<Report, Wrong> {
        let world = self.world;
        for (number, scenario) in world.scenarios.iter().enumerate() {
            let arrived = self.arrived(number);
            let is_checked = match scenario.expected {
                Expected::Attack(chain) => self.attack(number, chain, &arrived)?,
                Expected::Allowed(_) => self.allowed(number, &arrived)?,
                Expected::Low | Expected::LowIfAlone => self.benign(number, &arrived)?,
            };
            let is_reported = |told: &Told| !told.is_allowed && told.severity > Severity::Low;
            let is_reported = self.told[number].iter().any(is_reported);
            let played = self.report.stories.entry(scenario.story).or_default();
            *played = Played {
                all: played.all + 1,
                checked: played.checked + u64::from(is_checked),
                reported: played.reported + u64::from(is_reported),
            };
        }
        self.report.nearest = self.report.worst;
        Ok(self.report)
    }

    /// Whether an attack had to be reported. An error if it had to be and was not, or not as it should be.
    fn attack(
        &mut self,
        number: usize,
        chain: &'static str,
        arrived: &Arrived,
    ) -> Result<bool, Wrong> {
        let scenario = &self.world.scenarios[number];
        let mut is_complete = false;
        for (round, party) in (0..).zip(&scenario.parties) {
            if party.is_allowed || !self.is_distinct(scenario, arrived, round) {
                continue;
            }
            let complete =
                |need: &&crate::world::Need| self.is_complete(arrived, round, need.parts);
            let complete: Vec<_> = scenario.needs.iter().filter(complete).collect();
            let Some(least) = complete.iter().map(|need| need.least).max() else {
                continue;
            };
            is_complete = true;
            self.is_told(number, chain, least)?;
            let is_certain = complete
                .iter()
                .any(|need| self.is_source_certain(number, arrived, round, need.parts));
            if is_certain {
                self.is_source_told(number, chain, party)?;
                self.report.sources += 1;
            }
        }
        let is_found = self.told[number].iter().any(|told| !told.is_allowed);
        let recall = self.report.recall.entry(chain).or_default();
        recall.played += 1;
        recall.complete += u64::from(is_complete);
        recall.found_incomplete += u64::from(is_found && !is_complete);
        Ok(is_complete)
    }

    /// Whether an attack may be a repeat in an incident that another scenario began: commands of services that may have come from one
    /// machine are one incident, and its alerts need not show each of them.
    fn may_be_repeat(&self, number: usize) -> bool {
        let scenario = &self.world.scenarios[number];
        let mut chains = scenario
            .chain()
            .into_iter()
            .chain(scenario.also.iter().copied());
        let others = self.told.iter().zip(&self.world.scenarios).enumerate();
        let mut on_host =
            others.filter(|(other, (_, of))| *other != number && of.host == scenario.host);
        chains.any(|chain| chain == "smbexec")
            && on_host.any(|(_, (told, _))| told.iter().any(|told| told.is_service_command))
    }

    /// An error if an attack was not reported with this severity.
    fn is_told(&self, number: usize, chain: &str, least: Severity) -> Result<(), Wrong> {
        if self.may_be_repeat(number) {
            return Ok(());
        }
        let told = self.told[number].iter().filter(|told| !told.is_allowed);
        let what = match told.max_by_key(|told| told.severity) {
            Some(told) if told.severity >= least => return Ok(()),
            Some(told) => format!("was reported below {least:?}: {}", told.text),
            None => match self.told[number].last() {
                Some(told) => format!("was taken for an allowed one: {}", told.text),
                None => "was not found".to_owned(),
            },
        };
        Err(self.wrong(number, chain, &what))
    }

    /// An error if an attack was not reported with this source.
    fn is_source_told(&self, number: usize, chain: &str, party: &Party) -> Result<(), Wrong> {
        let from = party.from;
        let is_it = |told: &Told| !told.is_allowed && told.source == Some(from);
        if self.told[number].iter().any(is_it) || self.may_be_repeat(number) {
            return Ok(());
        }
        let last = self.told[number].last();
        let text = last.map_or("", |told| told.text.as_str());
        let what = format!("was not reported as one from {from}: {text}");
        Err(self.wrong(number, chain, &what))
    }

    fn wrong(&self, number: usize, chain: &str, what: &str) -> Wrong {
        let scenario = &self.world.scenarios[number];
        let steps = &self.of_host[scenario.host];
        let is_its = |index: &&usize| self.world.records[**index].scenario == Some(number);
        let last = steps.iter().rfind(is_its);
        let name = &self.world.hosts[scenario.host].name;
        let story = scenario.story;
        (
            last.copied().unwrap_or_default(),
            format!("an attack of {chain} on {name} ({story}, scenario {number}) {what}"),
        )
    }

    /// Whether an allowed administrator had to end as allowed. An error if that was not so.
    fn allowed(&self, number: usize, arrived: &Arrived) -> Result<bool, Wrong> {
        let scenario = &self.world.scenarios[number];
        let mut needs = scenario.needs.iter();
        if !needs.any(|need| self.is_complete(arrived, 0, need.parts)) {
            return Ok(false);
        }
        let told = &self.told[number];
        for (index, last) in told.iter().enumerate() {
            let is_last = told[index + 1..].iter().all(|later| later.id != last.id);
            if is_last && last.is_sure && !last.is_allowed && last.severity > Severity::Low {
                let what = format!(
                    "an allowed administrator ends as an attacker: {}",
                    last.text
                );
                return Err((last.step, what));
            }
        }
        Ok(true)
    }

    /// Whether everyday work had to be reported as low at most. An error if that was not so.
    fn benign(&mut self, number: usize, arrived: &Arrived) -> Result<bool, Wrong> {
        let scenario = &self.world.scenarios[number];
        let mut needs = scenario.needs.iter();
        let is_complete = needs.any(|need| self.is_complete(arrived, 0, need.parts))
            && (scenario.expected == Expected::Low || self.is_alone(number));
        let told = &self.told[number];
        let mut above = told.iter().filter(|told| told.severity > Severity::Low);
        let first = above.next();
        match first
            .into_iter()
            .chain(above)
            .find(|told| told.is_sure)
            .or(first)
        {
            Some(told) if is_complete && told.is_sure => {
                let (story, text) = (scenario.story, &told.text);
                return Err((told.step, format!("a false alert ({story}): {text}")));
            }
            Some(_) => self.report.false_alerts += 1,
            None => self.report.low += u64::from(!told.is_empty()),
        }
        Ok(is_complete)
    }

    /// The connections and logons of other machines on a host within a time of milliseconds since 1970.
    fn contacts(
        &self,
        host: usize,
        (from, to): (i64, i64),
    ) -> impl Iterator<Item = (&Record, Contact)> {
        let steps = self.of_host[host].iter();
        let records = steps.map(|index| &self.world.records[*index]);
        let near = records.filter(move |record| (from..=to).contains(&record.ms));
        near.filter_map(|record| Some((record, record.contact?)))
    }

    /// How far from an execution connections are looked for.
    fn span(&self) -> i64 {
        let windows = &self.world.policy.windows;
        let tolerance = 2 * windows.clock_tolerance.0;
        windows.connection_before.0 + windows.connection_after.0 + tolerance
    }

    /// Whether nobody else connects or logs on while everyday work is done.
    fn is_alone(&self, number: usize) -> bool {
        let host = self.world.scenarios[number].host;
        let steps = self.of_host[host].iter();
        let records = steps.map(|index| &self.world.records[*index]);
        let mut own = records.filter(|record| record.scenario == Some(number));
        own.all(|record| {
            let near = (record.ms - self.span(), record.ms + self.span());
            let mut others = self.contacts(host, near);
            others.all(|(record, _)| record.scenario == Some(number))
        })
    }

    /// The times between which the execution of a repeat was logged, in milliseconds since 1970.
    fn core(&self, arrived: &Arrived, round: u32) -> Option<(i64, i64)> {
        let core = arrived.round(round).filter(|(name, _)| CORE.contains(name));
        let times: Vec<i64> = core
            .map(|(_, index)| self.world.records[index].ms)
            .collect();
        Some((*times.iter().min()?, *times.iter().max()?))
    }

    /// Whether an attack can be told from what an allowed administrator does at that very time: its logon is logged, with an
    /// administrator's rights.
    fn is_distinct(&self, scenario: &Scenario, arrived: &Arrived, round: u32) -> bool {
        let Some((first, last)) = self.core(arrived, round) else {
            return true;
        };
        let allowed = |record: &Record| {
            let scenario = record.scenario.map(|number| &self.world.scenarios[number]);
            scenario.is_some_and(|scenario| {
                let party = scenario.parties.get(record.part.1 as usize);
                party.is_some_and(|party| party.is_allowed)
            })
        };
        let steps = self.of_host[scenario.host].iter();
        let records = steps.map(|index| &self.world.records[*index]);
        let mut keys = records.filter(|record| record.part.0 == "key" && allowed(record));
        if keys.any(|key| key.ms > first - KEY_FILE_MS && key.ms < last + KEY_FILE_MS) {
            return false;
        }
        let near = (first - AT_WORK_MS, last + AT_WORK_MS);
        let mut at_work = self.contacts(scenario.host, near);
        if !at_work.any(|(record, _)| allowed(record)) {
            return true;
        }
        let logon = arrived.part(round, "logon");
        let is_near = |index: usize| {
            let ms = self.world.records[index].ms;
            ms >= first - 4_500 && ms <= last + LOGON_MS
        };
        logon.is_some_and(is_near)
            && CORE.iter().all(|name| {
                arrived.part(round, name).is_none()
                    || self.is_complete(arrived, round, &["logon", "rights", name])
            })
    }

    /// Whether a repeat, of which these parts are there, shows where it came from.
    fn is_source_certain(
        &self,
        number: usize,
        arrived: &Arrived,
        round: u32,
        parts: &[&'static str],
    ) -> bool {
        let scenario = &self.world.scenarios[number];
        let is_tied = |tie: &&&[&'static str]| self.is_complete(arrived, round, tie);
        if scenario.ties.iter().find(is_tied).is_some() {
            return true;
        }
        let Some((first, last)) = self.core(arrived, round) else {
            return false;
        };
        let from = scenario.parties[round as usize].from;
        // Nobody else is there.
        let around = (first - self.span(), last + self.span());
        let mut others = self.contacts(scenario.host, around);
        let is_alone = others.all(|(_, contact)| contact.from == from);
        if is_alone && parts.contains(&"connection") {
            return true;
        }
        // Nobody else logs on.
        let Some(logon) = arrived.part(round, "logon") else {
            return false;
        };
        let logged = self.world.records[logon].ms;
        let near = (first - RIVAL_LOGON_MS, last + RIVAL_LOGON_MS);
        let mut others = self.contacts(scenario.host, near);
        let with_logon: Vec<&str> = parts.iter().copied().chain(["logon"]).collect();
        scenario.chain() != Some("dcomexec")
            && logged >= last - LOGON_MS
            && logged <= first + LOGON_MS
            && others.all(|(_, contact)| contact.from == from || !contact.is_person)
            && self.is_complete(arrived, round, &with_logon)
    }
}
