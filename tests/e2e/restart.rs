//! A call that dies must not poison the next one: Fluent Bit goes on with the same instance.

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

/// Makes a module mortal: the time of a call, in seconds, is after how many functions entered and rounds of loops it dies.
/// With 0 it lives, and so it does in the other calls. Records have times of their own.
#[derive(Default)]
struct Mortal {
    /// What can be called, by its number; and whether with records.
    exported: HashMap<u32, bool>,
    /// The global that counts down.
    left: u32,
}

impl Mortal {
    /// Counts down, and dies at 0. From there it goes on below 0, which is very far.
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

impl Reencode for Mortal {
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
        // Nothing is imported, so that functions are numbered as they come.
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

fn mortal() -> &'static [u8] {
    static MODULE: OnceLock<Vec<u8>> = OnceLock::new();
    MODULE.get_or_init(|| {
        let mut mortal = Module::new();
        Mortal::default()
            .parse_core_module(&mut mortal, wasmparser::Parser::new(0), module())
            .expect("the module can be rewritten");
        mortal.finish()
    })
}

/// The mortal module with two of the three records of an attack, and what it says to the third one when it may take `steps`.
fn killed(
    mut module: Box<dyn Engine>,
    records: &[String],
    steps: u32,
) -> (Box<dyn Engine>, Result<Answer, CallError>) {
    assert!(alerts(&mut *module, &records[..2]).is_empty());
    let said = module.call("t", steps, 0, records[2].as_bytes());
    (module, said)
}

#[test]
fn after_a_call_that_died_the_next_ones_work() {
    let records = Host::new("PC1").psexec(0, 7, "10.55.1.77");
    // The fewest steps that it lives through, between some that it does not and some that it does.
    let (mut dies, mut lives) = (1, 1 << 20);
    while lives - dies > 1 {
        let steps = dies + (lives - dies) / 2;
        match killed(wasmtime(mortal()), &records, steps).1 {
            Ok(_) => lives = steps,
            Err(_) => dies = steps,
        }
    }
    let (mut early, mut late) = (0, 0);
    // A little further into the call each time: reading, remembering, judging, writing the alert. Then its very last steps.
    for steps in (1..lives)
        .step_by(300)
        .chain(lives.saturating_sub(10)..lives)
    {
        for (engine, module) in engines(mortal()) {
            let (mut module, said) = killed(module, &records, steps);
            assert!(
                matches!(said, Err(CallError::Trap(_))),
                "{engine}, {steps}: {said:?}"
            );
            // What was remembered is gone, unless the filter had not even begun.
            let remembered = call(&mut *module, &records[2]).is_some();
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
    assert!(early > 0 && late > 20, "{early} and {late} deaths");
    for (engine, module) in engines(mortal()) {
        assert!(
            matches!(killed(module, &records, lives).1, Ok(Answer::Changed(_))),
            "{engine}: it can live"
        );
    }
}

/// However often it dies, and wherever (in the allocator, too): no record is lost and memory does not grow. The first
/// dozens of times the next attack is found; in the end, when no stack is left, records just pass.
#[test]
fn a_module_that_dies_for_ever_passes_records_on() {
    for (engine, mut module) in engines(mortal()) {
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
            // It may live, too.
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
