//! A document on a terminal. Pure.

use std::fmt::Write;

use super::document::{Cell, Document, Section, Tone};

/// Between columns.
const GAP: &str = "  ";

/// The document as text; `clean` makes what senders and people wrote harmless.
#[must_use]
pub fn text(document: &Document, clean: impl Fn(&str) -> String) -> String {
    let mut out = String::new();
    let shown = |cell: &Cell| clean(&cell.shown(&document.tz));
    let _ = writeln!(out, "{}: {}", document.title, clean(&document.subtitle));
    let (tone, verdict) = &document.verdict;
    let mark = match tone {
        Tone::Good | Tone::Plain => "ok",
        Tone::Warn => "NOTE",
        Tone::Bad => "ATTENTION",
    };
    let _ = writeln!(out, "{mark}  {}", clean(verdict));
    for (name, value) in &document.basis {
        let _ = writeln!(out, "{name:<22}{}", clean(&value.exact(&document.tz)));
    }
    for section in &document.sections {
        let _ = writeln!(out, "\n{}", section.title.to_uppercase());
        table(&mut out, section, &shown);
    }
    out
}

fn table(out: &mut String, section: &Section, shown: &impl Fn(&Cell) -> String) {
    if section.table.rows.is_empty() {
        let _ = writeln!(out, "{}", section.nothing);
        return;
    }
    let rows: Vec<Vec<String>> = section.table.rows.iter().map(|line| line.cells.iter().map(shown).collect()).collect();
    let width = |place: usize| {
        let cells = rows.iter().filter_map(|row| row.get(place)).map(|cell| cell.chars().count());
        cells.max().unwrap_or(0).max(section.table.columns.get(place).map_or(0, |c| c.title.chars().count()))
    };
    let widths: Vec<usize> = (0..section.table.columns.len()).map(width).collect();
    // A column stands right where everything in it does.
    let right = |place: usize| {
        let mut cells = section.table.rows.iter().filter_map(|line| line.cells.get(place));
        cells.all(|cell| cell.is_number() || *cell == Cell::Nothing)
    };
    let right: Vec<bool> = (0..widths.len()).map(right).collect();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (place, cell) in cells.enumerate() {
            let (width, right) =
                (widths.get(place).copied().unwrap_or(0), right.get(place).is_some_and(|right| *right));
            let _ = if right { write!(text, "{cell:>width$}{GAP}") } else { write!(text, "{cell:<width$}{GAP}") };
        }
        let _ = writeln!(out, "{}", text.trim_end());
    };
    line(&mut section.table.columns.iter().map(|column| column.title));
    for (row, of) in rows.iter().zip(&section.table.rows) {
        if of.total {
            let dashes: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
            line(&mut dashes.iter().map(String::as_str));
        }
        line(&mut row.iter().map(String::as_str));
    }
}
