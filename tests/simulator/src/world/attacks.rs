//! Attacks by every chain.

use super::hosts::address;
use super::{Actor, Faults, World, Worth};
use crate::product::Kind;
use psexec_filter_fixtures::{
    CMD, EXPLORER, MMC, POWERSHELL, SERVICES, SMB_SERVER, SVCHOST, SYSTEM, WMI, data,
};

/// An account of a person, whose logon session is the attack's own.
const ALICE: &str = r"CORP\alice";

impl World {
    /// Perhaps an attack on a host in its episode from `start`, or two of different chains.
    pub(super) fn attacks(&mut self, host: usize, start: i64) {
        const ATTACKS: [fn(&mut World, Actor, i64, &str); 5] = [
            World::psexec,
            World::wmiexec,
            World::dcomexec,
            World::smbexec,
            World::scshell,
        ];
        // Two at once are told apart, but not commands as services: those of a host are one incident.
        let chosen: &[usize] = match self.rng.usize(0..8) {
            0 => &[],
            1 => [&[0, 1], &[0, 2], &[1, 2]][self.rng.usize(0..3)],
            _ => &[self.rng.usize(0..5)],
        };
        for attack in chosen.iter().map(|index| ATTACKS[*index]) {
            let faults = Faults::some(&mut self.rng);
            let actor = Actor {
                host,
                scenario: Some(self.scenarios.len()),
                round: 0,
                faults,
            };
            let from = format!(
                "10.{}.{}.{}",
                self.rng.u8(50..90),
                self.rng.u8(..),
                self.rng.u8(1..255)
            );
            let when = start + self.rng.i64(-30_000..30_000);
            attack(self, actor, when, &from);
        }
    }

    /// A program dropped over SMB and started as a service, as PsExec, RemCom and their like do, or by a command of the service.
    fn psexec(&mut self, actor: Actor, when: i64, from: &str) {
        const NEEDS: [&[&str]; 4] = [
            &["file", "start"],
            &["file", "orphan"],
            &["pipe", "connection", "start"],
            &["service", "new", "connection", "start"],
        ];
        let (word, service) = (self.word(8), self.word(4));
        let by_command = self.rng.u8(0..5) == 0;
        let (path, service, pipe) = match self.rng.u8(0..3) {
            _ if by_command => (
                format!(r"C:\Windows\Temp\{word}.exe"),
                service,
                String::new(),
            ),
            0 => (
                r"C:\Windows\PSEXESVC.exe".to_owned(),
                "PSEXESVC".to_owned(),
                r"\PSEXESVC".to_owned(),
            ),
            1 => (
                format!(r"C:\Windows\{word}.exe"),
                service,
                format!(r"\RemCom_stdin{word}"),
            ),
            _ => (
                format!(r"C:\Windows\System32\{word}.exe"),
                word.clone(),
                format!(r"\{word}-PC9-77-stdin"),
            ),
        };
        let (needs, also): (_, &[_]) = if by_command {
            (NEEDS[..2].to_vec(), &["smbexec", "scshell"])
        } else {
            (NEEDS.to_vec(), &[])
        };
        self.add_scenario(actor, Some("psexec"), needs, also);
        for round in 0..self.rng.u32(1..4) {
            let (actor, t) = (Actor { round, ..actor }, when + i64::from(round) * 25_000);
            let process = self.process_number();
            self.connection(actor, t - 300, from, 445, SMB_SERVER);
            self.file(actor, "file", t, SMB_SERVER, &path);
            let command = format!(r"C:\WINDOWS\system32\cmd.exe /c {path}");
            let spelled = path.replace(r"C:\Windows", "%%SystemRoot%%");
            let runs = if by_command { &command } else { &spelled };
            self.service(actor, t + 40, &service, runs, true);
            let (image, line) = if by_command {
                (CMD, command.as_str())
            } else {
                (path.as_str(), path.as_str())
            };
            let orphan = self.rng.u8(0..8) == 0;
            let (part, parent) = if orphan {
                ("orphan", (0, "?"))
            } else {
                ("start", (1, SERVICES))
            };
            let started = (process, image, line);
            self.process(actor, part, t + 80, started, parent, SYSTEM);
            if !pipe.is_empty() {
                self.pipe(actor, t + 120, (process, image), &pipe);
            }
            let child = (self.process_number(), CMD, "cmd.exe");
            let bob = (r"CORP\bob", "0x7777");
            self.process(actor, "child", t + 300, child, (process, image), bob);
            self.service_deleted(actor, t + 6_000, &service);
        }
    }

    /// Commands as the programs of new services: an ordinary command, impacket's shell, or PowerShell.
    fn smbexec(&mut self, actor: Actor, when: i64, from: &str) {
        let (service, word) = (self.word(8), self.word(8));
        let kind = self.rng.u8(0..3);
        let needs: Vec<&[&str]> = if kind == 0 {
            vec![&["service", "new", "connection", "start"]]
        } else {
            vec![&["start"]]
        };
        self.add_scenario(actor, Some("smbexec"), needs, &["scshell"]);
        for round in 0..self.rng.u32(1..4) {
            let (actor, t) = (Actor { round, ..actor }, when + i64::from(round) * 3_000);
            let command = match kind {
                0 => format!("%COMSPEC% /c net user {word} /add"),
                1 => format!(
                    r"%COMSPEC% /Q /c echo cd {round} ^> \\PC\C$\__output_{word} 2^>^&1 > %SYSTEMROOT%\{word}.bat & %COMSPEC% /Q /c %SYSTEMROOT%\{word}.bat & del %SYSTEMROOT%\{word}.bat"
                ),
                _ => format!(
                    "%COMSPEC% /b /c start /b /min powershell -nop -w hidden -encodedcommand {word}{round}"
                ),
            };
            let line = command
                .replace("%COMSPEC%", r"C:\Windows\system32\cmd.exe")
                .replace("%SYSTEMROOT%", r"C:\Windows");
            let started = (self.process_number(), CMD, line.as_str());
            self.connection(actor, t - 300, from, 445, SMB_SERVER);
            self.service(actor, t, &service, &command.replace('%', "%%"), true);
            self.process(actor, "start", t + 60, started, (1, SERVICES), SYSTEM);
            self.service_deleted(actor, t + 900, &service);
        }
    }

    /// Commands over WMI: a shell's, or PowerShell.
    fn wmiexec(&mut self, actor: Actor, when: i64, from: &str) {
        let shell = self.rng.bool();
        let needs: &[&str] = if shell {
            &["start"]
        } else {
            &["connection", "start"]
        };
        self.add_scenario(actor, Some("wmiexec"), vec![needs], &[]);
        let session = format!("0x{:x}", self.rng.u32(0x10_000..));
        for round in 0..self.rng.u32(1..4) {
            let (actor, t) = (Actor { round, ..actor }, when + i64::from(round) * 4_000);
            let command = format!(
                r"cmd.exe /Q /c dir {round} 1> \\127.0.0.1\ADMIN$\__1726304400.{round} 2>&1"
            );
            let (image, line) = if shell {
                (CMD, command.as_str())
            } else {
                (POWERSHELL, "powershell.exe -nop -c whoami")
            };
            let started = (self.process_number(), image, line);
            self.connection(actor, t - 300, from, 135, SVCHOST);
            self.process(actor, "start", t, started, (2, WMI), (ALICE, &session));
        }
    }

    /// Commands that a desktop or a management console starts for another machine: a shell's, or a program.
    fn dcomexec(&mut self, actor: Actor, when: i64, from: &str) {
        let shell = self.rng.bool();
        let needs: &[&str] = if shell {
            &["start"]
        } else {
            &["connection", "start"]
        };
        self.add_scenario(actor, Some("dcomexec"), vec![needs], &[]);
        let (server, parent) = ([EXPLORER, MMC][self.rng.usize(0..2)], self.process_number());
        for round in 0..self.rng.u32(1..4) {
            let (actor, t) = (Actor { round, ..actor }, when + i64::from(round) * 4_000);
            let command = format!(
                r#""C:\Windows\System32\cmd.exe" /Q /c dir {round} 1> \\127.0.0.1\ADMIN$\__17602 2>&1"#
            );
            let (image, line) = if shell {
                (CMD, command.as_str())
            } else {
                (r"C:\Windows\System32\calc.exe", "calc.exe")
            };
            let started = (self.process_number(), image, line);
            let late = self.rng.i64(1_000..5_000);
            let own = address(actor.host);
            let connection = data::inbound_to((parent, server), (from, 50_300), (&own, 49_700));
            let kept_as = Some((Kind::Connection, Worth::Equal));
            self.log(actor, "connection", t - 300 + late, 3, kept_as, connection);
            let account = (ALICE, "0x1d313d");
            self.process(actor, "start", t, started, (parent, server), account);
        }
    }

    /// An existing service that is given another program, started, and restored.
    fn scshell(&mut self, actor: Actor, when: i64, from: &str) {
        let needs: Vec<&[&str]> = vec![&["service", "start"], &["service", "restored"]];
        self.add_scenario(actor, Some("scshell"), needs, &["smbexec"]);
        let service = ["Fax", "defragsvc", "XblAuthManager"][self.rng.usize(0..3)];
        let word = self.word(6);
        let payload = match self.rng.u8(0..2) {
            0 => format!(
                r"C:\Windows\System32\cmd.exe /c C:\Windows\System32\regsvr32.exe /s /n /u /i:{word} scrobj.dll"
            ),
            _ => format!("{POWERSHELL} -enc {word}"),
        };
        let image = if payload.starts_with(POWERSHELL) {
            POWERSHELL
        } else {
            CMD
        };
        let started = (self.process_number(), image, payload.as_str());
        self.connection(actor, when - 300, from, 135, SVCHOST);
        let changed = ("ImagePath", payload.as_str());
        self.service_value(actor, "service", when, service, changed);
        if self.rng.bool() {
            let start = ("Start", "DWORD (0x00000003)");
            self.service_value(actor, "mark", when, service, start);
        }
        self.process(actor, "start", when + 100, started, (1, SERVICES), SYSTEM);
        let own = ("ImagePath", r"C:\Windows\system32\original.exe");
        self.service_value(actor, "restored", when + 5_170, service, own);
    }
}
