//! The program itself, as a process that can be killed, and its commands.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use callvault::app::App;
use callvault::clock::Clock;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::app::{self, AUDITOR, INGEST, Parts};
use crate::fake_doubletick::FakeDoubleTick;
use crate::http::{Answer, client, encoded, eventually};
use crate::leftovers;

/// The program with an environment of its own: nothing of ours leaks in.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_callvault"));
    command.env_clear().env("RUST_LOG", "warn").stdin(Stdio::null());
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

/// An archive served by the program.
pub struct ProcessApp {
    pub sender: FakeDoubleTick,
    pub client: reqwest::Client,
    pub url: String,
    dir: TempDir,
    child: Option<Child>,
}

impl ProcessApp {
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    pub async fn with(settings: &[(&str, &str)]) -> Self {
        let (dir, sender) = (tempfile::tempdir().unwrap(), FakeDoubleTick::start().await);
        app::write_config(dir.path(), &sender, settings);
        let mut this = Self { sender, client: client(), url: String::new(), dir, child: None };
        this.serve().await;
        this
    }

    /// Starts the server, which must not run.
    pub async fn serve(&mut self) {
        let log = File::options().append(true).create(true).open(self.log_file()).unwrap();
        let mut command = program();
        command.arg("--config").arg(self.config_file()).arg("serve").current_dir(self.dir.path());
        command.env("CALLVAULT_BOOTSTRAP__TOKENS", app::tokens()).env("RUST_LOG", "debug,sqlx=info");
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let holder = format!("process {} at ", child.id());
        assert!(self.child.replace(child).is_none(), "it runs already");
        // The lock file tells who serves, and where.
        let lock = self.data_dir().join("serve.lock");
        let address = || async {
            let text = std::fs::read_to_string(&lock).ok()?;
            let address = text.strip_suffix('\n')?.strip_prefix(&holder)?;
            // Before it listens it holds the lock for a moment already.
            address.starts_with("http://").then(|| address.to_owned())
        };
        self.url = eventually("the server starts", address).await;
        let ready = || async {
            let answer = self.client.get(format!("{}/readyz", self.url)).send().await;
            answer.is_ok_and(|answer| answer.status() == 200).then_some(())
        };
        eventually("the server is ready", ready).await;
    }

    pub fn config_file(&self) -> PathBuf {
        self.dir.path().join("callvault-test.toml")
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
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

    pub async fn json(&self, path: &str) -> Value {
        self.get(path).await.ok()
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

    pub async fn cli(&self, args: &[&str]) -> Output {
        cli(&self.config_file(), args).await
    }

    /// The server's process.
    pub fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("it runs"))
    }

    /// Kills the server where it stands.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }

    /// Asks the server to stop, and tells how it ended within 10 seconds.
    pub async fn terminate(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let pid = Pid::from_child(&child);
        kill_process(pid, Signal::TERM).unwrap();
        let mut ended = None;
        for _ in 0..400 {
            ended = child.try_wait().unwrap();
            if ended.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        let _ = child.kill();
        ended.expect("the server ends within 10 seconds")
    }

    /// Waits until there is nothing left to do.
    pub async fn settle(&self) {
        let app = App::open_existing(app::load(&self.config_file(), ""), Clock::system()).await.unwrap();
        let parts = Parts::of(&app);
        eventually("everything is settled", || async { parts.is_settled().await.then_some(()) }).await;
        app.db.close().await;
    }

    /// Settles, stops the server, and checks that nothing was left half-way.
    pub async fn finish(mut self) {
        self.settle().await;
        assert_eq!(self.terminate().await.code(), Some(0));
        leftovers::check(app::load(&self.config_file(), "")).await;
    }
}

impl Drop for ProcessApp {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
            assert!(std::thread::panicking(), "a ProcessApp ends with finish().await");
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().filter(|line| !line.contains(" DEBUG ")).take(40).collect();
            eprintln!("the end of its log:\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
    }
}
