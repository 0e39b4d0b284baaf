//! A document as one page that needs nothing else: style and plots are in it, and no script. It prints well.

use std::sync::LazyLock;

use askama::Template;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::ReportError;
use super::document::{Cell, Document, Line, Tone, Width};
use super::plot::{Drawing, draw};

const STYLE: &str = include_str!("../../assets/report.css");

/// What the page may load: nothing but its own style.
pub static CONTENT_SECURITY_POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    format!("default-src 'none'; style-src 'sha256-{hash}'; img-src data:; base-uri 'none'; form-action 'none'")
});

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    style: &'static str,
    policy: &'a str,
    title: &'static str,
    subtitle: &'a str,
    tone: &'static str,
    verdict: &'a str,
    timezone: &'a str,
    basis: Vec<(&'static str, String)>,
    figures: Vec<FigureView<'a>>,
    sections: Vec<SectionView<'a>>,
}

struct FigureView<'a> {
    label: &'static str,
    value: String,
    note: &'a str,
    tone: &'static str,
}

struct SectionView<'a> {
    name: &'static str,
    title: &'static str,
    note: &'a str,
    nothing: &'static str,
    plot: Option<Drawing>,
    heads: Vec<Head>,
    rows: Vec<RowView>,
    /// Rows become cards on narrow screens.
    cards: bool,
}

struct Head {
    title: &'static str,
    class: &'static str,
}

struct RowView {
    class: &'static str,
    /// Text, class, and the column's title for narrow screens.
    cells: Vec<(String, &'static str, &'static str)>,
}

/// The document as a page.
///
/// # Errors
/// Never for a document of ours; the template may refuse.
pub(super) fn html(document: &Document) -> Result<Vec<u8>, ReportError> {
    let shown = |cell: &Cell| cell.shown(&document.tz);
    let figure = |figure: &'_ super::document::Figure| FigureView {
        label: figure.label,
        value: shown(&figure.value),
        note: "",
        tone: tone(figure.tone),
    };
    let figures = document.figures.iter().map(|one| FigureView { note: &one.note, ..figure(one) }).collect();
    let page = Page {
        style: STYLE,
        policy: &CONTENT_SECURITY_POLICY,
        title: document.title,
        subtitle: &document.subtitle,
        tone: tone(document.verdict.0),
        verdict: &document.verdict.1,
        timezone: document.tz.iana_name().unwrap_or("UTC"),
        basis: document.basis.iter().map(|(name, value)| (*name, value.exact(&document.tz))).collect(),
        figures,
        sections: document.sections.iter().map(|section| view(section, document)).collect(),
    };
    page.render()
        .map(String::into_bytes)
        .map_err(|error| ReportError::Format { format: "HTML", why: error.to_string() })
}

fn view<'a>(section: &'a super::document::Section, document: &Document) -> SectionView<'a> {
    let table = &section.table;
    let class = |place: usize| {
        let mut cells = table.rows.iter().filter_map(|line| line.cells.get(place));
        let numbers = cells.all(|cell| cell.is_number() || *cell == Cell::Nothing);
        match table.columns.get(place).map(|column| column.width) {
            Some(Width::Narrow) if numbers => "n",
            Some(Width::Narrow) => "t",
            Some(Width::Wide) => "w",
            _ => "m",
        }
    };
    let heads: Vec<Head> = table
        .columns
        .iter()
        .enumerate()
        .map(|(place, column)| Head { title: column.title, class: class(place) })
        .collect();
    let row = |line: &Line| RowView {
        class: match (line.total, line.tone) {
            (true, _) => "total",
            (false, Tone::Bad) => "bad",
            (false, Tone::Warn) => "warn",
            (false, Tone::Good) => "good",
            (false, Tone::Plain) => "",
        },
        cells: line
            .cells
            .iter()
            .zip(&heads)
            .map(|(cell, head)| {
                let nothing = matches!(cell, Cell::Count(0) | Cell::Bytes(0)) && !line.total;
                (cell.shown(&document.tz), if nothing { "n zero" } else { head.class }, head.title)
            })
            .collect(),
    };
    SectionView {
        name: section.name,
        title: section.title,
        note: &section.note,
        nothing: section.nothing,
        plot: section.plot.as_ref().and_then(draw),
        rows: table.rows.iter().map(row).collect(),
        cards: heads.len() > 3 && heads.iter().any(|head| head.class == "w"),
        heads,
    }
}

fn tone(tone: Tone) -> &'static str {
    match tone {
        Tone::Plain => "plain",
        Tone::Good => "good",
        Tone::Warn => "warn",
        Tone::Bad => "bad",
    }
}
