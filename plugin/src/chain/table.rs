//! A technique as a table: its rule, its named pieces, and the severity that each combination of pieces makes.
//!
//! The engine looks severities up here, alerts list as `missing` what is expected and was not seen, the join windows of the whole
//! filter are computed from the pieces, and the README's tables are printed from the rows.

use crate::evidence::EvidenceKind;
use crate::settings::{Severity, Windows};

/// What is fixed about a technique.
#[derive(Debug)]
pub struct Table {
    /// What alerts say about it.
    pub rule: Rule,
    /// The kinds of evidence that an execution is anchored in.
    pub anchors: &'static [EvidenceKind],
    /// Everything that is looked for around an anchor. Every piece that a row, or the technique's code, names is listed here.
    pub pieces: &'static [Piece],
    /// The severity table, read from the top: the first row that matches holds. An anchor without a matching row is not an
    /// execution of this technique (yet).
    pub severity: &'static [Row],
}

/// The fixed part of a technique's alerts.
#[derive(Debug)]
pub struct Rule {
    /// `chain`
    pub chain: &'static str,
    /// `rule.id`
    pub id: &'static str,
    /// `rule.name`
    pub name: &'static str,
    /// `threat.technique.id` (MITRE ATT&CK)
    pub techniques: &'static [&'static str],
}

/// One thing that may be seen around an anchor: evidence that is stored, or a property of it.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// Its bit in a [`Seen`]: from 0 to 31, one of its own within the table.
    index: u8,
    /// Its name, as `missing` and the README give it.
    pub name: &'static str,
    /// What it means, for people.
    pub meaning: &'static str,
    /// Where it is looked for; `None` for a property.
    search: Option<Search>,
    /// Whether alerts list it as missing if it was not seen.
    pub is_expected: bool,
}

/// Where stored evidence is looked for.
#[derive(Clone, Copy, Debug)]
struct Search {
    kind: EvidenceKind,
    window: fn(&Windows) -> Window,
    /// The index of the piece whose evidence the window lies around; `None` for the anchor.
    around: Option<u8>,
}

/// A window around a point of logged time, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// How long before the point it begins.
    pub before: i64,
    /// How long after the point it ends.
    pub after: i64,
}

impl Window {
    /// Whether `ms` is inside the window around `center`.
    pub fn contains(self, center: i64, ms: i64) -> bool {
        let offset = ms.saturating_sub(center);
        (self.before.saturating_neg()..=self.after).contains(&offset)
    }

    /// The window that covers both.
    pub fn or(self, other: Window) -> Window {
        Window {
            before: self.before.max(other.before),
            after: self.after.max(other.after),
        }
    }

    /// The window around the anchor for evidence that is looked for within `self` around other evidence, itself within `outer` around
    /// the anchor.
    fn around(self, outer: Window) -> Window {
        Window {
            before: self.before.saturating_add(outer.before),
            after: self.after.saturating_add(outer.after),
        }
    }

    /// How far apart two pieces of evidence in it can be, in milliseconds.
    pub fn length(self) -> i64 {
        self.before.saturating_add(self.after)
    }
}

impl Piece {
    /// Stored evidence whose absence alerts mention. The window lies around the anchor.
    pub const fn evidence(
        index: u8,
        name: &'static str,
        kind: EvidenceKind,
        window: fn(&Windows) -> Window,
        meaning: &'static str,
    ) -> Piece {
        let search = Search {
            kind,
            window,
            around: None,
        };
        Piece {
            index,
            name,
            meaning,
            search: Some(search),
            is_expected: true,
        }
    }

    /// A property of the evidence that was seen. Its absence is not mentioned.
    pub const fn property(index: u8, name: &'static str, meaning: &'static str) -> Piece {
        Piece {
            index,
            name,
            meaning,
            search: None,
            is_expected: false,
        }
    }

    /// Stored evidence whose absence alerts do not mention.
    pub const fn optional(self) -> Piece {
        Piece {
            is_expected: false,
            ..self
        }
    }

    /// Looks for it around the evidence of another piece instead of the anchor.
    pub const fn around(self, other: &Piece) -> Piece {
        let search = match self.search {
            Some(search) => Some(Search {
                around: Some(other.index),
                ..search
            }),
            None => None,
        };
        Piece { search, ..self }
    }

    /// The kind of evidence that it is; `None` for a property.
    pub fn kind(&self) -> Option<EvidenceKind> {
        self.search.map(|search| search.kind)
    }

    /// The window around the evidence that it is looked for around.
    pub fn window(&self, windows: &Windows) -> Window {
        self.search
            .map_or(Window::default(), |search| (search.window)(windows))
    }

    const fn bit(&self) -> u32 {
        1 << self.index
    }
}

/// A set of pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen(u32);

impl Seen {
    /// The set of these pieces.
    pub const fn of(pieces: &[Piece]) -> Seen {
        let mut bits = 0;
        let mut rest = pieces;
        while let [first, tail @ ..] = rest {
            bits |= first.bit();
            rest = tail;
        }
        Seen(bits)
    }

    /// Adds a piece if it was seen.
    pub fn add(&mut self, piece: &Piece, is_seen: bool) {
        if is_seen {
            self.0 |= piece.bit();
        }
    }

    /// Adds all pieces of another set.
    pub fn extend(&mut self, other: Seen) {
        self.0 |= other.0;
    }

    /// Whether the piece is in the set.
    pub fn has(self, piece: &Piece) -> bool {
        self.0 & piece.bit() != 0
    }
}

/// One row of a severity table: the level that pieces make together.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    all: Seen,
    any: Seen,
    none: Seen,
    /// The level, which the technique's policy section maps to a severity.
    pub level: Severity,
}

impl Row {
    /// A row for an execution with all of these pieces.
    pub const fn new(level: Severity, all: &[Piece]) -> Row {
        Row {
            all: Seen::of(all),
            any: Seen(0),
            none: Seen(0),
            level,
        }
    }

    /// Also asks for at least one of these pieces.
    pub const fn and_any(self, any: &[Piece]) -> Row {
        Row {
            any: Seen::of(any),
            ..self
        }
    }

    /// Also asks that none of these pieces was seen.
    pub const fn without(self, none: &[Piece]) -> Row {
        Row {
            none: Seen::of(none),
            ..self
        }
    }

    /// Whether the row depends on a piece: on its presence or on its absence.
    pub fn names(&self, piece: &Piece) -> bool {
        let Row { all, any, none, .. } = self;
        all.has(piece) || any.has(piece) || none.has(piece)
    }

    /// Whether the pieces that were seen match.
    fn matches(&self, Seen(seen): Seen) -> bool {
        let Row { all, any, none, .. } = self;
        seen & all.0 == all.0 && (any.0 == 0 || seen & any.0 != 0) && seen & none.0 == 0
    }
}

impl Table {
    /// The level of an execution with these pieces; `None` if they make none.
    #[inline(never)]
    pub fn level(&self, seen: Seen) -> Option<Severity> {
        let row = self.severity.iter().find(|row| row.matches(seen))?;
        Some(row.level)
    }

    /// The window around an anchor in which all pieces are looked for.
    pub fn join_window(&self, windows: &Windows) -> Window {
        let all = self.pieces.iter();
        all.map(|piece| self.window_around_anchor(piece, windows))
            .fold(Window::default(), Window::or)
    }

    fn window_around_anchor(&self, piece: &Piece, windows: &Windows) -> Window {
        let mut window = piece.window(windows);
        let mut outer = piece.search.and_then(|search| search.around);
        // No piece is nested deeper than the table is long.
        for _ in self.pieces {
            let Some(piece) = self.pieces.iter().find(|piece| Some(piece.index) == outer) else {
                break;
            };
            window = window.around(piece.window(windows));
            outer = piece.search.and_then(|search| search.around);
        }
        window
    }

    /// The pieces that were expected and not seen, in the order of the table.
    pub fn missing(&self, seen: Seen) -> impl Iterator<Item = &'static str> {
        let missing = move |piece: &&Piece| piece.is_expected && !seen.has(piece);
        self.pieces.iter().filter(missing).map(|piece| piece.name)
    }

    /// What a row asks for, in words: the names of its pieces.
    pub fn describe(&self, row: &Row) -> String {
        let names = |set: Seen| {
            let names = self.pieces.iter().filter(move |piece| set.has(piece));
            names.map(|piece| piece.name).collect::<Vec<_>>()
        };
        let mut text = names(row.all).join(" + ");
        let any = names(row.any);
        if !any.is_empty() {
            if !text.is_empty() {
                text.push_str(" + ");
            }
            text.push_str(&format!("({})", any.join(" or ")));
        }
        for name in names(row.none) {
            text.push_str(&format!(", no {name}"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::TABLES;

    #[test]
    fn every_table_is_sound() {
        for table in TABLES.iter() {
            let chain = table.rule.chain;
            let mut listed = Seen::default();
            for piece in table.pieces {
                assert!(
                    piece.index < 32 && !listed.has(piece),
                    "{chain}: {}",
                    piece.name
                );
                listed.add(piece, true);
                if let Some(outer) = piece.search.and_then(|search| search.around) {
                    let known = table.pieces.iter().any(|piece| piece.index == outer);
                    assert!(
                        known,
                        "{chain}: {} lies around a piece that is not listed",
                        piece.name
                    );
                }
            }
            for (index, row) in table.severity.iter().enumerate() {
                let used = row.all.0 | row.any.0 | row.none.0;
                assert_eq!(
                    used & !listed.0,
                    0,
                    "{chain}: row {index} names a piece that is not listed"
                );
                assert_ne!(
                    row.all.0 | row.any.0,
                    0,
                    "{chain}: row {index} asks for nothing"
                );
                // A row after one that asks for less is never reached.
                let is_hidden = |before: &Row| {
                    before.all.0 & !row.all.0 == 0
                        && before.none.0 & !row.none.0 == 0
                        && (before.any.0 == 0 || before.any.0 & row.all.0 != 0)
                };
                let hidden = table.severity.iter().take(index).position(is_hidden);
                assert_eq!(hidden, None, "{chain}: row {index} is never reached");
            }
        }
    }

    #[test]
    fn the_first_row_that_matches_holds() {
        const A: Piece = Piece::property(0, "a", "");
        const B: Piece = Piece::property(1, "b", "");
        const C: Piece = Piece::property(2, "c", "");
        static TABLE: Table = Table {
            rule: Rule {
                chain: "x",
                id: "x",
                name: "x",
                techniques: &[],
            },
            anchors: &[],
            pieces: &[A, B, C],
            severity: &[
                Row::new(Severity::Critical, &[A]).and_any(&[B, C]),
                Row::new(Severity::Low, &[A]),
                Row::new(Severity::Medium, &[B]).without(&[C]),
            ],
        };
        for (seen, want) in [
            (&[A, B][..], Some(Severity::Critical)),
            (&[A, C], Some(Severity::Critical)),
            (&[A], Some(Severity::Low)),
            (&[B], Some(Severity::Medium)),
            (&[B, C], None),
            (&[], None),
        ] {
            assert_eq!(TABLE.level(Seen::of(seen)), want, "{seen:?}");
        }
        let described = TABLE.severity.iter().map(|row| TABLE.describe(row));
        let described: Vec<String> = described.collect();
        assert_eq!(described, ["a + (b or c)", "a", "b, no c"]);
    }

    #[test]
    fn the_join_window_reaches_nested_pieces() {
        use crate::settings::Millis;
        const OUTER: Piece = Piece::evidence(
            0,
            "outer",
            EvidenceKind::ServiceSet,
            |windows| Window {
                before: windows.service_to_process.0,
                after: 7,
            },
            "",
        );
        const INNER: Piece = Piece::evidence(
            1,
            "inner",
            EvidenceKind::ServiceSet,
            |windows| Window {
                before: 0,
                after: windows.service_restored.0,
            },
            "",
        )
        .around(&OUTER);
        static TABLE: Table = Table {
            rule: Rule {
                chain: "x",
                id: "x",
                name: "x",
                techniques: &[],
            },
            anchors: &[],
            pieces: &[OUTER, INNER],
            severity: &[],
        };
        let windows = Windows {
            service_to_process: Millis(50),
            service_restored: Millis(1_000),
            ..Windows::default()
        };
        let window = TABLE.join_window(&windows);
        assert_eq!((window.before, window.after), (50, 1_007));
    }
}
