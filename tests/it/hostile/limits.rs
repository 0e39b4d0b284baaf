//! What one request, one search or one sender may cost.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::app::{AUDITOR, INGEST, TestApp};
use crate::events::{CBR, SPEECH, ended, missed};
use crate::fake_doubletick::Reply;
use crate::http::{Answer, encoded, eventually};
use crate::process::ProcessApp;

#[tokio::test(flavor = "multi_thread")]
async fn searches_that_would_cost_too_much_are_refused_at_once() {
    let app = TestApp::start().await;
    for n in 0..200 {
        app.post(&missed(&format!("call_{n}"))).await;
    }
    app.found("limit=1", 200).await;
    let many = |filter: &str, times: usize| vec![filter.to_owned(); times].join("&");
    let q = |text: &str| format!("q={}", encoded(text));
    let refused = [
        format!("q={}", vec!["a"; 10_000].join("+OR+")),
        q(&vec!["98"; 900].join(" ")),
        q(&format!("{}a{}", "(".repeat(900), ")".repeat(900))),
        q(&"(".repeat(1_900)),
        q(&"\"".repeat(1_999)),
        q(&vec!["number:982"; 101].join(" OR ")),
        q(&"a".repeat(2_001)),
        many("agent=x", 101),
        [many("agent=x", 100), many("customer=x", 60), many("number=982", 60)].join("&"),
        format!("number={}", "9".repeat(9_000)),
        format!("cursor={}", "a".repeat(20_000)),
        "cursor=%00".into(),
        "limit=0".into(),
        "limit=501".into(),
        "limit=-1".into(),
        "facets=agent,nothing".into(),
        "unknown=1".into(),
        "min_duration=99999999999999999999".into(),
    ];
    for query in refused {
        let start = Instant::now();
        let said = app.get(&format!("/api/v1/calls?{query}")).await.problem(400);
        assert!(said.len() < 600, "{said}");
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "{:?} for {}",
            start.elapsed(),
            &query[..query.len().min(60)]
        );
    }
    // The dearest that are taken.
    let taken = [
        q(&format!("{}a{}", "(".repeat(64), ")".repeat(64))),
        q(&format!("{} a", "NOT ".repeat(490))),
        q(&format!("{}a", "-".repeat(1_990))),
        q(&vec!["number:982"; 99].join(" OR ")),
        q(&vec!["NOT a"; 99].join(" OR ")),
        [many("agent=x", 100), many("flag=short_call", 100), many("flag_state=open", 100)].join("&"),
        many("facets=agent,direction,status,flag,recording,day", 20),
    ];
    for query in taken {
        let start = Instant::now();
        let answer = app.get(&format!("/api/v1/calls?{query}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(start.elapsed() < Duration::from_secs(5), "{:?} for {}", start.elapsed(), &query[..60]);
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_have_few_labels_whatever_is_asked() {
    // The program itself: in a test's process all servers share one set of metrics.
    let app = ProcessApp::start().await;
    for n in 0..50 {
        for path in [
            format!("/nowhere-{n}"),
            format!("/api/v1/calls/secret-{n}"),
            format!("/sign-in/code-{n}"),
            format!("/docs/x-{n}"),
        ] {
            let method = reqwest::Method::from_bytes(format!("BREW{n}").as_bytes()).unwrap();
            let request = app
                .client
                .request(if n % 2 == 0 { method } else { reqwest::Method::GET }, format!("{}{path}", app.url));
            Answer::of(request.bearer_auth(AUDITOR)).await;
        }
    }
    let metrics = app.get("/metrics").await.text();
    for leaked in ["nowhere-", "secret-", "code-", "x-1", "BREW"] {
        assert!(!metrics.contains(leaked), "{leaked}");
    }
    let series = metrics.lines().filter(|line| line.starts_with("callvault_http_seconds_count")).count();
    assert!((3..60).contains(&series), "{series} series");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_requests_are_not_read() {
    let app = TestApp::start().await;
    let post = |secret: &str, bytes: usize| {
        let request = app.client.post(format!("{}/webhooks/doubletick", app.url)).bearer_auth(secret);
        // Without an end: an answer comes only from somebody who does not wait for one.
        let endless = futures_util::StreamExt::chain(
            futures_util::stream::iter([Ok::<_, std::io::Error>(vec![b' '; bytes])]),
            futures_util::stream::pending(),
        );
        tokio::time::timeout(Duration::from_secs(10), Answer::of(request.body(reqwest::Body::wrap_stream(endless))))
    };
    post("not-a-secret", 10).await.expect("who may not post is not read").problem(401);
    post(AUDITOR, 10).await.expect("who may not post is not read").problem(403);
    post(INGEST, 300 << 10).await.expect("what is too large is not read to its end").problem(413);
    let long = app.client.get(format!("{}/healthz", app.url)).header("x-long", "a".repeat(80_000));
    assert_eq!(Answer::of(long).await.status, 431);
    assert_eq!(app.journal("&kind=webhook.received").await.len(), 0);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_spool_has_a_bound_and_what_does_not_fit_waits() {
    let app = TestApp::with(&[("recordings.max_bytes", "150000"), ("spool.max_bytes", "200000")]).await;
    // Two that do not fit at the same time; slow enough to meet.
    let large = |seed: u8| [SPEECH, &vec![seed; 149_000 - SPEECH.len()]].concat();
    for n in [1, 2] {
        let url = app.sender.on(&format!("/{n}.mp3"), [Reply::Drip(large(n))]);
        app.post(&ended(&format!("call_{n}"), &url)).await;
    }
    let waits = || async {
        let said =
            [app.call("call_1").await, app.call("call_2").await].map(|call| call["recording"]["last_error"].clone());
        said.iter().any(|said| said.as_str().is_some_and(|said| said.contains("the spool is full"))).then_some(())
    };
    eventually("one of them waits", waits).await;
    for n in [1, 2] {
        let call = app.call_in(&format!("call_{n}"), "archived").await;
        assert_eq!(call["recording"]["attempts"], 1, "no attempt of the sender's is counted for it");
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_slow_host_does_not_hold_up_another() {
    let slow = crate::fake_doubletick::FakeDoubleTick::start().await;
    // The same machine under another name is another host.
    let hosts = "[\"127.0.0.1\", \"localhost\"]";
    let settings = [("recordings.concurrency", "2"), ("recordings.hosts", hosts), ("recordings.timeout", "\"8s\"")];
    let app = TestApp::with(&settings).await;
    for n in 0..6 {
        let url = slow.on(&format!("/{n}.mp3"), [Reply::ByteByByte(CBR.to_vec()), Reply::Audio(CBR.to_vec())]);
        app.post(&ended(&format!("slow_{n}"), &url.replace("127.0.0.1", "localhost"))).await;
    }
    eventually("the slow host is busy", || async { (slow.requests() >= 2).then_some(()) }).await;
    let start = Instant::now();
    for n in 0..3 {
        let url = app.sender.audio(&format!("/{n}.mp3"), CBR);
        app.post(&ended(&format!("quick_{n}"), &url)).await;
    }
    for n in 0..3 {
        app.call_in(&format!("quick_{n}"), "archived").await;
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(slow.requests() <= 2, "and gets no more than its share: {}", slow.requests());
    for n in 0..6 {
        slow.audio(&format!("/{n}.mp3"), CBR);
    }
    let all = || async { (app.json("/api/v1/stats").await["by_recording"] == json!({"archived": 9})).then_some(()) };
    tokio::time::timeout(Duration::from_secs(60), async {
        while all().await.is_none() {
            tokio::time::sleep(Duration::from_millis(200)).await
        }
    })
    .await
    .expect("all come in");
    app.finish().await;
}
