//! The module as a file: what Fluent Bit needs of it, and the errors for files that are no such module.

use psexec_filter::engine::Options;
use psexec_filter::engine::{Answer, CallError};
use psexec_filter::module::Module;
use psexec_filter_pack::{Version, version};
use psexec_filter_plugin::ABI;
use psexec_filter_tests::{engines_with, module};
use std::path::Path;
use wasmparser::{Parser, Payload};

/// No imports (Fluent Bit on Windows has no WASI), at most 16 MiB of memory, and the functions that are called.
#[test]
fn the_module_imports_nothing_and_declares_16_mib_at_most() {
    let (mut imports, mut maximum, mut exports) = (0, None, Vec::new());
    for payload in Parser::new(0).parse_all(module()) {
        match payload.expect("WebAssembly") {
            Payload::ImportSection(section) => imports += section.count(),
            Payload::MemorySection(section) => {
                maximum = section
                    .into_iter()
                    .next()
                    .and_then(|memory| memory.expect("a memory").maximum)
            }
            Payload::ExportSection(section) => exports.extend(
                section
                    .into_iter()
                    .map(|export| export.expect("an export").name.to_owned()),
            ),
            _ => {}
        }
    }
    assert_eq!((imports, maximum), (0, Some(256)));
    for name in [
        "memory",
        "malloc",
        "free",
        "psexec_filter",
        "psexec_filter_flush",
        "psexec_filter_stats",
        "psexec_filter_abi",
        "psexec_filter_build",
    ] {
        assert!(
            exports.iter().any(|export| export == name),
            "{name} is not exported"
        );
    }
}

/// What is read from the file is what the module returns when it runs.
#[test]
fn the_module_names_its_version_and_abi() {
    let version = version(module()).expect("a version");
    assert_eq!(version.abi, ABI);
    let rest = version
        .build
        .strip_prefix(env!("CARGO_PKG_VERSION"))
        .expect(&version.build);
    assert!(
        rest.is_empty() || (rest.starts_with(" (") && rest.ends_with(')')),
        "{}",
        version.build
    );
    for (engine, mut module) in engines_with(module(), Options::default()) {
        assert_eq!(
            module.call_export("psexec_filter_build"),
            Ok(Some(version.build.clone())),
            "{engine}"
        );
    }
}

/// The name of a version is shown on terminals and in policies, and a module file may be anybody's.
#[test]
fn a_version_that_is_read_from_a_file_is_one_short_line() {
    let long = format!("1\\0a[x]\\1b[31m{}", "y".repeat(100));
    for (data, build) in [
        (long.as_str(), format!("1[x][31m{}", "y".repeat(56))),
        ("0.9.0\\00rest", "0.9.0".to_owned()),
        ("", String::new()),
    ] {
        let text = format!(
            r#"(module (memory 1) (data (i32.const 64) "{data}") (func (export "psexec_filter_abi") (result i32) i32.const 9)
            (func (export "psexec_filter_build") (result i32) i32.const 64))"#
        );
        let module = wat::parse_str(text).expect("good WAT");
        assert_eq!(version(&module), Ok(Version { abi: 9, build }));
    }
}

const FUNCTION: &str =
    "(func (export \"psexec_filter\") (param i32 i32 i32 i32 i32 i32) (result i32)";

const ABI_FUNCTION: &str = "(func (export \"psexec_filter_abi\") (result i32)";

/// For any other file than the module there is a message that names the file, what is wrong with it, and what to do.
#[test]
fn a_file_that_is_no_such_module_is_refused_with_its_name_and_what_is_wrong() {
    let folder = tempfile::tempdir().expect("a folder");
    let wat = |text: &str| wat::parse_str(text).expect("good WAT");
    let imports = format!(
        "(module (import \"wasi_snapshot_preview1\" \"fd_write\" (func)) {FUNCTION} unreachable))"
    );
    for (name, bytes, says) in [
        ("none", None, "cannot be read"),
        ("empty", Some(Vec::new()), "not a WebAssembly module"),
        (
            "text",
            Some(b"hello".to_vec()),
            "expected the file that `make build` writes to target/psexec_filter.wasm",
        ),
        (
            "cut",
            Some(module()[..module().len() / 2].to_vec()),
            "not a WebAssembly module",
        ),
        (
            "other",
            Some(wat("(module (func (export \"other\")))")),
            "does not export the function `psexec_filter`",
        ),
        (
            "signature",
            Some(wat("(module (func (export \"psexec_filter\")))")),
            "Fluent Bit calls (i32, i32, i32, i32, i32, i32) -> i32",
        ),
        (
            "imports",
            Some(wat(&imports)),
            "imports `wasi_snapshot_preview1.fd_write`",
        ),
        (
            "older",
            Some(wat(&format!("(module {FUNCTION} unreachable))"))),
            "the module has no ABI number: it is older, or another filter; this program uses modules of ABI ",
        ),
        (
            "computed",
            Some(wat(&format!(
                "(module {FUNCTION} unreachable) {ABI_FUNCTION} (i32.add (i32.const 0) (i32.const {ABI}))))"
            ))),
            "the module has no ABI number",
        ),
        (
            "newer",
            Some(wat(&format!(
                "(module {FUNCTION} unreachable) {ABI_FUNCTION} i32.const {}))",
                ABI + 1
            ))),
            &format!(
                "the module has ABI {}; this program uses modules of ABI {ABI}. Use module and program of one release",
                ABI + 1
            ),
        ),
    ] {
        let path = folder.path().join(name);
        if let Some(bytes) = bytes {
            std::fs::write(&path, bytes).expect("written");
        }
        let error = Module::load(Some(&path), None).err().expect(name);
        assert!(error.starts_with(&path.display().to_string()), "{error}");
        assert!(error.contains(says), "{error}");
    }
    let built_in = Module::load(None, None).expect("the built-in module");
    assert_eq!(built_in.bytes(), module());
    let error = Module::load(None, Some(Path::new("no-such-policy.toml")))
        .err()
        .expect("no policy");
    assert!(
        error.starts_with("no-such-policy.toml: cannot be read"),
        "{error}"
    );
}

/// A module that loads but misbehaves in a call: the caller gets an error that says how, and keeps the record.
#[test]
fn a_module_that_misbehaves_in_a_call_is_an_error() {
    let rest = r#"(memory (export "memory") 2 2) (func (export "free") (param i32))"#;
    let gives = r#"(func (export "malloc") (param i32) (result i32) i32.const 1024)"#;
    let gives_none = r#"(func (export "malloc") (param i32) (result i32) i32.const 0)"#;
    for (what, malloc, body, good) in [
        (
            "traps",
            gives,
            "unreachable",
            (|error| matches!(error, CallError::Trap(why) if why.contains("unreachable")))
                as fn(&CallError) -> bool,
        ),
        (
            "returns an address outside",
            gives,
            "i32.const 200000",
            |error| matches!(error, CallError::BadAddress(200_000)),
        ),
        ("gives no memory", gives_none, "local.get 4", |error| {
            matches!(error, CallError::NoMemory(1))
        }),
    ] {
        let module = wat::parse_str(format!("(module {rest} {malloc} {FUNCTION} {body}))"))
            .expect("good WAT");
        for (engine, mut module) in engines_with(&module, Options::default()) {
            for _ in 0..2 {
                let error = module.call("t", 0, 0, b"{\"a\":\"bcd\"}").expect_err(what);
                assert!(good(&error), "{what} on {engine}: {error:?}");
                assert!(error.to_string().starts_with("the module "), "{error}");
            }
            assert!(
                module.stats().is_err_and(|error| error
                    .to_string()
                    .contains("does not export `psexec_filter_stats`")),
                "{what} on {engine}"
            );
        }
    }
    let echo = wat::parse_str(format!("(module {rest} {gives} {FUNCTION} local.get 4))"))
        .expect("good WAT");
    for (engine, mut module) in engines_with(&echo, Options::default()) {
        assert_eq!(
            module.call("", 0, 0, b"{}"),
            Ok(Answer::Unchanged),
            "{engine}"
        );
    }
}
