//! What the lists of a policy match.

use psexec_filter_fixtures::{Host, SERVICES, SVCHOST, data};
use psexec_filter_plugin::filter::Filter;
use psexec_filter_plugin::policy::Policy;
use psexec_filter_plugin::splice::Answer;
use serde_json::{Value, json};

const ATTACKER: &str = "10.55.1.77";

/// The alerts about records under a policy.
fn alerts(policy: &Value, records: &[String]) -> Vec<String> {
    let mut filter = Filter::from_json(&policy.to_string());
    assert_eq!(filter.counters().policy_refused, 0, "{policy}");
    let answers = records
        .iter()
        .map(|record| filter.process(record.as_bytes(), 0, 0));
    let splices = answers.filter_map(Answer::into_splice);
    let mut texts: Vec<String> = splices.map(|splice| splice.text).collect();
    texts.extend(std::iter::from_fn(|| filter.flush()));
    texts
}

/// An execution whose alerts depend on a list.
fn execution(section: &str, key: &str) -> Vec<String> {
    let host = Host::new("PC1");
    let rpc = |program, port| {
        let connection = data::inbound(program, (ATTACKER, 50_300), (Host::ADDRESS, port));
        host.event(3, -100, connection)
    };
    match (section, key) {
        // By its pipe alone: no file, no service.
        ("psexec", "pipes") => host.psexec(0, 7, ATTACKER)[2..].to_vec(),
        ("connection", "dynamic_programs") => {
            let mut records = host.psexec(0, 7, ATTACKER);
            records.pop();
            records.extend([rpc(SERVICES, 49_670), rpc(SVCHOST, 49_671)]);
            records
        }
        ("suspicious", "interpreters") => {
            host.smbexec(0, 7, "BTOBTO", r"cmd.exe /c calc.exe", ATTACKER)
        }
        ("suspicious", "system_programs") => {
            let net = r"C:\Windows\System32\net.exe";
            let mut records = vec![host.connection(-500, ATTACKER)];
            records.extend(host.new_service(0, "BTOBTO", net));
            records.push(host.start(60, 7, net));
            records
        }
        ("dcomexec", "programs") => host.dcomexec(0, 7, 3, "cmd.exe /c calc.exe", ATTACKER),
        _ => panic!("no execution for {section}.{key}"),
    }
}

#[test]
fn lists_match_in_whatever_case_they_are_written() {
    let default = serde_json::to_value(Policy::default()).expect("JSON");
    for (section, key) in [
        ("psexec", "pipes"),
        ("connection", "dynamic_programs"),
        ("suspicious", "interpreters"),
        ("suspicious", "system_programs"),
        ("dcomexec", "programs"),
    ] {
        let records = execution(section, key);
        let with = |names: Value| alerts(&json!({section: {key: names}}), &records);
        let names = &default[section][key];
        let upper = names.as_array().expect("a list").iter();
        let upper: Vec<String> = upper
            .filter_map(|name| Some(name.as_str()?.to_uppercase()))
            .collect();
        assert_eq!(with(json!(upper)), with(names.clone()), "{section}.{key}");
        assert_ne!(
            with(json!([])),
            with(names.clone()),
            "{section}.{key} decides nothing here"
        );
    }
}

#[test]
fn a_regular_expression_covers_what_it_matches() {
    let records = Host::new("PC1").psexec(0, 7, ATTACKER);
    for (expression, is_allowed) in [
        (r"re:\\psexe[a-z]+\.exe$", true),
        (r"re:^c:\\windows\\(psexe|paexe)", true),
        (r"re:\\psexe[a-z]\.exe$", false),
    ] {
        let entry = json!({"process": [expression], "by_name_alone": true, "reason": "x"});
        let alerted = alerts(&json!({"allow": [entry]}), &records);
        let last = alerted.last().expect("an alert");
        let found = last.contains(r#""status":"allowed""#);
        assert_eq!(found, is_allowed, "{expression}");
    }
}
