//! An incident as text for an analyst: who, from where, onto which host, what ran, when, how severe, and the evidence.

use serde_json::Value;
use std::fmt::Write;

/// Renders one alert.
pub fn render(alert: &Value) -> String {
    let alert = Alert(alert);
    let severity = alert.text("/severity").unwrap_or("?");
    let status = alert
        .text("/status")
        .map(|status| format!(" ({status}: {})", alert.text("/reason").unwrap_or_default()))
        .unwrap_or_default();
    let mut report = Report(format!(
        "{}{status}  {}\n",
        severity.to_uppercase(),
        alert.text("/rule/name").unwrap_or("?")
    ));
    report.line(
        "alert",
        &format!(
            "{}, revision {}, {}",
            alert.text("/id").unwrap_or("?"),
            alert.0["revision"],
            alert.texts("/threat/technique/id").join(" ")
        ),
    );
    report.line("who", &alert.user());
    report.line("from", &alert.source());
    report.line("onto", alert.text("/host/name").unwrap_or("?"));
    report.line("ran", &alert.execution());
    for child in alert.list("/process/children") {
        let started = child["command_line"]
            .as_str()
            .or(child["executable"].as_str())
            .unwrap_or("?");
        report.line("", &format!("which started {started}"));
    }
    report.line("when", &alert.times());
    if let Some(repeat) = alert.number("/repeat").filter(|repeat| *repeat > 0) {
        report.line("repeated", &format!("{repeat} more times"));
    }
    let missing = match alert.texts("/missing") {
        missing if missing.is_empty() => "no evidence is missing".to_owned(),
        missing => format!("missing: {}", missing.join(", ")),
    };
    report.line("severity", &format!("{severity}; {missing}"));
    report.0.push_str("  evidence\n");
    for evidence in alert.list("/evidence") {
        report.evidence(evidence);
    }
    report.0
}

/// An alert as JSON.
struct Alert<'a>(&'a Value);

impl<'a> Alert<'a> {
    fn text(&self, path: &str) -> Option<&'a str> {
        self.0.pointer(path)?.as_str()
    }

    fn number(&self, path: &str) -> Option<u64> {
        self.0.pointer(path)?.as_u64()
    }

    fn list(&self, path: &str) -> impl Iterator<Item = &'a Value> {
        let list = self.0.pointer(path).and_then(Value::as_array);
        list.into_iter().flatten()
    }

    fn texts(&self, path: &str) -> Vec<&'a str> {
        self.list(path).filter_map(Value::as_str).collect()
    }

    fn user(&self) -> String {
        match (self.text("/user/domain"), self.text("/user/name")) {
            (Some(domain), Some(name)) => format!("{domain}\\{name}"),
            (None, Some(name)) => name.to_owned(),
            _ => "unknown".to_owned(),
        }
    }

    fn source(&self) -> String {
        let machine = self
            .text("/source/domain")
            .map(|name| format!(" ({name})"))
            .unwrap_or_default();
        let Some(ip) = self.text("/source/ip") else {
            let origin = match self.0["lateral"].as_bool() {
                Some(true) => "another machine",
                Some(false) => "this machine itself",
                None => "unknown",
            };
            return format!("{origin}{machine}; no connection was logged");
        };
        match self.number("/source/candidates") {
            Some(count) if count != 1 => format!(
                "{ip}{machine} (the best fit of {count} addresses that connected at the time)"
            ),
            _ => format!("{ip}{machine}"),
        }
    }

    fn execution(&self) -> String {
        let program = self
            .text("/process/executable")
            .or(self.text("/file/path"))
            .unwrap_or("?");
        let command = self
            .text("/process/command_line")
            .filter(|command| !command.eq_ignore_ascii_case(program))
            .map(|command| format!("  ({command})"))
            .unwrap_or_default();
        let service = self
            .text("/service/name")
            .map(|name| format!("  as service {name}"))
            .unwrap_or_default();
        format!("{program}{command}{service}")
    }

    fn times(&self) -> String {
        let zone = match self.text("/time_zone") {
            Some(_) => " (the host's local time; its zone was not logged)",
            None => "",
        };
        format!(
            "{} to {}{zone}",
            self.text("/first_seen").unwrap_or("?"),
            self.text("/last_seen").unwrap_or("?")
        )
    }
}

/// The text so far. Writing to a string cannot fail.
struct Report(String);

impl Report {
    fn line(&mut self, label: &str, content: &str) {
        let _written = writeln!(self.0, "  {label:<9}{content}");
    }

    fn evidence(&mut self, evidence: &Value) {
        let field = |name: &str| evidence[name].as_str().unwrap_or("?");
        let record = evidence["record_id"]
            .as_u64()
            .map(|id| format!("  [record {id}]"))
            .unwrap_or_default();
        let _written = writeln!(
            self.0,
            "    {}  event {:<4} {}{record}",
            field("time"),
            evidence["event"].as_u64().unwrap_or_default(),
            field("summary")
        );
    }
}
