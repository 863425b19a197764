//! An event as the body of a log record in OTLP's JSON encoding, in which every object is a list of keys and typed values
//! (`opentelemetry/proto/common/v1/common.proto`, `AnyValue` and `KeyValue`).
//!
//! A request may hold several log records; it is read only if it holds exactly one.

use crate::json::cursor::{Elements, Kind, find_member, only_element, value};
use crate::json::text;
use crate::record::fields::{Fields, NO_PLACES};
use crate::record::path_table::{Node, PathTable, ROOT};
use crate::record::place::{Place, Spelling};
use crate::record::producers::Field;

/// Most objects inside objects that are read. The body holds `event_data`, and that perhaps one more.
const MAX_DEPTH: usize = 4;

/// Longest key that is looked up, in bytes.
const MAX_KEY: usize = 64;

/// Replaces `fields` with the values of the only log record in [`Field::Otlp`]. Returns whether there is one.
pub fn read(fields: &mut Fields<'_>, table: &PathTable) -> bool {
    let Some(values) = values(fields, table) else {
        return false;
    };
    fields.places = NO_PLACES;
    for (field, place) in values {
        fields.put(field, place);
    }
    true
}

fn values(fields: &Fields<'_>, table: &PathTable) -> Option<Vec<(Field, Place)>> {
    let bytes = fields.bytes.get(..fields.place(Field::Otlp).end as usize)?;
    let resource = only_object(bytes, fields.place(Field::Otlp).start as usize)?;
    let scope = only_object(bytes, find_member(bytes, resource, "scopeLogs")?)?;
    let record = only_object(bytes, find_member(bytes, scope, "logRecords")?)?;
    let body = find_member(bytes, record, "body")?;
    if let Some(text) = find_member(bytes, body, "stringValue") {
        return Some(vec![(Field::Embedded, scalar(bytes, text, 0)?)]);
    }
    let mut values: Vec<(Field, Place)> = Vec::new();
    // The lists that contain the current one, and their nodes.
    let mut above: Vec<(Elements<'_>, Node)> = Vec::with_capacity(MAX_DEPTH);
    let mut node = ROOT;
    let mut elements = Elements::new(bytes, list(bytes, body)?);
    loop {
        let Some(pair) = elements.next_element().ok()? else {
            match above.pop() {
                Some(up) => (elements, node) = up,
                None => return Some(values),
            }
            continue;
        };
        if pair.kind != Kind::Object {
            return None;
        }
        let entry = key(bytes, pair.start).and_then(|key| table.find_text(node, &key));
        let value = find_member(bytes, pair.start, "value");
        let (Some(entry), Some(value)) = (entry, value) else {
            continue;
        };
        if let (Some(child), Some(inner)) = (entry.child, list(bytes, value)) {
            if above.len() < MAX_DEPTH {
                let outer = std::mem::replace(&mut elements, Elements::new(bytes, inner));
                above.push((outer, node));
                node = child;
            }
        } else if let Some(field) = entry.scalar
            && let Some(place) = typed(bytes, value, entry.rank)
        {
            values.push((field, place));
        }
    }
}

/// The opening bracket of the keys and values of an object, which is the typed value at `value`.
fn list(bytes: &[u8], value: usize) -> Option<usize> {
    let list = find_member(bytes, find_member(bytes, value, "kvlistValue")?, "values")?;
    (bytes.get(list) == Some(&b'[')).then_some(list)
}

/// The scalar that the typed value at `value` is. 64-bit integers are written as strings.
fn typed(bytes: &[u8], value: usize, rank: u16) -> Option<Place> {
    ["stringValue", "intValue", "boolValue"]
        .iter()
        .find_map(|kind| scalar(bytes, find_member(bytes, value, kind)?, rank))
}

fn key(bytes: &[u8], object: usize) -> Option<String> {
    let place = scalar(bytes, find_member(bytes, object, "key")?, 0)?;
    Some(text::unescape(
        bytes.get(place.start as usize..place.end as usize)?,
        MAX_KEY,
    ))
}

/// The place of the string or scalar at `at`; `None` if there is a container.
fn scalar(bytes: &[u8], at: usize, rank: u16) -> Option<Place> {
    let place = Place::of_value(0, value(bytes, at).ok()?);
    (place.spelling != Spelling::Absent).then_some(Place { rank, ..place })
}

/// The offset of the only element of the array at `at`, if it is an object.
fn only_object(bytes: &[u8], at: usize) -> Option<usize> {
    only_element(bytes, at)
        .filter(|element| element.kind == Kind::Object)
        .map(|object| object.start)
}

#[cfg(test)]
mod tests {
    use crate::record::Field;
    use crate::record::testing::text;

    const BODY: &str = r#"{"kvlistValue":{"values":[
        {"key":"event_id","value":{"kvlistValue":{"values":[{"key":"id","value":{"intValue":"3"}}]}}},
        {"value":{"stringValue":"WS01"},"key":"computer"},
        {"key":"event_data","value":{"kvlistValue":{"values":[{"key":"Initiated","value":{"boolValue":false}}]}}}]}}"#;

    fn request(records: &str) -> String {
        format!(
            r#"{{"resourceLogs":[{{"resource":{{}},"scopeLogs":[{{"scope":{{}},"logRecords":[{records}]}}]}}]}}"#
        )
    }

    #[test]
    fn the_body_of_the_only_record_is_read() {
        let one = request(&format!(r#"{{"timeUnixNano":"1","body":{BODY}}}"#));
        for (field, want) in [
            (Field::EventId, "3"),
            (Field::Computer, "WS01"),
            (Field::Initiated, "false"),
        ] {
            assert_eq!(text(&one, field).as_deref(), Some(want), "{field:?}");
        }
        let xml = "<Event><System><EventID>3</EventID><Computer>WS01</Computer></System></Event>";
        let raw = request(&format!(r#"{{"body":{{"stringValue":"{xml}"}}}}"#));
        assert_eq!(text(&raw, Field::Computer).as_deref(), Some("WS01"));
    }

    #[test]
    fn a_request_with_several_records_is_not_read() {
        let two = request(&format!(r#"{{"body":{BODY}}},{{"body":{BODY}}}"#));
        assert_eq!(text(&two, Field::Computer), None);
        assert_eq!(text(&request(""), Field::Computer), None);
    }
}
