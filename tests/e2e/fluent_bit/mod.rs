//! The configurations of `configs/fluent-bit` in a real Fluent Bit: on `PATH`, or named by `FLUENT_BIT`. Each test passes with all
//! versions that README.md names, or reports that it is skipped.

mod configurations;
mod edge;
mod faults;
mod pipeline;
mod ticks;
