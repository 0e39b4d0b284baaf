//! Reports in the formats that people and programs read.

use std::str::FromStr;

use jiff::civil::Date;
use serde::Serialize;

use super::document::Document;
use super::{ReportError, text};

/// A report of any kind.
pub trait Report: Serialize {
    /// For people.
    fn document(&self) -> Document;

    /// Whether somebody has to look at what it says.
    fn needs_attention(&self) -> bool;

    /// Such as `completeness`, and the days that it is about.
    fn name(&self) -> (&'static str, Date, Date);

    /// Such as `completeness-2026-03-09.json`.
    fn file_name(&self, format: Format) -> String {
        let (name, from, to) = self.name();
        let days = if from == to { from.to_string() } else { format!("{from}-to-{to}") };
        format!("{name}-{days}.{}", format.extension())
    }
}

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Text,
    /// Stable, for programs.
    Json,
    /// All tables in one, each under its name.
    Csv,
    /// A workbook with a sheet for each table.
    Xlsx,
    /// One page that needs nothing else, and prints well.
    Html,
}

/// There is no format of that name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no format: give text, json, csv, xlsx or html")]
pub struct UnknownFormat(String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        match text {
            "text" | "txt" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            "csv" => Ok(Self::Csv),
            "xlsx" => Ok(Self::Xlsx),
            "html" => Ok(Self::Html),
            _ => Err(UnknownFormat(text.to_owned())),
        }
    }
}

impl Format {
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Text => "txt",
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Xlsx => "xlsx",
            Self::Html => "html",
        }
    }

    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; charset=utf-8",
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Xlsx => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            Self::Html => "text/html; charset=utf-8",
        }
    }

    /// The report in this format; `clean` makes what others wrote harmless on a terminal.
    ///
    /// # Errors
    /// It can't be written so.
    pub fn write(self, report: &impl Report, clean: impl Fn(&str) -> String) -> Result<Vec<u8>, ReportError> {
        match self {
            Self::Text => Ok(text::text(&report.document(), clean).into_bytes()),
            Self::Json => {
                let mut bytes = serde_json::to_vec_pretty(report)?;
                bytes.push(b'\n');
                Ok(bytes)
            }
            Self::Csv => super::csv::csv(&report.document()),
            Self::Xlsx => super::xlsx::xlsx(&report.document()),
            Self::Html => super::html::html(&report.document()),
        }
    }
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
