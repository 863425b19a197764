//! Attacks through WMI and other programs that can be controlled over DCOM.

use super::{Attack, Told, Visit};
use crate::product::Kind;
use crate::world::hosts::address;
use crate::world::scenario::need;
use crate::world::{Actor, World, Worth};
use psexec_filter_fixtures::spellings::resolved;
use psexec_filter_fixtures::{CMD, EXPLORER, MMC, POWERSHELL, SVCHOST, WMI, data};
use psexec_filter_plugin::policy::Severity::{Critical, High, Medium};

/// An account of a person, whose logon session is the attack's own.
const ALICE: &str = r"CORP\alice";

/// Programs that can be controlled over DCOM.
const SERVERS: [&str; 4] = [
    EXPLORER,
    MMC,
    r"C:\Program Files\Microsoft Office\root\Office16\EXCEL.EXE",
    r"C:\Program Files\Microsoft Visual Studio\Common7\IDE\devenv.exe",
];

const SESSION: [&[&str]; 1] = [&["logon", "start"]];
const SESSION_OR_PROCESS: [&[&str]; 2] = [&["logon", "start"], &["connection", "start"]];

impl World {
    /// Commands over WMI: a shell's, PowerShell, or a program.
    pub(super) fn wmiexec(&mut self, attack: Attack) {
        let kind = self.rng.u8(0..3);
        let least = if kind == 2 { Medium } else { High };
        let needs = match kind {
            0 => vec![need(&["start"], High), need(&["connection", "start"], High)],
            _ => vec![
                need(&["connection", "start"], least),
                need(&["logon", "start"], least),
            ],
        };
        let told = Told {
            chain: "wmiexec",
            also: &[],
            needs,
            ties: &SESSION,
        };
        self.add_attack(&attack, told);
        let number = self.process_number();
        for (actor, visit) in attack.rounds() {
            let line = match kind {
                0 => self.output_command(actor.round),
                1 => "powershell.exe -nop -c whoami".to_owned(),
                _ => r"C:\Tools\scan.exe /all".to_owned(),
            };
            let image = [CMD, POWERSHELL, r"C:\Tools\scan.exe"][usize::from(kind)];
            let started = (self.process_number(), image, line.as_str());
            self.arrive(actor, visit, 135, SVCHOST);
            let session = visit.session(number);
            let account = (ALICE, session.as_str());
            self.process(actor, "start", visit.when, started, (2, WMI), account);
        }
    }

    /// A shell whose output goes into a file that is fetched over SMB.
    fn output_command(&mut self, round: u32) -> String {
        let file = match self.rng.u8(0..4) {
            0 => r"\Windows\Temp\abcdef".to_owned(),
            1 => r"C:\__LegitFile".to_owned(),
            2 => format!(r"\\127.0.0.1\C$\__{round}"),
            _ => format!(r"\\127.0.0.1\ADMIN$\__1726304400.{round}"),
        };
        let command = self.spelled_shell("whoami", &file);
        // Nobody resolves variables for WMI.
        resolved(&command)
    }

    /// Commands that a desktop or a management console starts for another machine: a shell's, or a program.
    pub(super) fn dcomexec(&mut self, attack: Attack) {
        let is_shell = self.rng.bool();
        let mut needs = vec![
            need(
                &["connection", "start"],
                if is_shell { Critical } else { High },
            ),
            need(&["logon", "start"], if is_shell { Critical } else { High }),
        ];
        if is_shell {
            needs.push(need(&["start"], Medium));
        }
        let told = Told {
            chain: "dcomexec",
            also: &[],
            needs,
            ties: &SESSION_OR_PROCESS,
        };
        self.add_attack(&attack, told);
        let server = self.one_of(&SERVERS);
        let number = self.process_number();
        let mut from = String::new();
        let mut parent = number;
        for (actor, visit) in attack.rounds() {
            // Every machine starts a server of its own.
            if from != visit.from {
                from.clone_from(&visit.from);
                parent = self.process_number();
            }
            let line = match is_shell {
                true => self.output_command(actor.round),
                false => "calc.exe".to_owned(),
            };
            let image = if is_shell {
                CMD
            } else {
                r"C:\Windows\System32\calc.exe"
            };
            let started = (self.process_number(), image, line.as_str());
            let t = visit.when;
            if let Some(person) = &visit.person {
                self.logon(actor, t - 200, &visit.from, person);
            }
            if visit.is_connected {
                self.dcom_connection(actor, visit, (parent, server));
            }
            let session = visit.session(number);
            let account = (ALICE, session.as_str());
            self.process(actor, "start", t, started, (parent, server), account);
        }
    }

    /// Event 3: a machine connects to the program that is controlled over DCOM, and that takes it by its own process.
    fn dcom_connection(&mut self, actor: Actor, visit: &Visit, server: (u32, &str)) {
        let late = self.rng.i64(1_000..5_000);
        let own = address(actor.host);
        let data = data::inbound_to(server, (&visit.from, 50_300), (&own, 49_700));
        let kept_as = Some((Kind::Connection, Worth::Equal));
        let before = self.records.len();
        self.log(
            actor,
            "connection",
            visit.when - 300 + late,
            3,
            kept_as,
            data,
        );
        self.mark_contact(before, &visit.from, false);
    }
}
