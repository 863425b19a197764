//! The one configuration of wasmtime. `build.rs` includes this file: machine code that it compiled with other settings would
//! be refused at run time.

use wasmtime::Config;

/// Settings of every wasmtime engine, at build time and at run time. Epoch interruption is what ends a call at its deadline;
/// `replay` sets no deadline and uses it too, so that one machine code serves both commands.
pub fn config() -> Config {
    let mut config = Config::new();
    config.epoch_interruption(true);
    config
}
