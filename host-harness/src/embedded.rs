//! The module that this program carries: as WebAssembly, and as machine code compiled from it at build time.

/// The module with the default policy, as WebAssembly.
pub const MODULE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/psexec_filter.wasm"));

/// Version and ABI of [`MODULE`], as [`psexec_filter_pack::version`] reads them from it.
pub const VERSION: &str = env!("PSEXEC_FILTER_MODULE");

/// [`MODULE`] as `build.rs` compiled it with wasmtime for the baseline processor of the target. Empty if wasmtime cannot
/// compile for the target on the machine that built this program.
pub const MACHINE_CODE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/psexec_filter.cwasm"));
