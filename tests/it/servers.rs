//! Servers of a test's own, that it can stop, kill and hang.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;

/// A PostgreSQL that runs until it is dropped.
pub struct Postgres {
    dir: TempDir,
    port: u16,
}

impl Postgres {
    pub fn start() -> Self {
        let this = Self::new();
        this.resume();
        this
    }

    /// A streaming replica of another.
    pub fn replica_of(primary: &Self) -> Self {
        let this = Self::new();
        this.run("replica", &[&this.port.to_string(), &primary.port.to_string()]);
        this
    }

    fn new() -> Self {
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        // It may run as another user, who has to get through.
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        Self { dir, port }
    }

    /// Runs a statement there; what it gives, as text.
    pub fn sql(&self, statement: &str) -> String {
        let output = Command::new("psql").args(["-qAtXc", statement]).arg(self.url()).output().unwrap();
        assert!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub fn url(&self) -> String {
        format!("postgres://callvault@127.0.0.1:{}/postgres", self.port)
    }

    /// Starts it again.
    pub fn resume(&self) {
        self.script("start");
    }

    /// Ends it in order: every connection is cut.
    pub fn stop(&self) {
        self.script("stop");
    }

    /// Ends it as a crash does.
    pub fn crash(&self) {
        self.script("kill");
    }

    /// It neither answers nor hangs up, until it goes on.
    pub fn hang(&self) {
        self.signal(Signal::STOP);
    }

    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// To the server and to all that serve a connection: each is a process group of its own.
    fn signal(&self, signal: Signal) {
        let file = std::fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        let pid = file.lines().next().unwrap();
        let children = Command::new("pgrep").args(["-P", pid]).output().unwrap();
        for pid in String::from_utf8(children.stdout).unwrap().lines().chain([pid]) {
            let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
            let _ = kill_process_group(pid, signal);
            let _ = kill_process(pid, signal);
        }
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("server/data")
    }

    fn script(&self, action: &str) {
        self.run(action, &[&self.port.to_string()]);
    }

    fn run(&self, action: &str, more: &[&str]) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/postgres.sh");
        let status = Command::new(script).arg(action).arg(self.dir.path().join("server")).args(more).status();
        assert!(status.unwrap().success(), "postgres.sh {action}");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.data().join("postmaster.pid").exists() {
            self.go_on();
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/postgres.sh");
            let _ = Command::new(script).arg("kill").arg(self.dir.path().join("server")).status();
        }
    }
}

/// A port that nobody listens on at the moment.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
