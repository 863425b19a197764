//! Attacks through the service controller.

use super::{Attack, Told, Visit};
use crate::world::scenario::need;
use crate::world::spelling::Spelled;
use crate::world::{Actor, Need, World};
use psexec_filter_fixtures::spellings::resolved;
use psexec_filter_fixtures::{CMD, POWERSHELL, SERVICES, SMB_SERVER, SVCHOST, SYSTEM};
use psexec_filter_plugin::policy::Severity::{Critical, High, Low, Medium};

/// How Sysmon names a parent that it does not know.
const UNKNOWN: [&str; 3] = ["?", "-", ""];

/// What is enough to find a dropped program that a service starts. `start`: by a known parent; `orphan`: by an unknown one.
const DROPPED: [Need; 12] = [
    need(&["file", "start"], Medium),
    need(&["file", "start", "connection"], High),
    need(&["file", "start", "service"], High),
    need(&["file", "start", "service", "connection"], Critical),
    need(&["file", "orphan"], Medium),
    need(&["file", "orphan", "connection"], High),
    need(&["file", "orphan", "service"], High),
    need(&["file", "orphan", "service", "connection"], Critical),
    need(&["file", "pipe"], High),
    need(&["file", "pipe", "connection"], Critical),
    need(&["file", "start", "pipe", "connection"], Critical),
    need(&["pipe", "connection", "start"], Medium),
];
/// Without the file, where the program does not lie in System32.
const CREATED: Need = need(&["service", "new", "connection", "start"], Medium);

const BY_COMMAND: [Need; 9] = [
    DROPPED[0],
    DROPPED[1],
    DROPPED[2],
    DROPPED[3],
    DROPPED[4],
    DROPPED[5],
    DROPPED[6],
    DROPPED[7],
    need(&["service", "new", "connection", "start"], High),
];

const NAMED: [&[&str]; 3] = [
    &["logon", "naming", "file", "start"],
    &["logon", "naming", "file", "orphan"],
    &["logon", "naming", "file", "pipe"],
];

/// What the events of a dropped program are.
struct Dropped {
    program: Spelled,
    service: String,
    /// The pipe that its process makes, without what names the other machine.
    pipe: String,
    /// Whether pipes, and perhaps a key file, name the other machine.
    is_psexec: bool,
    has_key: bool,
    /// Whether its start is logged.
    is_started: bool,
    /// Which event shows the file.
    event: u64,
    /// Files that come over SMB between the drop and the start.
    documents: i64,
}

impl World {
    /// A program dropped over SMB and started as a service, as PsExec, RemCom and their like do, or by a command of the service.
    pub(super) fn psexec(&mut self, attack: Attack) {
        if attack.is_psexec.is_none() && self.once_in(4) {
            self.dropped_for_command(&attack);
            return;
        }
        let name = self.file_name();
        let service = self.word(4);
        let (program, service) = match attack.is_psexec {
            Some(true) => (
                Spelled {
                    path: r"C:\Windows\PSEXESVC.exe".to_owned(),
                    image: r"C:\Windows\PSEXESVC.exe".to_owned(),
                    command: self.as_logged(r"%SystemRoot%\PSEXESVC.exe".to_owned()),
                    line: r"C:\WINDOWS\PSEXESVC.exe".to_owned(),
                },
                "PSEXESVC".to_owned(),
            ),
            _ => (self.spelled_program(&name), service),
        };
        let is_plain = program.image == program.path;
        let pipe = match attack.is_psexec {
            Some(_) => service.clone(),
            None => format!("RemCom_stdin{service}"),
        };
        let by_29 = self.once_in(3);
        let dropped = Dropped {
            is_psexec: attack.is_psexec.is_some(),
            has_key: attack.is_psexec.is_some() && self.rng.bool(),
            is_started: !self.once_in(6),
            event: if by_29 { 29 } else { 11 },
            documents: if is_plain && self.once_in(5) { 200 } else { 0 },
            program,
            service,
            pipe,
        };
        let mut needs = DROPPED.to_vec();
        if !dropped.program.path.to_lowercase().contains("system32") {
            needs.push(CREATED);
        }
        // A pipe of any other name shows nothing.
        if attack.is_psexec == Some(false) {
            needs.retain(|need| !need.parts.contains(&"pipe"));
        }
        let told = Told {
            chain: "psexec",
            // Without the file and what shows a new service it is one that was given another program.
            also: &["scshell"],
            needs,
            ties: &NAMED,
        };
        self.add_attack(&attack, told);
        for (actor, visit) in attack.rounds() {
            self.dropped(actor, visit, &dropped);
        }
    }

    /// One visit with a dropped program.
    fn dropped(&mut self, actor: Actor, visit: &Visit, dropped: &Dropped) {
        let Dropped {
            program,
            service,
            pipe,
            ..
        } = dropped;
        let (t, process) = (visit.when, self.process_number());
        self.arrive(actor, visit, 445, SMB_SERVER);
        let file = (dropped.event, "file");
        self.written(actor, file, t, SMB_SERVER, &program.path);
        self.documents(actor, t, dropped.documents);
        let t = if dropped.documents > 0 { t + 20_000 } else { t };
        let machine = visit.person.as_ref().map(|person| &*person.workstation);
        let machine = machine.filter(|_| dropped.is_psexec);
        if let Some(machine) = machine.filter(|_| dropped.has_key) {
            let key = format!(r"C:\Windows\PSEXEC-{machine}-{:08X}.key", self.rng.u32(..));
            self.file(actor, "key", t + 30, SMB_SERVER, &key);
        }
        self.service(actor, t + 40, service, &program.command, true);
        let (image, line) = (program.image.as_str(), program.line.as_str());
        let (part, parent) = self.parent();
        if dropped.is_started {
            let started = (process, image, line);
            self.process(actor, part, t + 80, started, parent, SYSTEM);
        }
        let made = (self.one_of(&[17, 18]), "pipe");
        self.pipe(actor, made, t + 120, (process, image), &format!(r"\{pipe}"));
        if let Some(machine) = machine {
            let naming = format!(r"\{service}-{machine}-4007-stdin");
            self.pipe(actor, (17, "naming"), t + 130, (process, image), &naming);
        }
        // The other machine opens the pipe over SMB.
        let client = (4, "System");
        self.pipe(actor, (18, "client"), t + 200, client, &format!(r"\{pipe}"));
        let child = (self.process_number(), CMD, "cmd.exe");
        let bob = (r"CORP\bob", "0x7777");
        self.process(actor, "child", t + 300, child, (process, image), bob);
        self.service_deleted(actor, t + 6_000, service);
    }

    /// The parent of what the service controller starts: sometimes Sysmon does not know it.
    fn parent(&mut self) -> (&'static str, (u32, &'static str)) {
        if self.once_in(8) {
            ("orphan", (0, self.one_of(&UNKNOWN)))
        } else {
            ("start", (1, SERVICES))
        }
    }

    /// Documents that are copied over SMB within 19 s.
    fn documents(&mut self, actor: Actor, from: i64, count: i64) {
        let salt = self.word(4);
        let actor = Actor {
            scenario: None,
            ..actor
        };
        for n in 0..count {
            let path = format!(r"D:\Share\{salt}{n}.docx");
            self.file(
                actor,
                "",
                from + 100 + n * 19_000 / count,
                SMB_SERVER,
                &path,
            );
        }
    }

    /// A program that is dropped and that a service's command starts.
    fn dropped_for_command(&mut self, attack: &Attack) {
        let (name, service) = (format!("{}.exe", self.word(8)), self.word(4));
        let (path, start) = self.spelled_start(&name);
        let command = self.spelled_quiet(&start);
        let line = resolved(&command);
        let command = self.as_logged(command);
        let told = Told {
            chain: "psexec",
            also: &["smbexec", "scshell"],
            needs: BY_COMMAND.to_vec(),
            ties: &[],
        };
        self.add_attack(attack, told);
        for (actor, visit) in attack.rounds() {
            let t = visit.when;
            self.arrive(actor, visit, 445, SMB_SERVER);
            self.file(actor, "file", t, SMB_SERVER, &path);
            self.service(actor, t + 40, &service, &command, true);
            let (part, parent) = self.parent();
            let started = (self.process_number(), CMD, line.as_str());
            self.process(actor, part, t + 80, started, parent, SYSTEM);
            self.service_deleted(actor, t + 6_000, &service);
        }
    }

    /// Commands as the programs of new services: an ordinary command, impacket's shell, one whose output goes to a share, or
    /// PowerShell.
    pub(super) fn smbexec(&mut self, attack: Attack) {
        let (service, word) = (self.word(8), self.word(8));
        let kind = self.rng.u8(0..4);
        let needs = match kind {
            0 => vec![need(&["service", "new", "connection", "start"], High)],
            _ => vec![
                need(&["start"], Medium),
                need(&["service", "start"], High),
                need(&["service", "start", "connection"], High),
                need(&["service", "start", "connection", "deleted"], Critical),
                need(&["service", "orphan"], High),
                need(&["service", "orphan", "connection", "deleted"], Critical),
            ],
        };
        let told = Told {
            chain: "smbexec",
            also: &["scshell"],
            needs,
            ties: &[],
        };
        self.add_attack(&attack, told);
        for (actor, visit) in attack.rounds() {
            let t = visit.when;
            let command = self.service_command(kind, &format!("{word}{}", actor.round));
            let line = resolved(&command);
            let command = self.as_logged(command);
            let image = if line.starts_with(POWERSHELL) {
                POWERSHELL
            } else {
                CMD
            };
            let started = (self.process_number(), image, line.as_str());
            self.arrive(actor, visit, 445, SMB_SERVER);
            self.service(actor, t, &service, &command, true);
            let (part, parent) = self.parent();
            self.process(actor, part, t + 60, started, parent, SYSTEM);
            self.service_deleted(actor, t + 900, &service);
        }
    }

    /// A command that an attacker gives a service.
    fn service_command(&mut self, kind: u8, word: &str) -> String {
        match kind {
            0 => {
                let command = self.scrambled("net");
                self.spelled_quiet(&format!("{command} user {word} /add"))
            }
            1 => {
                let (echo, ending) = (self.scrambled("echo"), self.one_of(&["bat", "cmd"]));
                let folder = self.one_of(&["%TEMP%", "%SystemRoot%", r"C:\Windows\Temp"]);
                let batch = format!(r"{folder}\{word}.{ending}");
                let text = format!(r"cd ^> \\PC\C$\__output_{word} 2^>^&1");
                let written = match self.rng.u8(0..3) {
                    0 => format!(">{batch} {echo} {text}"),
                    1 => format!("{echo} {text} >{batch}"),
                    _ => format!("{echo} {text} > {batch}"),
                };
                let first = self.spelled_quiet(&written);
                format!("{first} & %COMSPEC% /Q /c {batch} & del {batch}")
            }
            2 => self.spelled_shell("whoami", &format!(r"\\127.0.0.1\C$\{word}")),
            _ => self.hidden_powershell(word),
        }
    }

    /// PowerShell that gets its command encoded or shows no window, itself or in a command interpreter.
    fn hidden_powershell(&mut self, word: &str) -> String {
        let options = [
            "-nop -w hidden -encodedcommand",
            "-noP -sta -w 1 -e",
            "-enc",
            "/EncodedC",
            "-ec",
            "-WindowStyle hid -c",
        ];
        let options = self.one_of(&options);
        match self.rng.u8(0..3) {
            0 => format!("{POWERSHELL} {options} {word}"),
            1 => self.spelled_quiet(&format!("powershell {options} {word}")),
            _ => self.spelled_quiet(&format!("start /b /min powershell.exe {options} {word}")),
        }
    }

    /// An existing service that is given another program, started, and restored.
    pub(super) fn scshell(&mut self, attack: Attack) {
        let is_marked = self.rng.bool();
        let mut needs = vec![
            need(&["service", "start", "connection"], High),
            need(&["service", "start", "restored"], High),
            need(&["service", "restored"], Medium),
            need(&["service", "start", "restored", "connection"], Critical),
            need(&["service", "orphan", "connection"], High),
            need(&["service", "orphan", "restored"], High),
        ];
        // With a mark it may have been created, and nothing but a connection or what follows says more.
        needs.push(need(
            &["service", "start"],
            if is_marked { Low } else { Medium },
        ));
        let told = Told {
            chain: "scshell",
            also: &["smbexec"],
            needs,
            ties: &[],
        };
        self.add_attack(&attack, told);
        let service = self.one_of(&["Fax", "defragsvc", "XblAuthManager"]);
        let word = self.word(6);
        for (actor, visit) in attack.rounds() {
            let payload = match self.rng.u8(0..3) {
                0 => {
                    let run =
                        format!(r"C:\Windows\System32\regsvr32.exe /s /n /u /i:{word} scrobj.dll");
                    self.spelled_quiet(&run)
                }
                1 => format!("{POWERSHELL} -enc {word}{}", actor.round),
                _ => format!(r"C:\Windows\System32\rundll32.exe C:\Windows\{word}.dll,Start"),
            };
            let line = resolved(&payload);
            let image = match () {
                () if line.starts_with(POWERSHELL) => POWERSHELL,
                () if line.contains("rundll32") => r"C:\Windows\System32\rundll32.exe",
                () => CMD,
            };
            let started = (self.process_number(), image, line.as_str());
            let payload = self.as_logged(payload);
            let (port, server) =
                self.one_of(&[(135, SVCHOST), (445, SMB_SERVER), (49_670, SERVICES)]);
            self.arrive(actor, visit, port, server);
            let t = visit.when;
            self.service_value(actor, "service", t, service, ("ImagePath", &payload));
            if is_marked {
                let start = ("Start", "DWORD (0x00000003)");
                self.service_value(actor, "mark", t, service, start);
            }
            let (part, parent) = self.parent();
            self.process(actor, part, t + 100, started, parent, SYSTEM);
            let own = ("ImagePath", r"C:\Windows\system32\original.exe");
            self.service_value(actor, "restored", t + 5_170, service, own);
        }
    }
}
