//! Runs the psexec-filter module as Fluent Bit does, natively.
//!
//! * [`engine`] drives the module: wasmtime, or with the feature `wamr` the interpreter that Fluent Bit uses.
//! * [`module`] finds the module: the one this program carries, or a file.
//! * [`input`] reads logs: NDJSON, gzip, EVTX.
//! * [`replay`] and [`run`] are the commands that use a module; [`story`] tells an incident to a person.

#![cfg_attr(not(feature = "wamr"), forbid(unsafe_code))]

pub mod engine;
pub mod input;
pub mod module;
pub mod replay;
pub mod run;
pub mod story;
