//! PostgreSQL and an S3 server with Object Lock, started for a bench and stopped after it.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, RequestChecksumCalculation};
use aws_smithy_http_client::{Builder, tls};

use super::{Server, free_address, processor_time_of_all};

/// What stands before the figures of this pair.
pub const PAIR: &str = "PostgreSQL + S3";

fn script(name: &str) -> Command {
    Command::new(format!("{}/tests/servers/{name}.sh", env!("CARGO_MANIFEST_DIR")))
}

/// A PostgreSQL with its own defaults: every commit is on the disk before it is answered.
pub struct Postgres {
    dir: tempfile::TempDir,
    address: SocketAddr,
}

impl Postgres {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        // It may run as another user, who has to get through.
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).expect("a folder of our own");
        let this = Self { dir, address: free_address() };
        let started = script("postgres").arg("start").arg(this.folder()).arg(this.address.port().to_string()).status();
        assert!(started.is_ok_and(|status| status.success()), "PostgreSQL starts: it needs the package postgresql");
        this
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("postgres")
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgres://callvault@{}/{database}", self.address)
    }

    /// Makes a database; its address.
    pub fn database(&self, name: &str) -> String {
        self.ask("postgres", &format!("create database {name}"));
        self.url(name)
    }

    /// What a statement gives, as text.
    pub fn ask(&self, database: &str, sql: &str) -> String {
        let output = Command::new("psql").arg(self.url(database)).args(["-XqAtc", sql]).output().expect("psql runs");
        assert!(output.status.success(), "{sql}: {output:?}");
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    /// Seconds of processor time of all its processes.
    pub fn processor_time(&self) -> f64 {
        let pid = std::fs::read_to_string(self.folder().join("data/postmaster.pid")).expect("it runs");
        let pid = pid.lines().next().and_then(|line| line.parse().ok());
        processor_time_of_all(pid.expect("the number of a process"))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = script("postgres").arg("kill").arg(self.folder()).status();
    }
}

/// A gateway of Ceph over a store in memory, with an empty bucket that has Object Lock.
pub struct S3 {
    dir: tempfile::TempDir,
    /// What its clients find in their environment.
    pub environment: Vec<(String, String)>,
}

pub const BUCKET: &str = "bench";

impl S3 {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut this = Self { dir, environment: Vec::new() };
        let told = script("s3").arg("start").arg(this.folder()).output().expect("the script runs");
        let told = String::from_utf8(told.stdout).expect("text");
        let pairs = told.split_whitespace().filter_map(|word| word.split_once('='));
        this.environment = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        assert!(!this.environment.is_empty(), "the S3 server starts: it needs radosgw, ceph-mon, ceph-osd");
        this.make_bucket();
        this
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("s3")
    }

    fn told(&self, name: &str) -> &str {
        &self.environment.iter().find(|(known, _)| known == name).expect("the script tells it").1
    }

    pub fn endpoint(&self) -> &str {
        self.told("S3_ENDPOINT")
    }

    fn make_bucket(&self) {
        let http = Builder::new().tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring));
        let (id, secret) = (self.told("AWS_ACCESS_KEY_ID"), self.told("AWS_SECRET_ACCESS_KEY"));
        let settings = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http.build_https())
            .credentials_provider(Credentials::new(id, secret, None, None, "bench"))
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .region(Region::new("us-east-1"))
            .endpoint_url(self.endpoint())
            .force_path_style(true);
        let client = Client::from_conf(settings.build());
        let bucket = client.create_bucket().bucket(BUCKET).object_lock_enabled_for_bucket(true);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(bucket.send()).expect("a bucket");
    }

    /// Seconds of processor time of the gateway and of what is behind it.
    pub fn processor_time(&self) -> f64 {
        let pid = |name| {
            let pid = std::fs::read_to_string(self.folder().join(name)).expect("it runs");
            pid.trim().parse().expect("the number of a process")
        };
        ["gateway.pid", "osd.pid", "mon.pid"].into_iter().map(pid).map(super::processor_time).sum()
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = script("s3").arg("stop").arg(self.folder()).status();
    }
}

/// Starts a node on a database and the bucket.
pub fn node(database: &str, s3: &S3, more: &str) -> Server {
    let storage = format!(
        "[database]\nurl = {database:?}\n[storage]\nkind = \"s3\"\n[storage.s3]\nbucket = {BUCKET:?}\nendpoint = {:?}\n\
         force_path_style = true\n",
        s3.endpoint()
    );
    Server::start_in(&format!("{storage}{more}"), s3.environment.clone())
}
