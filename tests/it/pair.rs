//! Which database and store an archive under test has: the embedded ones, or, where tests/run.sh says so, PostgreSQL and S3.

use std::path::Path;
use std::process::Command;

/// The server on which every archive gets a database of its own, such as `postgres://callvault@127.0.0.1:5432`.
fn server() -> Option<String> {
    std::env::var("TEST_POSTGRES").ok()
}

/// True where archives have a server's database, which other nodes may share.
pub fn is_shared() -> bool {
    server().is_some()
}

/// The settings of an archive in a folder, with what they name made ready.
pub fn settings(dir: &Path) -> Vec<(&'static str, String)> {
    let Some(server) = server() else { return Vec::new() };
    let url = format!("{server}/{}", database(dir));
    psql(&server, &format!("create database {}", database(dir)));
    vec![("database.url", format!("{url:?}"))]
}

/// Takes away what [`settings`] made.
pub fn remove(dir: &Path) {
    if let Some(server) = server() {
        psql(&server, &format!("drop database if exists {} with (force)", database(dir)));
    }
}

/// Named after the folder, which is one of a kind.
fn database(dir: &Path) -> String {
    let name = dir.file_name().unwrap().to_str().unwrap();
    let hex: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("archive_{hex}")
}

/// What is there already stays as it is.
fn psql(server: &str, sql: &str) {
    let output = Command::new("psql").arg(format!("{server}/postgres")).args(["-qXc", sql]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() || error.contains("already exists"), "{sql}: {error}");
}
