//! What happens in one run: hosts, what is benign on them, attacks, floods, and how the records of all that arrive.

use psexec_filter_plugin::evidence::Shelf;
use psexec_filter_plugin::normalize::time::Timestamp;
use psexec_filter_plugin::policy::Policy;
use serde_json::{Value, json};

/// A record as it arrives, and what the checks must know of it.
#[derive(Clone)]
pub struct Record {
    /// When it arrives, in milliseconds of the run.
    pub at: i64,
    /// Whose it is: an index into [`World::hosts`].
    pub host: usize,
    /// The record.
    pub text: String,
    /// Its event id.
    pub event: u64,
    /// Its number, on hosts whose shipper passes one.
    pub record_id: Option<u64>,
    /// The time it states.
    pub time: Timestamp,
    /// The story that it belongs to: an index into [`World::stories`].
    pub story: Option<usize>,
    /// What it is to its story, and in which repeat of it.
    pub piece: (&'static str, u32),
    /// Where the filter keeps it, and what it is worth there.
    pub place: Option<(Shelf, u8)>,
    /// Whether the filter can make anything of it: it is not damaged, not too long, and its time is near the truth.
    pub usable: bool,
}

/// Several records that belong together.
pub struct Story {
    /// Where.
    pub host: usize,
    /// The chain that an attack is to be told as. `None`: benign, and above low only where the file event is lost.
    pub chain: Option<&'static str>,
    /// Sets of pieces, each of which is enough for it to be found (for what is benign: to be told as low at most).
    pub needs: Vec<&'static [&'static str]>,
    /// Chains that may tell it as well while, or because, pieces are missing.
    pub also: &'static [&'static str],
}

/// A host and its shipper.
pub struct Host {
    /// Its name.
    pub name: String,
    shape: u8,
    whole_seconds: bool,
    lag: i64,
    skew: i64,
    numbered: bool,
    next_id: u64,
    /// Whether one of its floods is of large records.
    pub swollen: bool,
}

/// How badly the records of a story arrive.
#[derive(Clone, Copy, Default)]
struct Chaos {
    delay: i64,
    drop: f32,
    again: f32,
    spoil: f32,
    shift: f32,
}

/// Who acts: the host, the story, its repeat, and what its records suffer.
#[derive(Clone, Copy)]
struct Cast {
    host: usize,
    story: Option<usize>,
    round: u32,
    chaos: Chaos,
}

/// What a run is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the limits of the policy that are short, by name
pub enum Theme {
    Calm,
    Floods,
    Evidence,
    StateBytes,
    Hosts,
    Pending,
    Incidents,
    RecordBytes,
    Grace,
}

const THEMES: [Theme; 9] = [
    Theme::Calm,
    Theme::Floods,
    Theme::Evidence,
    Theme::StateBytes,
    Theme::Hosts,
    Theme::Pending,
    Theme::Incidents,
    Theme::RecordBytes,
    Theme::Grace,
];

/// Everything that happens in one run.
pub struct World {
    /// What it is about.
    pub theme: Theme,
    /// The filter's policy.
    pub policy: Policy,
    /// All hosts, those of a flood of host names last.
    pub hosts: Vec<Host>,
    /// All stories.
    pub stories: Vec<Story>,
    /// All records in the order in which they arrive.
    pub records: Vec<Record>,
    rng: fastrand::Rng,
    processes: u32,
}

/// 2024-09-14T09:00:00Z.
const START: i64 = 1_726_304_400_000;
/// Stories of one host are this far apart, longer than the filter remembers any.
const EPISODE: i64 = 1_500_000;
const DAY: i64 = 86_400_000;
const SERVICES: &str = r"C:\Windows\System32\services.exe";
const CMD: &str = r"C:\Windows\System32\cmd.exe";
const POWERSHELL: &str = r"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe";
const WMI: &str = r"C:\Windows\System32\wbem\WmiPrvSE.exe";
const EXPLORER: &str = r"C:\Windows\explorer.exe";
const SYSTEM: (&str, &str) = (r"NT AUTHORITY\SYSTEM", "0x3e7");
const FULL: usize = 4_096;

impl World {
    /// The run of that seed.
    pub fn new(seed: u64) -> World {
        let mut rng = fastrand::Rng::with_seed(seed);
        let theme = THEMES[rng.usize(0..THEMES.len())];
        let few = rng.u32(1..4);
        let limits = match theme {
            Theme::Calm | Theme::Floods | Theme::Grace => json!({}),
            Theme::Evidence => json!({"evidence_per_host": 16 * few}),
            Theme::StateBytes => json!({"state_bytes": 262_144, "evidence_per_host": 256}),
            Theme::Hosts => json!({"hosts": 16 + 12 * few}),
            Theme::Pending => json!({"pending_per_host": few}),
            Theme::Incidents => json!({"incidents_per_host": few}),
            Theme::RecordBytes => json!({"max_record_bytes": FULL}),
        };
        // Nobody in a run has an address of that range: an alert waits for its source and is told all the same.
        let allow = if theme == Theme::Grace {
            json!([{"source": ["192.0.2.0/24"], "reason": "deployment"}])
        } else {
            json!([])
        };
        let interval = if rng.u8(0..4) == 0 { "60s" } else { "0s" };
        let policy =
            json!({"limits": limits, "allow": allow, "alert": {"stats_interval": interval}});
        let policy = serde_json::from_value(policy).expect("a good policy");
        let mut world = World {
            theme,
            policy,
            hosts: Vec::new(),
            stories: Vec::new(),
            records: Vec::new(),
            rng,
            processes: 100,
        };
        let count = if theme == Theme::StateBytes {
            5
        } else {
            world.rng.usize(2..12)
        };
        for number in 0..count {
            world.add_host(format!("PC{number}.corp.example"));
        }
        for host in 0..count {
            for episode in 0..world.rng.i64(1..4) {
                let start = episode * EPISODE + world.rng.i64(0..300_000);
                world.episode(host, start);
                // The clock is set now and then. By days: two stories are never told at the same time.
                if world.rng.u8(0..4) == 0 {
                    world.hosts[host].skew += world.rng.i64(-3..4) * DAY;
                }
            }
        }
        world.records.sort_by_key(|record| record.at);
        world
    }

    fn add_host(&mut self, name: String) -> usize {
        let rng = &mut self.rng;
        let shape = rng.u8(0..3);
        self.hosts.push(Host {
            name,
            shape,
            whole_seconds: shape == 0 || rng.u8(0..6) == 0,
            lag: rng.i64(10..900),
            skew: if rng.u8(0..4) == 0 {
                rng.i64(-400..400) * DAY
            } else {
                0
            },
            numbered: rng.u8(0..5) > 0,
            next_id: rng.u64(1..1_000_000),
            swollen: false,
        });
        self.hosts.len() - 1
    }

    /// Five minutes of a host: what always happens, and perhaps stories, attacks and a flood.
    fn episode(&mut self, host: usize, start: i64) {
        let quiet = Cast {
            host,
            story: None,
            round: 0,
            chaos: Chaos::default(),
        };
        for _ in 0..self.rng.u32(20..120) {
            let when = start + self.rng.i64(-120_000..180_000);
            self.noise(quiet, when);
        }
        let mut stories = [0, 1, 2, 3, 4, 5];
        self.rng.shuffle(&mut stories);
        for story in stories.into_iter().take(self.rng.usize(0..3)) {
            let when = start + self.rng.i64(-60_000..60_000);
            self.benign(host, story, when);
        }
        const ATTACKS: [fn(&mut World, Cast, i64, &str); 5] = [
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
            let rng = &mut self.rng;
            let mut mess = |often: u8, most: f32| {
                if rng.u8(0..4) < often {
                    rng.f32() * most
                } else {
                    0.0
                }
            };
            let delay = if mess(2, 1.0) > 0.0 { 60_000 } else { 0 };
            let chaos = Chaos {
                delay,
                drop: mess(1, 0.4),
                again: mess(2, 0.5),
                spoil: mess(1, 0.2),
                shift: mess(1, 0.5),
            };
            let cast = Cast {
                host,
                story: Some(self.stories.len()),
                round: 0,
                chaos,
            };
            let from = format!(
                "10.{}.{}.{}",
                self.rng.u8(50..90),
                self.rng.u8(..),
                self.rng.u8(1..255)
            );
            let when = start + self.rng.i64(-30_000..30_000);
            attack(self, cast, when, &from);
        }
        let floods = match self.theme {
            Theme::Floods | Theme::Hosts | Theme::RecordBytes | Theme::Evidence => {
                self.rng.u8(0..3) > 0
            }
            Theme::StateBytes => host == 0,
            _ => false,
        };
        if floods {
            self.flood(quiet, start - 40_000);
        }
    }

    fn tell(
        &mut self,
        cast: Cast,
        chain: Option<&'static str>,
        needs: Vec<&'static [&'static str]>,
        also: &'static [&'static str],
    ) {
        self.stories.push(Story {
            host: cast.host,
            chain,
            needs,
            also,
        });
    }

    /// A program that any of the stories may start: a process number of its own.
    fn process_number(&mut self) -> u32 {
        self.processes += 1;
        self.processes
    }

    fn word(&mut self, letters: usize) -> String {
        (0..letters).map(|_| self.rng.alphabetic()).collect()
    }

    fn psexec(&mut self, cast: Cast, when: i64, from: &str) {
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
        self.tell(cast, Some("psexec"), needs, also);
        for round in 0..self.rng.u32(1..4) {
            let (cast, t) = (Cast { round, ..cast }, when + i64::from(round) * 25_000);
            let process = self.process_number();
            self.arrival(cast, t - 300, from, 445, "System");
            self.file(cast, "file", t, "System", &path);
            let command = format!(r"C:\WINDOWS\system32\cmd.exe /c {path}");
            let spelled = path.replace(r"C:\Windows", "%%SystemRoot%%");
            self.new_service(
                cast,
                t + 40,
                &service,
                if by_command { &command } else { &spelled },
                true,
            );
            let (image, line) = if by_command {
                (CMD, command.as_str())
            } else {
                (path.as_str(), path.as_str())
            };
            let orphan = self.rng.u8(0..8) == 0;
            let (piece, parent) = if orphan {
                ("orphan", (0, "?"))
            } else {
                ("start", (1, SERVICES))
            };
            self.process(cast, piece, t + 80, (process, image, line), parent, SYSTEM);
            if !pipe.is_empty() {
                self.pipe(cast, t + 120, process, image, &pipe);
            }
            let child = self.process_number();
            self.process(
                cast,
                "child",
                t + 300,
                (child, CMD, "cmd.exe"),
                (process, image),
                (r"CORP\bob", "0x7777"),
            );
            self.gone(cast, t + 6_000, &service);
        }
    }

    fn smbexec(&mut self, cast: Cast, when: i64, from: &str) {
        let (service, word) = (self.word(8), self.word(8));
        let kind = self.rng.u8(0..3);
        let needs: Vec<&[&str]> = if kind == 0 {
            vec![&["service", "new", "connection", "start"]]
        } else {
            vec![&["start"]]
        };
        self.tell(cast, Some("smbexec"), needs, &["scshell"]);
        for round in 0..self.rng.u32(1..4) {
            let (cast, t) = (Cast { round, ..cast }, when + i64::from(round) * 3_000);
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
            let process = self.process_number();
            self.arrival(cast, t - 300, from, 445, "System");
            self.new_service(cast, t, &service, &command.replace('%', "%%"), true);
            self.process(
                cast,
                "start",
                t + 60,
                (process, CMD, &line),
                (1, SERVICES),
                SYSTEM,
            );
            self.gone(cast, t + 900, &service);
        }
    }

    fn wmiexec(&mut self, cast: Cast, when: i64, from: &str) {
        let typical = self.rng.bool();
        self.tell(
            cast,
            Some("wmiexec"),
            if typical {
                vec![&["start"]]
            } else {
                vec![&["connection", "start"]]
            },
            &[],
        );
        let session = format!("0x{:x}", self.rng.u32(0x10_000..));
        for round in 0..self.rng.u32(1..4) {
            let (cast, t) = (Cast { round, ..cast }, when + i64::from(round) * 4_000);
            let shell = format!(
                r"cmd.exe /Q /c dir {round} 1> \\127.0.0.1\ADMIN$\__1726304400.{round} 2>&1"
            );
            let (image, line) = if typical {
                (CMD, shell.as_str())
            } else {
                (POWERSHELL, "powershell.exe -nop -c whoami")
            };
            let process = self.process_number();
            self.arrival(cast, t - 300, from, 135, r"C:\Windows\System32\svchost.exe");
            self.process(
                cast,
                "start",
                t,
                (process, image, line),
                (2, WMI),
                (r"CORP\alice", &session),
            );
        }
    }

    fn dcomexec(&mut self, cast: Cast, when: i64, from: &str) {
        let typical = self.rng.bool();
        self.tell(
            cast,
            Some("dcomexec"),
            if typical {
                vec![&["start"]]
            } else {
                vec![&["connection", "start"]]
            },
            &[],
        );
        let (server, parent) = (
            [EXPLORER, r"C:\Windows\System32\mmc.exe"][self.rng.usize(0..2)],
            self.process_number(),
        );
        for round in 0..self.rng.u32(1..4) {
            let (cast, t) = (Cast { round, ..cast }, when + i64::from(round) * 4_000);
            let shell = format!(
                r#""C:\Windows\System32\cmd.exe" /Q /c dir {round} 1> \\127.0.0.1\ADMIN$\__17602 2>&1"#
            );
            let (image, line) = if typical {
                (CMD, shell.as_str())
            } else {
                (r"C:\Windows\System32\calc.exe", "calc.exe")
            };
            let process = self.process_number();
            let late = self.rng.i64(1_000..5_000);
            let data = json!({"Image": server, "ProcessGuid": guid(parent), "Protocol": "tcp", "Initiated": "false", "SourceIp": from,
                "SourcePort": "50300", "DestinationIp": address(cast.host), "DestinationPort": "49700"});
            self.put(
                cast,
                "connection",
                t - 300 + late,
                3,
                Some((Shelf::Connection, 0)),
                data,
            );
            self.process(
                cast,
                "start",
                t,
                (process, image, line),
                (parent, server),
                (r"CORP\alice", "0x1d313d"),
            );
        }
    }

    fn scshell(&mut self, cast: Cast, when: i64, from: &str) {
        self.tell(
            cast,
            Some("scshell"),
            vec![&["service", "start"], &["service", "back"]],
            &["smbexec"],
        );
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
        let process = self.process_number();
        self.arrival(
            cast,
            when - 300,
            from,
            135,
            r"C:\Windows\System32\svchost.exe",
        );
        self.value(cast, "service", when, service, "ImagePath", &payload);
        if self.rng.bool() {
            self.value(cast, "mark", when, service, "Start", "DWORD (0x00000003)");
        }
        self.process(
            cast,
            "start",
            when + 100,
            (process, image, &payload),
            (1, SERVICES),
            SYSTEM,
        );
        self.value(
            cast,
            "back",
            when + 5_170,
            service,
            "ImagePath",
            r"C:\Windows\system32\original.exe",
        );
    }

    /// Installers, updates and administrators at the machine itself.
    fn benign(&mut self, host: usize, number: usize, when: i64) {
        let cast = Cast {
            host,
            story: Some(self.stories.len()),
            round: 0,
            chaos: Chaos::default(),
        };
        let (word, process) = (self.word(7), self.process_number());
        self.tell(
            cast,
            None,
            if number < 3 {
                vec![&["file", "start"]]
            } else {
                vec![&[]]
            },
            &[],
        );
        let program = format!(r"C:\Program Files\{word}\{word}.exe");
        let start = |world: &mut World, image: &str, line: &str| {
            world.process(
                cast,
                "start",
                when + 3_000,
                (process, image, line),
                (1, SERVICES),
                SYSTEM,
            );
        };
        match number {
            0 => {
                self.file(
                    cast,
                    "file",
                    when,
                    r"C:\Windows\System32\msiexec.exe",
                    &program,
                );
                // Many configurations log the ImagePath alone.
                let marked = self.rng.bool();
                self.new_service(cast, when + 2_900, &word, &format!("\"{program}\""), marked);
                start(self, &program, &format!("\"{program}\""));
            }
            1 => {
                self.file(
                    cast,
                    "file",
                    when,
                    r"C:\Program Files\Agent\update.exe",
                    &program,
                );
                self.value(
                    cast,
                    "service",
                    when + 2_000,
                    "Agent",
                    "ImagePath",
                    &program,
                );
                start(self, &program, &program);
            }
            2 => {
                // Under a name of its own: of one name it would be one incident with an attack at the same time.
                let image = format!(r"C:\Windows\{word}.exe");
                self.file(cast, "file", when, r"C:\Tools\PsExec64.exe", &image);
                self.new_service(
                    cast,
                    when + 2_900,
                    &word,
                    &format!(r"%%SystemRoot%%\{word}.exe"),
                    true,
                );
                start(self, &image, &image);
                self.pipe(
                    cast,
                    when + 3_100,
                    process,
                    &image,
                    &format!(r"\{word}-PC7-77-stdin"),
                );
            }
            3 => {
                let command = format!(r"cmd.exe /c echo {word} > \\.\pipe\{word}");
                self.new_service(cast, when + 2_900, &word, &command, true);
                start(self, CMD, &command);
                self.gone(cast, when + 4_000, &word);
            }
            4 => {
                let defender =
                    r"C:\ProgramData\Microsoft\Windows Defender\Platform\4.18.23-0\MsMpEng.exe";
                self.value(cast, "service", when, "WinDefend", "ImagePath", defender);
                start(self, defender, defender);
            }
            _ => {
                let tool = format!(r"D:\Share\{word}.exe");
                self.file(cast, "file", when, "System", &tool);
                self.process(
                    cast,
                    "start",
                    when + 9_000,
                    (process, &tool, &tool),
                    (3, EXPLORER),
                    (r"CORP\carol", "0x2222"),
                );
            }
        }
    }

    /// One of the things that go on all the time.
    fn noise(&mut self, cast: Cast, when: i64) {
        let (word, process, last) = (self.word(6), self.process_number(), self.rng.u8(2..30));
        let from = format!("10.0.0.{last}");
        let windows = |name: &str| format!(r"C:\Windows\System32\{name}.exe");
        match self.rng.u8(0..16) {
            0 => self.process(
                cast,
                "",
                when,
                (process, &windows("svchost"), "svchost.exe -k netsvcs"),
                (1, SERVICES),
                SYSTEM,
            ),
            1..4 => self.process(
                cast,
                "",
                when,
                (process, &windows("notepad"), "notepad.exe"),
                (3, EXPLORER),
                (r"CORP\carol", "0x2222"),
            ),
            4 => self.process(
                cast,
                "",
                when,
                (process, r"C:\Windows\CCM\scan.exe", "scan.exe"),
                (2, WMI),
                (r"CORP\sccm", "0x3333"),
            ),
            5 => self.process(
                cast,
                "",
                when,
                (process, POWERSHELL, "powershell.exe -c inventory"),
                (2, WMI),
                SYSTEM,
            ),
            6 => self.process(
                cast,
                "",
                when,
                (process, CMD, "cmd.exe /c dir"),
                (9, &windows("gitlab-runner")),
                SYSTEM,
            ),
            7 => self.arrival(
                cast,
                when,
                &from,
                [445, 135][usize::from(last & 1)],
                "System",
            ),
            8 => self.file(cast, "", when, "System", &format!(r"D:\Share\{word}.docx")),
            9 => self.file(
                cast,
                "",
                when,
                r"C:\Windows\WinSxS\TiWorker.exe",
                &format!(r"C:\Windows\WinSxS\{word}.dll"),
            ),
            10 => self.value(cast, "", when, &word, "Start", "DWORD (0x00000004)"),
            11 => self.value(
                cast,
                "",
                when,
                &word,
                "ImagePath",
                &format!(r"\SystemRoot\System32\drivers\{word}.sys"),
            ),
            12 => self.put(
                cast,
                "",
                when,
                13,
                None,
                json!({"Image": EXPLORER, "TargetObject": r"HKCU\Software\Run\a", "Details": word}),
            ),
            13 => self.put(
                cast,
                "",
                when,
                18,
                None,
                json!({"Image": EXPLORER, "PipeName": r"\lsass", "ProcessGuid": guid(3)}),
            ),
            14 => {
                let data = json!({"LogonType": "3", "IpAddress": from, "IpPort": "50211", "TargetUserName": "carol", "TargetDomainName": "CORP",
                    "TargetLogonId": format!("0x{process:x}"), "WorkstationName": "PC8"});
                self.put(cast, "", when, 4624, Some((Shelf::Logon, 1)), data);
            }
            // A record of another year. It must not disturb what is remembered.
            _ => {
                let skew = self.hosts[cast.host].skew;
                self.hosts[cast.host].skew += [-4_000, 800, 25_000][self.rng.usize(0..3)] * DAY;
                self.file(cast, "", when, "System", &format!(r"C:\Windows\{word}.exe"));
                self.hosts[cast.host].skew = skew;
                if let Some(record) = self.records.last_mut() {
                    record.usable = false;
                }
            }
        }
    }

    /// Hundreds of records of one kind.
    fn flood(&mut self, cast: Cast, start: i64) {
        let kind = match self.theme {
            Theme::Hosts => 6,
            Theme::StateBytes => 7,
            Theme::RecordBytes => 8,
            _ => self.rng.u8(0..6),
        };
        self.hosts[cast.host].swollen |= kind == 7;
        let (count, salt) = (self.rng.i64(100..500), self.word(4));
        for n in 0..count {
            let when = start + n * 100_000 / count;
            let process = self.process_number();
            match kind {
                0 => self.arrival(
                    cast,
                    when,
                    &format!("10.100.{}.{}", n / 250, 1 + n % 250),
                    445,
                    "System",
                ),
                1 => self.file(
                    cast,
                    "",
                    when,
                    "System",
                    &format!(r"D:\Share\{salt}{n}.docx"),
                ),
                2 => self.file(
                    cast,
                    "",
                    when,
                    r"C:\update.exe",
                    &format!(r"C:\Windows\WinSxS\{salt}{n}.dll"),
                ),
                3 => self.file(
                    cast,
                    "",
                    when,
                    "System",
                    &format!(r"D:\Share\{salt}{n}.exe"),
                ),
                4 => self.value(
                    cast,
                    "",
                    when,
                    &format!("{salt}{n}"),
                    "ImagePath",
                    &format!(r"C:\Program Files\{n}.exe"),
                ),
                5 => {
                    let image = format!(r"C:\Windows\System32\{salt}{n}.exe");
                    self.process(
                        cast,
                        "",
                        when,
                        (process, &image, &image),
                        (1, SERVICES),
                        SYSTEM,
                    );
                }
                6 => {
                    let host = self.add_host(format!("{salt}{n}"));
                    self.arrival(Cast { host, ..cast }, when, "10.1.1.1", 445, "System");
                }
                7 => {
                    let image = format!(r"C:\Windows\{}\{salt}{n}.exe", "x".repeat(900));
                    self.process(
                        cast,
                        "",
                        when,
                        (process, &image, &image),
                        (1, SERVICES),
                        SYSTEM,
                    );
                    self.value(cast, "", when, &format!("{salt}{n}"), "ImagePath", &image);
                }
                _ => {
                    self.file(
                        cast,
                        "",
                        when,
                        "System",
                        &format!(r"D:\Share\{salt}{n}.docx"),
                    );
                    // Around the length at which records pass unexamined.
                    let Some(record) = self.records.last_mut() else {
                        continue;
                    };
                    let length = FULL - 2 + n as usize % 4;
                    let padding = length - record.text.len() - r#","p":"""#.len();
                    record.text.insert_str(
                        record.text.len() - 1,
                        &format!(r#","p":"{}""#, "x".repeat(padding)),
                    );
                    record.usable = record.text.len() <= FULL;
                }
            }
        }
    }

    /// Event 3 of a connection at `when`: written late.
    fn arrival(&mut self, cast: Cast, when: i64, from: &str, port: u16, image: &str) {
        let late = self.rng.i64(1_000..5_000);
        let (there, here) = (
            (from.to_owned(), "50211".to_owned()),
            (address(cast.host), port.to_string()),
        );
        // Before 2020 Sysmon wrote the two sides the other way round.
        let (source, destination) = if self.rng.u8(0..5) == 0 {
            (here, there)
        } else {
            (there, here)
        };
        let data = json!({"Image": image, "Protocol": "tcp", "Initiated": "false", "SourceIp": source.0, "SourcePort": source.1,
            "DestinationIp": destination.0, "DestinationPort": destination.1});
        self.put(
            cast,
            "connection",
            when + late,
            3,
            Some((Shelf::Connection, 0)),
            data,
        );
    }

    fn file(&mut self, cast: Cast, piece: &'static str, when: i64, writer: &str, path: &str) {
        let value = match (
            writer == "System",
            path.ends_with(".exe") || path.ends_with(".dll"),
        ) {
            (true, true) => 4,
            (false, true) => 2,
            _ => 1,
        };
        self.put(
            cast,
            piece,
            when,
            11,
            Some((Shelf::FileWrite, value)),
            json!({"Image": writer, "TargetFilename": path}),
        );
    }

    fn value(
        &mut self,
        cast: Cast,
        piece: &'static str,
        when: i64,
        service: &str,
        name: &str,
        details: &str,
    ) {
        let shelf = if name == "ImagePath" {
            Shelf::ServiceSet
        } else {
            Shelf::ServiceMark
        };
        let target = format!(r"HKLM\System\CurrentControlSet\Services\{service}\{name}");
        let data = json!({"Image": SERVICES, "EventType": "SetValue", "TargetObject": target, "Details": details});
        self.put(cast, piece, when, 13, Some((shelf, 4)), data);
    }

    fn new_service(&mut self, cast: Cast, when: i64, service: &str, command: &str, marked: bool) {
        if marked {
            self.value(cast, "new", when, service, "Type", "DWORD (0x00000010)");
            self.value(cast, "mark", when, service, "Start", "DWORD (0x00000003)");
        }
        self.value(cast, "service", when + 1, service, "ImagePath", command);
        if marked {
            self.value(cast, "mark", when + 2, service, "ObjectName", "LocalSystem");
        }
    }

    fn gone(&mut self, cast: Cast, when: i64, service: &str) {
        self.value(
            cast,
            "gone",
            when,
            service,
            "DeleteFlag",
            "DWORD (0x00000001)",
        );
    }

    fn process(
        &mut self,
        cast: Cast,
        piece: &'static str,
        when: i64,
        (number, image, line): (u32, &str, &str),
        parent: (u32, &str),
        account: (&str, &str),
    ) {
        let place = match parent.1 {
            SERVICES | "?" => Some((Shelf::ProcessStart, 5)),
            // Of what WMI starts, a program of a person's is kept.
            WMI => cast.story.map(|_| (Shelf::ComStart, 5)),
            _ if piece == "child" => None,
            _ => Some((Shelf::ComStart, 4)),
        };
        let data = json!({"Image": image, "CommandLine": line, "ProcessGuid": guid(number), "User": account.0, "LogonId": account.1,
            "ParentImage": parent.1, "ParentProcessGuid": guid(parent.0)});
        self.put(cast, piece, when, 1, place, data);
    }

    fn pipe(&mut self, cast: Cast, when: i64, process: u32, image: &str, name: &str) {
        let event = 17 + self.rng.u64(0..2);
        let data = json!({"Image": image, "ProcessGuid": guid(process), "PipeName": name});
        self.put(cast, "pipe", when, event, Some((Shelf::Pipe, 3)), data);
    }

    /// Writes an event of `when` and lets it arrive, as its story's chaos has it.
    fn put(
        &mut self,
        cast: Cast,
        piece: &'static str,
        when: i64,
        event: u64,
        place: Option<(Shelf, u8)>,
        data: Value,
    ) {
        let Cast {
            host,
            story,
            round,
            chaos,
        } = cast;
        let (rng, number) = (&mut self.rng, host);
        let host = &mut self.hosts[number];
        host.next_id += 1;
        if rng.f32() < chaos.drop {
            return;
        }
        let mut ms = START + when + host.skew;
        let mut usable = true;
        if rng.f32() < chaos.shift && !host.whole_seconds {
            // Within the tolerance between any two, or far beyond every window.
            let far = rng.u8(0..6) == 0;
            usable = !far;
            ms += if far {
                rng.i64(2..20) * 3_600_000
            } else {
                rng.i64(-900..900)
            };
        }
        if host.whole_seconds {
            ms -= ms.rem_euclid(1_000);
        }
        let time = Timestamp {
            ms,
            zoned: host.shape > 0,
        };
        let record_id = host.numbered.then_some(host.next_id);
        let mut text = write(host, event, record_id, time, data).to_string();
        if rng.f32() < chaos.spoil {
            usable = false;
            text.truncate(text.len() / 2);
        }
        if self.theme == Theme::Pending && rng.u8(0..3) == 0 && usable {
            text.insert_str(1, r#""detection":1,"detection_psexec_filter":{},"#);
        }
        let mut at = when + host.lag + rng.i64(0..=chaos.delay);
        let piece = (piece, round);
        loop {
            self.records.push(Record {
                at,
                host: number,
                text: text.clone(),
                event,
                record_id,
                time,
                story,
                piece,
                place,
                usable,
            });
            if rng.f32() >= chaos.again {
                break;
            }
            at += rng.i64(0..=10_000);
        }
    }
}

fn guid(process: u32) -> String {
    if process == 0 {
        return "{00000000-0000-0000-0000-000000000000}".to_owned();
    }
    format!("{{3f1a2b4c-0a01-66e5-eb03-{process:012x}}}")
}

fn address(host: usize) -> String {
    format!("10.9.{}.{}", host / 250, 1 + host % 250)
}

/// An event in the shape of the host's shipper: NXLog's, `evtx_dump`'s, Winlogbeat's.
fn write(host: &Host, event: u64, record_id: Option<u64>, time: Timestamp, data: Value) -> Value {
    let (provider, channel) = match event {
        4624 => ("Microsoft-Windows-Security-Auditing", "Security"),
        _ => (
            "Microsoft-Windows-Sysmon",
            "Microsoft-Windows-Sysmon/Operational",
        ),
    };
    let time = time.to_string();
    match host.shape {
        0 => {
            let mut record = json!({"EventTime": time, "Hostname": host.name, "EventID": event, "SourceName": provider, "Channel": channel});
            if let (Some(fields), Value::Object(data)) = (record.as_object_mut(), data) {
                fields.extend(record_id.map(|id| ("RecordNumber".to_owned(), json!(id))));
                fields.extend(data);
            }
            record
        }
        1 => {
            json!({"Event": {"System": {"Provider": {"#attributes": {"Name": provider}}, "EventID": event,
            "TimeCreated": {"#attributes": {"SystemTime": time}}, "EventRecordID": record_id, "Channel": channel, "Computer": host.name},
            "EventData": data}})
        }
        _ => {
            json!({"@timestamp": time, "winlog": {"channel": channel, "computer_name": host.name, "provider_name": provider,
            "event_id": event.to_string(), "record_id": record_id, "event_data": data}})
        }
    }
}
