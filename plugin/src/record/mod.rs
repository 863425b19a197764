//! Reading a record: from JSON bytes to the few facts that an event needs, touching as few bytes as possible.
//!
//! [`read`] walks the record once, iteratively, led by the merged [`PathTable`] of all producers. As soon as the
//! event id is known and no chain wants it, the walk ends: that answers for most records after a hundred bytes.

pub mod positional;
pub mod scan;
pub mod shapes;
pub mod text;
pub mod xml;

use scan::{container_end, scalar_end, skip_blank, string_end};
use shapes::{Field, KeyPrefix, MAX_PATH, PathTable, ROOT};
use std::net::IpAddr;

/// Why a record could not be examined. It then passes untouched and is counted under this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No bytes.
    Empty,
    /// Longer than the policy's `max_record_bytes`.
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

/// Longest XML rendering that is looked into, in bytes. Sysmon's are 2 to 4 KiB; a command line can hold 32 KiB.
const MAX_XML: usize = 96 * 1024;

/// Where a value stands and how it is written.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    start: u32,
    end: u32,
    kind: Kind,
    rank: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Absent,
    /// Between the quotes of a JSON string.
    String,
    /// A number, `true`, `false` or `null`.
    Scalar,
    /// An array with its brackets.
    Array,
    /// Text with XML entities.
    XmlText,
}

/// The facts found in one record, still as places in its bytes.
pub struct Fields<'a> {
    bytes: std::borrow::Cow<'a, [u8]>,
    places: [Place; Field::COUNT],
    /// Keys that stated a field a second time in the same place; the first one holds.
    pub duplicates: u32,
}

/// The outcome of [`read`].
pub enum Reading<'a> {
    /// An event that may matter.
    Event(Fields<'a>),
    /// Has an event id that nobody wants, or none at all.
    Unwanted,
}

/// Walks `record`. `wanted` decides on the event id, as early as it is known.
pub fn read<'a>(record: &'a [u8], table: &PathTable, wanted: impl Fn(u32) -> bool) -> Result<Reading<'a>, Fault> {
    let mut fields = Fields::new(std::borrow::Cow::Borrowed(record));
    if !fields.walk(record, table, &wanted)? {
        return Ok(Reading::Unwanted);
    }
    if fields.place(Field::EventId).kind == Kind::Absent {
        // Nothing but, perhaps, a rendering of the whole event inside a string.
        let Some(raw) = fields.raw(Field::Xml) else { return Ok(Reading::Unwanted) };
        return Ok(match xml::read(raw, &wanted) {
            Some(fields) => Reading::Event(fields),
            None => Reading::Unwanted,
        });
    }
    if fields.place(Field::Image).kind == Kind::Absent {
        positional::name_inserts(&mut fields);
    }
    Ok(Reading::Event(fields))
}

impl<'a> Fields<'a> {
    fn new(bytes: std::borrow::Cow<'a, [u8]>) -> Fields<'a> {
        Fields { bytes, places: [Place::default(); Field::COUNT], duplicates: 0 }
    }

    /// Returns false as soon as the event id is one that nobody wants.
    fn walk(&mut self, bytes: &[u8], table: &PathTable, wanted: &impl Fn(u32) -> bool) -> Result<bool, Fault> {
        let mut at = skip_blank(bytes, 0);
        if bytes.get(at) != Some(&b'{') {
            return Err(if at == bytes.len() { Fault::Empty } else { Fault::NotObject });
        }
        let mut above = [ROOT; MAX_PATH];
        let mut depth = 0usize;
        let mut node = ROOT;
        at = at.wrapping_add(1);
        loop {
            at = skip_blank(bytes, at);
            match bytes.get(at).ok_or(Fault::Truncated)? {
                b'"' => {}
                b',' => {
                    at = at.wrapping_add(1);
                    continue;
                }
                b'}' => {
                    let Some(up) = depth.checked_sub(1) else { return Ok(true) };
                    depth = up;
                    node = above.get(depth).copied().unwrap_or(ROOT);
                    at = at.wrapping_add(1);
                    continue;
                }
                0 => return Err(Fault::Nul),
                _ => return Err(Fault::Malformed),
            }
            let start = at.wrapping_add(1);
            let (prefix, quote, escaped) = KeyPrefix::read(bytes, start)?;
            let key = bytes.get(start..quote).unwrap_or_default();
            let entry = if escaped { table.find_text(node, &text::unescape(key, MAX_TEXT)) } else { table.find(node, prefix, key) };
            at = skip_blank(bytes, quote.wrapping_add(1));
            if bytes.get(at) != Some(&b':') {
                return Err(Fault::Malformed);
            }
            at = skip_blank(bytes, at.wrapping_add(1));
            let value = bytes.get(at).ok_or(Fault::Truncated)?;
            let Some(entry) = entry else {
                at = match value {
                    b'"' => string_end(bytes, at.wrapping_add(1))?.wrapping_add(1),
                    b'{' | b'[' => container_end(bytes, at)?,
                    _ => non_empty_scalar(bytes, at)?,
                };
                continue;
            };
            let (field, from, to, kind) = match value {
                b'"' => {
                    let from = at.wrapping_add(1);
                    let to = string_end(bytes, from)?;
                    at = to.wrapping_add(1);
                    (entry.scalar, from, to, Kind::String)
                }
                b'{' => {
                    let Some(child) = entry.child else {
                        at = container_end(bytes, at)?;
                        continue;
                    };
                    let Some(place) = above.get_mut(depth) else { return Err(Fault::TooDeep) };
                    *place = node;
                    depth = depth.wrapping_add(1);
                    node = child;
                    at = at.wrapping_add(1);
                    continue;
                }
                b'[' => {
                    let from = at;
                    at = container_end(bytes, at)?;
                    (entry.array, from, at, Kind::Array)
                }
                _ => {
                    let from = at;
                    at = non_empty_scalar(bytes, at)?;
                    (entry.scalar, from, at, Kind::Scalar)
                }
            };
            let Some(field) = field else { continue };
            let new = self.put(field, Place { start: from as u32, end: to as u32, kind, rank: entry.rank });
            if new && field == Field::EventId && !self.number(Field::EventId).is_some_and(wanted) {
                return Ok(false);
            }
            if new && field == Field::Xml && xml::is_surely_unwanted(self.raw(Field::Xml).unwrap_or_default(), wanted) {
                return Ok(false);
            }
        }
    }

    /// Notes a place unless a better one is known; tells whether it did.
    fn put(&mut self, field: Field, place: Place) -> bool {
        let Some(known) = self.places.get_mut(field as usize) else { return false };
        if known.kind != Kind::Absent && known.rank <= place.rank {
            self.duplicates = self.duplicates.saturating_add(u32::from(known.rank == place.rank));
            return false;
        }
        *known = place;
        true
    }

    fn place(&self, field: Field) -> Place {
        self.places.get(field as usize).copied().unwrap_or_default()
    }

    fn raw(&self, field: Field) -> Option<&[u8]> {
        let place = self.place(field);
        if place.kind == Kind::Absent {
            return None;
        }
        self.bytes.get(place.start as usize..place.end as usize)
    }

    /// The value as text, cut to [`MAX_TEXT`]; `None` for all the ways producers write "nothing".
    pub fn text(&self, field: Field) -> Option<String> {
        self.text_at(self.place(field))
    }

    fn text_at(&self, place: Place) -> Option<String> {
        let raw = self.bytes.get(place.start as usize..place.end as usize)?;
        let text = match place.kind {
            Kind::String => text::unescape(raw, MAX_TEXT),
            Kind::XmlText => {
                let part = raw.get(..raw.len().min(MAX_TEXT.saturating_mul(6))).unwrap_or(raw);
                text::cut(text::unentity(&String::from_utf8_lossy(part)), MAX_TEXT)
            }
            Kind::Scalar => String::from_utf8_lossy(raw).into_owned(),
            Kind::Array | Kind::Absent => return None,
        };
        (!matches!(text.as_str(), "" | "-" | "null" | "(NULL)")).then_some(text)
    }

    /// The value as a number, whether it was written as one or as a string of digits.
    pub fn number(&self, field: Field) -> Option<u32> {
        let raw = self.raw(field)?;
        // Values that go through `text` only if they have escapes.
        match std::str::from_utf8(raw) {
            Ok(digits) if !digits.contains('\\') => digits.trim().parse().ok(),
            _ => self.text(field)?.trim().parse().ok(),
        }
    }

    /// The value as a number of up to 64 bits.
    pub fn long(&self, field: Field) -> Option<u64> {
        self.text(field)?.trim().parse().ok()
    }

    /// The value as a truth value, written as JSON, or as text in either case.
    pub fn truth(&self, field: Field) -> Option<bool> {
        let text = self.text(field)?;
        if text.eq_ignore_ascii_case("true") {
            Some(true)
        } else if text.eq_ignore_ascii_case("false") {
            Some(false)
        } else {
            None
        }
    }

    /// The value as an address.
    pub fn address(&self, field: Field) -> Option<IpAddr> {
        crate::normalize::address::parse(&self.text(field)?)
    }

    /// Whether any text found is not UTF-8. Old Fluent Bit packs account names in the machine's code page.
    pub fn has_invalid_utf8(&self) -> bool {
        self.places
            .iter()
            .filter(|place| place.kind == Kind::String)
            .filter_map(|place| self.bytes.get(place.start as usize..place.end as usize))
            .any(|raw| std::str::from_utf8(raw).is_err())
    }
}

/// The end of a scalar that must have at least one byte.
fn non_empty_scalar(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    let end = scalar_end(bytes, at);
    match bytes.get(at) {
        Some(0) => Err(Fault::Nul),
        _ if end == at => Err(Fault::Malformed),
        _ if end == bytes.len() => Err(Fault::Truncated),
        _ => Ok(end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shapes::PRODUCERS;

    fn fields(record: &str) -> Fields<'_> {
        match read(record.as_bytes(), &PathTable::new(PRODUCERS), |id| id == 11) {
            Ok(Reading::Event(fields)) => fields,
            Ok(Reading::Unwanted) => panic!("unwanted: {record}"),
            Err(fault) => panic!("{fault:?}: {record}"),
        }
    }

    fn outcome(record: &[u8]) -> Result<bool, Fault> {
        read(record, &PathTable::new(PRODUCERS), |id| id == 11).map(|reading| matches!(reading, Reading::Event(_)))
    }

    #[test]
    fn the_envelope_is_believed_in_the_order_of_the_tables() {
        let flat = fields(r#"{"@timestamp":"collector","Hostname":"H","EventTime":"logged","EventID":"11","Image":"System","host":"wec"}"#);
        assert_eq!(flat.text(Field::LoggedTime).as_deref(), Some("logged"));
        assert_eq!(flat.text(Field::Computer).as_deref(), Some("H"));
        assert_eq!(flat.text(Field::Image).as_deref(), Some("System"));
        let object = fields(r##"{ "Event" : { "System" : { "EventID" : { "#text" : 11 } , "Computer":"C" } } }"##);
        assert_eq!(object.number(Field::EventId), Some(11));
        assert_eq!(object.text(Field::Computer).as_deref(), Some("C"));
    }

    #[test]
    fn escapes_and_duplicates_hide_nothing() {
        let hidden =
            fields(r#"{"\u0045ventID":11,"Parent\u0050rocessGuid":"{g}","Image":"a","Image":"b","ProviderName":"Micro\u0073oft"}"#);
        assert_eq!(hidden.text(Field::ParentProcessGuid).as_deref(), Some("{g}"));
        assert_eq!(hidden.text(Field::Provider).as_deref(), Some("Microsoft"));
        assert_eq!(hidden.text(Field::Image).as_deref(), Some("a"));
        assert_eq!(hidden.duplicates, 1);
    }

    #[test]
    fn a_nested_or_quoted_copy_of_an_event_is_not_the_event() {
        assert_eq!(outcome(br#"{"x":{"EventID":11},"y":"\"EventID\":11","EventID":5}"#), Ok(false));
        assert_eq!(outcome(br#"{"x":[{"EventID":5}],"EventID":11}"#), Ok(true));
    }

    #[test]
    fn the_walk_ends_at_an_unwanted_id() {
        // What follows is not even JSON; nobody looks at it.
        assert_eq!(outcome(br#"{"EventID":5,!!!"#), Ok(false));
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
            assert_eq!(outcome(record), Err(want), "{}", String::from_utf8_lossy(record));
        }
        let deep = format!("{{\"a\":{}{},\"EventID\":11}}", "[".repeat(200), "]".repeat(200));
        assert_eq!(outcome(deep.as_bytes()), Err(Fault::TooDeep));
        let fits = format!("{{\"a\":{}{},\"EventID\":11}}", "[".repeat(128), "]".repeat(128));
        assert_eq!(outcome(fits.as_bytes()), Ok(true));
    }

    proptest::proptest! {
        #[test]
        fn reading_is_total(record: Vec<u8>) {
            let _ = outcome(&record);
        }

        #[test]
        fn reading_json_like_text_is_total(text in r##"\{("EventID":(11|"11"|\{"#text":11\})|"System":"<Event><EventID>11|"StringInserts":\["[0-9:. {}-]{0,24}"|"[a-zEI\\\\]{0,20}"|[{}\[\],:0-9])*"##) {
            if let Ok(Reading::Event(fields)) = read(text.as_bytes(), &PathTable::new(PRODUCERS), |id| id == 11) {
                proptest::prop_assert_eq!(fields.number(Field::EventId), Some(11));
            }
        }
    }
}
