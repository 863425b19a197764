//! Builds the module, packs the default policy into it and compiles it to machine code, so that the program contains both and
//! plain `cargo build` makes all of it.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, exit};

#[path = "src/engine/config.rs"]
mod config;

const WASM: &str = "wasm32-unknown-unknown";

fn main() {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("..");
    let out = PathBuf::from(variable("OUT_DIR"));
    for input in [
        "plugin",
        "configs/policy.toml",
        "host-harness/build.rs",
        "host-harness/pack/src",
        "host-harness/src/engine/config.rs",
        "Cargo.toml",
        "Cargo.lock",
    ] {
        println!("cargo:rerun-if-changed={}", root.join(input).display());
    }
    println!("cargo:rerun-if-env-changed=PSEXEC_FILTER_COMMIT");
    // target/<profile>/build/<this package>/out: the folder is beside all of them, so that the module is built once for
    // every set of features.
    let shared = out
        .ancestors()
        .nth(3)
        .unwrap_or(&out)
        .join("psexec-filter-module");
    let built = build_module(&root, &shared);
    let module = std::fs::read(&built)
        .unwrap_or_else(|error| fail(&format!("{}: {error}", built.display())));
    let policy = psexec_filter_pack::policy_from_toml(
        psexec_filter_pack::DEFAULT_POLICY,
        "configs/policy.toml",
    );
    let packed: Vec<u8> = policy
        .and_then(|policy| {
            psexec_filter_pack::pack(&module, &policy).map_err(|error| error.to_string())
        })
        .unwrap_or_else(|error| fail(error.as_str()));
    let version = psexec_filter_pack::version(&packed)
        .unwrap_or_else(|error| fail(&format!("{}: {error}", built.display())));
    println!("cargo:rustc-env=PSEXEC_FILTER_MODULE={version}");
    let target = variable("TARGET");
    let machine_code = compile(&packed, &target).unwrap_or_else(|why| {
        println!(
            "cargo:warning=the module is not compiled ahead of time for {target} ({why}); the program compiles it at each start"
        );
        Vec::new()
    });
    for (name, bytes) in [
        ("psexec_filter.wasm", packed),
        ("psexec_filter.cwasm", machine_code),
    ] {
        std::fs::write(out.join(name), bytes)
            .unwrap_or_else(|error| fail(&format!("{name}: {error}")));
    }
}

fn build_module(root: &Path, target_dir: &Path) -> PathBuf {
    let status = Command::new(variable("CARGO"))
        .current_dir(root)
        .args([
            "rustc",
            "--quiet",
            "--package",
            "psexec-filter-plugin",
            "--lib",
            "--crate-type",
            "cdylib",
        ])
        .args(["--profile", "wasm", "--target", WASM])
        .arg("--target-dir")
        .arg(target_dir)
        // LLVM's loop strength reduction gives each load in a loop an address register of its own. In WebAssembly an offset
        // is free, and an interpreter pays for every register.
        .args(["--", "-Cllvm-args=-disable-lsr"])
        // These are meant for the host's own compiler runs (flags, clippy, coverage).
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(_) => fail(&format!(
            "the module did not build for {WASM}. If the target is missing, install it with: rustup target add {WASM}"
        )),
        Err(error) => fail(&format!("cargo did not start: {error}")),
    }
    target_dir.join(WASM).join("wasm/psexec_filter_plugin.wasm")
}

/// Compiles the module for the baseline processor of `target`: naming the target keeps wasmtime from using what the processor
/// of this machine has and an older one may lack.
fn compile(module: &[u8], target: &str) -> Result<Vec<u8>, String> {
    let mut config = config::config();
    config
        .target(target)
        .and_then(|config| wasmtime::Engine::new(config))
        .and_then(|engine| engine.precompile_module(module))
        .map_err(|error| format!("{error:#}"))
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| fail(&format!("cargo did not set {name}")))
}

fn fail(message: &str) -> ! {
    eprintln!("error: {message}");
    exit(1)
}
