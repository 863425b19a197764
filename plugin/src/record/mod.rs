//! Reading a record: from JSON bytes to the few facts that an event needs, touching as few bytes as possible.
//!
//! [`read`] walks the record once, iteratively, led by the merged [`PathTable`] of all producers and by
//! what like records looked like before. As soon as the
//! event id is known and no chain wants it, the walk ends: that answers for most records after a hundred bytes. What the
//! walk cannot find by name, because it stands in a string, in a list or under no name, is left to a decoder each: those
//! for whole events are chosen in `embedded`, those for an event's values in `complete`.

mod compose;
mod embedded;
pub mod endings;
mod form;
mod layout;
mod lines;
mod message;
mod nested;
mod otlp;
mod pairs;
pub mod positional;
pub mod scan;
pub mod shapes;
mod snare;
pub mod text;
pub mod xml;

use crate::normalize::address;
use endings::Endings;
use layout::{Layout, StepNumber};
use scan::{container_end, scalar_end, skip_blank, split_string, string_end};
use shapes::{
    Entry, Field, KeyPrefix, MAX_PATH, NO_ENTRY, Node, PREFIX, PRODUCERS, PathTable, ROOT,
};
use std::borrow::Cow;
use std::cell::Cell;
use std::net::IpAddr;

/// Why a record could not be examined. It then passes untouched and is counted under this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No bytes.
    Empty,
    /// Longer than the policy's `max_record_bytes`, or with a string too long to be looked into, in which no event was found.
    TooLarge,
    /// Not a JSON object.
    NotObject,
    /// Ends in the middle.
    Truncated,
    /// Nested deeper than [`scan::MAX_DEPTH`].
    TooDeep,
    /// A NUL byte where JSON allows none.
    Nul,
    /// Any other breach of JSON.
    Malformed,
}

/// Longest value taken from a record, in bytes of text. Longer ones are cut there: paths and command lines of
/// 1 KiB identify themselves, and state must stay bounded.
pub const MAX_TEXT: usize = 1024;

/// Longest event inside a string that is looked into, in bytes. Sysmon's are 2 to 4 KiB; a command line can have 32,767
/// characters, each of which XML may write in six bytes (`&quot;`).
const MAX_EMBEDDED: usize = 256 * 1024;

/// A key's last quote and its colon.
const BEHIND_KEY: u16 = u16::from_le_bytes(*b"\":");

/// Where a value stands and how it is written. Without padding, so that an array of them is zeroed in one go.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    start: u32,
    end: u32,
    kind: Kind,
    rank: u16,
}

impl Place {
    /// The first `length` bytes of `rest`, which are the last of `bytes`.
    #[inline(always)]
    fn of(bytes: &[u8], rest: &[u8], length: usize, kind: Kind, rank: u16) -> Place {
        let start = bytes.len().wrapping_sub(rest.len());
        Place {
            start: start as u32,
            end: start.wrapping_add(length) as u32,
            kind,
            rank,
        }
    }

    /// From `from` to `to` behind `base`; its rank is of no account, as it is [set](Fields::set).
    fn within(base: u32, from: usize, to: usize, kind: Kind) -> Place {
        Place {
            start: base.saturating_add(from as u32),
            end: base.saturating_add(to as u32),
            kind,
            rank: 0,
        }
    }
}

/// How a value is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// Not at all.
    #[default]
    Absent,
    /// Between the quotes of a JSON string.
    String,
    /// The same, of text whose backslashes were doubled and whose XML entities were kept before it was put there.
    Doubled,
    /// A number, `true`, `false` or `null`.
    Scalar,
    /// An array with its brackets.
    Array,
    /// Text inside a decoded string.
    Text,
    /// Text with XML entities inside a decoded string.
    XmlText,
}

/// What is known before anything was found.
const NOTHING: [Place; Field::COUNT] = [Place {
    start: 0,
    end: 0,
    kind: Kind::Absent,
    rank: 0,
}; Field::COUNT];

/// The facts found in one record, still as places in its bytes.
pub struct Fields<'a> {
    bytes: Cow<'a, [u8]>,
    /// Strings of the record that had to be decoded to be read; places of the kinds [`Kind::Text`] and
    /// [`Kind::XmlText`] are here, all others in `bytes`.
    decoded: Vec<u8>,
    places: [Place; Field::COUNT],
    /// The event's id, if the walk met it.
    id: Option<u32>,
    /// Keys that stated a field a second time in the same place; the first one holds.
    pub duplicates: u32,
    /// Whether a value that was asked for is not UTF-8. Old Fluent Bit packs account names in the machine's code page.
    pub invalid_utf8: Cell<bool>,
    /// Whether a string that was looked into is longer than [`MAX_EMBEDDED`], so that what stands behind was not seen.
    pub is_cut: Cell<bool>,
}

/// What the reader's caller is interested in. It is asked as early as possible, so that the rest need not be read.
pub trait Interest {
    /// Whether events of this id matter.
    fn wants(&self, event_id: u32) -> bool;

    /// The [set](Field::bit) of fields that together can rule out an event of this wanted id.
    fn deciding(&self, event_id: u32) -> u64;

    /// Whether what is known of an event with a wanted id so far already rules it out. Asked once all fields that decide were found;
    /// `false` when in doubt.
    fn is_hopeless(&self, event_id: u32, so_far: &Fields<'_>) -> bool;
}

/// What is known about records before one is read.
pub struct Reader {
    table: PathTable,
    layout: Layout,
}

/// One that reads the records of all [`PRODUCERS`] and has seen none.
impl Default for Reader {
    fn default() -> Reader {
        Reader {
            table: PathTable::new(PRODUCERS),
            layout: Layout::new(),
        }
    }
}

/// Walks `record`, as far as `interest` goes. `None`: it has an event id that nobody wants, or none at all.
///
/// Names are believed over positions, and both over text made for people; that is looked into only where nothing else
/// holds the event's values.
pub fn read<'a>(
    record: &'a [u8],
    reader: &mut Reader,
    interest: &impl Interest,
) -> Result<Option<Fields<'a>>, Fault> {
    let mut fields = Fields::new(Cow::Borrowed(record));
    if !fields.walk(record, reader, interest)? {
        // Nothing was decoded, so that there is nothing to give back: most records spare themselves the call.
        std::mem::forget(fields);
        return Ok(None);
    }
    if complete(&mut fields, reader, interest) {
        return Ok(Some(fields));
    }
    if fields.is_cut.get() {
        Err(Fault::TooLarge)
    } else {
        Ok(None)
    }
}

/// Finds what the walk through a record that may be wanted did not; whether it is an event that is wanted.
#[inline(never)]
fn complete(fields: &mut Fields<'_>, reader: &mut Reader, interest: &impl Interest) -> bool {
    if !fields.has(Field::EventId) && !embedded::open(fields, reader, interest) {
        return false;
    }
    if fields.lacks_data() {
        name_data(fields);
    }
    compose::stand_in(fields);
    true
}

/// Finds the values of an event that stand under no name. Apart, as are other parts that are seldom needed: on an interpreter a call
/// costs the more, the more the function has of variables and constants.
#[cold]
#[inline(never)]
fn name_data(fields: &mut Fields<'_>) {
    let _found = xml::name_data(fields)
        || pairs::name_pairs(fields)
        || positional::name_inserts(fields)
        || message::name_lines(fields);
}

impl<'a> Fields<'a> {
    fn new(bytes: Cow<'a, [u8]>) -> Fields<'a> {
        Fields {
            bytes,
            decoded: Vec::new(),
            places: NOTHING,
            id: None,
            duplicates: 0,
            invalid_utf8: Cell::new(false),
            is_cut: Cell::new(false),
        }
    }

    /// Returns false as soon as it is certain that nobody wants the record.
    #[inline(always)]
    fn walk(
        &mut self,
        bytes: &[u8],
        reader: &mut Reader,
        interest: &impl Interest,
    ) -> Result<bool, Fault> {
        let Reader { table, layout } = reader;
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
        // The fields that were found, and those that decide: each as soon as it is found until the event's id is known, then as soon as
        // all of them were.
        let mut found = 0u64;
        let mut deciding = Field::EventId.bit() | Field::Embedded.bit() | Field::Message.bit();
        let mut step = Layout::START;
        let mut expected = layout.step(step).next;
        // `rest` is what was not walked yet. As many bytes as possible are asked for at once: on an interpreter the asking costs
        // more than what is done with them.
        'members: loop {
            let entry: &Entry;
            let looked_up;
            let mut is_string;
            match layout.follow(expected, u32::from(node), rest) {
                Some((taken, value)) => {
                    step = expected;
                    expected = taken.next;
                    entry = &taken.entry;
                    is_string = taken.is_string;
                    rest = value;
                }
                None => {
                    let start = rest;
                    // Mostly a member follows the one before it directly.
                    let member = if let [b',', member @ ..] = start {
                        member
                    } else {
                        start
                    };
                    let (byte, behind) = member.split_first().ok_or(Fault::Truncated)?;
                    rest = behind;
                    match byte {
                        b'"' => {
                            let value;
                            (step, looked_up, value) =
                                find(start, behind, table, layout, node, step)?;
                            entry = &looked_up;
                            rest = behind.get(value..).ok_or(Fault::Truncated)?;
                            is_string = rest.first() == Some(&b'"');
                            expected = layout.step(step).next;
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
                    let mut place = Place::of(bytes, value, length, entry.text, rank());
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
                        let array = Place::of(bytes, value, length, Kind::Array, rank());
                        if let Some(field) = entry.array {
                            break (field, array);
                        }
                        let Some(stated) = entry.scalar.zip(only_element(bytes, array)) else {
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
                        break (field, Place::of(bytes, value, length, Kind::Scalar, rank()));
                    }
                    [] => return Err(Fault::Truncated),
                }
            };
            if !self.put(field, place) {
                continue;
            }
            // At most 64 fields: the shift takes fewer steps than `Field::bit`, which checks that.
            found |= 1u64.wrapping_shl(field as u32);
            if deciding.wrapping_shr(field as u32) & 1 == 0 {
                continue;
            }
            if field == Field::EventId {
                let plain = bytes
                    .get(place.start as usize..place.end as usize)
                    .and_then(digits);
                let Some(number) = plain
                    .or_else(|| self.number(Field::EventId))
                    .filter(|id| interest.wants(*id))
                else {
                    return Ok(false);
                };
                self.id = Some(number);
                deciding = Field::EventId.bit() | interest.deciding(number);
            }
            if (self.id.is_none() || found & deciding == deciding)
                && self.is_ruled_out(field, interest)
            {
                return Ok(false);
            }
        }
    }

    /// Whether, with `field` just found, it is certain that nobody wants the record.
    /// Seldom asked, and so apart.
    #[inline(never)]
    fn is_ruled_out(&self, field: Field, interest: &impl Interest) -> bool {
        match self.id {
            Some(id) => interest.is_hopeless(id, self),
            None => xml::is_surely_unwanted(self.raw(field).unwrap_or_default(), &|id| {
                interest.wants(id)
            }),
        }
    }

    /// Notes a place unless a better one is known; tells whether it did.
    fn put(&mut self, field: Field, place: Place) -> bool {
        let Some(known) = self.places.get_mut(field as usize) else {
            return false;
        };
        if known.kind != Kind::Absent && known.rank <= place.rank {
            self.duplicates = self
                .duplicates
                .saturating_add(u32::from(known.rank == place.rank));
            return false;
        }
        *known = place;
        true
    }

    /// Notes a place, whatever was known. For values that are believed over strays of the same name.
    fn set(&mut self, field: Field, place: Place) {
        if let Some(known) = self.places.get_mut(field as usize) {
            *known = place;
        }
    }

    fn place(&self, field: Field) -> Place {
        self.places.get(field as usize).copied().unwrap_or_default()
    }

    fn has(&self, field: Field) -> bool {
        self.place(field).kind != Kind::Absent
    }

    /// Whether no named values were found. All events of Sysmon that are of use have `Image`, 4624 has `LogonType`.
    fn lacks_data(&self) -> bool {
        !self.has(Field::Image) && !self.has(Field::LogonType)
    }

    fn slice(&self, place: Place) -> Option<&[u8]> {
        let bytes = match place.kind {
            Kind::Absent => return None,
            Kind::Text | Kind::XmlText => &self.decoded[..],
            Kind::String | Kind::Doubled | Kind::Scalar | Kind::Array => &self.bytes[..],
        };
        bytes.get(place.start as usize..place.end as usize)
    }

    fn raw(&self, field: Field) -> Option<&[u8]> {
        self.slice(self.place(field))
    }

    /// The text of a whole string, cut to [`MAX_EMBEDDED`].
    fn whole(&self, raw: &[u8]) -> String {
        let text = text::unescape(raw, MAX_EMBEDDED);
        // It is cut between characters.
        let is_cut = raw.len() > MAX_EMBEDDED
            && text.len().saturating_add(char::MAX.len_utf8()) > MAX_EMBEDDED;
        self.is_cut.set(self.is_cut.get() || is_cut);
        text
    }

    /// The text of a whole string, with where it stands in `decoded`, where it is put if need be.
    fn decode(&mut self, field: Field) -> Option<(String, u32)> {
        let place = self.place(field);
        let raw = self.slice(place)?;
        if place.kind == Kind::Text {
            return Some((String::from_utf8_lossy(raw).into_owned(), place.start));
        }
        let text = self.whole(raw);
        let start = u32::try_from(self.decoded.len()).ok()?;
        self.decoded.extend_from_slice(text.as_bytes());
        Some((text, start))
    }

    /// The value as text, cut to [`MAX_TEXT`]; `None` for all the ways producers write "nothing".
    pub fn text(&self, field: Field) -> Option<Cow<'_, str>> {
        self.text_within(self.place(field), MAX_TEXT)
            .or_else(|| compose::text(self, field).map(Cow::Owned))
    }

    /// The same, cut to `limit` bytes.
    pub fn text_up_to(&self, field: Field, limit: usize) -> Option<Cow<'_, str>> {
        self.text_within(self.place(field), limit)
    }

    #[inline(always)]
    fn text_within(&self, place: Place, limit: usize) -> Option<Cow<'_, str>> {
        let raw = self.slice(place)?;
        // Most values are their own text.
        if raw.len() <= limit
            && matches!(place.kind, Kind::String | Kind::Scalar | Kind::Text)
            && scan::is_plain(raw)
        {
            let text = std::str::from_utf8(raw).ok()?;
            return (!form::is_nothing(text)).then_some(Cow::Borrowed(text));
        }
        self.other_text(place, raw, limit)
    }

    #[inline(never)]
    fn other_text(&self, place: Place, raw: &[u8], limit: usize) -> Option<Cow<'_, str>> {
        let text = match place.kind {
            Kind::String => text::unescape(raw, limit),
            Kind::Doubled => text::cut(
                text::undouble(&text::unescape(raw, limit.saturating_mul(6))),
                limit,
            ),
            Kind::XmlText => {
                let part = raw
                    .get(..raw.len().min(limit.saturating_mul(6)))
                    .unwrap_or(raw);
                text::cut(text::unentity(&String::from_utf8_lossy(part)), limit)
            }
            Kind::Text => text::cut(String::from_utf8_lossy(raw).into_owned(), limit),
            Kind::Scalar => text::cut(String::from_utf8_lossy(raw).into_owned(), limit),
            Kind::Array | Kind::Absent => return None,
        };
        // What was cut off may be no UTF-8, too.
        let is_usual = raw.len() <= limit && scan::is_printable(text.as_bytes());
        let text = if is_usual {
            text
        } else {
            self.odd_text(text, raw, limit)
        };
        (!form::is_nothing(&text)).then_some(Cow::Owned(text))
    }

    /// Text of `raw` that may be more than printable ASCII, without what an alert should not hold.
    #[cold]
    #[inline(never)]
    fn odd_text(&self, text: String, raw: &[u8], limit: usize) -> String {
        if std::str::from_utf8(raw).is_err() {
            self.invalid_utf8.set(true);
        }
        // JSON writes most control characters six bytes long, and an alert must stay small.
        let odd = |c: char| c.is_ascii_control() && !matches!(c, '\n' | '\r' | '\t');
        if text.contains(odd) {
            text::cut(text.replace(odd, "\u{fffd}"), limit)
        } else {
            text
        }
    }

    /// The value as a number, whether it was written as one or as a string of digits.
    pub fn number(&self, field: Field) -> Option<u32> {
        let raw = self.raw(field)?;
        digits(raw).or_else(|| self.text(field)?.trim().parse().ok())
    }

    /// TEMPORARY
    pub fn has_certain_host(&self) -> bool {
        self.has(Field::Computer)
    }

    /// The event's id.
    pub fn event_id(&self) -> Option<u32> {
        self.id.or_else(|| self.number(Field::EventId))
    }

    /// The value as a port.
    pub fn port(&self, field: Field) -> Option<u16> {
        u16::try_from(self.number(field)?).ok()
    }

    /// Whether the value is written just as `text` is: in far fewer steps than to read it. What is not may still be the same text.
    #[inline(always)]
    pub fn is(&self, field: Field, text: &'static str) -> bool {
        self.raw(field)
            .is_some_and(|raw| scan::is_same(raw, text.as_bytes()))
    }

    /// The value as it stands between the quotes of a JSON string; `None` if it does not.
    #[inline(always)]
    pub fn raw_string(&self, field: Field) -> Option<&[u8]> {
        let place = self.place(field);
        self.slice(place).filter(|_| place.kind == Kind::String)
    }

    /// Whether it is certain that there is a value, and that it ends with none of `endings`, whatever its case.
    pub fn ends_with_none(&self, field: Field, endings: &Endings) -> bool {
        let place = self.place(field);
        let raw = self.slice(place).filter(|raw| !raw.is_empty());
        raw.is_some_and(|raw| {
            endings.are_none_of(raw, matches!(place.kind, Kind::XmlText | Kind::Doubled))
        })
    }

    /// The first character behind any backslashes and the last one, in lower case, of a value of ASCII; `None` if there is no
    /// value or something in it could make them others.
    pub fn first_and_last(&self, field: Field) -> Option<(u8, u8)> {
        let place = self.place(field);
        let raw = self.slice(place).filter(|_| place.kind == Kind::String)?;
        let start = raw.iter().position(|byte| *byte != b'\\')?;
        let first = raw.get(start)?;
        let [.., before, last] = raw else { return None };
        // Backslashes are doubled; one alone makes something else of what is behind it.
        let escaped = start & 1 == 1 || *before == b'\\' || scan::may_hold_unicode_escape(raw);
        let nothing = std::str::from_utf8(raw).is_ok_and(form::is_nothing);
        (!escaped && !nothing && first.is_ascii() && last.is_ascii())
            .then(|| (first.to_ascii_lowercase(), last.to_ascii_lowercase()))
    }

    /// The value as a number of up to 64 bits.
    pub fn long(&self, field: Field) -> Option<u64> {
        self.raw(field)
            .and_then(digits)
            .map(u64::from)
            .or_else(|| self.text(field)?.trim().parse().ok())
    }

    /// The value as a truth value, written as JSON, as text in either case, or as the direction that the Elastic Common
    /// Schema makes of Sysmon's `Initiated`.
    pub fn truth(&self, field: Field) -> Option<bool> {
        match self.raw(field)? {
            b"true" => return Some(true),
            b"false" => return Some(false),
            _ => {}
        }
        let text = self.text(field)?;
        let is = |word: &str| text.eq_ignore_ascii_case(word);
        if ["true", "egress", "outbound"].into_iter().any(is) {
            return Some(true);
        }
        ["false", "ingress", "inbound"]
            .into_iter()
            .any(is)
            .then_some(false)
    }

    /// The value as an address.
    pub fn address(&self, field: Field) -> Option<IpAddr> {
        let plain = self.raw(field).and_then(address::parse_plain);
        plain.or_else(|| address::parse(&self.text(field)?))
    }

    /// Whether any text found is longer than [`MAX_TEXT`].
    pub fn has_cut_text(&self) -> bool {
        let values = || self.places.iter().take(Field::Embedded as usize);
        let length = |place: &Place| place.end.wrapping_sub(place.start);
        // Only a long one is worth a closer look: escapes make it shorter. Mostly none is, which takes fewest steps to see of all at once.
        values().fold(0, |all, place| all | length(place)) as usize > MAX_TEXT
            && values().any(|place| length(place) as usize > MAX_TEXT && self.is_cut(*place))
    }

    #[cold]
    fn is_cut(&self, place: Place) -> bool {
        !matches!(place.kind, Kind::Absent | Kind::Scalar | Kind::Array)
            && self
                .text_within(place, MAX_TEXT.saturating_add(4))
                .is_some_and(|text| text.len() > MAX_TEXT)
    }
}

/// Looks up a key that did not come where it was expected, behind the step `before`. It begins with `rest`, behind its quote, and
/// `start` with what leads to it. Returns its step, what stands under it, and where in `rest` the colon ends.
#[inline(never)]
fn find(
    start: &[u8],
    rest: &[u8],
    table: &PathTable,
    layout: &mut Layout,
    node: Node,
    before: StepNumber,
) -> Result<(StepNumber, Entry, usize), Fault> {
    if let Some((step, entry, value)) = layout.follow_other(before, node, start) {
        return Ok((step, entry, rest.len().wrapping_sub(value.len())));
    }
    // The quote of a string belongs to the step.
    let length = |value: usize| {
        let quote = usize::from(rest.get(value) == Some(&b'"'));
        start
            .len()
            .wrapping_sub(rest.len())
            .wrapping_add(value)
            .wrapping_add(quote)
    };
    let is_whole = |prefix: &KeyPrefix| {
        let behind = rest
            .get(prefix.length()..)
            .and_then(|behind| behind.first_chunk());
        behind.is_some_and(|behind| u16::from_le_bytes(*behind) == BEHIND_KEY)
    };
    let prefix = rest
        .first_chunk::<PREFIX>()
        .and_then(KeyPrefix::read)
        .filter(is_whole);
    let mut plain = None;
    if let Some(prefix) = prefix {
        let value = prefix.length().wrapping_add(2);
        if let Some(step) = layout.recall(before, node, start, length(value)) {
            return Ok((step, layout.step(step).entry, value));
        }
        let entry = table.find(node, prefix, &[]);
        plain = (entry.is_some() || !prefix.may_be_another()).then_some((entry, value));
    }
    let (entry, value) = match plain {
        Some(found) => found,
        None => find_long(rest, table, node)?,
    };
    let entry = entry.copied().unwrap_or(NO_ENTRY);
    Ok((
        layout.learn(before, node, start, length(value), entry),
        entry,
        value,
    ))
}

/// What stands under a key that is long, has escapes or is not followed by its colon at once, and where in `rest` the colon ends.
#[cold]
fn find_long<'t>(
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

/// The element of an array of one scalar: how Elasticsearch returns `fields`, and how pipelines keep what could be many.
#[cold]
fn only_element(bytes: &[u8], array: Place) -> Option<Place> {
    let start = skip_blank(bytes, (array.start as usize).wrapping_add(1));
    let (start, end, behind, kind) = if bytes.get(start) == Some(&b'"') {
        let start = start.wrapping_add(1);
        let end = string_end(bytes, start).ok()?;
        (start, end, end.wrapping_add(1), Kind::String)
    } else {
        let end = scalar_end(bytes, start);
        (start, end, end, Kind::Scalar)
    };
    let is_scalar =
        kind == Kind::String || start < end && !matches!(bytes.get(start), Some(b'[' | b'{'));
    let is_only = is_scalar && bytes.get(skip_blank(bytes, behind)) == Some(&b']');
    is_only.then_some(Place {
        start: start as u32,
        end: end as u32,
        kind,
        rank: array.rank,
    })
}

/// The number that a few plain digits are.
#[inline(always)]
fn digits(raw: &[u8]) -> Option<u32> {
    // More than nine might not fit.
    if raw.is_empty() || raw.len() > 9 {
        return None;
    }
    let mut value = 0u32;
    for byte in raw {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.wrapping_mul(10).wrapping_add(u32::from(digit));
    }
    Some(value)
}

/// Why no scalar can stand where `first` is the first byte.
fn bad_scalar(first: u8, empty: bool) -> Fault {
    match (first, empty) {
        (0, _) => Fault::Nul,
        (_, true) => Fault::Malformed,
        (_, false) => Fault::Truncated,
    }
}

/// The last `count` bytes.
fn tail(bytes: &[u8], count: usize) -> &[u8] {
    bytes
        .get(bytes.len().saturating_sub(count)..)
        .unwrap_or_default()
}

#[cfg(test)]
pub mod testing;

#[cfg(test)]
mod tests {
    use super::*;

    struct Only11;

    impl Interest for Only11 {
        fn wants(&self, event_id: u32) -> bool {
            event_id == 11
        }

        fn deciding(&self, _: u32) -> u64 {
            Field::TargetFilename.bit()
        }

        fn is_hopeless(&self, _: u32, so_far: &Fields<'_>) -> bool {
            so_far
                .text(Field::TargetFilename)
                .is_some_and(|file| file.to_lowercase().ends_with("hopeless"))
        }
    }

    fn fields(record: &str) -> Fields<'_> {
        match read(record.as_bytes(), &mut Reader::default(), &Only11) {
            Ok(Some(fields)) => fields,
            Ok(None) => panic!("unwanted: {record}"),
            Err(fault) => panic!("{fault:?}: {record}"),
        }
    }

    fn outcome(record: &[u8]) -> Result<bool, Fault> {
        read(record, &mut Reader::default(), &Only11).map(|reading| reading.is_some())
    }

    #[test]
    fn the_envelope_is_believed_in_the_order_of_the_tables() {
        let flat = fields(
            r#"{"@timestamp":"collector","Hostname":"H","EventTime":"logged","EventID":"11","Image":"System","host":"wec"}"#,
        );
        assert_eq!(flat.text(Field::LoggedTime).as_deref(), Some("logged"));
        assert_eq!(flat.text(Field::Computer).as_deref(), Some("H"));
        assert_eq!(flat.text(Field::Image).as_deref(), Some("System"));
        let object = fields(
            r##"{ "Event" : { "System" : { "EventID" : { "#text" : 11 } , "Computer":"C" } } }"##,
        );
        assert_eq!(object.number(Field::EventId), Some(11));
        assert_eq!(object.text(Field::Computer).as_deref(), Some("C"));
    }

    #[test]
    fn escapes_and_duplicates_hide_nothing() {
        let hidden = fields(
            r#"{"\u0045ventID":11,"Parent\u0050rocessGuid":"{g}","Image":"a","Image":"b","ProviderName":"Micro\u0073oft"}"#,
        );
        assert_eq!(
            hidden.text(Field::ParentProcessGuid).as_deref(),
            Some("{g}")
        );
        assert_eq!(hidden.text(Field::Provider).as_deref(), Some("Microsoft"));
        assert_eq!(hidden.text(Field::Image).as_deref(), Some("a"));
        assert_eq!(hidden.duplicates, 1);
    }

    #[test]
    fn a_nested_or_quoted_copy_of_an_event_is_not_the_event() {
        assert_eq!(
            outcome(br#"{"x":{"EventID":11},"y":"\"EventID\":11","EventID":5}"#),
            Ok(false)
        );
        assert_eq!(outcome(br#"{"x":[{"EventID":5}],"EventID":11}"#), Ok(true));
    }

    #[test]
    fn wrapped_flattened_and_listed_values_are_found() {
        for record in [
            r#"{"_source":{"winlog":{"event_id":"11","event_data":{"Image":"System"}}},"fields":{"winlog.event_data.Image":["copy"]}}"#,
            r#"{"fields":{"winlog.event_id":["11"],"winlog.event_data.Image":["System"]}}"#,
            r#"{"winlog.event_id":11,"winlog":{"event_data.Image":"System"}}"#,
            r#"{"event.code":"11","process.executable":"System"}"#,
            r#"{"document":{"data":{"Event":{"System":{"EventID":11},"EventData":{"Image":"System"}}}}}"#,
            r#"{"data.win.system.eventID":"11","data":{"win":{"eventdata":{"image":"System"}}}}"#,
            r#"{"winlog.\u0065vent_id":[ 11 ],"Image":"System"}"#,
        ] {
            assert_eq!(
                fields(record).text(Field::Image).as_deref(),
                Some("System"),
                "{record}"
            );
            assert_eq!(fields(record).duplicates, 0, "{record}");
        }
        for record in [
            r#"{"EventID":[11,5]}"#,
            r#"{"EventID":[]}"#,
            r#"{"EventID":[[11]]}"#,
            r#"{"EventID":[{"x":11}]}"#,
        ] {
            assert_eq!(outcome(record.as_bytes()), Ok(false), "{record}");
        }
    }

    #[test]
    fn a_time_of_the_event_is_believed_over_the_relays() {
        for record in [
            r#"{"timestamp":"relay","message":{"event_id":{"id":11},"system_time":"own"}}"#,
            r#"{"timestamp":"relay","data":{"win":{"system":{"eventID":"11","systemTime":"own"}}}}"#,
            r#"{"@timestamp":"relay","EventTime":"own","EventID":11}"#,
            r#"{"timestamp":"relay","message":"{\"EventID\":11,\"TimeCreated\":\"own\"}"}"#,
        ] {
            assert_eq!(
                fields(record).text(Field::LoggedTime).as_deref(),
                Some("own"),
                "{record}"
            );
        }
    }

    #[test]
    fn values_in_parts_or_in_other_words() {
        let ecs = fields(
            r#"{"event":{"code":"11"},"user":{"name":"alice","domain":"CORP"},"network":{"direction":"ingress"},
                "process":{"hash":{"md5":"ab","sha256":"cd"}},"source":{"ip":"10.0.0.5","port":50211}}"#,
        );
        assert_eq!(ecs.text(Field::User).as_deref(), Some("CORP\\alice"));
        assert_eq!(ecs.text(Field::Hashes).as_deref(), Some("MD5=AB,SHA256=CD"));
        assert_eq!(ecs.truth(Field::Initiated), Some(false));
        assert_eq!(ecs.number(Field::IpPort), Some(50211));
        assert_eq!(ecs.text(Field::IpAddress).as_deref(), Some("10.0.0.5"));
        let wazuh = fields(
            r#"{"win":{"system":{"eventID":"11"},"eventdata":{"image":"C:\\\\a &amp; b\\\\services.exe"}}}"#,
        );
        assert_eq!(
            wazuh.text(Field::Image).as_deref(),
            Some(r"C:\a & b\services.exe")
        );
        assert!(!wazuh.ends_with_none(Field::Image, &Endings::new(&["services.exe"])));
    }

    #[test]
    fn every_form_of_nothing_is_nothing() {
        for nothing in [r#""-""#, r#""""#, "null", r#""(NULL)""#, "[]", "{}"] {
            let record = format!(r#"{{"EventID":11,"Image":{nothing},"TargetFilename":"x"}}"#);
            assert_eq!(fields(&record).text(Field::Image), None, "{record}");
        }
        assert_eq!(fields(r#"{"EventID":11}"#).text(Field::Image), None);
    }

    #[test]
    fn what_is_no_text_is_replaced_and_told() {
        let long = "a".repeat(2 * MAX_TEXT);
        for (raw, text, is_invalid) in [
            (
                b"a\\u0001b\\u007f\\tc".to_vec(),
                "a\u{fffd}b\u{fffd}\tc".to_owned(),
                false,
            ),
            (b"a\x01b\\\\".to_vec(), "a\u{fffd}b\\".to_owned(), false),
            (b"B\xdcRO".to_vec(), "B\u{fffd}RO".to_owned(), true),
            (
                "B\u{dc}RO".as_bytes().to_vec(),
                "B\u{dc}RO".to_owned(),
                false,
            ),
            // Behind the cut.
            (
                [long.as_bytes(), b"\xdc"].concat(),
                "a".repeat(MAX_TEXT),
                true,
            ),
            (
                [br"C:\\".as_slice(), long.as_bytes(), b"\xdc"].concat(),
                format!(r"C:\{}", "a".repeat(MAX_TEXT - 3)),
                true,
            ),
        ] {
            let record = [br#"{"EventID":11,"Image":""#.as_slice(), &raw, br#""}"#].concat();
            let fields = read(&record, &mut Reader::default(), &Only11)
                .expect("it is JSON")
                .expect("it is wanted");
            assert_eq!(fields.text(Field::Image).as_deref(), Some(&*text));
            assert_eq!(fields.invalid_utf8.get(), is_invalid, "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_an_event_is_none() {
        let event = r"<Event><System><EventID>11</EventID></System></Event>";
        for string in [
            "Sysmon",
            "Microsoft-Windows-Sysmon EventID=11",
            &format!("a user typed {event}"),
            r#"note {\"EventID\":11}"#,
            r"EventID=11\nProviderName=Microsoft-Windows-Sysmon",
            r"Process Create:\nUtcTime: 2024-09-14 09:52:34.210\nProcessGuid: {3f1a2b4c-5cd2-66e5-a907-000000004100}\nImage: C:\\a.exe",
            &format!(r#"{}\tMSWinEventLog\t1\tc\t1\tt\t11\tp"#, "x".repeat(200)),
            r"MSWinEventLog 1 c 1 t 11 p",
            r"<Event><System><EventID>11",
            r#"{\"EventID\":5}"#,
            r#"{\"x\":{\"EventID\":11}}"#,
            r#"{\"message\":\"{\\\"message\\\":\\\"{\\\\\\\"EventID\\\\\\\":11}\\\"}\"}"#,
        ] {
            for key in ["message", "log", "Message", "_raw"] {
                let record = format!(r#"{{"{key}":"{string}"}}"#);
                assert_eq!(outcome(record.as_bytes()), Ok(false), "{record}");
            }
        }
        // The same inside a value of another event.
        let quoted = format!(r#"{{"EventID":5,"CommandLine":"{event}","message":"{event}"}}"#);
        assert_eq!(outcome(quoted.as_bytes()), Ok(false));
        let quoted =
            format!(r#"{{"Image":"{event}","EventID":11,"CommandLine":"{{\"Image\":\"x\"}}"}}"#);
        assert_eq!(fields(&quoted).text(Field::Image).as_deref(), Some(event));
    }

    #[test]
    fn the_walk_ends_at_an_unwanted_id() {
        // What follows is not even JSON; nobody looks at it.
        assert_eq!(outcome(br#"{"EventID":5,!!!"#), Ok(false));
        // The same when both the id and what rules it out are known, in either order.
        assert_eq!(
            outcome(br#"{"EventID":11,"TargetFilename":"c:\\Hopeless",!!!"#),
            Ok(false)
        );
        assert_eq!(
            outcome(br#"{"TargetFilename":"hopeless","EventID":11,!!!"#),
            Ok(false)
        );
        assert_eq!(
            outcome(br#"{"TargetFilename":"hope","EventID":11}"#),
            Ok(true)
        );
    }

    #[test]
    fn faults_are_named() {
        for (record, want) in [
            (&b""[..], Fault::Empty),
            (b"  ", Fault::Empty),
            (b"[1]", Fault::NotObject),
            (b"{\"EventID\":11", Fault::Truncated),
            (b"{\"EventID\":11,\"Image\":\"x", Fault::Truncated),
            (b"{\"EventID\":11,\"a\":", Fault::Truncated),
            (b"{\"EventID\":11,\"a\":[[[", Fault::Truncated),
            (b"{\"EventID\" 11}", Fault::Malformed),
            (b"{\"a\":,\"EventID\":11}", Fault::Malformed),
            (b"{\"a\":1,\0\"EventID\":11}", Fault::Nul),
            (b"{\"a\":\0,\"EventID\":11}", Fault::Nul),
        ] {
            assert_eq!(
                outcome(record),
                Err(want),
                "{}",
                String::from_utf8_lossy(record)
            );
        }
        let deep = format!(
            "{{\"a\":{}{},\"EventID\":11}}",
            "[".repeat(200),
            "]".repeat(200)
        );
        assert_eq!(outcome(deep.as_bytes()), Err(Fault::TooDeep));
        let fits = format!(
            "{{\"a\":{}{},\"EventID\":11}}",
            "[".repeat(128),
            "]".repeat(128)
        );
        assert_eq!(outcome(fits.as_bytes()), Ok(true));
    }

    /// Everything that was read of a record.
    fn all_of(record: &str, reader: &mut Reader) -> Result<Option<String>, Fault> {
        let fields = read(record.as_bytes(), reader, &Only11)?;
        Ok(fields.map(|fields| {
            format!(
                "{:?} {:?} {}",
                fields.places, fields.decoded, fields.duplicates
            )
        }))
    }

    #[test]
    fn more_keys_than_can_be_kept_are_read_all_the_same() {
        let mut reader = Reader::default();
        let record = |n: u32| {
            let others: String = (0..64)
                .map(|key| format!(r#""Nobody{}":"x","#, n * 61 + key))
                .collect();
            format!(
                r#"{{{others}"EventID":11,{others}"Image":"{n}",{others}"TargetFilename":"x"}}"#
            )
        };
        for n in 0..100 {
            let record = record(n);
            let fields = read(record.as_bytes(), &mut reader, &Only11)
                .unwrap()
                .unwrap();
            assert_eq!(fields.text(Field::Image), Some(n.to_string().into()));
        }
    }

    proptest::proptest! {
        #[test]
        fn what_was_read_before_is_of_no_account(
            records in proptest::collection::vec(
                r#"\{("EventID":11,)?(("(Image|Ima\\u0067e|User|Source|data|winlog|event_data|win|eventdata|image|fields|Nonsense|Sourc#|A key of 24 letters, 1234|EventData|System|EventID)"[ ]?:[ ]?|[{},])("[a\\]{0,2}(\\")?"|11|null|\{|\}|\["x"\]|[{]"EventID":11,)?[ ]?[,}]?){0,12}\}"#,
                1..8,
            ),
        ) {
            // Behind each record blanks as long as a step may be, so that every one can be taken.
            let records: Vec<String> = records.iter().map(|record| format!("{record}{}", " ".repeat(48))).collect();
            let mut reader = Reader::default();
            for _ in 0..2 {
                for record in &records {
                    proptest::prop_assert_eq!(all_of(record, &mut reader), all_of(record, &mut Reader::default()), "{}", record);
                }
            }
        }

        #[test]
        fn first_and_last_are_those_of_the_text(raw in r#"(\\\\|\\[nu"x]|\\u00(41|5c)|[aZ-]|null|é|\(NULL\)){0,5}"#) {
            let record = format!(r#"{{"EventID":11,"PipeName":"{raw}"}}"#);
            let fields = fields(&record);
            let text = fields.text(Field::PipeName).unwrap_or_default();
            let name = crate::normalize::lower(text.trim_start_matches('\\'));
            if let Some((first, last)) = fields.first_and_last(Field::PipeName) {
                proptest::prop_assert_eq!((name.bytes().next(), name.bytes().last()), (Some(first), Some(last)), "{}", raw);
            }
        }

        #[test]
        fn reading_is_total(record: Vec<u8>) {
            let _ = outcome(&record);
        }

        #[test]
        fn reading_strings_in_strings_is_total(
            key in "message|log|EventData|resourceLogs",
            text in r##"(<Event|</System>|<EventID>11<|<Data Name='Image'>|\\"|\{|\}|\[|\]|,|:|EventID|11|MSWinEventLog|\\t|\\n|ProviderName=|EventID=|Message=|Image: |é|\\)*"##,
        ) {
            for record in [format!(r#"{{"{key}":"{text}"}}"#), format!(r#"{{"EventID":11,"{key}":"{text}"}}"#)] {
                if let Ok(Some(fields)) = read(record.as_bytes(), &mut Reader::default(), &Only11) {
                    proptest::prop_assert_eq!(fields.number(Field::EventId), Some(11));
                }
            }
        }

        #[test]
        fn reading_lists_is_total(
            key in "StringInserts|EventData|resourceLogs",
            text in r##"([{}\[\],:]|"(key|value|values|kvlistValue|stringValue|intValue|body|scopeLogs|logRecords|EventID|Image|11)"|11| )*"##,
        ) {
            for record in [format!(r#"{{"{key}":[{text}]}}"#), format!(r#"{{"EventID":11,"{key}":[{text}]}}"#)] {
                let _ = outcome(record.as_bytes());
            }
        }

        #[test]
        fn reading_json_like_text_is_total(text in r##"\{("EventID":(11|"11"|\{"#text":11\})|"System":"<Event><EventID>11|"StringInserts":\["[0-9:. {}-]{0,24}"|"[a-zEI\\\\]{0,20}"|[{}\[\],:0-9])*"##) {
            if let Ok(Some(fields)) = read(text.as_bytes(), &mut Reader::default(), &Only11) {
                proptest::prop_assert_eq!(fields.number(Field::EventId), Some(11));
            }
        }
    }
}
