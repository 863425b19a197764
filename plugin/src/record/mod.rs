//! Reads a record: from JSON bytes to the few fields that an event needs, touching as few bytes as possible.
//!
//! [`read`] walks the record once, led by the merged paths of all [producers] and by the keys of similar records. The walk ends as
//! soon as the event id is known and nobody wants it; most records are rejected after a hundred bytes. What it cannot find by name,
//! because it is in a string, in a list or without a name, is left to decoders: first for a whole event that is somewhere else in the
//! record, then for the values of an event.
//!
//! | file | holds |
//! |---|---|
//! | [`producers`] | the fields, and for each producer the paths at which its records keep them: data |
//! | `path_table` | all those paths merged, and the lookup of a key |
//! | `key_prediction` | which key follows which, so that most keys need no lookup |
//! | `walk` | the walk, and the prefilter that can end it early |
//! | `place`, `fields` | where each field is and how it is written; typed access to its value |
//! | `derived` | values put together from other fields |
//! | `suffix`, `value_format` | cheap tests of values |
//! | `decode` | one file for each other form of an event or its values |
//!
//! Nothing here knows what an event means; a [`Prefilter`] of the layer above says which ids and values it wants.

mod decode;
mod derived;
mod fields;
mod key_prediction;
mod path_table;
mod place;
pub mod producers;
mod suffix;
mod value_format;
mod walk;

#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;

pub use crate::json::scan::Fault;
pub use fields::{Fields, MAX_TEXT};
pub use producers::Field;
pub use suffix::Suffixes;
pub use walk::{Prefilter, Reader};

use std::borrow::Cow;

/// Reads the fields of `record`, as far as `prefilter` wants them. `None` if it has no event id or one that nobody wants, or if the
/// prefilter rejects it.
///
/// Named values are trusted over values that are known by their position, and both over text that is made for people, which is read
/// only if nothing else holds the values of the event.
pub fn read<'a>(
    record: &'a [u8],
    reader: &mut Reader,
    prefilter: &impl Prefilter,
) -> Result<Option<Fields<'a>>, Fault> {
    let mut fields = Fields::new(Cow::Borrowed(record));
    if !walk::walk(&mut fields, record, reader, prefilter)? {
        // Nothing was decoded, so there is nothing to free. Most records get here, and are saved the call.
        std::mem::forget(fields);
        return Ok(None);
    }
    if complete(&mut fields, reader, prefilter) {
        return Ok(Some(fields));
    }
    if fields.is_truncated.get() {
        Err(Fault::TooLarge)
    } else {
        Ok(None)
    }
}

/// Finds what the walk did not find in a record that may be wanted. Returns whether it is a wanted event.
#[inline(never)]
fn complete(fields: &mut Fields<'_>, reader: &mut Reader, prefilter: &impl Prefilter) -> bool {
    if !fields.has(Field::EventId) && !decode::find_event(fields, reader, prefilter) {
        return false;
    }
    if fields.lacks_data() {
        decode::find_values(fields);
    }
    derived::copy_aliases(fields);
    true
}
