//! What a wrong configuration does: the comments beside the lines of the shipped ones say so.

use super::pipeline::{AGGREGATORS, BY_ID, FluentBit, Pipeline, parsed};
use psexec_filter_tests::{Host, module};
use serde_json::Value;
use std::time::Duration;

/// The line `threaded` of a network input.
#[test]
fn without_threads_a_network_input_of_5_1_loses_records() {
    let Some(fluent_bit) = FluentBit::find().filter(FluentBit::has_coroutines) else {
        return;
    };
    for (name, line) in AGGREGATORS
        .iter()
        .zip(["      threaded: true\n", "    threaded    on\n"])
    {
        let mut pipeline = Pipeline::aggregator(&fluent_bit, name, module(), &[(line, "")]);
        let records = parsed(&Host::new("WS01").psexec(0, 7, "10.1.2.3"));
        pipeline.send(&records);
        pipeline.reported("native stack overflow", records.len());
        // Two flushes.
        std::thread::sleep(Duration::from_secs(2));
        assert!(
            !pipeline.folder().join("records.ndjson").exists(),
            "{name}: Fluent Bit has kept a record"
        );
    }
}

/// The line `emitter_mem_buf_limit` of the filter that gives records a tag: beyond it they come out unexamined,
/// with the text of their id.
#[test]
fn over_its_limit_the_emitter_of_5_x_lets_records_pass_without_the_filter() {
    let Some(fluent_bit) = FluentBit::find().filter(FluentBit::keeps_what_it_cannot_emit) else {
        return;
    };
    let edits = [
        ("emitter_mem_buf_limit: 200M", "emitter_mem_buf_limit: 100K"),
        (
            r"match_regex: ^(chain\.)?sysmon\.",
            r"match_regex: ^chain\.sysmon\.",
        ),
    ];
    let mut pipeline = Pipeline::aggregator(&fluent_bit, BY_ID, module(), &edits);
    let host = Host::new("WS01");
    let records = (0..2_000).map(|at| host.connection(at, "10.1.2.3"));
    let records = parsed(&records.collect::<Vec<String>>());
    pipeline.send(&records);
    let out = pipeline.records(records.len());
    let is_marked = |record: &&Value| record["psexec_filter_id"] == "3";
    let unexamined = out.iter().filter(is_marked).count();
    assert!(unexamined > 0, "all {} were examined", out.len());
}
