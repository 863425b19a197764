//! The module and the policy that a command uses, from files or built in.

use crate::embedded;
use crate::engine::{CallError, Engine, Options};
use psexec_filter_pack::{check, check_abi, encode_policy, policy_from_toml, unpack, warnings};
use psexec_filter_plugin::policy::Policy;
use std::borrow::Cow;
use std::path::Path;

/// The module that this program was built with, default policy inside.
pub const EMBEDDED: &[u8] = embedded::MODULE;

/// Memory that a module may use for its policy, in bytes. Of its 16 MiB it needs 13.5 MiB for full state and the largest
/// record together.
pub const POLICY_MEMORY: usize = 1024 * 1024;

/// A module that Fluent Bit could load, and the policy to run it with.
pub struct Module {
    name: String,
    bytes: Cow<'static, [u8]>,
    /// The policy that replaces the one in the module, and the bytes of its region.
    given: Option<(Policy, Vec<u8>)>,
}

impl Module {
    /// Loads the module in `file`, or the built-in one; with the policy in `policy` in place of the module's, if given.
    ///
    /// The error is a message for the operator: it names the file, what is wrong with it and what to do.
    pub fn load(file: Option<&Path>, policy: Option<&Path>) -> Result<Module, String> {
        let (name, bytes) = read_module_to_use(file)?;
        let given = match policy {
            None => None,
            Some(path) => {
                let policy = read_policy(path)?;
                let region = encode_policy(&policy)
                    .map_err(|error| format!("{}: {error}", path.display()))?;
                Some((policy, region))
            }
        };
        Ok(Module { name, bytes, given })
    }

    /// The module as WebAssembly.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How to start an instance with its policy.
    pub fn options(&self) -> Options<'_> {
        Options {
            policy: self.given.as_ref().map(|(_, region)| region.as_slice()),
            ..Options::default()
        }
    }

    /// The policy that is in force. The error is a message for the operator.
    pub fn policy(&self) -> Result<Policy, String> {
        match &self.given {
            Some((policy, _)) => Ok(policy.clone()),
            None => unpack(&self.bytes)
                .map(Option::unwrap_or_default)
                .map_err(|error| format!("{}: {error}", self.name)),
        }
    }
}

/// Reads the module in `file`, or the built-in one, and checks that Fluent Bit could load it. Returns its name for messages
/// and its bytes. The error is a message for the operator.
pub fn read_module(file: Option<&Path>) -> Result<(String, Cow<'static, [u8]>), String> {
    let Some(path) = file else {
        // `build.rs` has checked it.
        return Ok(("the built-in module".to_owned(), EMBEDDED.into()));
    };
    let (name, bytes) = (path.display().to_string(), read(path)?);
    check(&bytes).map_err(|error| format!("{name}: {error}"))?;
    Ok((name, bytes.into()))
}

/// Reads a module as [`read_module`] does, and refuses one of another ABI.
pub fn read_module_to_use(file: Option<&Path>) -> Result<(String, Cow<'static, [u8]>), String> {
    let (name, bytes) = read_module(file)?;
    check_abi(&bytes).map_err(|error| format!("{name}: {error}"))?;
    Ok((name, bytes))
}

/// Checks that a new instance has memory for its policy. The error is a message for the operator.
pub fn check_policy_memory(engine: &mut dyn Engine) -> Result<(), String> {
    let before = engine.memory_bytes();
    // The module reads its policy in the first call, whatever that is.
    let answer = engine.stats();
    let used = engine.memory_bytes().saturating_sub(before);
    let used = match answer {
        Err(CallError::Trap(_)) => "all the memory that there is".to_owned(),
        _ if used > POLICY_MEMORY => format!("{} KiB", used / 1024),
        _ => return Ok(()),
    };
    let limit = POLICY_MEMORY / 1024;
    Err(format!(
        "the module uses {used} for this policy, and may use {limit} KiB; expected shorter lists, or `*` instead of regular expressions"
    ))
}

/// Reads and checks a policy file. The error names the file, the line and what was expected there.
pub fn read_policy(path: &Path) -> Result<Policy, String> {
    read_policy_with_warnings(path, None).map(|(policy, _)| policy)
}

/// Reads and checks a policy file, and returns what its author should know, each with file and line. `now` is in milliseconds since
/// 1970; without it there are no warnings.
pub fn read_policy_with_warnings(
    path: &Path,
    now: Option<i64>,
) -> Result<(Policy, Vec<String>), String> {
    let name = path.display().to_string();
    let text = String::from_utf8(read(path)?)
        .map_err(|_| format!("{name}: is not UTF-8 text; expected TOML"))?;
    let policy = policy_from_toml(&text, &name)?;
    let warnings = now.map(|now| warnings(&policy, &text, &name, now));
    Ok((policy, warnings.unwrap_or_default()))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: cannot be read: {error}", path.display()))
}
