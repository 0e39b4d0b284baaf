//! A document as a workbook: an overview, and a sheet for each table, with real numbers and dates, a header that stays, and
//! nothing that a spreadsheet would run as a formula.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rust_xlsxwriter::{Color, ExcelDateTime, Format, FormatAlign, FormatBorder, Workbook, Worksheet, XlsxError};

use super::ReportError;
use super::document::{Cell, Document, Line, Section, Tone, Width, grouped};

/// The most rows that a sheet takes, less its header.
const MOST_ROWS: usize = 1_000_000;

/// How cells look.
struct Formats {
    title: Format,
    muted: Format,
    head: Format,
    head_right: Format,
    good: Format,
    bad: Format,
    label: Format,
}

impl Formats {
    fn new() -> Self {
        let head = Format::new()
            .set_bold()
            .set_background_color(Color::RGB(0xE1_EFF4))
            .set_border_bottom(FormatBorder::Thin)
            .set_border_bottom_color(Color::RGB(0x0B_5670))
            .set_text_wrap()
            .set_align(FormatAlign::VerticalCenter);
        let top = Format::new().set_align(FormatAlign::Top).set_text_wrap();
        Self {
            title: Format::new().set_bold().set_font_size(16).set_font_color(Color::RGB(0x0B_5670)),
            muted: top.clone().set_font_color(Color::RGB(0x56_6470)).set_indent(1),
            head_right: head.clone().set_align(FormatAlign::Right),
            head,
            good: top.clone().set_bold().set_font_color(Color::RGB(0x1A_6238)),
            bad: top.clone().set_bold().set_font_color(Color::RGB(0x9C_1F1F)),
            label: top,
        }
    }

    /// How a cell of a row looks.
    fn of(&self, cell: &Cell, total: bool, tone: Tone) -> Format {
        let format = Format::new().set_align(FormatAlign::Top);
        let format = match cell {
            Cell::Text(_) | Cell::Nothing => format.set_text_wrap(),
            Cell::Count(_) | Cell::Bytes(_) => format.set_num_format("#,##0"),
            Cell::Day(_) => format.set_num_format("yyyy-mm-dd").set_align(FormatAlign::Left),
            Cell::Time(_) => format.set_num_format("yyyy-mm-dd hh:mm:ss").set_align(FormatAlign::Left),
            Cell::Share(_) => format.set_num_format("0.0%"),
        };
        let format = if total { format.set_bold().set_border_top(FormatBorder::Thin) } else { format };
        if tone == Tone::Bad { format.set_font_color(Color::RGB(0x9C_1F1F)) } else { format }
    }
}

/// The document as a workbook.
///
/// # Errors
/// A cell does not fit the format.
pub(super) fn xlsx(document: &Document) -> Result<Vec<u8>, ReportError> {
    let write = || {
        let (mut book, formats) = (Workbook::new(), Formats::new());
        overview(book.add_worksheet(), document, &formats)?;
        for section in document.sections.iter().filter(|section| !section.table.rows.is_empty()) {
            sheet(book.add_worksheet(), section, document, &formats)?;
        }
        book.save_to_buffer()
    };
    write().map_err(|error: XlsxError| ReportError::Format { format: "XLSX", why: error.to_string() })
}

fn overview(sheet: &mut Worksheet, document: &Document, formats: &Formats) -> Result<(), XlsxError> {
    sheet.set_name("Overview")?.set_column_width(0, 26)?.set_column_width(1, 22)?.set_column_width(2, 60)?;
    for_print(sheet, document, false)?;
    sheet.write_string_with_format(0, 0, document.title, &formats.title)?;
    sheet.write_string(1, 0, &document.subtitle)?;
    let (tone, verdict) = &document.verdict;
    let format = match tone {
        Tone::Good => &formats.good,
        Tone::Bad => &formats.bad,
        Tone::Plain | Tone::Warn => &formats.label,
    };
    sheet.merge_range(2, 0, 2, 2, verdict, format)?;
    let mut row = 4;
    for figure in &document.figures {
        sheet.write_string_with_format(row, 0, figure.label, &formats.label)?;
        let look = formats.of(&figure.value, false, figure.tone).set_bold();
        write_cell(sheet, row, 1, &figure.value, &look, &document.tz)?;
        sheet.write_string_with_format(row, 2, figure_note(&figure.value, &figure.note), &formats.muted)?;
        row += 1;
    }
    row += 1;
    for (name, value) in &document.basis {
        sheet.write_string_with_format(row, 0, *name, &formats.muted)?;
        let look = formats.of(value, false, Tone::Plain).set_align(FormatAlign::Left);
        write_cell(sheet, row, 1, value, &look, &document.tz)?;
        row += 1;
    }
    row += 1;
    for section in &document.sections {
        sheet.write_string_with_format(row, 0, section.title, &formats.label)?;
        let rows = section.table.rows.iter().filter(|line| !line.total).count();
        let said = if rows == 0 { section.nothing.to_owned() } else { format!("{rows} rows") };
        sheet.merge_range(row, 1, row, 2, &said, &formats.muted)?;
        row += 1;
    }
    Ok(())
}

/// A size is written as a number of bytes; beside it stands how people say it.
fn figure_note(value: &Cell, note: &str) -> String {
    match value {
        Cell::Bytes(_) => format!("bytes ({}) {note}", value.shown(&TimeZone::UTC)).trim_end().to_owned(),
        _ => note.to_owned(),
    }
}

fn sheet(sheet: &mut Worksheet, section: &Section, document: &Document, formats: &Formats) -> Result<(), XlsxError> {
    sheet.set_name(section.title)?;
    let landscape = section.table.columns.iter().any(|column| column.width == Width::Wide);
    for_print(sheet, document, landscape || section.table.columns.len() > 5)?;
    sheet.set_freeze_panes(1, 0)?.set_repeat_rows(0, 0)?;
    let lines = &section.table.rows[..section.table.rows.len().min(MOST_ROWS)];
    let widths = headers(sheet, section, lines, document, formats)?;
    for (row, line) in (1..).zip(lines) {
        for (place, cell) in (0..).zip(&line.cells) {
            let look = formats.of(cell, line.total, line.tone).set_indent(u8::from(place > 0 && !cell.is_number()));
            write_cell(sheet, row, place, cell, &look, &document.tz)?;
        }
        // Not every program makes room for texts that take more than a line.
        let lines = |(cell, width): (&Cell, &usize)| match cell {
            Cell::Text(text) => text.chars().count().div_ceil(*width),
            _ => 1,
        };
        let most = line.cells.iter().zip(&widths).map(lines).max().unwrap_or(1);
        if most > 1 {
            sheet.set_row_height(row, 15 * u32::try_from(most.min(20)).unwrap_or(20))?;
        }
    }
    let totals = lines.iter().filter(|line| line.total).count();
    let last = u16::try_from(section.table.columns.len().saturating_sub(1)).unwrap_or(u16::MAX);
    if lines.len() > totals + 1 {
        sheet.autofilter(0, 0, u32::try_from(lines.len() - totals).unwrap_or(u32::MAX), last)?;
    }
    Ok(())
}

/// The first row, and how many characters each column takes.
fn headers(
    sheet: &mut Worksheet,
    section: &Section,
    lines: &[Line],
    document: &Document,
    formats: &Formats,
) -> Result<Vec<usize>, XlsxError> {
    let mut widths = Vec::new();
    for (place, column) in (0u16..).zip(&section.table.columns) {
        let cells = || lines.iter().filter_map(|line| line.cells.get(usize::from(place)));
        let numbers = cells().all(|cell| cell.is_number() || *cell == Cell::Nothing);
        let title = match cells().any(|cell| matches!(cell, Cell::Bytes(_))) {
            true => format!("{} (bytes)", column.title),
            false => column.title.to_owned(),
        };
        // A size stands there as a number of bytes.
        let length = |cell: &Cell| match cell {
            Cell::Bytes(bytes) => grouped(*bytes).chars().count(),
            cell => cell.exact(&document.tz).chars().count(),
        };
        let most = if column.width == Width::Wide { 60 } else { 36 };
        let longest = cells().take(5000).map(length).max().unwrap_or(0).max(title.chars().count()).clamp(8, most);
        let head =
            if numbers { formats.head_right.clone() } else { formats.head.clone().set_indent(u8::from(place > 0)) };
        sheet.write_string_with_format(0, place, title, &head)?.set_column_width(place, longest as f64 + 4.0)?;
        widths.push(longest);
    }
    sheet.set_row_height(0, 20)?;
    Ok(widths)
}

fn for_print(sheet: &mut Worksheet, document: &Document, landscape: bool) -> Result<(), XlsxError> {
    sheet.set_paper_size(9).set_print_fit_to_pages(1, 0).set_margins(0.5, 0.5, 0.6, 0.6, 0.3, 0.3);
    if landscape {
        sheet.set_landscape();
    }
    // An ampersand begins a code there.
    let about = format!("{}: {}", document.title, document.subtitle).replace('&', "&&");
    sheet.set_footer(format!("&L{about}&RPage &P of &N"));
    Ok(())
}

/// Texts are written as texts: none is a formula, whatever it begins with.
fn write_cell(
    sheet: &mut Worksheet,
    row: u32,
    column: u16,
    cell: &Cell,
    format: &Format,
    tz: &TimeZone,
) -> Result<(), XlsxError> {
    match cell {
        Cell::Nothing => sheet.write_blank(row, column, format)?,
        Cell::Text(text) => sheet.write_string_with_format(row, column, allowed(text), format)?,
        // A spreadsheet's numbers are exact up to 2^53.
        Cell::Count(number) | Cell::Bytes(number) => {
            sheet.write_number_with_format(row, column, *number as f64, format)?
        }
        Cell::Share(share) => sheet.write_number_with_format(row, column, *share, format)?,
        Cell::Day(day) => match excel_day(i32::from(day.year()), day.month(), day.day()) {
            Some(date) => sheet.write_datetime_with_format(row, column, date, format)?,
            None => sheet.write_string_with_format(row, column, day.to_string(), format)?,
        },
        Cell::Time(at) => match excel_time(*at, tz) {
            Some(time) => sheet.write_datetime_with_format(row, column, time, format)?,
            None => sheet.write_string_with_format(row, column, cell.exact(tz), format)?,
        },
    };
    Ok(())
}

/// What the format takes: no more than 32,767 characters, and no control characters.
fn allowed(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).take(32_767).collect()
}

/// Spreadsheets know no time before 1900.
fn excel_day(year: i32, month: i8, day: i8) -> Option<ExcelDateTime> {
    let year = u16::try_from(year).ok().filter(|year| *year > 1900)?;
    ExcelDateTime::from_ymd(year, month.unsigned_abs(), day.unsigned_abs()).ok()
}

fn excel_time(at: Timestamp, tz: &TimeZone) -> Option<ExcelDateTime> {
    let local = at.to_zoned(tz.clone());
    let day = excel_day(i32::from(local.year()), local.month(), local.day())?;
    let (hour, minute) = (u16::from(local.hour().unsigned_abs()), local.minute().unsigned_abs());
    day.and_hms(hour, minute, f64::from(local.second())).ok()
}
