//! WAMR's fast interpreter, which Fluent Bit runs filters on, with Fluent Bit's stack and heap of 8 KiB. Like Fluent Bit's
//! Linux builds it detects accesses out of bounds by page faults (`src/wasm/CMakeLists.txt` sets `WAMR_DISABLE_HW_BOUND_CHECK`
//! for Windows only).

#![allow(unsafe_code)]

use super::answer::{Answer, CallError, read_answer, read_string};
use super::interface::{Engine, Options, missing_export};
use psexec_filter_pack::REGION;
use std::ffi::{CStr, CString, c_char};
use std::sync::Once;
use wamrx_sys as sys;

/// `FLB_WASM_DEFAULT_HEAP_SIZE` (`plugins/filter_wasm/filter_wasm.h`). Not used by modules that have an allocator.
const HEAP: u32 = 8192;

thread_local! {
    static THREAD: Thread = Thread::new();
}

/// What WAMR needs on each thread that calls modules: its signal handler, and guard pages at the end of the stack. They are
/// removed when the thread ends, because another thread may get the same stack.
struct Thread;

impl Thread {
    fn new() -> Thread {
        // SAFETY: the runtime is started before the first thread uses it.
        assert!(
            unsafe { sys::wasm_runtime_init_thread_env() },
            "WAMR did not start on this thread"
        );
        Thread
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        // SAFETY: undoes what `new` did on this thread, which runs no module any more.
        unsafe { sys::wasm_runtime_destroy_thread_env() }
    }
}

/// An instance of the module under WAMR.
pub struct Wamr {
    environment: sys::wasm_exec_env_t,
    instance: sys::wasm_module_inst_t,
    module: sys::wasm_module_t,
    function: sys::wasm_function_inst_t,
    free: bool,
    /// WAMR keeps pointers into the bytes that it loaded.
    _bytes: Box<[u8]>,
}

impl Wamr {
    /// Loads a module and starts an instance. The error is a message for the operator.
    pub fn new(module: &[u8], options: Options<'_>) -> Result<Wamr, String> {
        static RUNTIME: Once = Once::new();
        // SAFETY: called once; the arguments are a plain struct of zeroes, which chooses the system's allocator.
        RUNTIME.call_once(|| unsafe {
            let mut arguments = sys::RuntimeInitArgs {
                mem_alloc_type: sys::Alloc_With_System_Allocator,
                ..Default::default()
            };
            assert!(
                sys::wasm_runtime_full_init(&mut arguments),
                "WAMR did not start"
            );
        });
        THREAD.with(|_| ());
        let mut bytes: Box<[u8]> = module.into();
        let mut error = [0 as c_char; 256];
        let name = CString::new(options.function)
            .map_err(|_| "a function name cannot hold a NUL".to_owned())?;
        // SAFETY: every pointer is checked before it is used; `bytes` lives as long as the module.
        unsafe {
            let module = sys::wasm_runtime_load(
                bytes.as_mut_ptr(),
                bytes.len() as u32,
                error.as_mut_ptr(),
                error.len() as u32,
            );
            if module.is_null() {
                return Err(format!(
                    "the module does not load: {}",
                    text(error.as_ptr())
                ));
            }
            let instance = sys::wasm_runtime_instantiate(
                module,
                options.stack,
                HEAP,
                error.as_mut_ptr(),
                error.len() as u32,
            );
            if instance.is_null() {
                sys::wasm_runtime_unload(module);
                return Err(format!(
                    "the module does not start: {}",
                    text(error.as_ptr())
                ));
            }
            let environment = sys::wasm_runtime_create_exec_env(instance, options.stack);
            let function = sys::wasm_runtime_lookup_function(instance, name.as_ptr());
            let mut this = Wamr {
                environment,
                instance,
                module,
                function,
                free: options.free,
                _bytes: bytes,
            };
            if environment.is_null() {
                return Err("WAMR has no memory for the module's stack".to_owned());
            }
            if function.is_null() {
                return Err(missing_export(options.function));
            }
            if let Some(policy) = options.policy {
                this.write_policy(policy)?;
            }
            Ok(this)
        }
    }

    /// Writes the policy into the region that the module exports.
    fn write_policy(&mut self, policy: &[u8]) -> Result<(), String> {
        let name = CString::new(REGION).map_err(|error| error.to_string())?;
        let mut global = sys::wasm_global_inst_t::default();
        // SAFETY: the name is terminated, and WAMR fills in `global` where it returns true.
        let found = unsafe {
            sys::wasm_runtime_get_export_global_inst(self.instance, name.as_ptr(), &mut global)
        };
        if !found || global.global_data.is_null() {
            return Err(missing_export(REGION));
        }
        // SAFETY: an exported global of the module is an i32, to whose value WAMR points; it may not be aligned.
        let region = unsafe { global.global_data.cast::<u32>().read_unaligned() } as usize;
        let room = self
            .memory_mut()
            .get_mut(region..region.saturating_add(policy.len()))
            .ok_or_else(|| format!("the module has no room for a policy at its `{REGION}`"))?;
        room.copy_from_slice(policy);
        Ok(())
    }

    fn copy(&mut self, bytes: &[u8]) -> Result<u32, CallError> {
        let mut terminated = Vec::with_capacity(bytes.len() + 1);
        terminated.extend_from_slice(bytes);
        terminated.push(0);
        // SAFETY: the source has the length given; WAMR checks the module's side.
        let address = unsafe {
            sys::wasm_runtime_module_dup_data(
                self.instance,
                terminated.as_ptr().cast(),
                terminated.len() as u64,
            )
        };
        match u32::try_from(address) {
            Ok(0) | Err(_) => Err(self
                .exception()
                .map_or(CallError::NoMemory(bytes.len()), CallError::Trap)),
            Ok(address) => Ok(address),
        }
    }

    fn invoke(
        &mut self,
        function: sys::wasm_function_inst_t,
        arguments: &mut [u32],
    ) -> Result<u32, CallError> {
        let count = arguments.len() as u32;
        // WAMR writes the result over the first argument.
        let mut cells = [0u32; 8];
        cells[..arguments.len()].copy_from_slice(arguments);
        // SAFETY: environment and function belong to this instance; there is a cell for the result.
        if unsafe {
            sys::wasm_runtime_call_wasm(self.environment, function, count, cells.as_mut_ptr())
        } {
            return Ok(cells[0]);
        }
        Err(CallError::Trap(
            self.exception()
                .unwrap_or_else(|| "WAMR gave no reason".to_owned()),
        ))
    }

    fn export(&self, name: &str) -> Result<sys::wasm_function_inst_t, CallError> {
        let missing = || CallError::NoExport(name.to_owned());
        let terminated = CString::new(name).map_err(|_| missing())?;
        // SAFETY: the name is terminated; the result is checked.
        let function =
            unsafe { sys::wasm_runtime_lookup_function(self.instance, terminated.as_ptr()) };
        if function.is_null() {
            Err(missing())
        } else {
            Ok(function)
        }
    }

    /// Takes the reason of a failed call and clears it, as Fluent Bit does.
    fn exception(&mut self) -> Option<String> {
        // SAFETY: the text belongs to the instance and is copied before it is cleared.
        unsafe {
            let reason = sys::wasm_runtime_get_exception(self.instance);
            let copy = (!reason.is_null()).then(|| text(reason));
            sys::wasm_runtime_clear_exception(self.instance);
            copy
        }
    }

    /// Address and size of the module's memory; no bytes at all if it has none.
    fn memory_range(&self) -> (*mut u8, usize) {
        const NOTHING: (*mut u8, usize) = (std::ptr::NonNull::dangling().as_ptr(), 0);
        // SAFETY: the instance is alive; WAMR's answer is checked.
        unsafe {
            let memory = sys::wasm_runtime_get_default_memory(self.instance);
            if memory.is_null() {
                return NOTHING;
            }
            let base = sys::wasm_memory_get_base_address(memory).cast::<u8>();
            if base.is_null() {
                return NOTHING;
            }
            let bytes = sys::wasm_memory_get_cur_page_count(memory)
                * sys::wasm_memory_get_bytes_per_page(memory);
            (base, bytes as usize)
        }
    }

    /// The module's memory.
    fn memory(&self) -> &[u8] {
        let (base, bytes) = self.memory_range();
        // SAFETY: the range is read anew each time, because memory may have grown and moved; the module does not run while
        // the slice lives, because the slice borrows `self`.
        unsafe { std::slice::from_raw_parts(base, bytes) }
    }

    /// The module's memory, for writing.
    fn memory_mut(&mut self) -> &mut [u8] {
        let (base, bytes) = self.memory_range();
        // SAFETY: as in `memory`; the slice borrows `self` exclusively.
        unsafe { std::slice::from_raw_parts_mut(base, bytes) }
    }
}

impl Engine for Wamr {
    fn call(
        &mut self,
        tag: &str,
        seconds: u32,
        nanoseconds: u32,
        record: &[u8],
    ) -> Result<Answer, CallError> {
        let tag_at = self.copy(tag.as_bytes())?;
        let record_at = self.copy(record)?;
        let mut arguments = [
            tag_at,
            tag.len() as u32,
            seconds,
            nanoseconds,
            record_at,
            record.len() as u32,
        ];
        let returned = self.invoke(self.function, &mut arguments)?;
        let answer = read_answer(self.memory(), returned, record_at, record);
        if self.free {
            for address in [tag_at, record_at] {
                // SAFETY: both came from this instance's `malloc`.
                unsafe { sys::wasm_runtime_module_free(self.instance, u64::from(address)) };
            }
        }
        answer
    }

    fn call_export(&mut self, export: &str) -> Result<Option<String>, CallError> {
        let function = self.export(export)?;
        let address = self.invoke(function, &mut [])?;
        read_string(self.memory(), address)
    }

    fn send(&mut self, export: &str, text: &[u8]) -> Result<u32, CallError> {
        let function = self.export(export)?;
        let address = self.copy(text)?;
        self.invoke(function, &mut [address, text.len() as u32])
    }

    fn memory_bytes(&mut self) -> usize {
        self.memory().len()
    }
}

impl Drop for Wamr {
    fn drop(&mut self) {
        // SAFETY: each is destroyed once, in the reverse order of creation; WAMR does not accept a null environment.
        unsafe {
            if !self.environment.is_null() {
                sys::wasm_runtime_destroy_exec_env(self.environment);
            }
            sys::wasm_runtime_deinstantiate(self.instance);
            sys::wasm_runtime_unload(self.module);
        }
    }
}

/// Copies a string of WAMR's.
///
/// # Safety
///
/// `message` must be a NUL-terminated string.
unsafe fn text(message: *const c_char) -> String {
    // SAFETY: the caller promises it.
    unsafe { CStr::from_ptr(message) }
        .to_string_lossy()
        .into_owned()
}
