//! What the archive's own terms are called on a page.

use crate::calls::records::ReviewState;
use crate::calls::{RecordingState, RecordingView};

/// A term with the colour that it is shown in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Badge {
    /// `good`, `info`, `warn`, `bad` or `plain`.
    pub(super) tone: &'static str,
    pub(super) word: &'static str,
}

const fn badge(tone: &'static str, word: &'static str) -> Badge {
    Badge { tone, word }
}

/// The values of the selects, in the order in which they are offered.
pub(super) const DIRECTIONS: [&str; 2] = ["incoming", "outgoing"];
pub(super) const STATUSES: [&str; 6] = ["initiated", "in_progress", "ended", "missed", "rejected", "failed"];
/// Of flags, where they stand.
pub(super) const FLAG_STATES: [&str; 5] = ["open", "in_review", "escalated", "cleared", "resolved"];
pub(super) const RECORDINGS: [&str; 6] = ["archived", "pending", "failed", "missing", "none", "destroyed"];

pub(super) fn status(status: &str) -> Badge {
    match status {
        "initiated" => badge("plain", "Initiated"),
        "in_progress" => badge("info", "In progress"),
        "ended" => badge("good", "Ended"),
        "rejected" => badge("warn", "Rejected"),
        "missed" => badge("warn", "Missed"),
        "failed" => badge("bad", "Failed"),
        _ => badge("plain", "Unknown"),
    }
}

pub(super) fn recording(state: RecordingState) -> Badge {
    match state {
        RecordingState::None => badge("none", "None"),
        RecordingState::Pending => badge("info", "On its way"),
        RecordingState::Archived => badge("good", "Archived"),
        RecordingState::Failed => badge("bad", "Failed"),
        RecordingState::Missing => badge("bad", "Missing"),
        RecordingState::Destroyed => badge("plain", "Destroyed"),
    }
}

/// The state of a recording in a sentence or two.
pub(super) fn recording_sentence(view: &RecordingView, status: &str) -> String {
    let tries = match view.attempts {
        0 => "The archive is about to fetch it.".to_owned(),
        1 => "It has been tried once.".to_owned(),
        n => format!("It has been tried {n} times."),
    };
    match view.state {
        RecordingState::None if matches!(status, "initiated") => {
            "Nobody has answered this call yet, so there is nothing to record.".into()
        }
        RecordingState::None => "There was no conversation in this call, so there is nothing to record.".into(),
        RecordingState::Pending if view.source.is_none() => {
            "The call is not over yet. Its recording is expected once it has ended.".into()
        }
        RecordingState::Pending => format!("The recording is on its way from the sender. {tries}"),
        RecordingState::Archived => {
            "The recording is in the archive: stored once, with a fingerprint that shows any later change.".into()
        }
        RecordingState::Failed if view.attempts == 0 => "The archive may not fetch this recording.".into(),
        RecordingState::Failed => format!("The archive could not get this recording and has given up. {tries}"),
        RecordingState::Missing => {
            "There was a conversation, but the sender named no recording. This gap needs an explanation.".into()
        }
        RecordingState::Destroyed => "The recording was destroyed when its time was over.".into(),
    }
}

/// What went wrong with a fetch, and for the numbers that web servers answer with, what they mean.
pub(super) fn problem(reason: &str) -> String {
    let sentence = super::format::sentence(reason);
    let Some(code) = reason.strip_prefix("the sender answered ").and_then(|code| code.parse::<u16>().ok()) else {
        return sentence;
    };
    let meaning = match code {
        401 | 403 => "It did not let the archive in.",
        404 | 410 => "It says that there is no such recording.",
        429 => "It was asked too often.",
        500.. => "Something is broken on the sender's side.",
        _ => return sentence,
    };
    format!("{sentence} {meaning}")
}

/// A flag's rule.
pub(super) fn rule(rule: &str) -> String {
    match rule {
        "short_call" => "Short call",
        "long_call" => "Long call",
        "silent_recording" => "Silent recording",
        "duration_mismatch" => "Lengths differ",
        "recording_missing" => "Recording missing",
        "recording_failed" => "Recording failed",
        "recording_overdue" => "Recording overdue",
        "call_overdue" => "Never ended",
        "contradiction" => "Contradiction",
        "out_of_hours" => "Out of hours",
        "repeated_short_calls" => "Repeated short calls",
        "sample" => "Sample",
        other => return super::format::capitalised(&other.replace('_', " ")),
    }
    .to_owned()
}

/// How far somebody has come with a flag.
pub(super) fn review(state: ReviewState) -> &'static str {
    match state {
        ReviewState::InReview => "being looked into",
        ReviewState::Cleared => "cleared",
        ReviewState::Escalated => "escalated",
    }
}

/// Where a flag stands.
pub(super) fn flag_state(state: &str) -> Badge {
    match state {
        "open" => badge("flag", "Open"),
        "in_review" => badge("info", "In review"),
        "cleared" => badge("good", "Cleared"),
        "escalated" => badge("bad", "Escalated"),
        "resolved" => badge("plain", "Resolved"),
        _ => badge("plain", "Unknown"),
    }
}

pub(super) fn direction(direction: &str) -> &'static str {
    match direction {
        "incoming" => "Incoming",
        "outgoing" => "Outgoing",
        _ => "Unknown",
    }
}

pub(super) fn channel(channel: &str) -> &'static str {
    if channel == "pstn" { "Phone call" } else { "WhatsApp call" }
}

/// The value of a filter as it is called on the page; a text that somebody typed stays as it is.
pub(super) fn filter_value(parameter: &str, value: &str) -> String {
    let lower = value.trim().to_lowercase();
    match parameter {
        "direction" if DIRECTIONS.contains(&lower.as_str()) => direction(&lower).into(),
        "status" if STATUSES.contains(&lower.as_str()) => status(&lower).word.into(),
        "recording" if RECORDINGS.contains(&lower.as_str()) => recording_name(&lower).into(),
        "flag" if value == super::query::ANY_FLAG => "Any".into(),
        "flag" => rule(value),
        "channel" if lower == "pstn" => "Phone".into(),
        "channel" if lower == "whatsapp" => "WhatsApp".into(),
        "on_hold" => if lower == "true" { "Yes" } else { "No" }.into(),
        "flag_state" if FLAG_STATES.contains(&lower.as_str()) => flag_state(&lower).word.into(),
        "min_duration" | "max_duration" => lower.parse().map_or_else(|_| value.to_owned(), super::format::length),
        _ => value.to_owned(),
    }
}

fn recording_name(state: &str) -> &'static str {
    let states = [
        RecordingState::None,
        RecordingState::Pending,
        RecordingState::Archived,
        RecordingState::Failed,
        RecordingState::Missing,
        RecordingState::Destroyed,
    ];
    states.into_iter().find(|known| known.as_str() == state).map_or("Unknown", |state| recording(state).word)
}

/// A filter's name as it is called on the page.
pub(super) fn filter_name(parameter: &str) -> &str {
    match parameter {
        "q" => "Search",
        "agent" => "Agent",
        "customer" => "Customer",
        "number" => "Number",
        "direction" => "Direction",
        "status" => "Status",
        "channel" => "Channel",
        "waba_number" => "Business number",
        "flag" => "Flag",
        "flag_state" => "Flag state",
        "recording" => "Recording",
        "started_from" => "From",
        "started_to" => "To",
        "min_duration" => "At least",
        "max_duration" => "At most",
        "on_hold" => "On hold",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_explained() {
        assert_eq!(
            problem("the sender answered 404"),
            "The sender answered 404. It says that there is no such recording."
        );
        assert_eq!(problem("the sender took too long"), "The sender took too long.");
        assert_eq!(problem("the sender answered 99999999"), "The sender answered 99999999.");
    }

    #[test]
    fn filters_have_names() {
        for (parameter, value, expected) in [
            ("status", "IN_PROGRESS", "In progress"),
            ("status", "bogus", "bogus"),
            ("recording", "pending", "On its way"),
            ("flag", "any", "Any"),
            ("flag_state", "IN_REVIEW", "In review"),
            ("flag_state", "bogus", "bogus"),
            ("flag", "a_new_rule", "A new rule"),
            ("min_duration", "90", "1:30"),
            ("min_duration", "x", "x"),
            ("on_hold", "true", "Yes"),
            ("q", "status", "status"),
        ] {
            assert_eq!(filter_value(parameter, value), expected);
        }
    }
}
