//! A whole event inside a string of the record, or inside the envelope of another protocol.
//!
//! What a string holds is told by how it starts. A text that merely mentions an event, or quotes one further on, is
//! none: anybody can put such a text into a command line.

use super::shapes::Field;
use super::{Fields, Interest, Kind, Reader, lines, nested, otlp, snare, xml};

/// How many strings inside strings are opened: a relay that reads lines, fed by one that did so already.
const MAX_NESTING: usize = 2;

/// The strings that may hold an event; the first one that does is taken.
const STRINGS: [Field; 2] = [Field::Embedded, Field::Message];

/// Looks for the event that a record without an event id may hold elsewhere, and makes it what `fields` tell of. Whether
/// there is one that `interest` wants.
#[cold]
#[inline(never)]
pub fn open(fields: &mut Fields<'_>, reader: &mut Reader, interest: &impl Interest) -> bool {
    for _ in 0..MAX_NESTING {
        let opened = fields.has(Field::Otlp) && otlp::read(fields, &reader.table)
            || STRINGS.into_iter().any(|field| {
                fields.place(field).kind == Kind::String
                    && open_string(fields, field, reader, interest)
            });
        if !opened {
            return false;
        }
        if fields.has(Field::EventId) {
            return fields
                .number(Field::EventId)
                .is_some_and(|id| interest.wants(id));
        }
    }
    false
}

fn open_string(
    fields: &mut Fields<'_>,
    field: Field,
    reader: &mut Reader,
    interest: &impl Interest,
) -> bool {
    let raw = fields.raw(field).unwrap_or_default().trim_ascii_start();
    if raw.starts_with(b"{") {
        nested::read(fields, field, reader, interest)
    } else if xml::starts(raw) {
        xml::read(fields, field)
    } else if lines::starts(raw) {
        lines::read(fields, field)
    } else {
        snare::starts(raw) && snare::read(fields, field)
    }
}
