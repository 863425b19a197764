//! What users depend on, told through the real module: on wasmtime, and with the feature `wamr` on Fluent Bit's interpreter.

mod allow;
mod bad_input;
mod bounds;
mod cli;
mod connections;
mod corpus;
mod fluent_bit;
mod memory;
mod module_file;
mod order;
mod restart;
mod shapes;
mod stories;
mod techniques;
