//! The table: one call a row, safe to open in a spreadsheet.

use bytes::Bytes;
use jiff::Timestamp;

use super::ExportError;
use crate::calls::{Call, RecordingView};

/// One column: its title and what stands in it.
type Column = (&'static str, fn(&Call, &RecordingView) -> String);

const COLUMNS: &[Column] = &[
    ("call_id", |call, _| call.call_id.clone()),
    ("channel", |call, _| call.channel.clone()),
    ("direction", |call, _| text(call.direction.as_ref())),
    ("status", |call, _| call.status.clone()),
    ("started_at", |call, _| time(call.started_at)),
    ("ended_at", |call, _| time(call.ended_at)),
    ("first_seen_at", |call, _| time(Some(call.first_seen_at))),
    ("duration_seconds", |call, _| text(call.duration_seconds.as_ref())),
    ("customer_name", |call, _| text(call.customer.name.as_ref())),
    ("customer_number", |call, _| text(call.customer.number.as_ref())),
    ("customer_id", |call, _| text(call.customer.id.as_ref())),
    ("agent", |call, _| text(call.agent.as_ref())),
    ("ended_by", |call, _| text(call.ended_by.as_ref())),
    ("rejected_by", |call, _| text(call.rejected_by.as_ref())),
    ("failed_reason", |call, _| text(call.failed_reason.as_ref())),
    ("waba_number", |call, _| text(call.waba_number.as_ref())),
    ("chat_id", |call, _| text(call.chat_id.as_ref())),
    ("recording_state", |_, recording| recording.state.as_str().to_owned()),
    ("recording_sha256", |_, recording| text(recording.sha256.as_ref())),
    ("recording_size_bytes", |_, recording| text(recording.size_bytes.as_ref())),
    ("recording_media_type", |_, recording| text(recording.media_type.as_ref())),
    ("recording_audio_seconds", |_, recording| text(recording.audio_seconds.as_ref())),
    ("recording_object_key", |_, recording| text(recording.object_key.as_ref())),
    ("recording_archived_at", |_, recording| time(recording.archived_at)),
    ("recording_retain_until", |_, recording| time(recording.retain_until)),
    ("retention_policy", |_, recording| text(recording.policy.as_ref())),
    ("recording_number", |call, recording| {
        let others = call.recordings.iter().position(|other| std::ptr::eq(other, recording));
        (others.map_or(1, |index| index + 2)).to_string()
    }),
    ("flags_open", |call, _| flags(call, true)),
    ("flags_all", |call, _| flags(call, false)),
    ("holds", |call, _| call.holds.join("; ")),
];

pub(super) fn header() -> Result<Bytes, ExportError> {
    write(|writer| writer.write_record(COLUMNS.iter().map(|(title, _)| *title)))
}

/// A row for each recording of each call, so that every recording stands with its hash; a call without any has one row.
pub(super) fn rows(calls: &[Call]) -> Result<Bytes, ExportError> {
    write(|writer| {
        for call in calls {
            for recording in std::iter::once(&call.recording).chain(&call.recordings) {
                writer.write_record(COLUMNS.iter().map(|(_, cell)| neutral(cell(call, recording))))?;
            }
        }
        Ok(())
    })
}

fn write(fill: impl FnOnce(&mut csv::Writer<Vec<u8>>) -> csv::Result<()>) -> Result<Bytes, ExportError> {
    let broken = |why: String| ExportError::Write(why);
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    fill(&mut writer).map_err(|error| broken(error.to_string()))?;
    writer.into_inner().map(Bytes::from).map_err(|error| broken(error.to_string()))
}

/// A cell that a spreadsheet would run as a formula gets an apostrophe in front (OWASP, "CSV injection").
#[must_use]
pub fn neutral(cell: String) -> String {
    let first = cell.trim_start_matches([' ', '\u{a0}', '\u{feff}']).chars().next();
    match first {
        Some('=' | '+' | '-' | '@' | '\t' | '\r' | '\n' | '＝' | '＋' | '－' | '＠' | '|' | '%') => {
            format!("'{cell}")
        }
        _ => cell,
    }
}

fn text(value: Option<&impl ToString>) -> String {
    value.map_or_else(String::new, ToString::to_string)
}

fn time(value: Option<Timestamp>) -> String {
    text(value.as_ref())
}

fn flags(call: &Call, open_only: bool) -> String {
    let flags = call.flags.iter().filter(|flag| !open_only || flag.state == "open");
    flags.map(|flag| flag.rule.as_str()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_are_neutralised() {
        for cell in ["=1+1", "+91", "-2", "@SUM(A1)", "\t=1", "\r=1", "  =1", "＝1", "|cmd", "%0a"] {
            assert_eq!(neutral(cell.into()), format!("'{cell}"));
        }
        for cell in ["", "Ananya", "919820011223", "a=b", "2026-03-09T05:12:07Z"] {
            assert_eq!(neutral(cell.into()), cell);
        }
    }
}
