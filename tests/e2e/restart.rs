//! A call that dies must not poison the next one: Fluent Bit goes on with the same instance.

use psexec_filter_tests::{Host, module};
use serde_json::Value;
use std::sync::OnceLock;
use wasmtime::{Config, Engine, Instance, Memory, Module, Store, TypedFunc};

/// The module under an engine that can be made to stop a call at any instruction.
struct Mortal {
    store: Store<()>,
    memory: Memory,
    malloc: TypedFunc<u32, u32>,
    function: TypedFunc<(u32, u32, u32, u32, u32, u32), u32>,
    stats: TypedFunc<(), u32>,
}

impl Mortal {
    fn new() -> Mortal {
        static COMPILED: OnceLock<Module> = OnceLock::new();
        let module = COMPILED.get_or_init(|| {
            let engine = Engine::new(Config::new().consume_fuel(true)).expect("an engine");
            Module::new(&engine, module()).expect("the module loads")
        });
        let mut store = Store::new(module.engine(), ());
        store.set_fuel(u64::MAX).expect("fuel");
        let instance = Instance::new(&mut store, module, &[]).expect("it starts");
        Mortal {
            memory: instance.get_memory(&mut store, "memory").expect("memory"),
            malloc: instance.get_typed_func(&mut store, "malloc").expect("malloc"),
            function: instance.get_typed_func(&mut store, "psexec_filter").expect("the function"),
            stats: instance.get_typed_func(&mut store, "psexec_filter_stats").expect("the counters"),
            store,
        }
    }

    /// The string that is returned, or `None` if the call died within `fuel` instructions.
    fn call(&mut self, record: &str, fuel: u64) -> Option<String> {
        let size = u32::try_from(record.len() + 1).expect("small");
        let tag = self.malloc.call(&mut self.store, 1).expect("memory");
        let at = self.malloc.call(&mut self.store, size).expect("memory");
        self.memory.write(&mut self.store, at as usize, format!("{record}\0").as_bytes()).expect("it fits");
        self.store.set_fuel(fuel).expect("fuel");
        let returned = self.function.call(&mut self.store, (tag, 0, 0, 0, at, size - 1));
        self.store.set_fuel(u64::MAX).expect("fuel");
        Some(self.string(returned.ok()?))
    }

    fn string(&self, at: u32) -> String {
        let rest = &self.memory.data(&self.store)[at as usize..];
        let end = rest.iter().position(|byte| *byte == 0).expect("a string ends");
        String::from_utf8(rest[..end].to_vec()).expect("UTF-8")
    }

    fn restarts(&mut self) -> u64 {
        let at = self.stats.call(&mut self.store, ()).expect("the counters");
        let stats: Value = serde_json::from_str(&self.string(at)).expect("JSON");
        stats["counters"]["restarts"].as_u64().expect("a number")
    }
}

#[test]
fn after_a_call_that_died_the_next_ones_work() {
    let host = Host::new("PC1");
    let records = host.psexec(0, 7, "10.55.1.77");
    // A little further into the call each time: reading, remembering, judging, writing the alert.
    let mut died = 0;
    for fuel in (0..60_000).step_by(1_500) {
        let mut module = Mortal::new();
        for record in &records[..2] {
            assert_eq!(module.call(record, u64::MAX).as_ref(), Some(record));
        }
        if module.call(&records[2], fuel).is_some() {
            break;
        }
        died += 1;
        assert_eq!(module.restarts(), u64::from(fuel > 500), "{fuel}");
        // What was remembered is gone; the next attack is found.
        let after = Host::new("PC2").psexec(60_000, 8, "10.55.1.77");
        let found = after.iter().filter(|record| module.call(record, u64::MAX).as_ref() != Some(record)).count();
        assert_eq!(found, 2, "{fuel}");
    }
    assert!(died > 5, "{died}");
}

/// However often it dies, and wherever (in the allocator, too): no record is lost and memory does not grow. The first
/// dozens of times the next attack is found; in the end, when no stack is left, records just pass.
#[test]
fn a_module_that_dies_for_ever_passes_records_on() {
    let mut module = Mortal::new();
    let text = "x".repeat(900);
    let (mut memory, mut found) = (0, 0);
    for n in 0..1_000u32 {
        let host = Host::new(&format!("PC{n}"));
        let file = host.file(0, "System", &format!(r"C:\Windows\{text}.exe"));
        assert_eq!(module.call(&file, u64::MAX).as_ref(), Some(&file), "{n}");
        let start = host.start(100, 10 + n, &format!(r"C:\Windows\{text}.exe"));
        let answer = module.call(&start, u64::MAX).expect("an answer");
        assert!(answer != start || n >= 16, "{n}: no alert");
        found += u32::from(answer != start);
        module.call(&host.start(200, n + 5_000, r"C:\Windows\b.exe"), u64::from(n * 29 % 3_000));
        let size = module.memory.data_size(&module.store);
        if n == 16 {
            memory = size;
        }
        assert!(n <= 16 || size == memory, "{n}: {size} bytes, once {memory}");
    }
    assert!(found < 1_000, "stack cannot be had back");
}
