//! An event as the body of a log record in OTLP's JSON encoding, where every object is a list of keys and typed values
//! (`opentelemetry/proto/common/v1/common.proto`, `AnyValue` and `KeyValue`).
//!
//! A request may hold many log records; only one that holds a single one is a record of its own.

use super::scan::{container_end, scalar_end, skip_blank, string_end};
use super::shapes::{Field, Node, PathTable, ROOT};
use super::{Fields, Kind, NOTHING, Place, text};

/// The body holds objects inside objects: `event_data`, and in it perhaps one more.
const MAX_DEPTH: usize = 4;

/// Longest key that is looked up.
const MAX_KEY: usize = 64;

/// Names the values of the only log record in [`Field::Otlp`]; whether there is one.
pub fn read(fields: &mut Fields<'_>, table: &PathTable) -> bool {
    let Some(values) = values(fields, table) else {
        return false;
    };
    fields.places = NOTHING;
    for (field, place) in values {
        fields.put(field, place);
    }
    true
}

fn values(fields: &Fields<'_>, table: &PathTable) -> Option<Vec<(Field, Place)>> {
    let bytes = fields.bytes.get(..fields.place(Field::Otlp).end as usize)?;
    let resource = only_object(bytes, fields.place(Field::Otlp).start as usize)?;
    let scope = only_object(bytes, member(bytes, resource, "scopeLogs")?)?;
    let record = only_object(bytes, member(bytes, scope, "logRecords")?)?;
    let body = member(bytes, record, "body")?;
    if let Some(text) = member(bytes, body, "stringValue") {
        return Some(vec![(Field::Embedded, scalar(bytes, text, 0)?)]);
    }
    let mut values: Vec<(Field, Place)> = Vec::new();
    // Where to go on behind the objects that were entered, and at which nodes.
    let mut above: Vec<(usize, Node)> = Vec::with_capacity(MAX_DEPTH);
    let mut node = ROOT;
    let mut at = list(bytes, body)?.wrapping_add(1);
    loop {
        at = skip_blank(bytes, at);
        match bytes.get(at)? {
            b',' => at = at.wrapping_add(1),
            b']' => match above.pop() {
                Some(up) => (at, node) = up,
                None => return Some(values),
            },
            b'{' => {
                let end = container_end(bytes, at).ok()?;
                let entry = key(bytes, at).and_then(|key| table.find_text(node, &key));
                let value = member(bytes, at, "value");
                at = end;
                let (Some(entry), Some(value)) = (entry, value) else {
                    continue;
                };
                if let (Some(child), Some(inner)) = (entry.child, list(bytes, value)) {
                    if above.len() < MAX_DEPTH {
                        above.push((end, node));
                        (at, node) = (inner.wrapping_add(1), child);
                    }
                } else if let Some(field) = entry.scalar
                    && let Some(place) = typed(bytes, value, entry.rank)
                {
                    values.push((field, place));
                }
            }
            _ => return None,
        }
    }
}

/// The opening bracket of the keys and values of the object that a value is.
fn list(bytes: &[u8], value: usize) -> Option<usize> {
    let list = member(bytes, member(bytes, value, "kvlistValue")?, "values")?;
    (bytes.get(list) == Some(&b'[')).then_some(list)
}

/// The scalar that a value is. 64-bit integers are written as strings.
fn typed(bytes: &[u8], value: usize, rank: u16) -> Option<Place> {
    ["stringValue", "intValue", "boolValue"]
        .iter()
        .find_map(|kind| scalar(bytes, member(bytes, value, kind)?, rank))
}

fn key(bytes: &[u8], object: usize) -> Option<String> {
    let place = scalar(bytes, member(bytes, object, "key")?, 0)?;
    Some(text::unescape(
        bytes.get(place.start as usize..place.end as usize)?,
        MAX_KEY,
    ))
}

fn scalar(bytes: &[u8], at: usize, rank: u16) -> Option<Place> {
    let place = match bytes.get(at)? {
        b'"' => {
            let start = at.wrapping_add(1);
            Place::within(0, start, string_end(bytes, start).ok()?, Kind::String)
        }
        b'{' | b'[' => return None,
        _ => Place::within(0, at, scalar_end(bytes, at), Kind::Scalar),
    };
    Some(Place { rank, ..place })
}

/// The offset of the only element of the array at `at`, an object.
fn only_object(bytes: &[u8], at: usize) -> Option<usize> {
    let object = skip_blank(bytes, at.wrapping_add(1));
    if bytes.get(at) != Some(&b'[') || bytes.get(object) != Some(&b'{') {
        return None;
    }
    let behind = skip_blank(bytes, container_end(bytes, object).ok()?);
    (bytes.get(behind) == Some(&b']')).then_some(object)
}

/// The offset of the value of a member of the object at `at`. The keys of the protocol need no escapes.
fn member(bytes: &[u8], at: usize, wanted: &str) -> Option<usize> {
    if bytes.get(at) != Some(&b'{') {
        return None;
    }
    let mut at = at.wrapping_add(1);
    loop {
        at = skip_blank(bytes, at);
        match bytes.get(at)? {
            b',' => at = at.wrapping_add(1),
            b'"' => {
                let start = at.wrapping_add(1);
                let end = string_end(bytes, start).ok()?;
                let colon = skip_blank(bytes, end.wrapping_add(1));
                if bytes.get(colon) != Some(&b':') {
                    return None;
                }
                at = skip_blank(bytes, colon.wrapping_add(1));
                if bytes.get(start..end)? == wanted.as_bytes() {
                    return Some(at);
                }
                at = match bytes.get(at)? {
                    b'"' => string_end(bytes, at.wrapping_add(1)).ok()?.wrapping_add(1),
                    b'{' | b'[' => container_end(bytes, at).ok()?,
                    _ => scalar_end(bytes, at),
                };
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::record::shapes::Field;
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
    fn the_body_of_the_only_record() {
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
    fn several_records_are_no_record() {
        let two = request(&format!(r#"{{"body":{BODY}}},{{"body":{BODY}}}"#));
        assert_eq!(text(&two, Field::Computer), None);
        assert_eq!(text(&request(""), Field::Computer), None);
    }
}
