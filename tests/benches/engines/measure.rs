//! Measuring modules in turns, on a machine that does other things as well.
//!
//! In each round all modules take the same records, one module after the other. Each is alone while it is measured, as a
//! shipper's only filter is: WAMR searches all running instances for the caller's whenever the host allocates in a module
//! (`wasm_clusters_search_exec_env`), so that each instance would slow down those that were started before it.
//!
//! Only the thread's processor time counts, and of that the time that is least disturbed. A virtual processor that shares
//! its core with a busy one takes almost twice as long for the same work, for milliseconds at a time, and not by the same
//! factor for every module; a mean or a median says how busy the machine was. So a pass through the records is timed in
//! short slices, each slice counts with the lowest time that was seen of it in all rounds, and a pass takes the sum of its
//! slices.

use crate::contenders::{Contenders, Role};
use crate::logs::later;
use cpu_time::ThreadTime;
use psexec_filter::engine::Engine;
use std::rc::Rc;

/// Calls that are timed together: reading the clock must be small beside them, and together they must be shorter than most
/// disturbances.
const SLICE: usize = 64;

/// An instance sees at least so many records before it is measured, so that the processor's caches hold what it needs.
const WARM: usize = 512;

/// A round has at least so many calls of each module, in up to [`PASSES`] passes.
const CALLS: usize = 8192;
const PASSES: usize = 16;

/// Records, most often many times the same few.
type Records = Vec<Rc<[u8]>>;

/// What is measured: records, several times over.
pub struct Stream {
    /// What an instance sees first.
    before: Records,
    /// What is measured in each round, in this order; all passes have as many records, and those at one place are alike.
    passes: Vec<Records>,
    /// Whether all records are the same.
    is_one: bool,
}

impl Stream {
    /// One record, again and again.
    pub fn of_one(record: Vec<u8>) -> Stream {
        let records: Records = vec![record.into(); SLICE * 4];
        Stream {
            before: records.clone(),
            passes: vec![records; PASSES],
            is_one: true,
        }
    }

    /// Records of a log as they come, and again one and more years later to be measured: nothing of what a module kept of
    /// them the time before is near enough to matter, so that everything that happens in them is new.
    pub fn of_log(records: &[&[u8]]) -> Stream {
        let passes = CALLS.div_ceil(records.len().max(1)).min(PASSES);
        Stream {
            before: records.iter().map(|record| (*record).into()).collect(),
            passes: (1..=passes)
                .map(|years| {
                    let later = |record: &&[u8]| later(record, years).into();
                    records.iter().map(later).collect()
                })
                .collect(),
            is_one: false,
        }
    }

    /// Records that follow others.
    pub fn after(before: Vec<Vec<u8>>, records: Vec<Vec<u8>>) -> Stream {
        let shared = |records: Vec<Vec<u8>>| records.into_iter().map(Into::into).collect();
        Stream {
            before: shared(before),
            passes: vec![shared(records)],
            is_one: false,
        }
    }

    /// How many different records there are.
    pub fn len(&self) -> usize {
        self.before.len()
    }

    /// Mean size of a record in bytes.
    pub fn mean_bytes(&self) -> usize {
        let bytes: usize = self.before.iter().map(|record| record.len()).sum();
        bytes / self.before.len().max(1)
    }
}

/// What the modules took for the records of a stream.
pub struct Figures {
    /// Microseconds a record of the pass-through.
    pub pass_through: f64,
    /// The filter, as a multiple of the pass-through.
    pub filter: f64,
    /// Three fields with serde, as a multiple of the pass-through.
    pub three_fields: Option<f64>,
    /// `serde_json::Value`, as a multiple of the pass-through.
    pub value: Option<f64>,
    /// The filter, as a multiple of the other build of it.
    pub against: Option<f64>,
}

/// Measures all contenders on a stream.
pub fn measure(contenders: &Contenders<'_>, stream: &Stream) -> Figures {
    let mut samples = vec![Samples::default(); contenders.list.len()];
    for round in 0..contenders.rounds {
        let mut order: Vec<usize> = (0..contenders.list.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let contender = &contenders.list[index];
            if round < contender.rounds {
                samples[index].take(&mut *contender.start(), stream, contender.passes);
            }
        }
    }
    let of = |role| {
        let index = contenders
            .list
            .iter()
            .position(|contender| contender.role == role)?;
        let calls = if stream.is_one {
            SLICE
        } else {
            stream.passes[0].len()
        };
        Some(samples[index].total() / calls as f64)
    };
    let pass_through = of(Role::PassThrough).expect("it is always measured");
    let filter = of(Role::Filter).expect("it is always measured");
    Figures {
        pass_through,
        filter: filter / pass_through,
        three_fields: of(Role::ThreeFields).map(|time| time / pass_through),
        value: of(Role::Value).map(|time| time / pass_through),
        against: of(Role::Other).map(|other| filter / other),
    }
}

/// What a module took, in microseconds.
#[derive(Clone, Default)]
struct Samples {
    /// For each slice of a pass, the lowest time that was measured.
    slices: Vec<f64>,
}

impl Samples {
    /// Measures a round.
    fn take(&mut self, engine: &mut dyn Engine, stream: &Stream, passes: usize) {
        for _ in 0..WARM.div_ceil(stream.before.len()) {
            call(engine, &stream.before);
        }
        let clock = clock();
        for pass in stream.passes.iter().take(passes) {
            for (index, slice) in pass.chunks(SLICE).enumerate() {
                // Slices of one record again and again are all alike.
                let index = if stream.is_one { 0 } else { index };
                let start = ThreadTime::now();
                call(engine, slice);
                let time = start.elapsed().as_secs_f64() * 1e6 - clock;
                match self.slices.get_mut(index) {
                    Some(lowest) => *lowest = lowest.min(time),
                    None => self.slices.push(time),
                }
            }
        }
    }

    /// What a pass takes.
    fn total(&self) -> f64 {
        self.slices.iter().sum()
    }
}

/// What reading the clock adds to a slice, in microseconds.
fn clock() -> f64 {
    let nothing = || ThreadTime::now().elapsed().as_secs_f64() * 1e6;
    (0..100).map(|_| nothing()).fold(f64::INFINITY, f64::min)
}

fn call(engine: &mut dyn Engine, records: &[Rc<[u8]>]) {
    for record in records {
        let answer = engine.call("bench", 1, 0, record);
        assert!(std::hint::black_box(&answer).is_ok(), "{answer:?}");
    }
}

/// The value in the middle; of an even number of values, the mean of the two.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle), values.len() % 2) {
        (Some(upper), 0) => (values[middle - 1] + upper) / 2.0,
        (Some(value), _) => *value,
        (None, _) => f64::NAN,
    }
}
