//! What is remembered: a bounded number of hosts, each with a bounded locker of evidence and its open incidents,
//! all together within a number of bytes.

pub mod clock;
pub mod host;
pub mod hosts;
pub mod locker;
pub mod watch;
