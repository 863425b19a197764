//! The bytes of JSON text: where its parts end, what its strings mean, whether it is one object.
//!
//! Nothing here knows a producer, a field or an event, and nothing imports the layers above. Functions take bytes and offsets,
//! never allocate unless they return a `String`, never recurse, and give an error or `None` for malformed input.
//!
//! The cost of a function is the number of instructions it takes on Fluent Bit's WebAssembly interpreter, which pays for each one.
//! That is why bytes are examined in words of eight, and why some functions are split where a compiler would not mind.

pub mod bytes;
pub mod cursor;
pub mod object;
pub mod scan;
pub mod text;
