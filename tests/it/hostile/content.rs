//! Texts of all kinds: kept byte for byte, shown as text and nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use callvault::access::Role;
use futures_util::TryStreamExt;
use serde_json::{Value, json};

use crate::app::{OFFICER, TestApp};
use crate::events::{CBR, ended, ended_with, missed};
use crate::http::{Answer, encoded};
use crate::process::ended_with as exit_with;

/// Moves a terminal's cursor, sets its title, turns its lines around, ends them; runs in a spreadsheet, in a page.
const NASTY: &str =
    "=cmd|'/c calc'!A1\u{202e}\u{1b}[2J\u{1b}]0;owned\u{7}\r\n\u{2028}<script>alert(1)</script>\"'&\u{9b}31m";

/// Bodies as they come, why they lie in quarantine (if so), and which call they are about.
fn bodies() -> Vec<(Vec<u8>, Option<&'static str>, Option<String>)> {
    let call = |id: &str| (missed(id).to_string().into_bytes(), None, Some(id.to_owned()));
    let raw = |text: String, reason| (text.into_bytes(), reason, None);
    let deep =
        |depth: usize| format!("{{\"event\":\"CALL_MISSED\",\"callId\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    let about = |id: &str| Some(id.to_owned());
    vec![
        call("%2e%2e"),
        call("%2e%2e%2f%2e%2e%2fetc%2fpasswd"),
        call("../../../etc/passwd"),
        call(".."),
        call("-rf"),
        call("call 1\nwith\ta line"),
        call(&"x".repeat(10_000)),
        call(&"\u{202e}خط".repeat(2_500)),
        (br#"{"event":"CALL_MISSED","callId":"nul\u0000nul"}"#.to_vec(), None, about("nul\u{fffd}nul")),
        // The last of two keys counts, as for every reader of JSON.
        (br#"{"event":"CALL_MISSED","callId":"first","callId":"second"}"#.to_vec(), None, about("second")),
        // Half of a character can't be a text; the whole one can.
        (br#"{"event":"CALL_MISSED","callId":"\ud83d"}"#.to_vec(), Some("not_an_object"), None),
        (br#"{"event":"CALL_MISSED","callId":"\ud83d\ude00"}"#.to_vec(), None, about("😀")),
        (br#"{"event":"CALL_ENDED","callId":"huge","durationInSeconds":1e999}"#.to_vec(), Some("not_an_object"), None),
        (br#"{"event":"CALL_ENDED","callId":"large","durationInSeconds":1e300}"#.to_vec(), None, about("large")),
        (b"{\"event\":\"CALL_ENDED\",\"callId\":\"\xff\"}".to_vec(), Some("not_an_object"), None),
        raw(deep(100_000), Some("not_an_object")),
        raw("[".repeat(250_000), Some("not_an_object")),
        raw("{\"a\":".repeat(50_000), Some("not_an_object")),
        raw(deep(100), Some("no_call_id")),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_all_kinds_are_kept_byte_for_byte() {
    let app = TestApp::start().await;
    let cookie = signed_in(&app, Role::Auditor).await;
    let mut kept = Vec::new();
    for (body, reason, call) in bodies() {
        let name = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
        let answer = app.post_body(body.clone()).await.ok();
        assert_eq!(answer["quarantined"].as_str(), reason, "{name}");
        kept.push((answer["seq"].as_u64().unwrap(), body));
        // What clients read as a step up can't be asked for over HTTP.
        let Some(id) = call.filter(|id| id != "..") else { continue };
        assert_eq!(app.call(&id).await["call_id"], id.as_str(), "{name}");
        let page = page(&app, &cookie, &format!("/calls/{}", encoded(&id))).await;
        assert_eq!(page.status, 200, "{name}");
        assert_text_only(&page.text());
    }
    let journal = app.journal("").await;
    for (seq, body) in kept {
        let entry = journal.iter().find(|entry| entry["entry"]["seq"] == seq).unwrap();
        assert_eq!(STANDARD.decode(entry["body_bytes"].as_str().unwrap()).unwrap(), body);
    }
    assert_eq!(app.call("large").await["duration_seconds"], Value::Null, "no call lasts that long");
    let shown = exit_with(&app.cli(&["show", ".."]).await, 0);
    assert!(shown.starts_with("call_id                    ..\n"), "{shown}");
    // Whatever the ids are, each is one call in the search.
    let ids = bodies().into_iter().filter_map(|(.., call)| call).collect::<std::collections::BTreeSet<_>>();
    let found = app.found("limit=500", ids.len() as u64).await;
    let calls = found["calls"].as_array().unwrap().iter();
    assert_eq!(
        calls.map(|call| call["call_id"].as_str().unwrap().to_owned()).collect::<std::collections::BTreeSet<_>>(),
        ids
    );
    app.finish().await;
}

/// A cookie of the bootstrap token of a role.
async fn signed_in(app: &TestApp, role: Role) -> String {
    let tokens = app.parts().access.tokens().await.unwrap();
    app.cookie(&tokens.iter().find(|token| token.role == role.as_str()).unwrap().name, role).await
}

async fn page(app: &TestApp, cookie: &str, path: &str) -> Answer {
    Answer::of(app.client.get(format!("{}{path}", app.url)).header("cookie", cookie)).await
}

/// Nothing of a sender's text became markup.
fn assert_text_only(html: &str) {
    assert!(!html.contains("<script>alert"), "{html}");
    assert!(!html.contains("\"'&\u{9b}"), "quotes are escaped");
}

/// Nothing but text, line ends between it.
fn assert_harmless(shown: &str) {
    let harmful = |c: &char| {
        (c.is_control() && *c != '\n') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2028}' | '\u{2066}'..='\u{2069}')
    };
    assert_eq!(shown.chars().find(harmful), None, "{shown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_shown_as_text_everywhere() {
    let app = TestApp::start().await;
    let cookie = signed_in(&app, Role::Officer).await;
    let long = "ना".repeat(2_500);
    let ids = ["=1+1", "plain", NASTY];
    let url = app.sender.audio("/a.mp3", CBR);
    for id in ids {
        let name = if id == "plain" { long.as_str() } else { NASTY };
        let fields = json!({"recordingUrl": url, "customerName": name, "pickedBy": NASTY, "endedBy": NASTY,
            "failedReason": NASTY, "chatId": NASTY, "customerId": NASTY});
        app.post(&ended_with(id, fields)).await;
    }
    app.settle().await;
    // The API says what was sent.
    let call = app.call(NASTY).await;
    assert_eq!((&call["customer"]["name"], &call["agent"]), (&json!(NASTY), &json!(NASTY)));
    assert_eq!(app.call("plain").await["customer"]["name"], long.as_str());
    // The pages show it as text.
    for path in [
        "/".to_owned(),
        format!("/calls/{}", encoded(NASTY)),
        format!("/?q={}", encoded("\"><script>alert(1)</script>")),
    ] {
        let page = page(&app, &cookie, &path).await;
        assert!([200, 400].contains(&page.status), "{path}");
        assert_text_only(&page.text());
    }
    // A spreadsheet runs nothing, JSON lines are one object a line, and both hold everything.
    let csv = app.get_as(OFFICER, "/api/v1/calls.csv").await;
    let mut rows = csv::Reader::from_reader(&csv.body[..]);
    let rows: Vec<csv::StringRecord> = rows.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 3);
    for cell in rows.iter().flatten() {
        assert!(!cell.trim_start().starts_with(['=', '+', '-', '@', '\t', '\r']), "{cell:?}");
    }
    assert_eq!(rows.iter().flatten().filter(|cell| *cell == format!("'{NASTY}")).count(), 2 * 6 + 5 + 1);
    let lines = app.get_as(OFFICER, "/api/v1/calls.jsonl").await.text();
    let calls: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(calls.iter().filter(|call| call["agent"] == NASTY).count(), 3);
    // Nothing that a terminal obeys reaches it.
    let searched = exit_with(&app.cli(&["search"]).await, 0);
    assert_eq!(searched.lines().count(), 4, "one line for each call, and the total: {searched}");
    assert_harmless(&searched);
    let shown = exit_with(&app.cli(&["show", NASTY]).await, 0);
    assert!(shown.contains("\\u{1b}[2J"), "{shown}");
    assert_harmless(&shown);
    assert_harmless(&crate::process::stderr(&app.cli(&["show", "no\u{1b}[2J"]).await));
    assert_harmless(&crate::process::stderr(&app.cli(&["search", "nofield\u{1b}[2J\u{202e}:x"]).await));
    assert_harmless(&crate::process::stderr(&app.cli(&["search", "--status", "\u{1b}[2J"]).await));
    // The download's name is safe for headers and disks.
    let audio = app.get_as(OFFICER, &format!("/api/v1/calls/{}/recording?download=1", encoded(NASTY))).await;
    assert_eq!((audio.status, audio.body.as_slice()), (200, CBR));
    let name = audio.header("content-disposition");
    assert!(name.starts_with("attachment; filename=\"") && name.len() < 150, "{name}");
    assert!(name.bytes().all(|b| b.is_ascii_graphic() || b == b' ') && !name.contains(['/', '\\', '%', '<']), "{name}");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_mean_something_to_paths_lead_nowhere_else() {
    let app = TestApp::start().await;
    let url = app.sender.audio("/a.mp3", CBR);
    for id in ["..", "%2e%2e", "../../../../escape", "a/b", "nul\0nul", "CON", "~root"] {
        app.post(&ended(id, &url)).await;
    }
    app.settle().await;
    let escaped = |path: &str| app.scratch().join(path).exists();
    assert!(!escaped("escape") && !escaped("data/escape"));
    let kept: Vec<_> = app.parts().store.list("").await.unwrap().try_collect().await.unwrap();
    assert!(kept.len() > 5, "{}", kept.len());
    for name in kept.iter().map(|listed| listed.key.as_str()) {
        assert!(name.split('/').all(|part| !part.is_empty() && part != "." && part != ".."), "{name}");
        assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-%~".contains(&b)), "{name}");
    }
    // An address can't leave its route, however it is spelt.
    for path in
        ["/api/v1/calls/%2e%2e/%2e%2e/healthz/recording", "/assets/%2e%2e%2fCargo.toml", "/calls/..%2f..%2fsign-in"]
    {
        let status = app.get_as(OFFICER, path).await.status;
        assert!([404, 303].contains(&status), "{path}: {status}");
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_with_apostrophes_and_dates_without_end_are_found() {
    let app = TestApp::start().await;
    app.post(&ended_with("call_1", json!({"customerName": "Siobhan O'Brien"}))).await;
    app.post(&ended_with("call_2", json!({"customerName": "Siobhan O’Brien"}))).await;
    app.found("q=siobhan", 2).await;
    for q in ["brien", "o'brien", "obrien", "o brien", "\"o brien\"", "siobhan brien", "customer:brie"] {
        let found = app.json(&format!("/api/v1/calls?q={}", encoded(q))).await;
        assert_eq!(found["total"], 2, "{q}");
    }
    assert_eq!(app.json("/api/v1/calls?started_from=2026-03-01&started_to=9999-12-31").await["total"], 2);
    assert_eq!(app.json("/api/v1/calls?started_from=9999-12-31").await["total"], 0);
    let refused = app.cli(&["search", "--limit", "0"]).await;
    exit_with(&refused, 2);
    assert!(crate::process::stderr(&refused).contains("--limit"));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_pages_is_answered_with_pages() {
    let app = TestApp::start().await;
    let cookie = signed_in(&app, Role::Officer).await;
    let send = |method: reqwest::Method, path: &'static str, accept: &'static str| {
        let request = app.client.request(method, format!("{}{path}", app.url)).header("cookie", &cookie);
        Answer::of(request.header("accept", accept).header("origin", &app.url))
    };
    for path in ["/", "/calls/call_1", "/sign-out"] {
        let method = if path == "/sign-out" { reqwest::Method::GET } else { reqwest::Method::PUT };
        let page = send(method.clone(), path, "text/html,*/*").await;
        assert_eq!((page.status, page.header("content-type")), (405, "text/html; charset=utf-8"), "{path}");
        assert!(page.text().contains("<html") && !page.header("allow").is_empty(), "{path}");
        send(method, path, "*/*").await.problem(405);
    }
    send(reqwest::Method::DELETE, "/api/v1/calls/x", "text/html").await.problem(405);
    app.finish().await;
}
