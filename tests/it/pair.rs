//! On which database and store an archive under test stands: the embedded ones, or, where tests/run.sh says so, PostgreSQL
//! and a bucket of S3, used with no more rights than deploy/ gives a node.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use crate::objects::s3_server::{Bucket, endpoint};
use crate::process::program;

/// Settings of an archive that has SQLite and a folder, whatever the others have: for what is about their files.
pub const EMBEDDED: [(&str, &str); 3] =
    [("database.url", "\"sqlite\""), ("database.migrate", "true"), ("storage.kind", "\"filesystem\"")];

/// An archive's folder has this file once it has a database and a bucket.
const READY: &str = "pair-is-ready";

/// The server on which every archive gets a database of its own, as its superuser: `postgres://callvault@127.0.0.1:5432`.
fn server() -> Option<String> {
    std::env::var("TEST_POSTGRES").ok()
}

/// True where archives have a server's database, which other nodes may share, and a bucket.
pub fn is_shared() -> bool {
    server().is_some()
}

/// The settings of an archive in a folder, with what they name made ready. One that destroys needs a right more.
pub fn settings(dir: &Path, destroys: bool) -> Vec<(&'static str, String)> {
    let Some(server) = server() else { return Vec::new() };
    let name = name(dir);
    // Its configuration may be written again.
    if !dir.join(READY).exists() {
        psql(&server, "postgres", &["-c", &format!("create database \"{name}\" template \"{}\"", template(&server))]);
        make_bucket(&name);
        std::fs::write(dir.join(READY), "").unwrap();
    }
    let quoted = |text: &str| format!("{text:?}");
    vec![
        ("database.url", quoted(&if destroys { as_disposer(dir) } else { as_runtime(dir) })),
        ("database.migrate", "false".into()),
        ("storage.kind", quoted("s3")),
        ("storage.s3.bucket", quoted(&name)),
        ("storage.s3.endpoint", quoted(&endpoint())),
        ("storage.s3.force_path_style", "true".into()),
    ]
}

/// The database of an archive in a folder, as the nodes use it.
pub fn as_runtime(dir: &Path) -> String {
    as_role(&server().expect("there is a server"), "callvault_runtime", &name(dir))
}

/// The same, as a node that may erase bodies too.
fn as_disposer(dir: &Path) -> String {
    as_role(&server().expect("there is a server"), "disposing_node", &name(dir))
}

/// The same, with all rights.
pub fn as_superuser(dir: &Path) -> String {
    format!("{}/{}", server().expect("there is a server"), name(dir))
}

/// Makes a copy of an archive's database for another folder, where it is on a server; whoever still uses it is cut off.
pub fn copy_database(from: &Path, to: &Path) {
    if let Some(server) = server().filter(|_| from.join(READY).exists()) {
        let (from, to) = (name(from), name(to));
        let cut_off = format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{from}'");
        let copy = format!("create database \"{to}\" template \"{from}\"");
        psql(&server, "postgres", &["-o", "/dev/null", "-c", &cut_off, "-c", &copy]);
    }
}

/// All that an archive's database says, as text.
pub fn dump(dir: &Path) -> Vec<u8> {
    let output = Command::new("pg_dump").arg("--inserts").arg(as_superuser(dir)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Takes away what [`settings`] made, but for the bucket, whose objects nobody can delete.
pub fn remove(dir: &Path) {
    if let Some(server) = server() {
        psql(&server, "postgres", &["-c", &format!("drop database if exists \"{}\" with (force)", name(dir))]);
    }
}

/// Named after the folder, which is one of a kind.
fn name(dir: &Path) -> String {
    let name = dir.file_name().unwrap().to_str().unwrap();
    let hex: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("archive-{hex}")
}

fn as_role(server: &str, role: &str, database: &str) -> String {
    let (_, host) = server.split_once('@').expect("TEST_POSTGRES names a user");
    format!("postgres://{role}@{host}/{database}")
}

/// A database in which everything is as deploy/ says; copying it is quicker than making it.
fn template(server: &str) -> &'static str {
    static TEMPLATE: OnceLock<String> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let name = format!("template-{}", std::process::id());
        psql(server, "postgres", &["-c", &format!("create database \"{name}\"")]);
        let sql = |file| format!("{}/deploy/postgres/{file}", env!("CARGO_MANIFEST_DIR"));
        psql(server, &name, &["-f", &sql("roles.sql")]);
        let grant = "do $$ begin create role disposing_node login; exception when duplicate_object then null; end $$;
            grant callvault_runtime, callvault_disposition to disposing_node";
        psql(server, &name, &["-c", grant]);
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("callvault.toml");
        let owner = as_role(server, "callvault_owner", &name);
        std::fs::write(&config, format!("data_dir = \"data\"\ndatabase.url = {owner:?}\n")).unwrap();
        let migrated = program().arg("--config").arg(config).arg("migrate").current_dir(dir.path()).output().unwrap();
        assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
        psql(server, &name, &["-f", &sql("grants.sql")]);
        name
    })
}

fn psql(server: &str, database: &str, args: &[&str]) {
    let url = format!("{server}/{database}");
    let output = Command::new("psql").arg(url).args(["-qX", "-v", "ON_ERROR_STOP=1"]).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A bucket with Object Lock. Whoever wants an archive need not be asynchronous for it.
fn make_bucket(name: &str) {
    let make = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(Bucket::named(name, endpoint()).make());
    };
    std::thread::scope(|scope| scope.spawn(make).join().unwrap());
}
