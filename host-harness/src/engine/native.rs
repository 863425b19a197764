//! wasmtime: the engine of the host program.

use super::{Answer, CallError, Engine, Options, answer, string};
use wasmtime::{Instance, Memory, Module, Store, TypedFunc};

/// A module under wasmtime.
pub struct Wasmtime {
    store: Store<()>,
    instance: Instance,
    memory: Memory,
    malloc: TypedFunc<u32, u32>,
    free: Option<TypedFunc<u32, ()>>,
    function: TypedFunc<(u32, u32, u32, u32, u32, u32), u32>,
}

/// A module compiled to machine code, which takes a while: the same one can be started several times.
#[derive(Clone)]
pub struct Compiled(Module);

impl Compiled {
    /// Compiles a module. The error is a message for people.
    pub fn new(module: &[u8]) -> Result<Compiled, String> {
        let engine = wasmtime::Engine::default();
        Module::new(&engine, module).map(Compiled).map_err(|error| format!("the module does not load: {error:#}"))
    }

    /// Starts it, without memories. The error is a message for people.
    pub fn start(&self, options: Options<'_>) -> Result<Wasmtime, String> {
        let mut store = Store::new(self.0.engine(), ());
        let instance = Instance::new(&mut store, &self.0, &[]).map_err(|error| format!("the module does not start: {error:#}"))?;
        let lacks = |name: &str| format!("the module does not export `{name}` as Fluent Bit wants it");
        let memory = instance.get_memory(&mut store, "memory").ok_or_else(|| lacks("memory"))?;
        let malloc = instance.get_typed_func(&mut store, "malloc").map_err(|_| lacks("malloc"))?;
        let free = instance.get_typed_func(&mut store, "free").map_err(|_| lacks("free"))?;
        let function = instance.get_typed_func(&mut store, options.function).map_err(|_| lacks(options.function))?;
        Ok(Wasmtime { store, instance, memory, malloc, free: options.free.then_some(free), function })
    }
}

impl Wasmtime {
    /// Compiles and starts a module. The error is a message for people.
    pub fn new(module: &[u8], options: Options<'_>) -> Result<Wasmtime, String> {
        Compiled::new(module)?.start(options)
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
    fn call(&mut self, tag: &str, seconds: u32, nanoseconds: u32, record: &[u8]) -> Result<Answer, CallError> {
        let tag_at = self.copy(tag.as_bytes())?;
        let record_at = self.copy(record)?;
        let arguments = (tag_at, tag.len() as u32, seconds, nanoseconds, record_at, record.len() as u32);
        let returned = self.function.call(&mut self.store, arguments).map_err(trap)?;
        let answer = answer(self.memory.data(&self.store), returned, record_at, record);
        if let Some(free) = &self.free {
            for address in [tag_at, record_at] {
                free.call(&mut self.store, address).map_err(trap)?;
            }
        }
        answer
    }

    fn ask(&mut self, export: &str) -> Result<Option<String>, CallError> {
        let function =
            self.instance.get_typed_func::<(), u32>(&mut self.store, export).map_err(|_| CallError::NoExport(export.to_owned()))?;
        let address = function.call(&mut self.store, ()).map_err(trap)?;
        string(self.memory.data(&self.store), address)
    }

    fn memory_bytes(&mut self) -> usize {
        self.memory.data_size(&self.store)
    }
}

fn trap(error: wasmtime::Error) -> CallError {
    CallError::Trap(error.root_cause().to_string())
}
