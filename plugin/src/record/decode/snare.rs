//! An event in Snare's syslog form: fields separated by tabs after the marker `MSWinEventLog` (rsyslog writes a tab as `#011`).
//!
//! Source: rsyslog `mmsnareparse` and its tests. After the marker: criticality, channel, counter, time, event id,
//! provider, user, kind of user, level, computer, category, data, rendered text, counter.

use crate::record::fields::Fields;
use crate::record::place::{Place, Spelling};
use crate::record::producers::Field;

const MARKER: &str = "MSWinEventLog";

/// Within how many bytes the marker ends. Before it are a syslog header and the sender's name, nothing of the event.
const HEADER: usize = 128;

/// Fields and their distance from the marker.
const PARTS: [(usize, Field); 6] = [
    (2, Field::Channel),
    (3, Field::RecordId),
    (5, Field::EventId),
    (6, Field::Provider),
    (10, Field::Computer),
    (13, Field::Message),
];

/// The distance of the time from the marker.
const TIME: usize = 4;

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Whether the raw bytes of a JSON string may be such an event.
pub fn starts(raw: &[u8]) -> bool {
    let head = raw.get(..raw.len().min(HEADER)).unwrap_or(raw);
    head.windows(MARKER.len())
        .any(|part| part == MARKER.as_bytes())
}

/// Finds the fields in the string `field`, which [may be](starts) such an event. Returns whether it has an id.
pub fn read(fields: &mut Fields<'_>, field: Field) -> bool {
    let raw = fields.raw(field).unwrap_or_default();
    let mut line = fields.unescape_whole(raw);
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
            *place = Place::within(0, start, end, Spelling::Text);
        }
        if index.checked_sub(header) == Some(TIME) {
            time = iso_time(part);
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
            Place::within(0, start, fields.decoded.len(), Spelling::Text),
        );
    }
    fields.has(Field::EventId)
}

/// A time such as `Tue Nov 19 05:24:15 2019`, which is in the unknown zone of the host, written as `2019-11-19T05:24:15`.
fn iso_time(text: &str) -> Option<String> {
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
    use super::iso_time;
    use crate::record::Field;
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
    fn times_are_rewritten() {
        assert_eq!(
            iso_time("Tue Nov 19 05:24:15 2019").as_deref(),
            Some("2019-11-19T05:24:15")
        );
        assert_eq!(
            iso_time("Mon Sep  2 05:24:15 2024").as_deref(),
            Some("2024-09-02T05:24:15")
        );
        for text in [
            "",
            "Tue Nov",
            "Tue November 19 05:24:15 2019",
            "2019-11-19 05:24:15",
        ] {
            assert_eq!(iso_time(text), None, "{text}");
        }
    }
}
