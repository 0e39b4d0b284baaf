//! Reports of commands on their way: to a folder, into the store, and to a server that is not always there.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::process::{ProcessApp, ended_with, stderr};

const SECRET: &str = "the-reports-secret-of-the-tests";

/// A server that takes reports, with what it is to answer first.
#[derive(Clone, Default)]
struct Inbox {
    answers: Arc<Mutex<VecDeque<u16>>>,
    taken: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
}

impl Inbox {
    async fn start(answers: &[u16]) -> (Self, String) {
        let inbox = Self { answers: Arc::new(Mutex::new(answers.iter().copied().collect())), ..Self::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/in?key=hunter2", listener.local_addr().unwrap());
        let router = Router::new().route("/in", post(take)).with_state(inbox.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (inbox, url)
    }

    fn taken(&self) -> Vec<(HeaderMap, Bytes)> {
        self.taken.lock().unwrap().clone()
    }
}

async fn take(State(inbox): State<Inbox>, headers: HeaderMap, body: Bytes) -> StatusCode {
    inbox.taken.lock().unwrap().push((headers, body));
    StatusCode::from_u16(inbox.answers.lock().unwrap().pop_front().unwrap_or(204)).unwrap()
}

async fn archive(more: &[(&str, &str)]) -> ProcessApp {
    let secret = format!("{SECRET:?}");
    let settings = [&[("delivery.secret", secret.as_str())], more].concat();
    ProcessApp::with(&settings).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_for_a_while_is_asked_again() {
    let app = archive(&[]).await;
    let (inbox, url) = Inbox::start(&[503, 429]).await;
    let said = app.cli(&["fixity", "run", "--post", &url]).await;
    ended_with(&said, 0);
    let taken = inbox.taken();
    assert_eq!(taken.len(), 3);
    let (headers, body) = &taken[2];
    let report: Value = serde_json::from_slice(body).unwrap();
    assert_eq!((&report["report"], &report["failed"]), (&"fixity".into(), &0.into()));
    assert_eq!(headers["authorization"], format!("Bearer {SECRET}"));
    assert_eq!(headers["repr-digest"], format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(body))));
    assert_eq!(headers["content-type"], "application/json");
    assert!(taken.iter().all(|(_, other)| other == body), "the same each time");
    let delivered = app.json("/api/v1/journal?kind=report.delivered").await;
    let delivered = &delivered["entries"][0]["body"];
    assert_eq!(
        (&delivered["host"], &delivered["sha256"]),
        (&"127.0.0.1".into(), &hex::encode(Sha256::digest(body)).into())
    );
    for shown in [&stderr(&said), &delivered.to_string(), &app.log()] {
        assert!(!shown.contains(SECRET) && !shown.contains("hunter2"), "{shown}");
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_is_not_taken_is_a_failure() {
    let app = archive(&[("delivery.give_up_after", "\"500ms\"")]).await;
    for (answers, says) in [(&[403][..], "127.0.0.1 answered 403"), (&[503, 503], "took nothing within 500ms")] {
        let (inbox, url) = Inbox::start(answers).await;
        let output = app.cli(&["verify", "--post", &url]).await;
        ended_with(&output, 1);
        let said = stderr(&output);
        assert!(said.contains(says) && !said.contains(SECRET) && !said.contains("hunter2"), "{said}");
        assert_eq!(inbox.taken().len(), 1);
    }
    let made = app.json("/api/v1/journal?kind=report.made").await;
    assert_eq!(made["entries"].as_array().unwrap().len(), 2);
    let delivered = app.json("/api/v1/journal?kind=report.delivered").await;
    assert_eq!(delivered["entries"].as_array().unwrap().len(), 0);
    for address in ["http://reports.example/", "https://user:password@reports.example/", "reports"] {
        ended_with(&app.cli(&["verify", "--post", address]).await, 2);
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_and_the_store_take_a_report_each() {
    let app = archive(&[]).await;
    let folder = app.config_file().parent().unwrap().join("reports");
    let args = ["verify", "--to-bucket", "--out", folder.to_str().unwrap()];
    let output = app.cli(&args).await;
    ended_with(&output, 1);
    assert!(stderr(&output).contains("there is no such folder: make it"), "{}", stderr(&output));
    std::fs::create_dir(&folder).unwrap();
    ended_with(&app.cli(&args).await, 0);
    let delivered = app.json("/api/v1/journal?kind=report.delivered").await;
    let delivered = delivered["entries"].as_array().unwrap();
    assert_eq!(delivered.len(), 2, "the store took the first, too");
    let last = &delivered[1]["body"];
    let written = std::fs::read(folder.join(last["file"].as_str().unwrap())).unwrap();
    assert_eq!(last["sha256"], hex::encode(Sha256::digest(&written)));
    assert!(last["object"]["key"].as_str().unwrap().starts_with("reports/"));
    app.finish().await;
}
