use std::time::Duration;

use serde_json::{Value as Json, json};

use super::*;
use crate::journal::{Body, Entry, Kind};

const NOW: &str = "2026-03-09T06:00:00Z";

fn rules_of_tests() -> Rules {
    let thresholds = FlagThresholds {
        short_call_seconds: 20,
        long_call_seconds: 3600,
        call_overdue: Duration::from_secs(4 * 3600),
        recording_overdue: Duration::from_secs(3600),
        duration_tolerance_seconds: 5,
        repeated_short_calls: crate::config::RepeatedShortCalls { count: 0, within: Duration::from_secs(3600) },
        business_hours: crate::config::BusinessHours::default(),
    };
    Rules { thresholds, zone: TimeZone::UTC }
}

/// Facts from events that were all received at one time.
fn facts(received: &str, events: &[Json]) -> Facts {
    let folded = events.iter().enumerate().fold(None, |facts, (seq, event)| {
        let mut event = event.clone();
        event["callId"] = "call_1".into();
        let bytes = event.to_string().into_bytes();
        let entry = Entry {
            seq: seq as u64,
            at: received.parse().unwrap(),
            received_at: None,
            kind: Kind::WebhookReceived,
            actor: "token:t".into(),
            subject: Some("call_1".into()),
            body: Body::of_bytes(&bytes).hash(),
            reason: None,
        };
        Some(Facts::fold(facts, &entry, &bytes).unwrap())
    });
    folded.unwrap()
}

fn found(facts: &Facts, now: &str) -> Vec<(&'static str, String)> {
    let findings = evaluate(facts, &rules_of_tests(), &PolicySet::built_in(), now.parse().unwrap());
    findings.into_iter().map(|finding| (finding.rule.as_str(), finding.reason)).collect()
}

fn rules(events: &[Json]) -> Vec<&'static str> {
    found(&facts("2026-03-09T05:20:00Z", events), NOW).into_iter().map(|(rule, _)| rule).collect()
}

fn ended(seconds: u64) -> Json {
    json!({"event": "CALL_ENDED", "callStatus": "END", "durationInSeconds": seconds, "recordingUrl": "https://a.example/1.mp3"})
}

#[test]
fn short_and_long() {
    let (short, why) = found(&facts("2026-03-09T05:59:00Z", &[ended(9)]), NOW).remove(0);
    assert_eq!((short, why.as_str()), ("short_call", "9 s, below 20 s"));
    assert_eq!(rules(&[ended(20)]), [""; 0]);
    assert_eq!(rules(&[ended(3600)]), [""; 0]);
    assert_eq!(rules(&[ended(3601)]), ["long_call"]);
}

#[test]
fn nobody_answered_is_not_short() {
    let given_up = json!({"event": "CALL_ENDED", "callStatus": "END", "durationInSeconds": 0, "recordingUrl": ""});
    assert_eq!(rules(&[given_up]), [""; 0]);
}

#[test]
fn a_conversation_without_recording() {
    let mut call = ended(214);
    call["recordingUrl"] = "".into();
    assert_eq!(rules(&[call]), ["recording_missing"]);
}

#[test]
fn overdue_by_the_time_of_receipt() {
    let accepted =
        json!({"event": "CALL_ACCEPTED", "callStatus": "IN_PROGRESS", "callStartedAt": "2020-01-01T00:00:00Z"});
    let call = facts("2026-03-09T05:00:00Z", std::slice::from_ref(&accepted));
    assert_eq!(found(&call, "2026-03-09T08:59:59Z"), []);
    assert_eq!(found(&call, "2026-03-09T09:00:00Z")[0].0, "call_overdue");
    let call = facts("2026-03-09T05:00:00Z", &[accepted, ended(214)]);
    assert_eq!(found(&call, "2026-03-09T05:59:59Z"), []);
    assert_eq!(found(&call, "2026-03-09T06:00:00Z")[0].0, "recording_overdue");
}

#[test]
fn every_contradiction_is_named() {
    let missed = json!({"event": "CALL_MISSED", "callStatus": "MISSED"});
    let with = |key: &str, value: &str| {
        let mut call = ended(214);
        call[key] = value.into();
        call
    };
    for (events, reason) in [
        (vec![ended(214), missed.clone()], "it is said to be missed and ended"),
        (vec![json!({"event": "CALL_ACCEPTED"}), missed], "accepted, and not to have been answered"),
        (vec![ended(214), ended(9)], "2 different durations are named"),
        (
            vec![with("customerNumber", "919820011223"), with("customerNumber", "919820011224")],
            "2 different customer numbers",
        ),
        (vec![ended(214), with("recordingUrl", "https://a.example/2.mp3")], "2 different recordings are named"),
        (vec![with("callEndedAt", "yesterday")], "callEndedAt can't be read"),
        (vec![with("callEndedAt", "2027-03-09T05:15:41Z")], "more than a day after"),
        (vec![with("callEndedAt", "2001-03-09T05:15:41Z")], "so long ago"),
    ] {
        let found = found(&facts("2026-03-09T05:20:00Z", &events), "2026-03-09T05:20:00Z");
        let contradiction = found.iter().find(|(rule, _)| *rule == "contradiction");
        assert!(contradiction.is_some_and(|(_, why)| why.contains(reason)), "{reason}: {found:?}");
    }
}

#[test]
fn what_is_no_contradiction() {
    let with = |key: &str, value: &str| {
        let mut call = ended(214);
        call[key] = value.into();
        call
    };
    for events in [
        vec![with("customerNumber", "919820011223"), with("customerNumber", "+91 98200 11223")],
        vec![with("pickedBy", "919833344556"), with("pickedBy", "Farhan Siddiqui")],
        vec![ended(214), ended(214)],
    ] {
        assert_eq!(rules(&events), [""; 0]);
    }
}

#[test]
fn start_end_and_duration_have_to_fit() {
    let mut call = ended(214);
    call["callStartedAt"] = "2026-03-09T05:12:07.000Z".into();
    call["callEndedAt"] = "2026-03-09T05:15:41.000Z".into();
    assert_eq!(rules(&[call.clone()]), [""; 0]);
    call["durationInSeconds"] = 100.into();
    assert_eq!(rules(&[call.clone()]), ["contradiction"]);
    call["callEndedAt"] = "2026-03-09T05:12:00.000Z".into();
    assert!(found(&facts("2026-03-09T05:20:00Z", &[call]), "2026-03-09T05:20:00Z")[0].1.contains("before it started"));
}
