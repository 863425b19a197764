//! A whole record as JSON inside a string: what relays make of a line that they do not parse (`log` of Fluent Bit's in_tail, `message`
//! of Vector).

use crate::json::text;
use crate::record::fields::Fields;
use crate::record::producers::Field;
use crate::record::walk::{Prefilter, Reader, walk};
use std::borrow::Cow;

/// How many bytes of text are unescaped at first: for most records the event id is among them, and nobody wants it.
const HEAD: usize = 512;

/// Replaces `fields` with the fields of the record in the string `field`. Returns whether it is one that may be wanted.
pub fn read(
    fields: &mut Fields<'_>,
    field: Field,
    reader: &mut Reader,
    prefilter: &impl Prefilter,
) -> bool {
    let raw = fields.raw(field).unwrap_or_default();
    for is_whole in [false, true] {
        let record = if is_whole {
            fields.unescape_whole(raw)
        } else {
            text::unescape(raw, HEAD)
        }
        .into_bytes();
        let mut inner = Fields::new(Cow::Borrowed(&record));
        match walk(&mut inner, &record, reader, prefilter) {
            Ok(true) => {
                let (places, id, duplicates) = (inner.places, inner.id, inner.duplicates);
                *fields = Fields {
                    bytes: Cow::Owned(record),
                    decoded: Vec::new(),
                    places,
                    id,
                    duplicates,
                    invalid_utf8: fields.invalid_utf8.clone(),
                    is_truncated: fields.is_truncated.clone(),
                };
                return true;
            }
            Ok(false) => return false,
            // Perhaps only because the rest of the record is missing.
            Err(_) => {}
        }
    }
    false
}
