//! The real server in this process, on a data directory and with a sender of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use callvault::access::{Access, Identity};
use callvault::app::App;
use callvault::calls::Calls;
use callvault::clock::Clock;
use callvault::config::{self, Config, Flags};
use callvault::db::Db;
use callvault::journal::Journal;
use callvault::objects::ObjectStore;
use callvault::search::SearchHandle;
use callvault::serve::{ServeError, serve};
use futures_util::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::fake_doubletick::{API_KEY, FakeDoubleTick};
use crate::http::{Answer, PATIENCE, client, encoded, eventually};
use crate::{leftovers, pair, process};

/// The archive's clock stands here when a test begins: on the day of the sender's documented samples.
const NOW: &str = "2026-03-09T12:00:00Z";

pub const INGEST: &str = "ingest-secret-of-the-tests";
pub const OFFICER: &str = "officer-secret-of-the-tests";
pub const AUDITOR: &str = "auditor-secret-of-the-tests";
pub const ADMIN: &str = "admin-secret-of-the-tests";

/// A running archive. End it with [`TestApp::finish`], which looks for what was left half-way.
pub struct TestApp {
    pub url: String,
    pub sender: FakeDoubleTick,
    pub client: reqwest::Client,
    dir: TempDir,
    parts: Parts,
    shutdown: CancellationToken,
    server: Option<JoinHandle<Result<(), ServeError>>>,
    jumped: Arc<AtomicI64>,
}

/// Handles that look past the API, for waiting and for what has no route yet.
pub struct Parts {
    pub db: Db,
    pub journal: Journal,
    pub calls: Calls,
    pub access: Access,
    pub search: SearchHandle,
    pub store: Arc<dyn ObjectStore>,
}

/// The tokens of all roles, as `bootstrap.tokens` wants them.
pub fn tokens() -> String {
    format!("ingest={INGEST},officer={OFFICER},auditor={AUDITOR},admin={ADMIN}")
}

/// Writes a configuration file for an archive in `dir` that fetches from `sender`. Settings are dotted keys with TOML
/// values.
pub fn write_config(dir: &Path, sender: &FakeDoubleTick, settings: &[(&str, &str)]) -> PathBuf {
    let quoted = |text: &str| format!("{text:?}");
    let mut all = BTreeMap::from([
        ("listen", quoted("127.0.0.1:0")),
        ("data_dir", quoted(dir.join("data").to_str().unwrap())),
        ("recordings.hosts", format!("[{:?}]", sender.address)),
        ("recordings.api_key", quoted(API_KEY)),
        ("recordings.allow_private_addresses", "true".into()),
        ("recordings.retry_base", quoted("50ms")),
        // The tests' calls last three seconds.
        ("flags.short_call_seconds", "2".into()),
    ]);
    if !settings.iter().any(|(key, _)| *key == "database.url") {
        let destroys = settings.contains(&("retention.disposition", "true"));
        all.extend(pair::settings(dir, destroys));
    }
    all.extend(settings.iter().map(|(key, value)| (*key, (*value).to_owned())));
    let lines: Vec<String> = all.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
    let path = dir.join("callvault-test.toml");
    std::fs::write(&path, lines.concat()).unwrap();
    path
}

/// The machine's clock, set to [`NOW`], and so many seconds further.
fn test_clock(jumped: &Arc<AtomicI64>) -> Clock {
    let (machine, jumped) = (Clock::system(), Arc::clone(jumped));
    let offset = NOW.parse::<Timestamp>().unwrap().duration_since(machine.now());
    Clock::from_fn(move || machine.now() + offset + SignedDuration::from_secs(jumped.load(Ordering::Relaxed)))
}

impl TestApp {
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// An archive with settings of its own.
    pub async fn with(settings: &[(&str, &str)]) -> Self {
        let (dir, sender) = (tempfile::tempdir().unwrap(), FakeDoubleTick::start().await);
        let file = write_config(dir.path(), &sender, settings);
        let config = load(&file, &tokens());
        let jumped = Arc::default();
        let app = App::open(config, test_clock(&jumped)).await.unwrap();
        let parts = Parts::of(&app);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let server = Some(tokio::spawn(serve(app, listener, shutdown.clone())));
        let this = Self { url, sender, client: client(), dir, parts, shutdown, server, jumped };
        eventually("the server serves", || async { (this.get("/readyz").await.status == 200).then_some(()) }).await;
        this
    }

    /// Stops the server and starts another on the same data directory.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.serve_again().await;
    }

    /// Starts another server on the same data directory, once the first is stopped.
    pub async fn serve_again(&mut self) {
        self.serve_with(&tokens()).await;
    }

    /// The same with other bootstrap tokens.
    pub async fn serve_with(&mut self, tokens: &str) {
        let app = App::open(load(&self.config_file(), tokens), test_clock(&self.jumped)).await.unwrap();
        self.parts = Parts::of(&app);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.url = format!("http://{}", listener.local_addr().unwrap());
        self.shutdown = CancellationToken::new();
        self.server = Some(tokio::spawn(serve(app, listener, self.shutdown.clone())));
        eventually("the server serves again", || async { (self.get("/readyz").await.status == 200).then_some(()) })
            .await;
    }

    /// Moves the archive's clock by so many days, forth or back.
    pub fn jump(&self, days: i64) {
        self.jumped.fetch_add(days * 24 * 3600, Ordering::Relaxed);
    }

    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    pub fn config_file(&self) -> PathBuf {
        self.dir.path().join("callvault-test.toml")
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The bytes of an object in the store.
    pub async fn stored(&self, key: &str) -> Vec<u8> {
        read(&*self.parts.store, key).await
    }

    /// The path of an object in a store that is a folder.
    pub fn object(&self, key: &str) -> PathBuf {
        self.data_dir().join("objects").join(key)
    }

    /// A folder for what a test writes.
    pub fn scratch(&self) -> &Path {
        self.dir.path()
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.get_as(AUDITOR, path).await
    }

    pub async fn get_as(&self, secret: &str, path: &str) -> Answer {
        Answer::of(self.client.get(format!("{}{path}", self.url)).bearer_auth(secret)).await
    }

    /// A GET that must go well.
    pub async fn json(&self, path: &str) -> Value {
        self.get(path).await.ok()
    }

    pub async fn post_as(&self, secret: &str, path: &str) -> Answer {
        Answer::of(self.client.post(format!("{}{path}", self.url)).bearer_auth(secret)).await
    }

    /// Posts a webhook's body as it is.
    pub async fn post_body(&self, body: impl Into<reqwest::Body>) -> Answer {
        let url = format!("{}/webhooks/doubletick", self.url);
        Answer::of(self.client.post(url).bearer_auth(INGEST).body(body)).await
    }

    /// Posts a webhook that must be taken; returns its `seq`.
    pub async fn post(&self, event: &Value) -> u64 {
        let answer = self.post_body(event.to_string()).await.ok();
        assert_eq!(answer["quarantined"], Value::Null, "{answer}");
        answer["seq"].as_u64().unwrap()
    }

    /// One call, which must be known.
    pub async fn call(&self, call_id: &str) -> Value {
        self.json(&format!("/api/v1/calls/{}", encoded(call_id))).await
    }

    /// One call, once it is as it should be.
    pub async fn call_when(&self, call_id: &str, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let call = self.call(call_id).await;
            if fits(&call) {
                return call;
            }
            assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}, but {call:#}");
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// One call, once its recording is in a state.
    pub async fn call_in(&self, call_id: &str, state: &str) -> Value {
        let what = format!("the recording is {state}");
        self.call_when(call_id, &what, |call| call["recording"]["state"] == state).await
    }

    /// The search, once it finds so many calls.
    pub async fn found(&self, query: &str, total: u64) -> Value {
        let (path, what) = (format!("/api/v1/calls?{query}"), format!("{query} finds {total} calls"));
        let probe = || async {
            let answer = self.get(&path).await;
            (answer.status == 200 && answer.json()["total"] == total).then(|| answer.json())
        };
        eventually(&what, probe).await
    }

    /// Every entry of the journal as the API shows it.
    pub async fn journal(&self, filter: &str) -> Vec<Value> {
        let (mut entries, mut after) = (Vec::new(), String::new());
        loop {
            let page = self.json(&format!("/api/v1/journal?limit=500{filter}{after}")).await;
            entries.extend(page["entries"].as_array().unwrap().iter().cloned());
            match page["next"].as_u64() {
                Some(next) => after = format!("&after={next}"),
                None => return entries,
            }
        }
    }

    /// Waits until there is nothing left to do: every recording settled and analysed, every flag evaluated, the index
    /// in step.
    pub async fn settle(&self) {
        eventually("everything is settled", || async { self.parts.is_settled().await.then_some(()) }).await;
    }

    /// A session cookie of whoever holds a token.
    pub async fn cookie(&self, name: &str, role: callvault::access::Role) -> String {
        let identity = Identity { name: name.to_owned(), role };
        format!("callvault_session={}", self.parts.access.open_session(&identity).await.unwrap())
    }

    /// Runs the program beside the server, on the same archive.
    pub async fn cli(&self, args: &[&str]) -> Output {
        process::cli(&self.config_file(), args).await
    }

    /// Stops the server, which must end by itself and without an error.
    pub async fn stop(&mut self) {
        self.shutdown.cancel();
        let server = self.server.take().expect("it runs");
        let ended = tokio::time::timeout(Duration::from_secs(10), server).await;
        ended.expect("the server ends within 10 seconds").unwrap().unwrap();
    }

    /// Settles, stops, and checks that nothing was left half-way.
    pub async fn finish(mut self) {
        self.settle().await;
        self.stop().await;
        leftovers::check(load(&self.config_file(), "")).await;
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.shutdown.cancel();
        pair::remove(self.dir.path());
        assert!(self.server.is_none() || std::thread::panicking(), "a TestApp ends with finish().await");
    }
}

/// The bytes of an object.
pub async fn read(store: &dyn ObjectStore, key: &str) -> Vec<u8> {
    let blocks: Vec<bytes::Bytes> = store.get(key, None, None).await.unwrap().try_collect().await.unwrap();
    blocks.concat()
}

/// The configuration of a file.
pub fn load(file: &Path, tokens: &str) -> Config {
    let flags = Flags { config: Some(file.to_owned()), ..Flags::default() };
    let env = [("CALLVAULT_BOOTSTRAP__TOKENS".to_owned(), tokens.to_owned())];
    config::load(&flags, env.into_iter()).unwrap()
}

impl Parts {
    pub fn of(app: &App) -> Self {
        Self {
            db: app.db.clone(),
            journal: app.journal.clone(),
            calls: app.calls.clone(),
            access: app.access.clone(),
            search: app.search.clone(),
            store: Arc::clone(&app.store),
        }
    }

    /// True once there is nothing left to do.
    pub async fn is_settled(&self) -> bool {
        let followers =
            "select min(next_seq) as next_seq, count(*) as n from cursors where name in ('flags', 'retention')";
        let followers = self.db.fetch_one(followers, &[]).await.unwrap();
        let followed = followers.opt_int("next_seq").unwrap().filter(|_| followers.int("n").unwrap() == 2);
        let behind = "select count(*) as n from kept where destroyed_at is null and disposition is null
            and (lock_wanted > locked_until or held <> held_in_store) and lock_wanted is not null";
        let behind = self.db.fetch_one(behind, &[]).await.unwrap().int("n").unwrap();
        let indexed = self.search.searcher().and_then(|searcher| searcher.refresh().map(|()| searcher.cursor()));
        let backlog = self.calls.backlog().await.unwrap();
        let size = self.journal.size().await.unwrap();
        let followed = followed.map(i64::cast_unsigned);
        backlog == (0, 0) && followed == Some(size) && behind == 0 && indexed.is_ok_and(|cursor| cursor == size)
    }
}
