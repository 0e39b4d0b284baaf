//! Policies that keep longer, legal holds, and locks that end.

use std::path::{Path, PathBuf};

use callvault::objects::{self, StoreError};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::app::{ADMIN, INGEST, OFFICER, TestApp, load};
use crate::events::{ended, ended_with, recording};
use crate::http::{Answer, eventually};
use crate::process::{ProcessApp, ended_with as exit, stderr};

/// A folder with one policy for everything.
fn policies(dir: &Path, name: &str, period: &str) -> PathBuf {
    let folder = dir.join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let text = format!("id='{name}'\ntitle='t'\nperiod='{period}'\nstart='call_end'\nreason='r'\n");
    std::fs::write(folder.join("policy.toml"), text).unwrap();
    folder
}

async fn post(app: &TestApp, secret: &str, path: &str, body: Value) -> Answer {
    let request = app.client.post(format!("{}{path}", app.url)).bearer_auth(secret);
    Answer::of(request.header("content-type", "application/json").body(body.to_string())).await
}

async fn archived(app: &TestApp, id: &str, n: u32) -> String {
    app.post(&ended(id, &app.sender.audio(&format!("/{id}.mp3"), &recording(n)))).await;
    app.call_in(id, "archived").await["recording"]["object_key"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_longer_policy_moves_every_lock_and_a_shorter_one_is_refused() {
    let app = TestApp::start().await;
    let keys = [archived(&app, "call_1", 1).await, archived(&app, "call_2", 2).await];
    app.settle().await;
    let (long, short) = (policies(app.scratch(), "seven", "P7Y"), policies(app.scratch(), "one", "P1Y"));
    let (long, short) = (long.to_str().unwrap(), short.to_str().unwrap());
    let told = exit(&app.cli(&["retention", "policies", "diff", long]).await, 0);
    assert!(told.starts_with("2 of 2 would be kept longer") && told.contains("call_1"), "{told}");
    let told = exit(&app.cli(&["retention", "policies", "diff", short]).await, 1);
    assert!(told.contains("2 would be kept for less") && told.contains("call_2"), "{told}");
    let refused = app.cli(&["retention", "policies", "adopt", short]).await;
    assert!(exit(&refused, 1).contains("call_1") && stderr(&refused).contains("nothing was changed"));
    exit(&app.cli(&["retention", "policies", "adopt", long]).await, 0);

    let until = "2033-03-09T11:00:03Z";
    for (id, key) in ["call_1", "call_2"].iter().zip(&keys) {
        let call = app.call_when(id, "its lock is moved", |call| call["recording"]["retain_until"] == until).await;
        assert_eq!(call["recording"]["policy"], "seven");
        let lock = || async {
            let info = app.parts().store.head(key, None).await.unwrap().unwrap();
            (info.retain_until == Some(until.parse().unwrap())).then_some(())
        };
        eventually("the store keeps it for longer", lock).await;
    }
    // What comes now is kept by the new policies at once.
    archived(&app, "call_3", 3).await;
    assert_eq!(app.call("call_3").await["recording"]["policy"], "seven");
    let in_force = app.json("/api/v1/retention/policies").await;
    assert_eq!((&in_force["policies"][0]["id"], in_force["adopted"].as_array().unwrap().len()), (&json!("seven"), 2));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_hold_goes_on_catching_until_it_is_closed_and_two_people_release_it() {
    let app = TestApp::start().await;
    let key = archived(&app, "call_1", 1).await;
    let text = |name: &str| json!({"name": name, "matter": "Case 7", "reason": "a claim", "custodian": "legal"});
    let with = |name: &str, more: Value| {
        let mut body = text(name);
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for (body, status) in [
        (text("nothing"), 409),
        (with("empty", json!({"filters": {}})), 409),
        (with("nobody", json!({"calls": ["call_unknown"]})), 404),
        (with("unreadable", json!({"filters": {"q": "duration:>x"}})), 400),
        (with("a b", json!({"calls": ["call_1"]})), 409),
        (with("typo", json!({"filter": {"q": "x"}})), 400),
    ] {
        let answer = post(&app, OFFICER, "/api/v1/holds", body.clone()).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
    }
    let query = with("case-7", json!({"filters": {"agent": ["919833344556"], "q": "customer:Ananya"}}));
    assert_eq!(post(&app, OFFICER, "/api/v1/holds", query.clone()).await.status, 201);
    assert_eq!(post(&app, OFFICER, "/api/v1/holds", query).await.status, 409, "the name is taken");
    app.call_when("call_1", "it is held", |call| call["holds"] == json!(["case-7"])).await;
    let held = async |on: bool| {
        let probe =
            || async { (app.parts().store.head(&key, None).await.unwrap().unwrap().legal_hold == on).then_some(()) };
        eventually("the store has the hold, or has it no more", probe).await;
    };
    held(true).await;
    archived(&app, "call_2", 2).await;
    app.call_when("call_2", "it is caught too", |call| call["holds"] == json!(["case-7"])).await;
    app.found("on_hold=true", 2).await;
    app.post(&ended_with("call_other", json!({"customerName": "Somebody Else"}))).await;
    assert_eq!(post(&app, OFFICER, "/api/v1/holds/case-7/close", json!({})).await.ok()["state"], "closed");
    archived(&app, "call_late", 3).await;
    app.settle().await;
    assert_eq!(app.call("call_late").await["holds"], json!([]));
    assert_eq!(app.call("call_other").await["holds"], json!([]));
    assert_eq!(app.json("/api/v1/holds/case-7").await["held"], 2);

    let release = "/api/v1/holds/case-7/release";
    assert_eq!(post(&app, OFFICER, release, json!({})).await.status, 202);
    assert_eq!(post(&app, OFFICER, release, json!({})).await.status, 409, "one's own");
    held(true).await;
    assert_eq!(post(&app, ADMIN, release, json!({})).await.ok()["state"], "released");
    app.call_when("call_1", "it is free", |call| call["holds"] == json!([])).await;
    held(false).await;
    app.finish().await;
}

/// By the server's own clock, where there is one that can't be told anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_ends_and_what_was_under_it_is_destroyed() {
    let folder = tempfile::tempdir().unwrap();
    let day = format!("{:?}", policies(folder.path(), "day", "P1D").to_str().unwrap());
    let settings =
        [("retention.disposition", "true"), ("retention.grace", "\"0s\""), ("retention.policies", day.as_str())];
    let app = ProcessApp::with(&settings).await;
    let now: Timestamp = callvault::clock::Clock::system().now();
    let end = now - SignedDuration::from_hours(24) + SignedDuration::from_secs(12);
    let said = json!({"recordingUrl": app.sender.audio("/a.mp3", &recording(1)), "callEndedAt": end.to_string(),
        "callStartedAt": (end - SignedDuration::from_secs(3)).to_string()});
    let file = folder.path().join("old.jsonl");
    std::fs::write(&file, ended_with("call_1", said).to_string() + "\n").unwrap();
    exit(&app.cli(&["import", file.to_str().unwrap()]).await, 0);
    let call = app.call_in("call_1", "archived").await;
    let key = call["recording"]["object_key"].as_str().unwrap();
    let store = objects::open(&load(&app.config_file(), "")).await.unwrap();
    let info = store.head(key, None).await.unwrap().unwrap();
    let until = info.retain_until.expect("it is locked");
    let early = store.destroy(key, info.version.as_deref(), until - SignedDuration::from_secs(1)).await;
    assert!(matches!(early, Err(StoreError::Kept { .. })), "{early:?}");
    if callvault::clock::Clock::system().now() < until - SignedDuration::from_secs(3) {
        // Whatever is claimed to be the time: the server knows better, where there is one.
        let claimed = store
            .is_remote()
            .then(|| store.destroy(key, info.version.as_deref(), until + SignedDuration::from_hours(1)));
        if let Some(claimed) = claimed {
            assert!(matches!(claimed.await, Err(StoreError::Kept { .. })));
        }
        let refused = app.cli(&["retention", "propose"]).await;
        assert!(stderr(&refused).contains("nothing is due"), "{}", stderr(&refused));
    }
    let proposed = || async {
        let output = app.cli(&["retention", "propose"]).await;
        (output.status.code() == Some(0)).then(|| exit(&output, 0).trim().to_owned())
    };
    let id = eventually("its time is over", proposed).await;
    let own = app.cli(&["retention", "approve", &id]).await;
    assert!(exit(&own, 1).is_empty() && stderr(&own).contains("somebody else has to"), "{}", stderr(&own));
    let request = app.client.post(format!("{}/api/v1/retention/dispositions/{id}/approve", app.url)).bearer_auth(ADMIN);
    assert_eq!(Answer::of(request).await.status, 200);
    // Some stores count in whole seconds.
    let over = || async { (callvault::clock::Clock::system().now() > until).then_some(()) };
    eventually("the second is over", over).await;
    exit(&app.cli(&["retention", "execute"]).await, 0);
    assert_eq!(store.head(key, None).await.unwrap(), None);
    let certificate: Value =
        serde_json::from_str(&exit(&app.cli(&["retention", "certificate", &id]).await, 0)).unwrap();
    let destroyed = certificate["calls"][0]["recordings"][0]["objects"].as_array().unwrap();
    assert!(destroyed.iter().any(|object| object["sha256"] == call["recording"]["sha256"]), "{certificate}");
    assert!(
        exit(&app.cli(&["retention", "certificate", &id, "--html"]).await, 0).contains("Certificate of destruction")
    );
    let late = app.client.post(format!("{}/webhooks/doubletick", app.url)).bearer_auth(INGEST);
    let late = Answer::of(late.body(ended("call_1", "").to_string())).await.ok();
    assert_eq!(late["ignored"], "destroyed");
    app.finish().await;
}

/// On the way of a disposition, once it is decided.
#[cfg(feature = "failpoints")]
const POINTS: [&str; 6] = [
    "disposition.decided",
    "disposition.condemned",
    "disposition.objects_gone",
    "disposition.destroyed",
    "disposition.erased",
    "disposition.certified",
];

#[cfg(feature = "failpoints")]
async fn dies_at(point: &str) {
    use std::os::unix::process::ExitStatusExt;
    let mut app = ProcessApp::with(&[("retention.disposition", "true"), ("retention.grace", "\"0s\"")]).await;
    let old = json!({"recordingUrl": app.sender.audio("/a.mp3", &recording(1)), "customerName": "Zebulon Quisquilian",
        "callStartedAt": "2019-03-09T11:00:00.000Z", "callEndedAt": "2019-03-09T11:00:03.000Z"});
    let file = app.config_file().with_file_name("old.jsonl");
    std::fs::write(&file, ended_with("call_1", old).to_string() + "\n").unwrap();
    exit(&app.cli(&["import", file.to_str().unwrap()]).await, 0);
    let key = app.call_in("call_1", "archived").await["recording"]["object_key"].as_str().unwrap().to_owned();
    app.settle().await;
    let id = exit(&app.cli(&["retention", "propose"]).await, 0).trim().to_owned();
    let request = app.client.post(format!("{}/api/v1/retention/dispositions/{id}/approve", app.url)).bearer_auth(ADMIN);
    assert_eq!(Answer::of(request).await.status, 200);
    let mut execute = crate::process::program();
    execute.env("FAILPOINTS", format!("{point}=return(kill)")).arg("--config").arg(app.config_file());
    execute.args(["retention", "execute"]).current_dir(app.config_file().parent().unwrap());
    let died = crate::process::run(execute).await;
    assert_eq!(died.status.signal(), Some(9), "{point}: {}", stderr(&died));
    // What is decided is carried out at the next start, by itself.
    assert_eq!(app.terminate().await.code(), Some(0));
    app.serve().await;
    let executed = || async {
        let all = app.cli(&["retention", "list", "--json"]).await;
        let one: Value = serde_json::from_str(exit(&all, 0).lines().next()?).unwrap();
        (one["state"] == "executed").then_some(())
    };
    eventually(&format!("{point}: it is executed"), executed).await;
    app.call_in("call_1", "destroyed").await;
    let store = objects::open(&load(&app.config_file(), "")).await.unwrap();
    assert_eq!(store.head(&key, None).await.unwrap(), None, "{point}");
    let certificate = exit(&app.cli(&["retention", "certificate", &id]).await, 0);
    assert!(certificate.contains("call_1") && !certificate.contains("Quisquilian"), "{point}: {certificate}");
    app.finish().await;
}

#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread")]
async fn a_disposition_that_dies_anywhere_is_carried_out_at_the_next_start() {
    use futures_util::{StreamExt, stream};
    let mut all = stream::iter(POINTS).map(|point| tokio::spawn(dies_at(point))).buffer_unordered(2);
    while let Some(done) = all.next().await {
        done.unwrap();
    }
}
