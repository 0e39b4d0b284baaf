//! Into which class a call falls: exactly one, by what the journal says of it. Pure.
//!
//! Thresholds are not asked for here: that something is overdue is a fact once the flag is journaled, with the threshold that
//! was in force. Only what nobody judged for as long as [`UNJUDGED_FOR`] is overdue by itself, since a server that was down
//! must not make a gap look like a call in progress.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::calls::{Facts, FlagFacts, RecordingFacts, RecordingState};
use crate::clock::from_micros;
use crate::flags::Rule;
use crate::intake::Status;

/// Longer than any threshold that makes sense, and than recordings are tried for.
const UNJUDGED_FOR: SignedDuration = SignedDuration::from_hours(7 * 24);

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Every recording that the sender named is in the store.
    Archived,
    /// Nobody picked up, so there is nothing to record.
    NotAnswered,
    Rejected,
    /// The sender could not put it through.
    NotConnected,
    /// It would be a gap, had nobody said why it is none.
    Explained,
    Destroyed,
    /// It goes on, and not for too long yet.
    InProgress,
    /// Its recording is announced, and not late yet.
    OnItsWay,
    /// It began and was never said to end.
    CallOverdue,
    /// Its recording was announced and did not come in time.
    RecordingOverdue,
    /// There was a conversation, and the sender named no recording. It says the same where recording is off.
    Missing,
    /// A recording was refused or given up.
    Failed,
    /// What the sender says of it can't all be true.
    Contradictory,
}

/// How a class stands to completeness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It is known what became of the call.
    Accounted,
    /// It is too early to tell.
    UnderWay,
    /// Somebody has to look.
    Gap,
}

impl Class {
    pub const ALL: [Self; 13] = [
        Self::Archived,
        Self::NotAnswered,
        Self::Rejected,
        Self::NotConnected,
        Self::Explained,
        Self::Destroyed,
        Self::InProgress,
        Self::OnItsWay,
        Self::CallOverdue,
        Self::RecordingOverdue,
        Self::Missing,
        Self::Failed,
        Self::Contradictory,
    ];

    /// The name in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Archived => "archived",
            Self::NotAnswered => "not_answered",
            Self::Rejected => "rejected",
            Self::NotConnected => "not_connected",
            Self::Explained => "explained",
            Self::Destroyed => "destroyed",
            Self::InProgress => "in_progress",
            Self::OnItsWay => "on_its_way",
            Self::CallOverdue => "call_overdue",
            Self::RecordingOverdue => "recording_overdue",
            Self::Missing => "missing",
            Self::Failed => "failed",
            Self::Contradictory => "contradictory",
        }
    }

    /// In words, for people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Archived => "Archived",
            Self::NotAnswered => "No recording: never answered",
            Self::Rejected => "No recording: rejected",
            Self::NotConnected => "No recording: not put through",
            Self::Explained => "Explained by somebody",
            Self::Destroyed => "Destroyed when its time was over",
            Self::InProgress => "In progress",
            Self::OnItsWay => "Recording on its way",
            Self::CallOverdue => "Never ended",
            Self::RecordingOverdue => "Recording overdue",
            Self::Missing => "Recording missing",
            Self::Failed => "Recording failed",
            Self::Contradictory => "Contradictory",
        }
    }

    #[must_use]
    pub fn standing(self) -> Standing {
        match self {
            Self::Archived
            | Self::NotAnswered
            | Self::Rejected
            | Self::NotConnected
            | Self::Explained
            | Self::Destroyed => Standing::Accounted,
            Self::InProgress | Self::OnItsWay => Standing::UnderWay,
            Self::CallOverdue | Self::RecordingOverdue | Self::Missing | Self::Failed | Self::Contradictory => {
                Standing::Gap
            }
        }
    }
}

/// A call's class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub class: Class,
    /// The class without the explanation; the same where there is none.
    pub found: Class,
    /// In words, for classes that are not self-evident.
    pub why: String,
}

/// A finding, with the entry from which on it holds: an explanation covers what was known when it was given.
struct Found {
    class: Class,
    why: String,
    since: u64,
}

/// The class of a call at a moment.
#[must_use]
pub fn classify(facts: &Facts, as_of: Timestamp) -> Verdict {
    let found = contradicted(facts, find(facts, as_of));
    let explained = facts.explained.as_ref().filter(|(seq, _)| *seq > found.since);
    match explained {
        Some((_, explanation)) if found.class.standing() == Standing::Gap => {
            Verdict { class: Class::Explained, found: found.class, why: explanation.reason.clone() }
        }
        _ => Verdict { class: found.class, found: found.class, why: found.why },
    }
}

fn find(facts: &Facts, as_of: Timestamp) -> Found {
    let found = |class, why: &str| Found { class, why: why.to_owned(), since: 0 };
    if facts.is_gone() {
        return found(Class::Destroyed, "");
    }
    if let Some(gap) = failed(facts) {
        return gap;
    }
    let pending: Vec<&RecordingFacts> =
        facts.recordings.values().filter(|recording| recording.state() == RecordingState::Pending).collect();
    if let Some(since) = pending.iter().map(|recording| recording.received).min()
        && let Some(gap) = overdue(facts, Rule::RecordingOverdue, Class::RecordingOverdue, since, as_of)
    {
        return gap;
    }
    if let Some(since) = facts.open_since() {
        return overdue(facts, Rule::CallOverdue, Class::CallOverdue, since, as_of)
            .unwrap_or_else(|| found(Class::InProgress, "it goes on"));
    }
    if !pending.is_empty() {
        return found(Class::OnItsWay, "the recording is being fetched");
    }
    if !facts.recordings.is_empty() {
        return found(Class::Archived, "");
    }
    if facts.had_conversation() {
        let why = "the sender named no recording of this conversation, as it does where recording is off";
        return Found { since: raised(facts, Rule::RecordingMissing), ..found(Class::Missing, why) };
    }
    match facts.status() {
        Status::Rejected => found(Class::Rejected, ""),
        Status::Failed => found(Class::NotConnected, ""),
        Status::Initiated | Status::InProgress | Status::Missed | Status::Ended => found(Class::NotAnswered, ""),
    }
}

fn failed(facts: &Facts) -> Option<Found> {
    let failed = facts.recordings.values().filter(|recording| recording.state() == RecordingState::Failed);
    let (since, failure) = failed.filter_map(|recording| recording.failure.as_ref()).max_by_key(|(seq, _)| *seq)?;
    Some(Found { class: Class::Failed, why: failure.reason.clone(), since: *since })
}

/// What waits since a time, in microseconds, and was flagged for it, or by nobody for too long.
fn overdue(facts: &Facts, rule: Rule, class: Class, since: i64, as_of: Timestamp) -> Option<Found> {
    if let Some(flag) = open(facts, rule) {
        return Some(Found { class, why: flag.reason().to_owned(), since: raised(facts, rule) });
    }
    if as_of.duration_since(from_micros(since)) <= UNJUDGED_FOR {
        return None;
    }
    let why = "it waits for more than a week, and no rule looked at it: see that callvault serve runs".into();
    Some(Found { class, why, since: 0 })
}

/// A contradiction outweighs all but a gap, until somebody has cleared it.
fn contradicted(facts: &Facts, found: Found) -> Found {
    let outweighed = found.class.standing() != Standing::Gap && found.class != Class::Destroyed;
    match open(facts, Rule::Contradiction) {
        Some(flag) if outweighed && flag.state() != "cleared" => Found {
            class: Class::Contradictory,
            why: flag.reason().to_owned(),
            since: raised(facts, Rule::Contradiction),
        },
        _ => found,
    }
}

fn open(facts: &Facts, rule: Rule) -> Option<&FlagFacts> {
    facts.flags.get(rule.as_str()).filter(|flag| flag.is_open())
}

/// The entry that raised a flag last; 0 where none did.
fn raised(facts: &Facts, rule: Rule) -> u64 {
    let raised = facts.flags.get(rule.as_str()).and_then(|flag| flag.raised.as_ref());
    raised.map_or(0, |(seq, _)| *seq)
}

#[cfg(test)]
#[path = "class_tests.rs"]
mod tests;
