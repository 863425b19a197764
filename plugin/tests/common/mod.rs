//! What the plugin's native tests share.

use psexec_filter_fixtures::with_insertion;
use psexec_filter_plugin::filter::Filter;
use serde_json::Value;

/// Passes a record and checks that it leaves as it came or with one object added; returns that object.
pub fn pass(filter: &mut Filter, record: &str) -> Option<Value> {
    let splice = filter.process(record.as_bytes(), 0, 0).into_splice()?;
    let added = with_insertion(record.as_bytes(), splice.at, &splice.text)
        .unwrap_or_else(|fault| panic!("{fault}"));
    Some(Value::Object(added.object))
}
