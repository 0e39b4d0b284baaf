//! What intake is compared with: the same server, with endpoints that read a body and drop it.

use std::net::SocketAddr;
use std::process::{Child, Command};
use std::sync::Arc;

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
use tokio_util::sync::CancellationToken;

use super::common::{SECRET, await_connection, free_address};

/// A process of this bench that serves, with the program's own server, an endpoint that reads a body and drops it: once
/// bare, once as the program's routes are, with a token and all that holds for every route.
pub struct Dropping {
    process: Child,
    pub address: SocketAddr,
}

impl Dropping {
    pub fn start() -> Self {
        let address = free_address();
        let this = std::env::current_exe().expect("the bench's own file");
        let process = Command::new(this).args(["drop", &address.to_string()]).spawn().expect("the server starts");
        await_connection(address);
        Self { process, address }
    }

    /// What the process does; it ends by being killed.
    pub fn serve(address: &str) {
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
