//! What the filter costs a shipper: the page BENCHMARKS.md, written to standard output (`make bench`).
//!
//! Costs are multiples of a pass-through: a module that returns its input at once and hands out memory for the host's
//! copies from an arena, as the filter does. Two more modules show what reading a record with a parser costs, and
//! `AGAINST` adds another build of the filter.

mod contenders;
#[path = "../logs.rs"]
mod logs;
mod measure;
mod module;
mod records;
mod report;
mod rows;
mod throughput;

use contenders::Contenders;
use records::Logs;
use report::{Page, machine};
use std::path::{Path, PathBuf};

fn main() {
    let baseline = module_at(variable("BASELINE_MODULE"));
    let program = PathBuf::from(variable("PROGRAM"));
    let rounds = rounds();
    let against = std::env::var("AGAINST")
        .ok()
        .filter(|path| !path.is_empty());
    let other = against.as_ref().map(module_at);
    // Only the rows that have goals, and only on Fluent Bit's interpreter.
    let quick = std::env::var_os("QUICK").is_some_and(|quick| !quick.is_empty());
    let logs = Logs::read();
    let mut page = Page::new(against.as_deref());

    println!("# What the filter costs\n");
    println!("Written by `make bench`. Do not edit.\n\n{}", machine());
    println!(
        "All chains are on. x is a multiple of the time that a pass-through takes: a module that returns its input at once, and hands\n\
         out memory for the host's two copies from an arena as the filter does. Both take the same records, called the same way: two\n\
         copies in, the call, the reading of the answer. \"3 fields\" parses EventID, Hostname and Image with serde, \"Value\" parses all\n\
         into `serde_json::Value`. Only the thread's processor time counts, and of {rounds} rounds the least disturbed.\n\
         WAMR is the interpreter that Fluent Bit uses, built as Fluent Bit builds it for Linux; wasmtime compiles, and is what\n\
         `psexec-filter run` uses. Goals for a record hold on WAMR."
    );
    if let Some(path) = &against {
        println!("\n\"ours/other\" is the time that this build takes divided by that of `{path}`.");
    }
    let engines = match quick {
        true => contenders::ENGINES.get(..1).unwrap_or_default(),
        false => contenders::ENGINES,
    };
    for engine in engines {
        println!("\n## On {}", engine.title);
        page.engine = engine.title;
        let contenders = Contenders::new(engine, &baseline, other.as_deref(), rounds, !quick);
        rows::whole_log(&mut page, &contenders, &logs);
        rows::unwanted_by_size(&mut page, &contenders);
        rows::wanted_stream(&mut page, &contenders, &logs);
        if !quick {
            rows::wanted_by_kind(&mut page, &contenders, &logs);
            rows::by_kind(&mut page, &contenders, &logs);
            rows::by_hosts(&mut page, &contenders);
        }
    }
    if !quick {
        module::measure(&mut page, &logs);
        throughput::measure(&mut page, &program, &logs);
    }
    page.finish();
}

/// How many rounds are measured: `ROUNDS`, or 9.
fn rounds() -> usize {
    match std::env::var("ROUNDS") {
        Ok(text) if !text.is_empty() => text
            .parse()
            .ok()
            .filter(|rounds| *rounds > 0)
            .unwrap_or_else(|| stop("ROUNDS is not a number above 0")),
        _ => 9,
    }
}

fn module_at(path: impl AsRef<Path>) -> Vec<u8> {
    let path = path.as_ref();
    std::fs::read(path).unwrap_or_else(|error| stop(&format!("{}: {error}", path.display())))
}

fn variable(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| stop(&format!("{name} is not set; run this as `make bench`")))
}

fn stop(message: &str) -> ! {
    eprintln!("error: {message}");
    std::process::exit(2)
}
