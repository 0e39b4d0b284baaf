//! How fast webhooks are acknowledged durably, over HTTP, by the real program.
//!
//! `cargo bench --bench intake` offers 1,000 events a second for 30 seconds (open loop: an event is due when it is due,
//! whether or not the one before it was answered), then posts as fast as 64 connections can.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench stops at the first surprise and prints its figures"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SECRET: &str = "a-secret-of-the-intake-bench";
const CONNECTIONS: u64 = 64;
const RATE: u64 = 1000;
const OFFERED: Duration = Duration::from_secs(30);
const AS_FAST_AS_POSSIBLE: Duration = Duration::from_secs(10);

struct Server {
    process: Child,
    address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let address = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
        let process = Command::new(env!("CARGO_BIN_EXE_callvault"))
            .args(["serve", "--listen", &address.to_string(), "--data-dir"])
            .arg(dir.path().join("data"))
            .current_dir(dir.path())
            .env("CALLVAULT_BOOTSTRAP__TOKENS", format!("admin={SECRET}"))
            .env("RUST_LOG", "warn")
            .stdout(Stdio::null())
            .spawn()
            .expect("the server starts");
        let server = Self { process, address, _dir: dir };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "the server answers");
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    /// Resident memory in MiB.
    fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() / 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().expect("the server can be stopped");
        self.process.wait().expect("the server has stopped");
    }
}

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

/// Posts one event on an open connection and waits for its acknowledgement.
fn post(stream: &mut BufReader<TcpStream>, path: &str, body: &str) -> u16 {
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {SECRET}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.get_mut().write_all(request.as_bytes()).expect("the server reads");
    let (mut line, mut length, mut status) = (String::new(), 0, 0);
    loop {
        line.clear();
        stream.read_line(&mut line).expect("the server answers");
        if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
            status = rest[..3].parse().expect("a status");
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        if line == "\r\n" {
            break;
        }
    }
    stream.read_exact(&mut vec![0; length]).expect("the whole answer");
    status
}

fn connect(address: SocketAddr) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(address).expect("the server accepts");
    stream.set_nodelay(true).expect("a socket option");
    BufReader::new(stream)
}

/// Runs `CONNECTIONS` threads; each asks `due` for the next event until it gives none. Latencies from due to answered.
fn load(
    address: SocketAddr,
    due: impl Fn(Instant) -> Option<(u64, Instant)> + Send + Sync + 'static,
) -> (Vec<Duration>, u64) {
    let (due, latencies, refused) = (Arc::new(due), Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU64::new(0)));
    let start = Instant::now();
    let threads: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (due, latencies, refused) = (Arc::clone(&due), Arc::clone(&latencies), Arc::clone(&refused));
            std::thread::spawn(move || {
                let (mut stream, mut own) = (connect(address), Vec::new());
                while let Some((number, at)) = due(start) {
                    std::thread::sleep(at.saturating_duration_since(Instant::now()));
                    if post(&mut stream, "/webhooks/doubletick", &body(number)) == 200 {
                        own.push(at.elapsed());
                    } else {
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
                latencies.lock().expect("no thread panicked").extend(own);
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("a thread of the load");
    }
    let mut latencies = std::mem::take(&mut *latencies.lock().expect("no thread panicked"));
    latencies.sort();
    (latencies, refused.load(Ordering::Relaxed))
}

fn report(name: &str, latencies: &[Duration], refused: u64, elapsed: Duration) {
    let at = |share: f64| latencies.get(((latencies.len() as f64 * share) as usize).min(latencies.len() - 1));
    let ms = |share| at(share).map_or(0.0, |latency| latency.as_secs_f64() * 1000.0);
    println!(
        "{name}: {} acknowledged, {refused} refused, {:.0}/s, p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        latencies.len(),
        latencies.len() as f64 / elapsed.as_secs_f64(),
        ms(0.5),
        ms(0.99),
        ms(1.0)
    );
}

fn main() {
    let server = Server::start();
    std::thread::sleep(Duration::from_secs(2));
    println!("idle: {} MiB resident", server.resident());

    let (next, total) = (AtomicU64::new(0), RATE * OFFERED.as_secs());
    let begin = Instant::now();
    let (latencies, refused) = load(server.address, move |start| {
        let number = next.fetch_add(1, Ordering::Relaxed);
        (number < total).then(|| (number, start + Duration::from_micros(number * 1_000_000 / RATE)))
    });
    report("1,000 a second", &latencies, refused, begin.elapsed());
    println!("after it: {} MiB resident", server.resident());

    let next = AtomicU64::new(total);
    let begin = Instant::now();
    let (latencies, refused) = load(server.address, move |start| {
        (start.elapsed() < AS_FAST_AS_POSSIBLE).then(|| (next.fetch_add(1, Ordering::Relaxed), Instant::now()))
    });
    report("as fast as possible", &latencies, refused, begin.elapsed());
    println!("after it: {} MiB resident", server.resident());
}
