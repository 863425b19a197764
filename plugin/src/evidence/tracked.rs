//! The processes whose children are wanted: those that an incident is about.

use crate::json::bytes;
use crate::normalize::path::PathKey;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// The hashes of their ProcessGuids, of all hosts together (a ProcessGuid identifies the machine, too); of those whose start was not
/// logged the hashes of their paths. Looked up for most process starts, so a lookup must be cheap.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrackedProcesses {
    hashes: VecDeque<u64>,
    programs: VecDeque<u64>,
}

/// How many programs are tracked by their paths, over all hosts.
const MAX_PROGRAMS: usize = 64;

impl TrackedProcesses {
    /// Whether no process is tracked.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty() && self.programs.is_empty()
    }

    /// Whether the process with this ProcessGuid (without braces, in either case) is tracked.
    pub fn contains(&self, process_guid: &[u8]) -> bool {
        self.hashes.contains(&bytes::hash(process_guid))
    }

    /// Tracks a process, one of at most `limit`. Returns whether the oldest was forgotten for it.
    pub fn add(&mut self, process_guid: &str, limit: usize) -> bool {
        if self.contains(process_guid.as_bytes()) {
            return false;
        }
        self.hashes.push_back(bytes::hash(process_guid.as_bytes()));
        self.hashes.len() > limit && self.hashes.pop_front().is_some()
    }

    /// Whether the program at this path, as Sysmon writes it, is tracked on any host.
    pub fn has_program(&self, image: &str) -> bool {
        if self.programs.is_empty() {
            return false;
        }
        let hash = PathKey::hash_of_image(image);
        hash.is_some_and(|hash| self.programs.contains(&hash))
    }

    /// Tracks a program by its path. Returns whether the oldest was forgotten for it.
    pub fn add_program(&mut self, program: &PathKey) -> bool {
        let Some(hash) = program.hash().filter(|hash| !self.programs.contains(hash)) else {
            return false;
        };
        self.programs.push_back(hash);
        self.programs.len() > MAX_PROGRAMS && self.programs.pop_front().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_and_case_does_not_matter() {
        let guid = |n: u32| format!("3f1a2b4c-0a01-66e5-eb03-0000000{n:05x}");
        let mut tracked = TrackedProcesses::default();
        assert!(tracked.is_empty());
        for n in 0..100 {
            assert_eq!(tracked.add(&guid(n), 40), n >= 40);
            assert!(!tracked.add(&guid(n), 40));
        }
        for n in 0..200 {
            let is_tracked = tracked.contains(guid(n).to_ascii_uppercase().as_bytes());
            assert_eq!(is_tracked, (60..100).contains(&n), "{n}");
        }
        assert!(!tracked.contains(b"") && !tracked.contains(b"3f1a2b4c"));
    }

    #[test]
    fn a_program_is_tracked_by_its_path_on_whatever_drive() {
        let mut tracked = TrackedProcesses::default();
        assert!(!tracked.has_program(r"C:\Windows\a.exe"));
        for n in 0..70 {
            let program = PathKey::new(&format!(r"%SystemRoot%\é\A{n}.exe"));
            assert_eq!(tracked.add_program(&program), n >= MAX_PROGRAMS, "{n}");
            assert!(!tracked.add_program(&program), "{n}");
        }
        assert!(!tracked.is_empty());
        for n in 0..80 {
            let is_kept = (70 - MAX_PROGRAMS..70).contains(&n);
            for image in [
                format!(r"C:\Windows\é\a{n}.exe"),
                format!(r"D:\WINDOWS\É\A{n}.EXE"),
            ] {
                assert_eq!(tracked.has_program(&image), is_kept, "{image}");
            }
        }
        for image in ["", "System", "-", r"a1.exe", r"\pc\c$\windows\é\a69.exe"] {
            assert!(!tracked.has_program(image), "{image}");
        }
    }
}
