//! Every technique of the policy has its table in `TABLES`, and the other way round.

use psexec_filter_plugin::chain::{Policy, Shared, TABLES};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The rules of the techniques that a policy has in use, if all of them are enabled.
fn rules_in_use(psexec_match: &str) -> BTreeSet<&'static str> {
    let mut policy = serde_json::to_value(Policy::default()).expect("a policy is JSON");
    policy["psexec"]["match"] = json!(psexec_match);
    for section in policy.as_object_mut().expect("an object").values_mut() {
        if let Some(enabled) = section.get_mut("enabled") {
            *enabled = Value::Bool(true);
        }
    }
    let policy = Policy::from_json(&policy.to_string()).expect("a policy");
    let techniques = policy.techniques(&Shared::of(&policy));
    let rules = techniques.iter().map(|technique| technique.table().rule.id);
    rules.collect()
}

#[test]
fn the_tables_are_those_of_the_techniques_that_a_policy_can_use() {
    let used = &rules_in_use("joined") | &rules_in_use("distinct-codes");
    let listed: BTreeSet<&str> = TABLES.iter().map(|table| table.rule.id).collect();
    assert_eq!(
        used, listed,
        "`TABLES` and `Policy::techniques` name different techniques"
    );
    assert_eq!(
        listed.len(),
        TABLES.len(),
        "two techniques have one rule id"
    );
}
