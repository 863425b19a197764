//! The fields found in one record: where they are in its bytes, and what they mean when they are asked for.

use super::path_table::HOST_NAME_RANK;
use super::place::{Place, Spelling, undo_doubling};
use super::producers::Field;
use super::suffix::Suffixes;
use super::value_format::{is_nothing, whole_number};
use crate::json::{bytes, text};
use crate::normalize::address;
use std::borrow::Cow;
use std::cell::Cell;
use std::net::IpAddr;

/// Longest value taken from a record, in bytes of text; longer ones are cut. Paths and command lines of 1 KiB identify themselves,
/// and state must stay bounded.
pub const MAX_TEXT: usize = 1024;

/// Longest event inside a string that is searched, in bytes. Sysmon's events have 2 to 4 KiB; a command line can have 32,767
/// characters, each of which XML may write in six bytes (`&quot;`).
const MAX_EMBEDDED: usize = 256 * 1024;

/// The places before anything was found.
pub(super) const NO_PLACES: [Place; Field::COUNT] = [Place {
    start: 0,
    end: 0,
    spelling: Spelling::Absent,
    rank: 0,
}; Field::COUNT];

/// The fields found in one record, as places in its bytes.
pub struct Fields<'a> {
    pub(super) bytes: Cow<'a, [u8]>,
    /// Strings of the record that had to be decoded. Places spelled [`Spelling::Text`] and [`Spelling::XmlText`] are in here, all
    /// others in `bytes`.
    pub(super) decoded: Vec<u8>,
    pub(super) places: [Place; Field::COUNT],
    /// The id of the event, if the walk found it.
    pub(super) id: Option<u32>,
    /// How many keys stated a field again at the same path. The first one holds.
    pub duplicates: u32,
    /// Whether a value that was asked for is not UTF-8. Old Fluent Bit packs account names in the machine's code page.
    pub invalid_utf8: Cell<bool>,
    /// Whether a string that was searched is longer than 256 KiB, so that the rest of it was not seen.
    pub is_truncated: Cell<bool>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: Cow<'a, [u8]>) -> Fields<'a> {
        Fields {
            bytes,
            decoded: Vec::new(),
            places: NO_PLACES,
            id: None,
            duplicates: 0,
            invalid_utf8: Cell::new(false),
            is_truncated: Cell::new(false),
        }
    }

    /// Keeps a place unless a more trusted one is known. Returns whether it did.
    pub(super) fn put(&mut self, field: Field, place: Place) -> bool {
        let Some(known) = self.places.get_mut(field as usize) else {
            return false;
        };
        if known.spelling != Spelling::Absent && known.rank <= place.rank {
            self.duplicates = self
                .duplicates
                .saturating_add(u32::from(known.rank == place.rank));
            return false;
        }
        *known = place;
        true
    }

    /// Keeps a place, whatever was known: for values that are trusted over members that happen to have the same name.
    pub(super) fn set(&mut self, field: Field, place: Place) {
        if let Some(known) = self.places.get_mut(field as usize) {
            *known = place;
        }
    }

    pub(super) fn place(&self, field: Field) -> Place {
        self.places.get(field as usize).copied().unwrap_or_default()
    }

    pub(super) fn has(&self, field: Field) -> bool {
        self.place(field).spelling != Spelling::Absent
    }

    /// Whether no named values were found. All events of Sysmon that are used have `Image`, 4624 and 4634 have `LogonType`, 4672 has
    /// `SubjectLogonId`.
    pub(super) fn lacks_data(&self) -> bool {
        let named = [Field::Image, Field::LogonType, Field::SubjectLogonId];
        !named.iter().any(|field| self.has(*field))
    }

    fn slice(&self, place: Place) -> Option<&[u8]> {
        let bytes = match place.spelling {
            Spelling::Absent => return None,
            Spelling::Text | Spelling::XmlText => &self.decoded[..],
            Spelling::String | Spelling::Doubled | Spelling::Scalar | Spelling::Array => {
                &self.bytes[..]
            }
        };
        bytes.get(place.start as usize..place.end as usize)
    }

    /// The bytes of the value as they are written.
    pub(super) fn raw(&self, field: Field) -> Option<&[u8]> {
        self.slice(self.place(field))
    }

    /// The text of a whole string, cut to [`MAX_EMBEDDED`].
    pub(super) fn unescape_whole(&self, raw: &[u8]) -> String {
        let text = text::unescape(raw, MAX_EMBEDDED);
        // It is cut between characters, so what was cut may be a few bytes shorter.
        let is_cut = raw.len() > MAX_EMBEDDED
            && text.len().saturating_add(char::MAX.len_utf8()) > MAX_EMBEDDED;
        self.is_truncated.set(self.is_truncated.get() || is_cut);
        text
    }

    /// The text of a whole string, and its offset in `decoded`. The text is added there unless it already comes from there.
    pub(super) fn decode(&mut self, field: Field) -> Option<(String, u32)> {
        let place = self.place(field);
        let raw = self.slice(place)?;
        if place.spelling == Spelling::Text {
            return Some((String::from_utf8_lossy(raw).into_owned(), place.start));
        }
        let text = self.unescape_whole(raw);
        let start = u32::try_from(self.decoded.len()).ok()?;
        self.decoded.extend_from_slice(text.as_bytes());
        Some((text, start))
    }

    /// The value as text, cut to `limit` bytes; `None` if there is none, in any of the ways in which producers write that.
    ///
    /// Unlike [`Fields::text`] it does not derive a value from other fields.
    pub fn text_up_to(&self, field: Field, limit: usize) -> Option<Cow<'_, str>> {
        self.text_at(self.place(field), limit)
    }

    #[inline(always)]
    pub(super) fn text_at(&self, place: Place, limit: usize) -> Option<Cow<'_, str>> {
        let raw = self.slice(place)?;
        // The bytes of most values are their text.
        if raw.len() <= limit
            && matches!(
                place.spelling,
                Spelling::String | Spelling::Scalar | Spelling::Text
            )
            && bytes::is_plain(raw)
        {
            let text = std::str::from_utf8(raw).ok()?;
            return (!is_nothing(text)).then_some(Cow::Borrowed(text));
        }
        self.decoded_text(place, raw, limit)
    }

    #[inline(never)]
    fn decoded_text(&self, place: Place, raw: &[u8], limit: usize) -> Option<Cow<'_, str>> {
        let text = match place.spelling {
            Spelling::String => text::unescape(raw, limit),
            Spelling::Doubled => text::truncate(
                undo_doubling(&text::unescape(raw, limit.saturating_mul(6))),
                limit,
            ),
            Spelling::XmlText => {
                let part = raw
                    .get(..raw.len().min(limit.saturating_mul(6)))
                    .unwrap_or(raw);
                text::truncate(
                    text::resolve_entities(&String::from_utf8_lossy(part)),
                    limit,
                )
            }
            Spelling::Text => text::truncate(String::from_utf8_lossy(raw).into_owned(), limit),
            Spelling::Scalar => text::truncate(String::from_utf8_lossy(raw).into_owned(), limit),
            Spelling::Array | Spelling::Absent => return None,
        };
        // What was cut off may not be UTF-8 either.
        let is_usual = raw.len() <= limit && bytes::is_printable(text.as_bytes());
        let text = if is_usual {
            text
        } else {
            self.unusual_text(text, raw, limit)
        };
        (!is_nothing(&text)).then_some(Cow::Owned(text))
    }

    /// The text of `raw`, which may be more than printable ASCII, without the control characters that an alert should not hold.
    #[cold]
    #[inline(never)]
    fn unusual_text(&self, text: String, raw: &[u8], limit: usize) -> String {
        if std::str::from_utf8(raw).is_err() {
            self.invalid_utf8.set(true);
        }
        // JSON writes most control characters in six bytes, and an alert must stay small.
        let is_control = |c: char| c.is_ascii_control() && !matches!(c, '\n' | '\r' | '\t');
        if text.contains(is_control) {
            text::truncate(text.replace(is_control, "\u{fffd}"), limit)
        } else {
            text
        }
    }

    /// The value as a number, whether it is written as one or as a string of digits.
    pub fn number(&self, field: Field) -> Option<u32> {
        let raw = self.raw(field)?;
        bytes::number(raw).or_else(|| u32::try_from(self.unusual_number(field)?).ok())
    }

    /// The value as a number of up to 64 bits, whether it is written as one or as a string of digits.
    pub fn number64(&self, field: Field) -> Option<u64> {
        self.raw(field)
            .and_then(bytes::number)
            .map(u64::from)
            .or_else(|| self.unusual_number(field))
    }

    /// A number that is not at most nine digits and nothing else.
    #[cold]
    #[inline(never)]
    fn unusual_number(&self, field: Field) -> Option<u64> {
        whole_number(self.text_up_to(field, MAX_TEXT)?.trim())
    }

    /// The id of the event.
    pub fn event_id(&self) -> Option<u32> {
        self.id.or_else(|| self.number(Field::EventId))
    }

    /// Whether the host of the event is known from a path that is trusted more than `host.name` of the Elastic Common Schema, and not
    /// from the copy of a record in `fields`. While a record is being read, this means that a later member for the collector's host
    /// cannot replace it; only a member at another trusted path could, and no producer writes its host at two of those.
    pub fn has_certain_host(&self) -> bool {
        let place = self.place(Field::Computer);
        place.spelling != Spelling::Absent && place.rank < HOST_NAME_RANK
    }

    /// The value as a port.
    pub fn port(&self, field: Field) -> Option<u16> {
        u16::try_from(self.number(field)?).ok()
    }

    /// The value as a truth value: written as JSON, as text in either case, or as the direction into which the Elastic Common Schema
    /// turns Sysmon's `Initiated`.
    pub fn truth(&self, field: Field) -> Option<bool> {
        match self.raw(field)? {
            b"true" => return Some(true),
            b"false" => return Some(false),
            _ => {}
        }
        let text = self.text_up_to(field, MAX_TEXT)?;
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
        plain.or_else(|| address::parse(&self.text_up_to(field, MAX_TEXT)?))
    }

    /// Whether the bytes of the value are exactly `text`: far cheaper than to read the text. `false` for a value that has the same text
    /// but is written differently.
    #[inline(always)]
    pub fn is(&self, field: Field, text: &'static str) -> bool {
        self.raw(field)
            .is_some_and(|raw| bytes::equal(raw, text.as_bytes()))
    }

    /// The bytes of the value between the quotes of a JSON string; `None` if it is written in any other way.
    #[inline(always)]
    pub fn raw_string(&self, field: Field) -> Option<&[u8]> {
        let place = self.place(field);
        self.slice(place)
            .filter(|_| place.spelling == Spelling::String)
    }

    /// Whether it is certain that there is a value and that it ends with none of `suffixes`, in any case.
    pub fn ends_with_none_of(&self, field: Field, suffixes: &Suffixes) -> bool {
        let place = self.place(field);
        let raw = self.slice(place).filter(|raw| !raw.is_empty());
        raw.is_some_and(|raw| {
            suffixes.exclude(
                raw,
                matches!(place.spelling, Spelling::XmlText | Spelling::Doubled),
            )
        })
    }

    /// The first character after any backslashes and the last character of a value, in lower case. `None` if there is no value, if one
    /// of the two is not ASCII, or if an escape could change them.
    pub fn first_and_last(&self, field: Field) -> Option<(u8, u8)> {
        let place = self.place(field);
        let raw = self
            .slice(place)
            .filter(|_| place.spelling == Spelling::String)?;
        let start = raw.iter().position(|byte| *byte != b'\\')?;
        let first = raw.get(start)?;
        let [.., before, last] = raw else { return None };
        // JSON doubles backslashes; a single one changes the meaning of the next character.
        let escaped = start & 1 == 1 || *before == b'\\' || bytes::may_hold_unicode_escape(raw);
        let nothing = std::str::from_utf8(raw).is_ok_and(is_nothing);
        (!escaped && !nothing && first.is_ascii() && last.is_ascii())
            .then(|| (first.to_ascii_lowercase(), last.to_ascii_lowercase()))
    }

    /// Whether the text of any field is longer than [`MAX_TEXT`].
    pub fn has_truncated_text(&self) -> bool {
        let values = || self.places.iter().take(Field::Embedded as usize);
        let length = |place: &Place| place.end.wrapping_sub(place.start);
        // Only a place of many bytes has to be read, because escapes make its text shorter. Nearly always there is none, which is
        // cheapest to find out for all places at once.
        values().fold(0, |all, place| all | length(place)) as usize > MAX_TEXT
            && values().any(|place| length(place) as usize > MAX_TEXT && self.is_too_long(*place))
    }

    #[cold]
    fn is_too_long(&self, place: Place) -> bool {
        !matches!(
            place.spelling,
            Spelling::Absent | Spelling::Scalar | Spelling::Array
        ) && self
            .text_at(place, MAX_TEXT.saturating_add(4))
            .is_some_and(|text| text.len() > MAX_TEXT)
    }
}
