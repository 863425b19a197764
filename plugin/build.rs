//! The module's version, and linker settings that belong to the module and must not depend on how cargo was called.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ARCH").as_deref() != Ok("wasm32") {
        return;
    }
    // `make dist` sets the commit. Other builds have none, so that a new commit alone does not build everything again.
    println!("cargo:rerun-if-env-changed=PSEXEC_FILTER_COMMIT");
    let version = env!("CARGO_PKG_VERSION");
    let build = match std::env::var("PSEXEC_FILTER_COMMIT") {
        Ok(commit) if !commit.is_empty() => format!("{version} ({commit})"),
        _ => version.to_owned(),
    };
    println!("cargo:rustc-env=PSEXEC_FILTER_BUILD={build}");
    // The most memory the module can ever have is part of the module itself, so that no shipper has to set it: 16 MiB.
    println!("cargo:rustc-link-arg=--max-memory=16777216");
    // Shadow stack. No code of ours recurses on input and 32 KiB is ample, but Fluent Bit on Linux builds WAMR with its
    // thread manager, which gives the one thread only a fifth (wasm_cluster_create): 512 KiB leaves 102. The rest is for
    // calls that died, which keep theirs (src/abi.rs).
    // Stack first means an overflow traps instead of overwriting data.
    println!("cargo:rustc-link-arg=-zstack-size=524288");
    println!("cargo:rustc-link-arg=--stack-first");
}
