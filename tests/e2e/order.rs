//! Sysmon writes event 3 late and shippers mix channels: no order of arrival is assumed.

use psexec_filter_tests::{Host, alerts, engines, module};
use serde_json::Value;
use std::collections::BTreeSet;

#[test]
fn every_order_of_the_five_records_ends_in_the_same_alert() {
    for (engine, mut module) in engines(module()) {
        for (number, order) in permutations(5).into_iter().enumerate() {
            let host = Host::new(&format!("PC{number}"));
            let attack = host.psexec(0, 7, "10.55.1.77");
            let arrived: Vec<String> = order.iter().map(|index| attack[*index].clone()).collect();
            let alerts = alerts(&mut *module, &arrived);
            let which = format!("{order:?} on {engine}");

            let ids: BTreeSet<&str> = alerts
                .iter()
                .filter_map(|alert| alert["id"].as_str())
                .collect();
            assert_eq!(ids.len(), 1, "one incident: {which}");
            let revisions: Vec<u64> = alerts
                .iter()
                .filter_map(|alert| alert["revision"].as_u64())
                .collect();
            assert_eq!(
                revisions,
                (1..=alerts.len() as u64).collect::<Vec<_>>(),
                "{which}"
            );
            let ranks: Vec<usize> = alerts
                .iter()
                .map(|alert| rank(&alert["severity"]))
                .collect();
            assert!(ranks.is_sorted(), "severity fell: {ranks:?} {which}");
            let last = alerts.last().expect("an alert");
            assert_eq!(last["severity"], "critical", "{which}");
            assert_eq!(last["source"]["ip"], "10.55.1.77", "{which}");
            assert_eq!(last["lateral"], true, "{which}");
            // Service and pipe support the finding equally: the later of them changes nothing, and gets no revision if it comes last.
            assert_eq!(
                last["missing"].as_array().map(Vec::is_empty),
                Some(!matches!(order.last(), Some(1 | 3))),
                "{which}"
            );
        }
    }
}

/// The evidence of an execution decides its severity. Each row but the first lacks some.
#[test]
fn severity_follows_what_was_seen() {
    // Which of file, service, process, pipe, connection are there.
    for (seen, severity) in [
        ([true, true, true, true, true], Some("critical")),
        ([true, true, true, false, true], Some("critical")),
        ([true, false, true, true, true], Some("critical")),
        ([true, false, true, false, true], Some("high")),
        ([true, true, true, false, false], Some("high")),
        ([true, false, true, true, false], Some("high")),
        ([true, false, true, false, false], Some("medium")),
        ([false, false, true, true, true], Some("medium")),
        // Renamed after it came over SMB, so that its file event names another file.
        ([false, true, true, false, true], Some("medium")),
        // Without the file and a connection, any service looks like this.
        ([false, true, true, true, false], None),
        ([false, false, true, false, true], None),
        // The start was not logged, as popular Sysmon configurations have it: its pipe stands for it, or the service.
        ([true, true, false, true, true], Some("critical")),
        ([true, true, false, false, true], Some("critical")),
        ([true, true, false, false, false], Some("high")),
        ([true, false, false, false, true], None),
    ] {
        for (engine, mut module) in engines(module()) {
            let host = Host::new("PC1");
            let mut attack: Vec<Vec<String>> = host
                .psexec(0, 7, "10.55.1.77")
                .into_iter()
                .map(|record| vec![record])
                .collect();
            attack[1] = host.new_service(40, "PSEXESVC", r"%%SystemRoot%%\PSEXESVC.exe");
            let records: Vec<String> = attack
                .into_iter()
                .zip(seen)
                .filter(|(_, seen)| *seen)
                .flat_map(|(records, _)| records)
                .collect();
            let last = alerts(&mut *module, &records).pop();
            assert_eq!(
                last.as_ref().and_then(|alert| alert["severity"].as_str()),
                severity,
                "{seen:?} on {engine}"
            );
        }
    }
}

fn rank(severity: &Value) -> usize {
    ["informational", "low", "medium", "high", "critical"]
        .iter()
        .position(|name| severity == *name)
        .expect("a severity")
}

/// All orders of `0..count`.
fn permutations(count: usize) -> Vec<Vec<usize>> {
    (0..count).fold(vec![Vec::new()], |orders, next| {
        let insert = |order: Vec<usize>| {
            (0..=order.len()).map(move |at| {
                let mut longer = order.clone();
                longer.insert(at, next);
                longer
            })
        };
        orders.into_iter().flat_map(insert).collect()
    })
}
