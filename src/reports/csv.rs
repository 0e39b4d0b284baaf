//! A document as one table for spreadsheets and programs: every table of it, one below the other, each with its name in the
//! first column of all its lines. All lines have as many fields (RFC 4180). Pure.

use super::ReportError;
use super::document::{Cell, Document};
use crate::export::neutral;

/// The document as CSV.
///
/// # Errors
/// Never for a document of ours; the writer of the format may refuse.
pub(super) fn csv(document: &Document) -> Result<Vec<u8>, ReportError> {
    let broken = |why: String| ReportError::Format { format: "CSV", why };
    let tables = || document.sections.iter().filter(|section| !section.table.rows.is_empty());
    let widest = tables().map(|section| section.table.columns.len()).max().unwrap_or(0).max(2);
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    let mut line = |name: &str, cells: Vec<String>| {
        let filling = std::iter::repeat_n(String::new(), widest.saturating_sub(cells.len()));
        let fields = std::iter::once(name.to_owned()).chain(cells).chain(filling);
        writer.write_record(fields).map_err(|error| broken(error.to_string()))
    };
    let text = |text: &str| neutral(text.to_owned());
    line("table", vec!["name".into(), "value".into()])?;
    line("report", vec![document.title.into(), text(&document.subtitle)])?;
    for (name, value) in &document.basis {
        line("report", vec![(*name).into(), text(&value.plain())])?;
    }
    for section in tables() {
        line(section.name, section.table.columns.iter().map(|column| column.title.to_owned()).collect())?;
        for row in &section.table.rows {
            let cell = |cell: &Cell| if cell.is_number() { cell.plain() } else { text(&cell.plain()) };
            line(section.name, row.cells.iter().map(cell).collect())?;
        }
    }
    writer.into_inner().map_err(|error| broken(error.to_string()))
}
