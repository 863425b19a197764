//! What goes on all the time, and floods.

use super::hosts::{Person, address};
use super::{Actor, DAY, Theme, World};
use psexec_filter_fixtures::{CMD, EXPLORER, POWERSHELL, SERVICES, SMB_SERVER, SYSTEM, WMI, guid};
use serde_json::json;

/// A person at the machine itself: account and logon session.
pub(super) const CAROL: (&str, &str) = (r"CORP\carol", "0x2222");

/// Clients of a busy server.
const CLIENTS: i64 = 30;

impl World {
    /// One of the things that go on all the time.
    pub(super) fn noise(&mut self, actor: Actor, when: i64) {
        let (word, process, last) = (self.word(6), self.process_number(), self.rng.u8(2..30));
        let from = format!("10.0.0.{last}");
        let windows = |name: &str| format!(r"C:\Windows\System32\{name}.exe");
        let is_server = self.hosts[actor.host].is_server;
        match self.rng.u8(0..17) {
            7 | 14 if !is_server => {}
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
                let user = self.one_of(&["carol", "PC7$", "ANONYMOUS LOGON"]);
                self.client(actor, when, &from, user);
            }
            15 => self.outbound(actor, when, &address(actor.host)),
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

    /// Somebody logs on from another machine, for its shares.
    pub(super) fn client(&mut self, actor: Actor, when: i64, from: &str, user: &'static str) {
        let session = format!("0x{:x}", self.process_number());
        let person = Person {
            user,
            session,
            workstation: "PC8".to_owned(),
            is_administrator: false,
        };
        self.logon(actor, when, from, &person);
    }

    /// A busy server: dozens of clients that connect and log on, each every few minutes.
    pub(super) fn clients(&mut self, actor: Actor, start: i64) {
        for n in 0..CLIENTS {
            let from = format!("10.0.4.{}", 10 + n);
            let when = start - 90_000 + n * 5_000 + self.rng.i64(0..3_000);
            self.connection(actor, when, &from, 445, SMB_SERVER);
            let user = self.one_of(&["dave", "erin", "PC4$"]);
            self.client(actor, when + 100, &from, user);
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
