//! The rules. Pure: facts, thresholds and the time in, findings out.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::out_of_hours::out_of_hours;
use crate::calls::{Facts, Field, RecordingState, Value};
use crate::clock::AHEAD;
use crate::config::FlagThresholds;
use crate::retention::PolicySet;

/// A recording with at least this share of silence is called silent.
pub const SILENT_SHARE: f64 = 0.95;

/// Why a call is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    ShortCall,
    LongCall,
    SilentRecording,
    DurationMismatch,
    RecordingMissing,
    RecordingFailed,
    RecordingOverdue,
    CallOverdue,
    Contradiction,
    OutOfHours,
    /// Short calls of one agent close together; looked for in the calls of that agent, not in the call alone.
    RepeatedShortCalls,
    /// Drawn at random, so that somebody listens to it; by no rule about the call.
    Sample,
}

/// What the rules go by.
#[derive(Clone, Debug)]
pub struct Rules {
    pub thresholds: FlagThresholds,
    /// In which business hours are read that have no time zone of their own.
    pub zone: TimeZone,
}

impl Rule {
    pub const ALL: [Self; 12] = [
        Self::ShortCall,
        Self::LongCall,
        Self::SilentRecording,
        Self::DurationMismatch,
        Self::RecordingMissing,
        Self::RecordingFailed,
        Self::RecordingOverdue,
        Self::CallOverdue,
        Self::Contradiction,
        Self::OutOfHours,
        Self::RepeatedShortCalls,
        Self::Sample,
    ];

    /// The names of all.
    #[must_use]
    pub fn names() -> [&'static str; 12] {
        Self::ALL.map(Self::as_str)
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ShortCall => "short_call",
            Self::LongCall => "long_call",
            Self::SilentRecording => "silent_recording",
            Self::DurationMismatch => "duration_mismatch",
            Self::RecordingMissing => "recording_missing",
            Self::RecordingFailed => "recording_failed",
            Self::RecordingOverdue => "recording_overdue",
            Self::CallOverdue => "call_overdue",
            Self::Contradiction => "contradiction",
            Self::OutOfHours => "out_of_hours",
            Self::RepeatedShortCalls => "repeated_short_calls",
            Self::Sample => "sample",
        }
    }

    /// True for rules that look at one call by itself.
    #[must_use]
    pub fn is_about_one_call(self) -> bool {
        !matches!(self, Self::RepeatedShortCalls | Self::Sample)
    }

    /// True for rules about something that is lacking: they end by themselves when it comes.
    #[must_use]
    pub fn can_resolve(self) -> bool {
        matches!(self, Self::RecordingMissing | Self::RecordingFailed | Self::RecordingOverdue | Self::CallOverdue)
    }
}

/// A rule that applies to a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub rule: Rule,
    /// In words.
    pub reason: String,
    /// The threshold in force, as the configuration says it.
    pub threshold: Option<String>,
}

/// Everything that is odd about a call at a moment, looked at by itself.
#[must_use]
pub fn evaluate(facts: &Facts, rules: &Rules, policies: &PolicySet, now: Timestamp) -> Vec<Finding> {
    let Rules { thresholds, zone } = rules;
    let found = [
        short_call(facts, thresholds),
        long_call(facts, thresholds),
        silent_recording(facts),
        duration_mismatch(facts, thresholds),
        recording_missing(facts),
        recording_failed(facts),
        recording_overdue(facts, thresholds, now),
        call_overdue(facts, thresholds, now),
        contradiction(facts, thresholds, policies),
        out_of_hours(facts, &thresholds.business_hours, zone),
    ];
    found.into_iter().flatten().collect()
}

fn finding(rule: Rule, reason: String, threshold: Option<String>) -> Option<Finding> {
    Some(Finding { rule, reason, threshold })
}

/// The lengths that were stated, in seconds; without any, what lies between start and end.
fn durations(facts: &Facts) -> Vec<u64> {
    let stated: Vec<u64> = facts.numbers(Field::Duration).map(i64::cast_unsigned).collect();
    match (stated.is_empty(), facts.time(Field::StartedAt), facts.time(Field::EndedAt)) {
        (true, Some(start), Some(end)) if end >= start => vec![end.duration_since(start).as_secs().cast_unsigned()],
        _ => stated,
    }
}

fn short_call(facts: &Facts, thresholds: &FlagThresholds) -> Option<Finding> {
    let limit = thresholds.short_call_seconds;
    let shortest = durations(facts).into_iter().min()?;
    if !facts.status().is_final() || !facts.had_conversation() || shortest >= limit {
        return None;
    }
    finding(Rule::ShortCall, format!("{shortest} s, below {limit} s"), Some(format!("{limit} s")))
}

fn long_call(facts: &Facts, thresholds: &FlagThresholds) -> Option<Finding> {
    let limit = thresholds.long_call_seconds;
    let longest = durations(facts).into_iter().max()?;
    if longest <= limit {
        return None;
    }
    finding(Rule::LongCall, format!("{longest} s, above {limit} s"), Some(format!("{limit} s")))
}

fn silent_recording(facts: &Facts) -> Option<Finding> {
    let share = facts.recordings.values().filter_map(|recording| recording.analysis.as_ref()?.1).fold(0.0, f64::max);
    if share < SILENT_SHARE {
        return None;
    }
    let reason = format!("{:.0} % of the recording is silence", share * 100.0);
    finding(Rule::SilentRecording, reason, Some(format!("{:.0} %", SILENT_SHARE * 100.0)))
}

fn duration_mismatch(facts: &Facts, thresholds: &FlagThresholds) -> Option<Finding> {
    let tolerance = thresholds.duration_tolerance_seconds;
    let stated = facts.number(Field::Duration)?.cast_unsigned();
    let receipt = &facts.ranked_recordings().next()?.receipt.as_ref()?.2;
    let measured = receipt.audio.seconds;
    if (measured - stated as f64).abs() <= tolerance as f64 {
        return None;
    }
    let reason = format!("the sender says {stated} s, the recording lasts {measured:.1} s");
    finding(Rule::DurationMismatch, reason, Some(format!("{tolerance} s")))
}

fn recording_missing(facts: &Facts) -> Option<Finding> {
    if facts.recording_state() != RecordingState::Missing {
        return None;
    }
    finding(Rule::RecordingMissing, "there was a conversation, but the sender named no recording".into(), None)
}

fn recording_failed(facts: &Facts) -> Option<Finding> {
    let failed = facts.recordings.values().find(|recording| recording.state() == RecordingState::Failed)?;
    let (_, failure) = failed.failure.as_ref()?;
    finding(Rule::RecordingFailed, failure.reason.clone(), None)
}

fn recording_overdue(facts: &Facts, thresholds: &FlagThresholds, now: Timestamp) -> Option<Finding> {
    let limit = thresholds.recording_overdue;
    let pending = facts.recordings.values().filter(|recording| recording.state() == RecordingState::Pending);
    let since = pending.map(|recording| recording.received).min()?;
    let how_long = waited(since, limit, now)?;
    let limit = humantime::format_duration(limit).to_string();
    finding(
        Rule::RecordingOverdue,
        format!("the recording was announced {} and is not archived", how_long.in_words(&limit)),
        Some(limit),
    )
}

fn call_overdue(facts: &Facts, thresholds: &FlagThresholds, now: Timestamp) -> Option<Finding> {
    let limit = thresholds.call_overdue;
    let how_long = waited(facts.open_since()?, limit, now)?;
    let limit = humantime::format_duration(limit).to_string();
    let begun = if facts.accepted_received.is_some() { "accepted" } else { "begun" };
    let reason = format!("{begun} {} and never ended", how_long.in_words(&limit));
    finding(Rule::CallOverdue, reason, Some(limit))
}

/// How long something is waited for that should have come.
enum Waited {
    TooLong,
    /// A clock was ahead when the waiting began. It is told at once: by that clock it would be told in years.
    NobodyKnows,
}

impl Waited {
    fn in_words(&self, limit: &str) -> String {
        match self {
            Self::TooLong => format!("more than {limit} ago"),
            Self::NobodyKnows => "at a time that is still to come, while a clock was ahead,".into(),
        }
    }
}

fn waited(since: i64, limit: std::time::Duration, now: Timestamp) -> Option<Waited> {
    let (limit, now) = (i64::try_from(limit.as_micros()).unwrap_or(i64::MAX), now.as_microsecond());
    if since.checked_add(limit).is_some_and(|due| due <= now) {
        return Some(Waited::TooLong);
    }
    let ahead = i64::try_from(AHEAD.as_micros()).unwrap_or(i64::MAX);
    (since > now.saturating_add(ahead)).then_some(Waited::NobodyKnows)
}

fn contradiction(facts: &Facts, thresholds: &FlagThresholds, policies: &PolicySet) -> Option<Finding> {
    let mut reasons: Vec<String> = Vec::new();
    let finals: Vec<&str> = facts.statuses.iter().filter(|s| s.is_final()).map(|s| s.as_str()).collect();
    if finals.len() > 1 {
        reasons.push(format!("it is said to be {}", finals.join(" and ")));
    }
    let accepted = facts.accepted_received.is_some();
    if accepted && finals.iter().any(|status| matches!(*status, "missed" | "rejected")) {
        reasons.push("it is said to be accepted, and not to have been answered".into());
    }
    reasons.extend(conflicting_fields(facts));
    if facts.recordings.len() > 1 {
        reasons.push(format!("{} different recordings are named", facts.recordings.len()));
    }
    reasons.extend(facts.unreadable.iter().map(|field| format!("{field} can't be read")));
    reasons.extend(conflicting_times(facts, thresholds));
    reasons.extend(policies.basis(facts).contradiction.map(str::to_owned));
    if facts.recordings.values().any(|r| r.receipt.as_ref().is_some_and(|(.., receipt)| !receipt.audio.complete)) {
        reasons.push("the recording breaks off in the middle of the audio".into());
    }
    if reasons.is_empty() {
        return None;
    }
    finding(Rule::Contradiction, reasons.join("; "), None)
}

/// Fields that can have one value only. The agent may come as a number once and as a name another time.
fn conflicting_fields(facts: &Facts) -> Vec<String> {
    let fields = [
        (Field::Channel, "channels"),
        (Field::Direction, "directions"),
        (Field::WabaNumber, "business numbers"),
        (Field::CustomerId, "customers"),
        (Field::CustomerNumber, "customer numbers"),
        (Field::Agent, "agents"),
        (Field::StartedAt, "starts"),
        (Field::EndedAt, "ends"),
        (Field::Duration, "durations"),
    ];
    let conflict = |(field, name): (Field, &str)| {
        let (mut numbers, mut texts) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
        for stated in facts.fields.get(&field).into_iter().flatten() {
            match &stated.value {
                Value::Number(number) => numbers.insert(number.to_string()),
                Value::Text(text) if is_phone_number(text) => numbers.insert(digits(text)),
                Value::Text(text) => texts.insert(text.clone()),
            };
        }
        let most = numbers.len().max(texts.len());
        (most > 1).then(|| format!("{most} different {name} are named"))
    };
    fields.into_iter().filter_map(conflict).collect()
}

fn conflicting_times(facts: &Facts, thresholds: &FlagThresholds) -> Option<String> {
    let (start, end) = (facts.time(Field::StartedAt)?, facts.time(Field::EndedAt)?);
    if end < start {
        return Some("it is said to end before it started".into());
    }
    let between = end.duration_since(start).as_secs().cast_unsigned();
    let stated = facts.number(Field::Duration)?.cast_unsigned();
    (between.abs_diff(stated) > thresholds.duration_tolerance_seconds)
        .then(|| format!("{between} s lie between start and end, the duration is said to be {stated} s"))
}

fn is_phone_number(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_digit() || " +-()".contains(c)) && text.chars().any(|c| c.is_ascii_digit())
}

fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
