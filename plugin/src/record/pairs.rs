//! Values as a list of objects with one member each: OpenTelemetry's `event_data.data` from October 2023 to early 2026, and
//! its `event_data_format: array` (opentelemetry-collector-contrib #28587, #46034). Or of two, `Name` and `text`, as converters
//! from XML to JSON make of `<Data Name="…">` (Positive Technologies' events in open-xp-rules).

use super::scan::{container_end, scalar_end, skip_blank, string_end};
use super::shapes::Field;
use super::{Fields, Kind, Place, text};

/// No longer name is known.
const MAX_NAME: usize = 32;

/// Names the values in [`Field::Inserts`], if it is such a list; whether there were any.
pub fn name_pairs(fields: &mut Fields<'_>) -> bool {
    let Some(pairs) = pairs(fields) else {
        return false;
    };
    let found = !pairs.is_empty();
    for (field, place) in pairs {
        fields.set(field, place);
    }
    found
}

fn pairs(fields: &Fields<'_>) -> Option<Vec<(Field, Place)>> {
    let list = fields.raw(Field::Inserts)?;
    let base = fields.place(Field::Inserts).start;
    let mut pairs: Vec<(Field, Place)> = Vec::new();
    let mut at = 1usize;
    loop {
        at = skip_blank(list, at);
        match list.get(at)? {
            b']' => return Some(pairs),
            b',' => at = at.wrapping_add(1),
            b'{' => {
                let end = container_end(list, at).ok()?;
                let key = skip_blank(list, at.wrapping_add(1));
                if list.get(key) == Some(&b'"') {
                    let (name, value, behind) = member(list, key)?;
                    let next = skip_blank(list, behind);
                    let pair = match (list.get(next), name == NAME) {
                        (Some(b'}'), false) => Some((name, value)),
                        (Some(b','), true) => named(list, value, next.wrapping_add(1)),
                        _ => None,
                    };
                    // The first of a name holds, as in an object.
                    if let Some((name, value)) = pair
                        && let Some(field) = Field::of_event_data(&name)
                        && !pairs.iter().any(|(known, _)| *known == field)
                    {
                        pairs.push((
                            field,
                            Place::within(
                                base,
                                value.start as usize,
                                value.end as usize,
                                value.kind,
                            ),
                        ));
                    }
                }
                at = end;
            }
            _ => return None,
        }
    }
}

/// The key of the name, where the value has one of its own.
const NAME: &str = "Name";

/// The keys of the value.
const TEXTS: [&str; 3] = ["text", "#text", "Value"];

/// The name that stands at `name`, and the value behind it.
fn named(list: &[u8], name: Place, at: usize) -> Option<(String, Place)> {
    let key = skip_blank(list, at);
    if name.kind != Kind::String || list.get(key) != Some(&b'"') {
        return None;
    }
    let (key, value, _) = member(list, key)?;
    let name = text::unescape(list.get(name.start as usize..name.end as usize)?, MAX_NAME);
    TEXTS.contains(&key.as_str()).then_some((name, value))
}

/// The member whose key's quote is at `quote`: its key, its value, and what follows.
fn member(bytes: &[u8], quote: usize) -> Option<(String, Place, usize)> {
    let start = quote.wrapping_add(1);
    let end = string_end(bytes, start).ok()?;
    let key = text::unescape(bytes.get(start..end)?, MAX_NAME);
    let colon = skip_blank(bytes, end.wrapping_add(1));
    if bytes.get(colon) != Some(&b':') {
        return None;
    }
    let at = skip_blank(bytes, colon.wrapping_add(1));
    Some(match bytes.get(at)? {
        b'"' => {
            let start = at.wrapping_add(1);
            let end = string_end(bytes, start).ok()?;
            (
                key,
                Place::within(0, start, end, Kind::String),
                end.wrapping_add(1),
            )
        }
        b'{' | b'[' => (key, Place::default(), container_end(bytes, at).ok()?),
        _ => {
            let end = scalar_end(bytes, at);
            (key, Place::within(0, at, end, Kind::Scalar), end)
        }
    })
}

#[cfg(test)]
mod tests {
    use crate::record::shapes::Field;
    use crate::record::testing::text;

    #[test]
    fn objects_of_one_member_are_values() {
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
