//! WAMR's fast interpreter: what Fluent Bit runs filters on, with Fluent Bit's stack and heap of 8 KiB, and built as Fluent Bit
//! builds it for Linux: it is the processor that finds what is out of bounds (`src/wasm/CMakeLists.txt` sets
//! `WAMR_DISABLE_HW_BOUND_CHECK` for Windows alone).

use super::{Answer, CallError, Engine, Options, answer, string};
use std::ffi::{CStr, CString, c_char};
use std::sync::Once;
use wamrx_sys as sys;

/// `FLB_WASM_DEFAULT_HEAP_SIZE` (`plugins/filter_wasm/filter_wasm.h`). Not used by modules that have an allocator.
const HEAP: u32 = 8192;

thread_local! {
    static THREAD: Thread = Thread::new();
}

/// What WAMR needs on each thread that calls modules: its signal handler, and guard pages at the end of the stack. They have to go
/// with the thread, as its stack is used again by another one.
struct Thread;

impl Thread {
    fn new() -> Thread {
        // SAFETY: the runtime was started before.
        assert!(
            unsafe { sys::wasm_runtime_init_thread_env() },
            "WAMR did not start on this thread"
        );
        Thread
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        // SAFETY: undoes what `new` did on this thread, on which no module runs any more.
        unsafe { sys::wasm_runtime_destroy_thread_env() }
    }
}

/// A module under WAMR.
pub struct Wamr {
    environment: sys::wasm_exec_env_t,
    instance: sys::wasm_module_inst_t,
    module: sys::wasm_module_t,
    function: sys::wasm_function_inst_t,
    free: bool,
    /// WAMR keeps pointing into the bytes it loaded.
    _bytes: Box<[u8]>,
}

impl Wamr {
    /// Loads a module. The error is a message for people.
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
            let this = Wamr {
                environment,
                instance,
                module,
                function,
                free: options.free,
                _bytes: bytes,
            };
            if environment.is_null() {
                return Err("WAMR has no stack for the module".to_owned());
            }
            if function.is_null() {
                return Err(format!(
                    "the module does not export `{}` as Fluent Bit wants it",
                    options.function
                ));
            }
            Ok(this)
        }
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
                .unwrap_or_else(|| "no reason given".to_owned()),
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

    /// Takes and clears what WAMR noted, as Fluent Bit does after a failed call.
    fn exception(&mut self) -> Option<String> {
        // SAFETY: the text belongs to the instance and is copied before it is cleared.
        unsafe {
            let noted = sys::wasm_runtime_get_exception(self.instance);
            let copy = (!noted.is_null()).then(|| text(noted));
            sys::wasm_runtime_clear_exception(self.instance);
            copy
        }
    }

    /// The module's memory.
    fn memory(&self) -> &[u8] {
        // SAFETY: base and size are asked for anew each time, as memory may have grown and moved; nothing runs in the
        // module while the slice lives, because it borrows `self`.
        unsafe {
            let memory = sys::wasm_runtime_get_default_memory(self.instance);
            if memory.is_null() {
                return &[];
            }
            let base = sys::wasm_memory_get_base_address(memory).cast::<u8>();
            let bytes = sys::wasm_memory_get_cur_page_count(memory)
                * sys::wasm_memory_get_bytes_per_page(memory);
            std::slice::from_raw_parts(base, bytes as usize)
        }
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
        let answer = answer(self.memory(), returned, record_at, record);
        if self.free {
            for address in [tag_at, record_at] {
                // SAFETY: both came from this instance's `malloc`.
                unsafe { sys::wasm_runtime_module_free(self.instance, u64::from(address)) };
            }
        }
        answer
    }

    fn ask(&mut self, export: &str) -> Result<Option<String>, CallError> {
        let function = self.export(export)?;
        let address = self.invoke(function, &mut [])?;
        string(self.memory(), address)
    }

    fn tell(&mut self, export: &str, text: &[u8]) -> Result<u32, CallError> {
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
        // SAFETY: made in this order's reverse, each at most once; WAMR takes no null environment.
        unsafe {
            if !self.environment.is_null() {
                sys::wasm_runtime_destroy_exec_env(self.environment);
            }
            sys::wasm_runtime_deinstantiate(self.instance);
            sys::wasm_runtime_unload(self.module);
        }
    }
}

/// SAFETY of the caller: `message` is a NUL-terminated string.
unsafe fn text(message: *const c_char) -> String {
    // SAFETY: see above.
    unsafe { CStr::from_ptr(message) }
        .to_string_lossy()
        .into_owned()
}
