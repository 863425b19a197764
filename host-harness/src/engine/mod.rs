//! Engines that run the module. Each makes exactly the calls that Fluent Bit makes (`src/wasm/flb_wasm.c`,
//! `flb_wasm_call_function_format_json`): `malloc` and copy the tag, `malloc` and copy the record, call the function, read the
//! returned string up to its NUL, free both copies. After a trap the instance stays in use, as in Fluent Bit.
//!
//! The only folder of this program with `unsafe`: `wasmtime.rs` loads machine code, and WAMR is a C library.

mod answer;
mod config;
mod interface;
#[cfg(feature = "wamr")]
mod wamr;
mod wasmtime;

pub use self::wasmtime::{Compiled, Wasmtime};
pub use answer::{Answer, CallError, added};
pub use interface::{Engine, Options, Start};
#[cfg(feature = "wamr")]
pub use wamr::Wamr;
