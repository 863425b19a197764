//! What is no attack: installers, updates and administrators, what goes on all the time, and floods.

use super::{Actor, DAY, Faults, Theme, World, Worth};
use crate::product::Kind;
use psexec_filter_fixtures::{
    CMD, EXPLORER, POWERSHELL, SERVICES, SMB_SERVER, SYSTEM, WMI, data, guid,
};
use serde_json::json;

const CAROL: (&str, &str) = (r"CORP\carol", "0x2222");

impl World {
    /// Installers, updates and administrators at the machine itself.
    pub(super) fn benign(&mut self, host: usize, number: usize, when: i64) {
        let actor = Actor {
            host,
            scenario: Some(self.scenarios.len()),
            round: 0,
            faults: Faults::default(),
        };
        let (word, process) = (self.word(7), self.process_number());
        let needs: &[&str] = if number < 3 { &["file", "start"] } else { &[] };
        self.add_scenario(actor, None, vec![needs], &[]);
        let program = format!(r"C:\Program Files\{word}\{word}.exe");
        let start = |world: &mut World, image: &str, line: &str| {
            let started = (process, image, line);
            world.process(actor, "start", when + 3_000, started, (1, SERVICES), SYSTEM);
        };
        match number {
            // An installer.
            0 => {
                let installer = r"C:\Windows\System32\msiexec.exe";
                self.file(actor, "file", when, installer, &program);
                // Many configurations log the ImagePath alone.
                let created = self.rng.bool();
                let command = format!("\"{program}\"");
                self.service(actor, when + 2_900, &word, &command, created);
                start(self, &program, &command);
            }
            // An update.
            1 => {
                let updater = r"C:\Program Files\Agent\update.exe";
                self.file(actor, "file", when, updater, &program);
                let image_path = ("ImagePath", program.as_str());
                self.service_value(actor, "service", when + 2_000, "Agent", image_path);
                start(self, &program, &program);
            }
            // PsExec used for SYSTEM on its own machine. Under a name of its own: with the name of an attack's program it would be
            // one incident with an attack at the same time.
            2 => {
                let image = format!(r"C:\Windows\{word}.exe");
                self.file(actor, "file", when, r"C:\Tools\PsExec64.exe", &image);
                let command = format!(r"%%SystemRoot%%\{word}.exe");
                self.service(actor, when + 2_900, &word, &command, true);
                start(self, &image, &image);
                let pipe = format!(r"\{word}-PC7-77-stdin");
                self.pipe(actor, when + 3_100, (process, &image), &pipe);
            }
            // A tool that makes itself SYSTEM on its own machine.
            3 => {
                let command = format!(r"cmd.exe /c echo {word} > \\.\pipe\{word}");
                self.service(actor, when + 2_900, &word, &command, true);
                start(self, CMD, &command);
                self.service_deleted(actor, when + 4_000, &word);
            }
            // An update of Defender.
            4 => {
                let defender =
                    r"C:\ProgramData\Microsoft\Windows Defender\Platform\4.18.23-0\MsMpEng.exe";
                let image_path = ("ImagePath", defender);
                self.service_value(actor, "service", when, "WinDefend", image_path);
                start(self, defender, defender);
            }
            // A program on a share, started at the desktop.
            _ => {
                let tool = format!(r"D:\Share\{word}.exe");
                self.file(actor, "file", when, SMB_SERVER, &tool);
                let started = (process, tool.as_str(), tool.as_str());
                self.process(actor, "start", when + 9_000, started, (3, EXPLORER), CAROL);
            }
        }
    }

    /// One of the things that go on all the time.
    pub(super) fn noise(&mut self, actor: Actor, when: i64) {
        let (word, process, last) = (self.word(6), self.process_number(), self.rng.u8(2..30));
        let from = format!("10.0.0.{last}");
        let windows = |name: &str| format!(r"C:\Windows\System32\{name}.exe");
        match self.rng.u8(0..16) {
            0 => {
                let image = windows("svchost");
                let started = (process, image.as_str(), "svchost.exe -k netsvcs");
                self.process(actor, "", when, started, (1, SERVICES), SYSTEM);
            }
            1..4 => {
                let image = windows("notepad");
                let started = (process, image.as_str(), "notepad.exe");
                self.process(actor, "", when, started, (3, EXPLORER), CAROL);
            }
            4 => {
                let started = (process, r"C:\Windows\CCM\scan.exe", "scan.exe");
                let account = (r"CORP\sccm", "0x3333");
                self.process(actor, "", when, started, (2, WMI), account);
            }
            5 => {
                let started = (process, POWERSHELL, "powershell.exe -c inventory");
                self.process(actor, "", when, started, (2, WMI), SYSTEM);
            }
            6 => {
                let started = (process, CMD, "cmd.exe /c dir");
                let runner = windows("gitlab-runner");
                self.process(actor, "", when, started, (9, &runner), SYSTEM);
            }
            7 => {
                let port = [445, 135][usize::from(last & 1)];
                self.connection(actor, when, &from, port, SMB_SERVER);
            }
            8 => {
                let path = format!(r"D:\Share\{word}.docx");
                self.file(actor, "", when, SMB_SERVER, &path);
            }
            9 => {
                let path = format!(r"C:\Windows\WinSxS\{word}.dll");
                self.file(actor, "", when, r"C:\Windows\WinSxS\TiWorker.exe", &path);
            }
            10 => {
                let disabled = ("Start", "DWORD (0x00000004)");
                self.service_value(actor, "", when, &word, disabled);
            }
            11 => {
                let driver = format!(r"\SystemRoot\System32\drivers\{word}.sys");
                self.service_value(actor, "", when, &word, ("ImagePath", &driver));
            }
            12 => {
                let target = r"HKCU\Software\Run\a";
                let data = json!({"Image": EXPLORER, "TargetObject": target, "Details": word});
                self.log(actor, "", when, 13, None, data);
            }
            13 => {
                let data =
                    json!({"Image": EXPLORER, "PipeName": r"\lsass", "ProcessGuid": guid(3)});
                self.log(actor, "", when, 18, None, data);
            }
            14 => {
                let data = data::logon("carol", &from, &format!("0x{process:x}"), "PC8");
                let kept_as = Some((Kind::Logon, Worth::Equal));
                self.log(actor, "", when, 4624, kept_as, data);
            }
            // A record of another year. It must not disturb what is remembered.
            _ => {
                let skew = self.hosts[actor.host].skew;
                self.hosts[actor.host].skew += [-4_000, 800, 25_000][self.rng.usize(0..3)] * DAY;
                let path = format!(r"C:\Windows\{word}.exe");
                self.file(actor, "", when, SMB_SERVER, &path);
                self.hosts[actor.host].skew = skew;
                if let Some(record) = self.records.last_mut() {
                    record.usable = false;
                }
            }
        }
    }

    /// Hundreds of records of one kind.
    pub(super) fn flood(&mut self, actor: Actor, start: i64) {
        let kind = match self.theme {
            Theme::Hosts => 6,
            Theme::StateBytes => 7,
            Theme::RecordBytes => 8,
            _ => self.rng.u8(0..6),
        };
        self.hosts[actor.host].swollen |= kind == 7;
        let (count, salt) = (self.rng.i64(100..500), self.word(4));
        for n in 0..count {
            let when = start + n * 100_000 / count;
            let process = self.process_number();
            match kind {
                0 => {
                    let from = format!("10.100.{}.{}", n / 250, 1 + n % 250);
                    self.connection(actor, when, &from, 445, SMB_SERVER);
                }
                1 => {
                    let path = format!(r"D:\Share\{salt}{n}.docx");
                    self.file(actor, "", when, SMB_SERVER, &path);
                }
                2 => {
                    let path = format!(r"C:\Windows\WinSxS\{salt}{n}.dll");
                    self.file(actor, "", when, r"C:\update.exe", &path);
                }
                3 => {
                    let path = format!(r"D:\Share\{salt}{n}.exe");
                    self.file(actor, "", when, SMB_SERVER, &path);
                }
                4 => {
                    let program = format!(r"C:\Program Files\{n}.exe");
                    let service = format!("{salt}{n}");
                    self.service_value(actor, "", when, &service, ("ImagePath", &program));
                }
                5 => {
                    let image = format!(r"C:\Windows\System32\{salt}{n}.exe");
                    let started = (process, image.as_str(), image.as_str());
                    self.process(actor, "", when, started, (1, SERVICES), SYSTEM);
                }
                6 => {
                    let host = self.add_host(format!("{salt}{n}"));
                    let actor = Actor { host, ..actor };
                    self.connection(actor, when, "10.1.1.1", 445, SMB_SERVER);
                }
                7 => {
                    let image = format!(r"C:\Windows\{}\{salt}{n}.exe", "x".repeat(900));
                    let started = (process, image.as_str(), image.as_str());
                    self.process(actor, "", when, started, (1, SERVICES), SYSTEM);
                    let service = format!("{salt}{n}");
                    self.service_value(actor, "", when, &service, ("ImagePath", &image));
                }
                _ => {
                    let path = format!(r"D:\Share\{salt}{n}.docx");
                    self.file(actor, "", when, SMB_SERVER, &path);
                    self.pad_last_record(n);
                }
            }
        }
    }

    /// Makes the last record as long as the longest that is examined, or up to two bytes shorter or one byte longer, as `n` says.
    fn pad_last_record(&mut self, n: i64) {
        let longest = self.policy.limits.max_record_bytes.get();
        let Some(record) = self.records.last_mut() else {
            return;
        };
        let length = longest - 2 + n as usize % 4;
        let padding = length - record.text.len() - r#","p":"""#.len();
        let member = format!(r#","p":"{}""#, "x".repeat(padding));
        record.text.insert_str(record.text.len() - 1, &member);
        record.usable = record.text.len() <= longest;
    }
}
