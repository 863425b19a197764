//! Plays whole networks against the filter, by seed: hosts with what is benign on them, attacks of every chain, floods, and
//! records that arrive late, in another order, twice, damaged or not at all, under short limits, with ticks and without.
//!
//! After every record it holds the filter to what it promises:
//!
//! - memory and hosts stay within the policy's limits;
//! - a record leaves as it came, or with exactly one object added as the last member of its root;
//! - an alert names only records that arrived, all of one scenario, under one id that no other scenario has;
//! - revision and severity of an incident only rise;
//! - what is benign is reported as low at most, and an allowed administrator ends as allowed;
//! - and, at the end, every attack was reported of which everything needed arrived and could be kept, at or above the level that
//!   its technique's table gives, and with its source where that is certain.
//!
//! The same seed gives the same run. `make simulate SEED=n` shows one run record by record.

mod check;
mod complete;
mod outcome;
mod product;
mod report;
mod world;

use check::Check;
use psexec_filter_fixtures::with_insertion;
use psexec_filter_plugin::filter::Filter;
use psexec_filter_plugin::splice::{Answer, SECOND_KEY, Splice};
use psexec_filter_plugin::tick::TICK;
pub use report::{Played, Recall, Report, Violation};
use serde_json::{Map, Value};
pub use world::{
    Contact, Expected, Host, Need, Party, Record, Scenario, Theme, World, Worth, stories,
};

/// What happens in a run, for those who want to see it.
pub enum Seen<'s> {
    /// A record arrived, and this was added to it.
    Record(&'s Record, Option<&'s str>),
    /// An alert left on a tick or at the end.
    Alert(&'s Map<String, Value>),
}

/// Plays the run of that seed. `observe` is called with everything that happens.
pub fn run(seed: u64, observe: &mut dyn FnMut(Seen<'_>)) -> Result<Report, Violation> {
    let world = World::new(seed);
    let filter = Filter::new(world.policy.clone());
    play(&world, filter, observe).map_err(|(step, what)| Violation { seed, step, what })
}

/// Plays a run against a filter. The error is the first promise that was not kept, with the number of records that had arrived
/// before the one at which that was seen.
pub fn play(
    world: &World,
    mut filter: Filter,
    observe: &mut dyn FnMut(Seen<'_>),
) -> Result<Report, (usize, String)> {
    let mut check = Check::new(world);
    let limits = &world.policy.limits;
    for (step, record) in world.records.iter().enumerate() {
        let splice = filter.process(record.text.as_bytes(), 0, 0).into_splice();
        let text = splice.as_ref().map(|splice| splice.text.as_str());
        observe(Seen::Record(record, text));
        check.delivered(record, filter.counters());
        let at_step = |what| (step, what);
        let (bytes, hosts) = (filter.state_bytes(), filter.hosts());
        check.held(bytes, hosts, limits).map_err(at_step)?;
        if let Some(splice) = splice {
            let object = added(record, &splice, world).map_err(at_step)?;
            check.alert(&object, Some(record.host)).map_err(at_step)?;
        }
        if let Some(tick) = step.checked_div(world.records_per_tick)
            && step % world.records_per_tick == 0
            && let Some(object) = tick_at(&mut filter, tick, world).map_err(at_step)?
        {
            observe(Seen::Alert(&object));
            check.alert(&object, None).map_err(at_step)?;
        }
    }
    let end = |what| (world.records.len(), what);
    while let Some(alert) = filter.flush() {
        let object = serde_json::from_str(&alert)
            .map_err(|error| end(format!("an alert at the end, {error}: {alert}")))?;
        observe(Seen::Alert(&object));
        check.alert(&object, None).map_err(end)?;
    }
    check.end()
}

/// Sends the tick of that number. Returns the alert that left on it, if any.
fn tick_at(
    filter: &mut Filter,
    number: usize,
    world: &World,
) -> Result<Option<Map<String, Value>>, String> {
    let milliseconds = number as u32 * 250;
    let (seconds, rest) = (milliseconds / 1_000, milliseconds % 1_000);
    let record = match filter.process(TICK, 1_900_000_000 + seconds, rest * 1_000_000) {
        Answer::Drop => return Ok(None),
        Answer::Replace(record) => record,
        other => return Err(format!("a tick was answered with {other:?}")),
    };
    let mut record: Map<String, Value> =
        serde_json::from_str(&record).map_err(|error| format!("{error}: {record}"))?;
    let key = world.policy.alert.key.as_str();
    match (record.remove(key), record["psexec_filter"].as_str()) {
        (Some(Value::Object(alert)), Some("alert")) => Ok(Some(alert)),
        (Some(Value::Object(_)), Some("stats")) => Ok(None),
        _ => Err(format!("neither an alert nor statistics: {record:?}")),
    }
}

/// The object that was added to a record, under the key that it must have.
fn added(record: &Record, splice: &Splice, world: &World) -> Result<Map<String, Value>, String> {
    let added = with_insertion(record.text.as_bytes(), splice.at, &splice.text)?;
    let first = world.policy.alert.key.as_str();
    let has_first = serde_json::from_str::<Map<String, Value>>(&record.text)
        .is_ok_and(|record| record.contains_key(first));
    let key = if has_first { SECOND_KEY } else { first };
    if added.key != key {
        return Err(format!("added under {} instead of {key}", added.key));
    }
    Ok(added.object)
}
