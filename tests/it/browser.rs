//! The pages in real Chromium: sign in, find a call the way an officer does, play it, seek in it.
//!
//! Needs a running chromedriver, whose address stands in WEBDRIVER_URL: `make test` starts one.

use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Map, Value, json};

use crate::app::{OFFICER, TestApp};
use crate::events::{SPEECH, ended, ended_with};
use crate::http::{PATIENCE, eventually};

/// A browser with a profile of its own; without JavaScript on demand.
async fn browser(javascript: bool) -> Client {
    let address = std::env::var("WEBDRIVER_URL").expect("WEBDRIVER_URL names a chromedriver: run make test");
    let mut chrome = json!({"args": [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--no-first-run", "--window-size=1440,1000",
        "--autoplay-policy=no-user-gesture-required",
    ]});
    if !javascript {
        chrome["prefs"] = json!({"profile.managed_default_content_settings.javascript": 2});
    }
    let wanted = Map::from_iter([("goog:chromeOptions".to_owned(), chrome)]);
    ClientBuilder::new(HttpConnector::new()).capabilities(wanted).connect(&address).await.unwrap()
}

/// Three calls: two of Ananya Kulkarni, one of them recorded, and one of मीरा शर्मा.
async fn archive() -> TestApp {
    let app = TestApp::with(&[("timezone", "\"Asia/Kolkata\"")]).await;
    let url = app.sender.audio("/speech.mp3", SPEECH);
    app.post(&ended_with(
        "call_play",
        json!({"recordingUrl": url, "durationInSeconds": 10, "callStartedAt": "2026-03-09T10:59:53Z"}),
    ))
    .await;
    app.post(&ended("call_mute", "")).await;
    let meera = json!({"customerName": "मीरा शर्मा", "customerNumber": "919769955441", "pickedBy": "Farhan Siddiqui",
        "callStartedAt": "2026-03-07T20:00:00Z", "callEndedAt": "2026-03-07T20:00:03Z"});
    app.post(&ended_with("call_meera", meera)).await;
    app.call_in("call_play", "archived").await;
    app.settle().await;
    app
}

async fn sign_in(browser: &Client, app: &TestApp) {
    browser.goto(&format!("{}/", app.url)).await.unwrap();
    assert_eq!(browser.current_url().await.unwrap().path(), "/sign-in", "a page without a session asks for one");
    browser.find(Locator::Css("#token")).await.unwrap().send_keys(OFFICER).await.unwrap();
    browser.find(Locator::Css("form#sign-in button[type=submit]")).await.unwrap().click().await.unwrap();
    browser.wait().at_most(PATIENCE).for_element(Locator::Css("#q")).await.unwrap();
}

/// Types into the search box, sends the form, and gives the ids of the calls that are shown.
async fn search(browser: &Client, text: &str) -> Vec<String> {
    let field = browser.find(Locator::Css("#q")).await.unwrap();
    field.clear().await.unwrap();
    field.send_keys(text).await.unwrap();
    browser.find(Locator::Css("form#search button[type=submit]")).await.unwrap().click().await.unwrap();
    // The old page stays until the answer is there; the new one's address says what was asked.
    eventually("the answer", async || {
        let address = browser.current_url().await.ok()?;
        let asked = address.query_pairs().any(|(name, value)| name == "q" && value == text);
        let field = browser.find(Locator::Css("#q")).await.ok()?;
        (asked && field.attr("value").await.ok()?.as_deref() == Some(text)).then_some(())
    })
    .await;
    shown(browser).await
}

async fn shown(browser: &Client) -> Vec<String> {
    browser.wait().at_most(PATIENCE).for_element(Locator::Css("#main")).await.unwrap();
    let mut ids = Vec::new();
    for row in browser.find_all(Locator::Css("tr[data-call-id]")).await.unwrap() {
        ids.push(row.attr("data-call-id").await.unwrap().unwrap_or_default());
    }
    ids.sort();
    ids
}

async fn number(browser: &Client, script: &str) -> f64 {
    browser.execute(&format!("return {script}"), Vec::new()).await.unwrap().as_f64().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromedriver: make test runs it"]
async fn an_officer_finds_and_hears_a_call() {
    let (app, browser) = (archive().await, browser(true).await);
    sign_in(&browser, &app).await;
    assert_eq!(search(&browser, "anan").await, ["call_mute", "call_play"]);
    assert_eq!(search(&browser, "97699 554").await, ["call_meera"]);
    assert_eq!(search(&browser, "शर्मा").await, ["call_meera"]);

    // By agent and by a date in the archive's time zone: half past one in the night of the 8th.
    browser
        .goto(&format!("{}/?agent=Farhan+Siddiqui&started_from=2026-03-08&started_to=2026-03-08", app.url))
        .await
        .unwrap();
    assert_eq!(shown(&browser).await, ["call_meera"]);

    // In the search itself.
    assert_eq!(search(&browser, "call_play").await.len(), 0, "the filters stay until they are taken away");
    browser.goto(&format!("{}/?q=kulkarni", app.url)).await.unwrap();
    let play = browser.find(Locator::Css("tr[data-call-id=call_play] button.play")).await.unwrap();
    play.click().await.unwrap();
    browser.wait().at_most(PATIENCE).for_element(Locator::Css("#dock:not([hidden])")).await.unwrap();
    eventually("the position moves", async || {
        (number(&browser, "document.querySelector('#dock audio, audio').currentTime").await > 0.2).then_some(())
    })
    .await;

    // On the call's page: play, then seek far beyond what was played.
    browser.goto(&format!("{}/calls/call_play", app.url)).await.unwrap();
    browser.wait().at_most(PATIENCE).for_element(Locator::Css("#sha256")).await.unwrap();
    let play = "const a = document.querySelector('audio#player'); a.muted = true; a.play();";
    browser.execute(play, Vec::new()).await.unwrap();
    eventually("it plays", async || {
        (number(&browser, "document.querySelector('#player').currentTime").await > 0.2).then_some(())
    })
    .await;
    let length = number(&browser, "document.querySelector('#player').duration").await;
    assert!((9.5..10.5).contains(&length), "{length}");
    browser.execute("document.querySelector('#player').currentTime = 8", Vec::new()).await.unwrap();
    eventually("it plays on from there", async || {
        (number(&browser, "document.querySelector('#player').currentTime").await > 8.1).then_some(())
    })
    .await;

    browser.find(Locator::Css("#sign-out")).await.unwrap().click().await.unwrap();
    browser.wait().at_most(PATIENCE).for_element(Locator::Css("#token")).await.unwrap();
    browser.close().await.unwrap();
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromedriver: make test runs it"]
async fn all_of_it_works_without_javascript() {
    let (app, browser) = (archive().await, browser(false).await);
    sign_in(&browser, &app).await;
    assert_eq!(search(&browser, "98200 11223").await, ["call_mute", "call_play"]);
    let link = browser.find(Locator::Css("tr[data-call-id=call_play] .c-when a")).await.unwrap();
    link.click().await.unwrap();
    let player = browser.wait().at_most(PATIENCE).for_element(Locator::Css("audio#player")).await.unwrap();
    assert!(player.attr("controls").await.unwrap().is_some(), "the browser's own controls");
    assert_eq!(search_again(&browser, &app, "flag:recording_missing").await, ["call_meera", "call_mute"]);
    assert_eq!(search_again(&browser, &app, "agent:(").await, [""; 0]);
    let problem = browser.find(Locator::Css("#problem")).await.unwrap().text().await.unwrap();
    assert!(!problem.is_empty(), "a query that can't be read says why");
    browser.close().await.unwrap();
    app.finish().await;
}

async fn search_again(browser: &Client, app: &TestApp, text: &str) -> Vec<String> {
    browser.goto(&format!("{}/", app.url)).await.unwrap();
    search(browser, text).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromedriver: make test runs it"]
async fn a_link_signs_in_once() {
    let (app, browser) = (archive().await, browser(true).await);
    let token = app.parts().access.tokens().await.unwrap().into_iter().find(|token| token.role == "officer").unwrap();
    let code = app.parts().access.make_sign_in_code(&token.name).await.unwrap();
    let link = format!("{}/sign-in/{code}", app.url);
    browser.goto(&link).await.unwrap();
    browser.wait().at_most(PATIENCE).for_element(Locator::Css("#q")).await.unwrap();
    browser.goto(&link).await.unwrap();
    browser.wait().at_most(PATIENCE).for_element(Locator::Css("#error")).await.unwrap();
    let hidden: Value = browser.execute("return document.cookie", Vec::new()).await.unwrap();
    assert_eq!(hidden, "", "no script can read the session");
    browser.close().await.unwrap();
    app.finish().await;
}
