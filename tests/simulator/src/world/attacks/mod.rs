//! Attacks by every chain: which, by whom, from where, and what is special about them.

mod com;
mod services;

use super::hosts::Person;
use super::{Actor, Expected, Faults, Need, Party, Scenario, Theme, World};
use psexec_filter_fixtures::{SMB_SERVER, SVCHOST};

/// How long before an attack the host had the attacker's address, in milliseconds: more than an hour.
const FORMER_MS: i64 = 7_200_000;

/// Who attacks, and when.
pub(super) struct Visit {
    /// The address.
    pub from: String,
    /// Who logs on there, if the logon is logged.
    pub person: Option<Person>,
    /// When, in milliseconds of the run.
    pub when: i64,
    /// Whether its connections are logged: many configurations leave them out.
    pub is_connected: bool,
    /// Whether the policy allows it.
    pub is_allowed: bool,
}

/// An attack: repeats of one execution, by one or several machines.
pub(super) struct Attack {
    /// Who plays it.
    pub actor: Actor,
    /// What is special about it, in plain words.
    pub story: &'static str,
    /// The repeats.
    pub visits: Vec<Visit>,
    /// Whether the tool is PsExec, by its own names or by others that its user chose; else any tool.
    pub is_psexec: Option<bool>,
}

/// What an attack by a technique is, beside its records.
pub(super) struct Told {
    /// The technique.
    pub chain: &'static str,
    /// Chains that may report it as well.
    pub also: &'static [&'static str],
    /// What is enough for which severity.
    pub needs: Vec<Need>,
    /// What shows where it came from.
    pub ties: &'static [&'static [&'static str]],
}

const ATTACKS: [fn(&mut World, Attack); 5] = [
    World::psexec,
    World::wmiexec,
    World::dcomexec,
    World::smbexec,
    World::scshell,
];

/// How long after one another the repeats of an attack come, in milliseconds, by the same numbers.
const REPEATED_AFTER: [i64; 5] = [25_000, 4_000, 4_000, 3_000, 30_000];

const PLAIN: &str = "an attack";
const SECOND: &str = "an attack from a second machine while the first is remembered";
const FORMER: &str = "an attack from an address that the host had hours before";
const SAME_PROGRAM: &str = "an attack with the program that an allowed administrator used before";
const BESIDE: &str = "an attack while an allowed administrator is at work";
const AFTER: &str = "an attack after an allowed administrator was at work";
const SCANNED: &str = "an attack while another machine tries every port";

/// The stories of this module.
pub(super) const STORIES: [&str; 7] = [PLAIN, SECOND, FORMER, SAME_PROGRAM, BESIDE, AFTER, SCANNED];

impl World {
    /// Perhaps an attack on a host in its episode from `start`, or two of different chains. `is_first`: the host's first episode.
    pub(super) fn attacks(&mut self, host: usize, start: i64, is_first: bool) {
        // Two at once are told apart, but not commands as services: those of a host are one incident.
        let chosen: &[usize] = match self.rng.usize(0..8) {
            0 => &[],
            1 => [&[0, 1], &[0, 2], &[1, 2]][self.rng.usize(0..3)],
            _ => &[self.rng.usize(0..5)],
        };
        for number in chosen {
            let when = start + self.rng.i64(-30_000..30_000);
            self.attack(host, *number, when, is_first && chosen.len() == 1);
        }
    }

    /// An attack by the technique with this number. `is_alone`: nothing happened on the host before.
    fn attack(&mut self, host: usize, number: usize, when: i64, is_alone: bool) {
        let story = match self.rng.u8(0..8) {
            0 | 1 => SECOND,
            2 | 3 if is_alone => FORMER,
            4 => SCANNED,
            5 | 6 if self.theme == Theme::Allowed && number == 0 => SAME_PROGRAM,
            _ if self.theme == Theme::Allowed => self.one_of(&[BESIDE, AFTER]),
            _ => PLAIN,
        };
        self.accompany(story, host, when);
        let faults = Faults::some(&mut self.rng);
        let actor = self.actor(host, faults);
        let is_beside = matches!(story, SAME_PROGRAM | BESIDE | AFTER);
        let times: Vec<i64> = match story {
            SECOND => vec![when, when + self.rng.i64(150_000..280_000)],
            SAME_PROGRAM => vec![when - self.rng.i64(12_000..250_000), when],
            _ if is_beside || number == 4 => vec![when],
            _ => (0..self.rng.i64(1..4))
                .map(|round| when + round * REPEATED_AFTER[number])
                .collect(),
        };
        let is_logged = matches!(story, SAME_PROGRAM | BESIDE) || self.rng.bool();
        let is_connected = !self.once_in(if story == AFTER { 2 } else { 6 });
        let first = self.visit(when, is_logged, is_connected);
        let mut visits = Vec::new();
        for (round, when) in times.into_iter().enumerate() {
            let visit = match (story, round) {
                (SECOND, 1) => self.visit(when, is_logged, is_connected),
                (SAME_PROGRAM, 0) => self.administrator(when),
                _ => Visit {
                    when,
                    ..first.again()
                },
            };
            visits.push(visit);
        }
        if story == FORMER {
            self.outbound(actor, when - FORMER_MS, &first.from);
        }
        let is_psexec = match story {
            SAME_PROGRAM => Some(true),
            _ if self.once_in(3) => Some(self.rng.bool()),
            _ => None,
        };
        let attack = Attack {
            actor,
            story,
            visits,
            is_psexec,
        };
        ATTACKS[number](self, attack);
    }

    /// What goes on beside an attack.
    fn accompany(&mut self, story: &'static str, host: usize, when: i64) {
        match story {
            BESIDE => {
                let beside = self.rng.i64(-6_000..6_000);
                self.administrator_at_work(host, when + beside, false);
            }
            AFTER => {
                let before = self.rng.i64(20_000..110_000);
                self.administrator_at_work(host, when - before, true);
            }
            SCANNED => {
                let from = self.attacker();
                let quiet = Actor {
                    scenario: None,
                    ..self.actor(host, Faults::default())
                };
                for (port, image) in [(445, SMB_SERVER), (139, SMB_SERVER), (135, SVCHOST)] {
                    let when = when + self.rng.i64(-2_000..2_000);
                    self.connection(quiet, when, &from, port, image);
                }
            }
            _ => {}
        }
    }

    /// An address that nobody else in a run has.
    fn attacker(&mut self) -> String {
        let rng = &mut self.rng;
        format!("10.{}.{}.{}", rng.u8(50..90), rng.u8(..), rng.u8(1..255))
    }

    fn visit(&mut self, when: i64, is_logged: bool, is_connected: bool) -> Visit {
        // What an allowed administrator does at that time is told apart by an administrator's rights.
        let is_administrator = self.theme == Theme::Allowed || self.rng.bool();
        Visit {
            from: self.attacker(),
            when,
            is_connected,
            is_allowed: false,
            person: is_logged.then(|| Person {
                user: "alice",
                session: format!("0x{:x}", self.rng.u32(0x10_000..)),
                workstation: self.word(7),
                is_administrator,
            }),
        }
    }

    /// Adds the scenario of an attack, or of an administrator who does the same. Its records come after this.
    pub(super) fn add_attack(&mut self, attack: &Attack, told: Told) {
        let party = |visit: &Visit| Party {
            from: visit.from.parse().expect("an address"),
            is_allowed: visit.is_allowed,
        };
        let parties: Vec<Party> = attack.visits.iter().map(party).collect();
        let is_allowed = parties.iter().all(|party| party.is_allowed);
        self.scenarios.push(Scenario {
            story: attack.story,
            host: attack.actor.host,
            expected: if is_allowed {
                Expected::Allowed(told.chain)
            } else {
                Expected::Attack(told.chain)
            },
            also: told.also,
            needs: told.needs,
            ties: told.ties,
            parties,
        });
    }

    /// What comes first in a visit: the logon, and a connection to that port.
    pub(super) fn arrive(&mut self, actor: Actor, visit: &Visit, port: u16, image: &str) {
        if let Some(person) = &visit.person {
            self.logon(actor, visit.when - 200, &visit.from, person);
        }
        if visit.is_connected {
            self.connection(actor, visit.when - 300, &visit.from, port, image);
        }
    }
}

impl Attack {
    /// The repeats, with their actor.
    pub(super) fn rounds(&self) -> impl Iterator<Item = (Actor, &Visit)> {
        self.visits.iter().zip(0..).map(|(visit, round)| {
            let actor = Actor {
                round,
                ..self.actor
            };
            (actor, visit)
        })
    }
}

impl Visit {
    /// The same machine and person once more.
    fn again(&self) -> Visit {
        Visit {
            from: self.from.clone(),
            when: self.when,
            is_connected: self.is_connected,
            is_allowed: self.is_allowed,
            person: self.person.as_ref().map(|person| Person {
                session: person.session.clone(),
                workstation: person.workstation.clone(),
                ..*person
            }),
        }
    }

    /// The logon session of what a visit starts for a person; one of its own if its logon is not logged.
    pub(super) fn session(&self, number: u32) -> String {
        match &self.person {
            Some(person) => person.session.clone(),
            None => format!("0x{number:x}7"),
        }
    }
}
