//! Many who may not, and those who may.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use callvault::access::Role;

use crate::app::INGEST;
use crate::events::missed;
use crate::process::ProcessApp;

/// The median and the worst of so many posts one after the other.
async fn latencies(app: &ProcessApp, posts: usize, round: &str) -> (Duration, Duration) {
    let mut took = Vec::new();
    for n in 0..posts {
        let start = Instant::now();
        app.post(&missed(&format!("{round}_{n}"))).await;
        took.push(start.elapsed());
    }
    took.sort_unstable();
    (took[took.len() / 2], took[took.len() - 1])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_strangers_costs_nothing_but_its_own_answers() {
    let app = ProcessApp::fetching_from("info", &[], &[]).await;
    let calm = latencies(&app, 100, "calm").await;
    let (entries, log) = (app.json("/api/v1/journal?limit=500&kind=webhook.received").await, app.log().len());
    assert_eq!(entries["entries"].as_array().unwrap().len(), 100);

    let (stop, strangers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut flood = Vec::new();
    for n in 0..8 {
        let (client, url, stop, strangers) = (app.client.clone(), app.url.clone(), stop.clone(), strangers.clone());
        flood.push(tokio::spawn(async move {
            for round in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                // Tokens that nobody has, cookies that nobody has, codes that nobody has, and questions that anybody may ask.
                let request = match n % 4 {
                    0 => client
                        .post(format!("{url}/webhooks/doubletick"))
                        .bearer_auth(format!("{INGEST}-{round}"))
                        .body("{}"),
                    1 => client
                        .get(format!("{url}/api/v1/calls"))
                        .header("cookie", format!("callvault_session=s{round}")),
                    2 => client.get(format!("{url}/sign-in/code-{n}-{round}")),
                    _ => client.get(format!("{url}/readyz")),
                };
                let status = request.send().await.unwrap().status().as_u16();
                assert_eq!(status, [401, 401, 410, 200][n % 4]);
                strangers.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    let start = Instant::now();
    let (flooded, mut rounds) = (latencies(&app, 100, "flooded").await, 1);
    while start.elapsed() < Duration::from_secs(2) {
        latencies(&app, 20, &format!("more_{rounds}")).await;
        rounds += 1;
    }
    stop.store(true, Ordering::Relaxed);
    for task in flood {
        task.await.unwrap();
    }
    let (answered, took) = (strangers.load(Ordering::Relaxed), start.elapsed());
    println!("{answered} strangers in {took:?}; posts (median, worst): calm {calm:?}, flooded {flooded:?}");
    assert!(answered > 200, "it was a flood: {answered}");
    // Flood, server and test share one machine: what is measured is that nobody waits in a queue behind strangers.
    assert!(flooded.0 < calm.0 * 20 + Duration::from_millis(50), "calm {calm:?}, flooded {flooded:?}");
    assert_eq!(app.log().len(), log, "not a line for any of them: {}", &app.log()[log..]);
    let after = app.json("/api/v1/stats").await;
    assert!(after["calls"].as_u64().is_some());
    let others = app.json("/api/v1/journal?limit=500&kind=webhook.quarantined").await;
    assert_eq!(others["entries"].as_array().unwrap().len(), 0, "nothing of it is journaled");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_in_by_link_works_once_among_strangers() {
    let app = crate::app::TestApp::start().await;
    let officer = app
        .parts()
        .access
        .tokens()
        .await
        .unwrap()
        .into_iter()
        .find(|token| token.role == Role::Officer.as_str())
        .unwrap();
    let code = app.parts().access.make_sign_in_code(&officer.name).await.unwrap();
    for n in 0..50 {
        assert_eq!(app.get(&format!("/sign-in/{code}{n}")).await.status, 410);
    }
    assert_eq!(app.get(&format!("/sign-in/{code}")).await.status, 200);
    assert_eq!(app.get(&format!("/sign-in/{code}")).await.status, 410);
    app.finish().await;
}
