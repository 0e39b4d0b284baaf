//! Reports: whether every call is accounted for, what is kept until when, and the same for a moment of the past.

use callvault::access::Role;
use callvault::journal::{Body, Journal, Kind, NewEntry};
use callvault::reports::{Class, Completeness, Days, Moment, Retention, RetentionSource, Source};
use callvault::retention::PolicySet;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};

use crate::app::{ADMIN, AUDITOR, OFFICER, TestApp};
use crate::events::{CBR, accepted, ended, ended_with, event, missed, recording};
use crate::fake_doubletick::Reply;
use crate::http::Answer;
use crate::process::{ended_with as ended_cli, stderr};

const DAY: &str = "2026-03-09";

fn source(app: &TestApp) -> Source {
    Source { journal: app.parts().journal.clone(), calls: app.parts().calls.clone() }
}

fn day() -> Days {
    let day = DAY.parse().unwrap();
    Days::new(day, day, TimeZone::UTC).unwrap()
}

/// When the last entry was appended.
async fn last_moment(journal: &Journal) -> Timestamp {
    let size = journal.size().await.unwrap();
    journal.entry(size - 1).await.unwrap().unwrap().entry.at
}

async fn completeness(app: &TestApp, as_of: Timestamp) -> Completeness {
    let source = source(app);
    let moment = Moment::at(&source, as_of).await.unwrap();
    Completeness::make(&source, &day(), moment).await.unwrap()
}

fn class_of(report: &Completeness, call_id: &str) -> Option<Class> {
    let mut lines = report.gaps.iter().chain(&report.explained).chain(&report.under_way);
    lines.find(|line| line.call_id == call_id).map(|line| line.class)
}

/// One call of each kind that a sender can make of it.
async fn a_day_of_calls(app: &TestApp) {
    let never = app.sender.on("/never.mp3", [Reply::Late { seconds: 600 }]);
    let refused = "https://elsewhere.example.com/1.mp3";
    for event in [
        ended("call_archived", &app.sender.audio("/1.mp3", CBR)),
        missed("call_missed"),
        event("CALL_REJECTED", "call_rejected", json!({"callStatus": "REJECT"})),
        ended_with("call_given_up", json!({"callStartedAt": "", "durationInSeconds": 0, "pickedBy": "Farhan"})),
        // What would have ended it was withheld.
        accepted("call_withheld"),
        ended("call_waiting", &never),
        ended("call_missing", ""),
        ended("call_refused", refused),
        ended_with("call_contradictory", json!({"callEndedAt": "2026-03-09T10:00:00Z", "recordingUrl": refused})),
        missed("call_both"),
        event("CALL_ENDED", "call_both", json!({"callStatus": "END"})),
    ] {
        app.post(&event).await;
    }
    app.post_body("no JSON at all").await;
    app.call_in("call_archived", "archived").await;
    for (call, flag) in
        [("call_withheld", "call_overdue"), ("call_waiting", "recording_overdue"), ("call_both", "contradiction")]
    {
        app.call_when(call, flag, |call| call["flags"].as_array().unwrap().iter().any(|f| f["rule"] == flag)).await;
    }
    app.call_in("call_refused", "failed").await;
    app.call_in("call_contradictory", "failed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_is_in_one_class_and_those_that_do_not_fit_are_named() {
    let settings = [("flags.call_overdue", "\"700ms\""), ("flags.recording_overdue", "\"700ms\"")];
    let app = TestApp::with(&settings).await;
    a_day_of_calls(&app).await;
    let then = last_moment(&app.parts().journal).await;
    let report = completeness(&app, then).await;
    let expected = [
        ("call_withheld", Class::CallOverdue),
        ("call_waiting", Class::RecordingOverdue),
        ("call_missing", Class::Missing),
        ("call_refused", Class::Failed),
        ("call_contradictory", Class::Failed),
        ("call_both", Class::Contradictory),
    ];
    for (call, class) in expected {
        assert_eq!(class_of(&report, call), Some(class), "{call}");
    }
    assert_eq!((report.total, report.gaps.len(), report.complete), (10, 6, false));
    let counts = [Class::Archived, Class::NotAnswered, Class::Rejected].map(|class| report.calls_in(class));
    assert_eq!(counts, [1, 2, 1]);
    assert_eq!(report.classes.iter().map(|count| count.calls).sum::<u64>(), report.total);
    let withheld = report.gaps.iter().find(|line| line.call_id == "call_withheld").unwrap();
    assert_eq!(
        (withheld.agent.as_deref(), withheld.why.as_str()),
        (Some("919833344556"), "accepted more than 700ms ago and never ended")
    );
    assert_eq!((report.quarantined, report.quarantine[0].reason.as_str()), (1, "not_an_object"));

    // By the API and by the program it is the same.
    let api = app.json(&format!("/api/v1/completeness?day={DAY}&as_of={then}")).await;
    assert_eq!(api, serde_json::to_value(&report).unwrap());
    let cli = app.cli(&["completeness", "--day", DAY, "--format", "json"]).await;
    let said: Value = serde_json::from_str(&ended_cli(&cli, 1)).unwrap();
    assert_eq!(said["gaps"], serde_json::to_value(&report.gaps).unwrap());
    assert_eq!(said["classes"], serde_json::to_value(&report.classes).unwrap());
    let text = ended_cli(&app.cli(&["completeness", "--from", DAY, "--to", DAY]).await, 1);
    assert!(text.contains("ATTENTION  6 calls do not fit; 1 webhook lies in quarantine."), "{text}");
    assert!(text.contains("call_withheld") && !text.contains("call_archived"), "{text}");
    let empty = ended_cli(&app.cli(&["completeness", "--day", "2026-03-08"]).await, 0);
    assert!(empty.contains("No call was first heard of in this time."), "{empty}");

    explanations(&app, then, &report).await;
    app.sender.on("/never.mp3", [Reply::Audio(recording(7))]);
    assert_eq!(app.post_as(OFFICER, "/api/v1/calls/call_waiting/recording/retry").await.status, 202);
    app.finish().await;
}

/// Explained calls are no gaps from then on, and still were before.
async fn explanations(app: &TestApp, then: Timestamp, before: &Completeness) {
    let reason = "the phone's battery died; the customer was called back";
    let explain =
        async |call: &str, reason: &str| app.cli(&["completeness", "explain", call, "--reason", reason]).await;
    ended_cli(&explain("call_withheld", reason).await, 0);
    for (call, reason, why) in [
        ("call_archived", "x", "the call is no gap: archived"),
        ("call_missed", "x", "no gap: no recording: never answered"),
        ("call_none", "x", "there is no call"),
        ("call_missing", "  ", "1 to 2000 characters"),
    ] {
        let refused = explain(call, reason).await;
        ended_cli(&refused, 1);
        assert!(stderr(&refused).contains(why), "{call}: {}", stderr(&refused));
    }
    let post = async |secret: &str, call: &str, body: &str| {
        let url = format!("{}/api/v1/calls/{call}/explanation", app.url);
        let request = app.client.post(url).bearer_auth(secret).header("content-type", "application/json");
        Answer::of(request.body(body.to_owned())).await
    };
    let fine = json!({"reason": "recording is off for this number"}).to_string();
    assert!(post(AUDITOR, "call_missing", &fine).await.problem(403).contains("role"));
    for (body, status) in
        [("{}", 400), ("nothing", 400), (r#"{"reason": ""}"#, 400), (r#"{"reason": "x", "by": "me"}"#, 400)]
    {
        post(OFFICER, "call_missing", body).await.problem(status);
    }
    assert!(post(OFFICER, "call_none", &fine).await.problem(404).contains("no call"));
    assert!(post(OFFICER, "call_archived", &fine).await.problem(409).contains("no gap: archived"));
    let kept = post(OFFICER, "call_missing", &fine).await;
    assert_eq!((kept.status, &kept.json()["class"]), (201, &json!("explained")));
    let entry = &app.journal("&subject=call_missing&kind=gap.explained").await[0];
    assert_eq!(entry["entry"]["seq"], kept.json()["seq"]);
    assert!(entry["entry"]["actor"].as_str().unwrap().starts_with("token:bootstrap-officer"), "{entry}");
    let now = last_moment(&app.parts().journal).await;
    let report = completeness(app, now).await;
    let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap());
    let by = format!("cli:{uid}");
    assert_eq!(class_of(&report, "call_withheld"), Some(Class::Explained));
    assert_eq!((report.explained.len(), report.gaps.len(), report.total), (2, 4, 10));
    let line = report.explained.iter().find(|line| line.call_id == "call_withheld").unwrap();
    assert_eq!((line.otherwise, line.why.as_str()), (Some(Class::CallOverdue), reason));
    assert_eq!(line.explained_by.as_deref(), Some(by.as_str()));
    assert_eq!(completeness(app, then).await, *before, "then nobody had explained it");
}

async fn journaled(app: &TestApp, kind: Kind, subject: Option<&str>, body: Value) {
    let entry = NewEntry::new(kind, "token:meera", subject.map(str::to_owned), Body::of_json(&body).unwrap());
    app.parts().journal.append(vec![entry]).await.unwrap();
}

fn adoption(period: &str) -> (PolicySet, Value) {
    let text = format!("id = 'desk'\ntitle = 'The desk'\nperiod = '{period}'\nstart = 'call_end'\nreason = 'r'\n");
    let set = PolicySet::adopted(vec![("desk.toml".into(), text.clone())]).unwrap();
    let body = json!({"sha256": set.sha256(), "files": [{"name": "desk.toml", "text": text}]});
    (set, body)
}

fn retention_source(app: &TestApp, policies: &PolicySet) -> RetentionSource {
    RetentionSource { source: source(app), db: app.parts().db.clone(), policies: policies.clone().into() }
}

/// As things are, once all has settled.
async fn retention_now(app: &TestApp, policies: &PolicySet) -> Retention {
    app.settle().await;
    let from = retention_source(app, policies);
    let as_of = last_moment(&app.parts().journal).await;
    let moment = Moment { as_of, size: app.parts().journal.size().await.unwrap() };
    Retention::make(&from, &march(), moment).await.unwrap()
}

fn march() -> Days {
    Days::new("2026-03-01".parse().unwrap(), "2026-03-31".parse().unwrap(), TimeZone::UTC).unwrap()
}

async fn retention_then(app: &TestApp, as_of: Timestamp) -> Retention {
    let from = retention_source(app, &PolicySet::built_in());
    let moment = Moment::at(&from.source, as_of).await.unwrap();
    Retention::make_as_of(&from, &march(), moment).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_kept_then_is_what_was_reported_then() {
    let app = TestApp::start().await;
    let built_in = PolicySet::built_in();
    for n in 0..3 {
        app.post(&ended(&format!("call_{n}"), &app.sender.audio(&format!("/{n}.mp3"), &recording(n)))).await;
    }
    app.post(&ended("call_failing", "https://elsewhere.example.com/1.mp3")).await;
    app.post(&missed("call_missed")).await;
    app.post_body("[]").await;
    app.settle().await;
    let hold = |call: &str| json!({"call_id": call, "hold": "matter-1"});
    journaled(&app, Kind::HoldCaught, Some("call_1"), hold("call_1")).await;
    journaled(&app, Kind::FixityChecked, None, json!({"count": 3, "bytes": 9000})).await;
    app.settle().await;
    let first = retention_now(&app, &built_in).await;
    let bytes = first.kept.recordings.bytes;
    assert_eq!((first.kept.recordings.count, first.kept.other_calls.count, first.kept.quarantine.count), (3, 2, 1));
    assert!(bytes > 3 * 5000, "{bytes}");
    assert_eq!((first.held.count, first.failures.standing, first.fixity.objects), (1, 1, 3));
    assert_eq!((first.policies.len(), first.policies[0].policy.as_str(), first.policies[0].year), (1, "default", 2026));
    assert_eq!((first.expiring.later.count, first.expiring.in_365_days.count), (6, 0));
    assert_eq!(first.expiring_by_year.iter().map(|y| (y.year, y.count)).collect::<Vec<_>>(), [(2031, 6)]);
    assert!(first.needs_attention && first.behind == 0);

    // More calls, a retry that succeeds, other policies, a release, a failed check, an explanation.
    let (desk, body) = adoption("P7Y");
    journaled(&app, Kind::PoliciesAdopted, None, body).await;
    journaled(&app, Kind::HoldLifted, Some("call_1"), hold("call_1")).await;
    journaled(&app, Kind::FixityFailed, None, json!({"object_key": "recordings/x.mp3", "why": "one bit differs"}))
        .await;
    let explained = json!({"call_id": "call_failing", "reason": "a test call"});
    journaled(&app, Kind::GapExplained, Some("call_failing"), explained).await;
    app.post(&ended("call_missed", &app.sender.audio("/late.mp3", &recording(9)))).await;
    app.post(&ended("call_new", &app.sender.audio("/new.mp3", &recording(10)))).await;
    app.settle().await;
    let second = retention_now(&app, &desk).await;
    assert_eq!((second.kept.recordings.count, second.kept.other_calls.count, second.held.count), (5, 1, 0));
    assert_eq!((second.failures.failures, second.failures.standing, second.fixity.failed), (1, 0, 1));
    assert!(second.policies.iter().all(|line| line.policy == "desk"), "{:?}", second.policies);
    assert_eq!(second.policy_changes.last().unwrap().policies, ["desk"]);

    assert_eq!(retention_then(&app, first.as_of).await, first);
    assert_eq!(retention_then(&app, second.as_of).await, second);
    let before = first.as_of - 9600.hours();
    let nothing = retention_then(&app, before).await;
    assert_eq!((nothing.kept.recordings.count, nothing.entries, nothing.growth.len()), (0, 0, 0));
    as_files(&app, &second).await;
    app.finish().await;
}

/// The program and the API give it in every format.
async fn as_files(app: &TestApp, report: &Retention) {
    let folder = app.scratch().join("reports");
    std::fs::create_dir(&folder).unwrap();
    let days = ["--from", "2026-03-01", "--to", "2026-03-31"];
    for format in ["text", "json", "csv", "xlsx", "html"] {
        let file = folder.join(format!("report.{format}"));
        let out = ["retention", "report", "--format", format, "--out", file.to_str().unwrap()];
        ended_cli(&app.cli(&[&out[..], &days[..]].concat()).await, 1);
        let bytes = std::fs::read(&file).unwrap();
        assert!(bytes.len() > 1000, "{format}");
        let again = app.cli(&[&out[..], &days[..]].concat()).await;
        ended_cli(&again, 1);
        assert!(stderr(&again).contains("name a new file"), "{}", stderr(&again));
        if format == "text" {
            continue;
        }
        let path =
            format!("/api/v1/retention/report?from=2026-03-01&to=2026-03-31&format={format}&as_of={}", report.as_of);
        let answer = app.get(&path).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        match format {
            "json" => assert_eq!(answer.json(), serde_json::to_value(report).unwrap()),
            "xlsx" => assert_eq!(&answer.body[..2], b"PK"),
            "csv" => assert!(answer.text().contains("\r\npolicies,desk,2026,5,")),
            _ => {
                let policy = answer.header("content-security-policy");
                let hash = policy.split_once("style-src 'sha256-").unwrap().1.split('\'').next().unwrap();
                assert!(answer.text().contains(hash), "the page itself says so too");
                assert!(!answer.text().contains("<script") && answer.text().contains("one bit differs"));
            }
        }
    }
    ended_cli(&app.cli(&[&["retention", "report", "--out", folder.to_str().unwrap()], &days[..]].concat()).await, 1);
    assert!(folder.join("retention-2026-03-01-to-2026-03-31.txt").exists());
    for wrong in ["format=pdf", "from=soon", "as_of=2099-01-01", "day=2026-03-09", "from=2026-03-02&to=2026-03-01"] {
        app.get(&format!("/api/v1/retention/report?{wrong}")).await.problem(400);
    }
    assert_eq!(app.get_as(crate::app::INGEST, "/api/v1/retention/report").await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_destroyed_now_was_kept_then() {
    let app = TestApp::with(&[("retention.disposition", "true")]).await;
    let second = app.parts().access.create_token("second-admin", Role::Admin, "test").await.unwrap();
    let old = json!({"recordingUrl": app.sender.audio("/old.mp3", CBR), "callStartedAt": "2019-03-09T11:00:00.000Z",
        "callEndedAt": "2019-03-09T11:00:03.000Z"});
    let body = ended_with("call_old", old).to_string();
    let (entry, _) = callvault::intake::entry(Kind::WebhookImported, "test", body.as_bytes(), None);
    app.parts().journal.append(vec![entry]).await.unwrap();
    app.post(&ended("call_new", &app.sender.audio("/new.mp3", &recording(1)))).await;
    app.call_in("call_old", "archived").await;
    app.call_in("call_new", "archived").await;
    let before = retention_now(&app, &PolicySet::built_in()).await;
    assert_eq!((before.kept.recordings.count, before.expiring.due.count), (2, 1));

    let post = async |secret: &str, path: &str| {
        let request = app.client.post(format!("{}/api/v1/retention/dispositions{path}", app.url));
        Answer::of(request.bearer_auth(secret).header("content-type", "application/json").body("{}")).await
    };
    let id = post(ADMIN, "").await.json()["id"].as_str().unwrap().to_owned();
    let proposed = retention_now(&app, &PolicySet::built_in()).await;
    assert_eq!(
        (proposed.proposed.len(), proposed.proposed[0].items, proposed.proposed[0].state.as_str()),
        (1, 1, "proposed")
    );
    assert_eq!(proposed.proposed[0].bytes, CBR.len() as u64);
    assert_eq!(post(&second, &format!("/{id}/approve")).await.status, 200);
    app.jump(4);
    assert_eq!(post(ADMIN, &format!("/{id}/execute")).await.status, 200);
    let after = retention_now(&app, &PolicySet::built_in()).await;
    assert_eq!((after.kept.recordings.count, after.expiring.due.count, after.proposed.len()), (1, 0, 0));
    assert_eq!((after.destroyed.len(), after.destroyed[0].count, after.destroyed[0].bytes), (1, 1, CBR.len() as u64));
    assert_eq!(completeness(&app, after.as_of).await.calls_in(Class::Destroyed), 1);

    assert_eq!(retention_then(&app, before.as_of).await, before);
    assert_eq!(retention_then(&app, proposed.as_of).await, proposed);
    assert_eq!(retention_then(&app, after.as_of).await, after);
    assert_eq!(completeness(&app, before.as_of).await.calls_in(Class::Archived), 2);
    app.finish().await;
}
