//! The version of a module, read from the file.
//!
//! Two exports of the module return it ([`ABI_FUNCTION`], [`BUILD_FUNCTION`]). Each is a single constant, so it is read here without
//! running the module, which would compile it first.

use crate::{ModuleError, not_wasm, segments};
use psexec_filter_plugin::ABI;
use std::collections::HashMap;
use std::fmt;
use wasmparser::{ExternalKind, Operator, Parser, Payload, TypeRef};

/// Name of the export that returns the module's ABI.
pub const ABI_FUNCTION: &str = "psexec_filter_abi";

/// Name of the export that returns the address of the module's version as NUL-terminated text.
pub const BUILD_FUNCTION: &str = "psexec_filter_build";

/// How much of a version is read, in characters.
const LONGEST: usize = 64;

/// What a module says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Version of the contract with the host ([`psexec_filter_plugin::ABI`]).
    pub abi: u32,
    /// Version of the project, and the commit if the module is part of a release; empty if the module has none.
    pub build: String,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.build.is_empty() { "" } else { " " };
        write!(f, "module{separator}{}, ABI {}", self.build, self.abi)
    }
}

/// Reads the version of a module that passed [`crate::check`]. Fails with [`ModuleError::Abi`] if it has none.
pub fn version(module: &[u8]) -> Result<Version, ModuleError> {
    let constants = constants(module)?;
    let abi = *constants.get(ABI_FUNCTION).ok_or(ModuleError::Abi(None))?;
    let build = match constants.get(BUILD_FUNCTION) {
        Some(address) => text(module, *address)?,
        None => String::new(),
    };
    Ok(Version { abi, build })
}

/// Refuses a module of another ABI than this program uses, with [`ModuleError::Abi`].
pub fn check_abi(module: &[u8]) -> Result<(), ModuleError> {
    match version(module)?.abi {
        ABI => Ok(()),
        other => Err(ModuleError::Abi(Some(other))),
    }
}

/// The results of the exported functions that are a single `i32.const`, by name.
fn constants(module: &[u8]) -> Result<HashMap<&str, u32>, ModuleError> {
    let (mut imported, mut defined) = (0, 0);
    let mut exports: HashMap<u32, Vec<&str>> = HashMap::new();
    let mut found = HashMap::new();
    for payload in Parser::new(0).parse_all(module) {
        match payload.map_err(not_wasm)? {
            Payload::ImportSection(reader) => {
                for import in reader.into_imports() {
                    if let TypeRef::Func(_) = import.map_err(not_wasm)?.ty {
                        imported += 1;
                    }
                }
            }
            Payload::ExportSection(reader) => {
                for export in reader {
                    let export = export.map_err(not_wasm)?;
                    if export.kind == ExternalKind::Func {
                        exports.entry(export.index).or_default().push(export.name);
                    }
                }
            }
            // The exports precede the code.
            Payload::CodeSectionEntry(body) => {
                if let Some(names) = exports.get(&(imported + defined)) {
                    let mut operators = body.get_operators_reader().map_err(not_wasm)?;
                    let first = operators.read().map_err(not_wasm)?;
                    let second = operators.read();
                    if let (Operator::I32Const { value }, Ok(Operator::End)) = (first, second) {
                        found.extend(names.iter().map(|name| (*name, value as u32)));
                    }
                }
                defined += 1;
            }
            _ => {}
        }
    }
    Ok(found)
}

/// The text at an address of the module's data, up to its NUL; empty if there is none.
fn text(module: &[u8], address: u32) -> Result<String, ModuleError> {
    for segment in segments(module)? {
        let Some(from) = segment
            .offset
            .and_then(|offset| address.checked_sub(offset))
            .and_then(|at| segment.data.get(at as usize..))
        else {
            continue;
        };
        // The text is printed, and the file may be anybody's.
        let text = from.iter().take_while(|byte| **byte != 0);
        return Ok(text
            .map(|byte| char::from(*byte))
            .filter(|char| matches!(char, ' '..='~'))
            .take(LONGEST)
            .collect());
    }
    Ok(String::new())
}
