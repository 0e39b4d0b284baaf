//! A recording with what proves it, in words that need no engineer. Pure.

use super::format::{Stamp, grouped, measured, segment, size};
use super::rows::Terms;
use super::words::{self, Badge};
use crate::calls::{Call, RecordingState, RecordingView};

pub(super) struct RecordingCard {
    /// Counted from 1, as in the API.
    pub(super) number: usize,
    pub(super) badge: Badge,
    pub(super) sentence: String,
    pub(super) failed: bool,
    pub(super) last_error: Option<String>,
    pub(super) sound: Option<Sound>,
    pub(super) proof: Option<Proof>,
}

/// Where it is to be heard.
pub(super) struct Sound {
    pub(super) audio: String,
    pub(super) download: String,
    /// Only of the first recording.
    pub(super) waveform: Option<String>,
    pub(super) seconds: f64,
}

pub(super) struct Proof {
    pub(super) sha256: String,
    pub(super) size: String,
    pub(super) exact_size: String,
    pub(super) length: String,
    pub(super) media: String,
    pub(super) silence: Option<String>,
    pub(super) object_key: String,
    pub(super) vcon_key: Option<String>,
    pub(super) archived: Option<Stamp>,
    pub(super) kept: Option<Stamp>,
    pub(super) policy: String,
    pub(super) attempts: String,
}

pub(super) fn cards(call: &Call, terms: &Terms<'_>) -> Vec<RecordingCard> {
    let all = std::iter::once(&call.recording).chain(&call.recordings);
    (1..).zip(all).map(|(number, view)| card(call, number, view, terms)).collect()
}

fn card(call: &Call, number: usize, view: &RecordingView, terms: &Terms<'_>) -> RecordingCard {
    RecordingCard {
        number,
        badge: words::recording(view.state),
        sentence: words::recording_sentence(view, &call.status),
        failed: view.state == RecordingState::Failed,
        last_error: view.last_error.as_deref().map(words::problem),
        sound: (view.state == RecordingState::Archived).then(|| sound(call, number, view)),
        proof: proof(view, terms),
    }
}

fn sound(call: &Call, number: usize, view: &RecordingView) -> Sound {
    let address = format!("/api/v1/calls/{}", segment(&call.call_id));
    let (first, which) = (number == 1, format!("number={number}"));
    Sound {
        audio: if first { format!("{address}/recording") } else { format!("{address}/recording?{which}") },
        download: if first {
            format!("{address}/recording?download=1")
        } else {
            format!("{address}/recording?download=1&{which}")
        },
        waveform: first.then(|| format!("{address}/waveform")),
        seconds: view.audio_seconds.unwrap_or_default(),
    }
}

fn proof(view: &RecordingView, terms: &Terms<'_>) -> Option<Proof> {
    let (sha256, bytes) = (view.sha256.clone()?, view.size_bytes?);
    Some(Proof {
        sha256,
        size: size(bytes),
        exact_size: format!("{} bytes", grouped(bytes)),
        length: view.audio_seconds.map_or_else(|| "Unknown".into(), measured),
        media: media(view),
        silence: view.silent_share.map(|share| format!("{:.0} %", share * 100.0)),
        object_key: view.object_key.clone().unwrap_or_default(),
        vcon_key: view.vcon_key.clone(),
        archived: view.archived_at.map(|at| Stamp::new(at, terms.tz)),
        kept: view.retain_until.map(|at| Stamp::new(at, terms.tz)),
        policy: view.policy.clone().unwrap_or_default(),
        attempts: match view.attempts {
            1 => "At the first attempt".into(),
            n => format!("After {} attempts", grouped(n)),
        },
    })
}

/// Such as `MP3, 64 kbit/s, mono`.
fn media(view: &RecordingView) -> String {
    let kind = match view.media_type.as_deref().unwrap_or_default() {
        "audio/mpeg" => "MP3",
        "audio/wav" | "audio/x-wav" | "audio/vnd.wave" => "WAV",
        "audio/ogg" => "Ogg",
        "audio/mp4" => "MP4 audio",
        "audio/flac" => "FLAC",
        other => other,
    };
    let rate = view.bit_rate.map(|rate| format!("{} kbit/s", grouped(u64::from(rate / 1000))));
    let channels = view.channels.map(|channels| match channels {
        1 => "mono".to_owned(),
        2 => "stereo".to_owned(),
        n => format!("{n} channels"),
    });
    let parts: Vec<String> =
        [Some(kind.to_owned()), rate, channels].into_iter().flatten().filter(|part| !part.is_empty()).collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_recordings_have_their_own_addresses() {
        let mut call = crate::calls::Facts::default().call();
        call.call_id = "a b/c".into();
        call.recording.state = RecordingState::Archived;
        call.recordings = vec![call.recording.clone()];
        let terms = Terms { tz: &jiff::tz::TimeZone::UTC, region: "IN" };
        let sounds: Vec<Sound> = cards(&call, &terms).into_iter().filter_map(|card| card.sound).collect();
        assert_eq!(sounds[0].audio, "/api/v1/calls/a%20b%2Fc/recording");
        assert_eq!(sounds[1].download, "/api/v1/calls/a%20b%2Fc/recording?download=1&number=2");
        assert!(sounds[0].waveform.is_some() && sounds[1].waveform.is_none());
    }
}
