//! Everyday work, of which nothing may be reported above low: software and services. What people and other machines do is in
//! `office.rs`.

use super::noise::CAROL;
use super::scenario::need;
use super::{Actor, Expected, Faults, Scenario, World, office};
use psexec_filter_fixtures::spellings::resolved;
use psexec_filter_fixtures::{CMD, EXPLORER, POWERSHELL, SERVICES, SMB_SERVER, SVCHOST, SYSTEM};
use psexec_filter_plugin::policy::Severity::Low;

/// How long after the start of an episode nothing else happens any more, in milliseconds.
const ALONE_AFTER_MS: i64 = 600_000;

/// What goes on and what must come of it.
pub(super) struct Story {
    /// In plain words.
    pub name: &'static str,
    /// How much may be reported of it.
    pub expected: Expected,
    /// The parts without which it looks like an attack.
    pub needs: &'static [&'static str],
    /// Plays it.
    pub play: fn(&mut World, Actor, i64),
}

/// A story that is low, whoever is connected.
pub(super) const fn low(name: &'static str, play: fn(&mut World, Actor, i64)) -> Story {
    Story {
        name,
        expected: Expected::Low,
        needs: &[],
        play,
    }
}

const fn low_alone(name: &'static str, play: fn(&mut World, Actor, i64)) -> Story {
    Story {
        expected: Expected::LowIfAlone,
        ..low(name, play)
    }
}

/// A story that is low because its program is written on the host itself.
const fn written_here(name: &'static str, play: fn(&mut World, Actor, i64)) -> Story {
    Story {
        needs: &["file", "start"],
        ..low(name, play)
    }
}

/// The stories of this module.
pub(super) const STORIES: [Story; 15] = [
    written_here("an installer makes a service", World::installer),
    written_here("a service is updated", World::update),
    written_here(
        "PsExec is used for SYSTEM on its own machine",
        World::local_psexec,
    ),
    low(
        "a tool makes itself SYSTEM through a pipe",
        World::pipe_getsystem,
    ),
    low(
        "a tool makes itself SYSTEM through a library",
        World::library_getsystem,
    ),
    low("Defender is updated", World::defender),
    low(
        "a service is updated twice within minutes",
        World::two_updates,
    ),
    low("a service is updated and set back", World::rollback),
    low("an agent in ProgramData updates itself", World::agent),
    low(
        "per-user services start at a logon",
        World::per_user_services,
    ),
    low("Windows Installer starts", World::windows_installer),
    low(
        "a service's recovery action runs a script",
        World::recovery_action,
    ),
    Story {
        // Without the mark an existing service seems to be given the script.
        needs: &["mark", "service", "start"],
        ..low_alone(
            "an installer gives a service a script",
            World::script_service,
        )
    },
    low_alone(
        "a service is made for a program that was there",
        World::known_program,
    ),
    low("drivers are installed", World::drivers),
];

impl World {
    /// A story of everyday work on a host in its episode from `start`.
    pub(super) fn everyday(&mut self, host: usize, start: i64) {
        let number = self.rng.usize(0..STORIES.len() + office::STORIES.len());
        let stories = STORIES.iter().chain(&office::STORIES);
        let Some(story) = stories.into_iter().nth(number) else {
            return;
        };
        // Most of what must be alone comes when all else is over.
        let after = match story.expected {
            Expected::LowIfAlone if !self.once_in(4) => ALONE_AFTER_MS,
            _ => 0,
        };
        let when = start + after + self.rng.i64(-60_000..60_000);
        let actor = self.actor(host, Faults::default());
        self.scenarios.push(Scenario {
            story: story.name,
            host,
            expected: story.expected,
            also: &[],
            needs: vec![need(story.needs, Low)],
            ties: &[],
            parties: Vec::new(),
        });
        (story.play)(self, actor, when);
    }

    /// The service controller starts a program.
    fn started(&mut self, actor: Actor, when: i64, image: &str, line: &str) {
        let process = self.process_number();
        let started = (process, image, line);
        self.process(actor, "start", when, started, (1, SERVICES), SYSTEM);
    }

    fn installer(&mut self, actor: Actor, when: i64) {
        let word = self.word(7);
        let program = format!(r"C:\Program Files\{word}\{word}.exe");
        let installer = r"C:\Windows\System32\msiexec.exe";
        self.file(actor, "file", when, installer, &program);
        // Many configurations log the ImagePath alone.
        let created = self.rng.bool();
        let command = format!("\"{program}\"");
        self.service(actor, when + 2_900, &word, &command, created);
        self.started(actor, when + 3_000, &program, &command);
    }

    fn update(&mut self, actor: Actor, when: i64) {
        let word = self.word(7);
        let program = format!(r"C:\Program Files\{word}\{word}.exe");
        let updater = r"C:\Program Files\Agent\update.exe";
        self.file(actor, "file", when, updater, &program);
        let image_path = ("ImagePath", program.as_str());
        self.service_value(actor, "service", when + 2_000, &word, image_path);
        self.started(actor, when + 3_000, &program, &program);
    }

    /// Under a name of its own: with the name of an attack's program it would be one incident with an attack at the same time.
    fn local_psexec(&mut self, actor: Actor, when: i64) {
        let (word, process) = (self.word(7), self.process_number());
        let image = format!(r"C:\Windows\{word}.exe");
        self.file(actor, "file", when, r"C:\Tools\PsExec64.exe", &image);
        let command = self.as_logged(format!(r"%SystemRoot%\{word}.exe"));
        self.service(actor, when + 2_900, &word, &command, true);
        let started = (process, image.as_str(), image.as_str());
        self.process(actor, "start", when + 3_000, started, (1, SERVICES), SYSTEM);
        let pipe = format!(r"\{word}-PC7-77-stdin");
        self.pipe(actor, (17, "pipe"), when + 3_100, (process, &image), &pipe);
    }

    fn pipe_getsystem(&mut self, actor: Actor, when: i64) {
        let word = self.word(7);
        let program = self.one_of(&["cmd.exe", "%COMSPEC%"]);
        let command = format!(r"{program} /c echo {word} > \\.\pipe\{word}");
        let line = resolved(&command);
        let command = self.as_logged(command);
        self.service(actor, when, &word, &command, true);
        self.started(actor, when + 100, CMD, &line);
        self.service_deleted(actor, when + 1_100, &word);
    }

    fn library_getsystem(&mut self, actor: Actor, when: i64) {
        let word = self.word(7);
        let command =
            format!(r"rundll32.exe C:\Users\carol\AppData\Local\Temp\{word}.dll,a /p:{word}");
        self.service(actor, when, &word, &command, true);
        let image = r"C:\Windows\System32\rundll32.exe";
        self.started(actor, when + 100, image, &command);
        self.service_deleted(actor, when + 1_100, &word);
    }

    fn defender(&mut self, actor: Actor, when: i64) {
        let defender = r"C:\ProgramData\Microsoft\Windows Defender\Platform\4.18.23-0\MsMpEng.exe";
        let image_path = ("ImagePath", defender);
        self.service_value(actor, "service", when, "WinDefend", image_path);
        self.started(actor, when + 3_000, defender, defender);
    }

    /// A service gets these versions of its program, each after so many milliseconds.
    fn versions(&mut self, actor: Actor, when: i64, versions: &[(&str, i64)]) {
        let word = self.word(7);
        for (version, after) in versions {
            let program =
                format!(r#""C:\Program Files\{word} Agent\{version}\agent.exe" --service"#);
            let t = when + after;
            self.service_value(actor, "service", t, &word, ("ImagePath", &program));
            let image = program.split('"').nth(1).unwrap_or_default();
            self.started(actor, t + 900, image, &program);
        }
    }

    fn two_updates(&mut self, actor: Actor, when: i64) {
        let after = self.rng.i64(20_000..280_000);
        self.versions(actor, when, &[("4.1.0", 0), ("4.1.1", after)]);
    }

    fn rollback(&mut self, actor: Actor, when: i64) {
        let after = self.rng.i64(20_000..280_000);
        self.versions(
            actor,
            when,
            &[("4.1.0", 0), ("4.1.1", after / 2), ("4.1.0", after)],
        );
    }

    fn agent(&mut self, actor: Actor, when: i64) {
        let word = self.word(7);
        let old = format!(r"C:\ProgramData\{word}\4.1\agent.exe");
        let new = format!(r"C:\ProgramData\{word}\4.2\agent.exe");
        // The file may have come long before it is used.
        if self.rng.bool() {
            self.file(actor, "file", when - 100_000, &old, &new);
        }
        self.service_value(actor, "service", when, &word, ("ImagePath", &new));
        self.started(actor, when + 700, &new, &new);
    }

    /// Windows makes a set of services for everybody who logs on, named after the logon session.
    fn per_user_services(&mut self, actor: Actor, when: i64) {
        const SERVICES_OF_USERS: [(&str, &str); 6] = [
            ("CDPUserSvc", "UnistackSvcGroup"),
            ("AarSvc", "AarSvcGroup -p"),
            ("cbdhsvc", "ClipboardSvcGroup -p"),
            ("OneSyncSvc", "UnistackSvcGroup"),
            ("UdkUserSvc", "UdkSvcGroup"),
            ("WpnUserService", "UnistackSvcGroup"),
        ];
        let session = format!("{:x}", self.rng.u32(0x10_000..0x100_000));
        for (number, (name, group)) in (0..).zip(SERVICES_OF_USERS) {
            let (t, service) = (when + number * 3, format!("{name}_{session}"));
            let start = ("Start", "DWORD (0x00000003)");
            self.service_value(actor, "mark", t, &service, start);
            let program = format!(r"C:\Windows\system32\svchost.exe -k {group}");
            self.service_value(actor, "service", t, &service, ("ImagePath", &program));
        }
        let line = r"C:\Windows\system32\svchost.exe -k UnistackSvcGroup -s CDPUserSvc";
        let started = (self.process_number(), SVCHOST, line);
        let session = format!("0x{session}");
        let account = (r"CORP\carol", session.as_str());
        self.process(actor, "start", when + 400, started, (1, SERVICES), account);
    }

    fn windows_installer(&mut self, actor: Actor, when: i64) {
        let installer = r"C:\Windows\System32\msiexec.exe";
        self.started(
            actor,
            when,
            installer,
            r"C:\Windows\system32\msiexec.exe /V",
        );
        let start = ("Start", "DWORD (0x00000003)");
        self.service_value(actor, "mark", when + 10, "msiserver", start);
    }

    /// A service failed, and the controller runs what was set for that.
    fn recovery_action(&mut self, actor: Actor, when: i64) {
        let script =
            r#"powershell.exe -ExecutionPolicy Bypass -File "C:\Program Files\Acme\recover.ps1""#;
        let (image, line) = self.one_of(&[
            (POWERSHELL, script),
            (
                CMD,
                r"cmd.exe /c C:\Tools\restart.bat > C:\Tools\restart.log",
            ),
        ]);
        self.started(actor, when, image, line);
    }

    /// As an attacker would: but nobody is connected.
    fn script_service(&mut self, actor: Actor, when: i64) {
        let word = self.word(7);
        let command = format!(
            r#"powershell.exe -ExecutionPolicy Bypass -File "C:\Program Files\{word}\first.ps1""#
        );
        // Many configurations log Start and ImagePath alone.
        if self.rng.bool() {
            self.service(actor, when, &word, &command, true);
        } else {
            let start = ("Start", "DWORD (0x00000002)");
            self.service_value(actor, "mark", when, &word, start);
            self.service(actor, when, &word, &command, false);
        }
        self.started(actor, when + 60, POWERSHELL, &command);
    }

    fn known_program(&mut self, actor: Actor, when: i64) {
        let word = self.word(7);
        let program = format!(r"C:\Program Files (x86)\{word}\{word}.exe");
        let command = format!("\"{program}\" --service");
        self.service(actor, when, &word, &command, true);
        self.started(actor, when + 400, &program, &command);
        // What runs with it, at the desktop.
        let started = (self.process_number(), program.as_str(), "--tray");
        self.process(actor, "", when + 900, started, (3, EXPLORER), CAROL);
    }

    fn drivers(&mut self, actor: Actor, when: i64) {
        for number in 0..3 {
            let word = self.word(7);
            let driver = format!(r"\SystemRoot\System32\drivers\{word}.sys");
            let path = format!(r"C:\Windows\System32\drivers\{word}.sys");
            // The kernel itself writes some.
            self.file(actor, "file", when + number, SMB_SERVER, &path);
            self.driver(actor, when + 500 + number, &word, &driver);
        }
    }
}
