//! Values that producers and Windows write in several ways, brought to one form before anything is joined on them.
//!
//! Nothing here knows of records or techniques; every function takes text and is total: odd input gives an
//! odd but harmless value or `None`, never a panic.

pub mod address;
pub mod command;
pub mod guid;
pub mod host;
pub mod path;
pub mod time;

/// `text` in lower case. Nearly all is ASCII, whose case takes a fraction of the steps that other letters' takes.
pub fn lower(text: &str) -> String {
    if text.is_ascii() { text.to_ascii_lowercase() } else { text.to_lowercase() }
}
