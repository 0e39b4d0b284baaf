//! Who may do what: every route of the description, for every role and for nobody.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use callvault::access::Role;
use serde_json::json;

use crate::app::{ADMIN, AUDITOR, INGEST, OFFICER, TestApp};
use crate::events::{CBR, ended, missed};
use crate::fake_doubletick::Reply;
use crate::http::Answer;
use crate::process::{ended_with, stderr};

/// Who is let through to a route.
#[derive(Clone, Copy, PartialEq)]
enum For {
    Everybody,
    Ingest,
    Readers,
    JournalReaders,
    Officers,
    Admins,
}

/// Every route: who may, and what that answers on the archive of these tests.
fn table() -> BTreeMap<&'static str, (For, u16)> {
    BTreeMap::from([
        ("POST /webhooks/doubletick", (For::Ingest, 200)),
        ("GET /api/v1/calls", (For::Readers, 200)),
        ("GET /api/v1/calls.csv", (For::Readers, 200)),
        ("GET /api/v1/calls.jsonl", (For::Readers, 200)),
        ("GET /api/v1/calls/{call_id}", (For::Readers, 200)),
        ("GET /api/v1/calls/{call_id}/recording", (For::Readers, 200)),
        ("GET /api/v1/calls/{call_id}/waveform", (For::Readers, 200)),
        ("POST /api/v1/calls/{call_id}/recording/retry", (For::Officers, 409)),
        // Told apart from a request that can't be read by who may ask.
        ("POST /api/v1/calls/{call_id}/flags/{rule}/review", (For::Officers, 400)),
        ("GET /api/v1/reviews", (For::Readers, 200)),
        ("POST /api/v1/reviews", (For::Officers, 400)),
        ("GET /api/v1/live", (For::Readers, 200)),
        ("GET /api/v1/stats", (For::Readers, 200)),
        ("GET /api/v1/journal", (For::JournalReaders, 200)),
        ("GET /api/v1/quarantine", (For::JournalReaders, 200)),
        ("GET /api/v1/completeness", (For::Readers, 200)),
        ("GET /api/v1/retention/report", (For::Readers, 200)),
        ("POST /api/v1/calls/{call_id}/explanation", (For::Officers, 400)),
        ("GET /api/v1/holds", (For::Readers, 200)),
        ("POST /api/v1/holds", (For::Officers, 400)),
        ("GET /api/v1/holds/{name}", (For::Readers, 404)),
        ("POST /api/v1/holds/{name}/close", (For::Officers, 404)),
        ("POST /api/v1/holds/{name}/release", (For::Officers, 404)),
        ("GET /api/v1/retention/policies", (For::Readers, 200)),
        ("GET /api/v1/retention/due", (For::Readers, 200)),
        ("GET /api/v1/retention/dispositions", (For::Readers, 200)),
        ("POST /api/v1/retention/dispositions", (For::Admins, 409)),
        ("POST /api/v1/retention/dispositions/{id}/approve", (For::Admins, 409)),
        ("POST /api/v1/retention/dispositions/{id}/cancel", (For::Admins, 409)),
        ("POST /api/v1/retention/dispositions/{id}/execute", (For::Admins, 409)),
        ("GET /api/v1/retention/dispositions/{id}/certificate", (For::Readers, 404)),
        ("GET /metrics", (For::Readers, 200)),
        ("GET /healthz", (For::Everybody, 200)),
        ("GET /readyz", (For::Everybody, 200)),
    ])
}

impl For {
    fn lets(self, secret: Option<&str>) -> bool {
        let roles: &[&str] = match self {
            Self::Everybody => return true,
            Self::Ingest => &[INGEST, ADMIN],
            Self::Readers => &[OFFICER, AUDITOR, ADMIN],
            Self::JournalReaders => &[AUDITOR, ADMIN],
            Self::Officers => &[OFFICER, ADMIN],
            Self::Admins => &[ADMIN],
        };
        secret.is_some_and(|secret| roles.contains(&secret))
    }
}

/// Sends a route's request as `sign` makes it.
async fn ask(
    app: &TestApp,
    route: &str,
    sign: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
) -> Answer {
    let (method, path) = route.split_once(' ').unwrap();
    let url = format!("{}{}", app.url, path.replace("{call_id}", "call_1"));
    let request = app.client.request(method.parse().unwrap(), url).body(missed("call_2").to_string());
    Answer::of(sign(request)).await
}

async fn with_one_call() -> TestApp {
    let app = TestApp::start().await;
    let url = app.sender.audio("/a.mp3", CBR);
    app.post(&ended("call_1", &url)).await;
    app.settle().await;
    app
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_for_every_role() {
    let app = with_one_call().await;
    let document = Answer::of(app.client.get(format!("{}/openapi.json", app.url))).await.ok();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let table = table();
    let mut routes = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let route = format!("{} {path}", method.to_uppercase());
            let (whom, ok) = *table.get(route.as_str()).unwrap_or_else(|| panic!("{route} stands in no table"));
            for secret in
                [None, Some("nobody's-secret-of-the-tests"), Some(INGEST), Some(OFFICER), Some(AUDITOR), Some(ADMIN)]
            {
                let known = secret.is_some_and(|secret| [INGEST, OFFICER, AUDITOR, ADMIN].contains(&secret));
                let expected = if whom.lets(secret) {
                    ok
                } else if known {
                    403
                } else {
                    401
                };
                let answer = ask(&app, &route, |request| match secret {
                    Some(secret) => request.bearer_auth(secret),
                    None => request,
                });
                let answer = answer.await;
                assert_eq!(
                    answer.status,
                    expected,
                    "{route} for {secret:?}: {}",
                    String::from_utf8_lossy(&answer.body)
                );
                if expected >= 400 {
                    answer.problem(expected);
                }
                let documented = &operation["responses"][expected.to_string()];
                assert!(!documented.is_null(), "{route}: {expected} is not in the description");
            }
            routes.push(route);
        }
    }
    for route in table.keys() {
        assert!(routes.iter().any(|known| known == route), "{route} is not in the description");
    }
    // The description's own page asks for nothing from outside.
    let docs = Answer::of(app.client.get(format!("{}/docs/", app.url))).await;
    assert_eq!(docs.status, 200);
    assert!(!docs.text().contains("https://"), "{}", docs.text());
    Answer::of(app.client.get(format!("{}/no/such/place", app.url))).await.problem(404);
    let wrong_method = Answer::of(app.client.delete(format!("{}/api/v1/calls", app.url)).bearer_auth(ADMIN)).await;
    wrong_method.problem(405);
    assert!(wrong_method.header("allow").contains("GET"), "RFC 9110, section 15.5.6");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_reads_and_needs_its_origin_to_change_anything() {
    let app = TestApp::with(&[("recordings.give_up_after", "\"50ms\"")]).await;
    let url = app.sender.on("/a.mp3", [Reply::Status(410)]);
    app.post(&ended("call_1", &url)).await;
    app.call_in("call_1", "failed").await;
    app.settle().await;
    let officer = crate::journal::token_names(&app, "officer").await.remove(0);
    let cookie = app.cookie(&officer, Role::Officer).await;
    let get = "GET /api/v1/calls/{call_id}";
    assert_eq!(ask(&app, get, |r| r.header("cookie", format!("a=b; {cookie}; c=d"))).await.status, 200);
    ask(&app, get, |r| r.header("cookie", "callvault_session=guessed")).await.problem(401);
    ask(&app, "GET /api/v1/journal", |r| r.header("cookie", &cookie)).await.problem(403);

    let retry = "POST /api/v1/calls/{call_id}/recording/retry";
    let signed = |origin: Option<String>| {
        let (cookie, app) = (cookie.clone(), &app);
        async move {
            ask(app, retry, |request| {
                let request = request.header("cookie", cookie);
                origin.into_iter().fold(request, |request, origin| request.header("origin", origin))
            })
            .await
        }
    };
    let other_port = format!("{}1", app.url);
    for foreign in [None, Some("https://evil.example".to_owned()), Some("null".to_owned()), Some(other_port)] {
        signed(foreign).await.problem(403);
    }
    assert_eq!(app.journal("&kind=recording.retried").await.len(), 0);
    assert_eq!(signed(Some(app.url.clone())).await.status, 202);
    app.call_when("call_1", "it was tried again", |call| call["events"].to_string().contains("recording.retried"))
        .await;
    app.call_in("call_1", "failed").await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_stops_within_five_seconds() {
    let app = with_one_call().await;
    let secret = ended_with(&app.cli(&["token", "create", "anita", "--role", "officer"]).await, 0);
    let secret = secret.trim();
    let cookie = app.cookie("anita", Role::Officer).await;
    let with_cookie = || ask(&app, "GET /api/v1/calls", |request| request.header("cookie", &cookie));
    assert_eq!(app.get_as(secret, "/api/v1/calls").await.status, 200, "a new token works at once");
    assert_eq!(with_cookie().await.status, 200);

    let revoked = app.cli(&["token", "revoke", "anita"]).await;
    ended_with(&revoked, 0);
    let since = Instant::now();
    while app.get_as(secret, "/api/v1/calls").await.status == 200 {
        assert!(since.elapsed() < Duration::from_secs(5), "{}", stderr(&revoked));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    app.get_as(secret, "/api/v1/calls").await.problem(401);
    with_cookie().await.problem(401);
    // Once revoked, the name is used up.
    ended_with(&app.cli(&["token", "revoke", "anita"]).await, 1);
    ended_with(&app.cli(&["token", "create", "anita", "--role", "admin"]).await, 1);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_leaves_the_configuration_is_revoked() {
    let mut app = with_one_call().await;
    app.stop().await;
    app.serve_with("admin=another-secret-of-the-tests").await;
    app.get_as(AUDITOR, "/api/v1/calls").await.problem(401);
    let answer = app.get_as("another-secret-of-the-tests", "/api/v1/journal?kind=token.revoked").await.ok();
    assert_eq!(answer["entries"].as_array().unwrap().len(), 4);
    // One that was revoked stays so, even if it comes back.
    app.stop().await;
    app.serve_with(&crate::app::tokens()).await;
    app.get_as(AUDITOR, "/api/v1/calls").await.problem(401);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_may_be_public() {
    let app = TestApp::with(&[("metrics_public", "true")]).await;
    assert_eq!(ask(&app, "GET /metrics", |request| request).await.status, 200);
    app.finish().await;
    let app = TestApp::start().await;
    for path in ["/", "/api/v1/calls?q=x", "/healthz"] {
        let answer = app.get(path).await;
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert!(answer.header("content-security-policy").contains("frame-ancestors 'none'"), "{path}");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
    }
    assert_eq!(app.json("/healthz").await, json!({"status": "alive"}));
    app.finish().await;
}
