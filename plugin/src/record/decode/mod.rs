//! Decoders for what the walk cannot find by name, one file for each form.
//!
//! A whole event can be inside a string or in the envelope of another protocol ([`find_event`]), and the values of an event can be in
//! a list or in text ([`find_values`]). Each decoder only adds places to the fields; none of them knows another.
//!
//! The form of a string is recognized by its first bytes. A text that merely mentions an event, or quotes one further on, is none:
//! anybody can put such a text into a command line.

mod message;
mod name_values;
mod nested;
mod otlp;
mod positional;
mod rendered_text;
mod snare;
mod xml;

use super::fields::Fields;
use super::place::Spelling;
use super::producers::Field;
use super::walk::{Prefilter, Reader};

/// How many strings inside strings are opened: a relay that reads lines may be fed by another that did so before.
const MAX_NESTING: usize = 2;

/// The strings that may hold an event; the first one that does is used.
const STRINGS: [Field; 2] = [Field::Embedded, Field::Message];

/// Finds the event that a record without an event id may hold elsewhere, and replaces `fields` with its fields. Returns whether there
/// is one that `prefilter` wants.
#[cold]
#[inline(never)]
pub fn find_event(
    fields: &mut Fields<'_>,
    reader: &mut Reader,
    prefilter: &impl Prefilter,
) -> bool {
    for _ in 0..MAX_NESTING {
        let opened = fields.has(Field::Otlp) && otlp::read(fields, &reader.table)
            || STRINGS.into_iter().any(|field| {
                fields.place(field).spelling == Spelling::String
                    && open_string(fields, field, reader, prefilter)
            });
        if !opened {
            return false;
        }
        if fields.has(Field::EventId) {
            return fields
                .number(Field::EventId)
                .is_some_and(|id| prefilter.wants(id));
        }
    }
    false
}

fn open_string(
    fields: &mut Fields<'_>,
    field: Field,
    reader: &mut Reader,
    prefilter: &impl Prefilter,
) -> bool {
    let raw = fields.raw(field).unwrap_or_default().trim_ascii_start();
    if raw.starts_with(b"{") {
        nested::read(fields, field, reader, prefilter)
    } else if xml::starts(raw) {
        xml::read(fields, field)
    } else if rendered_text::starts(raw) {
        rendered_text::read(fields, field)
    } else {
        snare::starts(raw) && snare::read(fields, field)
    }
}

/// Finds the values of an event that has no named ones. Never inlined, because it is rarely called.
#[cold]
#[inline(never)]
pub fn find_values(fields: &mut Fields<'_>) {
    let _found = xml::find_values(fields)
        || name_values::find_values(fields)
        || positional::find_values(fields)
        || message::find_values(fields);
}
