//! Where the module comes from.

use psexec_filter_pack::{check, pack, policy_from_toml};
use psexec_filter_plugin::policy::Policy;
use std::path::Path;

/// The module this program was built with, default policy inside.
pub const EMBEDDED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/psexec_filter.wasm"));

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
        Some(path) => pack(&module, &read_policy(path)?).map_err(|error| format!("{name}: {error}")),
    }
}

/// Reads and checks a policy file. The error names file, line and what was expected.
pub fn read_policy(path: &Path) -> Result<Policy, String> {
    let name = path.display().to_string();
    let text = String::from_utf8(read(path)?).map_err(|_| format!("{name}: is not UTF-8 text; expected TOML"))?;
    policy_from_toml(&text, &name)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: cannot be read: {error}", path.display()))
}
