//! Builds the module and packs the default policy into it, so that the program carries it inside and plain
//! `cargo build` is all there is to do.

use std::path::{Path, PathBuf};
use std::process::{Command, exit};

const TARGET: &str = "wasm32-unknown-unknown";

fn main() {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("..");
    let out = PathBuf::from(variable("OUT_DIR"));
    for input in [
        "plugin",
        "configs/policy.toml",
        "host-harness/pack/src",
        "Cargo.toml",
        "Cargo.lock",
    ] {
        println!("cargo:rerun-if-changed={}", root.join(input).display());
    }
    // target/<profile>/build/<this package>/out: beside all of them, so that the module is built once for every set of features.
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
    std::fs::write(out.join("psexec_filter.wasm"), packed)
        .unwrap_or_else(|error| fail(&error.to_string()));
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
        .args(["--profile", "wasm", "--target", TARGET])
        .arg("--target-dir")
        .arg(target_dir)
        // LLVM's loop strength reduction gives each load of a loop an address of its own, where WebAssembly adds an offset for nothing:
        // an interpreter pays for every one.
        .args(["--", "-Cllvm-args=-disable-lsr"])
        // These are meant for the host's own compiler runs (flags, clippy, coverage).
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(_) => fail(&format!(
            "the module did not build for {TARGET}. If the target is missing, install it with: rustup target add {TARGET}"
        )),
        Err(error) => fail(&format!("cargo did not start: {error}")),
    }
    target_dir
        .join(TARGET)
        .join("wasm/psexec_filter_plugin.wasm")
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| fail(&format!("cargo did not set {name}")))
}

fn fail(message: &str) -> ! {
    eprintln!("error: {message}");
    exit(1)
}
