//! An incident as an analyst reads it: who, from where, onto which host, what ran, when, how sure, and the evidence.

use serde_json::Value;
use std::fmt::Write;

/// Tells one alert.
pub fn tell(alert: &Value) -> String {
    let text = |path: &str| alert.pointer(path).and_then(Value::as_str);
    let mut out = String::new();
    let mut line = |label: &str, content: String| {
        let _ = writeln!(out, "  {label:<9}{content}");
    };
    let severity = text("/severity").unwrap_or("?").to_uppercase();
    let status = match text("/status") {
        Some(status) => format!(" ({status}: {})", text("/reason").unwrap_or_default()),
        None => String::new(),
    };

    let who = match (text("/user/domain"), text("/user/name")) {
        (Some(domain), Some(name)) => format!("{domain}\\{name}"),
        (None, Some(name)) => name.to_owned(),
        _ => "not told".to_owned(),
    };
    line("who", who);

    let origin = match alert["lateral"].as_bool() {
        Some(true) => "another machine",
        Some(false) => "this machine itself",
        None => "not told",
    };
    let machine = text("/source/domain")
        .map(|name| format!(" ({name})"))
        .unwrap_or_default();
    line(
        "from",
        match (
            text("/source/ip"),
            alert.pointer("/source/candidates").and_then(Value::as_u64),
        ) {
            (Some(ip), Some(1)) => format!("{ip}{machine}"),
            (Some(ip), Some(count)) => format!(
                "{ip}{machine} (the best fit of {count} addresses that connected at the time)"
            ),
            (Some(ip), None) => format!("{ip}{machine}"),
            (None, _) => format!("{origin}{machine}; no connection was logged"),
        },
    );
    line("onto", text("/host/name").unwrap_or("?").to_owned());
    let mut ran = text("/process/executable")
        .or(text("/file/path"))
        .unwrap_or("?")
        .to_owned();
    if let Some(command) =
        text("/process/command_line").filter(|command| !command.eq_ignore_ascii_case(&ran))
    {
        let _ = write!(ran, "  ({command})");
    }
    if let Some(service) = text("/service/name") {
        let _ = write!(ran, "  as service {service}");
    }
    line("ran", ran);
    for child in alert
        .pointer("/process/children")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        line(
            "",
            format!(
                "which started {}",
                child["command_line"]
                    .as_str()
                    .or(child["executable"].as_str())
                    .unwrap_or("?")
            ),
        );
    }
    let zone = if text("/time_zone").is_some() {
        " (the host's local time; its zone was not logged)"
    } else {
        ""
    };
    line(
        "when",
        format!(
            "{} to {}{zone}",
            text("/first_seen").unwrap_or("?"),
            text("/last_seen").unwrap_or("?")
        ),
    );
    if let Some(repeat) = alert["repeat"].as_u64().filter(|repeat| *repeat > 0) {
        line("repeated", format!("{repeat} more times"));
    }
    let missing: Vec<&str> = alert["missing"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let sure = match (severity.as_str(), missing.is_empty()) {
        (_, true) => "every piece that can be logged was seen".to_owned(),
        (_, false) => format!("not seen: {}", missing.join(", ")),
    };
    line("how sure", format!("{}; {sure}", severity.to_lowercase()));
    out.push_str("  evidence\n");
    for piece in alert["evidence"].as_array().into_iter().flatten() {
        let field = |name: &str| piece[name].as_str().unwrap_or("?");
        let record = piece["record_id"]
            .as_u64()
            .map(|id| format!("  [record {id}]"))
            .unwrap_or_default();
        let event = piece["event"].as_u64().unwrap_or_default();
        let _ = writeln!(
            out,
            "    {}  event {event:<4} {}{record}",
            field("time"),
            field("summary")
        );
    }
    let title = text("/rule/name").unwrap_or("?");
    let techniques: Vec<&str> = alert
        .pointer("/threat/technique/id")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    format!(
        "{severity}{status}  {title}\n  {:<9}{}, revision {}, {}\n{out}",
        "alert",
        text("/id").unwrap_or("?"),
        alert["revision"],
        techniques.join(" "),
    )
}
