//! The values that a policy is written in, and the sections of it that no single technique owns.
//!
//! [`Policy`](crate::policy::Policy) puts them together with the sections that the techniques own. Everything here is read
//! from the policy's JSON and written back to it, so that a packed policy can be shown as it was written.

mod allow;
mod patterns;
mod sections;
pub mod subject;
mod values;
pub mod wildcard;

pub use allow::{AllowEntry, Until};
pub use patterns::{Patterns, compile_all_read};
pub use sections::{
    AlertSettings, Allowed, ConnectionSettings, Emit, HostSettings, Limits, OnUnknown, Pass,
    SuspiciousSettings, Windows,
};
pub use values::{Bounded, HostLabel, Key, Levels, Millis, Severity};
