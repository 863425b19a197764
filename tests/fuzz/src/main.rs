//! One target under libFuzzer, as `make fuzz` runs it. `FUZZ_TARGET` names it.

#![no_main]

use psexec_filter_fuzz::{TARGETS, Target};
use std::sync::LazyLock;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    target
        .unwrap_or_else(|| panic!("FUZZ_TARGET={name:?}: no such target"))
        .1
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET(data));
