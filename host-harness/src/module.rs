//! Where the module comes from.

use crate::engine::{CallError, Engine};
use psexec_filter_pack::{check, pack, policy_from_toml};
use psexec_filter_plugin::policy::Policy;
use std::path::Path;

/// The module this program was built with, default policy inside.
pub const EMBEDDED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/psexec_filter.wasm"));

/// Memory that a module may take for its policy, in bytes. Of its 16 MiB it needs 13.5 for all else that may come: full state and the
/// largest record.
pub const MOST_FOR_POLICY: usize = 1024 * 1024;

/// Whether a module that was just started has room for its policy. The error is a message for people.
pub fn check_room(engine: &mut dyn Engine) -> Result<(), String> {
    let before = engine.memory_bytes();
    // Whatever is asked of it first, it reads its policy.
    let answer = engine.stats();
    let taken = engine.memory_bytes().saturating_sub(before);
    let taken = match answer {
        Err(CallError::Trap(_)) => "all the memory there is".to_owned(),
        _ if taken > MOST_FOR_POLICY => format!("{} KiB", taken / 1024),
        _ => return Ok(()),
    };
    let most = MOST_FOR_POLICY / 1024;
    Err(format!(
        "the module takes {taken} for this policy, of at most {most} KiB; expected shorter lists, or `*` instead of regular expressions"
    ))
}

/// The module in `file`, or the embedded one; with the policy in `policy` packed into it, if given.
///
/// The error is a message for people: it names the file, what is wrong with it and what to do.
pub fn load(file: Option<&Path>, policy: Option<&Path>) -> Result<Vec<u8>, String> {
    let (name, module) = match file {
        None => ("the built-in module".to_owned(), EMBEDDED.to_vec()),
        Some(path) => (path.display().to_string(), read(path)?),
    };
    check(&module).map_err(|error| format!("{name}: {error}"))?;
    match policy {
        None => Ok(module),
        Some(path) => {
            pack(&module, &read_policy(path)?).map_err(|error| format!("{name}: {error}"))
        }
    }
}

/// The same for a policy that is to be packed: an `[[allow]]` entry that ended before `now` (milliseconds since 1970) is refused,
/// because its author believes that it holds.
pub fn read_policy_to_pack(path: &Path, now: i64) -> Result<Policy, String> {
    let policy = read_policy(path)?;
    let ended = policy
        .allow
        .iter()
        .find_map(|entry| entry.until.as_ref().filter(|until| until.ms < now));
    let Some(until) = ended.map(ToString::to_string) else {
        return Ok(policy);
    };
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text
        .lines()
        .position(|line| line.trim_start().starts_with("until") && line.contains(&until))
        .map_or(1, |index| index + 1);
    Err(format!(
        "{}:{line}: this entry ended with {until}; expected a later `until`, or none, or the entry removed",
        path.display()
    ))
}

/// Reads and checks a policy file. The error names file, line and what was expected.
pub fn read_policy(path: &Path) -> Result<Policy, String> {
    let name = path.display().to_string();
    let text = String::from_utf8(read(path)?)
        .map_err(|_| format!("{name}: is not UTF-8 text; expected TOML"))?;
    policy_from_toml(&text, &name)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: cannot be read: {error}", path.display()))
}
