//! The program `psexec-filter`. It runs the module (the folder `plugin`) as Fluent Bit does: over a log, beside a shipper, or
//! under test. `main.rs` and `cli.rs` are its command line, this library is everything else.
//!
//! * [`engine`] runs the module: wasmtime, or with the feature `wamr` the interpreter that Fluent Bit uses.
//! * [`embedded`] is the module that this program carries, [`module`] loads it or another one from a file, with a policy.
//! * [`input`] reads logs: NDJSON, gzip, EVTX.
//! * [`replay`] and [`run`] are the commands that use a module. [`report`] writes an incident for a person.

#![deny(unsafe_code)]

pub mod embedded;
pub mod engine;
pub mod input;
pub mod module;
pub mod replay;
pub mod report;
pub mod run;
