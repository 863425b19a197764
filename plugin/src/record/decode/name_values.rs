//! Values as a list of objects with one member each: OpenTelemetry's `event_data.data` from October 2023 to early 2026, and its
//! `event_data_format: array` (opentelemetry-collector-contrib #28587, #46034). Or with two members, `Name` and `text`, into which
//! converters from XML to JSON turn `<Data Name="…">` (Positive Technologies' events in open-xp-rules).

use crate::json::cursor::{self, Elements, Kind, Value};
use crate::json::scan::skip_blank;
use crate::json::text;
use crate::record::fields::Fields;
use crate::record::place::Place;
use crate::record::producers::Field;

/// Longest name that is read, in bytes; no field has a longer one.
const MAX_NAME: usize = 32;

/// The key of the name, if the object has one.
const NAME: &str = "Name";

/// The keys of the value next to [`NAME`].
const TEXTS: [&str; 3] = ["text", "#text", "Value"];

/// Finds the values in [`Field::Inserts`], if it is such a list. Returns whether there are any.
pub fn find_values(fields: &mut Fields<'_>) -> bool {
    let Some(values) = values(fields) else {
        return false;
    };
    let found = !values.is_empty();
    for (field, place) in values {
        fields.set(field, place);
    }
    found
}

fn values(fields: &Fields<'_>) -> Option<Vec<(Field, Place)>> {
    let list = fields.raw(Field::Inserts)?;
    let base = fields.place(Field::Inserts).start;
    let mut values: Vec<(Field, Place)> = Vec::new();
    let mut elements = Elements::new(list, 0);
    while let Some(element) = elements.next_element().ok()? {
        if element.kind != Kind::Object {
            return None;
        }
        let quote = skip_blank(list, element.start.wrapping_add(1));
        if list.get(quote) != Some(&b'"') {
            continue;
        }
        let (name, value) = member(list, quote)?;
        let next = skip_blank(list, value.after());
        let named = match (list.get(next), name == NAME) {
            (Some(b'}'), false) => Some((name, value)),
            (Some(b','), true) => value_of_name(list, value, next.wrapping_add(1)),
            _ => None,
        };
        // The first one of a name holds, as in an object.
        if let Some((name, value)) = named
            && let Some(field) = Field::of_event_data(&name)
            && !values.iter().any(|(known, _)| *known == field)
        {
            values.push((field, Place::of_value(base, value)));
        }
    }
    Some(values)
}

/// The text of `name`, and the value of the member at `at` that follows it.
fn value_of_name(list: &[u8], name: Value, at: usize) -> Option<(String, Value)> {
    let quote = skip_blank(list, at);
    if name.kind != Kind::String || list.get(quote) != Some(&b'"') {
        return None;
    }
    let (key, value) = member(list, quote)?;
    let name = text::unescape(list.get(name.start..name.end)?, MAX_NAME);
    TEXTS.contains(&key.as_str()).then_some((name, value))
}

/// The key whose quote is at `quote`, and its value.
fn member(list: &[u8], quote: usize) -> Option<(String, Value)> {
    let (key, at) = cursor::member(list, quote).ok()?;
    Some((text::unescape(key, MAX_NAME), cursor::value(list, at).ok()?))
}

#[cfg(test)]
mod tests {
    use crate::record::Field;
    use crate::record::testing::text;

    #[test]
    fn objects_of_one_member_or_of_name_and_text_are_values() {
        let list = r#"{"event_id":{"id":3},"event_data":{"data":[{"Image":"System"},{"SourcePort": 50211 },{},{"Image":"b"},{"x":{"y":1}}]}}"#;
        assert_eq!(text(list, Field::Image).as_deref(), Some("System"));
        assert_eq!(text(list, Field::SourcePort).as_deref(), Some("50211"));
        let named = r#"{"EventID":3,"EventData":[{"Name":"RuleName"},{"Name":"Image","text":"System"},{"Name":"User","other":"u"},{"Name":["x"],"text":1}]}"#;
        assert_eq!(
            (
                text(named, Field::Image).as_deref(),
                text(named, Field::User)
            ),
            (Some("System"), None)
        );
        for data in [
            r#"[{"Image":"System","User":"u"}]"#,
            r#"["Image","System"]"#,
            r#"[{"Image":{"a":1}}]"#,
            r#"[{"Image"}]"#,
            "[{",
        ] {
            let record = format!(r#"{{"EventID":3,"EventData":{data}}}"#);
            assert_eq!(text(&record, Field::Image), None, "{record}");
        }
    }
}
