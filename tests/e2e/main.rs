//! End-to-end tests: whole stories through the real module, on every engine that is built in.

mod fluent_bit;
