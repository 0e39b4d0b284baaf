//! From what is due to the certificate, and that nothing comes back.

use callvault::access::Role;
use callvault::intake;
use callvault::journal::Kind;
use futures_util::TryStreamExt;
use serde_json::{Value, json};

use crate::app::{ADMIN, INGEST, OFFICER, TestApp, read};
use crate::events::{ended_with, event, recording};
use crate::http::{Answer, eventually};
use crate::pair;
use crate::process::ended_with as exit;

const GRACE: &[(&str, &str)] = &[("retention.disposition", "true")];
/// A second person with the same rights.
const SECOND: &str = "second-admin";

/// Calls of seven years ago, with a name that is found nowhere else.
async fn with_old_calls(app: &TestApp, ids: &[&str]) -> String {
    let mut lines = String::new();
    for (n, id) in (0..).zip(ids) {
        let url = app.sender.audio(&format!("/{id}.mp3"), &recording(n));
        let old = json!({"recordingUrl": url, "customerName": "Zebulon Quisquilian", "customerNumber": "919876543219",
            "callStartedAt": "2019-03-09T11:00:00.000Z", "callEndedAt": "2019-03-09T11:00:03.000Z"});
        let line = ended_with(id, old).to_string();
        // As the import does it, but by the archive's clock.
        let (entry, quarantined) = intake::entry(Kind::WebhookImported, "test", line.as_bytes(), None);
        assert_eq!(quarantined, None);
        app.parts().journal.append(vec![entry]).await.unwrap();
        lines += &(line + "\n");
    }
    std::fs::write(app.scratch().join("old.jsonl"), &lines).unwrap();
    for id in ids {
        app.call_in(id, "archived").await;
    }
    app.settle().await;
    lines
}

async fn second_admin(app: &TestApp) -> String {
    app.parts().access.create_token(SECOND, Role::Admin, "test").await.unwrap()
}

async fn post(app: &TestApp, secret: &str, path: &str, body: Value) -> Answer {
    let request = app
        .client
        .post(format!("{}{path}", app.url))
        .bearer_auth(secret)
        .header("content-type", "application/json")
        .body(body.to_string());
    Answer::of(request).await
}

/// Everything that stands in files and objects of the archive.
async fn contains(app: &TestApp, needle: &[u8]) -> Option<String> {
    let holds = |bytes: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    if pair::is_shared() {
        if holds(&pair::dump(app.scratch())) {
            return Some("the database".into());
        }
        let listed: Vec<_> = app.parts().store.list("").await.unwrap().try_collect().await.unwrap();
        for object in listed {
            if holds(&read(&*app.parts().store, &object.key).await) {
                return Some(object.key);
            }
        }
    }
    let mut folders = vec![app.data_dir()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if std::fs::read(&path).is_ok_and(|bytes| holds(&bytes)) {
                return Some(path.display().to_string());
            }
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_is_destroyed_by_two_people_and_stays_so() {
    let mut app = TestApp::with(GRACE).await;
    let second = second_admin(&app).await;
    let imported = with_old_calls(&app, &["call_old_1", "call_old_2", "call_held"]).await;
    app.post(&event("CALL_MISSED", "call_new", json!({"callStatus": "MISSED"}))).await;
    let before = app.call("call_old_1").await;
    let hold = json!({"name": "case-7", "matter": "Case 7", "reason": "a claim", "custodian": "legal", "calls": ["call_held"]});
    assert_eq!(post(&app, OFFICER, "/api/v1/holds", hold).await.status, 201);
    app.call_when("call_held", "it is held", |call| call["holds"] == json!(["case-7"])).await;

    let base = "/api/v1/retention/dispositions";
    assert_eq!(post(&app, OFFICER, base, json!({})).await.status, 403);
    let proposed = post(&app, ADMIN, base, json!({})).await;
    assert_eq!(proposed.status, 201, "{}", proposed.text());
    let proposed = proposed.json();
    let ids: Vec<&str> = proposed["items"].as_array().unwrap().iter().map(|i| i["call_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["call_old_1", "call_old_2"]);
    let path = |action: &str| format!("{base}/{}/{action}", proposed["id"].as_str().unwrap());
    assert_eq!(post(&app, ADMIN, &path("approve"), json!({})).await.status, 409, "one's own");
    assert_eq!(post(&app, ADMIN, &path("execute"), json!({})).await.status, 409, "not approved");
    assert_eq!(post(&app, &second, &path("approve"), json!({})).await.status, 200);
    assert_eq!(post(&app, &second, &path("approve"), json!({})).await.status, 409, "twice");
    let early = post(&app, ADMIN, &path("execute"), json!({})).await;
    assert!(early.status == 409 && early.text().contains("grace"), "{}", early.text());
    app.jump(4);
    // A hold that comes after the approval.
    let late = json!({"name": "case-8", "matter": "Case 8", "reason": "a claim", "custodian": "legal", "calls": ["call_old_2"]});
    assert_eq!(post(&app, OFFICER, "/api/v1/holds", late).await.status, 201);
    let executed = post(&app, ADMIN, &path("execute"), json!({})).await;
    assert_eq!(executed.status, 200, "{}", executed.text());
    let certificate = executed.json();
    assert_eq!(certificate["calls"].as_array().unwrap().len(), 1);
    let objects = &certificate["calls"][0]["recordings"][0]["objects"];
    assert!(objects.as_array().unwrap().iter().any(|o| o["sha256"] == before["recording"]["sha256"]), "{objects}");
    assert_eq!(certificate["skipped"][0]["call_id"], "call_old_2");

    gone(&app, &before).await;
    // What comes late does not bring it back.
    let again: Value = serde_json::from_str(imported.lines().next().unwrap()).unwrap();
    let late = post(&app, INGEST, "/webhooks/doubletick", again).await.json();
    assert_eq!(late["ignored"], "destroyed", "{late}");
    let file = app.scratch().join("old.jsonl");
    exit(&app.cli(&["import", file.to_str().unwrap()]).await, 0);
    gone(&app, &before).await;
    app.restart().await;
    gone(&app, &before).await;
    exit(&app.cli(&["verify"]).await, 0);
    // Nothing is promised of what is destroyed.
    assert!(exit(&app.cli(&["fixity", "run", "--all"]).await, 0).starts_with("4 objects"));
    app.finish().await;
}

/// Nothing is left of `call_old_1`.
async fn gone(app: &TestApp, before: &Value) {
    app.settle().await;
    let call = app.call("call_old_1").await;
    assert_eq!(call["recording"]["state"], "destroyed");
    assert_eq!(call["customer"]["name"], Value::Null);
    for key in ["object_key", "vcon_key"] {
        let key = before["recording"][key].as_str().unwrap_or_default();
        if !key.is_empty() {
            assert_eq!(app.parts().store.head(key, None).await.unwrap(), None, "{key}");
        }
    }
    assert_eq!(app.get("/api/v1/calls/call_old_1/recording").await.status, 404);
    app.found("q=call_old_1&recording=destroyed", 1).await;
    let entries = app.journal("&subject=call_old_1").await;
    for view in &entries {
        let kind = view["entry"]["kind"].as_str().unwrap();
        assert_eq!(
            view["body"].is_null(),
            kind.starts_with("webhook.") || kind == "recording.analysed" || kind.starts_with("flag."),
            "{kind}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_person_is_left_in_any_file() {
    let app = TestApp::with(GRACE).await;
    let second = second_admin(&app).await;
    with_old_calls(&app, &["call_old_1"]).await;
    app.found("q=quisquilian", 1).await;
    let proposed = post(&app, ADMIN, "/api/v1/retention/dispositions", json!({})).await.json();
    let path = |action: &str| format!("/api/v1/retention/dispositions/{}/{action}", proposed["id"].as_str().unwrap());
    assert_eq!(post(&app, &second, &path("approve"), json!({})).await.status, 200);
    app.jump(4);
    assert_eq!(post(&app, ADMIN, &path("execute"), json!({})).await.status, 200);
    app.settle().await;
    app.found("q=quisquilian", 0).await;
    for needle in ["Quisquilian", "quisquilian", "9876543219"] {
        eventually("nothing is left of it", || async {
            contains(&app, needle.as_bytes()).await.is_none().then_some(())
        })
        .await;
    }
    app.finish().await;
}
