use std::collections::{BTreeMap, BTreeSet};

use jiff::ToSpan;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use super::*;
use crate::journal::{Body, Entry, Kind};
use crate::reports::completeness::Tally;
use crate::reports::{Days, Moment};

/// Something that the journal says of a call; numbers name one of a few recordings or rules.
#[derive(Clone, Debug)]
enum Said {
    Rings,
    Accepted,
    Missed,
    Rejected,
    NotConnected,
    GivenUp,
    Ended(Option<u8>),
    Archived(u8),
    Failed(u8),
    Retried(u8),
    Raised(u8),
    Resolved(u8),
    Reviewed(u8, bool),
    Explained,
    Destroying,
}

const RULES: [&str; 4] = ["call_overdue", "recording_overdue", "recording_missing", "contradiction"];
const BEGIN: &str = "2026-03-09T05:00:00Z";

fn said() -> impl Strategy<Value = Said> {
    let (url, rule) = (0..2u8, 0..4u8);
    prop_oneof![
        2 => Just(Said::Rings),
        2 => Just(Said::Accepted),
        1 => Just(Said::Missed),
        1 => Just(Said::Rejected),
        1 => Just(Said::NotConnected),
        1 => Just(Said::GivenUp),
        4 => proptest::option::of(url.clone()).prop_map(Said::Ended),
        4 => url.clone().prop_map(Said::Archived),
        2 => url.clone().prop_map(Said::Failed),
        1 => url.prop_map(Said::Retried),
        2 => rule.clone().prop_map(Said::Raised),
        1 => rule.clone().prop_map(Said::Resolved),
        1 => (rule, any::<bool>()).prop_map(|(rule, cleared)| Said::Reviewed(rule, cleared)),
        1 => Just(Said::Explained),
        1 => Just(Said::Destroying),
    ]
}

/// A history begins with a webhook, and speaks only of recordings that were named.
fn histories() -> impl Strategy<Value = Vec<Said>> {
    let sensible = |all: Vec<Said>| {
        let mut named = BTreeSet::new();
        let mut kept: Vec<Said> = Vec::new();
        for said in all {
            let fits = match &said {
                Said::Archived(url) | Said::Failed(url) | Said::Retried(url) => named.contains(url),
                Said::Raised(_) | Said::Resolved(_) | Said::Reviewed(..) | Said::Explained | Said::Destroying => {
                    !kept.is_empty()
                }
                _ => true,
            };
            if let Said::Ended(Some(url)) = &said {
                named.insert(*url);
            }
            if fits {
                kept.push(said);
            }
        }
        if kept.is_empty() { vec![Said::Rings] } else { kept }
    };
    proptest::collection::vec(said(), 1..9).prop_map(sensible)
}

fn url(number: u8) -> String {
    format!("https://recordings.doubletick.io/{number}.mp3")
}

fn source(number: u8) -> String {
    hex::encode(Sha256::digest(url(number)))
}

fn record(said: &Said) -> (Kind, Json) {
    let call = |event: &str, status: &str, more: Json| {
        let mut body = json!({"event": event, "callId": "call_1", "callStatus": status, "pickedBy": "Farhan"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        (Kind::WebhookReceived, body)
    };
    let flag = |kind, rule: &u8| {
        let rule = RULES[usize::from(*rule)];
        (kind, json!({"call_id": "call_1", "rule": rule, "reason": rule, "evaluated_at": BEGIN}))
    };
    let audio = json!({"media_type": "audio/mpeg", "seconds": 9.0, "bit_rate": 1, "channels": 1, "sample_rate": 1,
        "complete": true});
    match said {
        Said::Rings => call("CALL_INCOMING_INITIATED", "INITIATED", json!({})),
        Said::Accepted => call("CALL_ACCEPTED", "IN_PROGRESS", json!({"callStartedAt": BEGIN})),
        Said::Missed => call("CALL_MISSED", "MISSED", json!({})),
        Said::Rejected => call("CALL_REJECTED", "REJECT", json!({})),
        Said::NotConnected => call("CALL_ENDED", "FAILED", json!({})),
        Said::GivenUp => call("CALL_ENDED", "END", json!({"durationInSeconds": 0})),
        Said::Ended(number) => {
            let url = number.map(url).unwrap_or_default();
            call("CALL_ENDED", "END", json!({"callStartedAt": BEGIN, "durationInSeconds": 9, "recordingUrl": url}))
        }
        Said::Archived(number) => {
            let receipt = json!({"call_id": "call_1", "source": source(*number), "object_key": "k", "sha256": "s",
                "size_bytes": 1, "audio": audio, "retain_until": "2031-03-09T05:00:00Z", "policy": "default",
                "policy_sha256": "p", "vcon_key": "v", "vcon_sha256": "h", "attempts": 1});
            (Kind::RecordingArchived, receipt)
        }
        Said::Failed(number) => {
            let failure = json!({"call_id": "call_1", "source": source(*number), "reason": "404", "attempts": 3});
            (Kind::RecordingFailed, failure)
        }
        Said::Retried(number) => (Kind::RecordingRetried, json!({"call_id": "call_1", "source": source(*number)})),
        Said::Raised(rule) => flag(Kind::FlagRaised, rule),
        Said::Resolved(rule) => flag(Kind::FlagResolved, rule),
        Said::Reviewed(rule, cleared) => {
            let state = if *cleared { "cleared" } else { "escalated" };
            (Kind::FlagReviewed, json!({"call_id": "call_1", "rule": RULES[usize::from(*rule)], "state": state}))
        }
        Said::Explained => (Kind::GapExplained, json!({"call_id": "call_1", "reason": "the battery died"})),
        Said::Destroying => {
            (Kind::CallDestroying, json!({"call_id": "call_1", "disposition": "d", "policies_sha256": ""}))
        }
    }
}

fn folded(history: &[Said]) -> Facts {
    let begin: Timestamp = BEGIN.parse().unwrap();
    let fold = |facts: Option<Facts>, (seq, said): (usize, &Said)| {
        let (kind, body) = record(said);
        let bytes = body.to_string().into_bytes();
        let entry = Entry {
            seq: seq as u64,
            at: begin + i64::try_from(seq).unwrap().seconds(),
            received_at: None,
            kind,
            actor: "token:meera".into(),
            subject: Some("call_1".into()),
            body: Body::of_bytes(&bytes).hash(),
            reason: None,
        };
        Some(Facts::fold(facts, &entry, &bytes).unwrap())
    };
    history.iter().enumerate().fold(None, fold).unwrap()
}

/// What is to be expected of a history, by looking through it from its end for each question.
fn expected(history: &[Said], week_later: bool) -> Class {
    let last = |fits: &dyn Fn(&Said) -> bool| history.iter().rposition(fits).map(|at| at as i64).unwrap_or(-1);
    let ever = |fits: &dyn Fn(&Said) -> bool| last(fits) >= 0;
    if ever(&|s| matches!(s, Said::Destroying)) {
        return Class::Destroyed;
    }
    let mut recordings = BTreeMap::new();
    for number in [0, 1] {
        if !ever(&|s| matches!(s, Said::Ended(Some(n)) if *n == number)) {
            continue;
        }
        let failed = last(&|s| matches!(s, Said::Failed(n) if *n == number));
        let state = if ever(&|s| matches!(s, Said::Archived(n) if *n == number)) {
            "archived"
        } else if failed > last(&|s| matches!(s, Said::Retried(n) if *n == number)) {
            "failed"
        } else {
            "pending"
        };
        recordings.insert(number, (state, failed));
    }
    let raised = |rule: usize| last(&|s| matches!(s, Said::Raised(r) if usize::from(*r) == rule));
    let open = |rule: usize| raised(rule) > last(&|s| matches!(s, Said::Resolved(r) if usize::from(*r) == rule));
    let over =
        ever(&|s| matches!(s, Said::Missed | Said::Rejected | Said::NotConnected | Said::GivenUp | Said::Ended(_)));
    let spoke = ever(&|s| matches!(s, Said::Accepted | Said::Ended(_)));
    let any = |wanted: &str| recordings.values().any(|(state, _)| *state == wanted);
    let final_class = || {
        if ever(&|s| matches!(s, Said::Ended(_) | Said::GivenUp)) {
            Class::NotAnswered
        } else if ever(&|s| matches!(s, Said::NotConnected)) {
            Class::NotConnected
        } else if ever(&|s| matches!(s, Said::Rejected)) {
            Class::Rejected
        } else {
            Class::NotAnswered
        }
    };
    let (mut class, mut since) = if any("failed") {
        let failures = recordings.values().filter(|(state, _)| *state == "failed").map(|(_, at)| *at);
        (Class::Failed, failures.max().unwrap())
    } else if any("pending") && open(1) {
        (Class::RecordingOverdue, raised(1))
    } else if any("pending") && week_later {
        (Class::RecordingOverdue, 0)
    } else if !over && open(0) {
        (Class::CallOverdue, raised(0))
    } else if !over {
        (if week_later { Class::CallOverdue } else { Class::InProgress }, 0)
    } else if any("pending") {
        (Class::OnItsWay, 0)
    } else if any("archived") {
        (Class::Archived, 0)
    } else if spoke {
        (Class::Missing, raised(2).max(0))
    } else {
        (final_class(), 0)
    };
    let review = |cleared| last(&|s| matches!(s, Said::Reviewed(3, c) if *c == cleared));
    let cleared = review(true) > raised(3) && review(true) > review(false);
    if class.standing() != Standing::Gap && open(3) && !cleared {
        (class, since) = (Class::Contradictory, raised(3));
    }
    let explained = last(&|s| matches!(s, Said::Explained)) > since;
    if class.standing() == Standing::Gap && explained { Class::Explained } else { class }
}

fn as_of(week_later: bool) -> Timestamp {
    let begin: Timestamp = BEGIN.parse().unwrap();
    begin + if week_later { 200.hours() } else { 2.hours() }
}

#[test]
fn ten_thousand_histories_are_classed_as_a_naive_reader_would_and_add_up() {
    let day = "2026-03-09".parse().unwrap();
    let days = Days::new(day, day, TimeZone::UTC).unwrap();
    let mut runner = TestRunner::deterministic();
    for week_later in [false, true] {
        let moment = Moment { as_of: as_of(week_later), size: 100 };
        let (mut tally, mut model) = (Tally::new(&days, moment), BTreeMap::new());
        for number in 0..5_000 {
            let history = histories().new_tree(&mut runner).unwrap().current();
            let facts = Facts { call_id: format!("call_{number}"), ..folded(&history) };
            let (class, expected) = (classify(&facts, moment.as_of).class, expected(&history, week_later));
            assert_eq!(class, expected, "{history:?}, a week later: {week_later}");
            tally.take(&facts);
            *model.entry(expected).or_insert(0u64) += 1;
        }
        let report = tally.report();
        let counted: BTreeMap<Class, u64> =
            report.classes.iter().filter(|count| count.calls > 0).map(|count| (count.class, count.calls)).collect();
        assert_eq!(counted, model);
        assert_eq!((report.total, report.days[0].calls), (5_000, 5_000));
        let in_standing = |standing| {
            let counts = report.classes.iter().filter(|count| count.standing == standing);
            counts.map(|count| count.calls as usize).sum::<usize>()
        };
        assert_eq!(report.gaps.len(), in_standing(Standing::Gap));
        assert_eq!(report.under_way.len(), in_standing(Standing::UnderWay));
        assert_eq!(report.explained.len() as u64, report.calls_in(Class::Explained));
        let named: BTreeSet<&str> = report.gaps.iter().map(|line| line.call_id.as_str()).collect();
        assert_eq!(named.len(), report.gaps.len(), "each is named once");
        assert!(report.gaps.iter().all(|line| !line.why.is_empty()) && !report.complete);
        let reached = Class::ALL.iter().filter(|class| model.contains_key(class)).count();
        assert!(reached >= if week_later { 11 } else { 13 }, "{model:?}");
    }
}

proptest! {
    #[test]
    fn shrunk_where_it_goes_wrong(history in histories(), week_later: bool) {
        let found = classify(&folded(&history), as_of(week_later)).class;
        prop_assert_eq!(found, expected(&history, week_later));
    }
}

#[test]
fn an_explanation_covers_what_was_known_and_no_more() {
    let class = |history: &[Said]| classify(&folded(history), as_of(false)).class;
    use Said::{Archived, Ended, Explained, Failed, Raised};
    assert_eq!(class(&[Ended(None), Raised(2)]), Class::Missing);
    assert_eq!(class(&[Ended(None), Raised(2), Explained]), Class::Explained);
    assert_eq!(class(&[Ended(None), Explained, Ended(Some(0)), Failed(0)]), Class::Failed, "another gap");
    assert_eq!(class(&[Ended(Some(0)), Failed(0), Explained]), Class::Explained);
    assert_eq!(class(&[Ended(Some(0)), Failed(0), Explained, Archived(0)]), Class::Archived, "nothing to explain");
    assert_eq!(class(&[Ended(Some(0)), Archived(0), Raised(3), Explained, Raised(3)]), Class::Contradictory);
}
