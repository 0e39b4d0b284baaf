//! The program itself, as a process that can be killed, and its commands.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use callvault::app::App;
use callvault::clock::Clock;
use callvault::config::Config;
use futures_util::TryStreamExt;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::app::{self, AUDITOR, INGEST, Parts};
use crate::fake_doubletick::FakeDoubleTick;
use crate::http::{Answer, PATIENCE, client, encoded, eventually};
use crate::place::Place;
use crate::{leftovers, pair};

/// The program with an environment of its own: nothing of ours leaks in but the S3 server's credentials.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_callvault"));
    command.env_clear().env("RUST_LOG", "warn").stdin(Stdio::null());
    // What an archive in a bucket takes from its environment; others don't look at it.
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
        if let Ok(value) = std::env::var(name) {
            command.env(name, value);
        }
    }
    // There is no role to be asked for, and asking takes its time.
    command.env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

/// Runs a command on the archive of a configuration file.
pub async fn cli(config: &Path, args: &[&str]) -> Output {
    let mut command = program();
    command.arg("--config").arg(config).args(args).current_dir(config.parent().unwrap());
    run(command).await
}

/// Runs a command to its end.
pub async fn run(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The standard output of a command that must end with a code.
#[track_caller]
pub fn ended_with(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{}{}", stdout(output), stderr(output));
    stdout(output)
}

/// Kills a server while others still talk to it; [`ProcessApp::kill`] then takes note.
pub fn kill_now(pid: Pid) {
    kill_process(pid, Signal::KILL).unwrap();
}

/// How far a server came that was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Ready,
    Ended(ExitStatus),
    /// It runs and is not ready.
    Stuck,
}

/// An archive served by the program.
pub struct ProcessApp {
    pub sender: FakeDoubleTick,
    pub client: reqwest::Client,
    pub url: String,
    dir: TempDir,
    child: Option<Child>,
    log_filter: &'static str,
    place: Place,
    kept: bool,
}

impl ProcessApp {
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    pub async fn with(settings: &[(&str, &str)]) -> Self {
        let mut this = Self::stopped(settings).await;
        this.serve().await;
        this
    }

    /// The same with a `RUST_LOG` of its own, and with more hosts to fetch from than the sender's.
    pub async fn fetching_from(log_filter: &'static str, hosts: &[&str], settings: &[(&str, &str)]) -> Self {
        let mut this = Self::stopped(&[]).await;
        let hosts = format!("{:?}", [&[this.sender.address.as_str()], hosts].concat());
        let settings = [settings, &[("recordings.hosts", &hosts)]].concat();
        app::write_config(this.dir.path(), &this.sender, &settings);
        this.log_filter = log_filter;
        this.serve().await;
        this
    }

    /// An archive that nobody serves yet.
    pub async fn stopped(settings: &[(&str, &str)]) -> Self {
        let (dir, sender) = (tempfile::tempdir().unwrap(), FakeDoubleTick::start().await);
        app::write_config(dir.path(), &sender, settings);
        let (url, log_filter, place) = (String::new(), "debug,sqlx=info", Place::Here);
        Self { sender, client: client(), url, dir, child: None, log_filter, place, kept: false }
    }

    /// Leaves everything behind where the test fails: what took hundreds of rounds can't be had again easily.
    pub fn keep_where_it_fails(&mut self) {
        self.kept = true;
    }

    /// Has the server run in another place, as far as mounts go. It must not run yet.
    pub fn live_in(&mut self, place: Place) {
        self.place = place;
    }

    /// Starts the server, which must not run.
    pub async fn serve(&mut self) {
        let started = self.try_serve("").await;
        assert_eq!(started, Start::Ready, "{}", self.log());
    }

    /// Starts the server with faults in the language of the crate `fail`, and tells how far it came.
    pub async fn try_serve(&mut self, faults: &str) -> Start {
        let log = File::options().append(true).create(true).open(self.log_file()).unwrap();
        let mut command = self.place.enter(program());
        command.arg("--config").arg(self.config_file()).arg("serve").current_dir(self.dir.path());
        command.env("CALLVAULT_BOOTSTRAP__TOKENS", app::tokens()).env("RUST_LOG", self.log_filter);
        if !faults.is_empty() {
            command.env("FAILPOINTS", faults);
        }
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let holder = format!("process {} at http://", child.id());
        assert!(self.child.replace(child).is_none(), "it runs already");
        // The lock file tells who serves, and where. Before it listens it holds the lock for a moment already.
        let lock = self.data_dir().join("serve.lock");
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if let Some(status) = self.ended() {
                return Start::Ended(status);
            }
            let text = std::fs::read_to_string(&lock).unwrap_or_default();
            if let Some(address) = text.strip_suffix('\n').and_then(|text| text.strip_prefix(&holder)) {
                self.url = format!("http://{address}");
                let answer = self.client.get(format!("{}/readyz", self.url)).send().await;
                if answer.is_ok_and(|answer| answer.status() == 200) {
                    return Start::Ready;
                }
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        Start::Stuck
    }

    pub fn is_running(&mut self) -> bool {
        self.ended().is_none() && self.child.is_some()
    }

    /// How the server ended, if it did; told once.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().unwrap()?;
        self.child = None;
        Some(status)
    }

    pub fn config_file(&self) -> PathBuf {
        self.dir.path().join("callvault-test.toml")
    }

    /// Its data directory, as this process sees it.
    pub fn data_dir(&self) -> PathBuf {
        self.place.path(&self.dir.path().join("data"))
    }

    fn config(&self) -> Config {
        app::load(&self.config_file(), "")
    }

    /// A number out of the metrics; 0 where it is not there yet.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").await.text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Everything that is kept: the database, and the objects where they do not lie in the data directory.
    pub async fn contents(&self) -> Vec<(String, Vec<u8>)> {
        if !pair::is_shared() {
            return vec![("the database".into(), std::fs::read(self.data_dir().join("callvault.db")).unwrap())];
        }
        let mut contents = vec![("the database".into(), pair::dump(self.dir.path()))];
        let store = callvault::objects::open(&self.config()).await.unwrap();
        let kept: Vec<_> = store.list("").await.unwrap().try_collect().await.unwrap();
        for listed in kept {
            contents.push((format!("object {}", listed.key), app::read(&*store, &listed.key).await));
        }
        contents
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("log.txt")
    }

    /// Everything that the server has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap()
    }

    pub async fn get(&self, path: &str) -> Answer {
        Answer::of(self.client.get(format!("{}{path}", self.url)).bearer_auth(AUDITOR)).await
    }

    /// A GET that must go well, again where a part is out of reach for a moment.
    pub async fn json(&self, path: &str) -> Value {
        let probe = || async {
            let answer = self.get(path).await;
            (answer.status != 503).then(|| answer.ok())
        };
        eventually(path, probe).await
    }

    /// Posts a webhook; `None` where no answer came, and so nothing is acknowledged.
    pub async fn try_post(&self, body: String) -> Option<u64> {
        let request = self.client.post(format!("{}/webhooks/doubletick", self.url)).bearer_auth(INGEST).body(body);
        let answer = request.send().await.ok()?;
        let (status, text) = (answer.status(), answer.text().await.ok()?);
        if status != 200 {
            assert_eq!(status, 503, "{text}");
            return None;
        }
        serde_json::from_str::<Value>(&text).unwrap()["seq"].as_u64()
    }

    pub async fn post(&self, event: &Value) -> u64 {
        self.try_post(event.to_string()).await.expect("it is acknowledged")
    }

    pub async fn call_in(&self, call_id: &str, state: &str) -> Value {
        let path = format!("/api/v1/calls/{}", encoded(call_id));
        let probe = || async {
            let call = self.json(&path).await;
            (call["recording"]["state"] == state).then_some(call)
        };
        eventually(&format!("the recording of {call_id} is {state}"), probe).await
    }

    /// Runs a command where the server lives.
    pub async fn cli(&self, args: &[&str]) -> Output {
        let mut command = self.place.enter(program());
        command.arg("--config").arg(self.config_file()).args(args).current_dir(self.dir.path());
        run(command).await
    }

    /// The server's process.
    pub fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("it runs"))
    }

    /// Kills the server where it stands, if it still does.
    pub fn kill_if_running(&mut self) {
        if self.is_running() {
            self.kill();
        }
    }

    /// Kills the server where it stands.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }

    /// The webhooks in the journal, byte for byte, by their numbers.
    pub async fn journaled(&self) -> BTreeMap<u64, Vec<u8>> {
        let mut bodies = BTreeMap::new();
        for kind in ["webhook.received", "webhook.quarantined"] {
            let mut after = String::new();
            loop {
                let page = self.json(&format!("/api/v1/journal?limit=500&kind={kind}{after}")).await;
                for entry in page["entries"].as_array().unwrap() {
                    let body = STANDARD.decode(entry["body_bytes"].as_str().unwrap()).unwrap();
                    bodies.insert(entry["entry"]["seq"].as_u64().unwrap(), body);
                }
                match page["next"].as_u64() {
                    Some(next) => after = format!("&after={next}"),
                    None => break,
                }
            }
        }
        bodies
    }

    /// Asks the server to stop, and tells how it ended within 10 seconds.
    pub async fn terminate(&mut self) -> ExitStatus {
        kill_process(self.pid(), Signal::TERM).unwrap();
        let (asked, mut ended) = (Instant::now(), None);
        while ended.is_none() && asked.elapsed() < Duration::from_secs(10) {
            tokio::time::sleep(Duration::from_millis(25)).await;
            ended = self.ended();
        }
        ended.expect("the server ends within 10 seconds")
    }

    /// Waits until there is nothing left to do.
    pub async fn settle(&self) {
        assert!(self.settled_within(PATIENCE).await, "everything is settled within {PATIENCE:?}");
    }

    /// Whether there is nothing left to do, now or within some time.
    pub async fn settled_within(&self, patience: Duration) -> bool {
        if matches!(self.place, Place::Apart(_)) {
            return self.settled_apart(patience).await;
        }
        let app = App::open_existing(self.config(), Clock::system()).await.unwrap();
        let (parts, started) = (Parts::of(&app), Instant::now());
        let mut settled = parts.is_settled().await;
        while !settled && started.elapsed() < patience {
            tokio::time::sleep(Duration::from_millis(50)).await;
            settled = parts.is_settled().await;
        }
        app.db.close().await;
        settled
    }

    /// Waits until the server itself searches in what another process can see already.
    pub async fn shows_all(&self) {
        let shown = || async {
            let entries = self.metric("callvault_journal_entries").await;
            (self.metric("callvault_search_cursor").await == entries).then_some(())
        };
        eventually("the server shows all that is journaled", shown).await;
    }

    /// The same by what the server says of itself: neither database nor index can be opened through another's root.
    async fn settled_apart(&self, patience: Duration) -> bool {
        let started = Instant::now();
        loop {
            let entries = self.metric("callvault_journal_entries").await;
            let work = ["callvault_recordings_pending", "callvault_recordings_unanalysed"];
            let settled = self.metric(work[0]).await + self.metric(work[1]).await == 0.0
                && self.metric("callvault_search_cursor").await == entries
                && self.metric("callvault_journal_entries").await == entries;
            if settled || started.elapsed() > patience {
                return settled;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Settles, stops the server, and checks that nothing was left half-way.
    pub async fn finish(mut self) {
        self.settle().await;
        let told = self.log().len();
        assert_eq!(self.terminate().await.code(), Some(0));
        let last = self.log()[told..].to_owned();
        let failed = |line: &&str| line.contains("ended by itself") || line.contains("panicked");
        assert_eq!(last.lines().find(failed), None, "an ordinary end is no failure");
        let mut config = self.config();
        if matches!(self.place, Place::Apart(_)) {
            // At rest, a copy is as good.
            let copy = self.dir.path().join("copy");
            let copied = Command::new("cp").arg("-a").arg(self.data_dir()).arg(&copy).status().unwrap();
            assert!(copied.success());
            config.data_dir = copy;
        }
        leftovers::check(config).await;
    }
}

impl Drop for ProcessApp {
    fn drop(&mut self) {
        if self.kept && std::thread::panicking() {
            self.dir.disable_cleanup(true);
            eprintln!("kept to be looked at: {}", self.dir.path().display());
        }
        let child = self.child.take().map(|mut child| {
            let _ = child.kill();
            let _ = child.wait();
        });
        pair::remove(self.dir.path());
        if child.is_some() {
            assert!(std::thread::panicking(), "a ProcessApp ends with finish().await");
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().filter(|line| !line.contains(" DEBUG ")).take(40).collect();
            eprintln!("the end of its log:\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
    }
}
