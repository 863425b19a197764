//! An event in Snare's syslog form: fields parted by tabs behind `MSWinEventLog` (rsyslog writes a tab as `#011`).
//!
//! Source: rsyslog `mmsnareparse` and its tests. Behind the marker: criticality, channel, counter, time, event id,
//! provider, user, kind of user, level, computer, category, data, rendered text, counter.

use super::shapes::Field;
use super::{Fields, Kind, Place};

const MARKER: &str = "MSWinEventLog";

/// A syslog header and the sender's name stand before the marker, nothing of the event.
const HEADER: usize = 128;

/// Fields by their distance from the marker.
const PARTS: [(usize, Field); 6] = [
    (2, Field::Channel),
    (3, Field::RecordId),
    (5, Field::EventId),
    (6, Field::Provider),
    (10, Field::Computer),
    (13, Field::Message),
];

const TIME: usize = 4;

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Whether the raw bytes of a JSON string can be such an event.
pub fn starts(raw: &[u8]) -> bool {
    let head = raw.get(..raw.len().min(HEADER)).unwrap_or(raw);
    head.windows(MARKER.len())
        .any(|part| part == MARKER.as_bytes())
}

/// Names the fields of a string that [starts](starts) so.
pub fn read(fields: &mut Fields<'_>, field: Field) -> bool {
    let raw = fields.raw(field).unwrap_or_default();
    let mut line = fields.whole(raw);
    if !line.contains('\t') {
        line = line.replace("#011", "\t");
    }
    let Some(header) = line
        .split('\t')
        .position(|part| part == MARKER || part.ends_with(" MSWinEventLog"))
    else {
        return false;
    };
    let mut places = [Place::default(); 14];
    let mut time = None;
    let mut start = 0usize;
    for (index, part) in line.split('\t').enumerate() {
        let end = start.saturating_add(part.len());
        if let Some(place) = index
            .checked_sub(header)
            .and_then(|distance| places.get_mut(distance))
        {
            *place = Place::within(0, start, end, Kind::Text);
        }
        if index.checked_sub(header) == Some(TIME) {
            time = written_out(part);
        }
        start = end.saturating_add(1);
    }
    for (distance, field) in PARTS {
        fields.set(field, places.get(distance).copied().unwrap_or_default());
    }
    fields.decoded = line.into_bytes();
    if let Some(time) = time {
        let start = fields.decoded.len();
        fields.decoded.extend_from_slice(time.as_bytes());
        fields.set(
            Field::LoggedTime,
            Place::within(0, start, fields.decoded.len(), Kind::Text),
        );
    }
    fields.has(Field::EventId)
}

/// `Tue Nov 19 05:24:15 2019`, in the unknown zone of the host, as a time that is written like all others.
fn written_out(text: &str) -> Option<String> {
    let mut words = text.split_ascii_whitespace().skip(1);
    let (month, day, clock, year) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let month = MONTHS
        .iter()
        .position(|name| *name == month)?
        .saturating_add(1);
    Some(format!("{year}-{month:02}-{day:0>2}T{clock}"))
}

#[cfg(test)]
mod tests {
    use super::written_out;
    use crate::record::shapes::Field;
    use crate::record::testing::text;

    #[test]
    fn fields_are_counted_from_the_marker() {
        for tab in ["\\t", "#011"] {
            for header in ["WS01\\t", "<14>Nov 19 05:24:15 relay ", ""] {
                let parts = [
                    "MSWinEventLog",
                    "1",
                    "C",
                    "7",
                    "Tue Nov 19 05:24:15 2019",
                    "3",
                    "P",
                    "u",
                    "User",
                    "i",
                    "WS01",
                    "x",
                    "",
                    "m",
                    "7",
                ];
                let record = format!(
                    r#"{{"host":"relay","message":"{header}{}"}}"#,
                    parts.join(tab)
                )
                .replace("\\t", if tab == "#011" { tab } else { "\\t" });
                for (field, want) in [
                    (Field::EventId, "3"),
                    (Field::Provider, "P"),
                    (Field::Computer, "WS01"),
                    (Field::LoggedTime, "2019-11-19T05:24:15"),
                ] {
                    assert_eq!(text(&record, field).as_deref(), Some(want), "{record}");
                }
            }
        }
    }

    #[test]
    fn times() {
        assert_eq!(
            written_out("Tue Nov 19 05:24:15 2019").as_deref(),
            Some("2019-11-19T05:24:15")
        );
        assert_eq!(
            written_out("Mon Sep  2 05:24:15 2024").as_deref(),
            Some("2024-09-02T05:24:15")
        );
        for text in [
            "",
            "Tue Nov",
            "Tue November 19 05:24:15 2019",
            "2019-11-19 05:24:15",
        ] {
            assert_eq!(written_out(text), None, "{text}");
        }
    }
}
