//! The evidence of one host, within its bounds, and the watermarks that expire it.

pub mod clock;
pub mod evidence_store;

pub use clock::Clock;
pub use evidence_store::{EvidenceStore, Put};
