//! Holds what the filter does in a run to what it promises.

use crate::report::Report;
use crate::world::{Record, World};
use psexec_filter_plugin::counters::Counters;
use psexec_filter_plugin::policy::{Limits, Severity};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap, HashSet};

/// What is known of an incident from its alerts so far.
struct Incident {
    scenario: usize,
    chain: String,
    revision: u64,
    severity: Severity,
}

/// The scenario of an alert.
struct Origin {
    /// The scenario that all its evidence belongs to, or the likeliest of several.
    scenario: Option<usize>,
    /// Whether all its evidence states times near the truth.
    in_time: bool,
    /// Whether it can be of no other scenario.
    sure: bool,
}

/// What was seen of a run so far.
pub(crate) struct Check<'w> {
    pub(crate) world: &'w World,
    names: HashMap<&'w str, usize>,
    /// Records that arrived, by host, event id and record number.
    by_id: HashMap<(usize, u64, u64), usize>,
    /// Records that arrived, by host, event id and time.
    by_time: HashMap<(usize, u64, &'w str), Vec<usize>>,
    /// The records of each host that arrived.
    pub(crate) of_host: Vec<Vec<usize>>,
    step: usize,
    /// How many incidents, anchors or alerts of each host were given up.
    pub(crate) given_up: Vec<u64>,
    /// Whether evidence of a host was evicted for other evidence.
    crowded: Vec<bool>,
    /// How much evidence had been given up for memory before each step.
    pub(crate) for_bytes: Vec<u64>,
    /// How many hosts had been forgotten before each step.
    pub(crate) forgotten: Vec<u64>,
    last: Counters,
    incidents: HashMap<String, Incident>,
    /// The id of a scenario's incident, by chain.
    ids: HashMap<(usize, String), String>,
    found: HashSet<usize>,
    /// Benign scenarios that were reported: the first alert above low, if any, with its step.
    benign: BTreeMap<usize, Option<(usize, String)>>,
    report: Report,
}

impl<'w> Check<'w> {
    pub(crate) fn new(world: &'w World) -> Check<'w> {
        let hosts = world.hosts.iter().enumerate();
        Check {
            world,
            names: hosts
                .map(|(index, host)| (host.name.as_str(), index))
                .collect(),
            by_id: HashMap::new(),
            by_time: HashMap::new(),
            of_host: vec![Vec::new(); world.hosts.len()],
            step: 0,
            given_up: vec![0; world.hosts.len()],
            crowded: vec![false; world.hosts.len()],
            for_bytes: vec![0],
            forgotten: vec![0],
            last: Counters::default(),
            incidents: HashMap::new(),
            ids: HashMap::new(),
            found: HashSet::new(),
            benign: BTreeMap::new(),
            report: Report::default(),
        }
    }

    /// Takes a record that was passed to the filter, and the filter's counters after it.
    pub(crate) fn delivered(&mut self, record: &'w Record, counters: &Counters) {
        let index = self.report.records as usize;
        self.step = index;
        self.report.records += 1;
        self.of_host[record.host].push(index);
        if let Some(id) = record.record_id {
            self.by_id.insert((record.host, record.event, id), index);
        }
        self.by_time
            .entry((record.host, record.event, &record.time))
            .or_default()
            .push(index);
        let given_up = |counters: &Counters| {
            counters.evicted_incidents
                + counters.evicted_anchors
                + counters.evicted_pending
                + counters.revisions_over_limit
        };
        self.given_up[record.host] += given_up(counters) - given_up(&self.last);
        self.crowded[record.host] |= counters.evicted_evidence > self.last.evicted_evidence;
        self.for_bytes.push(counters.evicted_bytes);
        self.forgotten.push(counters.evicted_hosts);
        self.last = counters.clone();
    }

    /// Holds the memory and the number of hosts to the limits.
    pub(crate) fn held(
        &mut self,
        bytes: usize,
        hosts: usize,
        limits: &Limits,
    ) -> Result<(), String> {
        let most = limits.state_bytes.get();
        if bytes > most || hosts > limits.hosts.get() {
            return Err(format!("{bytes} bytes for {hosts} hosts: over the limits"));
        }
        self.report.worst = self.report.worst.max((bytes, most));
        Ok(())
    }

    /// Holds an object that was added to a record of `host`, or handed out at the end, to what it must be.
    pub(crate) fn alert(
        &mut self,
        object: &Map<String, Value>,
        host: Option<usize>,
    ) -> Result<(), String> {
        let alert = Value::Object(object.clone());
        match alert["kind"].as_str() {
            Some("alert") => {}
            Some("stats") if host.is_some() => return Ok(()),
            _ => return Err(format!("neither an alert nor statistics: {alert}")),
        }
        let wrong = |what: &str| Err(format!("{what}: {alert}"));
        let named = self
            .names
            .get(alert["host"]["name"].as_str().unwrap_or_default())
            .copied();
        let Some(on) = named.filter(|on| host.is_none_or(|host| host == *on)) else {
            return wrong("an alert of another host");
        };
        let origin = match self.origin(&alert, on) {
            Ok(origin) => origin,
            Err(what) => return wrong(&what),
        };
        let severity: Severity = serde_json::from_value(alert["severity"].clone())
            .map_err(|error| format!("{error}: {alert}"))?;
        let Some(scenario) = origin.scenario else {
            return if severity > Severity::Low {
                wrong("a false alert about no scenario at all")
            } else {
                Ok(())
            };
        };
        let chain = alert["chain"].as_str().unwrap_or_default();
        let expected = &self.world.scenarios[scenario];
        match expected.chain {
            None => {
                let above = (severity > Severity::Low).then(|| (self.step, alert.to_string()));
                let known = self.benign.entry(scenario).or_default();
                *known = known.take().or(above);
            }
            Some(attack) if attack != chain && !expected.also.contains(&chain) => {
                return wrong(&format!("an attack of {attack} reported as another"));
            }
            Some(_) => {
                self.found.insert(scenario);
            }
        }
        if origin.sure {
            self.incident(&alert, on, scenario, severity, origin.in_time)
        } else {
            Ok(())
        }
    }

    /// Holds an alert about a scenario on a host to the earlier ones of its incident.
    fn incident(
        &mut self,
        alert: &Value,
        on: usize,
        scenario: usize,
        severity: Severity,
        in_time: bool,
    ) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("{what}: {alert}"));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (id, chain) = (text(&alert["id"]), text(&alert["chain"]));
        let forgot =
            self.given_up[on] > 0 || self.last.evicted_hosts > 0 || self.last.evicted_bytes > 0;
        // A command that seems hours away is reported as another attack. Commands of services are grouped by who may have sent
        // them, which nobody knows where connections were evicted.
        let apart = chain == "smbexec" && self.crowded[on];
        if in_time && !apart && !forgot {
            let first = self
                .ids
                .entry((scenario, chain.clone()))
                .or_insert_with(|| id.clone());
            if *first != id {
                return wrong(&format!("one attack under two ids, {first} before"));
            }
        }
        let revision = alert["revision"].as_u64().unwrap_or_default();
        let new = Incident {
            scenario,
            chain: chain.clone(),
            revision,
            severity,
        };
        if let Some(old) = self.incidents.insert(id, new) {
            if (old.scenario, &old.chain) != (scenario, &chain) {
                return wrong("one id for two attacks");
            }
            if !forgot && (revision <= old.revision || severity < old.severity) {
                return wrong("a revision or severity that falls");
            }
        }
        Ok(())
    }

    /// The scenario that the evidence of an alert on a host belongs to. An error if evidence names no record that arrived, or records
    /// of two scenarios.
    fn origin(&self, alert: &Value, host: usize) -> Result<Origin, String> {
        let mut common: Option<Vec<Option<usize>>> = None;
        let mut in_time = true;
        let all = alert["evidence"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        if all.is_empty() {
            return Err("an alert without evidence".to_owned());
        }
        for evidence in all {
            let event = evidence["event"].as_u64().unwrap_or_default();
            let time = evidence["time"].as_str().unwrap_or_default();
            let records: Vec<usize> = match evidence["record_id"].as_u64() {
                Some(id) => self
                    .by_id
                    .get(&(host, event, id))
                    .copied()
                    .into_iter()
                    .collect(),
                None => self
                    .by_time
                    .get(&(host, event, time))
                    .cloned()
                    .unwrap_or_default(),
            };
            let records = records
                .into_iter()
                .map(|index| &self.world.records[index])
                .filter(|record| record.time == time);
            let scenarios: Vec<Option<usize>> =
                records.clone().map(|record| record.scenario).collect();
            in_time &= records.clone().all(|record| record.usable);
            if scenarios.is_empty() {
                return Err(format!("evidence that never arrived, {evidence}"));
            }
            // Whose connection or logon it was may be a guess among several.
            if matches!(event, 3 | 4624) {
                continue;
            }
            let common = common.get_or_insert_with(|| scenarios.clone());
            common.retain(|scenario| scenarios.contains(scenario));
            if common.is_empty() {
                return Err(format!("evidence of two scenarios, {evidence}"));
            }
        }
        // Without record numbers, evidence that states the same second may be of several scenarios: the likeliest.
        let chain = alert["chain"].as_str();
        let unlike = |scenario: &Option<usize>| {
            scenario.map_or(2, |scenario| {
                u8::from(self.world.scenarios[scenario].chain != chain)
            })
        };
        let common = common.unwrap_or_default();
        let sure = common
            .iter()
            .all(|scenario| Some(scenario) == common.first());
        Ok(Origin {
            scenario: common.into_iter().min_by_key(unlike).flatten(),
            in_time,
            sure,
        })
    }

    /// What was found and what was not, at the end of the run.
    pub(crate) fn end(mut self) -> Result<Report, (usize, String)> {
        let world = self.world;
        for (number, scenario) in world.scenarios.iter().enumerate() {
            let complete = self.is_complete(number);
            let Some(chain) = scenario.chain else {
                match self.benign.remove(&number) {
                    Some(Some((step, alert))) if complete => {
                        return Err((step, format!("a false alert: {alert}")));
                    }
                    Some(Some(_)) => self.report.false_alerts += 1,
                    Some(None) => self.report.low += 1,
                    None => {}
                }
                continue;
            };
            let found = self.found.contains(&number);
            if complete && !found {
                let last = self.of_host[scenario.host]
                    .iter()
                    .rfind(|index| world.records[**index].scenario == Some(number));
                let name = &world.hosts[scenario.host].name;
                return Err((
                    last.copied().unwrap_or_default(),
                    format!("an attack of {chain} on {name} was not found"),
                ));
            }
            let recall = self.report.recall.entry(chain).or_default();
            recall.played += 1;
            recall.complete += u64::from(complete);
            recall.found_incomplete += u64::from(found && !complete);
        }
        self.report.nearest = self.report.worst;
        Ok(self.report)
    }
}
