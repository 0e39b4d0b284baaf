//! The journal as an auditor with tools of its own reads it: every hash is worked out again here, by the documents
//! alone (RFC 6962, RFC 8785), without the archive's code.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::app::TestApp;
use crate::events::{accepted, ended, missed, recording};
use crate::fake_doubletick::Reply;
use crate::http::encoded;
use crate::raw::Raw;

type Hash = [u8; 32];

/// The tree's root by its definition: split at the largest power of two below the number of leaves.
fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Sha256::digest([]).into(),
        [one] => *one,
        many => {
            let split = many.len().next_power_of_two() / 2;
            let (left, right) = (root(&many[..split]), root(&many[split..]));
            Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
        }
    }
}

/// Canonical JSON of what stands in entries: objects of short ASCII names, strings and whole numbers.
fn canonical(value: &Value) -> String {
    let object = value.as_object().unwrap();
    let mut names: Vec<&String> = object.keys().collect();
    names.sort();
    let pairs: Vec<String> = names.iter().map(|name| format!("{:?}:{}", name, object[*name])).collect();
    format!("{{{}}}", pairs.join(","))
}

/// Names of the tokens that were made for a role.
pub async fn token_names(app: &TestApp, role: &str) -> Vec<String> {
    let made = app.journal("&kind=token.created").await;
    let bodies = made.iter().map(|view| &view["body"]).filter(|body| body["role"] == role);
    bodies.map(|body| body["name"].as_str().unwrap().to_owned()).collect()
}

/// An archive in which something of every kind has happened.
async fn eventful() -> TestApp {
    let app = TestApp::with(&[("recordings.give_up_after", "\"100ms\"")]).await;
    let (fine, gone) = (app.sender.audio("/a.mp3", &recording(1)), app.sender.on("/b.mp3", [Reply::Status(410)]));
    app.post(&accepted("call_1")).await;
    app.post(&ended("call_1", &fine)).await;
    app.post(&ended("call/2", &gone)).await;
    app.post(&missed("call_3")).await;
    app.post_body("what is this").await.ok();
    app.post(&json!({"chatId": "chat_1", "customerPhone": "+919820011223", "wabaNumber": "+912240001234"})).await;
    app.post(&json!({"event": "NEW_LEAD"})).await;
    app.settle().await;
    app
}

#[tokio::test(flavor = "multi_thread")]
async fn every_hash_can_be_worked_out_again() {
    let app = eventful().await;
    let answer = app.get("/api/v1/journal?limit=500").await;
    let entries = app.journal("").await;
    assert!(entries.len() >= 15, "{}", entries.len());
    let (mut leaves, mut last_at) = (Vec::new(), String::new());
    for (seq, view) in entries.iter().enumerate() {
        let entry = &view["entry"];
        assert_eq!(entry["seq"], seq, "dense from 0");
        let at = entry["at"].as_str().unwrap().to_owned();
        assert!(at >= last_at && at.len() == "2026-03-09T05:15:42.120934Z".len(), "{at}");
        last_at = at;

        let text = canonical(entry);
        assert!(answer.text().contains(&format!("{{\"entry\":{text},")), "canonical as it is served: {text}");
        let leaf: Hash = Sha256::new().chain_update([0]).chain_update(&text).finalize().into();
        assert_eq!(view["leaf"], hex::encode(leaf));
        leaves.push(leaf);

        let salt = hex::decode(view["salt"].as_str().unwrap()).unwrap();
        let bytes = STANDARD.decode(view["body_bytes"].as_str().unwrap()).unwrap();
        assert_eq!(salt.len(), 16);
        let commitment = Sha256::new().chain_update(&salt).chain_update(&bytes).finalize();
        assert_eq!(entry["body"], format!("sha256:{}", hex::encode(commitment)));
        match serde_json::from_slice::<Value>(&bytes) {
            Ok(json) => assert_eq!(view["body"], json),
            Err(_) => assert_eq!(view["body"], view["body_bytes"]),
        }
        let webhook = entry["kind"].as_str().unwrap().starts_with("webhook.");
        assert!(
            webhook || serde_json_canonicalizer::to_vec(&view["body"]).unwrap() == bytes,
            "own bodies are canonical"
        );
        for personal in ["Ananya", "919820011223", "@"] {
            assert!(!text.contains(personal), "no personal data in an entry: {text}");
        }
    }
    let frontier = app.parts().journal.frontier().await.unwrap();
    assert_eq!((frontier.size(), frontier.root()), (leaves.len() as u64, root(&leaves)));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_and_pages() {
    let app = eventful().await;
    let all = app.journal("").await;
    let seqs =
        |entries: &[Value]| entries.iter().map(|entry| entry["entry"]["seq"].as_u64().unwrap()).collect::<Vec<_>>();
    let only = |name: &str, value: &str| {
        seqs(&all.iter().filter(|view| view["entry"][name] == value).cloned().collect::<Vec<_>>())
    };
    for kind in ["webhook.received", "webhook.quarantined", "recording.archived", "recording.failed", "token.created"] {
        let expected = only("kind", kind);
        assert!(!expected.is_empty(), "{kind}");
        assert_eq!(seqs(&app.journal(&format!("&kind={kind}")).await), expected, "{kind}");
    }
    // By the call's id as well as by the subject as it stands in entries.
    for (given, subject) in
        [("call_1", "call_1"), ("call%2F2", "call%2F2"), ("call%252F2", "call%2F2"), ("chat%3Achat_1", "chat:chat_1")]
    {
        let expected = only("subject", subject);
        assert!(!expected.is_empty(), "{subject}");
        assert_eq!(seqs(&app.journal(&format!("&subject={given}")).await), expected, "{given}");
    }
    assert_eq!(app.journal("&subject=call_1&kind=recording.archived").await.len(), 1);
    assert_eq!(app.journal("&subject=nobody").await.len(), 0);

    let mut walked = Vec::new();
    let mut after = None;
    loop {
        let from = after.map_or_else(String::new, |after: u64| format!("&after={after}"));
        let page = app.json(&format!("/api/v1/journal?limit=4{from}")).await;
        let entries = page["entries"].as_array().unwrap().clone();
        assert!(entries.len() <= 4);
        walked.extend(entries);
        after = page["next"].as_u64();
        if after.is_none() {
            break;
        }
    }
    assert_eq!(walked, all);
    for bad in ["limit=0", "limit=501", "after=x", "kind=webhook", "colour=red"] {
        app.get(&format!("/api/v1/journal?{bad}")).await.problem(400);
    }
    assert_eq!(app.json(&format!("/api/v1/journal?after={}", u64::MAX)).await["entries"], json!([]));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_byte_does_not_go_unseen() {
    let mut app = eventful().await;
    app.stop().await;
    let mut raw = Raw::of(&crate::app::load(&app.config_file(), ""), app.scratch()).await;
    // By somebody with the database's own tools.
    let (body, frontier) = match raw.is_sqlite() {
        false => ("convert_to(replace(convert_from(body, 'UTF8'), 'Ananya', 'Ananyo'), 'UTF8')", "'\\x00'"),
        true => ("cast(replace(cast(body as text), 'Ananya', 'Ananyo') as blob)", "zeroblob(length(frontier))"),
    };
    let forgeries = [
        &format!("update journal_bodies set body = {body} where seq = 5"),
        "update calls set status = 'ended' where call_id = 'call_3'",
        "update tokens set role = 'admin' where role = 'ingest'",
        &format!("update journal_head set frontier = {frontier}"),
        "delete from recordings where call_id = 'call_1'",
    ];
    for (n, forgery) in forgeries.iter().enumerate() {
        assert!(raw.run(forgery).await > 0, "{forgery}");
        let output = app.cli(&["verify"]).await;
        let damaged = crate::process::ended_with(&output, 1);
        assert!(damaged.lines().filter(|line| line.starts_with("DAMAGED")).count() > n, "{forgery}: {damaged}");
    }
    raw.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_look_like_other_subjects_are_still_ids() {
    let app = TestApp::start().await;
    for id in ["chat:1", "50%", "a:b"] {
        app.post(&ended(id, "")).await;
        let filter = format!("&subject={}&kind=webhook.received", encoded(id));
        assert_eq!(app.journal(&filter).await.len(), 1, "{id}");
    }
    app.finish().await;
}
