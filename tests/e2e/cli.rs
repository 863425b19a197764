//! The program as people and shippers start it: what it prints, how it reports bad input, and its exit code.

use crate::program::{Place, text};
use psexec_filter::replay::DEMO;
use psexec_filter_pack::policy_from_toml;
use psexec_filter_plugin::ABI;
use psexec_filter_tests::{added_object, module};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

/// One alert a line.
fn alerts(lines: &[u8]) -> Vec<Value> {
    lines
        .split_inclusive(|byte| *byte == b'\n')
        .map(|line| serde_json::from_slice(line).expect("JSON"))
        .collect()
}

/// Alerts without their file and line.
fn without_input(lines: &[u8]) -> Vec<Value> {
    let mut alerts = alerts(lines);
    alerts
        .iter_mut()
        .for_each(|alert| alert["input"] = Value::Null);
    alerts
}

/// The lines of the built-in demo log.
fn demo_log() -> Vec<Vec<u8>> {
    DEMO.strip_suffix(b"\n")
        .unwrap_or(DEMO)
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect()
}

/// Every command that reads a policy refuses `p.toml` with this message, and writes nothing.
fn assert_refused(place: &Place, says: &str) {
    for command in [
        "pack --policy p.toml --out new.wasm",
        "policy check p.toml",
        "replay --policy p.toml",
        "run --policy p.toml",
    ] {
        let ran = place.run(command, b"{}\n");
        assert_eq!(
            (ran.code, ran.out.as_slice(), place.get("new.wasm")),
            (Some(1), b"".as_slice(), None),
            "{command}: {says}"
        );
        assert!(ran.err.contains(says), "{command}: {}", ran.err);
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("to memory");
    encoder.finish().expect("to memory")
}

#[test]
fn replay_without_a_file_reports_the_built_in_demo_log() {
    let printed = text(Place::new().run("replay", b"").good());
    for (label, says) in [
        (
            "CRITICAL",
            "Program dropped over SMB and started as a service (PsExec)",
        ),
        ("who", r"NT AUTHORITY\SYSTEM"),
        ("from", "10.0.0.5"),
        ("onto", "WS01.corp.example"),
        ("ran", r"C:\Windows\PSEXESVC.exe  as service PSEXESVC"),
        (
            "when",
            "2024-09-14T09:52:31.902Z to 2024-09-14T09:52:33.118Z",
        ),
        ("severity", "critical; no evidence is missing"),
        (
            "2024-09-14T09:52:31.902Z",
            r"event 11   System (over SMB) wrote C:\Windows\PSEXESVC.exe  [record 184203]",
        ),
        (
            "2024-09-14T09:52:31.951Z",
            r"event 13   service PSEXESVC was set to %%SystemRoot%%\PSEXESVC.exe  [record 184205]",
        ),
        (
            "2024-09-14T09:52:31.988Z",
            r"event 1    services.exe started C:\Windows\PSEXESVC.exe  [record 184207]",
        ),
        (
            "2024-09-14T09:52:32.044Z",
            r"event 17   pipe \PSEXESVC was opened by ",
        ),
        (
            "2024-09-14T09:52:33.118Z",
            "event 3    10.0.0.5 connected to port 445  [record 184211]",
        ),
        ("7 records read, 1 incident.", ""),
    ] {
        let mut lines = printed
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix(label));
        assert!(
            lines.any(|rest| rest.trim_start().starts_with(says)),
            "{label} {says} in\n{printed}"
        );
    }
    assert!(
        printed.lines().all(|line| line.trim_end() == line),
        "spaces at the end of a line in\n{printed}"
    );
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md"))
        .expect("README.md");
    assert!(
        readme.contains(&printed),
        "README.md shows something else than\n{printed}"
    );
}

/// The program contains the module's machine code, and writes a policy into the instance: neither costs a compilation, which
/// takes more than 500 ms of processor time.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn replay_starts_without_compiling_the_module() {
    let place = Place::new();
    place.put("p.toml", "alert.key = \"found\"\n");
    for arguments in ["replay -", "replay --policy p.toml -"] {
        let mut running = place
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut stdin = running.stdin.take().expect("piped");
        stdin.write_all(DEMO).expect("it reads");
        // Once it sleeps, in wait of more input, it has started and examined the demo log.
        let process = format!("/proc/{}", running.id());
        let fields = || -> Vec<String> {
            let stat = std::fs::read_to_string(format!("{process}/stat")).expect("it runs");
            let fields = stat.rsplit_once(") ").expect("a name").1;
            fields.split(' ').map(str::to_owned).collect()
        };
        for _ in 0..600 {
            if fields()[0] == "S" {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        // User and system time, in hundredths of a second.
        let time: u64 = fields()[11..13]
            .iter()
            .map(|ticks| ticks.parse::<u64>().expect("a number"))
            .sum();
        let status = std::fs::read_to_string(format!("{process}/status")).expect("it runs");
        let peak: u64 = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"))
            .and_then(|kib| kib.parse().ok())
            .expect("a peak");
        drop(stdin);
        let output = running.wait_with_output().expect("it ends");
        assert!(text(output.stdout).ends_with("7 records read, 1 incident.\n"));
        assert!(time < 20, "{arguments}: {time}0 ms of processor time");
        assert!(peak <= 40 * 1024, "{arguments}: {peak} KiB");
    }
}

#[test]
fn replay_as_ndjson_names_the_record_of_each_alert() {
    let place = Place::new();
    place.put("demo.ndjson", DEMO);
    let lines = place.run("replay --format ndjson demo.ndjson", b"").good();
    let printed: Vec<Value> = alerts(&lines)
        .iter()
        .map(|alert| json!([alert["kind"], alert["revision"], alert["input"]]))
        .collect();
    let at = |line: u32| json!({"path": "demo.ndjson", "line": line});
    assert_eq!(
        printed,
        [json!(["alert", 1, at(5)]), json!(["alert", 2, at(7)])]
    );

    let piped = place.run("replay --format ndjson -", DEMO).good();
    assert_eq!(alerts(&piped)[1]["input"], json!({"path": "-", "line": 7}));
    assert_eq!(without_input(&piped), without_input(&lines));
    #[cfg(feature = "wamr")]
    assert_eq!(
        place
            .run("replay --format ndjson --engine wamr demo.ndjson", b"")
            .good(),
        lines
    );
}

#[test]
fn replay_reads_a_log_however_it_was_written() {
    let place = Place::new();
    let want = without_input(&place.run("replay --format ndjson", b"").good());
    let (lines, bom) = (demo_log(), b"\xef\xbb\xbf".as_slice());
    let crlf = [lines.join(b"\r\n".as_slice()), b"\r\n".to_vec()].concat();
    for (what, log, last) in [
        ("no newline at the end", lines.join(&b'\n'), 7),
        ("CRLF", crlf.clone(), 7),
        ("BOM", [bom, DEMO].concat(), 7),
        ("BOM and CRLF", [bom, &crlf].concat(), 7),
        (
            "empty lines and indents",
            lines.join(b"\n\n \t\n  ".as_slice()),
            19,
        ),
        ("gzip", gzip(DEMO), 7),
        (
            "gzip in several members",
            lines
                .iter()
                .flat_map(|line| gzip(&[line.as_slice(), b"\r\n"].concat()))
                .collect(),
            7,
        ),
    ] {
        place.put("log", log);
        let found = place.run("replay --format ndjson log", b"").good();
        assert_eq!(without_input(&found), want, "{what}");
        assert_eq!(
            alerts(&found)[1]["input"],
            json!({"path": "log", "line": last}),
            "{what}"
        );
    }
}

/// Logs are rotated in the middle of an attack.
#[test]
fn replay_remembers_from_file_to_file() {
    let place = Place::new();
    let lines = demo_log();
    place.put("1.ndjson", lines[..3].join(&b'\n'));
    place.put("2.ndjson.gz", gzip(&lines[3..].join(&b'\n')));
    let found = place
        .run("replay --format ndjson 1.ndjson 2.ndjson.gz", b"")
        .good();
    assert_eq!(
        without_input(&found),
        without_input(&place.run("replay --format ndjson", b"").good())
    );
    assert_eq!(
        alerts(&found)[1]["input"],
        json!({"path": "2.ndjson.gz", "line": 4})
    );
    assert!(
        text(place.run("replay 1.ndjson", b"").good()).ends_with("3 records read, 0 incidents.\n")
    );
}

/// Each fault is reported with file and line, the rest is read, and the exit code is 1.
#[test]
fn replay_reports_what_it_cannot_read_and_reads_the_rest() {
    const EXPECTED: &str = "expected one JSON object a line";
    let insert = |line: &[u8]| {
        let mut lines = demo_log();
        lines.insert(2, line.to_vec());
        lines.join(&b'\n')
    };
    let compressed = gzip(DEMO);
    let long: Vec<u8> = [b"hello\n".repeat(12), DEMO.to_vec()].concat();
    for (what, bytes, says, alerts_found) in [
        ("missing", None, vec!["log: cannot be read: "], 0),
        (
            "empty",
            Some(Vec::new()),
            vec!["log: is empty", EXPECTED],
            0,
        ),
        (
            "blank",
            Some(b"\r\n \n".to_vec()),
            vec!["log: has no records", EXPECTED],
            0,
        ),
        (
            "text",
            Some(b"Sep 14 09:52:33 WS01 hello\n".to_vec()),
            vec!["log:1: not a JSON object", EXPECTED],
            0,
        ),
        (
            "a list",
            Some(b"[{\"a\":1}]".to_vec()),
            vec!["log:1: not a JSON object", EXPECTED],
            0,
        ),
        (
            "one line of text",
            Some(insert(b"hello")),
            vec!["log:3: not a JSON object", EXPECTED],
            2,
        ),
        (
            "one bad line",
            Some(insert(br#"{"a": x}"#)),
            vec!["log:3: not JSON at column 7", EXPECTED],
            2,
        ),
        (
            "two objects on a line",
            Some(insert(br#"{"a":1}{"b":2}"#)),
            vec!["log:3: not JSON at column 8", EXPECTED],
            2,
        ),
        (
            "cut in the last line",
            DEMO.get(..DEMO.len() - 9).map(<[u8]>::to_vec),
            vec!["log:7: not JSON", EXPECTED],
            1,
        ),
        (
            "many bad lines",
            Some(long),
            vec!["log:1: ", "log:10: ", "\n2 more faults"],
            2,
        ),
        (
            "damaged EVTX",
            Some(b"ElfFile\0rest".to_vec()),
            vec!["log: not a readable EVTX file: "],
            0,
        ),
        (
            "cut gzip",
            compressed.get(..compressed.len() - 12).map(<[u8]>::to_vec),
            vec!["log:7: cannot be read further: "],
            1,
        ),
        (
            "gzip and more",
            Some([compressed.as_slice(), b"hello"].concat()),
            vec!["log:8: cannot be read further: "],
            2,
        ),
    ] {
        let place = Place::new();
        if let Some(bytes) = bytes {
            place.put("log", bytes);
        }
        place.put("next", text(DEMO.to_vec()).replace("WS01", "WS02"));
        let ran = place.run("replay --format ndjson log next", b"");
        assert_eq!(ran.code, Some(1), "{what}");
        assert!(ran.err.starts_with("log:"), "{what}: {}", ran.err);
        for part in says {
            assert!(ran.err.contains(part), "{what}: {part:?} in {}", ran.err);
        }
        let (next, log): (Vec<Value>, Vec<Value>) = alerts(&ran.out)
            .into_iter()
            .partition(|alert| alert["input"]["path"] == "next");
        assert_eq!((log.len(), next.len()), (alerts_found, 2), "{what}");
    }
}

/// The records of an attack, with lines before them that are no events, no JSON, or no text at all.
fn stream() -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = [
        b"Sep 14 09:52:33 WS01 hello".as_slice(),
        b"",
        b"[1]",
        b"caf\xe9 \xff\0\xfe",
        b"\xef\xbb\xbf{}",
    ]
    .map(<[u8]>::to_vec)
    .to_vec();
    // The longest line that is examined.
    lines.push(format!("{{\"a\":\"{}\"}}", "x".repeat(4 * 1024 * 1024 - 8)).into_bytes());
    lines.extend(demo_log());
    // The record that carries the first alert, with bytes in it that are not UTF-8, and blanks.
    let carrier = &mut lines[10];
    carrier.pop();
    carrier.extend_from_slice(b", \"Other\" : \"caf\xe9\xff\" } ");
    lines
}

/// A record leaves as it came, or with one object added, and every other line as it came. The three forms of output agree.
#[test]
fn run_changes_nothing_but_the_records_that_carry_an_alert() {
    let place = Place::new();
    for (ending, end) in [
        ("\n", "\n"),
        ("\r\n", "\r\n"),
        ("\r\n", ""),
        ("\n", "\n\nlast"),
    ] {
        let input = [stream().join(ending.as_bytes()), end.into()].concat();
        let records = place.run("run", &input).good();
        let mut found = Vec::new();
        let mut both: Vec<u8> = Vec::new();
        let (mut before, mut after) = (
            input.split_inclusive(|byte| *byte == b'\n'),
            records.split_inclusive(|byte| *byte == b'\n'),
        );
        for number in 1.. {
            let (Some(before), Some(after)) = (before.next(), after.next()) else {
                break;
            };
            both.extend_from_slice(after);
            if after != before {
                let added = added_object(before, after)
                    .unwrap_or_else(|fault| panic!("line {number} ending in {ending:?}: {fault}"));
                let alert = Value::Object(added.expect("they differ").object);
                both.extend_from_slice(if after.ends_with(b"\n") { b"" } else { b"\n" });
                both.extend_from_slice(format!("{alert}\n").as_bytes());
                found.push((number, alert));
            }
        }
        assert_eq!(
            (before.next(), after.next()),
            (None, None),
            "lines ending in {ending:?}"
        );
        assert_eq!(
            found
                .iter()
                .map(|(number, _)| *number)
                .collect::<Vec<u32>>(),
            [11, 13],
            "lines ending in {ending:?}"
        );

        let printed = place.run("run --emit alerts", &input).good();
        assert_eq!(
            alerts(&printed),
            found
                .into_iter()
                .map(|(_, alert)| alert)
                .collect::<Vec<_>>(),
            "lines ending in {ending:?}"
        );
        assert!(
            place.run("run --emit both", &input).good() == both,
            "lines ending in {ending:?}"
        );
    }
}

/// A line that is too long for the module is passed on as it came, and the log says that it was not examined.
#[test]
fn run_passes_on_lines_that_are_too_long_for_the_module() {
    let huge = format!("{{\"a\":\"{}\"}}\n", "x".repeat(12 * 1024 * 1024)).into_bytes();
    let ran = Place::new().run("run", &[b"{}\n", huge.as_slice(), DEMO].concat());
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.err
            .contains(" WARN stdin:2: passed on unexamined: the line is longer than --max-line"),
        "{}",
        ran.err
    );
    assert!(ran.out.starts_with(&[b"{}\n", huge.as_slice()].concat()));
    assert_eq!(
        ran.out
            .split(|byte| *byte == b'\n')
            .filter(|line| line.ends_with(b"}}"))
            .count(),
        2
    );
}

/// The last record completes the attack and cannot carry an alert: the alert becomes a line of its own, even if the input ends without a
/// newline.
#[test]
fn run_writes_an_alert_that_no_record_carries_as_a_line() {
    let place = Place::new();
    let mut lines: Vec<String> = demo_log().into_iter().map(text).collect();
    lines.truncate(5);
    lines[4] = lines[4].replace("NT AUTHORITY", "NT\0AUTHORITY");
    for end in ["\n", ""] {
        let input = lines.join("\n") + end;
        let alert = text(place.run("run --emit alerts", input.as_bytes()).good());
        assert_eq!(alerts(alert.as_bytes()).len(), 1);
        let newline = if end.is_empty() { "\n" } else { "" };
        for (emit, line) in [
            (
                "records",
                format!("{{\"detection\":{}}}\n", alert.trim_end()),
            ),
            ("both", alert.clone()),
        ] {
            let out = text(
                place
                    .run(&format!("run --emit {emit}"), input.as_bytes())
                    .good(),
            );
            assert!(out == format!("{input}{newline}{line}"), "{emit}: {out}");
        }
    }
}

/// A shipper that waits for each line's answer gets it before it sends the next.
#[test]
fn run_answers_each_line_at_once() {
    let mut running = Place::new()
        .command("run")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let (mut stdin, stdout) = (
        running.stdin.take().expect("piped"),
        running.stdout.take().expect("piped"),
    );
    let (send, answers) = mpsc::channel();
    std::thread::spawn(move || {
        BufReader::new(stdout)
            .lines()
            .try_for_each(|line| send.send(line.expect("UTF-8")))
    });
    for line in demo_log() {
        stdin
            .write_all(&[line.as_slice(), b"\n"].concat())
            .expect("it reads");
        let answer = answers
            .recv_timeout(Duration::from_secs(60))
            .expect("an answer");
        assert!(
            answer.as_bytes().starts_with(&line[..line.len() - 1]),
            "{answer}"
        );
    }
    drop(stdin);
    assert!(running.wait().expect("it ends").success());
}

/// A reader that closes the pipe, as `| head` does, is no error.
#[test]
fn a_reader_that_closes_the_pipe_is_no_error() {
    let place = Place::new();
    place.put("demo", DEMO);
    for arguments in [
        "run",
        "run --emit alerts",
        "replay",
        "replay --format ndjson",
        "policy show",
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let stdin = std::fs::File::open(place.0.path().join("demo")).expect("it is there");
        let output = place
            .command(arguments)
            .stdin(stdin)
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn();
        let output = output
            .and_then(std::process::Child::wait_with_output)
            .expect("it runs");
        assert_eq!(
            (output.status.code(), text(output.stderr).as_str()),
            (Some(0), ""),
            "{arguments}"
        );
    }
}

/// A wrong policy is refused with file, line and what was expected. No module is written, and one that exists is not changed.
#[test]
fn pack_refuses_a_wrong_policy() {
    for (policy, says) in [
        (
            Some("[windows]\nsuppress = \"5m\"\nsupress = \"5m\"\n"),
            [
                "p.toml:3: ",
                "unknown field `supress`",
                "expected one of `connection_before`",
            ],
        ),
        (
            Some("\n[windos]\n"),
            [
                "p.toml:2: ",
                "unknown field `windos`",
                "expected one of `alert`",
            ],
        ),
        (
            Some("[[allow]]\nreason = \"x\"\nsource = [\"10.0.0.0/33\"]\n"),
            [
                "p.toml:3: ",
                "`10.0.0.0/33` is not",
                "expected for example `10.1.2.3`",
            ],
        ),
        (
            Some("[[allow]]\nreason = \"x\"\nsource = [\"backup01\"]\n"),
            [
                "p.toml:3: ",
                "`backup01` is not",
                "expected for example `10.1.2.3`",
            ],
        ),
        (
            Some("[[allow]]\nsource = [\"10.0.0.0/8\"]\n"),
            ["p.toml:1: ", "missing field `reason`", ""],
        ),
        (
            Some("[windows]\n\nsuppress = \"5 minutes\"\n"),
            [
                "p.toml:3: ",
                "`5 minutes` is not a span of time",
                "such as `1500ms`",
            ],
        ),
        (
            Some("[limits]\nhosts = 0\n"),
            ["p.toml:2: ", "0 is out of range", "from 1 to 4096"],
        ),
        (
            Some("[alert]\nkey = 7\n"),
            ["p.toml:2: ", "integer `7`", "expected a string"],
        ),
        (
            Some("[alert]\nmin_severity = \"urgent\"\n"),
            ["p.toml:2: ", "`urgent`", "expected one of `informational`"],
        ),
        (
            Some("[alert\n"),
            ["p.toml:1: ", "unclosed table", "expected `]`"],
        ),
        (None, ["p.toml: ", "cannot be read", ""]),
    ] {
        let place = Place::new();
        if let Some(policy) = policy {
            place.put("p.toml", policy);
        }
        place.put("old.wasm", "as it was");
        for out in ["new.wasm", "old.wasm"] {
            let ran = place.run(&format!("pack --policy p.toml --out {out}"), b"");
            assert_eq!(
                (ran.code, ran.out.as_slice()),
                (Some(1), b"".as_slice()),
                "{policy:?}"
            );
            for part in says {
                assert!(
                    ran.err.starts_with("psexec-filter: p.toml:") && ran.err.contains(part),
                    "{part:?} in {}",
                    ran.err
                );
            }
        }
        assert_eq!(
            (place.get("new.wasm"), place.get("old.wasm")),
            (None, Some(b"as it was".to_vec())),
            "{policy:?}"
        );
        let ran = place.run("replay --policy p.toml", b"");
        assert_eq!(
            (ran.code, ran.out.as_slice()),
            (Some(1), b"".as_slice()),
            "{policy:?}"
        );
    }
    let ran = Place::new().run("pack --out no-such-folder/new.wasm", b"");
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.err
            .starts_with("psexec-filter: no-such-folder/new.wasm: cannot be written: "),
        "{}",
        ran.err
    );
}

/// What matches nothing or everything is refused by every command that reads a policy, with the line of the text that is wrong.
#[test]
fn what_matches_nothing_or_everything_is_refused_by_every_command() {
    for (policy, says) in [
        (
            "[[allow]]\nreason = 'x'\nhash = [\n  '00112233445566778899aabbccddeeff',\n  'd41d8cd98f00b204e9800998ecf8427e',\n]\n",
            "p.toml:5: `d41d8cd98f00b204e9800998ecf8427e` is the hash of an empty file; expected the MD5",
        ),
        (
            "[[allow]]\nreason = 'x'\nprocess = [\n  '*\\a.exe',\n  '*.exe',\n]\nhost = ['a']\n",
            "p.toml:5: `*.exe` matches nearly every program; expected a pattern that excludes something",
        ),
        (
            "[[allow]]\nreason = 'x'\nhost = ['a']\nprocess = [ 'C:/a.exe' ]\n",
            "p.toml:4: `C:/a.exe` never matches a program: it has `/`; expected `\\`",
        ),
        (
            "[[allow]]\nreason = 'x'\nsource = ['0.0.0.0/1', '128.0.0.0/1']\n",
            "p.toml:3: every address there is lies in these ranges",
        ),
        (
            "[[allow]]\nreason = 'x'\nsource = ['0.0.0.0/1']\n\n[[allow]]\nreason = 'y'\nuntil = '2099-01-01'\nsource = ['::ffff:128.0.0.0/97']\n",
            "p.toml:5: with this entry every address there is lies in the ranges of entries that are alike otherwise",
        ),
        (
            "[[allow]]\nreason = 'x'\nhost = ['a']\nuntil = '2027-02-30'\n",
            "p.toml:4: `2027-02-30` is not a date that there is; expected `2027-03-31`",
        ),
        (
            "[dcomexec]\nprograms = ['mmc.exe', 'C:\\Windows\\mmc.exe']\n",
            "p.toml:2: `C:\\Windows\\mmc.exe` is not a file name, and file names are compared here; expected",
        ),
        (
            "psexec.enabled = false\nsmbexec.enabled = false\nwmiexec.enabled = false\ndcomexec.enabled = false\nscshell.enabled = false\n",
            "p.toml:1: no technique is enabled, so nothing would be detected; expected `enabled = true`",
        ),
    ] {
        let place = Place::new();
        place.put("p.toml", policy);
        assert_refused(&place, says);
    }
}

/// What is right and may not be meant is a warning, and the policy is packed.
#[test]
fn pack_and_policy_check_warn_about_what_may_not_be_meant() {
    let place = Place::new();
    place.put(
        "p.toml",
        "[windows]\ndcom = '0s'\n[[allow]]\nhost = ['pc1']\nuntil = '2024-09-14'\nreason = 'x'\n",
    );
    let warnings = "warning: p.toml:2: `windows.dcom` is 0, so evidence does not join that is logged a millisecond apart\n\
                    warning: p.toml:4: `host` alone allows every remote execution on that machine, an attacker's too\n\
                    warning: p.toml:5: this entry expired at 2024-09-14 and covers nothing that happens now\n";
    for (command, last) in [
        ("policy check p.toml", "p.toml: the policy can be packed\n"),
        ("pack --policy p.toml --out new.wasm", "new.wasm: "),
    ] {
        let ran = place.run(command, b"");
        assert_eq!(ran.code, Some(0), "{command}: {}", ran.err);
        let rest = ran.err.strip_prefix(warnings);
        assert!(
            rest.is_some_and(|rest| rest.starts_with(last) && rest.lines().count() == 1),
            "{command}: {}",
            ran.err
        );
    }
    assert!(place.get("new.wasm").is_some());
    // An old log is judged by its own time.
    assert_eq!(place.run("replay --policy p.toml", b"").code, Some(0));
}

/// A policy that leaves the module too little memory for records, or does not fit into it, is refused by every command.
#[test]
fn a_policy_that_takes_too_much_room_is_refused() {
    let short: Vec<String> = (0..11_000).map(|n| format!("a{n}")).collect();
    let long: Vec<String> = (0..300)
        .map(|n| format!("svc{n}-{}*", "a".repeat(900)))
        .collect();
    for (patterns, says) in [
        (short, "may use 1024 KiB; expected shorter lists"),
        (
            long,
            "bytes long and the module has room for 131068; shorten its lists",
        ),
    ] {
        let place = Place::new();
        let patterns = patterns.join("', '");
        place.put(
            "p.toml",
            format!("[[allow]]\nreason = 'x'\nuser = ['{patterns}']\n"),
        );
        assert_refused(&place, says);
    }
}

#[test]
fn policy_show_prints_the_policy_that_was_packed() {
    const POLICY: &str = r#"
        alert.key = "found"
        windows.suppress = "1h"
        limits.hosts = 7
        allow = [{source = ["10.20.0.0/16", "2001:db8::/32"], host = ["backup01"], reason = "deployment, \"ticket\" 4711"}]
    "#;
    let place = Place::new();
    place.put("p.toml", POLICY);
    let packed = place.run("pack --policy p.toml --out 1.wasm", b"");
    assert_eq!(
        (packed.code, packed.out.as_slice()),
        (Some(0), b"".as_slice())
    );
    assert!(
        packed.err.starts_with("1.wasm: ")
            && packed.err.ends_with(" bytes, with the policy inside\n"),
        "{}",
        packed.err
    );
    let shown = text(place.run("policy show 1.wasm", b"").good());
    assert_eq!(
        policy_from_toml(&shown, "shown"),
        policy_from_toml(POLICY, "p.toml")
    );
    assert!(
        shown.contains("#   critical  connection + file over SMB + (service or pipe)\n"),
        "{shown}"
    );

    // The policy that is shown packs to the same module; a policy replaces the one before it; without one the default is packed.
    place.put("shown.toml", &shown);
    place.run("pack --policy shown.toml --module 1.wasm --out 2.wasm", b"");
    assert!(
        place
            .get("2.wasm")
            .is_some_and(|module| Some(module) == place.get("1.wasm"))
    );
    place.run("pack --module 1.wasm --out 3.wasm", b"");
    assert!(place.get("3.wasm").is_some_and(|packed| packed == module()));
    assert_eq!(
        place.run("policy show 3.wasm", b"").good(),
        place.run("policy show", b"").good()
    );
}

#[test]
fn a_policy_is_in_force_with_the_next_command() {
    let place = Place::new();
    place.put(
        "p.toml",
        "alert = {key = \"psexec.found\", min_severity = \"critical\"}\n",
    );
    place.run("pack --policy p.toml --out p.wasm", b"");
    for with in ["--policy p.toml", "--module p.wasm"] {
        let found = alerts(
            &place
                .run(&format!("replay --format ndjson {with}"), b"")
                .good(),
        );
        let printed: Vec<Value> = found
            .iter()
            .map(|alert| json!([alert["severity"], alert["revision"], alert["input"]["line"]]))
            .collect();
        assert_eq!(printed, [json!(["critical", 1, 7])], "{with}");
        let records = alerts(&place.run(&format!("run {with}"), DEMO).good());
        let keys: Vec<bool> = records
            .iter()
            .map(|record| record["psexec.found"]["kind"] == "alert")
            .collect();
        assert_eq!(
            keys,
            [false, false, false, false, false, false, true],
            "{with}"
        );
        assert!(
            records
                .iter()
                .all(|record| record.get("detection").is_none()),
            "{with}"
        );
    }
    // The policy of the command line takes precedence over the one in the module.
    place.put("other.toml", "alert.key = \"other\"\n");
    let records = alerts(
        &place
            .run("run --module p.wasm --policy other.toml", DEMO)
            .good(),
    );
    assert_eq!(
        records
            .iter()
            .filter(|record| record["other"]["kind"] == "alert")
            .count(),
        2
    );
}

/// Every command that takes a module reports which file cannot be used, what is wrong with it, and what was expected.
#[test]
fn a_module_that_cannot_be_used_is_refused() {
    let place = Place::new();
    place.put("text", "hello");
    place.put("cut", &module()[..module().len() / 2]);
    place.put(
        "other",
        wat::parse_str("(module (func (export \"other\")))").expect("good WAT"),
    );
    for command in [
        "replay --module",
        "run --module",
        "pack --out new.wasm --module",
        "policy show",
    ] {
        for (name, says) in [
            ("missing", "cannot be read"),
            (
                "text",
                "expected the file that `make build` writes to target/psexec_filter.wasm",
            ),
            (
                "cut",
                "expected the file that `make build` writes to target/psexec_filter.wasm",
            ),
            ("other", "does not export the function `psexec_filter`"),
        ] {
            let ran = place.run(&format!("{command} {name}"), DEMO);
            assert_eq!(
                (ran.code, ran.out.as_slice()),
                (Some(1), b"".as_slice()),
                "{command} {name}"
            );
            assert!(
                ran.err.starts_with(&format!("psexec-filter: {name}: ")) && ran.err.contains(says),
                "{command} {name}: {}",
                ran.err
            );
        }
    }
    assert_eq!(place.get("new.wasm"), None);
}

#[test]
fn the_program_names_its_version_and_that_of_its_module() {
    let place = Place::new();
    let version = env!("CARGO_PKG_VERSION");
    let module = psexec_filter_pack::version(module()).expect("a version");
    assert_eq!(
        text(place.run("--version", b"").good()),
        format!(
            "psexec-filter {version}\nmodule {}, ABI {ABI}\n",
            module.build
        )
    );
    assert_eq!(
        text(place.run("-V", b"").good()),
        format!("psexec-filter {version}\n")
    );
    let shown = text(place.run("policy show", b"").good());
    assert!(
        shown.starts_with(&format!("# module {}, ABI {ABI};", module.build)),
        "{shown}"
    );
}

/// The program uses only modules of its own ABI. The policy of another one can still be read, to be packed into a newer module.
#[test]
fn a_module_of_another_abi_is_not_used_and_its_policy_is_shown() {
    let place = Place::new();
    let wat = |abi: &str| {
        let text = format!(
            r#"(module (memory (export "memory") 1) (global (export "PSEXEC_FILTER_POLICY") i32 (i32.const 1024)) {abi}
            (data (i32.const 64) "9.8.7 (abc)\00") (func (export "psexec_filter_build") (result i32) i32.const 64)
            (func (export "malloc") (param i32) (result i32) i32.const 1024) (func (export "free") (param i32))
            (func (export "psexec_filter") (param i32 i32 i32 i32 i32 i32) (result i32) local.get 4))"#
        );
        wat::parse_str(text).expect("good WAT")
    };
    let other = ABI + 1;
    place.put(
        "other.wasm",
        wat(&format!(
            r#"(func (export "psexec_filter_abi") (result i32) i32.const {other})"#
        )),
    );
    place.put("old.wasm", wat(""));
    for (file, says, shows) in [
        (
            "other.wasm",
            format!(
                "other.wasm: the module has ABI {other}; this program uses modules of ABI {ABI}. Use module and program of one release, or "
            ),
            format!("# module 9.8.7 (abc), ABI {other}; read by psexec-filter "),
        ),
        (
            "old.wasm",
            format!(
                "old.wasm: the module has no ABI number: it is older, or another filter; this program uses modules of ABI {ABI}."
            ),
            "# a module without a version; read by psexec-filter ".to_owned(),
        ),
    ] {
        for command in [
            "run --module",
            "replay --module",
            "pack --out new.wasm --module",
        ] {
            let ran = place.run(&format!("{command} {file}"), DEMO);
            assert_eq!(
                (ran.code, ran.out.as_slice()),
                (Some(1), b"".as_slice()),
                "{command} {file}"
            );
            assert!(ran.err.contains(&says), "{command}: {}", ran.err);
        }
        assert_eq!(place.get("new.wasm"), None);
        let shown = text(place.run(&format!("policy show {file}"), b"").good());
        assert!(shown.starts_with(&shows), "{shown}");
    }
}

/// Packages have a man page for every command, and completions that know its options.
#[test]
fn man_pages_and_completions_are_made_for_every_command() {
    let place = Place::new();
    place.run("generate made/here", b"").good();
    let help = text(place.run("--help", b"").good());
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .map_while(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(commands.contains(&"run"), "{help}");
    assert!(!commands.contains(&"generate"), "{help}");
    for command in commands {
        let page = place
            .get(&format!("made/here/man1/psexec-filter-{command}.1"))
            .expect(command);
        assert!(
            text(page).contains(&format!(".TH psexec-filter-{command} 1")),
            "{command}"
        );
    }
    let page = text(
        place
            .get("made/here/man1/psexec-filter-run.1")
            .expect("run"),
    );
    assert!(page.contains("state\\-interval"), "{page}");
    for file in [
        "psexec-filter.bash",
        "psexec-filter.fish",
        "_psexec-filter",
        "_psexec-filter.ps1",
    ] {
        let completions = text(
            place
                .get(&format!("made/here/completions/{file}"))
                .expect(file),
        );
        assert!(completions.contains("state-interval"), "{file}");
        assert!(!completions.contains("generate"), "{file}");
    }
}
