//! Administrators whom the policy allows to do what attackers do.

use super::attacks::{Attack, Told, Visit};
use super::hosts::Person;
use super::scenario::need;
use super::{Faults, Theme, World};
use psexec_filter_fixtures::{CMD, SERVICES, SMB_SERVER, SVCHOST, SYSTEM, WMI};
use psexec_filter_plugin::policy::Severity::Low;

const BY_PSEXEC: &str = "an allowed administrator uses PsExec";
const BY_WMI: &str = "an allowed inventory runs over WMI";

/// The stories of this module.
pub(super) const STORIES: [&str; 2] = [BY_PSEXEC, BY_WMI];

impl World {
    /// Perhaps an administrator at work, where the policy allows some.
    pub(super) fn administrators(&mut self, host: usize, start: i64) {
        if self.theme != Theme::Allowed {
            return;
        }
        let when = start + self.rng.i64(-60_000..60_000);
        if self.rng.bool() {
            self.inventory(host, when);
        } else {
            let has_key = self.rng.bool();
            self.administrator_at_work(host, when, has_key);
        }
    }

    /// An administrator whom the policy allows by address, by account, or by both, at that time.
    pub(super) fn administrator(&mut self, when: i64) -> Visit {
        let (from, user) = self.one_of(&[
            ("192.0.2.7", "bob"),
            ("10.20.0.7", "deploy"),
            ("198.51.100.7", "backup"),
        ]);
        Visit {
            from: from.to_owned(),
            when,
            is_connected: true,
            is_allowed: true,
            person: Some(Person {
                user,
                session: format!("0x{:x}", self.rng.u32(0x10_000..)),
                workstation: "JUMP01".to_owned(),
                is_administrator: true,
            }),
        }
    }

    /// An administrator runs PsExec under a service name of its own. `has_key`: of a version that leaves a key file.
    pub(super) fn administrator_at_work(&mut self, host: usize, when: i64, has_key: bool) {
        let attack = self.allowed(BY_PSEXEC, host, when);
        let told = Told {
            chain: "psexec",
            also: &[],
            // Whoever else is connected: the tool names the machine, and the logon its address.
            needs: vec![need(&["logon", "naming"], Low)],
            ties: &[],
        };
        self.add_attack(&attack, told);
        let name = self.word(7);
        let (image, process) = (format!(r"C:\Windows\{name}.exe"), self.process_number());
        for (actor, visit) in attack.rounds() {
            let t = visit.when;
            self.arrive(actor, visit, 445, SMB_SERVER);
            self.file(actor, "file", t, SMB_SERVER, &image);
            if has_key {
                let key = format!(r"C:\Windows\PSEXEC-JUMP01-{:08X}.key", self.rng.u32(..));
                self.file(actor, "key", t + 30, SMB_SERVER, &key);
            }
            let command = self.as_logged(format!(r"%SystemRoot%\{name}.exe"));
            self.service(actor, t + 60, &name, &command, true);
            let started = (process, image.as_str(), image.as_str());
            self.process(actor, "start", t + 120, started, (1, SERVICES), SYSTEM);
            for (pipe, part) in [("", "pipe"), ("-JUMP01-4242-stdin", "naming")] {
                let pipe = format!(r"\{name}{pipe}");
                self.pipe(actor, (17, part), t + 200, (process, &image), &pipe);
            }
            self.service_deleted(actor, t + 6_000, &name);
        }
    }

    /// A management server starts its inventory over WMI.
    fn inventory(&mut self, host: usize, when: i64) {
        let attack = self.allowed(BY_WMI, host, when);
        let told = Told {
            chain: "wmiexec",
            also: &[],
            needs: vec![need(&["logon", "start"], Low)],
            ties: &[],
        };
        self.add_attack(&attack, told);
        for (actor, visit) in attack.rounds() {
            let (t, process) = (visit.when, self.process_number());
            self.arrive(actor, visit, 135, SVCHOST);
            let line = r"cmd.exe /c systeminfo > C:\Windows\Temp\inventory.txt 2>&1";
            let session = visit.session(process);
            let user = visit.person.as_ref().map_or("", |person| person.user);
            let (user, started) = (format!(r"CORP\{user}"), (process, CMD, line));
            self.process(actor, "start", t, started, (2, WMI), (&user, &session));
        }
    }

    fn allowed(&mut self, story: &'static str, host: usize, when: i64) -> Attack {
        let visit = self.administrator(when);
        Attack {
            actor: self.actor(host, Faults::default()),
            story,
            visits: vec![visit],
            is_psexec: Some(true),
        }
    }
}
