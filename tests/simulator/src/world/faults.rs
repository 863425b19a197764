//! What happens to records between the host and the filter: they come late, in another order, twice, damaged or not at all, and
//! with wrong times.

use super::{Actor, Record, Theme, World, Worth};
use crate::product::Kind;
use psexec_filter_fixtures::{Event, START_MS, Shape, rfc3339};
use serde_json::Value;

/// How badly the records of a scenario arrive. Probabilities are from 0 to 1.
#[derive(Clone, Copy, Default)]
pub(super) struct Faults {
    /// The longest delay, in milliseconds; so records change their order.
    pub delay: i64,
    /// How probably a record is lost.
    pub drop: f32,
    /// How probably it comes again.
    pub again: f32,
    /// How probably its second half is missing.
    pub spoil: f32,
    /// How probably its time is wrong.
    pub shift: f32,
}

impl Faults {
    /// The faults of an attack's records: of each kind none for most attacks.
    pub(super) fn some(rng: &mut fastrand::Rng) -> Faults {
        let mut up_to = |often: u8, most: f32| {
            if rng.u8(0..4) < often {
                rng.f32() * most
            } else {
                0.0
            }
        };
        Faults {
            delay: if up_to(2, 1.0) > 0.0 { 60_000 } else { 0 },
            drop: up_to(1, 0.4),
            again: up_to(2, 0.5),
            spoil: up_to(1, 0.2),
            shift: up_to(1, 0.5),
        }
    }
}

impl World {
    /// Writes an event of `when` and lets it arrive with the faults of its actor.
    pub(super) fn log(
        &mut self,
        actor: Actor,
        part: &'static str,
        when: i64,
        event: u64,
        kept_as: Option<(Kind, Worth)>,
        data: Value,
    ) {
        let Actor {
            host: number,
            scenario,
            round,
            faults,
        } = actor;
        // Two records that are both wrong by so much are still within the tolerance of each other.
        let tolerated = self.policy.windows.clock_tolerance.0 / 2 - 100;
        let (rng, host) = (&mut self.rng, &mut self.hosts[number]);
        host.next_id += 1;
        if rng.f32() < faults.drop {
            return;
        }
        let mut ms = START_MS + when + host.skew;
        let mut usable = true;
        if rng.f32() < faults.shift && !host.whole_seconds {
            // Within the tolerance between any two, or far beyond every window.
            let far = rng.u8(0..6) == 0;
            usable = !far;
            ms += if far {
                rng.i64(2..20) * 3_600_000
            } else {
                rng.i64(-tolerated..tolerated)
            };
        }
        if host.whole_seconds {
            ms -= ms.rem_euclid(1_000);
        }
        let time = rfc3339(ms, host.shape != Shape::NxLog);
        let record_id = host.numbered.then_some(host.next_id);
        let record = host.shape.record(Event {
            host: &host.name,
            id: event,
            time: &time,
            record_id,
            data: &data,
        });
        let mut text = record.to_string();
        if rng.f32() < faults.spoil {
            usable = false;
            text.truncate(text.len() / 2);
        }
        // A record that has both keys of the filter cannot carry an alert: that waits for another.
        if self.theme == Theme::Pending && rng.u8(0..3) == 0 && usable {
            text.insert_str(1, r#""detection":1,"detection_psexec_filter":{},"#);
        }
        let mut at = when + host.lag + rng.i64(0..=faults.delay);
        loop {
            self.records.push(Record {
                at,
                host: number,
                text: text.clone(),
                event,
                record_id,
                ms,
                time: time.clone(),
                scenario,
                part: (part, round),
                kept_as,
                contact: None,
                usable,
            });
            if rng.f32() >= faults.again {
                break;
            }
            at += rng.i64(0..=10_000);
        }
    }
}
