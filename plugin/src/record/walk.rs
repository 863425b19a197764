//! The walk: one pass over a record that finds the places of its fields, without recursion and without allocating.
//!
//! It is led by the merged [`PathTable`] of all producers and by [`KeyPrediction`], and it stops as soon as the record is certain to
//! be unwanted. On the interpreter a function call costs the more, the more variables and constants the function has, so parts that
//! are rarely needed are functions of their own that are never inlined.

use super::fields::{Fields, MAX_TEXT};
use super::key_prediction::{KeyPrediction, TransitionId};
use super::path_table::{Entry, KeyPrefix, NO_ENTRY, Node, PREFIX, PathTable, ROOT};
use super::place::{Place, Spelling};
use super::producers::{Field, MAX_PATH, PRODUCERS};
use crate::json::cursor;
use crate::json::scan::{Fault, container_end, scalar_end, skip_blank, split_string, string_end};
use crate::json::{bytes, text};

/// The last quote of a key and its colon.
const AFTER_KEY: u16 = u16::from_le_bytes(*b"\":");

/// Decides early which records nobody wants, so that the rest of them need not be read.
pub trait Prefilter {
    /// Whether events of this id are wanted.
    fn wants(&self, event_id: u32) -> bool;

    /// The set (see [`Field::bit`]) of fields that together can reject an event of this wanted id.
    fn fields(&self, event_id: u32) -> u64;

    /// Whether what is known so far of an event with a wanted id is enough to reject it. Called once all of
    /// [`Prefilter::fields`] were found; `false` when in doubt.
    fn rejects(&self, event_id: u32, so_far: &Fields<'_>) -> bool;
}

/// What is known about records before one is read.
pub struct Reader {
    pub(super) table: PathTable,
    prediction: KeyPrediction,
}

/// A reader for the records of all [`PRODUCERS`] that has not read any.
impl Default for Reader {
    fn default() -> Reader {
        Reader {
            table: PathTable::new(PRODUCERS),
            prediction: KeyPrediction::new(),
        }
    }
}

/// Walks a record, whose bytes are `bytes`, and puts what it finds into `fields`. Returns `false` as soon as it is certain that nobody
/// wants the record.
#[inline(always)]
pub fn walk(
    fields: &mut Fields<'_>,
    bytes: &[u8],
    reader: &mut Reader,
    prefilter: &impl Prefilter,
) -> Result<bool, Fault> {
    let Reader { table, prediction } = reader;
    let open = skip_blank(bytes, 0);
    let Some((b'{', mut rest)) = bytes.get(open..).and_then(<[u8]>::split_first) else {
        return Err(if open == bytes.len() {
            Fault::Empty
        } else {
            Fault::NotObject
        });
    };
    let mut above = [(ROOT, 0u16); MAX_PATH];
    let mut depth = 0usize;
    let mut node = ROOT;
    // What the objects that were entered add to every rank.
    let mut inner_rank = 0u16;
    // The fields that were found.
    let mut found = 0u64;
    // The fields that can end the walk: any one of them until the id of the event is known, then all of them together.
    let mut deciding = Field::EventId.bit() | Field::Embedded.bit() | Field::Message.bit();
    let mut transition = KeyPrediction::START;
    let mut predicted = prediction.transition(transition).next;
    // `rest` is what was not walked yet. As many bytes as possible are compared at once: on an interpreter to fetch them costs more
    // than to compare them.
    'members: loop {
        let entry: &Entry;
        let looked_up;
        let mut is_string;
        match prediction.follow(predicted, u32::from(node), rest) {
            Some((taken, value)) => {
                transition = predicted;
                predicted = taken.next;
                entry = &taken.entry;
                is_string = taken.is_string;
                rest = value;
            }
            None => {
                let start = rest;
                // Usually a member follows the one before it directly.
                let member = if let [b',', member @ ..] = start {
                    member
                } else {
                    start
                };
                let (byte, after) = member.split_first().ok_or(Fault::Truncated)?;
                rest = after;
                match byte {
                    b'"' => {
                        let value;
                        (transition, looked_up, value) =
                            find_key(start, after, table, prediction, node, transition)?;
                        entry = &looked_up;
                        rest = after.get(value..).ok_or(Fault::Truncated)?;
                        is_string = rest.first() == Some(&b'"');
                        predicted = prediction.transition(transition).next;
                    }
                    b',' | b' ' | b'\t' | b'\n' | b'\r' => continue,
                    b'}' => {
                        let Some(up) = depth.checked_sub(1) else {
                            return Ok(true);
                        };
                        depth = up;
                        (node, inner_rank) = above.get(depth).copied().unwrap_or_default();
                        continue;
                    }
                    0 => return Err(Fault::Nul),
                    _ => return Err(Fault::Malformed),
                }
            }
        }
        let rank = || entry.rank.wrapping_add(inner_rank);
        let (field, place) = loop {
            let value = rest;
            if is_string {
                let length;
                (length, rest) = split_string(value)?;
                let Some(field) = entry.scalar else {
                    continue 'members;
                };
                let mut place = Place::at_rest(bytes, value, length, entry.spelling, rank());
                place.start = place.start.wrapping_add(1);
                place.end = place.end.wrapping_add(1);
                break (field, place);
            }
            match value {
                [b'"', ..] => is_string = true,
                [b'{', members @ ..] => {
                    if let Some((child, place)) = entry.child.zip(above.get_mut(depth)) {
                        *place = (node, inner_rank);
                        depth = depth.wrapping_add(1);
                        node = child;
                        inner_rank = inner_rank.wrapping_add(entry.inner_rank);
                        rest = members;
                    } else {
                        rest = value
                            .get(container_end(value, 0)?..)
                            .ok_or(Fault::Truncated)?;
                    }
                    continue 'members;
                }
                [b'[', ..] => {
                    let length = container_end(value, 0)?;
                    rest = value.get(length..).ok_or(Fault::Truncated)?;
                    let array = Place::at_rest(bytes, value, length, Spelling::Array, rank());
                    if let Some(field) = entry.array {
                        break (field, array);
                    }
                    let Some(stated) = entry.scalar.zip(only_scalar(bytes, array)) else {
                        continue 'members;
                    };
                    break stated;
                }
                [b' ' | b'\t' | b'\n' | b'\r', ..] => {
                    rest = value.get(skip_blank(value, 0)..).ok_or(Fault::Truncated)?
                }
                [first, ..] => {
                    let length = scalar_end(value, 0);
                    if length == 0 || length == value.len() {
                        return Err(bad_scalar(*first, length == 0));
                    }
                    rest = value.get(length..).ok_or(Fault::Truncated)?;
                    let Some(field) = entry.scalar else {
                        continue 'members;
                    };
                    break (
                        field,
                        Place::at_rest(bytes, value, length, Spelling::Scalar, rank()),
                    );
                }
                [] => return Err(Fault::Truncated),
            }
        };
        if !fields.put(field, place) {
            continue;
        }
        // There are at most 64 fields, so the shift cannot overflow; `Field::bit` takes more instructions to check that.
        found |= 1u64.wrapping_shl(field as u32);
        if deciding.wrapping_shr(field as u32) & 1 == 0 {
            continue;
        }
        if field == Field::EventId {
            let plain = bytes
                .get(place.start as usize..place.end as usize)
                .and_then(bytes::number);
            let Some(number) = plain
                .or_else(|| fields.number(Field::EventId))
                .filter(|id| prefilter.wants(*id))
            else {
                return Ok(false);
            };
            fields.id = Some(number);
            deciding = Field::EventId.bit() | prefilter.fields(number);
        }
        if (fields.id.is_none() || found & deciding == deciding)
            && should_stop(fields, field, prefilter)
        {
            return Ok(false);
        }
    }
}

/// Whether, with `field` just found, it is certain that nobody wants the record. Rarely called, and therefore never inlined.
#[inline(never)]
fn should_stop(fields: &Fields<'_>, field: Field, prefilter: &impl Prefilter) -> bool {
    match fields.id {
        Some(id) => prefilter.rejects(id, fields),
        None => is_unwanted_xml(fields.raw(field).unwrap_or_default(), &|id| {
            prefilter.wants(id)
        }),
    }
}

/// Whether the raw bytes of a JSON string are an event in XML with an id that nobody wants, readable without unescaping.
///
/// Saves most records the unescaping. The id is in the first few hundred bytes, after the provider.
#[inline(never)]
fn is_unwanted_xml(raw: &[u8], wanted: &impl Fn(u32) -> bool) -> bool {
    if !raw.starts_with(b"<Event") {
        return false;
    }
    let head = String::from_utf8_lossy(raw.get(..raw.len().min(512)).unwrap_or(raw));
    let Some((_, rest)) = head.split_once("<EventID>") else {
        return false;
    };
    let Some((digits, _)) = rest.split_once('<') else {
        return false;
    };
    digits.trim().parse().is_ok_and(|id| !wanted(id))
}

/// Looks up a key that was not predicted after the transition `before`. `rest` begins with the key, after its quote, and `start` with
/// the bytes that lead to it. Returns the transition, what is known about the key, and the offset in `rest` after the colon.
#[inline(never)]
fn find_key(
    start: &[u8],
    rest: &[u8],
    table: &PathTable,
    prediction: &mut KeyPrediction,
    node: Node,
    before: TransitionId,
) -> Result<(TransitionId, Entry, usize), Fault> {
    if let Some((transition, entry, value)) = prediction.follow_previous(before, node, start) {
        return Ok((transition, entry, rest.len().wrapping_sub(value.len())));
    }
    // The quote of a string belongs to the transition.
    let length = |value: usize| {
        let quote = usize::from(rest.get(value) == Some(&b'"'));
        start
            .len()
            .wrapping_sub(rest.len())
            .wrapping_add(value)
            .wrapping_add(quote)
    };
    let is_whole = |prefix: &KeyPrefix| {
        let after = rest
            .get(prefix.length()..)
            .and_then(|after| after.first_chunk());
        after.is_some_and(|after| u16::from_le_bytes(*after) == AFTER_KEY)
    };
    let prefix = rest
        .first_chunk::<PREFIX>()
        .and_then(KeyPrefix::read)
        .filter(is_whole);
    let mut plain = None;
    if let Some(prefix) = prefix {
        let value = prefix.length().wrapping_add(2);
        if let Some(transition) = prediction.recall(before, node, start, length(value)) {
            return Ok((transition, prediction.transition(transition).entry, value));
        }
        let entry = table.find(node, prefix, &[]);
        plain = (entry.is_some() || !prefix.may_be_another()).then_some((entry, value));
    }
    let (entry, value) = match plain {
        Some(found) => found,
        None => find_long_key(rest, table, node)?,
    };
    let entry = entry.copied().unwrap_or(NO_ENTRY);
    Ok((
        prediction.learn(before, node, start, length(value), entry),
        entry,
        value,
    ))
}

/// What is known about a key that is long, has escapes or is not followed by its colon at once, and the offset in `rest` after the
/// colon.
#[cold]
fn find_long_key<'t>(
    rest: &[u8],
    table: &'t PathTable,
    node: Node,
) -> Result<(Option<&'t Entry>, usize), Fault> {
    let quote = string_end(rest, 0)?;
    let key = rest.get(..quote).unwrap_or_default();
    let unescaped = || text::unescape(key, MAX_TEXT);
    let entry = if key.contains(&b'\\') {
        table.find_text(node, &unescaped())
    } else {
        table.find_key(node, key)
    };
    let entry = if entry.is_none() && key.contains(&b'.') {
        table.find_dotted(node, &unescaped())
    } else {
        entry
    };
    let colon = skip_blank(rest, quote.wrapping_add(1));
    if rest.get(colon) != Some(&b':') {
        return Err(Fault::Malformed);
    }
    Ok((entry, colon.wrapping_add(1)))
}

/// The element of an array of one scalar: Elasticsearch returns `fields` like that, and pipelines keep values like that of which there
/// could be several.
#[cold]
fn only_scalar(bytes: &[u8], array: Place) -> Option<Place> {
    let element = cursor::only_element(bytes, array.start as usize)?;
    let place = Place::of_value(0, element);
    (place.spelling != Spelling::Absent).then_some(Place {
        rank: array.rank,
        ..place
    })
}

/// Why there can be no scalar where `first` is the first byte.
fn bad_scalar(first: u8, empty: bool) -> Fault {
    match (first, empty) {
        (0, _) => Fault::Nul,
        (_, true) => Fault::Malformed,
        (_, false) => Fault::Truncated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unwanted_event_in_xml_is_recognized_by_its_first_bytes() {
        let event = "<Event xmlns='x'><System><Provider Name='Microsoft-Windows-Sysmon'/><EventID>11</EventID></System></Event>";
        assert!(is_unwanted_xml(event.as_bytes(), &|id| id == 1));
        assert!(!is_unwanted_xml(event.as_bytes(), &|id| id == 11));
        assert!(!is_unwanted_xml(b"C:\\\\Windows", &|_| false));
        assert!(!is_unwanted_xml(b"<Event><System><EventID>1", &|_| false));
    }

    proptest::proptest! {
        #[test]
        fn any_start_of_xml_is_accepted(text in "<Event(<|>|'|\"|/|EventID|System|1|é|&| )*") {
            let _ = is_unwanted_xml(text.as_bytes(), &|_| true);
        }
    }
}
