//! The live trickle: calls that ring, are talked on and end while one watches, with the disorder that a real sender
//! brings. Plays what [`super::script`] wrote, in real time; keeps nothing but what is under way.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::cast::Cast;
use super::events;
use super::recording::{Recording, Trouble};
use super::script::{Beat, Kind, Script, Setting};
use super::sender::Sender;

/// Calls and other acts under way at most, so that a receiver that keeps everybody waiting doesn't pile them up.
const AT_ONCE: usize = 24;
/// Between the beginnings of two acts; a call sends three events or so, so that something happens every few seconds.
const PAUSE_MILLIS: std::ops::Range<u64> = 3_000..10_000;
/// Talk long enough to be seen, and short enough to wait for.
const TALK_SECONDS: std::ops::RangeInclusive<u64> = 8..=90;

/// What a run of the trickle needs.
#[derive(Clone)]
pub struct Stage {
    /// The same people as in the past: `Cast::new` with the seed of [`super::past_calls`].
    pub cast: Cast,
    /// Must differ from run to run on one archive: call ids come from it.
    pub seed: u64,
    /// Scheme, host and port of [`super::router`], no slash at the end.
    pub recordings_base_url: String,
    /// Whether to begin with the call that never ends and the recording that never comes: once in an archive's life is
    /// enough.
    pub opening: bool,
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

/// Sends calls until cancelled. Returns how many events could not be delivered; each is logged, none stops the trickle.
/// Calls under way when it is cancelled never end, as when a real sender goes away.
pub async fn run(sender: Sender, stage: Stage, cancel: CancellationToken) -> u64 {
    let mut rng = Rng::with_seed(stage.seed);
    let mut acts = JoinSet::new();
    if stage.opening {
        for beats in opening(&stage, &mut rng) {
            acts.spawn(play(sender.clone(), beats));
        }
    }
    let mut undelivered = 0;
    let mut next = Instant::now();
    loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            Some(done) = acts.join_next() => undelivered += done.unwrap_or(1),
            () = sleep_until(next), if acts.len() < AT_ONCE => {
                acts.spawn(play(sender.clone(), act(&stage, &mut rng)));
                next = Instant::now() + Duration::from_millis(rng.u64(PAUSE_MILLIS));
            }
        }
    }
    acts.shutdown().await;
    undelivered
}

/// Sends the beats when they are due; returns how many failed.
async fn play(sender: Sender, beats: Vec<Beat>) -> u64 {
    let begin = Instant::now();
    let mut failed = 0;
    for beat in beats {
        sleep_until(begin + beat.after).await;
        if let Err(error) = sender.send(&beat.body).await {
            warn!(%error, "simulated webhook not delivered");
            failed += 1;
        }
    }
    failed
}

impl Stage {
    /// The present, in whole seconds as DoubleTick gives it.
    fn second(&self) -> Timestamp {
        let now = (self.now)();
        Timestamp::from_second(now.as_second()).unwrap_or(now)
    }

    fn write(&self, rng: &mut Rng, kind: Kind, start: Timestamp, wanted: impl Fn(&Recording) -> bool) -> Script {
        let setting = Setting { cast: &self.cast, recordings_base_url: &self.recordings_base_url };
        let short = |recording: &Recording| TALK_SECONDS.contains(&recording.seconds()) && wanted(recording);
        Script::write(setting, rng, kind, start, short)
    }
}

/// What a visitor should not have to wait for: a call that was accepted hours ago and never ended, one whose recording
/// never comes, and two ordinary ones.
fn opening(stage: &Stage, rng: &mut Rng) -> Vec<Vec<Beat>> {
    let now = stage.second();
    let hours_ago = now.checked_sub(SignedDuration::from_hours(5)).unwrap_or(now);
    let mut endless = stage.write(rng, Kind::Unrecorded, hours_ago, |_| true);
    endless.never_end();
    for beat in &mut endless.beats {
        beat.after = Duration::ZERO;
    }
    let never = stage.write(rng, Kind::Recorded, now, |recording| recording.trouble == Trouble::Never);
    let ordinary =
        [(); 2].map(|()| stage.write(rng, Kind::Recorded, now, |recording| recording.trouble == Trouble::None).beats);
    [endless.beats, never.beats].into_iter().chain(ordinary).collect()
}

/// The next thing that happens: mostly a call, at times something else.
fn act(stage: &Stage, rng: &mut Rng) -> Vec<Beat> {
    if rng.u8(..8) == 0 {
        return vec![Beat { after: Duration::ZERO, body: chat_event(&stage.cast, rng) }];
    }
    // More variety than in an ordinary year, where one would wait minutes for a missed call.
    let kind = match rng.u8(..10) {
        0 => Kind::Missed,
        1 => Kind::Rejected,
        2 => Kind::NeverAnswered,
        _ => Kind::random(rng),
    };
    let mut script = stage.write(rng, kind, stage.second(), |_| true);
    match rng.u8(..16) {
        0 => script.duplicate_one(rng),
        1 if kind.answered() => script.end_first(),
        _ => {}
    }
    if kind.answered() && rng.u8(..6) == 0 {
        script.note_disposition(rng);
    }
    script.beats
}

fn chat_event(cast: &Cast, rng: &mut Rng) -> serde_json::Value {
    let (customer, agent) = (cast.customer(rng), cast.agent(rng));
    match rng.u8(..3) {
        0 => events::chat_unassigned(customer),
        1 => events::chat_assigned(customer, agent, None),
        _ => events::chat_assigned(customer, agent, Some(cast.agent(rng))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use serde_json::Value;

    use super::super::testing::{
        BY_BOT, CHAT_ASSIGNED, CHAT_UNASSIGNED, DISPOSITION, Receiver, has_fields, is_call_event,
    };
    use super::*;

    const START: &str = "2026-03-10T09:30:00Z";

    fn stage(seed: u64) -> Stage {
        let (begin, base): (Instant, Timestamp) = (Instant::now(), START.parse().unwrap());
        Stage {
            cast: Cast::new(1),
            seed,
            recordings_base_url: "http://recordings.test".into(),
            opening: true,
            now: Arc::new(move || base + begin.elapsed()),
        }
    }

    async fn trickle(answer: fn(usize) -> (u16, Option<&'static str>), minutes: u64) -> (Vec<Value>, u64) {
        let receiver = Receiver::start(answer).await;
        let cancel = CancellationToken::new();
        let running = tokio::spawn(run(receiver.sender(), stage(1), cancel.clone()));
        tokio::time::sleep(Duration::from_secs(minutes * 60)).await;
        cancel.cancel();
        (receiver.bodies(), running.await.unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn half_an_hour_shows_everything_in_documented_shapes() {
        let (bodies, undelivered) = trickle(|_| (200, None), 30).await;
        assert_eq!(undelivered, 0);
        assert!((400..1_200).contains(&bodies.len()), "{}", bodies.len());
        let mut seen: HashSet<&str> = HashSet::new();
        for body in &bodies {
            let chat: [&[&str]; 3] = [&[CHAT_ASSIGNED], &[CHAT_ASSIGNED, BY_BOT], &[CHAT_UNASSIGNED]];
            match body["event"].as_str() {
                Some("POST_CALL_DISPOSITION") => {
                    assert!(has_fields(body, &[DISPOSITION]), "{body}")
                }
                Some(_) => assert!(is_call_event(body), "{body}"),
                None => assert!(chat.iter().any(|fields| has_fields(body, fields)), "{body}"),
            }
            seen.insert(body["event"].as_str().unwrap_or("a chat event"));
        }
        let all = "CALL_INCOMING_INITIATED CALL_OUTGOING_INITIATED CALL_ACCEPTED CALL_ENDED CALL_REJECTED CALL_MISSED \
            CALL_NOT_PICKED POST_CALL_DISPOSITION";
        for event in all.split_whitespace().chain(["a chat event"]) {
            assert!(seen.contains(event), "{event}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn several_talk_at_once_and_none_for_long() {
        let (bodies, _) = trickle(|_| (200, None), 10).await;
        let mut at_once = 0;
        let mut under_way: HashMap<&str, i64> = HashMap::new();
        for body in &bodies {
            let call_id = body["callId"].as_str().unwrap_or_default();
            match body["event"].as_str() {
                Some("CALL_ACCEPTED") => drop(under_way.insert(call_id, 1)),
                Some("CALL_ENDED") => drop(under_way.remove(call_id)),
                _ => {}
            }
            at_once = at_once.max(under_way.len());
            if body["event"] == "CALL_ENDED" && body["recordingUrl"] != "" {
                let seconds = body["durationInSeconds"].as_u64().unwrap();
                assert!((8..=150).contains(&seconds), "{body}");
            }
        }
        assert!((3..=AT_ONCE).contains(&at_once), "{at_once}");
    }

    #[tokio::test(start_paused = true)]
    async fn it_begins_with_a_call_that_never_ends_and_a_recording_that_never_comes() {
        let (bodies, _) = trickle(|_| (200, None), 5).await;
        let overdue: Vec<&Value> = bodies
            .iter()
            .filter(|body| body["callStartedAt"].as_str().is_some_and(|at| at.starts_with("2026-03-10T04:3")))
            .collect();
        assert_eq!(overdue.len(), 1);
        assert_eq!(overdue[0]["event"], "CALL_ACCEPTED");
        assert!(bodies.iter().any(|body| {
            body["recordingUrl"] != ""
                && body["callId"].as_str().is_some_and(|id| Recording::of(id).trouble == Trouble::Never)
        }));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_is_counted_and_stops_nothing() {
        let (bodies, undelivered) = trickle(|n| if n % 4 == 0 { (400, None) } else { (200, None) }, 10).await;
        assert!(undelivered > 10 && bodies.len() > 50, "{undelivered} {}", bodies.len());
    }

    #[test]
    fn same_seed_same_acts() {
        let first = |seed| {
            let stage = Stage { now: Arc::new(|| START.parse().unwrap()), ..stage(seed) };
            let mut rng = Rng::with_seed(seed);
            (opening(&stage, &mut rng), act(&stage, &mut rng))
        };
        assert!(first(1) == first(1));
        assert!(first(1) != first(2));
    }
}
