//! A call that traps must not spoil the next one: Fluent Bit goes on with the same instance.

use psexec_filter::engine::{Answer, CallError, Engine};
use psexec_filter_tests::{Host, alerts, call, counter, engines, module, wasmtime};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::OnceLock;
use wasm_encoder::reencode::{Error, Reencode};
use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, ExportSection, Function, GlobalSection, GlobalType,
    Instruction, Module, ValType,
};

/// Rewrites a module so that a call traps after a given number of steps: functions entered and rounds of loops. The number is the time
/// of the call in seconds, which the filter does not need, because the records state times of their own. With 0 it does not trap, nor
/// do the other exported functions.
#[derive(Default)]
struct Trapping {
    /// The exported functions by their numbers, and whether each takes records.
    exported: HashMap<u32, bool>,
    /// The global that counts down.
    left: u32,
}

impl Trapping {
    /// Counts down and traps at 0. After that it counts on below 0, which takes very long to come back to 0.
    fn step(&self, function: &mut Function) {
        let mut instructions = function.instructions();
        instructions
            .global_get(self.left)
            .i32_const(1)
            .i32_sub()
            .global_set(self.left)
            .global_get(self.left)
            .i32_eqz();
        instructions.if_(BlockType::Empty).unreachable().end();
    }
}

impl Reencode for Trapping {
    type Error = Infallible;

    fn parse_global_section(
        &mut self,
        globals: &mut GlobalSection,
        section: wasmparser::GlobalSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        wasm_encoder::reencode::utils::parse_global_section(self, globals, section)?;
        self.left = globals.len();
        globals.global(
            GlobalType {
                val_type: ValType::I32,
                mutable: true,
                shared: false,
            },
            &ConstExpr::i32_const(0),
        );
        Ok(())
    }

    fn parse_export(
        &mut self,
        exports: &mut ExportSection,
        export: wasmparser::Export<'_>,
    ) -> Result<(), Error<Infallible>> {
        if export.kind == wasmparser::ExternalKind::Func {
            self.exported
                .insert(export.index, export.name == psexec_filter_pack::FUNCTION);
        }
        wasm_encoder::reencode::utils::parse_export(self, exports, export)
    }

    fn parse_function_body(
        &mut self,
        code: &mut CodeSection,
        body: wasmparser::FunctionBody<'_>,
    ) -> Result<(), Error<Infallible>> {
        let mut function = self.new_function_with_parsed_locals(&body)?;
        // Nothing is imported, so functions are numbered in the order of their bodies.
        match self.exported.get(&code.len()) {
            Some(true) => drop(function.instructions().local_get(2).global_set(self.left)),
            Some(false) => drop(function.instructions().i32_const(0).global_set(self.left)),
            None => {}
        }
        self.step(&mut function);
        let mut reader = body.get_operators_reader()?;
        while !reader.eof() {
            let instruction = self.parse_instruction(&mut reader)?;
            function.instruction(&instruction);
            if matches!(instruction, Instruction::Loop(_)) {
                self.step(&mut function);
            }
        }
        code.function(&function);
        Ok(())
    }
}

fn trapping() -> &'static [u8] {
    static MODULE: OnceLock<Vec<u8>> = OnceLock::new();
    MODULE.get_or_init(|| {
        let mut trapping = Module::new();
        Trapping::default()
            .parse_core_module(&mut trapping, wasmparser::Parser::new(0), module())
            .expect("the module can be rewritten");
        trapping.finish()
    })
}

/// Passes the first record of an attack to the rewritten module, and the second with so many `steps` until it traps. Returns the
/// module and its answer to the second.
fn trapped(
    mut module: Box<dyn Engine>,
    records: &[String],
    steps: u32,
) -> (Box<dyn Engine>, Result<Answer, CallError>) {
    assert!(alerts(&mut *module, &records[..1]).is_empty());
    let answer = module.call("t", steps, 0, records[1].as_bytes());
    (module, answer)
}

#[test]
fn after_a_call_that_traps_the_next_ones_work() {
    let mut records = Host::new("PC1").psexec(0, 7, "10.55.1.77");
    // File and start.
    records.remove(1);
    // Searches for the number of steps that a whole call takes.
    let (mut traps, mut returns) = (1, 1 << 20);
    while returns - traps > 1 {
        let steps = traps + (returns - traps) / 2;
        match trapped(wasmtime(trapping()), &records, steps).1 {
            Ok(_) => returns = steps,
            Err(_) => traps = steps,
        }
    }
    let (mut early, mut late) = (0, 0);
    // Trap a little later in the call each time: while it reads, remembers, correlates, writes the alert. Then in its last steps.
    for steps in (1..returns)
        .step_by(300)
        .chain(returns.saturating_sub(10)..returns)
    {
        for (engine, module) in engines(trapping()) {
            let (mut module, answer) = trapped(module, &records, steps);
            assert!(
                matches!(answer, Err(CallError::Trap(_))),
                "{engine}, {steps}: {answer:?}"
            );
            // What was remembered is lost, unless the filter had not begun yet.
            let remembered = call(&mut *module, &records[1]).is_some();
            let restarts = counter(&mut *module, "restarts");
            assert_eq!(restarts, u64::from(!remembered), "{engine}, {steps}");
            *(if remembered { &mut early } else { &mut late }) += 1;
            // The next attack is found.
            let found = alerts(
                &mut *module,
                &Host::new("PC2").psexec(60_000, 8, "10.55.1.77"),
            );
            assert_eq!(found.len(), 2, "{engine}, {steps}");
        }
    }
    assert!(early > 0 && late > 20, "{early} and {late} traps");
    for (engine, module) in engines(trapping()) {
        assert!(
            matches!(trapped(module, &records, returns).1, Ok(Answer::Changed(_))),
            "{engine}: with all its steps it does not trap"
        );
    }
}

/// However often it traps, and wherever (in the allocator, too), no record is lost and memory does not grow. After the first dozens of
/// traps the next attack is still found. In the end no stack is left, because a trap does not give it back, and records just pass.
#[test]
fn a_module_that_traps_again_and_again_passes_records_on() {
    for (engine, mut module) in engines(trapping()) {
        let text = "x".repeat(900);
        let (mut memory, mut found) = (0, 0);
        for n in 0..1_000u32 {
            let host = Host::new(&format!("PC{n}"));
            assert_eq!(
                call(
                    &mut *module,
                    &host.file(0, "System", &format!(r"C:\Windows\{text}.exe"))
                ),
                None,
                "{engine}, {n}"
            );
            let alert = call(
                &mut *module,
                &host.start(100, 10 + n, &format!(r"C:\Windows\{text}.exe")),
            );
            assert!(alert.is_some() || n >= 16, "{engine}, {n}: no alert");
            found += u32::from(alert.is_some());
            // It may also return.
            let _ = module.call(
                "t",
                1 + n * 29 % 300,
                0,
                host.start(200, n + 5_000, r"C:\Windows\b.exe").as_bytes(),
            );
            let size = module.memory_bytes();
            if n == 16 {
                memory = size;
            }
            assert!(
                n <= 16 || size == memory,
                "{engine}, {n}: {size} bytes, once {memory}"
            );
        }
        assert!(found < 1_000, "{engine}: stack cannot be had back");
    }
}
