//! What the benches share: the real program in a temporary folder, a client that costs little, and how a figure is printed.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench stops at the first surprise and prints its figures"
)]
#![allow(dead_code, reason = "no bench uses all of it")]

pub mod pair;
pub mod quota;
pub mod recordings;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

pub const SECRET: &str = "a-secret-for-the-benches";

/// Ticks in which the system counts processor time, in a second.
const TICKS: f64 = 100.0;

/// The real program, serving an archive.
pub struct Server {
    process: Child,
    pub address: SocketAddr,
    dir: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

impl Server {
    /// Starts `callvault serve` on a fresh archive with these lines of configuration.
    pub fn start(config: &str) -> Self {
        Self::start_in(config, Vec::new())
    }

    /// The same with variables in its environment.
    pub fn start_in(config: &str, environment: Vec<(String, String)>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(dir.path().join("callvault.toml"), config).expect("the configuration is written");
        let address = free_address();
        let process = serve(&dir, address, &environment);
        Self { process, address, dir, environment }
    }

    /// Ends it in order; [`Server::resume`] starts it again on what it left.
    pub fn stop(&mut self) {
        kill_process(Pid::from_child(&self.process), Signal::TERM).expect("the server can be stopped");
        self.process.wait().expect("the server has stopped");
    }

    pub fn resume(&mut self) {
        self.process = serve(&self.dir, self.address, &self.environment);
    }

    /// A command of the program on the same archive.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = program(&self.dir, &self.environment);
        command.args(args);
        command
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn objects(&self) -> PathBuf {
        self.dir.path().join("data/objects")
    }

    pub fn folder(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// Resident memory in MiB.
    pub fn resident(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The highest resident memory since [`Server::forget_peak`], in MiB.
    pub fn peak(&self) -> u64 {
        self.memory("VmHWM:")
    }

    pub fn forget_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5").expect("the peak can be forgotten");
    }

    fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() / 1024
    }

    /// A metric's value, summed over its labels that contain `label`.
    pub fn metric(&self, name: &str, label: &str) -> f64 {
        let text = String::from_utf8(self.get("/metrics")).expect("text");
        let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// The body of an answer.
    pub fn get(&self, path: &str) -> Vec<u8> {
        let mut body = Vec::new();
        self.read(path, |part| body.extend_from_slice(part));
        body
    }

    /// Streams an answer's body.
    pub fn read(&self, path: &str, mut take: impl FnMut(&[u8])) {
        let mut stream = BufReader::with_capacity(64 * 1024, TcpStream::connect(self.address).expect("it accepts"));
        let head = format!("GET {path} HTTP/1.0\r\nHost: bench\r\nAuthorization: Bearer {SECRET}\r\n\r\n");
        stream.get_mut().write_all(head.as_bytes()).expect("the server reads");
        let mut line = String::new();
        stream.read_line(&mut line).expect("the server answers");
        assert!(line.contains(" 200 "), "{path}: {line}");
        while line != "\r\n" {
            line.clear();
            stream.read_line(&mut line).expect("a whole head");
        }
        let mut block = vec![0; 64 * 1024];
        loop {
            match stream.read(&mut block).expect("a whole body") {
                0 => return,
                read => take(&block[..read]),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have been stopped already.
        let _ = self.process.kill();
        self.process.wait().expect("the server has stopped");
    }
}

fn serve(dir: &tempfile::TempDir, address: SocketAddr, environment: &[(String, String)]) -> Child {
    let process = program(dir, environment)
        .args(["serve", "--listen", &address.to_string()])
        .env("CALLVAULT_BOOTSTRAP__TOKENS", format!("admin={SECRET}"))
        .spawn()
        .expect("the server starts");
    await_connection(address);
    process
}

fn program(dir: &tempfile::TempDir, environment: &[(String, String)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_callvault"));
    command.current_dir(dir.path()).env("CALLVAULT_DATA_DIR", dir.path().join("data")).env("RUST_LOG", "warn");
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command.stdout(Stdio::null());
    command
}

/// Seconds of processor time that a process has used.
pub fn processor_time(pid: u32) -> f64 {
    // utime and stime, of proc_pid_stat(5).
    (times(pid)[0] + times(pid)[1]) / TICKS
}

/// The same for a process with all that it ever started: those that have ended count by what they left to it.
pub fn processor_time_of_all(pid: u32) -> f64 {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|child| child.parse().ok());
    times(pid).iter().sum::<f64>() / TICKS + children.map(processor_time).sum::<f64>()
}

/// utime, stime, cutime and cstime.
fn times(pid: u32) -> [f64; 4] {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let behind_name = stat.rsplit(") ").next().unwrap_or_default();
    let mut fields = behind_name.split(' ').skip(11).filter_map(|field| field.parse().ok());
    [(); 4].map(|()| fields.next().unwrap_or_default())
}

pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

pub fn await_connection(address: SocketAddr) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < deadline, "the server answers");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until something is so.
pub fn await_that(what: &str, limit: Duration, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(25));
    }
}

/// What was asked for behind `--`, without what cargo adds.
pub fn arguments() -> Vec<String> {
    std::env::args().skip(1).filter(|argument| argument != "--bench").collect()
}

/// One line of the table in `docs/PERFORMANCE.md`.
pub fn figure(what: &str, measured: impl std::fmt::Display, demanded: &str) {
    println!("| {what} | {measured} | {demanded} |");
}

/// The middle one of several measurements.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
