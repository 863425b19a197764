//! wasmtime, the engine that the program uses by default: it compiles the module to machine code.

use super::answer::{Answer, CallError, read_answer, read_string};
use super::config::config;
use super::interface::{Engine, Options, missing_export};
use crate::embedded;
use psexec_filter_pack::REGION;
use std::time::Duration;
use wasmtime::{Instance, Memory, Module, Store, StoreLimits, StoreLimitsBuilder, TypedFunc};

/// How exactly a deadline is kept.
const TICK: Duration = Duration::from_millis(10);

/// Least number of [`TICK`]s for a call that is not about one record, such as taking a snapshot of all state: 10 s.
const LEAST_EXPORT_TICKS: u64 = 1000;

/// Memory that an instance gets at most, in bytes, whatever the module declares. This project's module declares 16 MiB.
const MEMORY: usize = 64 * 1024 * 1024;

/// The parameters of Fluent Bit's filter function: tag and its length, seconds, nanoseconds, record and its length.
type Parameters = (u32, u32, u32, u32, u32, u32);

/// A module as machine code, from which instances start in about a millisecond.
#[derive(Clone)]
pub struct Compiled {
    module: Module,
    /// How many [`TICK`]s a call may take; `None` for any number.
    ticks: Option<u64>,
}

impl Compiled {
    /// Gets the machine code of a module: for the built-in module the one from build time, where this processor can run it;
    /// any other module is compiled. The error is a message for the operator.
    pub fn new(module: &[u8]) -> Result<Compiled, String> {
        if module == embedded::MODULE
            && let Some(compiled) = Compiled::precompiled()
        {
            return Ok(compiled);
        }
        Compiled::compile(module)
    }

    /// Compiles a module, which takes more than half a second of processor time for this project's module. The error is a
    /// message for the operator.
    pub fn compile(module: &[u8]) -> Result<Compiled, String> {
        let module = Module::new(&engine()?, module)
            .map_err(|error| format!("the module does not load: {error:#}"))?;
        Ok(Compiled {
            module,
            ticks: None,
        })
    }

    /// The machine code of the built-in module from build time. `None` if there is none for this platform (it is empty then),
    /// or the processor lacks something that it uses.
    pub fn precompiled() -> Option<Compiled> {
        let engine = engine().ok()?;
        // SAFETY: the bytes were written by `Engine::precompile_module` in this crate's build script and are part of this
        // program, so they are what wasmtime compiled. wasmtime itself checks its version, its settings and the processor.
        #[allow(unsafe_code)]
        let module = unsafe { Module::deserialize(&engine, embedded::MACHINE_CODE) }.ok()?;
        Some(Compiled {
            module,
            ticks: None,
        })
    }

    /// Makes each call trap that takes longer than `deadline`. The error is a message for the operator.
    pub fn with_deadline(mut self, deadline: Duration) -> Result<Compiled, String> {
        // The thread ends with the last module of the engine.
        let engine = self.module.engine().weak();
        let tick = move || {
            while let Some(engine) = engine.upgrade() {
                engine.increment_epoch();
                drop(engine);
                std::thread::sleep(TICK);
            }
        };
        std::thread::Builder::new()
            .name("deadline".to_owned())
            .spawn(tick)
            .map_err(|error| format!("cannot start the thread that keeps deadlines: {error}"))?;
        // One more, because the first tick may come at once.
        self.ticks = Some(deadline.as_millis().div_ceil(TICK.as_millis()) as u64 + 1);
        Ok(self)
    }

    /// Starts an instance with empty state. The error is a message for the operator.
    pub fn start(&self, options: Options<'_>) -> Result<Wasmtime, String> {
        let limits = StoreLimitsBuilder::new().memory_size(MEMORY).build();
        let mut store = Store::new(self.module.engine(), limits);
        store.limiter(|limits| limits);
        // Half of all epochs is as good as never; all of them would overflow.
        store.set_epoch_deadline(self.ticks.unwrap_or(u64::MAX / 2));
        let instance = Instance::new(&mut store, &self.module, &[])
            .map_err(|error| format!("the module does not start: {error:#}"))?;
        let memory = instance
            .get_memory(&mut store, "memory")
            .ok_or_else(|| missing_export("memory"))?;
        let malloc = instance
            .get_typed_func(&mut store, "malloc")
            .map_err(|_| missing_export("malloc"))?;
        let free = instance
            .get_typed_func(&mut store, "free")
            .map_err(|_| missing_export("free"))?;
        let function = instance
            .get_typed_func(&mut store, options.function)
            .map_err(|_| missing_export(options.function))?;
        if let Some(policy) = options.policy {
            let region = instance
                .get_global(&mut store, REGION)
                .and_then(|global| global.get(&mut store).i32())
                .ok_or_else(|| missing_export(REGION))?;
            memory
                .write(&mut store, region as u32 as usize, policy)
                .map_err(|_| format!("the module has no room for a policy at its `{REGION}`"))?;
        }
        Ok(Wasmtime {
            store,
            instance,
            memory,
            malloc,
            free: options.free.then_some(free),
            function,
            ticks: self.ticks,
        })
    }
}

/// A new engine: the deadlines of its modules are counted apart from those of others.
fn engine() -> Result<wasmtime::Engine, String> {
    wasmtime::Engine::new(&config()).map_err(|error| format!("wasmtime does not start: {error:#}"))
}

/// An instance of the module under wasmtime.
pub struct Wasmtime {
    store: Store<StoreLimits>,
    instance: Instance,
    memory: Memory,
    malloc: TypedFunc<u32, u32>,
    free: Option<TypedFunc<u32, ()>>,
    function: TypedFunc<Parameters, u32>,
    ticks: Option<u64>,
}

impl Wasmtime {
    /// Gets the machine code of a module ([`Compiled::new`]) and starts an instance. The error is a message for the operator.
    pub fn new(module: &[u8], options: Options<'_>) -> Result<Wasmtime, String> {
        Compiled::new(module)?.start(options)
    }

    /// Starts the time of a call, which gets `least` [`TICK`]s even if the deadline is shorter.
    fn arm_deadline(&mut self, least: u64) {
        if let Some(ticks) = self.ticks {
            self.store.set_epoch_deadline(ticks.max(least));
        }
    }

    /// Copies bytes and a NUL into the module, as `wasm_runtime_module_dup_data` does.
    fn copy(&mut self, bytes: &[u8]) -> Result<u32, CallError> {
        let size = u32::try_from(bytes.len() + 1).map_err(|_| CallError::NoMemory(bytes.len()))?;
        let address = self.malloc.call(&mut self.store, size).map_err(trap)?;
        let at = address as usize;
        let memory = self.memory.data_mut(&mut self.store);
        match memory.get_mut(at..at + bytes.len() + 1) {
            Some(room) if address != 0 => {
                room[..bytes.len()].copy_from_slice(bytes);
                room[bytes.len()] = 0;
                Ok(address)
            }
            _ => Err(CallError::NoMemory(bytes.len())),
        }
    }
}

impl Engine for Wasmtime {
    fn call(
        &mut self,
        tag: &str,
        seconds: u32,
        nanoseconds: u32,
        record: &[u8],
    ) -> Result<Answer, CallError> {
        self.arm_deadline(0);
        let tag_at = self.copy(tag.as_bytes())?;
        let record_at = self.copy(record)?;
        let parameters = (
            tag_at,
            tag.len() as u32,
            seconds,
            nanoseconds,
            record_at,
            record.len() as u32,
        );
        let returned = self
            .function
            .call(&mut self.store, parameters)
            .map_err(trap)?;
        let answer = read_answer(self.memory.data(&self.store), returned, record_at, record);
        if let Some(free) = &self.free {
            for address in [tag_at, record_at] {
                free.call(&mut self.store, address).map_err(trap)?;
            }
        }
        answer
    }

    fn call_export(&mut self, export: &str) -> Result<Option<String>, CallError> {
        let function = self
            .instance
            .get_typed_func::<(), u32>(&mut self.store, export)
            .map_err(|_| CallError::NoExport(export.to_owned()))?;
        self.arm_deadline(LEAST_EXPORT_TICKS);
        let address = function.call(&mut self.store, ()).map_err(trap)?;
        read_string(self.memory.data(&self.store), address)
    }

    fn send(&mut self, export: &str, text: &[u8]) -> Result<u32, CallError> {
        let function = self
            .instance
            .get_typed_func::<(u32, u32), u32>(&mut self.store, export)
            .map_err(|_| CallError::NoExport(export.to_owned()))?;
        self.arm_deadline(LEAST_EXPORT_TICKS);
        let address = self.copy(text)?;
        function
            .call(&mut self.store, (address, text.len() as u32))
            .map_err(trap)
    }

    fn memory_bytes(&mut self) -> usize {
        self.memory.data_size(&self.store)
    }
}

fn trap(error: wasmtime::Error) -> CallError {
    if error.downcast_ref() == Some(&wasmtime::Trap::Interrupt) {
        return CallError::Trap("the call took longer than its deadline".to_owned());
    }
    CallError::Trap(error.root_cause().to_string())
}
