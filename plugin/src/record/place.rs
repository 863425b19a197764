//! Where a value is in a record, and how it is written there.

use crate::json::cursor::{Kind, Value};
use crate::json::text;

/// How a value is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u16)]
pub enum Spelling {
    /// There is no value.
    #[default]
    Absent,
    /// Between the quotes of a JSON string.
    String,
    /// Between the quotes of a JSON string, with the backslashes of the text doubled and its XML entities kept (Wazuh).
    Doubled,
    /// A number, `true`, `false` or `null`.
    Scalar,
    /// An array with its brackets.
    Array,
    /// Text inside a decoded string.
    Text,
    /// Text with XML entities inside a decoded string.
    XmlText,
}

/// Where a value is. Without padding, so that an array of them is zeroed in one operation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// Offset of the first byte.
    pub start: u32,
    /// Offset after the last byte.
    pub end: u32,
    /// How it is written, which also decides in which bytes the offsets count (see `Fields::slice`).
    pub spelling: Spelling,
    /// How much its path is trusted: of two places of one field, the one with the lower rank holds.
    pub rank: u16,
}

impl Place {
    /// The first `length` bytes of `rest`, which are the last of `bytes`.
    #[inline(always)]
    pub fn at_rest(
        bytes: &[u8],
        rest: &[u8],
        length: usize,
        spelling: Spelling,
        rank: u16,
    ) -> Place {
        let start = bytes.len().wrapping_sub(rest.len());
        Place {
            start: start as u32,
            end: start.wrapping_add(length) as u32,
            spelling,
            rank,
        }
    }

    /// From offset `from` to `to`, counted from `base`. The rank is 0.
    pub fn within(base: u32, from: usize, to: usize, spelling: Spelling) -> Place {
        Place {
            start: base.saturating_add(from as u32),
            end: base.saturating_add(to as u32),
            spelling,
            rank: 0,
        }
    }

    /// The place of a JSON value whose offsets count from `base`; absent if it is a container. The rank is 0.
    pub fn of_value(base: u32, value: Value) -> Place {
        let spelling = match value.kind {
            Kind::String => Spelling::String,
            Kind::Scalar => Spelling::Scalar,
            Kind::Object | Kind::Array => return Place::default(),
        };
        Place::within(base, value.start, value.end, spelling)
    }
}

/// The text that was written [doubled](Spelling::Doubled): with half its backslashes, and its XML entities resolved. Text in which a
/// single backslash occurs was not doubled, and keeps them all.
pub fn undo_doubling(text: &str) -> String {
    let is_doubled = text.split(|c| c != '\\').all(|run| run.len() & 1 == 0);
    if is_doubled {
        text::resolve_entities(&text.replace(r"\\", r"\"))
    } else {
        text::resolve_entities(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubled_backslashes_are_halved_unless_one_is_single() {
        for (text, want) in [
            (r"C:\\Windows\\x.exe", r"C:\Windows\x.exe"),
            (r"\\\\host\\ADMIN$", r"\\host\ADMIN$"),
            (r"C:\Windows\\x", r"C:\Windows\\x"),
            (r"a &amp;&amp; b &gt; C:\\out", r"a && b > C:\out"),
            ("", ""),
        ] {
            assert_eq!(undo_doubling(text), want, "{text}");
        }
    }
}
