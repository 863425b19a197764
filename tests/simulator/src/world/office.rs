//! Everyday work, of which nothing may be reported above low: people, other machines, and what these use a machine for.

use super::everyday::{Story, low};
use super::hosts::Person;
use super::noise::CAROL;
use super::{Actor, World};
use psexec_filter_fixtures::{
    CMD, EXPLORER, POWERSHELL, SERVICES, SMB_SERVER, SVCHOST, SYSTEM, WMI,
};

/// The stories of this module.
pub(super) const STORIES: [Story; 13] = [
    low(
        "a program on a share is started at the desktop",
        World::program_on_share,
    ),
    low("software is copied to a share", World::copied_software),
    low("a command at logon writes a log", World::run_key),
    low("a document's macro writes a file", World::macro_command),
    low(
        "a script at the desktop shows no window",
        World::hidden_script,
    ),
    low("the machine's own jobs run over WMI", World::local_jobs),
    low("an agent takes inventory over WMI", World::ccm),
    low("a database runs commands", World::database),
    low("many people log on", World::many_logons),
    low("people print", World::printing),
    low("somebody works over RDP", World::remote_desktop),
    low(
        "an event log is read from another machine",
        World::remote_event_log,
    ),
    low(
        "a management server starts a service that is there",
        World::service_start,
    ),
];

impl World {
    fn program_on_share(&mut self, actor: Actor, when: i64) {
        let (word, process) = (self.word(7), self.process_number());
        let tool = format!(r"D:\Share\{word}.exe");
        self.file(actor, "file", when, SMB_SERVER, &tool);
        let started = (process, tool.as_str(), tool.as_str());
        self.process(actor, "start", when + 9_000, started, (3, EXPLORER), CAROL);
    }

    fn copied_software(&mut self, actor: Actor, when: i64) {
        self.connection(actor, when - 500, "10.0.4.9", 445, SMB_SERVER);
        let word = self.word(7);
        for number in 0..12 {
            let ending = self.one_of(&["exe", "dll", "msi", "ini"]);
            let path = format!(r"D:\Share\{word}\part{number}.{ending}");
            self.file(actor, "file", when + number * 40, SMB_SERVER, &path);
        }
    }

    /// The desktop runs what the Run keys name.
    fn run_key(&mut self, actor: Actor, when: i64) {
        let lines = [
            r#""C:\Windows\System32\cmd.exe" /c "C:\Tools\mapdrives.bat" >nul 2>&1"#,
            r"cmd.exe /c C:\Tools\logon.cmd > %TEMP%\logon.log 2>&1",
            r"cmd /c net use Z: \\files\home >> C:\Users\carol\drives.log",
        ];
        let started = (self.process_number(), CMD, self.one_of(&lines));
        self.process(actor, "start", when, started, (3, EXPLORER), CAROL);
    }

    fn macro_command(&mut self, actor: Actor, when: i64) {
        let office = r"C:\Program Files\Microsoft Office\root\Office16\";
        let program = self.one_of(&["EXCEL.EXE", "WINWORD.EXE"]);
        let lines = [
            r"cmd /c ping -n 1 server1 > C:\Users\carol\AppData\Local\Temp\p.txt 2>&1",
            r"cmd.exe /c dir Z:\ > C:\Users\carol\list.txt",
        ];
        let started = (self.process_number(), CMD, self.one_of(&lines));
        let parent = (8, format!("{office}{program}"));
        self.process(actor, "start", when, started, (parent.0, &parent.1), CAROL);
    }

    fn hidden_script(&mut self, actor: Actor, when: i64) {
        let line = r"powershell.exe -NoProfile -WindowStyle Hidden -File C:\Tools\tray.ps1";
        let started = (self.process_number(), POWERSHELL, line);
        self.process(actor, "start", when, started, (3, EXPLORER), CAROL);
    }

    fn local_jobs(&mut self, actor: Actor, when: i64) {
        let (image, line) = self.one_of(&[
            (
                CMD,
                r"cmd /c C:\jobs\nightly.cmd > C:\jobs\nightly.log 2>&1",
            ),
            (CMD, r"cmd.exe /Q /c C:\jobs\hourly.cmd"),
            (
                POWERSHELL,
                r"powershell.exe -NoProfile -File C:\jobs\nightly.ps1",
            ),
        ]);
        let started = (self.process_number(), image, line);
        self.process(actor, "start", when, started, (2, WMI), SYSTEM);
    }

    /// The programs of the agent run for its account, and its server is connected.
    fn ccm(&mut self, actor: Actor, when: i64) {
        self.connection(actor, when - 2_000, "10.0.4.8", 135, SVCHOST);
        for number in 0..3 {
            let program = self.one_of(&["scan", "inventory", "ScanWrapper"]);
            let image = format!(r"C:\Windows\CCM\{program}.exe");
            let started = (self.process_number(), image.as_str(), image.as_str());
            let account = (r"CORP\sccm", "0x3333");
            let t = when + number * 1_000;
            self.process(actor, "start", t, started, (2, WMI), account);
        }
    }

    fn database(&mut self, actor: Actor, when: i64) {
        let server = r"C:\Program Files\Microsoft SQL Server\MSSQL15\MSSQL\Binn\sqlservr.exe";
        let line = r#""C:\Windows\system32\cmd.exe" /c dir > C:\t.txt 2>&1"#;
        let started = (self.process_number(), CMD, line);
        let account = (r"NT SERVICE\MSSQLSERVER", "0x6a1f2");
        self.process(actor, "start", when, started, (11, server), account);
    }

    fn many_logons(&mut self, actor: Actor, when: i64) {
        for number in 0..40 {
            let from = format!("10.0.5.{}", 1 + number);
            let user = self.one_of(&["dave", "erin", "frank", "PC5$", "ANONYMOUS LOGON"]);
            let is_administrator = self.once_in(10);
            let person = Person {
                user,
                session: format!("0x{:x}", self.rng.u32(0x10_000..)),
                workstation: format!("PC{number}"),
                is_administrator,
            };
            self.logon(actor, when + number * 400, &from, &person);
        }
    }

    /// Documents come over SMB into the spooler's folder, now and then a driver, which the spooler's helper loads.
    fn printing(&mut self, actor: Actor, when: i64) {
        self.connection(actor, when - 500, "10.0.4.11", 445, SMB_SERVER);
        let word = self.word(7);
        let spool = r"C:\Windows\System32\spool";
        for number in 0..4 {
            let path = format!(r"{spool}\PRINTERS\0000{number}.SPL");
            self.file(actor, "file", when + number * 300, SMB_SERVER, &path);
        }
        let driver = format!(r"{spool}\drivers\x64\3\{word}.dll");
        self.file(actor, "file", when + 2_000, SMB_SERVER, &driver);
        let spooler = r"C:\Windows\System32\spoolsv.exe";
        let started = (self.process_number(), spooler, spooler);
        self.process(actor, "start", when + 3_000, started, (1, SERVICES), SYSTEM);
    }

    fn remote_desktop(&mut self, actor: Actor, when: i64) {
        self.connection(actor, when, "10.0.4.12", 3_389, SVCHOST);
        for (number, program) in (0..).zip(["notepad", "mmc", "cmd"]) {
            let image = format!(r"C:\Windows\System32\{program}.exe");
            let started = (self.process_number(), image.as_str(), image.as_str());
            let t = when + 5_000 + number * 2_000;
            self.process(actor, "start", t, started, (3, EXPLORER), CAROL);
        }
    }

    fn remote_event_log(&mut self, actor: Actor, when: i64) {
        for (port, after) in [(135, 0), (49_665, 40)] {
            self.connection(actor, when + after, "10.0.4.13", port, SVCHOST);
        }
        let line = r"C:\Windows\System32\svchost.exe -k LocalServiceNetworkRestricted -s EventLog";
        let started = (self.process_number(), SVCHOST, line);
        self.process(actor, "start", when + 500, started, (1, SERVICES), SYSTEM);
    }

    fn service_start(&mut self, actor: Actor, when: i64) {
        let (port, server) = self.one_of(&[(445, SMB_SERVER), (49_670, SERVICES)]);
        self.connection(actor, when - 300, "10.0.4.14", port, server);
        let program = self.one_of(&[
            r"C:\Windows\System32\snmptrap.exe",
            r"C:\Program Files\Acme\agent.exe",
            r"C:\Windows\System32\sppsvc.exe",
        ]);
        let started = (self.process_number(), program, program);
        self.process(actor, "start", when, started, (1, SERVICES), SYSTEM);
    }
}
