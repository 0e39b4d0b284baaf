//! A year of calls that are over. Pure: the seed and the present are parameters.

use std::time::Duration;

use fastrand::Rng;
use jiff::Timestamp;
use serde_json::Value;

use super::cast::Cast;
use super::recording::{LONGEST, Recording, Trouble};
use super::script::{Kind, Script, Setting};

const DAY: i64 = 86_400;

/// Asia/Kolkata, which has had this offset and no summer time since 1945.
const OFFSET: i64 = 5 * 3_600 + 1_800;

/// Between the start of the last call and the present: longer than ringing, the longest talk and the wrongest duration
/// together.
const MARGIN: i64 = LONGEST.as_secs() as i64 + 180;

/// How busy an hour of the day is, from midnight on.
const HOURS: [u8; 24] = [0, 0, 0, 0, 0, 0, 0, 1, 3, 8, 14, 16, 13, 8, 9, 13, 15, 14, 11, 8, 5, 2, 1, 0];

/// How busy a day of the week is, from Monday on.
const DAYS: [u8; 7] = [20, 19, 19, 19, 20, 9, 2];

/// One call of the past.
#[derive(Debug, Clone, PartialEq)]
pub struct PastCall {
    pub call_id: String,
    pub kind: Kind,
    /// The bodies of the webhooks, in the order of sending.
    pub events: Vec<Value>,
    /// What is served at the announced URL; `None` where no URL is announced.
    pub recording: Option<Recording>,
}

/// `count` calls of the year that ends at `now`, oldest first; the same for the same arguments.
/// Recordings are announced under `recordings_base_url` (scheme, host and port, no slash at the end).
pub fn past_calls(
    seed: u64,
    now: Timestamp,
    count: usize,
    recordings_base_url: &str,
) -> impl Iterator<Item = PastCall> + Send + use<> {
    let cast = Cast::new(seed);
    let mut rng = Rng::with_seed(seed ^ 0x70617374);
    // At least one of each is among them however the dice fall, since a demo that happens to lack it shows less.
    let mut kinds: Vec<Kind> =
        [Kind::Contradicting, Kind::Unrecorded, Kind::Missed, Kind::Rejected, Kind::NeverAnswered, Kind::Failed]
            .into_iter()
            .chain(std::iter::repeat_with(|| Kind::random(&mut rng)))
            .take(count)
            .collect();
    rng.shuffle(&mut kinds);
    let mut starts: Vec<Timestamp> = kinds.iter().map(|_| start(&mut rng, now)).collect();
    starts.sort_unstable();
    let base = recordings_base_url.to_owned();
    starts.into_iter().zip(kinds).map(move |(start, kind)| {
        let setting = Setting { cast: &cast, recordings_base_url: &base };
        past_call(setting, &mut rng, kind, start)
    })
}

fn past_call(setting: Setting<'_>, rng: &mut Rng, kind: Kind, start: Timestamp) -> PastCall {
    // Recordings of the past are nearly always there at once: a backlog in which two of five are late would take all
    // the attention.
    let troubled = rng.u8(..50) == 0;
    let mut script =
        Script::write(setting, rng, kind, start, |recording| (recording.trouble != Trouble::None) == troubled);
    match rng.u8(..200) {
        0..3 => script.duplicate_one(rng),
        3..6 if kind.answered() => script.end_first(),
        6 => script.end_alone(),
        _ => {}
    }
    PastCall {
        call_id: script.call_id,
        kind,
        events: script.beats.into_iter().map(|beat| beat.body).collect(),
        recording: script.recording,
    }
}

/// A moment of the year before `now` at which somebody would call, to the second.
fn start(rng: &mut Rng, now: Timestamp) -> Timestamp {
    let latest = now.as_second() - MARGIN;
    loop {
        let second = rng.i64(latest - 365 * DAY..=latest);
        let local = second + OFFSET;
        let hour = local.rem_euclid(DAY) / 3_600;
        // The day on which Unix time begins was a Thursday.
        let day = (local.div_euclid(DAY) + 3).rem_euclid(7);
        let busy = u32::from(HOURS[hour as usize]) * u32::from(DAYS[day as usize]);
        if rng.u32(..16 * 20) < busy {
            // Out of range only if `now` is within a year of the end or the beginning of time.
            return Timestamp::from_second(second).unwrap_or(now);
        }
    }
}

/// How long the recordings of these calls are together.
pub fn recorded(calls: &[PastCall]) -> (u64, Duration) {
    let recordings = calls.iter().filter_map(|call| call.recording.as_ref());
    recordings.fold((0, Duration::ZERO), |(bytes, length), recording| {
        (bytes + recording.bytes(), length + recording.duration())
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::super::testing::{CALL_17, has_fields, is_call_event};
    use super::*;

    const NOW: &str = "2026-03-10T09:30:00Z";

    fn year(seed: u64) -> Vec<PastCall> {
        past_calls(seed, NOW.parse().unwrap(), 2_000, "http://127.0.0.1:1").collect()
    }

    #[test]
    fn same_arguments_same_calls() {
        assert_eq!(year(3), year(3));
        assert_ne!(year(3), year(4));
    }

    #[test]
    fn ids_are_unique_and_shapes_documented() {
        let calls = year(1);
        assert_eq!(calls.iter().map(|call| &call.call_id).collect::<HashSet<_>>().len(), 2_000);
        let events: Vec<&Value> = calls.iter().flat_map(|call| &call.events).collect();
        assert!(events.iter().all(|body| is_call_event(body)));
        let count = |wanted: &dyn Fn(&Value) -> bool| events.iter().filter(|body| wanted(body)).count();
        assert!((20..120).contains(&count(&|body| has_fields(body, &[CALL_17]))));
        assert!((100..800).contains(&count(&|body| body["channel"] == "PSTN")));
        assert!(count(&|body| body["event"] == "CALL_NOT_PICKED") > 100);
    }

    #[test]
    fn the_mix_is_that_of_an_ordinary_year() {
        for seed in 1..5 {
            let calls = year(seed);
            let mut kinds: HashMap<Kind, usize> = HashMap::new();
            for call in &calls {
                *kinds.entry(call.kind).or_default() += 1;
            }
            assert!((1_500..1_660).contains(&kinds[&Kind::Recorded]), "{kinds:?}");
            assert!((5..45).contains(&kinds[&Kind::Contradicting]), "{kinds:?}");
            assert!((50..115).contains(&kinds[&Kind::Unrecorded]), "{kinds:?}");
            assert!((100..180).contains(&kinds[&Kind::Missed]), "{kinds:?}");
            assert!((50..115).contains(&kinds[&Kind::Rejected]), "{kinds:?}");
            assert!((50..115).contains(&kinds[&Kind::NeverAnswered]), "{kinds:?}");
            assert!((5..45).contains(&kinds[&Kind::Failed]), "{kinds:?}");
            let (bytes, length) = recorded(&calls);
            assert!((150_000_000..200_000_000).contains(&bytes), "{bytes} bytes, {length:?}");
            let troubled = calls
                .iter()
                .filter_map(|call| call.recording.as_ref())
                .filter(|recording| recording.trouble != Trouble::None)
                .count();
            assert!((10..70).contains(&troubled), "{troubled}");
        }
    }

    #[test]
    fn all_is_over_by_now_and_in_office_hours() {
        let now: Timestamp = NOW.parse().unwrap();
        let mut sundays = 0;
        let mut latest = Timestamp::MIN;
        for call in year(1) {
            let times = call.events.iter().flat_map(|body| [&body["callStartedAt"], &body["callEndedAt"]]);
            for time in times.filter_map(Value::as_str).filter(|time| !time.is_empty()) {
                let time: Timestamp = time.parse().unwrap();
                assert!(time <= now && time.duration_until(now).as_hours() <= 365 * 24, "{time}");
                latest = latest.max(time);
                let local = time.in_tz("Asia/Kolkata").unwrap();
                assert!((7..24).contains(&local.hour()), "{local}");
                sundays += usize::from(local.weekday() == jiff::civil::Weekday::Sunday);
            }
        }
        assert!(sundays < 300, "{sundays}");
        assert!(latest.duration_until(now).as_hours() < 72, "{latest}");
    }

    #[test]
    fn disorder_occurs_and_is_rare() {
        let calls = year(1);
        let name = |body: &Value| body["event"].as_str().unwrap().to_owned();
        let doubled = calls.iter().filter(|call| {
            call.events.windows(2).any(|pair| pair[0] == pair[1] && name(&pair[0]) != "CALL_NOT_PICKED")
        });
        let turned = calls.iter().filter(|call| {
            call.events.windows(2).any(|pair| name(&pair[0]) == "CALL_ENDED" && name(&pair[1]) == "CALL_ACCEPTED")
        });
        let alone = calls.iter().filter(|call| call.events.len() == 1);
        for count in [doubled.count(), turned.count(), alone.count()] {
            assert!((3..70).contains(&count), "{count}");
        }
    }
}
