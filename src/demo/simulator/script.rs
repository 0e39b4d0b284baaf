//! What happens in a call: which events are sent, and how long after its first. The past sends a script at once, the
//! present plays it in real time. Pure: the start and the randomness are parameters.

use std::time::Duration;

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::cast::{Cast, token};
use super::events::{self, Ending, Facts};
use super::recording::{Band, Recording};

/// How a call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Answered, with a recording as long as the sender says.
    Recorded,
    /// Answered, with a recording that contradicts the stated duration.
    Contradicting,
    /// Answered, and no URL comes.
    Unrecorded,
    Missed,
    Rejected,
    /// Outgoing, given up before the customer answered.
    NeverAnswered,
    /// Outgoing, never got through.
    Failed,
}

impl Kind {
    /// The mix of an ordinary day, in percent: 79 recorded, 1 contradicting, 4 unrecorded, 7 missed, 4 rejected, 4
    /// never answered, 1 failed.
    pub fn random(rng: &mut Rng) -> Self {
        match rng.u8(..100) {
            0..79 => Self::Recorded,
            79 => Self::Contradicting,
            80..84 => Self::Unrecorded,
            84..91 => Self::Missed,
            91..95 => Self::Rejected,
            95..99 => Self::NeverAnswered,
            _ => Self::Failed,
        }
    }

    /// Whether there was a conversation.
    pub fn answered(self) -> bool {
        matches!(self, Self::Recorded | Self::Contradicting | Self::Unrecorded)
    }
}

/// One webhook.
#[derive(Debug, Clone, PartialEq)]
pub struct Beat {
    /// Since the call's first event.
    pub after: Duration,
    pub body: Value,
}

/// All webhooks of one call, in the order of sending.
#[derive(Debug, Clone, PartialEq)]
pub struct Script {
    pub call_id: String,
    pub kind: Kind,
    pub beats: Vec<Beat>,
    /// What is served at the announced URL; `None` where no URL is announced.
    pub recording: Option<Recording>,
}

/// What every script of one demo has in common.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    pub cast: &'a Cast,
    /// Where the recordings are, without a slash at the end.
    pub recordings_base_url: &'a str,
}

impl Script {
    /// Writes a call that begins at `start`. Its id is drawn again and again until `wanted` accepts the recording that
    /// follows from it, so `wanted` must accept some that are not rare.
    pub fn write(
        setting: Setting<'_>,
        rng: &mut Rng,
        kind: Kind,
        start: Timestamp,
        wanted: impl Fn(&Recording) -> bool,
    ) -> Self {
        let (call_id, recording) = draw(rng, wanted);
        let device_id = format!("device_{:04x}", rng.u16(..));
        let facts = Facts {
            call_id: &call_id,
            device_id: &device_id,
            customer: setting.cast.customer(rng),
            agent: setting.cast.agent(rng),
            outgoing: match kind {
                Kind::Missed | Kind::Rejected => false,
                Kind::NeverAnswered | Kind::Failed => true,
                Kind::Recorded | Kind::Contradicting | Kind::Unrecorded => rng.u8(..5) < 2,
            },
            pstn: recording.band == Band::Narrow,
        };
        let mut writer = Writer { facts, start, at: Duration::ZERO, beats: Vec::new() };
        writer.send(facts.initiated());
        match kind {
            Kind::Recorded | Kind::Contradicting | Kind::Unrecorded => {
                writer.conversation(setting, rng, kind, &recording);
            }
            Kind::Missed => writer.missed(rng),
            Kind::Rejected | Kind::NeverAnswered | Kind::Failed => writer.refused(rng, kind),
        }
        let beats = writer.beats;
        let announced = matches!(kind, Kind::Recorded | Kind::Contradicting).then_some(recording);
        Self { call_id, kind, beats, recording: announced }
    }

    /// Sends one event twice, as a sender does that didn't hear the answer.
    pub fn duplicate_one(&mut self, rng: &mut Rng) {
        let which = rng.usize(..self.beats.len());
        let mut again = self.beats[which].clone();
        again.after += Duration::from_millis(200);
        self.beats.insert(which + 1, again);
    }

    /// Sends the end before what came before it; only an answered call can be told from a mistake.
    pub fn end_first(&mut self) {
        let Some(accepted) = self.beats.iter().position(|beat| beat.body["event"] == "CALL_ACCEPTED") else {
            return;
        };
        let mut late = self.beats.remove(accepted);
        if let Some(last) = self.beats.last() {
            late.after = last.after + Duration::from_millis(1_500);
        }
        self.beats.push(late);
    }

    /// Loses everything but the last event.
    pub fn end_alone(&mut self) {
        self.beats.drain(..self.beats.len() - 1);
    }

    /// Never sends the end.
    pub fn never_end(&mut self) {
        self.beats.retain(|beat| beat.body["event"] != "CALL_ENDED");
        self.recording = None;
    }

    /// Adds what the agent noted after the call, an event whose fields nobody documented.
    pub fn note_disposition(&mut self, rng: &mut Rng) {
        let Some(last) = self.beats.last() else {
            return;
        };
        let notes = ["Interested", "Call back", "Not interested", "Documents pending"];
        let body = events::post_call_disposition(&self.call_id, notes[rng.usize(..notes.len())]);
        self.beats.push(Beat { after: last.after + Duration::from_secs(rng.u64(2..9)), body });
    }
}

fn draw(rng: &mut Rng, wanted: impl Fn(&Recording) -> bool) -> (String, Recording) {
    loop {
        let call_id = format!("call_{}", token(rng, 10));
        let recording = Recording::of(&call_id);
        if wanted(&recording) {
            return (call_id, recording);
        }
    }
}

struct Writer<'a> {
    facts: Facts<'a>,
    start: Timestamp,
    at: Duration,
    beats: Vec<Beat>,
}

impl Writer<'_> {
    fn send(&mut self, body: Value) {
        self.beats.push(Beat { after: self.at, body });
    }

    fn wait(&mut self, rng: &mut Rng, seconds: std::ops::Range<u64>) {
        self.at += Duration::from_secs(rng.u64(seconds));
    }

    fn now(&self) -> Timestamp {
        later(self.start, self.at)
    }

    fn refused(&mut self, rng: &mut Rng, kind: Kind) {
        self.wait(rng, if kind == Kind::NeverAnswered { 8..40 } else { 2..15 });
        let now = self.now();
        self.send(match kind {
            Kind::Rejected => self.facts.rejected(now),
            Kind::Failed => {
                let reasons = ["CALL_PERMISSION_DENIED", "NETWORK_ERROR", "USER_UNREACHABLE"];
                self.facts.failed(now, reasons[rng.usize(..reasons.len())])
            }
            _ => self.facts.given_up(now),
        });
    }

    fn missed(&mut self, rng: &mut Rng) {
        // A PSTN call has no CALL_NOT_PICKED; elsewhere one body for each agent that was rung, and sometimes none at
        // all.
        let rung = if self.facts.pstn { 0 } else { rng.u8(0..4) };
        for _ in 0..rung {
            self.wait(rng, 4..12);
            self.send(self.facts.not_picked());
        }
        self.wait(rng, 5..25);
        self.send(self.facts.missed(self.now(), rng.u8(..4) == 0, rng.bool()));
    }

    fn conversation(&mut self, setting: Setting<'_>, rng: &mut Rng, kind: Kind, recording: &Recording) {
        let facts = self.facts;
        if !facts.outgoing && !facts.pstn && rng.u8(..6) == 0 {
            self.wait(rng, 5..12);
            self.send(facts.not_picked());
        }
        self.wait(rng, 2..14);
        let started = self.now();
        self.send(facts.accepted(started));
        let seconds = match kind {
            Kind::Contradicting => recording.seconds() + rng.u64(12..60),
            _ => recording.seconds(),
        };
        self.at += Duration::from_secs(seconds);
        let recording_url = match kind {
            Kind::Unrecorded => String::new(),
            // Some URLs have a query already, which the key must be added to.
            _ => {
                let query = if rng.u8(..8) == 0 { "?v=2" } else { "" };
                format!("{}/recordings/{}.mp3{query}", setting.recordings_base_url, facts.call_id)
            }
        };
        let by = match rng.u8(..4) {
            0 | 1 => facts.agent.label(),
            2 => &facts.customer.number,
            _ => &facts.customer.name,
        };
        let ending = Ending { started, ended: self.now(), seconds, by, recording_url: &recording_url };
        let body = facts.ended(ending);
        let older = !facts.pstn && rng.u8(..30) == 0;
        self.send(if older { events::as_17_fields(body) } else { body });
    }
}

/// `start + by`, or the last moment that can be told; a demo that lives so long has other troubles.
fn later(start: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by).ok().and_then(|by| start.checked_add(by).ok()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{DISPOSITION, has_fields, is_call_event};
    use super::*;

    fn scripts(kind: Kind) -> Vec<Script> {
        let cast = Cast::new(1);
        let setting = Setting { cast: &cast, recordings_base_url: "http://recordings.test" };
        let mut rng = Rng::with_seed(5);
        let start = "2026-03-09T05:12:00Z".parse().unwrap();
        (0..200).map(|_| Script::write(setting, &mut rng, kind, start, |_| true)).collect()
    }

    fn names(script: &Script) -> Vec<&str> {
        script.beats.iter().map(|beat| beat.body["event"].as_str().unwrap()).collect()
    }

    fn seconds(body: &Value) -> i64 {
        let time = |field: &str| body[field].as_str().unwrap().parse::<Timestamp>().unwrap().as_second();
        time("callEndedAt") - time("callStartedAt")
    }

    #[test]
    fn an_answered_call_ends_with_the_length_of_its_recording() {
        for script in scripts(Kind::Recorded) {
            let ended = &script.beats.last().unwrap().body;
            let recording = script.recording.as_ref().unwrap();
            assert_eq!(ended["durationInSeconds"], recording.seconds());
            assert_eq!(seconds(ended) as u64, recording.seconds());
            assert_eq!(ended["callStatus"], "END");
            let url = ended["recordingUrl"].as_str().unwrap();
            assert!(url.starts_with(&format!("http://recordings.test/recordings/{}.mp3", script.call_id)), "{url}");
            assert_eq!(*recording, Recording::of(&script.call_id));
        }
    }

    #[test]
    fn a_contradicting_call_is_off_by_more_than_any_tolerance() {
        for script in scripts(Kind::Contradicting) {
            let ended = &script.beats.last().unwrap().body;
            assert!(ended["durationInSeconds"].as_u64().unwrap() >= script.recording.unwrap().seconds() + 12);
        }
    }

    #[test]
    fn every_event_has_a_documented_shape_and_the_table_s_values() {
        for kind in [
            Kind::Recorded,
            Kind::Contradicting,
            Kind::Unrecorded,
            Kind::Missed,
            Kind::Rejected,
            Kind::NeverAnswered,
            Kind::Failed,
        ] {
            for script in scripts(kind) {
                assert!(script.beats.is_sorted_by_key(|beat| beat.after));
                for beat in &script.beats {
                    follows_the_table(&beat.body, kind);
                }
                if !kind.answered() {
                    assert_eq!(script.recording, None);
                }
            }
        }
    }

    fn follows_the_table(body: &Value, kind: Kind) {
        assert!(is_call_event(body), "{body}");
        let set = |field: &str| body[field] != "";
        let event = body["event"].as_str().unwrap();
        // Event, status, start set, end set, agent set.
        let expected = match event {
            "CALL_INCOMING_INITIATED" | "CALL_NOT_PICKED" => ("INITIATED", false, false, false),
            "CALL_OUTGOING_INITIATED" => ("INITIATED", false, false, true),
            "CALL_ACCEPTED" => ("IN_PROGRESS", true, false, true),
            "CALL_ENDED" if kind == Kind::Failed => ("FAILED", false, true, true),
            "CALL_ENDED" => ("END", kind.answered(), true, true),
            "CALL_REJECTED" => ("REJECT", false, true, false),
            "CALL_MISSED" => ("MISSED", false, true, false),
            other => panic!("{other}"),
        };
        let status = body["callStatus"].as_str().unwrap();
        assert_eq!((status, set("callStartedAt"), set("callEndedAt"), set("pickedBy")), expected, "{body}");
        assert_eq!(body["durationInSeconds"] != 0, event == "CALL_ENDED" && kind.answered(), "{body}");
        let has_url = matches!(kind, Kind::Recorded | Kind::Contradicting) && event == "CALL_ENDED";
        assert_eq!(set("recordingUrl"), has_url, "{body}");
        assert_eq!(
            kind == Kind::Failed && event == "CALL_ENDED",
            body["failedReason"].as_str().is_some_and(|r| !r.is_empty())
        );
        assert!(event != "CALL_NOT_PICKED" || body["channel"].is_null(), "{body}");
    }

    #[test]
    fn disorder_changes_the_order_and_nothing_else() {
        let mut rng = Rng::with_seed(1);
        let original = scripts(Kind::Recorded).remove(0);

        let mut script = original.clone();
        script.end_first();
        assert_eq!(names(&script).last(), Some(&"CALL_ACCEPTED"));
        assert_eq!(script.beats.len(), original.beats.len());
        assert!(script.beats.is_sorted_by_key(|beat| beat.after));

        let mut script = original.clone();
        script.duplicate_one(&mut rng);
        assert_eq!(script.beats.len(), original.beats.len() + 1);
        script.beats.dedup_by(|a, b| a.body == b.body);
        assert_eq!(script.beats.len(), original.beats.len());

        let mut script = original.clone();
        script.end_alone();
        assert_eq!(names(&script), ["CALL_ENDED"]);

        let mut script = original.clone();
        script.never_end();
        assert!(!names(&script).contains(&"CALL_ENDED") && script.recording.is_none());

        let mut script = original;
        script.note_disposition(&mut rng);
        assert!(has_fields(&script.beats.last().unwrap().body, &[DISPOSITION]));
    }
}
