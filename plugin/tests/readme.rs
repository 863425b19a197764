//! Holds the severity tables in README.md to the tables of the techniques.
//!
//! The text between `<!-- severity: NAME -->` and `<!-- end -->` is generated. `UPDATE_README=1 cargo test --release -p
//! psexec-filter-plugin --test readme` writes it.

use psexec_filter_plugin::chain::{Piece, TABLES, Table};
use psexec_filter_plugin::evidence::{EVENT_IDS, EvidenceKind, provider_of};
use psexec_filter_plugin::settings::Windows;
use std::path::Path;

const END: &str = "<!-- end -->";

/// The line before the generated text of a technique: its rule's id without what all ids begin with.
fn begin(table: &Table) -> String {
    let name = table.rule.id.trim_start_matches("psexec-filter-");
    format!("<!-- severity: {name} -->")
}

/// The generated text: the anchor, the evidence and properties that the rows name, then the rows.
fn render(table: &Table) -> String {
    let (anchors, others): (Vec<&Piece>, Vec<&Piece>) = table
        .pieces
        .iter()
        .partition(|piece| is_anchor(table, piece));
    let mut text = String::from("\n");
    for piece in anchors {
        text += &format!("Needed in every row: {}.\n\n", describe(piece));
    }
    let is_named = |piece: &&Piece| table.severity.iter().any(|row| row.names(piece));
    for piece in others.into_iter().filter(is_named) {
        text += &format!("- {}\n", describe(piece));
    }
    text += "\n| level | when |\n|---|---|\n";
    for row in table.severity {
        text += &format!("| `{}` | {} |\n", row.level.name(), table.describe(row));
    }
    text + "\n"
}

/// Whether a piece is the anchor: it is of the anchor's kind, and its window has no length.
fn is_anchor(table: &Table, piece: &Piece) -> bool {
    let is_of_kind = |kind| table.anchors.contains(&kind);
    piece.kind().is_some_and(is_of_kind) && piece.window(&Windows::default()).length() == 0
}

fn describe(piece: &Piece) -> String {
    let source = piece.kind().map(source).unwrap_or_default();
    format!("**{}**{source}: {}", piece.name, piece.meaning)
}

/// The events that a kind of evidence comes from, such as ` (Sysmon 17, 18)`.
fn source(kind: EvidenceKind) -> String {
    let events = EVENT_IDS.iter().filter(|(_, kinds)| kinds.contains(&kind));
    let ids: Vec<u32> = events.map(|(id, _)| *id).collect();
    let provider = ids.first().and_then(|id| provider_of(*id));
    let provider = provider.expect("every kind comes from an event that is read");
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    format!(" ({provider:?} {})", ids.join(", "))
}

/// The README with the generated text of every technique in its place.
fn with_tables(readme: &str) -> String {
    let mut text = readme.to_owned();
    for table in TABLES {
        let begin = begin(table);
        let (before, rest) = text.split_once(&begin).unwrap_or_else(|| {
            panic!("README.md lacks the line `{begin}`, and `{END}` on a later line")
        });
        let (_, after) = rest
            .split_once(END)
            .unwrap_or_else(|| panic!("README.md lacks `{END}` after `{begin}`"));
        text = format!("{before}{begin}\n{}{END}{after}", render(table));
    }
    text
}

#[test]
fn the_readme_shows_the_severity_tables_of_all_techniques() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(&path).expect("README.md can be read");
    let wanted = with_tables(&readme);
    if std::env::var_os("UPDATE_README").is_some_and(|value| value == "1") {
        std::fs::write(&path, wanted).expect("README.md can be written");
        return;
    }
    for table in TABLES {
        let block = format!("{}\n{}{END}", begin(table), render(table));
        assert!(
            readme.contains(&block),
            "README.md differs from the table of {}. Run this test with UPDATE_README=1, or put in:\n\n{block}\n",
            table.rule.id
        );
    }
    assert_eq!(
        readme.matches("<!-- severity: ").count(),
        TABLES.len(),
        "README.md has a severity table of a technique that does not exist"
    );
}
