//! The account's key and the tokens' secrets stand nowhere: not in a log at trace level, not in the database, the
//! objects, the index, an answer, a metric, or a request to anybody else.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::{Value, json};

use crate::app::{ADMIN, AUDITOR, INGEST, OFFICER};
use crate::events::{CBR, ended_with};
use crate::fake_doubletick::{API_KEY, FakeDoubleTick, Reply};
use crate::http::{Answer, encoded, eventually};
use crate::leftovers::files;
use crate::process::ProcessApp;

const SIGNATURE: &str = "signature-of-the-link-51c9";
const NAME: &str = "Zubeida Unmistakable";
const NUMBER: &str = "919812345098";

/// A secret in every form in which it might turn up.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    let mut forms = vec![secret.as_bytes().to_vec(), hex::encode(secret).into_bytes(), encoded(secret).into_bytes()];
    // Inside a longer text base64 comes in three alignments; the first and last characters depend on the neighbours.
    for (shift, from) in [(0, 0), (1, 2), (2, 3)] {
        let padded = [vec![b'x'; shift], secret.as_bytes().to_vec()].concat();
        for text in [STANDARD.encode(&padded), URL_SAFE.encode(&padded)] {
            let until = text.trim_end_matches('=').len() - 1;
            forms.push(text.as_bytes()[from..until].to_vec());
        }
    }
    forms
}

/// Where a secret stands, if anywhere.
fn found_in<'a>(places: &'a BTreeMap<String, Vec<u8>>, secret: &str) -> Vec<&'a str> {
    let forms = forms(secret);
    let holds = |bytes: &[u8]| forms.iter().any(|form| memmem(bytes, form));
    places.iter().filter(|(_, bytes)| holds(bytes)).map(|(place, _)| place.as_str()).collect()
}

fn memmem(bytes: &[u8], wanted: &[u8]) -> bool {
    let first = wanted[0];
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == first) {
        rest = &rest[at..];
        if rest.starts_with(wanted) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

/// Every way in which a fetch may go wrong, as path and reply.
fn failures(foreign: &FakeDoubleTick, other: &FakeDoubleTick) -> Vec<(&'static str, Reply)> {
    vec![
        ("missing", Reply::Status(404)),
        ("denied", Reply::Status(401)),
        ("broken", Reply::Status(500)),
        ("gone", Reply::Status(410)),
        ("html", Reply::Html),
        ("cut", Reply::CutOff(CBR.to_vec())),
        ("slow", Reply::ByteByByte(CBR.to_vec())),
        ("loop", Reply::Redirect("/loop".into())),
        ("other", Reply::Redirect(other.url("/there.mp3"))),
        ("foreign", Reply::Redirect(foreign.url("/a.mp3"))),
        // A host that repeats what it was asked with, as many do.
        ("echo", Reply::Redirect(format!("{}?token={API_KEY}", foreign.url("/a.mp3")))),
        ("nowhere", Reply::Redirect(format!("https://nowhere.invalid/?token={API_KEY}"))),
        ("downgrade", Reply::Redirect(format!("ftp://{API_KEY}@127.0.0.1/{API_KEY}"))),
    ]
}

async fn post(app: &ProcessApp, id: &str, url: &str) {
    let fields = json!({"recordingUrl": url, "customerName": NAME, "customerNumber": NUMBER});
    app.post(&ended_with(id, fields)).await;
}

/// Calls that go well and calls that fail in every way.
async fn provoke(app: &ProcessApp, foreign: &FakeDoubleTick, other: &FakeDoubleTick) {
    let signed = |url: String| format!("{url}?X-Signature={SIGNATURE}");
    post(app, "good", &signed(app.sender.audio("/good", CBR))).await;
    for (id, reply) in failures(foreign, other) {
        post(app, id, &signed(app.sender.on(&format!("/{id}"), [reply]))).await;
    }
    let tls = app.sender.url("/tls").replace("http:", "https:");
    let own = foreign.url("/own");
    let refused = "http://127.0.0.1:1/refused".to_owned();
    for (id, url) in [("tls", tls), ("dns", "https://name.invalid/a".into()), ("refused", refused), ("own", own)] {
        post(app, id, &signed(url)).await;
    }
}

/// Asks for everything, well and badly, and keeps the answers.
async fn ask(app: &ProcessApp, places: &mut BTreeMap<String, Vec<u8>>) {
    let paths = [
        "/metrics",
        "/readyz",
        "/openapi.json",
        "/",
        "/sign-in",
        "/nowhere",
        "/api/v1/calls",
        "/api/v1/calls?q=((",
        "/api/v1/calls.csv",
        "/api/v1/calls.jsonl",
        "/api/v1/stats",
        "/api/v1/quarantine",
        "/api/v1/journal?limit=500",
        "/api/v1/live",
        "/api/v1/calls/foreign",
        "/api/v1/calls/foreign/recording",
        "/api/v1/calls/good/waveform",
        "/calls/foreign",
    ];
    for (who, secret) in [("auditor", AUDITOR), ("ingest", INGEST), ("nobody", "not-a-secret")] {
        for path in paths {
            let answer = Answer::of(app.client.get(format!("{}{path}", app.url)).bearer_auth(secret)).await;
            let headers = format!("{:?}", answer.headers).into_bytes();
            places.insert(format!("GET {path} as {who}"), [headers, answer.body].concat());
        }
    }
    let form = format!("token={OFFICER}&next=%2F");
    let request = app.client.post(format!("{}/sign-in", app.url)).header("origin", &app.url).body(form);
    let signed_in = Answer::of(request.header("content-type", "application/x-www-form-urlencoded")).await;
    assert_eq!(signed_in.status, 303, "{}", signed_in.text());
    let cookie = signed_in.header("set-cookie").split(';').next().unwrap().to_owned();
    // At this level of logging an index takes its time to be there.
    let searched = || async {
        let page = Answer::of(app.client.get(&app.url).header("cookie", &cookie)).await;
        (page.status == 200).then_some(page)
    };
    let page = eventually("the search's page is there", searched).await;
    places.insert("page of a session".into(), page.body);
    places.insert("cookie (not a place)".into(), cookie.split_once('=').unwrap().1.as_bytes().to_vec());
    for args in [
        &["doctor"][..],
        &["search"],
        &["show", "foreign"],
        &["token", "list"],
        &["verify"],
        &["export", "--format", "jsonl"],
    ] {
        let output = app.cli(args).await;
        places.insert(format!("callvault {args:?}"), [output.stdout, output.stderr].concat());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_stand_nowhere() {
    let (foreign, other) = (FakeDoubleTick::start_open().await, FakeDoubleTick::start().await);
    foreign.audio("/a.mp3", CBR);
    other.audio("/there.mp3", CBR);
    let settings = [("recordings.give_up_after", "\"400ms\""), ("recordings.timeout", "\"1s\"")];
    let more = [other.address.as_str(), "name.invalid", "nowhere.invalid", "127.0.0.1:1"];
    let mut app = ProcessApp::fetching_from("trace", &more, &settings).await;
    provoke(&app, &foreign, &other).await;
    for id in ["missing", "slow", "foreign", "echo", "nowhere", "tls", "dns", "refused", "own", "downgrade"] {
        let path = format!("/api/v1/calls/{id}");
        let settled = || async {
            let call: Value = app.json(&path).await;
            (call["recording"]["state"] == "failed").then_some(())
        };
        eventually(&format!("{id} failed"), settled).await;
    }
    app.call_in("good", "archived").await;
    app.call_in("other", "archived").await;
    let mut places = BTreeMap::new();
    ask(&app, &mut places).await;
    let cookie = String::from_utf8(places.remove("cookie (not a place)").unwrap()).unwrap();
    app.settle().await;
    let log = app.log();
    places.insert("log".into(), log.clone().into_bytes());
    for file in files(&app.data_dir()) {
        places.insert(file.display().to_string(), std::fs::read(&file).unwrap());
    }
    places.extend(app.contents().await);
    places.insert("requests to the foreign host".into(), format!("{:?}", foreign.all_asked()).into_bytes());
    let referers = other
        .all_asked()
        .into_iter()
        .chain(app.sender.all_asked())
        .filter_map(|asked| asked.headers.get("referer").cloned());
    places.insert("referers".into(), format!("{:?}", referers.collect::<Vec<_>>()).into_bytes());

    assert!(log.contains("TRACE"), "it was logged at trace level");
    assert!(log.len() > 100_000 && places.len() > 60, "{} places, a log of {}", places.len(), log.len());
    // The search for it works: the name stands in the database, and the key where it belongs.
    assert!(
        found_in(&places, NAME).iter().any(|place| place.contains("callvault.db") || place.contains("the database")),
        "the search finds something"
    );
    assert!(app.sender.all_asked().iter().any(|asked| asked.query.contains(API_KEY)));
    for secret in [API_KEY, INGEST, OFFICER, AUDITOR, ADMIN, cookie.as_str()] {
        assert_eq!(found_in(&places, secret), Vec::<&str>::new(), "{secret}");
    }
    assert_eq!(foreign.requests(), 0, "nobody else is asked");
    // People and signed links: nowhere at the levels that are on.
    for line in log.lines().filter(|line| [" INFO ", " WARN ", "ERROR "].iter().any(|level| line.contains(level))) {
        for personal in [NAME, NUMBER, SIGNATURE] {
            assert!(!line.contains(personal), "{line}");
        }
    }
    assert_eq!(app.terminate().await.code(), Some(0));
}
