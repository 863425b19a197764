//! Finds PsExec-like remote execution in Sysmon records, inside a log shipper.
//!
//! Built for `wasm32-unknown-unknown` this is a module with Fluent Bit's WASM filter ABI and no imports; built natively it
//! is the library that the host program, the tests and tools share.
//!
//! The way of a record, one module a step; nothing downstream of [`event`] knows of JSON or producers, nothing
//! upstream of [`chain`] knows of techniques:
//!
//! | module | does |
//! |---|---|
//! | `abi` | bytes in, pointer out (wasm32 only) |
//! | [`record`] | JSON bytes to fields, whatever the producer's shape |
//! | [`event`] | the canonical view: kind, host, time |
//! | [`evidence`] | the normalised fact that is kept |
//! | [`state`] | a bounded locker of recent evidence per host |
//! | [`chain`] | one file a technique: which evidence joins, how sure that makes us |
//! | [`incident`] | a chain's open case: id, revision, severity, suppression |
//! | [`alert`] | the JSON object that is added to the record |
//!
//! ```
//! use psexec_filter_plugin::filter::Filter;
//!
//! let mut filter = Filter::new(Default::default());
//! let file = r#"{"EventID":11,"ProviderName":"Microsoft-Windows-Sysmon","Computer":"WS01","TimeCreated":"2024-09-14T09:52:31Z",
//!     "EventData":{"Image":"System","TargetFilename":"C:\\Windows\\PSEXESVC.exe"}}"#;
//! let start = r#"{"EventID":1,"ProviderName":"Microsoft-Windows-Sysmon","Computer":"WS01","TimeCreated":"2024-09-14T09:52:32Z",
//!     "EventData":{"Image":"C:\\Windows\\PSEXESVC.exe","ParentImage":"C:\\Windows\\System32\\services.exe"}}"#;
//! assert_eq!(filter.process(file.as_bytes(), 0, 0), None);
//! let splice = filter.process(start.as_bytes(), 0, 0).expect("the chain is complete");
//! assert!(splice.text.starts_with(r#","detection":{"kind":"alert","#));
//! ```

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]
#![cfg_attr(not(target_arch = "wasm32"), forbid(unsafe_code))]

#[cfg(target_arch = "wasm32")]
mod abi;

pub mod alert;
pub mod allow;
pub mod chain;
pub mod correlate;
pub mod counters;
pub mod event;
pub mod evidence;
pub mod filter;
pub mod hosts;
pub mod incident;
pub mod normalize;
pub mod policy;
pub mod record;
pub mod settings;
pub mod snapshot;
pub mod splice;
pub mod store;
