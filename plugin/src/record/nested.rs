//! A whole record as JSON inside a string: what relays make of a line that they do not parse (Fluent Bit in_tail's `log`,
//! Vector's `message`).

use super::shapes::Field;
use super::{Fields, Interest, MAX_EMBEDDED, Reader, text};
use std::borrow::Cow;

/// As much as is unescaped at first, in bytes: in most records the event id is among them, and nobody wants it.
const HEAD: usize = 512;

/// Makes the record inside a string the one that `fields` tell of; whether it is one that may be wanted.
pub fn read(fields: &mut Fields<'_>, field: Field, reader: &mut Reader, interest: &impl Interest) -> bool {
    let raw = fields.raw(field).unwrap_or_default();
    for limit in [HEAD, MAX_EMBEDDED] {
        let record = text::unescape(raw, limit).into_bytes();
        let mut inner = Fields::new(Cow::Borrowed(&record));
        match inner.walk(&record, reader, interest) {
            Ok(true) => {
                let (places, duplicates) = (inner.places, inner.duplicates);
                *fields = Fields {
                    bytes: Cow::Owned(record),
                    decoded: Vec::new(),
                    places,
                    duplicates,
                    invalid_utf8: fields.invalid_utf8.clone(),
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
