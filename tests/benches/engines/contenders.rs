//! The modules that are measured beside each other, on one engine.

use psexec_filter::engine::{Engine, Options};
use psexec_filter_tests::{STARTS, Start, module};

/// An engine that the bench was built with.
pub struct EngineUnderTest {
    /// Its name on the page.
    pub title: &'static str,
    name: &'static str,
}

/// The engines on the page, in its order.
pub const ENGINES: &[EngineUnderTest] = &[
    #[cfg(feature = "wamr")]
    EngineUnderTest {
        title: "WAMR",
        name: "wamr",
    },
    EngineUnderTest {
        title: "wasmtime",
        name: "wasmtime",
    },
];

/// Rounds in which the modules with a parser are measured, at most, and passes in a round: they take 10 to 100 times as long
/// as the others, and their figures are read as magnitudes.
const PARSER_ROUNDS: usize = 5;
const PARSER_PASSES: usize = 1;

/// What a module is on the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Returns its input at once.
    PassThrough,
    /// The filter of this build.
    Filter,
    /// Another build of the filter (`AGAINST`).
    Other,
    /// Parses three fields with serde.
    ThreeFields,
    /// Parses all into `serde_json::Value`.
    Value,
}

/// A module and the function of it that is called.
pub struct Contender<'a> {
    /// What it is.
    pub role: Role,
    /// How many rounds it is measured in.
    pub rounds: usize,
    /// How many passes of a round it is measured in, at most.
    pub passes: usize,
    start: Start,
    module: &'a [u8],
    function: &'static str,
}

impl Contender<'_> {
    /// A fresh instance.
    pub fn start(&self) -> Box<dyn Engine> {
        (self.start)(
            self.module,
            Options {
                function: self.function,
                ..Options::default()
            },
        )
    }
}

/// All that are measured in a round, on one engine.
pub struct Contenders<'a> {
    /// In the order in which they are measured in every other round; the order is reversed in the rounds between.
    pub list: Vec<Contender<'a>>,
    /// How many rounds are measured.
    pub rounds: usize,
}

impl<'a> Contenders<'a> {
    /// The filter beside the functions of the `baseline` module and another build of the filter. The functions that parse
    /// are left out unless there is to be `everything`.
    pub fn new(
        engine: &EngineUnderTest,
        baseline: &'a [u8],
        other: Option<&'a [u8]>,
        rounds: usize,
        everything: bool,
    ) -> Contenders<'a> {
        let (_, start) = STARTS
            .iter()
            .find(|(name, _)| *name == engine.name)
            .expect("the engine is built in");
        let contender = |role, module, function| Contender {
            role,
            rounds,
            passes: usize::MAX,
            start: *start,
            module,
            function,
        };
        let parser = |role, function| Contender {
            rounds: rounds.min(PARSER_ROUNDS),
            passes: PARSER_PASSES,
            ..contender(role, baseline, function)
        };
        let filter = psexec_filter_pack::FUNCTION;
        let mut list = vec![
            contender(Role::PassThrough, baseline, "pass_through"),
            contender(Role::Filter, module(), filter),
        ];
        list.extend(other.map(|module| contender(Role::Other, module, filter)));
        if everything {
            list.push(parser(Role::ThreeFields, "parse_three"));
            list.push(parser(Role::Value, "parse_value"));
        }
        Contenders { list, rounds }
    }
}
