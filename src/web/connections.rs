//! Accepts connections and bounds what each may cost: how many there are, how long a request's head may take, how
//! large it may be, and how long an answer may wait for somebody who does not read it.
//!
//! How long a request's *body* may take is bounded where bodies are read (`body.rs`): only who may post is read at all.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;

/// Connections at the same time, where the process may open twice as many files; else half of those.
const MOST_CONNECTIONS: u64 = 2048;
/// Request line and headers together, in bytes. A call is asked for by its id, which a sender may have made long; an
/// address itself ends at 64 KiB.
const MAX_HEAD_BYTES: usize = 72 * 1024;
/// What is buffered of a connection, in bytes.
const BUFFER_BYTES: usize = 80 * 1024;
/// Pause where connections can't be accepted, such as for lack of files.
const PAUSE: Duration = Duration::from_millis(200);

/// What connections may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long the head of a request may take. It also ends connections on which nothing is asked.
    pub head: Duration,
    /// How long not one byte of an answer is taken, until nobody is believed to read it.
    pub unread: Duration,
    /// How long requests may take to finish once the server is told to stop.
    pub grace: Duration,
    /// At the same time; who comes then waits.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        // With the grace, a stop stays below ten seconds.
        Self { head: seconds(20), unread: seconds(60), grace: seconds(6), connections: most_connections() }
    }
}

/// Serves until `shutdown`, then lets requests under way finish for a while.
pub async fn serve(listener: TcpListener, router: Router, shutdown: &CancellationToken, limits: Limits) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let (graceful, mut open) = (GracefulShutdown::new(), JoinSet::new());
    let service = TowerToHyperService::new(router);
    loop {
        let next = async {
            // While all places are taken, who comes next waits in the system's queue.
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = shutdown.cancelled() => break,
            next = next => next,
        };
        while open.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                let connection = graceful.watch(http(limits).serve_connection(io(stream, limits), service.clone()));
                open.spawn(async move {
                    // What goes wrong on a connection is the other side's affair: it hung up, or was too slow.
                    let _ = connection.await;
                    drop(place);
                });
            }
            Err(error) if is_of_the_other_side(error.kind()) => {}
            Err(error) => {
                tracing::error!(%error, "connections can't be accepted; trying again: raise the limit of open files");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(limits.grace, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests did not end in time and were broken off");
    }
}

fn http(limits: Limits) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(BUFFER_BYTES);
    http
}

fn io(stream: TcpStream, limits: Limits) -> TokioIo<std::pin::Pin<Box<TimeoutStream<TcpStream>>>> {
    // Answers are written whole; waiting for more to send would only delay them.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.unread));
    TokioIo::new(Box::pin(stream))
}

fn most_connections() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(MOST_CONNECTIONS.min(files / 2)).unwrap_or(usize::MAX).max(16)
}

fn is_of_the_other_side(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use axum::body::Body;
    use axum::routing::get;
    use bytes::Bytes;
    use futures_util::{StreamExt, stream};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const SHORT: Limits = Limits {
        head: Duration::from_millis(300),
        unread: Duration::from_millis(300),
        grace: Duration::from_millis(600),
        connections: 3,
    };
    const HELLO: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    struct Server {
        address: std::net::SocketAddr,
        stop: CancellationToken,
        ended: tokio::task::JoinHandle<()>,
    }

    async fn server() -> Server {
        let endless =
            || async { Body::from_stream(stream::repeat(Bytes::from(vec![0; 64 << 10])).map(Ok::<_, std::io::Error>)) };
        let hangs = || std::future::pending::<()>();
        let router = Router::new().route("/", get(|| async { "hello" })).route("/endless", get(endless));
        let router = router.route("/hangs", get(hangs));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let stopped = stop.clone();
        let ended = tokio::spawn(async move { serve(listener, router, &stopped, SHORT).await });
        Server { address, stop, ended }
    }

    impl Server {
        async fn send(&self, text: &str) -> TcpStream {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
            stream
        }

        /// The status of the answer.
        async fn ask(&self, text: &str) -> String {
            let (mut stream, mut answer) = (self.send(text).await, [0; 12]);
            stream.read_exact(&mut answer).await.unwrap();
            String::from_utf8_lossy(&answer[9..]).into_owned()
        }

        async fn end(self) -> Duration {
            let start = Instant::now();
            self.stop.cancel();
            self.ended.await.unwrap();
            start.elapsed()
        }
    }

    /// How long it took until the server hung up.
    async fn hung_up(mut stream: TcpStream) -> Duration {
        let (start, mut rest) = (Instant::now(), Vec::new());
        let _ = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await.unwrap();
        start.elapsed()
    }

    #[tokio::test]
    async fn a_head_has_to_come_in_time_and_be_small() {
        let server = server().await;
        for head in ["", "GET / HT", "GET / HTTP/1.1\r\nHost: x\r\nX-A: ", HELLO] {
            let took = hung_up(server.send(head).await).await;
            assert!(took >= SHORT.head && took < Duration::from_secs(5), "{head:?}: {took:?}");
        }
        assert_eq!(server.ask(HELLO).await, "200");
        let long = format!("GET / HTTP/1.1\r\nHost: x\r\nX-A: {}\r\n\r\n", "a".repeat(MAX_HEAD_BYTES));
        assert_eq!(server.ask(&long).await, "431");
        let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "a: b\r\n".repeat(200));
        assert_eq!(server.ask(&many).await, "431");
        assert!(server.end().await < SHORT.grace);
    }

    #[tokio::test]
    async fn who_waits_is_served_once_a_place_is_free() {
        let server = server().await;
        let mut slow = Vec::new();
        for _ in 0..SHORT.connections {
            slow.push(server.send("GET / HT").await);
        }
        let start = Instant::now();
        assert_eq!(server.ask(HELLO).await, "200");
        assert!(start.elapsed() >= SHORT.head / 2, "all places were taken: {:?}", start.elapsed());
        drop(slow);
        server.end().await;
    }

    #[tokio::test]
    async fn an_answer_that_nobody_reads_is_broken_off() {
        let server = server().await;
        let mut readers = Vec::new();
        for _ in 0..SHORT.connections {
            readers.push(server.send("GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").await);
        }
        // They hold every place until they are given up.
        let asked = tokio::time::timeout(Duration::from_secs(10), server.ask(HELLO)).await;
        assert_eq!(asked.unwrap(), "200");
        drop(readers);
        server.end().await;
    }

    #[tokio::test]
    async fn nobody_holds_up_a_stop() {
        let server = server().await;
        let hanging = [server.send("GET /hangs HTTP/1.1\r\nHost: x\r\n\r\n").await, server.send("GET / HT").await];
        tokio::time::sleep(Duration::from_millis(100)).await;
        let took = server.end().await;
        assert!(took < SHORT.grace * 3, "{took:?}");
        for stream in hanging {
            assert!(hung_up(stream).await < Duration::from_secs(1));
        }
    }
}
