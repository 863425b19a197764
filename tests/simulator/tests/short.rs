//! A few runs with every test run; `make simulate` plays as many as one likes.

use psexec_filter_simulator::{Report, run};

#[test]
fn the_first_runs_keep_every_promise() {
    let mut all = Report::default();
    for seed in 0..30 {
        all.add(run(seed, &mut |_, _| {}).unwrap_or_else(|violation| panic!("{violation}")));
    }
    // What plays nothing proves nothing.
    assert_eq!(all.recall.len(), 5, "{all}");
    assert!(
        all.recall.values().all(|recall| recall.complete > 0),
        "{all}"
    );
}
