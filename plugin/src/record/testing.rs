//! What the tests of the decoders share.

use super::shapes::Field;
use super::{Fields, Interest, Reader, read};

/// Interest in everything.
pub struct All;

impl Interest for All {
    fn wants(&self, _: u32) -> bool {
        true
    }

    fn deciding(&self, _: u32) -> u64 {
        0
    }

    fn is_hopeless(&self, _: u32, _: &Fields<'_>) -> bool {
        false
    }
}

/// What a record states about a field; an error in it, or no event, is nothing.
pub fn text(record: &str, field: Field) -> Option<String> {
    read(record.as_bytes(), &mut Reader::default(), &All)
        .ok()
        .flatten()?
        .text(field)
        .map(Into::into)
}
