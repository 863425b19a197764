//! An event as lines `Key=Value` inside a string: Fluent Bit's `render_event_as_text` (`plugins/in_winevtlog/pack.c`).
//!
//! The envelope comes first, one line for each value, in a fixed order. The last line is `Message=` with the text that Windows renders
//! for people, which has lines of its own. Those are never part of the envelope, whatever they look like.

use crate::record::fields::Fields;
use crate::record::place::{Place, Spelling};
use crate::record::producers::Field;

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

/// Whether the raw bytes of a JSON string begin as such an event does.
pub fn starts(raw: &[u8]) -> bool {
    raw.starts_with(FIRST.as_bytes())
}

/// Finds the fields in the lines of the string `field`, which [begins](starts) as such an event does. Returns whether it has an id.
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
            fields.set(*field, Place::within(base, from, to, Spelling::Text));
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
    use crate::record::Field;
    use crate::record::testing::text;

    #[test]
    fn the_envelope_ends_at_the_message() {
        let record = r#"{"log":"ProviderName=P\nQualifiers=\nEventID=3\nComputer=WS01\r\nMessage=x\nChannel=forged\nComputer=forged"}"#;
        assert_eq!(text(record, Field::Provider).as_deref(), Some("P"));
        assert_eq!(text(record, Field::Computer).as_deref(), Some("WS01"));
        assert_eq!(text(record, Field::Channel), None);
    }
}
