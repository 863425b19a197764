//! An event as lines `Key=Value` inside a string: Fluent Bit's `render_event_as_text` (`plugins/in_winevtlog/pack.c`).
//!
//! The envelope comes first, one line each and in a fixed order; the last is `Message=` with the rendered text, which
//! has lines of its own. What that text says is no envelope, whatever it looks like.

use super::shapes::Field;
use super::{Fields, Kind, Place};

const FIRST: &str = "ProviderName=";

const KEYS: [(&str, Field); 7] = [
    (FIRST, Field::Provider),
    ("EventID=", Field::EventId),
    ("TimeCreated=", Field::LoggedTime),
    ("EventRecordID=", Field::RecordId),
    ("Channel=", Field::Channel),
    ("Computer=", Field::Computer),
    ("Message=", Field::Message),
];

/// Whether the raw bytes of a JSON string start as such an event does.
pub fn starts(raw: &[u8]) -> bool {
    raw.starts_with(FIRST.as_bytes())
}

/// Names the lines of a string that [starts](starts) so.
pub fn read(fields: &mut Fields<'_>, field: Field) -> bool {
    let Some((text, base)) = fields.decode(field) else {
        return false;
    };
    let mut start = 0usize;
    for line in text.split('\n') {
        if let Some((key, field)) = KEYS.iter().find(|(key, _)| line.starts_with(key)) {
            let is_message = *field == Field::Message;
            let from = start.saturating_add(key.len());
            let to = if is_message {
                text.len()
            } else {
                start.saturating_add(line.trim_ascii_end().len())
            };
            fields.set(*field, Place::within(base, from, to, Kind::Text));
            if is_message {
                break;
            }
        }
        start = start.saturating_add(line.len()).saturating_add(1);
    }
    fields.has(Field::EventId)
}

#[cfg(test)]
mod tests {
    use crate::record::shapes::Field;
    use crate::record::testing::text;

    #[test]
    fn the_envelope_ends_at_the_message() {
        let record = r#"{"log":"ProviderName=P\nQualifiers=\nEventID=3\nComputer=WS01\r\nMessage=x\nChannel=forged\nComputer=forged"}"#;
        assert_eq!(text(record, Field::Provider).as_deref(), Some("P"));
        assert_eq!(text(record, Field::Computer).as_deref(), Some("WS01"));
        assert_eq!(text(record, Field::Channel), None);
    }
}
