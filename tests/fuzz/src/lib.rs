//! What no bytes may do to the filter. Each target takes bytes and panics where a promise is not kept.
//!
//! `make fuzz` runs the targets under libFuzzer. `tests/short.rs` runs them with every test run: for a few seconds on mutations of
//! the project's own fixtures, and on every input that once failed.

use psexec_filter_fixtures::{
    CMD, Host, SECURITY_PROVIDER, SMB_SERVER, SYSMON_PROVIDER, rfc3339, with_insertion,
};
use psexec_filter_plugin::filter::Filter;
use psexec_filter_plugin::normalize::path::{self, PathKey};
use psexec_filter_plugin::normalize::{address, guid, host, time};
use psexec_filter_plugin::policy::Policy;
use psexec_filter_plugin::splice::SECOND_KEY;
use serde_json::{Map, Value, json};
use std::cell::{Cell, RefCell};

/// A function that takes bytes and panics where a promise is not kept.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: [(&str, Target); 4] = [
    ("record", record),
    ("events", events),
    ("policy", policy),
    ("decoders", decoders),
];

/// The key of the default policy.
const KEY: &str = "detection";

thread_local! {
    /// One filter for many executions, with what it remembers, and how many it has had: making a filter would take most of the time
    /// of each.
    static SHARED: RefCell<(Filter, u32)> = RefCell::new((Filter::new(Policy::default()), 0));
    static ACCEPTED: Cell<u64> = const { Cell::new(0) };
}

/// How much of their input the targets accepted on this thread so far: records that were read as events, and valid policies. A
/// fuzzer whose inputs are all refused at once tests nothing.
pub fn accepted() -> u64 {
    ACCEPTED.get()
}

fn with_shared(work: impl FnOnce(&mut Filter)) {
    SHARED.with_borrow_mut(|(filter, used)| {
        if *used == 1_000 {
            (*filter, *used) = (Filter::new(Policy::default()), 0);
        }
        *used += 1;
        work(filter);
    });
}

/// Lines as records, whatever is in them.
pub fn record(data: &[u8]) {
    with_shared(|filter| {
        data.split(|byte| *byte == b'\n')
            .take(64)
            .for_each(|line| pass(filter, line));
        finish(filter);
    });
}

/// Passes a record and checks that it leaves as it came or with one alert added, under the key that it must have.
fn pass(filter: &mut Filter, record: &[u8]) {
    let before = filter.counters().events;
    let splice = filter.process(record, 1_726_304_400, 0).into_splice();
    ACCEPTED.set(ACCEPTED.get() + filter.counters().events - before);
    let Some(splice) = splice else {
        return;
    };
    let added =
        with_insertion(record, splice.at, &splice.text).unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(added.object["kind"], "alert", "{}", splice.text);
    if let Ok(before) = serde_json::from_slice::<Map<String, Value>>(record) {
        let has_first = before.contains_key(KEY);
        assert_eq!(added.key, if has_first { SECOND_KEY } else { KEY });
    }
}

/// Takes the alerts that still wait for a record: each must name evidence.
fn finish(filter: &mut Filter) {
    while let Some(alert) = filter.flush() {
        let alert: Value = serde_json::from_str(&alert).expect("JSON");
        let evidence = alert["evidence"].as_array();
        assert!(evidence.is_some_and(|all| !all.is_empty()), "{alert}");
    }
}

/// Bytes that decide, one after another, what is made; 0 when they are used up.
struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    fn byte(&mut self) -> usize {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        usize::from(*first)
    }

    fn of<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        texts[self.byte() % texts.len()]
    }

    fn number(&mut self) -> i64 {
        (0..8).fold(0, |number, _| number << 8 | self.byte() as i64)
    }

    fn raw(&mut self, most: usize) -> String {
        let length = (self.byte() % most).min(self.0.len());
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        String::from_utf8_lossy(text).into_owned()
    }

    /// A text that chains look for, another one, or both together.
    fn text(&mut self, known: &[&str]) -> String {
        match self.byte() % 8 {
            0 => self.raw(40),
            1 => self.of(known).repeat(1 + self.byte()),
            2 => format!("{}{}", self.of(known), self.raw(16)),
            _ => self.of(known).to_owned(),
        }
    }
}

const PATHS: [&str; 9] = [
    "System",
    r"C:\Windows\PSEXESVC.exe",
    r"\\?\C:\Windows\System32\services.exe",
    r"C:\Windows\System32\cmd.exe",
    r"C:\Windows\System32\wbem\WmiPrvSE.exe",
    r"C:\Windows\explorer.exe",
    r"\\127.0.0.1\ADMIN$\a.exe",
    r"%%SystemRoot%%\a.exe",
    "?",
];
const COMMANDS: [&str; 6] = [
    r"%COMSPEC% /Q /c echo cd ^> \\127.0.0.1\C$\__output 2^>^&1 > %TEMP%\a.bat & del %TEMP%\a.bat",
    r"cmd.exe /Q /c cd \ 1> \\127.0.0.1\ADMIN$\__1 2>&1",
    r"%SystemRoot%\PSEXESVC.exe",
    "powershell -enc AAAA",
    r"cmd.exe /c echo a > \\.\pipe\a",
    "rundll32.exe C:\\a.dll,x /p:a",
];
const NAMES: [&str; 6] = ["PC1", "pc1.corp.example", "10.0.0.21", "é.", "-", ""];
const GUIDS: [&str; 4] = [
    "{3f1a2b4c-0a01-66e5-eb03-000000000001}",
    "{3F1A2B4C-0A01-66E5-EB03-000000000002}",
    "{0}",
    "",
];
const ADDRESSES: [&str; 7] = [
    "10.0.0.5",
    "10.0.0.6",
    "::1",
    "fe80:0:0:0:0:0:0:1%4",
    "::ffff:10.0.0.5",
    "-",
    "255.255.255.255",
];
const VALUES: [&str; 7] = [
    r"\ImagePath",
    r"\Start",
    r"\Type",
    r"\ObjectName",
    r"\DeleteFlag",
    r"\a\ImagePath",
    "",
];

/// Events of a few hosts with hostile times, names and paths, under short limits that must hold.
pub fn events(data: &[u8]) {
    let (policy, records) = stream(data);
    let (hosts, bytes) = (policy.limits.hosts.get(), policy.limits.state_bytes.get());
    let mut filter = Filter::new(policy);
    for record in records {
        pass(&mut filter, record.as_bytes());
        assert!(
            filter.hosts() <= hosts && filter.state_bytes() <= bytes,
            "{} hosts, {} bytes",
            filter.hosts(),
            filter.state_bytes()
        );
    }
    finish(&mut filter);
}

/// The policy and the records that [`events`] makes of the bytes.
pub fn stream(data: &[u8]) -> (Policy, Vec<String>) {
    let mut choices = Choices(data);
    let limits = json!({"hosts": 1 + choices.byte() % 4, "evidence_per_host": 16 + choices.byte() % 48, "state_bytes": 65_536,
        "pending_per_host": 1 + choices.byte() % 3, "incidents_per_host": 1 + choices.byte() % 3, "tracked_processes": 1 + choices.byte() % 3});
    let allow = if choices.byte() % 2 == 0 {
        json!([])
    } else {
        json!([{"source": ["10.0.0.5"], "reason": "r"}])
    };
    let policy: Policy =
        serde_json::from_value(json!({"limits": limits, "allow": allow})).expect("a valid policy");
    let mut records = Vec::new();
    let mut now = 1_726_304_400_000i64;
    while !choices.0.is_empty() {
        now = match choices.byte() % 16 {
            0 => choices.number() % 253_402_300_800_000,
            1 => now.saturating_sub(choices.byte() as i64 * 1_000),
            step => now.saturating_add(step as i64 * 10),
        };
        let mut number = || choices.byte() % 3;
        let ports = [445, 135, 50_000];
        let ports = (ports[number()].to_string(), ports[number()].to_string());
        let event = [1, 3, 11, 13, 17, 18, 4624, 4634, 4672, 1][choices.byte() % 10];
        let (provider, channel) = if event > 4000 {
            (SECURITY_PROVIDER, "Security")
        } else {
            (SYSMON_PROVIDER, "")
        };
        let record = json!({
            "EventTime": rfc3339(now, choices.byte() % 2 == 0), "Hostname": choices.text(&NAMES), "EventID": event,
            "SourceName": provider, "Channel": channel, "RecordNumber": choices.byte(),
            "Image": choices.text(&PATHS), "ParentImage": choices.text(&PATHS), "CommandLine": choices.text(&COMMANDS), "TargetFilename": choices.text(&PATHS),
            "ProcessGuid": choices.of(&GUIDS), "ParentProcessGuid": choices.of(&GUIDS), "LogonId": choices.of(&["0x3e7", "0x1d313d", "77", "x"]),
            "TargetObject": format!(r"HKLM\System\CurrentControlSet\Services\{}{}", choices.of(&["a", "PSEXESVC", ""]), choices.of(&VALUES)),
            "Details": choices.text(&COMMANDS), "PipeName": choices.text(&[r"\PSEXESVC", r"\PSEXESVC-PC9-7-stdin", r"\RemCom_x"]),
            "Initiated": choices.of(&["false", "false", "true", "x"]), "SourceIp": choices.text(&ADDRESSES), "DestinationIp": choices.text(&ADDRESSES),
            "SourcePort": ports.0, "DestinationPort": ports.1, "LogonType": "3", "IpAddress": choices.text(&ADDRESSES), "TargetUserName": choices.raw(9),
            "TargetLogonId": "0x1d313d", "SubjectLogonId": choices.of(&["0x3e7", "0x1d313d"]), "WorkstationName": choices.of(&["PC9", "-"]),
        });
        records.push(record.to_string());
    }
    (policy, records)
}

/// A policy, as TOML and as JSON. One that is accepted is the same after it was packed and read again, and a filter runs with it.
pub fn policy(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let read = serde_json::from_str::<Policy>(&text).ok();
    if read.is_some() {
        assert_eq!(Filter::from_json(&text).counters().policy_refused, 0);
    }
    let Some(policy) = psexec_filter_pack::policy_from_toml(&text, "policy.toml")
        .ok()
        .or(read)
    else {
        return;
    };
    let packed = serde_json::to_string(&policy).expect("JSON");
    assert_eq!(
        serde_json::from_str::<Policy>(&packed).as_ref().ok(),
        Some(&policy),
        "{packed}"
    );
    ACCEPTED.set(ACCEPTED.get() + 1);
    let mut filter = Filter::from_json(&packed);
    let host = Host::new("PC1");
    for record in [
        host.file(0, SMB_SERVER, r"C:\Windows\a.exe"),
        host.start(100, 7, r"C:\Windows\a.exe"),
        host.wmi(200, 8, CMD, "cmd /c a > b 2>&1", "0x1d313d"),
    ] {
        filter.process(record.as_bytes(), 0, 0);
    }
}

/// The decoders of paths, addresses, times, positional values and messages.
pub fn decoders(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (a, b) = text
        .split_once('\n')
        .unwrap_or((&text, r"C:\Windows\a.exe"));
    let (left, right) = (PathKey::new(a), path::program(b));
    assert_eq!(left.matches(&right), right.matches(&left), "{a:?} {b:?}");
    assert!(left.as_str().is_empty() || left.matches(&left));
    let _ = (guid::normalize(a), guid::strip_braces(data), host::key(a));
    assert!(
        address::parse_plain(b.as_bytes()).is_none_or(|ip| address::parse(b) == Some(ip)),
        "{b}"
    );
    if let Some(time) = time::parse(a.as_bytes()) {
        // An offset may lead out of the years that have four digits.
        let printed = time.to_string();
        assert!(
            printed.starts_with('-')
                || printed.len() > "2024-09-14T09:00:00.000Z".len()
                || time::parse(printed.as_bytes()) == Some(time),
            "{a}"
        );
    }
    if let Ok(range) = address::Cidr::parse(a) {
        assert_eq!(address::Cidr::parse(&range.to_string()), Ok(range), "{a}");
        if let Some(ip) = address::parse(b) {
            range.contains(ip);
        }
    }
    let values: Vec<&str> = text.split('\n').take(40).collect();
    let event = [1, 3, 11, 13, 17, 4624, 4634, 4672][data.len() % 8];
    let envelope = |key: &str, value: Value| {
        json!({"EventID": event, "ProviderName": "Microsoft-Windows-Sysmon", "Channel": "Microsoft-Windows-Sysmon/Operational", "Computer": "PC1",
            "TimeCreated": "2024-09-14T09:00:00Z", key: value})
    };
    with_shared(|filter| {
        for (key, value) in [
            ("StringInserts", json!(values)),
            ("Message", json!(text)),
            ("System", json!(text)),
            ("log", json!(text)),
        ] {
            pass(filter, envelope(key, value).to_string().as_bytes());
        }
    });
}

/// What JSON, XML, paths and times are made of, and what is hard to read in them.
const TOKENS: [&str; 16] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "\\",
    "\\u0000",
    "\\ud83d",
    "null",
    "<Data Name='",
    "&#x10ffff;",
    "%%",
    "\n",
    "99999999999999999999",
];

/// One of the `seeds` with a few bytes changed, cut, doubled, or taken from another of them.
pub fn mutate(rng: &mut fastrand::Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut data = seeds[rng.usize(..seeds.len())].clone();
    for _ in 0..rng.usize(0..8) {
        let at = rng.usize(..=data.len());
        let end = (at + rng.usize(..64)).min(data.len());
        match rng.u8(..6) {
            0 => data
                .get_mut(at)
                .into_iter()
                .for_each(|byte| *byte ^= 1 << rng.u8(..8)),
            1 => data.truncate(at),
            2 => drop(data.drain(at..end)),
            3 => drop(data.splice(at..at, data[at..end].to_vec())),
            4 => drop(data.splice(at..end, TOKENS[rng.usize(..TOKENS.len())].bytes())),
            _ => {
                let other = &seeds[rng.usize(..seeds.len())];
                let from = rng.usize(..=other.len());
                drop(data.splice(at..end, other[from..].iter().take(256).copied()));
            }
        }
    }
    data
}
