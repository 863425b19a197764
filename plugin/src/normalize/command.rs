//! Command lines. Windows, and the tools that run commands, spell one command in several ways.

use super::push_lower;
use crate::record::text;

/// Longest command line that Windows starts a process with: 32,767 UTF-16 units, in bytes of UTF-8.
pub const MAX_LINE: usize = 3 * 32_767;

/// Lower case, without quotes and carets, blanks as one: Windows' own spelling of a service's command and of its process's
/// command line differs in these, and they are what a command can be padded with. Cut to `limit` bytes.
pub fn plain(line: &str, limit: usize) -> String {
    let mut out = String::with_capacity(line.len().min(limit));
    let mut blank = false;
    for c in line.chars() {
        if c.is_whitespace() {
            blank = true;
        } else if !matches!(c, '"' | '^') {
            if out.len() >= limit {
                break;
            }
            if blank && !out.is_empty() {
                out.push(' ');
            }
            blank = false;
            push_lower(&mut out, c);
        }
    }
    text::cut(out, limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_command_is_one_line() {
        for line in [
            "cmd /c dir",
            "CMD  /c\tdir ",
            "\"cmd\" /c ^d^i^r",
            "\"\"cmd^\" /c \n\"dir",
        ] {
            assert_eq!(plain(line, MAX_LINE), "cmd /c dir", "{line}");
            assert_eq!(plain(line, 8), "cmd /c d", "{line}");
        }
    }
}
