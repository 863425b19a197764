//! Times: from the forms that producers write to milliseconds since 1970, and back to RFC 3339.

use serde::{Deserialize, Serialize};

/// A point in time as it was logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timestamp {
    /// Milliseconds since 1970-01-01T00:00:00, in UTC if `zoned`, else in the unknown zone of the host.
    pub ms: i64,
    /// Whether the text named its zone. NXLog's `EventTime` does not: such a time is kept as it is.
    pub zoned: bool,
}

const DAY_MS: i64 = 86_400_000;

/// Zones are a multiple of a quarter of an hour from UTC, and at most 14 hours, in milliseconds.
const ZONE_STEP_MS: i64 = 900_000;
const MOST_AHEAD_MS: i64 = 50_400_000;

/// How long after an event it is logged at most, in milliseconds, where the zone is told from both.
const LOGGED_WITHIN_MS: i64 = 120_000;

impl Timestamp {
    /// How far the zone of this time is ahead of UTC, in milliseconds, if it is the local time at which an event of the time `utc` was
    /// logged. `None` if no zone explains how far the two are apart.
    pub fn ahead_of(self, utc: Timestamp) -> Option<i64> {
        let apart = self.ms.saturating_sub(utc.ms);
        // Logged a second before the event: times of whole seconds are cut.
        let ahead = apart.saturating_add(1_000).div_euclid(ZONE_STEP_MS);
        let ahead = ahead.saturating_mul(ZONE_STEP_MS);
        let late = apart.saturating_sub(ahead);
        (late <= LOGGED_WITHIN_MS && ahead.unsigned_abs() <= MOST_AHEAD_MS.unsigned_abs())
            .then_some(ahead)
    }

    /// This time in UTC, where its own text does not name its zone and `ahead` is how far the zone is ahead of UTC, in milliseconds.
    pub fn in_zone(self, ahead: Option<i64>) -> Timestamp {
        match ahead.filter(|_| !self.zoned) {
            Some(ahead) => Timestamp {
                ms: self.ms.saturating_sub(ahead),
                zoned: true,
            },
            None => self,
        }
    }
}

/// Parses the forms that producers are known to write (the tests list them): a date, `T` or a space, a time with or without
/// decimals, and nothing, `Z`, `UTC` or an offset. ASCII white space around it is ignored. `None` for anything else.
pub fn parse(text: &[u8]) -> Option<Timestamp> {
    let (head, mut rest) = text.trim_ascii().split_first_chunk::<19>()?;
    let year = digits(head, 0, 4)?;
    let month = digits(head, 5, 2)?;
    let day = digits(head, 8, 2)?;
    let hour = digits(head, 11, 2)?;
    let minute = digits(head, 14, 2)?;
    let second = digits(head, 17, 2)?;
    let shaped = matches!(
        head,
        [
            _,
            _,
            _,
            _,
            b'-' | b'/',
            _,
            _,
            b'-' | b'/',
            _,
            _,
            b'T' | b' ',
            _,
            _,
            b':',
            _,
            _,
            b':',
            _,
            _
        ]
    );
    let in_range = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !shaped || !in_range {
        return None;
    }
    let mut millis = 0i64;
    if let [b'.' | b',', decimals @ ..] = rest {
        rest = decimals;
        let mut scale = 100i64;
        while let [digit @ b'0'..=b'9', after @ ..] = rest {
            millis = millis.wrapping_add(scale.wrapping_mul(i64::from(digit & 15)));
            scale /= 10;
            rest = after;
        }
    }
    let offset_minutes = match rest.trim_ascii_start() {
        [] => None,
        b"Z" | b"z" | b"UTC" => Some(0),
        [sign @ (b'+' | b'-'), zone @ ..] => {
            let hours = digits(zone, 0, 2)?;
            let minutes = match zone.get(2..)? {
                [] => 0,
                [b':', rest @ ..] if rest.len() == 2 => digits(rest, 0, 2)?,
                rest if rest.len() == 2 => digits(rest, 0, 2)?,
                _ => return None,
            };
            let size = hours.wrapping_mul(60).wrapping_add(minutes);
            Some(if *sign == b'-' {
                size.wrapping_neg()
            } else {
                size
            })
        }
        _ => return None,
    };
    // Nothing wraps: a year has at most four digits, an offset at most 100 hours.
    let clock = hour
        .wrapping_mul(3600)
        .wrapping_add(minute.wrapping_mul(60))
        .wrapping_add(second);
    let ms = days_from_civil(year, month, day)
        .wrapping_mul(DAY_MS)
        .wrapping_add(clock.wrapping_mul(1000))
        .wrapping_add(millis)
        .wrapping_sub(offset_minutes.unwrap_or(0).wrapping_mul(60_000));
    Some(Timestamp {
        ms,
        zoned: offset_minutes.is_some(),
    })
}

/// The time a shipper passes beside a record, `None` when it passes nothing (0).
pub fn from_shipper(seconds: u32, nanoseconds: u32) -> Option<Timestamp> {
    if seconds == 0 {
        return None;
    }
    let ms = i64::from(seconds)
        .saturating_mul(1000)
        .saturating_add(i64::from(nanoseconds / 1_000_000));
    Some(Timestamp { ms, zoned: true })
}

/// Writes RFC 3339 with milliseconds; without the `Z` if the zone is not known.
impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (days, in_day) = (self.ms.div_euclid(DAY_MS), self.ms.rem_euclid(DAY_MS));
        let (year, month, day) = civil_from_days(days);
        let (hour, minute) = (in_day / 3_600_000, in_day / 60_000 % 60);
        let (second, ms) = (in_day / 1000 % 60, in_day % 1000);
        let zone = if self.zoned { "Z" } else { "" };
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}{zone}"
        )
    }
}

/// `count` ASCII digits at `at` as a number.
#[inline(always)]
fn digits(bytes: &[u8], at: usize, count: usize) -> Option<i64> {
    let mut value = 0i64;
    for byte in bytes.get(at..at.checked_add(count)?)? {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value.wrapping_mul(10).wrapping_add(i64::from(byte & 15));
    }
    Some(value)
}

/// Days since 1970-01-01 of a civil date, after Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
/// Exact for the four-digit years that `parse` accepts.
#[allow(clippy::arithmetic_side_effects)] // all terms stay far below 2^31 for years 0..=9999
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The inverse of [`days_from_civil`].
#[allow(clippy::arithmetic_side_effects)] // days of an i64 of milliseconds are below 2^37
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_all_producers_are_parsed() {
        let utc = "2024-09-14T09:52:33.118Z";
        for (text, want) in [
            ("2024-09-14T09:52:33.1184532Z", utc), // evtx, winlogbeat, Vector
            ("2024-09-14 09:52:33.118 UTC", utc),  // Hayabusa in UTC
            ("2024-09-14 11:52:33.118 +02:00", utc), // Hayabusa in local time
            ("2024-09-14 11:52:33 +0200", "2024-09-14T09:52:33.000Z"), // Fluent Bit winevtlog
            ("2024-09-14T04:52:33-05", "2024-09-14T09:52:33.000Z"), // ISO 8601, hours only
            ("2024-09-14 11:52:33", "2024-09-14T11:52:33.000"), // NXLog EventTime
            ("2024-09-14 09:52:33.118", "2024-09-14T09:52:33.118"), // UtcTime, NXLog TimeCreated
            ("2025/09/07 07:37:43.913943200", "2025-09-07T07:37:43.913"), // Fluentd
            ("1601-01-01T00:00:00Z", "1601-01-01T00:00:00.000Z"),
            ("2000-02-29T23:59:60Z", "2000-03-01T00:00:00.000Z"),
            ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(
                parse(text.as_bytes()).map(|t| t.to_string()).as_deref(),
                Some(want),
                "{text}"
            );
        }
        for wrong in [
            "",
            "-",
            "yesterday",
            "2024-13-01 00:00:00",
            "2024-09-14",
            "2024-09-14 09:52:33 CEST",
            "2024-09-14T09:52:33+2:00",
        ] {
            assert_eq!(parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn the_zone_is_told_from_the_time_of_the_event_and_the_time_it_was_logged() {
        const HOUR: i64 = 3_600_000;
        for (apart, want) in [
            (0, Some(0)),
            (1_500, Some(0)),
            (-999, Some(0)),
            (-5_000, None),
            (120_000, Some(0)),
            (130_000, None),
            (2 * HOUR, Some(2 * HOUR)),
            (2 * HOUR + 9_900, Some(2 * HOUR)),
            (-5 * HOUR + 1_200, Some(-5 * HOUR)),
            (-5 * HOUR - 400, Some(-5 * HOUR)),
            (5 * HOUR + HOUR / 2 + 100, Some(5 * HOUR + HOUR / 2)),
            (5 * HOUR + HOUR / 4 * 3, Some(5 * HOUR + HOUR / 4 * 3)),
            (14 * HOUR, Some(14 * HOUR)),
            (15 * HOUR, None),
            (139 * HOUR, None),
            (i64::MAX, None),
            (i64::MIN, None),
        ] {
            let utc = Timestamp { ms: 0, zoned: true };
            let local = Timestamp {
                ms: apart,
                zoned: false,
            };
            assert_eq!(local.ahead_of(utc), want, "{apart}");
            if let Some(ahead) = want {
                assert_eq!(local.in_zone(want).ms, apart - ahead);
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn printing_and_parsing_agree(ms in -11_644_473_600_000i64..253_402_300_800_000, zoned: bool) {
            let time = Timestamp { ms, zoned };
            proptest::prop_assert_eq!(parse(time.to_string().as_bytes()), Some(time));
        }
    }
}
