//! Holds what the filter does in a run to what it promises.

use crate::report::Report;
use crate::world::{Expected, Record, Theme, World};
use psexec_filter_plugin::counters::Counters;
use psexec_filter_plugin::policy::{Limits, Severity};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::net::IpAddr;

/// What is known of an incident from its alerts so far.
struct Incident {
    scenario: usize,
    chain: String,
    revision: u64,
    severity: Severity,
}

/// An alert about a scenario.
pub(crate) struct Told {
    /// How many records had arrived before.
    pub step: usize,
    /// `alert.id`
    pub id: String,
    pub severity: Severity,
    /// Whether the allow-list covers it.
    pub is_allowed: bool,
    /// Whether it can be about no other scenario.
    pub is_sure: bool,
    /// Whether it is about a command of a service (`smbexec`).
    pub is_service_command: bool,
    /// The likeliest source.
    pub source: Option<IpAddr>,
    /// All of it.
    pub text: String,
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
    /// The id of a scenario's incident, by chain and whether it is allowed.
    ids: HashMap<(usize, String, bool), String>,
    /// The alerts about each scenario.
    pub(crate) told: Vec<Vec<Told>>,
    pub(crate) report: Report,
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
            told: world.scenarios.iter().map(|_| Vec::new()).collect(),
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
        // Of a file whose evidence had to give way, the filter remembers nothing but that it was written.
        let as_written = (record.event == 29).then_some(11);
        for event in [Some(record.event), as_written].into_iter().flatten() {
            let same = self.by_time.entry((record.host, event, &record.time));
            same.or_default().push(index);
        }
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
        if let Expected::Attack(attack) | Expected::Allowed(attack) = expected.expected
            && attack != chain
            && !expected.also.contains(&chain)
        {
            return wrong(&format!("an attack of {attack} reported as another"));
        }
        self.told[scenario].push(Told {
            step: self.step,
            id: alert["id"].as_str().unwrap_or_default().to_owned(),
            severity,
            is_allowed: alert["status"] == "allowed",
            is_sure: origin.sure,
            is_service_command: chain == "smbexec",
            source: alert["source"]["ip"]
                .as_str()
                .and_then(|ip| ip.parse().ok()),
            text: alert.to_string(),
        });
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
        let is_allowed = alert["status"] == "allowed";
        let forgot =
            self.given_up[on] > 0 || self.last.evicted_hosts > 0 || self.last.evicted_bytes > 0;
        // Where some are allowed, executions that are and that are not are apart, and one may become the other.
        let is_apart = self.world.theme == Theme::Allowed;
        // A command that seems hours away is reported as another attack. Commands of services are grouped by who may have sent
        // them, which nobody knows where connections were evicted.
        let parties = &self.world.scenarios[scenario].parties;
        let is_by_several = parties.windows(2).any(|pair| pair[0].from != pair[1].from);
        let apart = is_apart || is_by_several || chain == "smbexec" && self.crowded[on];
        if in_time && !apart && !forgot {
            let first = self
                .ids
                .entry((scenario, chain.clone(), is_allowed))
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
            // Commands of services that may have come from one machine are one incident.
            let is_shared = old.scenario != scenario && chain != "smbexec";
            if is_shared || old.chain != chain {
                return wrong("one id for two attacks");
            }
            let falls = severity < old.severity && !is_allowed;
            if !forgot && (revision <= old.revision || falls) {
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
        let chain = alert["chain"].as_str();
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
            // Whose connection or logon it was may be a guess among several. Commands of services that may have come from one machine
            // are one incident: what it is about is the process.
            if matches!(event, 3 | 4624) || chain == Some("smbexec") && event == 13 {
                continue;
            }
            let common = common.get_or_insert_with(|| scenarios.clone());
            common.retain(|scenario| scenarios.contains(scenario));
            if common.is_empty() {
                return Err(format!("evidence of two scenarios, {evidence}"));
            }
        }
        // Without record numbers, evidence that states the same second may be of several scenarios: the likeliest.
        let unlike = |scenario: &Option<usize>| {
            let scenario = scenario.map(|number| &self.world.scenarios[number]);
            scenario.map_or(4, |scenario| match scenario.chain() {
                own if own == chain => 0,
                Some(_) if chain.is_some_and(|chain| scenario.also.contains(&chain)) => 1,
                None => 2,
                Some(_) => 3,
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
}
