//! The policy, by the name that those who use this crate as a library look for it under.

pub use crate::chain::Policy;
pub use crate::settings::{
    AllowEntry, Allowed, Bounded, Emit, Key, Levels, Limits, Millis, OnUnknown, Pass, Patterns,
    Severity, Until, Windows,
};

#[cfg(test)]
mod tests;
