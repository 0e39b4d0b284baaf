//! The S3 server that `make test` starts (`tests/servers/s3.sh`), seen past the store: by a plain client, and as processes
//! that can be stopped.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Region, RequestChecksumCalculation};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{BucketVersioningStatus, ObjectLockMode, VersioningConfiguration};
use aws_smithy_http_client::{Builder, tls};
use callvault::config::{ObjectLock, S3};
use callvault::objects::S3Store;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use crate::http::eventually;

pub fn endpoint() -> String {
    std::env::var("S3_ENDPOINT").expect("S3_ENDPOINT names an S3 server: run make test")
}

/// The configuration file of the cluster behind the server.
fn cluster() -> String {
    std::env::var("S3_CEPH_CONF").expect("S3_CEPH_CONF names the cluster: run make test")
}

/// A bucket of a test's own, and a client that knows nothing of the store.
pub struct Bucket {
    pub name: String,
    pub client: Client,
    pub endpoint: String,
}

impl Bucket {
    /// With Object Lock, as an archive wants it.
    pub async fn locked() -> Self {
        let bucket = Self::nowhere(endpoint()).await;
        bucket.make().await;
        bucket
    }

    /// Neither locks nor versions.
    pub async fn plain() -> Self {
        let bucket = Self::nowhere(endpoint()).await;
        bucket.client.create_bucket().bucket(&bucket.name).send().await.unwrap();
        bucket
    }

    /// Versions and no locks.
    pub async fn versioned() -> Self {
        let bucket = Self::plain().await;
        let on = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        bucket.client.put_bucket_versioning().bucket(&bucket.name).versioning_configuration(on).send().await.unwrap();
        bucket
    }

    /// The name of a bucket that nobody made.
    pub async fn nowhere(endpoint: String) -> Self {
        Self::named(&format!("t-{}", uuid::Uuid::now_v7()), endpoint)
    }

    /// The bucket itself, with Object Lock.
    pub async fn make(&self) {
        self.client.create_bucket().bucket(&self.name).object_lock_enabled_for_bucket(true).send().await.unwrap();
    }

    /// A bucket that may be there.
    pub fn named(name: &str, endpoint: String) -> Self {
        let http = Builder::new().tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring));
        let settings = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http.build_https())
            .credentials_provider(aws_config::environment::EnvironmentVariableCredentialsProvider::new())
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .region(Region::new("us-east-1"))
            .endpoint_url(&endpoint)
            .force_path_style(true);
        Self { name: name.to_owned(), client: Client::from_conf(settings.build()), endpoint }
    }

    pub fn settings(&self) -> S3 {
        S3 {
            bucket: self.name.clone(),
            prefix: String::new(),
            region: "us-east-1".into(),
            endpoint: self.endpoint.clone(),
            force_path_style: true,
            object_lock: ObjectLock::Compliance,
        }
    }

    pub async fn store(&self) -> S3Store {
        S3Store::open(&self.settings()).await
    }

    /// The same through another gateway.
    pub async fn store_at(&self, endpoint: &str) -> S3Store {
        S3Store::open(&S3 { endpoint: endpoint.to_owned(), ..self.settings() }).await
    }

    /// Settings for a configuration file.
    pub fn toml(&self) -> Vec<(&'static str, String)> {
        let quoted = |text: &str| format!("{text:?}");
        vec![
            ("storage.kind", quoted("s3")),
            ("storage.s3.bucket", quoted(&self.name)),
            ("storage.s3.endpoint", quoted(&self.endpoint)),
            ("storage.s3.force_path_style", "true".into()),
        ]
    }

    /// Puts an object as anybody can; returns the id of its version.
    pub async fn put(&self, key: &str, text: &str) -> String {
        self.put_bytes(key, text.as_bytes()).await
    }

    pub async fn put_bytes(&self, key: &str, bytes: &[u8]) -> String {
        let body = ByteStream::from(bytes.to_vec());
        let put = self.client.put_object().bucket(&self.name).key(key).body(body).send().await.unwrap();
        put.version_id().unwrap_or("null").to_owned()
    }

    /// Removes a version where the server lets one; without an id, hides the object.
    pub async fn delete(&self, key: &str, version: Option<&str>) {
        let delete = self.client.delete_object().bucket(&self.name).key(key).bypass_governance_retention(true);
        delete.set_version_id(version.map(str::to_owned)).send().await.unwrap();
    }

    /// The ids of the versions of a key, the latest first.
    pub async fn versions(&self, key: &str) -> Vec<String> {
        let listed = self.client.list_object_versions().bucket(&self.name).prefix(key).send().await.unwrap();
        let own = listed.versions().iter().filter(|version| version.key() == Some(key));
        own.map(|version| version.version_id().unwrap().to_owned()).collect()
    }

    /// Every version of every object: its key, its id, and whether it is the latest.
    pub async fn every_version(&self) -> Vec<(String, String, bool)> {
        let (mut all, mut key, mut version) = (Vec::new(), None, None);
        loop {
            let list = self.client.list_object_versions().bucket(&self.name);
            let page = list.set_key_marker(key).set_version_id_marker(version).send().await.unwrap();
            all.extend(page.versions().iter().map(|found| {
                let text = |text: Option<&str>| text.unwrap().to_owned();
                (text(found.key()), text(found.version_id()), found.is_latest().unwrap())
            }));
            if page.is_truncated() != Some(true) {
                return all;
            }
            (key, version) =
                (page.next_key_marker().map(str::to_owned), page.next_version_id_marker().map(str::to_owned));
        }
    }

    pub async fn bytes(&self, key: &str, version: &str) -> Vec<u8> {
        let get = self.client.get_object().bucket(&self.name).key(key).version_id(version).send().await.unwrap();
        get.body.collect().await.unwrap().to_vec()
    }

    /// Mode and date, in seconds since 1970.
    pub async fn lock(&self, key: &str, version: &str) -> Option<(ObjectLockMode, i64)> {
        let head = self.client.head_object().bucket(&self.name).key(key).version_id(version).send().await.unwrap();
        Some((head.object_lock_mode()?.clone(), head.object_lock_retain_until_date()?.secs()))
    }

    /// The keys of uploads that are not finished.
    pub async fn uploads(&self) -> Vec<String> {
        let listed = self.client.list_multipart_uploads().bucket(&self.name).send().await.unwrap();
        listed.uploads().iter().map(|upload| upload.key().unwrap().to_owned()).collect()
    }

    /// Begins an upload and leaves it.
    pub async fn begin_upload(&self, key: &str) {
        let begun = self.client.create_multipart_upload().bucket(&self.name).key(key).send().await.unwrap();
        let part = self.client.upload_part().bucket(&self.name).key(key).upload_id(begun.upload_id().unwrap());
        part.part_number(1).body(ByteStream::from_static(b"half")).send().await.unwrap();
    }

    /// Forbids everybody, its owner too, some actions on the bucket.
    pub async fn forbid(&self, actions: &[&str]) {
        let name = &self.name;
        let policy = serde_json::json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Deny", "Principal": "*", "Action": actions,
            "Resource": [format!("arn:aws:s3:::{name}"), format!("arn:aws:s3:::{name}/*")],
        }]});
        self.client.put_bucket_policy().bucket(name).policy(policy.to_string()).send().await.unwrap();
    }

    /// Changes a byte of a version behind the gateway's back, where it lies on the disks of the cluster.
    #[cfg(feature = "failpoints")]
    pub async fn rot(&self, key: &str, version: &str) {
        let rados = async |arguments: &[&str]| {
            let mut rados = Command::new("rados");
            rados.args(["-c", &cluster(), "-p", "default.rgw.buckets.data"]).args(arguments).stdin(Stdio::null());
            let output = crate::process::run(rados).await;
            assert!(output.status.success(), "{}", crate::process::stderr(&output));
            crate::process::stdout(&output)
        };
        let all = rados(&["ls"]).await;
        let own = all.lines().find(|name| name.ends_with(key) && name.contains(version));
        let rotten = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(rotten.path(), "x").unwrap();
        rados(&["put", own.expect("it lies in the cluster"), rotten.path().to_str().unwrap(), "--offset", "100"]).await;
    }

    /// Runs `aws s3api` on the bucket: a client that is not ours in any part.
    pub async fn aws(&self, command: &str, arguments: &[&str]) -> Result<Value, String> {
        let mut aws = Command::new("aws");
        aws.args(["--endpoint-url", &self.endpoint, "--region", "us-east-1", "--output", "json", "s3api", command]);
        aws.args(["--bucket", &self.name]).args(arguments).stdin(Stdio::null()).env("AWS_PAGER", "");
        let output: Output = crate::process::run(aws).await;
        if output.status.success() {
            return Ok(serde_json::from_slice(&output.stdout).unwrap_or_default());
        }
        Err(crate::process::stderr(&output))
    }
}

/// A gateway of a test's own on the same cluster: what one stores, every other has.
pub struct Gateway {
    pub endpoint: String,
    port: u16,
    child: Child,
}

impl Gateway {
    pub async fn start() -> Self {
        Self::with("+0").await
    }

    /// Its clock is off by so much, as `faketime` writes it: `-2h`.
    pub async fn with(clock: &str) -> Self {
        // Below those that the system hands out to others.
        let mut ports = std::iter::repeat_with(|| fastrand::u16(10_000..30_000));
        let port = ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap();
        let mut this = Self { endpoint: format!("http://127.0.0.1:{port}"), port, child: spawn(port, clock) };
        this.answers().await;
        this
    }

    async fn answers(&mut self) {
        let (client, endpoint) = (crate::http::client(), self.endpoint.clone());
        let answers = || async {
            let text = client.get(&endpoint).send().await.ok()?.text().await.ok()?;
            text.contains("ListAllMyBuckets").then_some(())
        };
        eventually("the gateway answers", answers).await;
        assert!(self.child.try_wait().unwrap().is_none(), "another server answers in its place");
    }

    /// To it and to what started it.
    fn signal(&self, signal: Signal) {
        kill_process_group(Pid::from_child(&self.child), signal).unwrap();
    }

    /// It takes connections, and does not answer.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
    }

    pub async fn start_again(&mut self) {
        self.child = spawn(self.port, "+0");
        self.answers().await;
    }
}

fn spawn(port: u16, clock: &str) -> Child {
    let mut command = match clock {
        "+0" => Command::new("radosgw"),
        off => {
            let mut command = Command::new("faketime");
            command.args(["-f", off, "radosgw"]);
            command
        }
    };
    command.args(["-n", "client.rgw", "-f", "-c", &cluster()]);
    command.args(["--rgw-frontends", &format!("beast endpoint=127.0.0.1:{port} tcp_nodelay=1")]);
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("radosgw and faketime are installed: tests/setup.sh")
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Ended already, where a test killed it.
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.kill();
        }
    }
}
