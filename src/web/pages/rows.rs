//! A call as a line of the result. Pure.

use jiff::tz::TimeZone;

use super::format::{Stamp, length, phone, segment, shortened};
use super::words::{self, Badge};
use crate::calls::{Call, RecordingState};

/// Names are cut to this many characters in a line; the call's own page shows all of them.
const MAX_NAME: usize = 120;
/// Of flag badges in a line.
const MAX_FLAGS: usize = 3;

/// In whose terms a page shows things.
pub(super) struct Terms<'a> {
    pub(super) tz: &'a TimeZone,
    pub(super) region: &'a str,
}

pub(super) struct Row {
    pub(super) call_id: String,
    pub(super) href: String,
    /// Where the recording is to be heard, if it is archived.
    pub(super) audio: Option<String>,
    pub(super) waveform: String,
    pub(super) audio_seconds: String,
    pub(super) when: Stamp,
    pub(super) direction: &'static str,
    pub(super) channel: &'static str,
    pub(super) pstn: bool,
    pub(super) name: String,
    pub(super) number: String,
    /// Name, else number: whom it was with, in a word.
    pub(super) label: String,
    pub(super) agent: String,
    pub(super) status: Badge,
    pub(super) duration: Option<String>,
    /// Of a long call on this page, in hundredths.
    pub(super) share: u64,
    pub(super) recording: Badge,
    pub(super) flags: Vec<FlagBadge>,
    /// Open flags that have no room.
    pub(super) more_flags: usize,
    pub(super) kept: Option<Stamp>,
}

pub(super) struct FlagBadge {
    pub(super) name: String,
    pub(super) reason: String,
}

pub(super) fn rows(calls: &[Call], terms: &Terms<'_>) -> Vec<Row> {
    let long = long_call(calls);
    calls.iter().map(|call| row(call, long, terms)).collect()
}

/// The length that fills a bar: what nine in ten calls of the page stay below. Against the longest of all, one
/// conference would make every other bar a dot.
fn long_call(calls: &[Call]) -> u64 {
    let mut lengths: Vec<u64> = calls.iter().filter_map(|call| call.duration_seconds).collect();
    lengths.sort_unstable();
    lengths.get(lengths.len() * 9 / 10).copied().unwrap_or_default().max(1)
}

fn row(call: &Call, long: u64, terms: &Terms<'_>) -> Row {
    let id = segment(&call.call_id);
    let archived = call.recording.state == RecordingState::Archived;
    let mut flags: Vec<FlagBadge> = call.flags.iter().filter(|flag| is_unsettled(flag)).map(flag_badge).collect();
    let more_flags = flags.len().saturating_sub(MAX_FLAGS);
    flags.truncate(MAX_FLAGS);
    let name = shortened(call.customer.name.as_deref().unwrap_or_default(), MAX_NAME);
    let number = customer_number(call).map(|number| phone(number, terms.region)).unwrap_or_default();
    let number = shortened(&number, MAX_NAME);
    let label =
        [&name, &number].into_iter().find(|text| !text.is_empty()).map_or("an unknown customer", String::as_str);
    Row {
        label: label.to_owned(),
        href: format!("/calls/{id}"),
        audio: archived.then(|| format!("/api/v1/calls/{id}/recording")),
        waveform: format!("/api/v1/calls/{id}/waveform"),
        audio_seconds: call.recording.audio_seconds.unwrap_or_default().to_string(),
        when: Stamp::new(call.started_at.or(call.ended_at).unwrap_or(call.first_seen_at), terms.tz),
        direction: call.direction.as_deref().map_or("Unknown", words::direction),
        channel: words::channel(&call.channel),
        pstn: call.channel == "pstn",
        name,
        number,
        agent: shortened(&call.agent.as_deref().map(|agent| phone(agent, terms.region)).unwrap_or_default(), MAX_NAME),
        status: words::status(&call.status),
        duration: call.duration_seconds.map(length),
        share: call.duration_seconds.map_or(0, |seconds| (seconds.saturating_mul(100) / long).clamp(1, 100)),
        recording: words::recording(call.recording.state),
        flags,
        more_flags,
        kept: call.recording.retain_until.map(|until| Stamp::new(until, terms.tz)),
        call_id: call.call_id.clone(),
    }
}

/// Somebody still has to look at it, or to act.
fn is_unsettled(flag: &crate::calls::FlagView) -> bool {
    !matches!(flag.state.as_str(), "cleared" | "resolved")
}

fn flag_badge(flag: &crate::calls::FlagView) -> FlagBadge {
    FlagBadge { name: words::rule(&flag.rule), reason: shortened(&flag.reason, 200) }
}

/// The customer's number; of a phone call without one, the end that is not ours.
pub(super) fn customer_number(call: &Call) -> Option<&str> {
    let other_end = match call.direction.as_deref() {
        Some("incoming") => &call.from,
        Some("outgoing") => &call.to,
        _ => &None,
    };
    call.customer.number.as_deref().or(other_end.as_deref())
}
