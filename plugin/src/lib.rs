//! Finds PsExec-like remote execution in Sysmon records, inside a log shipper.
//!
//! Built for `wasm32-unknown-unknown` this is a module with Fluent Bit's WASM filter ABI and no imports; built natively it
//! is the library that the host program, the tests and tools share.
//!
//! A record goes through the modules in this order. Each imports only from those above it in the table, so nothing before
//! [`evidence`] knows techniques, and nothing after [`event`] knows JSON or producers:
//!
//! | module | does |
//! |---|---|
//! | [`json`] | finds the ends of things in JSON bytes, decodes strings |
//! | [`normalize`] | brings paths, addresses, times, … that can be written in several ways to one form |
//! | [`record`] | reads the fields of an event from a record, whatever the producer's shape |
//! | [`settings`] | the values and shared sections of a policy |
//! | [`event`] | the canonical view of an event: id, host, time |
//! | [`evidence`] | the facts that are remembered; one file an event kind |
//! | [`store`] | the evidence of one host, within its bounds |
//! | [`chain`] | the techniques, one file each: which evidence joins, and what severity that makes |
//! | [`incident`] | what a technique found, followed under one id: revisions, repeats |
//! | [`allow`] | the allow-list |
//! | [`hosts`] | everything remembered about each host, within bounds |
//! | [`alert`] | the JSON object that is added to a record |
//! | [`correlate`] | stores evidence, asks the techniques, follows incidents |
//! | [`splice`] | adds an object to a record |
//! | [`tick`] | calls without a record, by which time passes while hosts are silent |
//! | [`edge`] | which records do not leave |
//! | [`snapshot`] | everything that is remembered as JSON, and back |
//! | [`filter`] | wires all of it together |
//! | `abi` | the contract with Fluent Bit: bytes in, pointer out (wasm32 only) |
//!
//! `docs/architecture.md` has more. A whole detection, natively:
//!
//! ```
//! use psexec_filter_plugin::filter::Filter;
//! use psexec_filter_plugin::splice::Answer;
//!
//! let mut filter = Filter::new(Default::default());
//! let file = r#"{"EventID":11,"ProviderName":"Microsoft-Windows-Sysmon","Computer":"WS01","TimeCreated":"2024-09-14T09:52:31Z",
//!     "EventData":{"Image":"System","TargetFilename":"C:\\Windows\\PSEXESVC.exe"}}"#;
//! let start = r#"{"EventID":1,"ProviderName":"Microsoft-Windows-Sysmon","Computer":"WS01","TimeCreated":"2024-09-14T09:52:32Z",
//!     "EventData":{"Image":"C:\\Windows\\PSEXESVC.exe","ParentImage":"C:\\Windows\\System32\\services.exe"}}"#;
//! assert_eq!(filter.process(file.as_bytes(), 0, 0), Answer::Unchanged);
//! let answer = filter.process(start.as_bytes(), 0, 0);
//! let splice = answer.into_splice().expect("the execution is complete");
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

/// Version of the contract between module and host: names, parameters and meanings of the exports (`abi.rs`), and what the policy
/// region holds. It is raised when a host of the version before could no longer use the module. The program refuses a module of
/// another version.
pub const ABI: u32 = 1;

#[cfg(target_arch = "wasm32")]
mod abi;

pub mod alert;
pub mod allow;
pub mod chain;
pub mod correlate;
pub mod counters;
pub mod edge;
pub mod event;
pub mod evidence;
pub mod filter;
pub mod hosts;
pub mod incident;
pub mod json;
pub mod normalize;
pub mod policy;
pub mod record;
pub mod settings;
pub mod snapshot;
pub mod splice;
pub mod store;
pub mod tick;
