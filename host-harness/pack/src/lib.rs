//! Puts a policy into the module, and reads it back.
//!
//! Fluent Bit cannot pass settings to a filter, so the policy travels inside the module: as JSON in an active data segment
//! over the region that the module reserves and exports as the global [`REGION`]. The region starts with the length of the
//! JSON (4 bytes, little-endian). Packing a module again replaces the segment. A host that runs the module itself can write
//! the same bytes ([`encode_policy`]) into the memory of a new instance instead.
//!
//! This is a crate of its own because the build script of the host program needs it too.

#![forbid(unsafe_code)]

mod advice;
mod version;

use advice::Lines;
use psexec_filter_plugin::ABI;
use psexec_filter_plugin::policy::Policy;
use std::fmt;
pub use version::{Version, check_abi, version};
use wasm_encoder::{ConstExpr, DataCountSection, DataSection, Module, RawSection};
use wasmparser::{DataKind, ExternalKind, FuncType, Operator, Parser, Payload, TypeRef, ValType};

/// Name of the exported global that holds the address of the reserved region.
pub const REGION: &str = "PSEXEC_FILTER_POLICY";

/// Size of the region in bytes; `plugin/src/abi.rs` reserves it.
pub const REGION_BYTES: usize = 128 * 1024;

/// Name of the export that Fluent Bit calls for each record.
pub const FUNCTION: &str = "psexec_filter";

/// The text of `configs/policy.toml` at build time.
pub const DEFAULT_POLICY: &str = include_str!("../../../configs/policy.toml");

/// Keys of older policies and what they are called now.
const RENAMED: [(&str, &str); 3] = [
    ("service_put_back", "service_restored"),
    ("service_gone", "service_deleted"),
    ("watched", "tracked_processes"),
];

/// The message of a TOML error; for a key that was renamed, one that names the new key.
fn explain(message: &str) -> String {
    let is_it = |old: &str| message.starts_with(&format!("unknown field `{old}`"));
    match RENAMED.iter().find(|(old, _)| is_it(old)) {
        Some((old, new)) => format!("the key `{old}` was renamed; expected `{new}`"),
        None => message.to_owned(),
    }
}

/// Reads a policy from TOML. The error names `file`, the line, and what was expected there.
///
/// What the module would refuse is refused, and what only the whole policy shows: that no technique is enabled, or that several
/// `[[allow]]` entries together allow every address.
pub fn policy_from_toml(text: &str, file: &str) -> Result<Policy, String> {
    let lines = Lines::of(text);
    let policy: Policy = toml::from_str(text).map_err(|error| {
        let message = error.message().trim();
        let span = error.span().unwrap_or_default();
        // A list has a line for each of its texts, and the message begins with the one that is wrong.
        let quoted = message
            .strip_prefix('`')
            .and_then(|rest| rest.split('`').next());
        let within = text.get(span.clone()).unwrap_or_default();
        let at = quoted.and_then(|quoted| within.find(quoted));
        let line = lines.of_offset(span.start + at.unwrap_or(0));
        let shown = text.lines().nth(line - 1).unwrap_or_default().trim();
        format!("{file}:{line}: {}\n    {shown}", explain(message))
    })?;
    match advice::refusal(&policy, &lines) {
        Some((line, why)) => Err(format!("{file}:{line}: {why}")),
        None => Ok(policy),
    }
}

/// What the author of a policy that [`policy_from_toml`] accepted should know, each with `file` and line: entries that have no effect
/// or allow much, values that switch a part of the detection off. `now` is in milliseconds since 1970.
pub fn warnings(policy: &Policy, text: &str, file: &str, now: i64) -> Vec<String> {
    let found = advice::warnings(policy, &Lines::of(text), now);
    let found = found.into_iter();
    found
        .map(|(line, warning)| format!("{file}:{line}: {warning}"))
        .collect()
}

/// Why a file cannot be used as the module, or a policy cannot be put into it.
#[derive(Debug, PartialEq, Eq)]
pub enum ModuleError {
    /// The bytes are not WebAssembly, or are damaged.
    NotWasm(String),
    /// The function [`FUNCTION`] is not exported.
    NoFunction,
    /// The function has other parameters or results than Fluent Bit passes.
    WrongSignature(String),
    /// The module imports something.
    Imports(String),
    /// The module does not export [`REGION`].
    NoRegion,
    /// The policy's JSON, of this many bytes, is larger than the region.
    TooLarge(usize),
    /// The policy in the module is not one that this program reads.
    Policy(String),
    /// The module has another ABI than this program, or none (a module of before ABI 1, or another filter).
    Abi(Option<u32>),
}

impl fmt::Display for ModuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModuleError::NotWasm(why) => {
                write!(
                    f,
                    "not a WebAssembly module ({why}); expected the file that `make build` writes to target/psexec_filter.wasm"
                )
            }
            ModuleError::NoFunction => {
                write!(
                    f,
                    "does not export the function `{FUNCTION}`, so it is not this filter; expected the file that `make build` writes to target/psexec_filter.wasm"
                )
            }
            ModuleError::WrongSignature(found) => {
                write!(
                    f,
                    "its `{FUNCTION}` is {found}; Fluent Bit calls (i32, i32, i32, i32, i32, i32) -> i32"
                )
            }
            ModuleError::Imports(name) => write!(
                f,
                "imports `{name}`; a module for Fluent Bit must not import anything (Windows builds have no WASI). Build it for wasm32-unknown-unknown"
            ),
            ModuleError::NoRegion => write!(
                f,
                "does not export `{REGION}`, where the policy belongs; expected a module built from this project"
            ),
            ModuleError::TooLarge(bytes) => {
                write!(
                    f,
                    "the policy is {bytes} bytes long and the module has room for {}; shorten its lists",
                    REGION_BYTES - 4
                )
            }
            ModuleError::Policy(why) => {
                write!(
                    f,
                    "the policy in the module was written by another version ({why}); pack your policy again with `psexec-filter pack`"
                )
            }
            ModuleError::Abi(found) => {
                match found {
                    Some(found) => write!(f, "the module has ABI {found}")?,
                    None => write!(
                        f,
                        "the module has no ABI number: it is older, or another filter"
                    )?,
                }
                write!(
                    f,
                    "; this program uses modules of ABI {ABI}. Use module and program of one release, or pack your policy into the module of this program: `psexec-filter pack --policy FILE --out MODULE`"
                )
            }
        }
    }
}

impl std::error::Error for ModuleError {}

/// Checks that Fluent Bit can load and call a module: valid WebAssembly without imports that exports [`FUNCTION`] with the
/// right signature.
pub fn check(module: &[u8]) -> Result<(), ModuleError> {
    wasmparser::Validator::new()
        .validate_all(module)
        .map_err(not_wasm)?;
    let interface = Interface::read(module)?;
    if let Some(import) = interface.import {
        return Err(ModuleError::Imports(import));
    }
    let Some(signature) = interface.function else {
        return Err(ModuleError::NoFunction);
    };
    if signature.params() != [ValType::I32; 6] || signature.results() != [ValType::I32] {
        return Err(ModuleError::WrongSignature(signature.to_string()));
    }
    Ok(())
}

/// The bytes of the policy region that hold `policy`: the length of its JSON (4 bytes, little-endian), then the JSON.
/// Fails with [`ModuleError::TooLarge`] if they are more than [`REGION_BYTES`].
pub fn encode_policy(policy: &Policy) -> Result<Vec<u8>, ModuleError> {
    let json =
        serde_json::to_vec(policy).map_err(|error| ModuleError::Policy(error.to_string()))?;
    if json.len() > REGION_BYTES - 4 {
        return Err(ModuleError::TooLarge(json.len()));
    }
    let mut encoded = (json.len() as u32).to_le_bytes().to_vec();
    encoded.extend_from_slice(&json);
    Ok(encoded)
}

/// Returns `module` with `policy` in it, in place of any policy that it had.
pub fn pack(module: &[u8], policy: &Policy) -> Result<Vec<u8>, ModuleError> {
    check(module)?;
    let region = Interface::read(module)?
        .region
        .ok_or(ModuleError::NoRegion)?;
    let encoded = encode_policy(policy)?;
    let mut out = Module::new();
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload.map_err(not_wasm)?;
        match &payload {
            // The count precedes the code, so it is computed before the data section is written.
            Payload::DataCountSection { .. } => {
                let count = segments(module)?
                    .iter()
                    .filter(|segment| segment.offset != Some(region))
                    .count()
                    + 1;
                out.section(&DataCountSection {
                    count: count as u32,
                });
            }
            Payload::DataSection(_) => {
                let mut data = DataSection::new();
                for segment in segments(module)? {
                    match segment.offset {
                        Some(offset) if offset == region => {}
                        Some(offset) => {
                            data.active(
                                0,
                                &ConstExpr::i32_const(offset as i32),
                                segment.data.iter().copied(),
                            );
                        }
                        None => {
                            data.passive(segment.data.iter().copied());
                        }
                    }
                }
                data.active(
                    0,
                    &ConstExpr::i32_const(region as i32),
                    encoded.iter().copied(),
                );
                out.section(&data);
            }
            other => {
                if let Some((id, range)) = other.as_section() {
                    let data = module.get(range).unwrap_or_default();
                    out.section(&RawSection { id, data });
                }
            }
        }
    }
    Ok(out.finish())
}

/// The policy in a module that passed [`check`]; `None` if it has none and runs with the defaults.
pub fn unpack(module: &[u8]) -> Result<Option<Policy>, ModuleError> {
    let region = Interface::read(module)?
        .region
        .ok_or(ModuleError::NoRegion)?;
    let Some(segment) = segments(module)?
        .into_iter()
        .find(|segment| segment.offset == Some(region))
    else {
        return Ok(None);
    };
    let json = segment.data.get(4..).unwrap_or_default();
    serde_json::from_slice(json)
        .map(Some)
        .map_err(|error| ModuleError::Policy(error.to_string()))
}

/// A data segment of a module.
struct Segment<'m> {
    /// Address that the data is copied to at the start; `None` for a passive segment.
    offset: Option<u32>,
    data: &'m [u8],
}

fn segments(module: &[u8]) -> Result<Vec<Segment<'_>>, ModuleError> {
    let mut found = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        let Payload::DataSection(reader) = payload.map_err(not_wasm)? else {
            continue;
        };
        for data in reader {
            let data = data.map_err(not_wasm)?;
            let offset = match data.kind {
                DataKind::Passive => None,
                DataKind::Active { offset_expr, .. } => Some(constant(&offset_expr)?),
            };
            found.push(Segment {
                offset,
                data: data.data,
            });
        }
    }
    Ok(found)
}

/// What a module imports and exports, as far as it matters here.
#[derive(Default)]
struct Interface {
    /// The first import, as `module.name`.
    import: Option<String>,
    /// Signature of [`FUNCTION`].
    function: Option<FuncType>,
    /// Address of [`REGION`].
    region: Option<u32>,
}

impl Interface {
    /// Reads the sections that declare imports and exports; does not validate the code.
    fn read(module: &[u8]) -> Result<Interface, ModuleError> {
        let mut interface = Interface::default();
        let mut types: Vec<FuncType> = Vec::new();
        let (mut functions, mut globals) = (Vec::new(), Vec::new());
        for payload in Parser::new(0).parse_all(module) {
            match payload.map_err(not_wasm)? {
                Payload::TypeSection(reader) => {
                    for function in reader.into_iter_err_on_gc_types() {
                        types.push(function.map_err(not_wasm)?);
                    }
                }
                Payload::ImportSection(reader) => {
                    for import in reader.into_imports() {
                        let import = import.map_err(not_wasm)?;
                        if let TypeRef::Func(index) = import.ty {
                            functions.push(index);
                        }
                        interface
                            .import
                            .get_or_insert_with(|| format!("{}.{}", import.module, import.name));
                    }
                }
                Payload::FunctionSection(reader) => {
                    for index in reader {
                        functions.push(index.map_err(not_wasm)?);
                    }
                }
                Payload::GlobalSection(reader) => {
                    for global in reader {
                        globals.push(constant(&global.map_err(not_wasm)?.init_expr).ok());
                    }
                }
                Payload::ExportSection(reader) => {
                    for export in reader {
                        let export = export.map_err(not_wasm)?;
                        let index = export.index as usize;
                        match (export.name, export.kind) {
                            (FUNCTION, ExternalKind::Func) => {
                                interface.function = functions
                                    .get(index)
                                    .and_then(|index| types.get(*index as usize))
                                    .cloned();
                            }
                            (REGION, ExternalKind::Global) => {
                                interface.region = globals.get(index).copied().flatten()
                            }
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(interface)
    }
}

/// The value of an expression that is a single `i32.const`.
fn constant(expression: &wasmparser::ConstExpr<'_>) -> Result<u32, ModuleError> {
    match expression.get_operators_reader().read().map_err(not_wasm)? {
        Operator::I32Const { value } => Ok(value as u32),
        _ => Err(ModuleError::NotWasm(
            "a data segment or global has an address that is not a constant".to_owned(),
        )),
    }
}

fn not_wasm(error: wasmparser::BinaryReaderError) -> ModuleError {
    // wasmparser adds a dump of the bytes after the first line.
    ModuleError::NotWasm(
        error
            .message()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_policy_is_the_default_and_complete() {
        assert_eq!(
            policy_from_toml(DEFAULT_POLICY, "configs/policy.toml"),
            Ok(Policy::default())
        );
        // The file documents every key.
        let written: toml::Table = DEFAULT_POLICY.parse().unwrap();
        let mut all = toml::Table::try_from(Policy::default()).unwrap();
        all.remove("allow");
        for (section, keys) in &all {
            for key in keys.as_table().unwrap().keys() {
                assert!(
                    written[section].get(key).is_some(),
                    "[{section}] {key} is missing in configs/policy.toml"
                );
            }
        }
    }

    #[test]
    fn a_wrong_policy_names_file_line_and_what_was_expected() {
        for (text, want) in [
            (
                "[windows]\nsuppress = \"5m\"\nsupress = \"5m\"\n",
                ["p.toml:3:", "unknown field `supress`", "expected one of"],
            ),
            (
                "\n[[allow]]\nsource = [\"10.0.0.0/8\",\n \"10.0.0.0/33\"]\nreason = \"x\"\n",
                ["p.toml:", "`10.0.0.0/33`", "expected for example"],
            ),
            (
                "[windows]\nservice_put_back = \"5m\"\n",
                [
                    "p.toml:2:",
                    "`service_put_back` was renamed",
                    "expected `service_restored`",
                ],
            ),
            (
                "[limits]\nwatched = 7\n",
                [
                    "p.toml:2:",
                    "`watched` was renamed",
                    "expected `tracked_processes`",
                ],
            ),
            (
                "[limits]\nhosts = 0\n",
                ["p.toml:2:", "out of range", "from 1 to 4096"],
            ),
            ("[alert\n", ["p.toml:1:", "", ""]),
        ] {
            let error = policy_from_toml(text, "p.toml").unwrap_err();
            for part in want {
                assert!(error.contains(part), "{part:?} in {error}");
            }
        }
    }

    #[test]
    fn files_that_are_not_this_module_are_refused() {
        assert!(matches!(check(b"hello"), Err(ModuleError::NotWasm(_))));
        assert_eq!(check(&Module::new().finish()), Err(ModuleError::NoFunction));
    }
}
