//! A client that costs little: it posts the bodies of real webhooks over many connections from one thread.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

use super::common::SECRET;

pub const CONNECTIONS: usize = 64;

/// The shape and size of a real CALL_ENDED, of a call of its own.
pub fn body(number: u64) -> String {
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
pub struct Outcome {
    pub latencies: Vec<Duration>,
    refused: u64,
    pub elapsed: Duration,
}

/// Runs the connections on one thread, in turn to each address. Each asks `due` for the next event until it gives none.
/// Latencies from due to answered.
pub fn load(addresses: &[SocketAddr], path: &str, due: impl Fn(Instant) -> Option<(u64, Instant)>) -> Outcome {
    load_over(CONNECTIONS, addresses, path, due)
}

/// [`load`] over so many connections.
pub fn load_over(
    connections: usize,
    addresses: &[SocketAddr],
    path: &str,
    due: impl Fn(Instant) -> Option<(u64, Instant)>,
) -> Outcome {
    let (latencies, refused, start) = (RefCell::new(Vec::new()), Cell::new(0), Instant::now());
    let connection = async |address: SocketAddr| {
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
    let addresses = addresses.iter().cycle().take(connections).copied();
    runtime.block_on(join_all(addresses.map(connection)));
    let mut latencies = latencies.take();
    latencies.sort();
    Outcome { latencies, refused: refused.get(), elapsed: start.elapsed() }
}

impl Outcome {
    pub fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    pub fn in_words(&self) -> String {
        let at = |share: f64| {
            let place = ((self.latencies.len() as f64 * share) as usize).min(self.latencies.len() - 1);
            self.latencies[place].as_secs_f64() * 1000.0
        };
        let (p50, p99, max) = (at(0.5), at(0.99), at(1.0));
        format!("{:.0}/s, p50 {p50:.1} ms, p99 {p99:.1} ms, max {max:.1} ms, {} refused", self.rate(), self.refused)
    }
}
