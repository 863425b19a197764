//! Command lines, which Windows and the tools that run commands write in several ways.

use super::push_lower;
use crate::json::text;

/// Longest command line that Windows starts a process with, in bytes: 32,767 UTF-16 units of up to 3 bytes of UTF-8.
pub const MAX_LINE: usize = 3 * 32_767;

/// The command line in lower case, without quotes and carets, with `%%` as `%` and each run of white space as one space, cut to
/// `limit` bytes.
///
/// Windows writes the command of a service and the command line of its process differently in these respects, and an attacker can
/// pad a command with them. Sysmon doubles the percent sign, in some versions only in one of the two.
pub fn normalize(line: &str, limit: usize) -> String {
    let mut out = String::with_capacity(line.len().min(limit));
    let (mut blank, mut percent) = (false, false);
    for c in line.chars() {
        let is_second_percent = c == '%' && percent;
        percent = c == '%' && !percent;
        if c.is_whitespace() {
            blank = true;
        } else if !matches!(c, '"' | '^') && !is_second_percent {
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
    text::truncate(out, limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_command_is_one_line() {
        for line in [
            "cmd /c dir",
            "CMD  /c\tdir ",
            "\"cmd\" /c ^d^i^r",
            "\"\"cmd^\" /c \n\"dir",
        ] {
            assert_eq!(normalize(line, MAX_LINE), "cmd /c dir", "{line}");
            assert_eq!(normalize(line, 8), "cmd /c d", "{line}");
        }
        for (line, normalized) in [
            ("for %%i in (1) do x", "for %i in (1) do x"),
            ("for %i in (1) do x", "for %i in (1) do x"),
            ("%%A%%%%B%%", "%a%%b%"),
            ("50% off %", "50% off %"),
        ] {
            assert_eq!(normalize(line, MAX_LINE), normalized, "{line}");
        }
    }
}
