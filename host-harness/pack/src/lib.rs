//! Puts a policy into the module, and reads it back.
//!
//! Fluent Bit can pass a filter no settings, so the policy travels inside the module: as JSON in an active data segment
//! over the region that the module reserves and exports as the global [`REGION`]. The region starts with the length
//! (4 bytes, little-endian). Packing again replaces the segment.
//!
//! A crate of its own, because the host program's build script needs it too.

use psexec_filter_plugin::policy::Policy;
use std::fmt;
use wasm_encoder::{ConstExpr, DataCountSection, DataSection, Module, RawSection};
use wasmparser::{DataKind, ExternalKind, FuncType, Operator, Parser, Payload, TypeRef, ValType};

/// Export that names the reserved region.
pub const REGION: &str = "PSEXEC_FILTER_POLICY";

/// Size of the region in bytes; `plugin/src/abi.rs` reserves it.
pub const REGION_BYTES: usize = 128 * 1024;

/// Export with Fluent Bit's signature.
pub const FUNCTION: &str = "psexec_filter";

/// The policy that `configs/policy.toml` describes, as it was when this was built.
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

/// Reads a policy from TOML. The error names `file`, the line, and what was expected.
pub fn policy_from_toml(text: &str, file: &str) -> Result<Policy, String> {
    toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| {
            1 + text
                .get(..span.start)
                .map_or(0, |before| before.matches('\n').count())
        });
        let shown = text.lines().nth(line - 1).unwrap_or_default().trim();
        format!(
            "{file}:{line}: {}\n    {shown}",
            explain(error.message().trim())
        )
    })
}

/// Why a file is not a module that can be used.
#[derive(Debug, PartialEq, Eq)]
pub enum ModuleError {
    /// Not WebAssembly, or damaged.
    NotWasm(String),
    /// Lacks the function.
    NoFunction,
    /// The function has other parameters or results.
    WrongSignature(String),
    /// Needs something from its host.
    Imports(String),
    /// Has no region for a policy.
    NoRegion,
    /// The policy does not fit.
    TooLarge(usize),
    /// The policy inside is not one that this program understands.
    Policy(String),
}

impl fmt::Display for ModuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModuleError::NotWasm(why) => {
                write!(
                    f,
                    "not a WebAssembly module ({why}); expected the file that `make build` leaves at target/psexec_filter.wasm"
                )
            }
            ModuleError::NoFunction => {
                write!(
                    f,
                    "does not export the function `{FUNCTION}`; is it another filter's module? Use the one from target/psexec_filter.wasm"
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
                "imports `{name}`; a module for Fluent Bit must import nothing (Windows builds have no WASI). Build it for wasm32-unknown-unknown, without the feature `web`"
            ),
            ModuleError::NoRegion => write!(
                f,
                "has no `{REGION}` to put a policy into; it was not built from this project"
            ),
            ModuleError::TooLarge(bytes) => {
                write!(
                    f,
                    "the policy is {bytes} bytes long, the module has room for {}; shorten its lists",
                    REGION_BYTES - 4
                )
            }
            ModuleError::Policy(why) => {
                write!(
                    f,
                    "the policy in the module is from another version ({why}); pack yours again with `psexec-filter pack`"
                )
            }
        }
    }
}

impl std::error::Error for ModuleError {}

/// Checks that a module is one that Fluent Bit could load and call.
pub fn check(module: &[u8]) -> Result<(), ModuleError> {
    let layout = Layout::read(module)?;
    if let Some(import) = layout.import {
        return Err(ModuleError::Imports(import));
    }
    let Some(signature) = layout.function else {
        return Err(ModuleError::NoFunction);
    };
    if signature.params() != [ValType::I32; 6] || signature.results() != [ValType::I32] {
        return Err(ModuleError::WrongSignature(signature.to_string()));
    }
    Ok(())
}

/// The module with `policy` in it instead of any it had.
pub fn pack(module: &[u8], policy: &Policy) -> Result<Vec<u8>, ModuleError> {
    check(module)?;
    let region = Layout::read(module)?.region.ok_or(ModuleError::NoRegion)?;
    let json =
        serde_json::to_vec(policy).map_err(|error| ModuleError::Policy(error.to_string()))?;
    if json.len() > REGION_BYTES - 4 {
        return Err(ModuleError::TooLarge(json.len()));
    }
    let mut packed = (json.len() as u32).to_le_bytes().to_vec();
    packed.extend_from_slice(&json);

    let mut out = Module::new();
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload.map_err(not_wasm)?;
        match &payload {
            // Counted anew below if the module has it: it must stand before the code.
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
                    packed.iter().copied(),
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

/// The policy in a module; `None` if none was packed and the defaults are in force.
pub fn unpack(module: &[u8]) -> Result<Option<Policy>, ModuleError> {
    let region = Layout::read(module)?.region.ok_or(ModuleError::NoRegion)?;
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

struct Segment<'m> {
    /// Address, if it is active.
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

/// What matters about a module.
#[derive(Default)]
struct Layout {
    import: Option<String>,
    function: Option<FuncType>,
    region: Option<u32>,
}

impl Layout {
    fn read(module: &[u8]) -> Result<Layout, ModuleError> {
        wasmparser::Validator::new()
            .validate_all(module)
            .map_err(not_wasm)?;
        let mut layout = Layout::default();
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
                        layout
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
                                layout.function = functions
                                    .get(index)
                                    .and_then(|index| types.get(*index as usize))
                                    .cloned();
                            }
                            (REGION, ExternalKind::Global) => {
                                layout.region = globals.get(index).copied().flatten()
                            }
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(layout)
    }
}

fn constant(expression: &wasmparser::ConstExpr<'_>) -> Result<u32, ModuleError> {
    match expression.get_operators_reader().read().map_err(not_wasm)? {
        Operator::I32Const { value } => Ok(value as u32),
        _ => Err(ModuleError::NotWasm(
            "an address in it is not a constant".to_owned(),
        )),
    }
}

fn not_wasm(error: wasmparser::BinaryReaderError) -> ModuleError {
    // The lines after the first are a dump of the bytes.
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
        // Every key there is stands in the file, so that the file documents them all.
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
    fn what_is_no_module_is_refused_by_name() {
        assert!(matches!(check(b"hello"), Err(ModuleError::NotWasm(_))));
        assert_eq!(check(&Module::new().finish()), Err(ModuleError::NoFunction));
    }
}
