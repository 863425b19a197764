//! What users depend on, tested through the real module: on wasmtime, and with the feature `wamr` on Fluent Bit's interpreter, too.

mod adversary;
mod allow;
mod bad_input;
mod bounds;
mod cli;
mod command_lines;
mod connections;
mod corpus;
mod engines;
mod fluent_bit;
mod hiding;
mod incidents;
mod many_logs;
mod memory;
mod module_file;
mod order;
mod program;
mod restart;
mod run;
mod shapes;
mod shards;
mod state;
mod techniques;
mod ticks;
mod vector;
mod windows;
