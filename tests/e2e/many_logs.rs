//! `replay` of several logs: related ones are one log in pieces, and all others do not depend on each other.

use crate::program::{Place, text};
use psexec_filter_tests::{Host, corpus_files};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

const YEAR: i64 = 365 * 86_400_000;

/// What is found: id, severity, source, whether it was lateral, host.
type Found = BTreeSet<(String, String, String, String, String)>;

/// What the last revision of each incident says. Within `lines` there may be several incidents of one id, of unrelated logs: each
/// begins with its first revision.
fn found(lines: &[u8]) -> Found {
    let mut last: Vec<Value> = Vec::new();
    for line in lines
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let alert: Value = serde_json::from_slice(line).expect("JSON");
        match last.iter_mut().rfind(|known| known["id"] == alert["id"]) {
            Some(known) if alert["revision"] != 1 => *known = alert,
            _ => last.push(alert),
        }
    }
    let field = |value: &Value| value.to_string();
    last.iter()
        .map(|alert| {
            (
                field(&alert["id"]),
                field(&alert["severity"]),
                field(&alert["source"]["ip"]),
                field(&alert["lateral"]),
                field(&alert["host"]["name"]),
            )
        })
        .collect()
}

/// What `replay` finds in these files.
fn replay<P: AsRef<Path>>(place: &Place, files: &[P]) -> Found {
    let mut command = place.command("replay --format ndjson");
    let output = command
        .args(files.iter().map(AsRef::as_ref))
        .output()
        .expect("it starts");
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && err.is_empty(), "{err}");
    found(&output.stdout)
}

fn assert_same(found: &Found, want: &Found, what: &str) {
    let lacking: Vec<_> = want.difference(found).collect();
    let added: Vec<_> = found.difference(want).collect();
    assert!(
        lacking.is_empty() && added.is_empty(),
        "{what}: lacks {lacking:?}, and has {added:?} instead"
    );
}

/// Gives each record of a log its number, as the log of a machine that was set back to a snapshot has them again.
fn numbered(records: Vec<String>) -> Vec<String> {
    let number = |(n, record): (usize, String)| {
        record.replacen('{', &format!("{{\"RecordNumber\":{},", n + 1), 1)
    };
    records.into_iter().enumerate().map(number).collect()
}

/// Orders in which as many files can be given: as they are, reversed, and turned.
fn orders(names: &[String]) -> Vec<Vec<String>> {
    let mut orders = vec![names.to_vec(), names.iter().rev().cloned().collect()];
    for turn in 1..names.len() {
        let mut turned = names.to_vec();
        turned.rotate_left(turn);
        orders.push(turned);
    }
    orders
}

/// Recordings of one lab machine, which was set back to a snapshot before each: the same record numbers, programs and processes again.
/// Beside them an export of many hosts.
#[test]
fn unrelated_logs_give_what_each_gives_alone_in_any_order() {
    let place = Place::new();
    let (lab, full) = (Host::new("LAB1.corp.example"), Host::new("LAB1"));
    let psexec = |at: i64, process: u32| lab.psexec(at, process, "10.0.0.5");
    // Fills all of the host's places for incidents with severe ones.
    let busy = (0..20u32).flat_map(|n| {
        let path = format!(r"C:\Windows\svc{n}.exe");
        let at = 3 * YEAR + i64::from(n) * 1_000;
        vec![
            lab.file(at, "System", &path),
            lab.service(at + 40, &format!("svc{n}"), &path),
            lab.start(at + 80, 100 + n, &path),
            lab.connection(at + 1_500, "10.0.0.9"),
        ]
    });
    let many = (0..300u32).flat_map(|n| Host::new(&format!("WS{n}")).psexec(0, 40, "10.0.0.7"));
    let logs: Vec<(&str, Vec<String>)> = vec![
        ("first", psexec(0, 20)),
        ("again, by another process", psexec(YEAR, 21)),
        (
            "again, without a connection",
            psexec(2 * YEAR, 20)[..4].to_vec(),
        ),
        ("busy", busy.collect()),
        (
            "short name, then whole name",
            vec![
                full.file(4 * YEAR, "System", r"C:\Windows\b.exe"),
                lab.start(4 * YEAR + 100, 22, r"C:\Windows\b.exe"),
            ],
        ),
        (
            "low",
            lab.smbexec(
                5 * YEAR,
                30,
                "BTOBTO",
                r"C:\Windows\system32\x.exe",
                "10.0.0.5",
            )[1..7]
                .to_vec(),
        ),
        ("many hosts", many.collect()),
    ];
    let mut names = Vec::new();
    let mut alone = Found::new();
    for (index, (_, records)) in logs.into_iter().enumerate() {
        let name = format!("{index}.ndjson");
        place.put(&name, numbered(records).join("\n"));
        alone.extend(replay(&place, &[&name]));
        names.push(name);
    }
    assert!(alone.len() > 300 + 20, "{}", alone.len());
    for order in orders(&names) {
        assert_same(&replay(&place, &order), &alone, &format!("{order:?}"));
    }
    // The report for people has all of them, too, although some have the same id, and the counters are those of all logs.
    let ran = place.run(&format!("replay --stats {}", names.join(" ")), b"");
    let report = text(ran.out);
    let incidents = alone.len();
    assert!(
        report.ends_with(&format!(" records read, {incidents} incidents.\n")),
        "{}",
        report.lines().last().unwrap_or_default()
    );
    let stats: Value = serde_json::from_str(&ran.err).expect("JSON");
    assert_eq!(stats["counters"]["alerts"], incidents, "{stats}");
}

/// One log in pieces is found to be what it is as a whole, in whatever order the pieces are given: rotated, divided by channel, or
/// dealt out record by record.
#[test]
fn pieces_of_one_log_give_what_the_whole_gives_in_any_order() {
    let place = Place::new();
    let (one, other) = (Host::new("PC1"), Host::new("PC2"));
    let command =
        r"%COMSPEC% /Q /c echo dir ^> \\127.0.0.1\C$\__output 2^>^&1 > C:\Windows\Temp\a.bat";
    let mut records: Vec<String> = Vec::new();
    for part in 0..30u32 {
        let (at, process) = (i64::from(part) * 400_000, 100 + part * 10);
        let remote = format!("10.0.1.{part}");
        records.push(one.logon(at - 900, &remote, "0x77", "JUMP7"));
        records.extend(one.psexec(at, process, &remote));
        records.extend(other.smbexec(
            at + 20_000,
            process,
            &format!("svc{part}"),
            command,
            &remote,
        ));
        records.extend(one.wmiexec(at + 60_000, process + 1, "cmd.exe /Q /c whoami", &remote));
        let scshell = other.scshell(
            at + 90_000,
            process + 2,
            "SensorService",
            r"C:\Windows\a.exe",
            5_000,
            &remote,
        );
        records.extend(scshell);
        records.extend((0..20).map(|n| one.irrelevant(at + 100_000 + n, 9_000 + n as u32)));
    }
    place.put("whole", records.join("\n"));
    let whole = replay(&place, &["whole"]);
    assert!(whole.len() >= 60, "{}", whole.len());
    let logons: (Vec<String>, Vec<String>) = records
        .iter()
        .cloned()
        .partition(|record| record.contains("4624"));
    let dealt = |count: usize| -> Vec<Vec<String>> {
        let of = |n: usize| records.iter().skip(n).step_by(count).cloned().collect();
        (0..count).map(of).collect()
    };
    let rotated = |count: usize| -> Vec<Vec<String>> {
        let size = records.len().div_ceil(count);
        records.chunks(size).map(<[String]>::to_vec).collect()
    };
    for (what, pieces) in [
        ("rotated once", rotated(2)),
        ("rotated often", rotated(7)),
        (
            "each record in a log of its own",
            rotated(records.len())[..].to_vec(),
        ),
        ("by channel", vec![logons.0, logons.1]),
        ("dealt out", dealt(3)),
    ] {
        let mut names = Vec::new();
        for (index, piece) in pieces.iter().enumerate() {
            let name = format!("{index:04}");
            place.put(&name, piece.join("\n"));
            names.push(name);
        }
        let mut orders = orders(&names);
        orders.truncate(4);
        for order in orders {
            assert_same(
                &replay(&place, &order),
                &whole,
                &format!("{what}: {order:?}"),
            );
        }
    }
}

/// What can be read only once cannot be looked at before: all logs are then one, in the order in which they are given.
#[test]
fn logs_beside_standard_input_are_one_log_in_their_order() {
    let place = Place::new();
    let records = Host::new("PC1").psexec(0, 20, "10.0.0.5");
    let (head, tail) = records.split_at(3);
    place.put("head", head.join("\n"));
    place.put("whole", records.join("\n"));
    let ran = place.run("replay --format ndjson head -", tail.join("\n").as_bytes());
    assert_eq!(found(&ran.good()), replay(&place, &["whole"]));
}

/// Recordings that the corpus holds twice: in another shape, or edited. Their pieces are joined, as they should be.
const COPIES: [&str; 4] = [
    "edited_psexec_remote.ndjson",
    "otrf_psexec_local_lsa_secrets.ndjson",
    "oxp_wmiexec_impacket_escaped.ndjson",
    "sbou_wmiexec_impacket.ndjson",
];

#[test]
fn recorded_logs_give_what_each_gives_alone_in_any_order() {
    let files = corpus_files();
    if files.is_empty() {
        return;
    }
    let place = Place::new();
    let names: Vec<String> = files
        .iter()
        .map(|path| {
            path.canonicalize()
                .expect("it exists")
                .display()
                .to_string()
        })
        .collect();
    let is_copy = |name: &&String| COPIES.iter().any(|copy| name.ends_with(copy));
    let (copies, single): (Vec<&String>, Vec<&String>) = names.iter().partition(is_copy);
    assert_eq!(copies.len(), COPIES.len());
    let mut want: Found = single
        .iter()
        .flat_map(|name| replay(&place, &[name]))
        .collect();
    assert!(want.len() >= 8, "{want:?}");
    // What the copies give together does not depend on the others.
    want.extend(replay(&place, &copies));
    for order in orders(&names).iter().step_by(8) {
        assert_same(&replay(&place, order), &want, &format!("{order:?}"));
    }
}
