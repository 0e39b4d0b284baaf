//! How fast webhooks are acknowledged durably, over HTTP, by the real program.
//!
//! `cargo bench --bench intake` offers 1,000 events a second for 30 seconds (open loop: an event is due when it is due,
//! whether or not the one before it was answered), then posts as fast as 64 connections can, in turn with a server of the
//! same make whose only endpoint reads and drops the same bodies.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench stops at the first surprise and prints its figures"
)]

mod common;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post as to_post;
use bytes::Bytes;
use callvault::app::App;
use callvault::clock::Clock;
use callvault::intake::Intake;
use callvault::web::{self, WebState};
use callvault::{config, telemetry};
use common::{SECRET, Server, await_connection, figure, free_address, median};
use futures_util::future::join_all;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

const CONNECTIONS: usize = 64;
const RATE: u64 = 1000;
const OFFERED: Duration = Duration::from_secs(30);
const AS_FAST_AS_POSSIBLE: Duration = Duration::from_secs(10);
/// The two are measured in turn, so that a noisy minute hits both.
const ROUNDS: usize = 3;

/// The shape and size of a real CALL_ENDED, of a call of its own.
fn body(number: u64) -> String {
    format!(
        r#"{{"event":"CALL_ENDED","callId":"call_bench{number:012}","chatMessageId":"msg_{number:012}","chatId":"chat_{:08}",
"wabaNumber":"912240001234","customerNumber":"9198{:08}","customerName":"Ananya Kulkarni","customerId":"customer_{:08}",
"callDirection":"INCOMING","callStatus":"END","failedReason":"","durationInSeconds":0,"callStartedAt":"","callEndedAt":"2026-03-09T05:15:41.000Z",
"pickedBy":"","rejectedBy":"","endedBy":"","recordingUrl":"","deviceId":"device_5f2c"}}"#,
        number % 5000,
        number % 100_000_000,
        number % 5000,
    )
}

/// Posts one event on an open connection and waits for its acknowledgement; the status.
async fn post(stream: &mut BufStream<TcpStream>, path: &str, body: &str, line: &mut String) -> u16 {
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {SECRET}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("the server reads");
    stream.flush().await.expect("the server reads");
    let (mut length, mut status) = (0, 0);
    loop {
        line.clear();
        stream.read_line(line).await.expect("the server answers");
        if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
            status = rest[..3].parse().expect("a status");
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().expect("a length");
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut answer = [0; 4096];
    stream.read_exact(&mut answer[..length]).await.expect("the whole answer");
    status
}

/// What a load came to.
struct Outcome {
    latencies: Vec<Duration>,
    refused: u64,
    elapsed: Duration,
}

/// Runs the connections on one thread; each asks `due` for the next event until it gives none. Latencies from due to
/// answered.
fn load(address: SocketAddr, path: &str, due: impl Fn(Instant) -> Option<(u64, Instant)>) -> Outcome {
    let (latencies, refused, start) = (RefCell::new(Vec::new()), Cell::new(0), Instant::now());
    let connection = |_| async {
        let stream = TcpStream::connect(address).await.expect("the server accepts");
        stream.set_nodelay(true).expect("a socket option");
        let (mut stream, mut line) = (BufStream::new(stream), String::new());
        while let Some((number, at)) = due(start) {
            if at > Instant::now() {
                tokio::time::sleep_until(at.into()).await;
            }
            if post(&mut stream, path, &body(number), &mut line).await == 200 {
                latencies.borrow_mut().push(at.elapsed());
            } else {
                refused.set(refused.get() + 1);
            }
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(join_all((0..CONNECTIONS).map(connection)));
    let mut latencies = latencies.take();
    latencies.sort();
    Outcome { latencies, refused: refused.get(), elapsed: start.elapsed() }
}

impl Outcome {
    fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    fn in_words(&self) -> String {
        let at = |share: f64| {
            let place = ((self.latencies.len() as f64 * share) as usize).min(self.latencies.len() - 1);
            self.latencies[place].as_secs_f64() * 1000.0
        };
        let (p50, p99, max) = (at(0.5), at(0.99), at(1.0));
        format!("{:.0}/s, p50 {p50:.1} ms, p99 {p99:.1} ms, max {max:.1} ms, {} refused", self.rate(), self.refused)
    }
}

/// A process of this bench that serves, with the program's own server, an endpoint that reads a body and drops it: once
/// bare, once as the program's routes are, with a token and all that holds for every route.
struct Dropping {
    process: Child,
    address: SocketAddr,
}

impl Dropping {
    fn start() -> Self {
        let address = free_address();
        let this = std::env::current_exe().expect("the bench's own file");
        let process = Command::new(this).args(["drop", &address.to_string()]).spawn().expect("the server starts");
        await_connection(address);
        Self { process, address }
    }

    /// What the process does; it ends by being killed.
    fn serve(address: &str) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind(address).await.expect("the address is free");
            let dir = tempfile::tempdir().expect("a temporary folder");
            let bare = Router::new().route("/bare", to_post(|body: Bytes| async { drop(body) }));
            let router = bare
                .merge(web::ruled(Router::new().route("/drop", to_post(drop_for_token))).with_state(state(&dir).await));
            web::serve(listener, router, &CancellationToken::new(), web::Limits::default()).await;
        });
    }
}

async fn state(dir: &tempfile::TempDir) -> WebState {
    let mut config = config::with_defaults(&serde_json::json!({"data_dir": dir.path()})).expect("a configuration");
    config.bootstrap.tokens = format!("admin={SECRET}").as_str().into();
    let app = App::open(config, Clock::system()).await.expect("an archive");
    let tokens = app.config.bootstrap.parse().expect("a token");
    app.access.sync_bootstrap(&tokens).await.expect("a token");
    let intake = Intake { journal: app.journal.clone(), clock: app.clock.clone(), spool: None };
    WebState::new(Arc::new(app), telemetry::start_metrics().expect("metrics"), intake)
}

async fn drop_for_token(State(state): State<WebState>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let secret = value.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    drop(body);
    if state.app.access.authenticate(secret).await.is_ok_and(|known| known.is_some()) {
        StatusCode::OK
    } else {
        StatusCode::UNAUTHORIZED
    }
}

impl Drop for Dropping {
    fn drop(&mut self) {
        self.process.kill().expect("the server can be stopped");
        self.process.wait().expect("the server has stopped");
    }
}

/// Waits until all that was taken in can be found, so that the next load has the machine for itself; the seconds.
fn catch_up(server: &Server) -> f64 {
    let start = Instant::now();
    while server.metric("callvault_search_cursor", "") < server.metric("callvault_journal_entries", "") {
        std::thread::sleep(Duration::from_millis(100));
    }
    start.elapsed().as_secs_f64()
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, word, address] = &arguments[..]
        && word == "drop"
    {
        return Dropping::serve(address);
    }
    let (server, dropping) = (Server::start(""), Dropping::start());
    std::thread::sleep(Duration::from_secs(2));
    figure("memory: idle, resident", format!("{} MiB", server.resident()), "below 60 MiB");

    let next = Cell::new(0);
    let number = || next.replace(next.get() + 1);
    let total = RATE * OFFERED.as_secs();
    let offered = load(server.address, "/webhooks/doubletick", |start| {
        let number = number();
        (number < total).then(|| (number, start + Duration::from_micros(number * 1_000_000 / RATE)))
    });
    figure("intake: 1,000 events a second for 30 s", offered.in_words(), "p99 below 50 ms");
    figure("memory: after that, resident", format!("{} MiB", server.resident()), "flat");

    let (mut ours, mut theirs, mut bare, mut shares, mut lags) = (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let fast = |start: Instant| (start.elapsed() < AS_FAST_AS_POSSIBLE).then(|| (number(), Instant::now()));
        bare.push(load(dropping.address, "/bare", fast).rate());
        let dropped = load(dropping.address, "/drop", fast);
        println!("dropped {}", dropped.in_words());
        let durable = load(server.address, "/webhooks/doubletick", fast);
        println!("acknowledged {}", durable.in_words());
        ours.push(durable.rate());
        theirs.push(dropped.rate());
        shares.push(durable.rate() / dropped.rate() * 100.0);
        lags.push(catch_up(&server));
    }
    figure("intake: acknowledged, durable, 64 connections", format!("{:.0}/s", median(ours)), "");
    figure("intake: read and dropped by the same server", format!("{:.0}/s", median(theirs)), "");
    figure("intake: share of that", format!("{:.0} %", median(shares)), "at least 25 %");
    figure("search: takes in the rest of such a flood after", format!("{:.1} s", median(lags)), "");
    figure("intake: read and dropped without token, headers, limits, metrics", format!("{:.0}/s", median(bare)), "");
    figure("memory: after the fastest load, resident", format!("{} MiB", server.resident()), "flat");
}
