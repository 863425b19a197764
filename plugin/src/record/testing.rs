//! What the tests of this layer and of the layers above share.

use super::{Field, Fields, Prefilter, Reader, read};

/// A prefilter that wants everything.
pub struct All;

impl Prefilter for All {
    fn wants(&self, _: u32) -> bool {
        true
    }

    fn fields(&self, _: u32) -> u64 {
        0
    }

    fn rejects(&self, _: u32, _: &Fields<'_>) -> bool {
        false
    }
}

/// The text of a field of a record; `None` also if the record cannot be read or is no event.
pub fn text(record: &str, field: Field) -> Option<String> {
    read(record.as_bytes(), &mut Reader::default(), &All)
        .ok()
        .flatten()?
        .text(field)
        .map(Into::into)
}
