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
const MOST_CONNECTIONS: u64 = 4096;
/// How long the head of a request may take. It also ends connections on which nothing is asked.
const HEAD_PATIENCE: Duration = Duration::from_secs(20);
/// Request line and headers together, in bytes: a long search fits.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// What is buffered of a connection, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;
/// How long not one byte of an answer is taken, until nobody is believed to read it.
const UNREAD_PATIENCE: Duration = Duration::from_secs(60);
/// Pause where connections can't be accepted, such as for lack of files.
const PAUSE: Duration = Duration::from_millis(200);

/// Serves until `shutdown`, then lets requests under way finish for as long as `grace`.
pub async fn serve(listener: TcpListener, router: Router, shutdown: &CancellationToken, grace: Duration) {
    let places = Arc::new(Semaphore::new(most_connections()));
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
                let connection = graceful.watch(http().serve_connection(io(stream), service.clone()));
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
    if tokio::time::timeout(grace, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests did not end in time and were broken off");
    }
}

fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(BUFFER_BYTES);
    http
}

fn io(stream: TcpStream) -> TokioIo<std::pin::Pin<Box<TimeoutStream<TcpStream>>>> {
    // Answers are written whole; waiting for more to send would only delay them.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(UNREAD_PATIENCE));
    TokioIo::new(Box::pin(stream))
}

fn most_connections() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(MOST_CONNECTIONS.min(files / 2)).unwrap_or(usize::MAX).max(16)
}

fn is_of_the_other_side(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused)
}
