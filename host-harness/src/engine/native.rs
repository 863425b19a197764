//! wasmtime: the engine of the host program.

use super::{Answer, CallError, Engine, Options, answer, string};
use std::time::Duration;
use wasmtime::{Instance, Memory, Module, Store, StoreLimits, StoreLimitsBuilder, TypedFunc};

/// A module under wasmtime.
pub struct Wasmtime {
    store: Store<StoreLimits>,
    instance: Instance,
    memory: Memory,
    malloc: TypedFunc<u32, u32>,
    free: Option<TypedFunc<u32, ()>>,
    function: TypedFunc<(u32, u32, u32, u32, u32, u32), u32>,
    ticks: Option<u64>,
}

/// A module compiled to machine code, which takes a while: the same one can be started several times.
#[derive(Clone)]
pub struct Compiled {
    module: Module,
    /// How many [`TICK`]s a call may take, if there is an end.
    ticks: Option<u64>,
}

/// How exactly a deadline is kept.
const TICK: Duration = Duration::from_millis(10);

/// [`TICK`]s that a call with something else than a record may take at least.
const LONG: u64 = 1000;

/// Memory that a module can have at most, whatever it declares. Ours declares 16 MiB.
const MEMORY: usize = 64 * 1024 * 1024;

impl Compiled {
    /// Compiles a module. The error is a message for people.
    pub fn new(module: &[u8]) -> Result<Compiled, String> {
        Compiled::of(&wasmtime::Engine::default(), module, None)
    }

    /// The same; a call that takes longer than `deadline` dies.
    pub fn with_deadline(module: &[u8], deadline: Duration) -> Result<Compiled, String> {
        let mut config = wasmtime::Config::new();
        config.epoch_interruption(true);
        let engine = wasmtime::Engine::new(&config)
            .map_err(|error| format!("wasmtime does not start: {error:#}"))?;
        // Ends with the last module of the engine.
        let clock = engine.weak();
        let tick = move || {
            while let Some(engine) = clock.upgrade() {
                engine.increment_epoch();
                drop(engine);
                std::thread::sleep(TICK);
            }
        };
        let thread = std::thread::Builder::new()
            .name("deadline".to_owned())
            .spawn(tick);
        thread.map_err(|error| format!("cannot start a thread: {error}"))?;
        let ticks = deadline.as_millis().div_ceil(TICK.as_millis()) as u64 + 1;
        Compiled::of(&engine, module, Some(ticks))
    }

    fn of(
        engine: &wasmtime::Engine,
        module: &[u8],
        ticks: Option<u64>,
    ) -> Result<Compiled, String> {
        let module = Module::new(engine, module)
            .map_err(|error| format!("the module does not load: {error:#}"))?;
        Ok(Compiled { module, ticks })
    }

    /// Starts it, without memories. The error is a message for people.
    pub fn start(&self, options: Options<'_>) -> Result<Wasmtime, String> {
        let mut store = Store::new(
            self.module.engine(),
            StoreLimitsBuilder::new().memory_size(MEMORY).build(),
        );
        store.limiter(|limits| limits);
        if let Some(ticks) = self.ticks {
            store.set_epoch_deadline(ticks);
        }
        let instance = Instance::new(&mut store, &self.module, &[])
            .map_err(|error| format!("the module does not start: {error:#}"))?;
        let lacks =
            |name: &str| format!("the module does not export `{name}` as Fluent Bit wants it");
        let memory = instance
            .get_memory(&mut store, "memory")
            .ok_or_else(|| lacks("memory"))?;
        let malloc = instance
            .get_typed_func(&mut store, "malloc")
            .map_err(|_| lacks("malloc"))?;
        let free = instance
            .get_typed_func(&mut store, "free")
            .map_err(|_| lacks("free"))?;
        let function = instance
            .get_typed_func(&mut store, options.function)
            .map_err(|_| lacks(options.function))?;
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

impl Wasmtime {
    /// Compiles and starts a module. The error is a message for people.
    pub fn new(module: &[u8], options: Options<'_>) -> Result<Wasmtime, String> {
        Compiled::new(module)?.start(options)
    }

    /// A call begins: its time counts from here. What is no record may take longer: there is more of it.
    fn arm(&mut self, least: u64) {
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
        self.arm(0);
        let tag_at = self.copy(tag.as_bytes())?;
        let record_at = self.copy(record)?;
        let arguments = (
            tag_at,
            tag.len() as u32,
            seconds,
            nanoseconds,
            record_at,
            record.len() as u32,
        );
        let returned = self
            .function
            .call(&mut self.store, arguments)
            .map_err(trap)?;
        let answer = answer(self.memory.data(&self.store), returned, record_at, record);
        if let Some(free) = &self.free {
            for address in [tag_at, record_at] {
                free.call(&mut self.store, address).map_err(trap)?;
            }
        }
        answer
    }

    fn ask(&mut self, export: &str) -> Result<Option<String>, CallError> {
        let function = self
            .instance
            .get_typed_func::<(), u32>(&mut self.store, export)
            .map_err(|_| CallError::NoExport(export.to_owned()))?;
        self.arm(LONG);
        let address = function.call(&mut self.store, ()).map_err(trap)?;
        string(self.memory.data(&self.store), address)
    }

    fn tell(&mut self, export: &str, text: &[u8]) -> Result<u32, CallError> {
        let function = self
            .instance
            .get_typed_func::<(u32, u32), u32>(&mut self.store, export)
            .map_err(|_| CallError::NoExport(export.to_owned()))?;
        self.arm(LONG);
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
    // The clock of `Compiled::with_deadline`.
    if error.downcast_ref() == Some(&wasmtime::Trap::Interrupt) {
        return CallError::Trap("it took longer than it may".to_owned());
    }
    CallError::Trap(error.root_cause().to_string())
}
