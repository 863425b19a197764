//! Command lines. Windows, and the tools that run commands, spell one command in several ways.

/// Longest command line that Windows starts a process with: 32,767 UTF-16 units, in bytes of UTF-8.
pub const MAX_LINE: usize = 3 * 32_767;

/// Lower case, without quotes and carets, blanks as one: Windows' own spelling of a service's command and of its process's
/// command line differs in these, and they are what a command can be padded with.
pub fn plain(line: &str) -> String {
    let folded = line.to_lowercase().replace(['"', '^'], "");
    folded.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_command_is_one_line() {
        for line in ["cmd /c dir", "CMD  /c\tdir ", "\"cmd\" /c ^d^i^r", "\"\"cmd^\" /c \n\"dir"] {
            assert_eq!(plain(line), "cmd /c dir", "{line}");
        }
    }
}
