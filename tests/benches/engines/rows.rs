//! The tables of the page.

use crate::contenders::Contenders;
use crate::measure::{Stream, measure};
use crate::records::{Logs, OF_A_KIND, busy_hour, is_wanted, sized};
use crate::report::Page;

/// The log of an attack with everything beside it that its machines logged.
const LOG: &str = "otrf_empire_invoke_psexec.ndjson";

/// Why a table that needs the recorded logs is empty.
pub const NO_LOGS: &str = "the recorded logs are not beside the project";

const KIB: usize = 1024;

/// Whether goals hold here: a record's are those of Fluent Bit's interpreter.
fn has_goals(page: &Page<'_>) -> bool {
    page.engine == "WAMR"
}

/// One record after the other as the log has them.
pub fn whole_log(page: &mut Page<'_>, contenders: &Contenders<'_>, logs: &Logs) {
    let title = "A whole log";
    let goal = "Whole log on WAMR";
    let Some(log) = logs.0.get(LOG) else {
        page.not_measured(title, NO_LOGS);
        if has_goals(page) {
            page.goal_at_most(goal, 2.2, None);
        }
        return;
    };
    let about = format!("`{LOG}`: an attack among all that its machines logged.");
    page.table(title, &about, &["records", "how many", "mean bytes"]);
    let all: Vec<&[u8]> = log.iter().map(|record| &*record.bytes).collect();
    let wanted = log.iter().filter(|record| record.is_wanted());
    let wanted: Vec<&[u8]> = wanted.map(|record| &*record.bytes).collect();
    for (label, records) in [("all", all), ("of a kind that a chain wants", wanted)] {
        let stream = Stream::of_log(&records);
        let figures = measure(contenders, &stream);
        page.row(&labels(label, &stream).each_ref().map(|l| &**l), &figures);
        if label == "all" && has_goals(page) {
            page.goal_at_most(goal, 2.2, Some(figures.filter));
        }
    }
}

/// A record that no chain wants, as three shippers write it, from its smallest to 64 KiB.
pub fn unwanted_by_size(page: &mut Page<'_>, contenders: &Contenders<'_>) {
    page.table(
        "A record that no chain wants, by size",
        "Event 10 in the shape of three producers, its event id in the first 512 bytes.",
        &["producer", "KiB"],
    );
    let mut worst = 0f64;
    for (producer, head) in [
        (
            "Fluent Bit",
            r#"{"ProviderName":"Microsoft-Windows-Sysmon","ProviderGuid":"{5770385F-C22A-43E0-BF4C-06F5698FFBD9}","Qualifiers":"","EventID":10,"Version":3,"Level":4,"Task":10,"Opcode":0,"Keywords":"0x8000000000000000","TimeCreated":"2024-09-14 09:52:33 +0000","EventRecordID":133021,"ActivityID":"","RelatedActivityID":"","ProcessID":3204,"ThreadID":4512,"Channel":"Microsoft-Windows-Sysmon/Operational","Computer":"WS01.corp.example","UserID":"S-1-5-18","#,
        ),
        (
            "NXLog",
            r#"{"EventTime":"2024-09-14 09:52:33","Hostname":"WS01.corp.example","Keywords":-9223372036854775808,"EventType":"INFO","SeverityValue":2,"Severity":"INFO","EventID":10,"SourceName":"Microsoft-Windows-Sysmon","ProviderGuid":"{5770385F-C22A-43E0-BF4C-06F5698FFBD9}","Version":3,"#,
        ),
        (
            "Winlogbeat",
            r#"{"@timestamp":"2024-09-14T09:52:33.210Z","winlog":{"channel":"Microsoft-Windows-Sysmon/Operational","event_id":10,"computer_name":"WS01.corp.example"},"#,
        ),
    ] {
        for size in [512, KIB, 3 * KIB, 8 * KIB, 16 * KIB, 64 * KIB] {
            let tail = "\"Message\":\"\"}";
            let pad = "x".repeat(size.saturating_sub(head.len() + tail.len()));
            let record = format!("{head}\"Message\":\"{pad}\"}}").into_bytes();
            let figures = measure(contenders, &Stream::of_one(record));
            page.row(
                &[producer, &(size as f64 / KIB as f64).to_string()],
                &figures,
            );
            worst = worst.max(figures.filter);
        }
    }
    if has_goals(page) {
        page.goal_at_most(
            "A record that no chain wants on WAMR, every size and producer",
            1.8,
            Some(worst),
        );
    }
}

/// All records that a chain keeps or looks at, as they follow each other in the logs.
pub fn wanted_stream(page: &mut Page<'_>, contenders: &Contenders<'_>, logs: &Logs) {
    let title = "All records that a chain wants";
    let goal = "Wanted records of 3 KiB, mixed as in the logs, on WAMR";
    if logs.is_empty() {
        page.not_measured(title, NO_LOGS);
        if has_goals(page) {
            page.goal_at_most(goal, 8.0, None);
        }
        return;
    }
    page.table(
        title,
        "From all recorded logs in their order. For 3 KiB `Message` is cut or filled up; records that are longer without one are left out.",
        &["records", "how many", "mean bytes"],
    );
    let wanted = || logs.records().filter(|record| record.is_wanted());
    let of_3_kib: Vec<Vec<u8>> = wanted()
        .filter_map(|record| sized(&record.bytes, 3 * KIB))
        .collect();
    let of_3_kib: Vec<&[u8]> = of_3_kib.iter().map(Vec::as_slice).collect();
    let as_they_are = wanted().map(|record| &*record.bytes).collect();
    for (label, records) in [("of 3 KiB", of_3_kib), ("as they are", as_they_are)] {
        let stream = Stream::of_log(&records);
        let figures = measure(contenders, &stream);
        page.row(&labels(label, &stream).each_ref().map(|l| &**l), &figures);
        if label == "of 3 KiB" && has_goals(page) {
            page.goal_at_most(goal, 8.0, Some(figures.filter));
        }
    }
}

/// Records that the chains keep or look at, all brought to one size.
pub fn wanted_by_kind(page: &mut Page<'_>, contenders: &Contenders<'_>, logs: &Logs) {
    let title = "A record of 3 KiB that a chain wants, by kind";
    if logs.is_empty() {
        return page.not_measured(title, NO_LOGS);
    }
    let about = format!(
        "Up to {OF_A_KIND} of each kind from all recorded logs; `Message` is cut or filled up until the record has 3 KiB."
    );
    page.table(title, &about, &["event", "how many"]);
    for (kind, records) in logs.kinds() {
        if !is_wanted(kind) {
            continue;
        }
        let records: Vec<Vec<u8>> = records
            .into_iter()
            .filter_map(|record| sized(record, 3 * KIB))
            .collect();
        if !records.is_empty() {
            let (event, count) = (format!("{} {}", kind.0, kind.1), records.len().to_string());
            let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
            let figures = measure(contenders, &Stream::of_log(&records));
            page.row(&[&event, &count], &figures);
        }
    }
}

/// Everything that the recorded logs hold much of, as it is.
pub fn by_kind(page: &mut Page<'_>, contenders: &Contenders<'_>, logs: &Logs) {
    let title = "By kind of event";
    if logs.is_empty() {
        return page.not_measured(title, NO_LOGS);
    }
    let about = format!(
        "Up to {OF_A_KIND} of each kind from all recorded logs, as they are; kinds with fewer than 50 are left out."
    );
    page.table(title, &about, &["event", "how many", "mean bytes"]);
    for (kind, records) in logs.kinds() {
        if records.len() < 50 {
            continue;
        }
        let stream = Stream::of_log(&records);
        let figures = measure(contenders, &stream);
        let event = format!("{} {}", kind.0, kind.1);
        page.row(&labels(&event, &stream).each_ref().map(|l| &**l), &figures);
    }
}

/// One stream of wanted records, spread over more and more hosts.
pub fn by_hosts(page: &mut Page<'_>, contenders: &Contenders<'_>) {
    page.table(
        "By number of hosts",
        "Connections, files, services and processes in turn, none of them harmless enough to be rejected early.",
        &["hosts"],
    );
    for hosts in [1, 100, 4_096] {
        let stream = Stream::after(busy_hour(hosts, 0), busy_hour(hosts, 1));
        page.row(&[&hosts.to_string()], &measure(contenders, &stream));
    }
}

fn labels(label: &str, stream: &Stream) -> [String; 3] {
    [
        label.to_owned(),
        stream.len().to_string(),
        stream.mean_bytes().to_string(),
    ]
}
