//! A whole record as JSON inside a string: what relays make of a line that they do not parse (Fluent Bit in_tail's `log`,
//! Vector's `message`).

use super::shapes::Field;
use super::{Fields, Interest, Reader, text};
use std::borrow::Cow;

/// As much as is unescaped at first, in bytes: in most records the event id is among them, and nobody wants it.
const HEAD: usize = 512;

/// Makes the record inside a string the one that `fields` tell of; whether it is one that may be wanted.
pub fn read(
    fields: &mut Fields<'_>,
    field: Field,
    reader: &mut Reader,
    interest: &impl Interest,
) -> bool {
    let raw = fields.raw(field).unwrap_or_default();
    for is_whole in [false, true] {
        let record = if is_whole {
            fields.whole(raw)
        } else {
            text::unescape(raw, HEAD)
        }
        .into_bytes();
        let mut inner = Fields::new(Cow::Borrowed(&record));
        match inner.walk(&record, reader, interest) {
            Ok(true) => {
                let (places, id, duplicates) = (inner.places, inner.id, inner.duplicates);
                *fields = Fields {
                    bytes: Cow::Owned(record),
                    decoded: Vec::new(),
                    places,
                    id,
                    duplicates,
                    invalid_utf8: fields.invalid_utf8.clone(),
                    is_cut: fields.is_cut.clone(),
                };
                return true;
            }
            Ok(false) => return false,
            // Perhaps only because the rest is missing.
            Err(_) => {}
        }
    }
    false
}
