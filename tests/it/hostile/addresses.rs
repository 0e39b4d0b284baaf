//! Recording URLs that lead where nobody must be led: refused before anything is dialled, and the call says why.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::app::TestApp;
use crate::events::{CBR, ended};
use crate::fake_doubletick::{FakeDoubleTick, Reply};

fn failed(call: &Value) -> bool {
    call["recording"]["state"] == "failed"
        && call["flags"]
            .as_array()
            .unwrap()
            .iter()
            .any(|flag| flag["rule"] == "recording_failed" && flag["state"] == "open")
}

/// Each URL as the recording of a call, and what the call says in the end.
async fn refused(app: &TestApp, urls: &BTreeMap<String, &str>) {
    for url in urls.keys() {
        app.post(&ended(url, url)).await;
    }
    for (url, reason) in urls {
        let call = app.call_when(url, "it is refused", failed).await;
        let said = call["recording"]["last_error"].as_str().unwrap();
        assert!(said.contains(reason), "{url}: {said}");
        assert!(!said.contains("signature"), "nothing of the URL but its host: {said}");
    }
}

/// Everything is on the list here, also what no configuration should have; what is private is refused all the same.
const LISTED: &str = r#"["127.0.0.1", "localhost", "[::1]", "[::ffff:7f00:1]", "[::7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]",
    "[fe80::1]", "169.254.169.254", "0.0.0.0", "10.0.0.1", "*.doubletick.io", "media.example:8443"]"#;

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_a_private_address_is_dialled() {
    let settings = [
        ("recordings.hosts", LISTED),
        ("recordings.allow_private_addresses", "false"),
        ("recordings.give_up_after", "\"200ms\""),
    ];
    let app = TestApp::with(&settings).await;
    app.sender.audio("/a.mp3", CBR);
    let port = app.sender.address.rsplit(':').next().unwrap();
    let hosts = [
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "0x7f000001",
        "0177.0.0.1",
        "017700000001",
        "127.1",
        "127.0.1",
        "127.0.0.1.",
        "１２７.０.０.１",
        "⑫7.0.0.1",
        "%31%32%37.0.0.1",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
    ];
    let mut urls = BTreeMap::new();
    for host in hosts {
        urls.insert(format!("https://{host}:{port}/a.mp3?signature=1"), "is private");
        urls.insert(format!("http://{host}:{port}/a.mp3?signature=1"), "is private");
    }
    for host in [
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fe80::1]",
        "169.254.169.254",
        "0xa9fea9fe",
        "0.0.0.0",
        "0",
        "10.0.0.1",
    ] {
        urls.insert(format!("https://{host}/latest/meta-data?signature=1"), "is private");
    }
    // A name that leads there is asked for again as long as there is time.
    urls.insert(format!("https://localhost:{port}/a.mp3?signature=1"), "given up: the address");
    refused(&app, &urls).await;
    assert_eq!(app.sender.requests(), 0);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_scheme_host_or_port_is_asked() {
    let settings = [("recordings.hosts", LISTED), ("recordings.allow_private_addresses", "false")];
    let app = TestApp::with(&settings).await;
    let here = app.sender.address.clone();
    let long = format!("https://{}.example/a?signature=1", "a".repeat(15_000));
    let cases = [
        ("file:///etc/passwd", "scheme"),
        ("ftp://recordings.doubletick.io/a?signature=1", "scheme"),
        ("gopher://127.0.0.1:25/_MAIL", "scheme"),
        ("data:audio/mpeg;base64,SUQz", "scheme"),
        ("//recordings.doubletick.io/a", "is no URL"),
        ("https:///a", "not in recordings.hosts"),
        ("https://user:signature@recordings.doubletick.io/a", "credentials"),
        ("https://recordings.doubletick.io@evil.example/a", "credentials"),
        ("https://evil.example/?recordings.doubletick.io", "evil.example is not in recordings.hosts"),
        ("https://recordings.doubletick.io.evil.example/", "is not in recordings.hosts"),
        ("https://doubletick.io/a", "is not in recordings.hosts"),
        ("https://recordings.doubletick.io:22/a", "is not in recordings.hosts"),
        ("https://media.example/a", "is not in recordings.hosts"),
        ("https://1.1.1.1/a", "is not in recordings.hosts"),
        ("https://[2606:4700::1111]/a", "is not in recordings.hosts"),
        ("http://recordings.doubletick.io/a", "not encrypted"),
        (long.as_str(), "is not in recordings.hosts"),
    ];
    let urls = cases.map(|(url, reason)| (url.to_owned(), reason));
    refused(&app, &urls.into()).await;
    assert_eq!(app.sender.requests(), 0, "{here}");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_held_to_the_same_rules_on_every_hop() {
    let app = TestApp::with(&[("recordings.give_up_after", "\"200ms\"")]).await;
    let elsewhere = FakeDoubleTick::start_open().await;
    elsewhere.audio("/a.mp3", CBR);
    let away = elsewhere.url("/a.mp3");
    let targets = [
        (away.as_str(), "is not in recordings.hosts"),
        (&away.replace("http:", ""), "is not in recordings.hosts"),
        (&away.replace("127.0.0.1", "2130706433"), "is not in recordings.hosts"),
        (&away.replace("127.0.0.1", "[::ffff:127.0.0.1]"), "is not in recordings.hosts"),
        ("http://169.254.169.254/latest/meta-data/", "is not in recordings.hosts"),
        ("file:///etc/passwd", "scheme"),
        ("ftp://127.0.0.1/a", "scheme"),
        (&app.sender.url("/x").replace("//", "//user:password@"), "credentials"),
        ("/loop", "redirects more than"),
        ("http://[broken", "redirects to nowhere"),
    ];
    app.sender.on("/loop", [Reply::Redirect("/loop".into())]);
    let mut urls = BTreeMap::new();
    for (n, (target, reason)) in targets.iter().enumerate() {
        // The second hop is the one that leads astray.
        app.sender.on(&format!("/second/{n}"), [Reply::Redirect((*target).to_owned())]);
        let url = app.sender.on(&format!("/first/{n}"), [Reply::Redirect(format!("/second/{n}"))]);
        urls.insert(url, *reason);
    }
    refused(&app, &urls).await;
    assert_eq!(elsewhere.requests(), 0);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_another_listed_host_is_followed_with_the_key() {
    let there = FakeDoubleTick::start().await;
    there.audio("/there.mp3", CBR);
    let app = TestApp::with(&[("recordings.hosts", "[\"127.0.0.1\"]")]).await;
    let url = app.sender.on("/here.mp3?own=1", [Reply::Status(404)]);
    app.sender.on("/here.mp3", [Reply::Redirect(there.url("/there.mp3?signed=abc"))]);
    app.post(&ended("call_1", &url)).await;
    app.call_in("call_1", "archived").await;
    let asked = &there.all_asked()[0];
    assert_eq!(asked.query, format!("signed=abc&token={}", crate::fake_doubletick::API_KEY));
    assert_eq!(asked.headers.get("referer"), None);
    app.finish().await;
}
