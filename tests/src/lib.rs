//! Helpers for the end-to-end tests: engines, records, and the alerts that come of them.

use psexec_filter::engine::{Answer, Compiled, Engine, Options, added};
use psexec_filter_plugin::policy::Policy;
use serde_json::{Map, Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// An engine with its name.
pub type Named = (&'static str, Box<dyn Engine>);

/// How tests drive a module: with two kilobytes of WAMR's stack less than Fluent Bit gives, so that what no test tries has room, too.
pub const TIGHT: Options<'static> = Options {
    function: psexec_filter_pack::FUNCTION,
    free: true,
    stack: Options::STACK - 2 * 1024,
    policy: None,
};

/// All engines this was built with, by name, each with a fresh instance of `module`.
pub fn engines(module: &[u8]) -> Vec<Named> {
    engines_with(module, TIGHT)
}

/// The same, driven as `options` say.
pub fn engines_with(module: &[u8], options: Options<'_>) -> Vec<Named> {
    STARTS
        .iter()
        .map(|(name, start)| (*name, start(module, options)))
        .collect()
}

/// How a module is started, with options.
pub type Start = fn(&[u8], Options<'_>) -> Box<dyn Engine>;

/// All engines this was built with, by name.
pub const STARTS: &[(&str, Start)] = &[
    ("wasmtime", wasmtime_with),
    #[cfg(feature = "wamr")]
    ("wamr", wamr_with),
];

/// The engine that takes less time, for long stories.
pub fn wasmtime(module: &[u8]) -> Box<dyn Engine> {
    wasmtime_with(module, Options::default())
}

/// The engine on which a policy given as TOML is tried: the interpreter, where there is one, because its stack is small. What a
/// policy says is the same on every engine.
pub fn policy_engine(policy: &str) -> Named {
    let (name, start) = STARTS.last().expect("there is one");
    (name, start(&module_with(policy), TIGHT))
}

fn wasmtime_with(module: &[u8], options: Options<'_>) -> Box<dyn Engine> {
    let (compiled, policy) = compiled(module);
    let options = Options {
        policy: policy.as_deref(),
        ..options
    };
    Box::new(compiled.start(options).expect("wasmtime starts the module"))
}

#[cfg(feature = "wamr")]
fn wamr_with(module: &[u8], options: Options<'_>) -> Box<dyn Engine> {
    Box::new(psexec_filter::engine::Wamr::new(module, options).expect("WAMR takes the module"))
}

/// The machine code of a module, and the policy to write into its instances. A module that is the built-in one with another
/// policy runs on the machine code of the built-in one, so that nothing is compiled for a policy. (That a packed policy and a
/// written one are the same is a test of its own, in `e2e/engines.rs`.) Others are compiled, once in a test run.
fn compiled(module: &[u8]) -> (Compiled, Option<Vec<u8>>) {
    type Known = (Vec<u8>, Compiled, Option<Vec<u8>>);
    static KNOWN: Mutex<Vec<Known>> = Mutex::new(Vec::new());
    // A test that failed while it held the lock has changed nothing.
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, compiled, policy)) = known.iter().find(|(bytes, ..)| bytes == module) {
        return (compiled.clone(), policy.clone());
    }
    let policy = policy_beside_embedded(module);
    let code = match &policy {
        Some(_) => psexec_filter::module::EMBEDDED,
        None => module,
    };
    let compiled = Compiled::new(code).expect("wasmtime takes the module");
    known.push((module.to_vec(), compiled.clone(), policy.clone()));
    (compiled, policy)
}

/// If `module` is the built-in module with another policy: the bytes of that policy's region.
fn policy_beside_embedded(module: &[u8]) -> Option<Vec<u8>> {
    let policy = psexec_filter_pack::unpack(module).ok()??;
    let packed = psexec_filter_pack::pack(psexec_filter::module::EMBEDDED, &policy).ok()?;
    if packed != module {
        return None;
    }
    psexec_filter_pack::encode_policy(&policy).ok()
}

/// The module with a policy given as TOML.
pub fn module_with(policy: &str) -> Vec<u8> {
    let policy: Policy =
        psexec_filter_pack::policy_from_toml(policy, "test policy").expect("a good policy");
    psexec_filter_pack::pack(psexec_filter::module::EMBEDDED, &policy).expect("it packs")
}

/// The module with the default policy.
pub fn module() -> &'static [u8] {
    psexec_filter::module::EMBEDDED
}

/// Puts records through an engine and holds each answer to the contract (the record, or the record with one object
/// added); returns all alerts in order, those that waited for a record last.
pub fn alerts(engine: &mut dyn Engine, records: &[String]) -> Vec<Value> {
    let mut alerts = Vec::new();
    for record in records {
        alerts.extend(call(engine, record));
    }
    for alert in engine.flush().expect("flush") {
        alerts.push(serde_json::from_str(&alert).expect("an alert is JSON"));
    }
    alerts
}

/// Puts one record through an engine; returns the object that was added, if any.
pub fn call(engine: &mut dyn Engine, record: &str) -> Option<Value> {
    match engine
        .call("test", 0, 0, record.as_bytes())
        .expect("the module answers")
    {
        Answer::Unchanged => None,
        Answer::Changed(changed) => {
            serde_json::from_slice::<Map<String, Value>>(&changed)
                .expect("the record is still a JSON object");
            Some(Value::Object(
                added(record.as_bytes(), &changed)
                    .expect("one object was added and nothing else changed"),
            ))
        }
    }
}

/// The last alert of each incident, as `chain severity`.
pub fn told(alerts: &[Value]) -> Vec<String> {
    let mut last: Vec<&Value> = Vec::new();
    for alert in alerts {
        match last.iter_mut().find(|known| known["id"] == alert["id"]) {
            Some(known) => *known = alert,
            None => last.push(alert),
        }
    }
    last.iter()
        .map(|alert| {
            format!(
                "{} {}",
                alert["chain"].as_str().unwrap_or("?"),
                alert["severity"].as_str().unwrap_or("?")
            )
        })
        .collect()
}

/// A counter of the module.
pub fn counter(engine: &mut dyn Engine, name: &str) -> u64 {
    let stats: Value =
        serde_json::from_str(&engine.stats().expect("stats").expect("some")).expect("JSON");
    stats["counters"][name]
        .as_u64()
        .unwrap_or_else(|| panic!("no counter {name}"))
}

/// Says that a test is skipped, and why. Past the test harness, which would keep what a passing test prints to itself.
pub fn skipped(why: &str) {
    // A closed standard error is no reason to fail.
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// The logs that are shared beside the project, where they exist. Tests that need them say when they skip.
pub fn corpus() -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    if !path.is_dir() {
        skipped("../shared/corpus is not here");
        return None;
    }
    Some(path)
}

/// All logs of the corpus.
pub fn corpus_files() -> Vec<PathBuf> {
    let Some(path) = corpus() else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = std::fs::read_dir(path)
        .expect("readable")
        .map(|entry| entry.expect("readable").path())
        .collect();
    files.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "ndjson")
    });
    files.sort();
    files
}

/// Where records of the corpus name their host.
pub const HOST_PATHS: [&str; 6] = [
    "/Hostname",
    "/Computer",
    "/Event/System/Computer",
    "/winlog/computer_name",
    "/computer_name",
    "/host/name",
];

/// The service controller.
pub const SERVICES: &str = r"C:\Windows\System32\services.exe";
/// WMI's provider host.
pub const WMI: &str = r"C:\Windows\System32\wbem\WmiPrvSE.exe";
/// The command interpreter.
pub const CMD: &str = r"C:\Windows\System32\cmd.exe";
/// And the other one.
pub const POWERSHELL: &str = r"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe";
/// LocalSystem and its logon session.
pub const SYSTEM: (&str, &str) = (r"NT AUTHORITY\SYSTEM", "0x3e7");

/// Writes records of one host in NXLog's shape. Times are milliseconds after 2024-09-14T09:00:00Z.
#[derive(Clone)]
pub struct Host {
    /// Its name.
    pub name: String,
}

impl Host {
    /// A host of that name.
    pub fn new(name: &str) -> Host {
        Host {
            name: name.to_owned(),
        }
    }

    /// Any Sysmon event.
    pub fn event(&self, id: u32, ms: i64, data: Value) -> String {
        let start = psexec_filter_plugin::normalize::time::parse(b"2024-09-14T09:00:00Z")
            .expect("a time")
            .ms;
        let time = psexec_filter_plugin::normalize::time::Timestamp {
            ms: start + ms,
            zoned: true,
        };
        let mut record = json!({
            "EventTime": time.to_string(), "Hostname": self.name, "EventID": id, "SourceName": "Microsoft-Windows-Sysmon",
            "Channel": "Microsoft-Windows-Sysmon/Operational",
        });
        let fields = record.as_object_mut().expect("an object");
        fields.extend(data.as_object().expect("an object").clone());
        record.to_string()
    }

    /// Event 3: `source` (address, port) to `destination`, inbound.
    pub fn inbound(&self, ms: i64, source: (&str, u16), destination: (&str, u16)) -> String {
        self.event(
            3,
            ms,
            json!({"Image": "System", "Protocol": "tcp", "Initiated": "false", "SourceIp": source.0, "SourcePort": source.1.to_string(),
                "DestinationIp": destination.0, "DestinationPort": destination.1.to_string()}),
        )
    }

    /// Event 3: `remote` connects to port 445 of 10.0.0.21.
    pub fn connection(&self, ms: i64, remote: &str) -> String {
        self.inbound(ms, (remote, 50_211), ("10.0.0.21", 445))
    }

    /// Event 11.
    pub fn file(&self, ms: i64, writer: &str, path: &str) -> String {
        self.event(11, ms, json!({"Image": writer, "TargetFilename": path}))
    }

    /// Event 13 on ImagePath.
    pub fn service(&self, ms: i64, name: &str, command: &str) -> String {
        self.service_value(ms, name, "ImagePath", command)
    }

    /// Event 13 on any value of a service.
    pub fn service_value(&self, ms: i64, name: &str, value: &str, details: &str) -> String {
        let target = format!(r"HKLM\System\CurrentControlSet\Services\{name}\{value}");
        let image = r"C:\Windows\system32\services.exe";
        self.event(13, ms, json!({"Image": image, "EventType": "SetValue", "TargetObject": target, "Details": details}))
    }

    /// What CreateService writes, in its order.
    pub fn new_service(&self, ms: i64, name: &str, command: &str) -> Vec<String> {
        vec![
            self.service_value(ms, name, "Type", "DWORD (0x00000010)"),
            self.service_value(ms, name, "Start", "DWORD (0x00000003)"),
            self.service(ms + 1, name, command),
            self.service_value(ms + 1, name, "DisplayName", name),
            self.service_value(ms + 2, name, "ObjectName", "LocalSystem"),
        ]
    }

    /// Event 1 of any process: number, image and command line, parent's number and image, account and logon session.
    pub fn process(
        &self,
        ms: i64,
        started: (u32, &str, &str),
        parent: (u32, &str),
        account: (&str, &str),
    ) -> String {
        self.event(
            1,
            ms,
            json!({"Image": started.1, "CommandLine": started.2, "ProcessGuid": guid(started.0), "User": account.0, "LogonId": account.1,
                "ParentImage": parent.1, "ParentProcessGuid": guid(parent.0)}),
        )
    }

    /// A command as the service controller starts it.
    pub fn command(&self, ms: i64, process: u32, line: &str) -> String {
        let image = if line.contains("powershell") && !line.contains("cmd.exe") {
            POWERSHELL
        } else {
            CMD
        };
        self.process(ms, (process, image, line), (1, SERVICES), SYSTEM)
    }

    /// A command as WMI starts it, in a logon session of its own.
    pub fn wmi(&self, ms: i64, process: u32, image: &str, line: &str, logon_id: &str) -> String {
        self.process(
            ms,
            (process, image, line),
            (2, WMI),
            (r"CORP\alice", logon_id),
        )
    }

    /// Security event 4624: alice logs on over the network.
    pub fn logon(&self, ms: i64, remote: &str, logon_id: &str, workstation: &str) -> String {
        self.event(4624, ms, json!({"SourceName": "Microsoft-Windows-Security-Auditing", "Channel": "Security", "LogonType": "3", "IpAddress": remote,
            "IpPort": "50211", "TargetUserName": "alice", "TargetDomainName": "CORP", "TargetLogonId": logon_id, "WorkstationName": workstation}))
    }

    /// Event 1 under services.exe; `process` makes its GUID.
    pub fn start(&self, ms: i64, process: u32, image: &str) -> String {
        self.event(
            1,
            ms,
            json!({"Image": image, "CommandLine": image, "ProcessGuid": guid(process), "User": r"NT AUTHORITY\SYSTEM",
                "ParentImage": r"C:\Windows\System32\services.exe", "ParentProcessGuid": guid(1)}),
        )
    }

    /// Event 17 by the process of that number.
    pub fn pipe(&self, ms: i64, process: u32, image: &str, name: &str) -> String {
        self.event(
            17,
            ms,
            json!({"Image": image, "ProcessGuid": guid(process), "PipeName": name}),
        )
    }

    /// A whole PsExec execution from `remote` at `ms`, in the order in which Sysmon writes it.
    pub fn psexec(&self, ms: i64, process: u32, remote: &str) -> Vec<String> {
        const IMAGE: &str = r"C:\Windows\PSEXESVC.exe";
        vec![
            self.file(ms, "System", IMAGE),
            self.service(ms + 40, "PSEXESVC", r"%%SystemRoot%%\PSEXESVC.exe"),
            self.start(ms + 80, process, IMAGE),
            self.pipe(ms + 120, process, IMAGE, r"\PSEXESVC"),
            self.connection(ms + 1_500, remote),
        ]
    }
}

/// A process GUID.
pub fn guid(process: u32) -> String {
    format!("{{3f1a2b4c-0a01-66e5-eb03-{process:012x}}}")
}
