//! The page: tables, goals, and the comparison with another build.

use crate::measure::Figures;

/// What the rows of the page come to, beside what was printed already.
pub struct Page<'a> {
    /// The engine whose rows are being measured.
    pub engine: &'static str,
    against: Option<&'a str>,
    section: String,
    goals: Vec<Goal>,
    compared: Vec<Compared>,
}

struct Goal {
    what: String,
    /// `None` if it was not measured.
    measured: Option<(String, bool)>,
}

struct Compared {
    engine: &'static str,
    row: String,
    /// Our time divided by the other build's.
    ratio: f64,
}

impl<'a> Page<'a> {
    /// A page that compares with the module of that path, if there is one.
    pub fn new(against: Option<&'a str>) -> Page<'a> {
        Page {
            engine: "",
            against,
            section: String::new(),
            goals: Vec::new(),
            compared: Vec::new(),
        }
    }

    /// Begins a section with a table whose rows have these labels.
    pub fn table(&mut self, title: &str, about: &str, labels: &[&str]) {
        eprintln!("measuring on {}: {title}", self.engine);
        self.section = title.to_owned();
        let mut columns = labels.to_vec();
        columns.extend(["pass-through", "filter", "3 fields", "Value"]);
        columns.extend(self.against.map(|_| "ours/other"));
        println!("\n### {title}\n\n{about}\n\n| {} |", columns.join(" | "));
        println!("|{}", "---|".repeat(columns.len()));
    }

    /// Begins a section that cannot be measured, and says why.
    pub fn not_measured(&self, title: &str, why: &str) {
        println!("\n### {title}\n\nNot measured: {why}.");
    }

    /// Prints a row of the table.
    pub fn row(&mut self, labels: &[&str], figures: &Figures) {
        let multiple =
            |figure: Option<f64>| figure.map_or(String::new(), |figure| format!("x{figure:.1}"));
        let mut cells: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        cells.extend([
            format!("{:.2} us", figures.pass_through),
            format!("**x{:.2}**", figures.filter),
            multiple(figures.three_fields),
            multiple(figures.value),
        ]);
        if let Some(ratio) = figures.against {
            cells.push(format!("{ratio:.3}"));
            self.compared.push(Compared {
                engine: self.engine,
                row: format!("{}: {}", self.section, labels.join(", ")),
                ratio,
            });
        }
        println!("| {} |", cells.join(" | "));
    }

    /// Notes a goal with what was measured, and whether that meets it.
    pub fn goal(&mut self, what: &str, measured: Option<(String, bool)>) {
        self.goals.push(Goal {
            what: what.to_owned(),
            measured,
        });
    }

    /// Notes the goal that the filter takes at most `limit` times as long as the pass-through.
    pub fn goal_at_most(&mut self, what: &str, limit: f64, measured: Option<f64>) {
        let measured = measured.map(|multiple| (format!("x{multiple:.2}"), multiple <= limit));
        self.goal(&format!("{what}: at most x{limit}"), measured);
    }

    /// Prints the comparison and the goals; the last line counts those that were met.
    pub fn finish(mut self) {
        if let Some(against) = self.against {
            println!("\n## Against `{against}`\n");
            println!("| engine | rows | geometric mean | worst row | |\n|---|---|---|---|---|");
            for engine in crate::contenders::ENGINES {
                self.compare(engine.title);
            }
        }
        println!("\n## Goals\n\n| goal | measured | |\n|---|---|---|");
        let mut counts = [0usize; 3];
        for Goal { what, measured } in &self.goals {
            let (value, verdict, index) = match measured {
                Some((value, true)) => (value.as_str(), "met", 0),
                Some((value, false)) => (value.as_str(), "**missed**", 1),
                None => ("", "not measured", 2),
            };
            counts[index] += 1;
            println!("| {what} | {value} | {verdict} |");
        }
        let [met, missed, unmeasured] = counts;
        println!(
            "\n{met} of {} goals met, {missed} missed, {unmeasured} not measured.",
            self.goals.len()
        );
    }

    fn compare(&mut self, engine: &'static str) {
        let rows: Vec<&Compared> = self
            .compared
            .iter()
            .filter(|row| row.engine == engine)
            .collect();
        let Some(worst) = rows.iter().max_by(|a, b| a.ratio.total_cmp(&b.ratio)) else {
            return;
        };
        let logarithms: f64 = rows.iter().map(|row| row.ratio.ln()).sum();
        let mean = (logarithms / rows.len() as f64).exp();
        println!(
            "| {engine} | {} | {mean:.3} | {:.3} | {} |",
            rows.len(),
            worst.ratio,
            worst.row
        );
        let worst = worst.ratio;
        self.goal(
            &format!("{engine}, ours/other, geometric mean: at most 1.02"),
            Some((format!("{mean:.3}"), mean <= 1.02)),
        );
        self.goal(
            &format!("{engine}, ours/other, worst row: at most 1.05"),
            Some((format!("{worst:.3}"), worst <= 1.05)),
        );
    }
}

/// Where and when this was measured, and with which versions.
pub fn machine() -> String {
    let output = |program: &str, arguments: &[&str]| {
        let output = std::process::Command::new(program).args(arguments).output();
        output
            .ok()
            .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
            .unwrap_or_default()
    };
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown", |(_, name)| name);
    let lock = include_str!("../../../Cargo.lock");
    let version = |name: &str| {
        let package = lock
            .split_once(&format!("name = \"{name}\"\nversion = \""))
            .map(|(_, rest)| rest);
        package
            .and_then(|rest| rest.split('"').next())
            .unwrap_or("unknown")
            .to_owned()
    };
    format!(
        "| | |\n|---|---|\n| Date | {} |\n| Commit | {} |\n| Machine | {cpu}, {} cores, {} |\n| Versions | {}; wasmtime {}; WAMR of wamrx-sys {} |\n",
        output("date", &["-u", "+%F"]),
        output("git", &["describe", "--always", "--dirty"]),
        std::thread::available_parallelism().map_or(1, usize::from),
        output("uname", &["-srm"]),
        output("rustc", &["--version"]),
        version("wasmtime"),
        version("wamrx-sys"),
    )
}
