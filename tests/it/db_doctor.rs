//! `doctor` on databases that an archive can't rely on: it names what is wrong, and what to do.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::app::write_config;
use crate::fake_doubletick::FakeDoubleTick;
use crate::process::{program, run, stderr, stdout};
use crate::raw::Raw;
use crate::servers::Postgres;

/// A server with the roles of deploy/, and as many archives on it as there are set-ups.
struct Ward {
    postgres: Postgres,
    dir: TempDir,
    sender: FakeDoubleTick,
}

impl Ward {
    async fn open() -> Self {
        let ward = Self {
            postgres: Postgres::start(),
            dir: tempfile::tempdir().unwrap(),
            sender: FakeDoubleTick::start().await,
        };
        ward.sql("create database whole").await;
        ward.psql("whole", "roles.sql");
        let migrate = ward.command(&ward.url("callvault_owner", "whole"), "owner", "migrate");
        let migrated = run(migrate).await;
        assert!(migrated.status.success(), "{}", stderr(&migrated));
        ward.psql("whole", "grants.sql");
        ward
    }

    fn url(&self, role: &str, database: &str) -> String {
        let url = self.postgres.url();
        let (_, host) = url.strip_suffix("/postgres").unwrap().split_once('@').unwrap();
        format!("postgres://{role}@{host}/{database}")
    }

    fn psql(&self, database: &str, file: &str) {
        let file = format!("{}/deploy/postgres/{file}", env!("CARGO_MANIFEST_DIR"));
        let done = Command::new("psql").arg(self.url("callvault", database)).args(["-qXf", &file]).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    async fn sql(&self, sql: &str) {
        let mut raw = Raw::server(&self.postgres.url()).await;
        raw.run(sql).await;
        raw.close().await;
    }

    fn config(&self, url: &str, name: &str) -> PathBuf {
        let dir = self.dir.path().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let settings = [("database.url", &*format!("{url:?}")), ("database.migrate", "false")];
        write_config(&dir, &self.sender, &settings)
    }

    fn command(&self, url: &str, name: &str, command: &str) -> Command {
        let mut program = program();
        program.arg("--config").arg(self.config(url, name)).arg(command).current_dir(self.dir.path());
        program
    }

    /// What doctor says of the database of an archive of its own, after something was done to it.
    async fn after(&self, name: &str, sql: &[&str]) -> Vec<String> {
        self.sql(&format!("create database {name} template whole")).await;
        let mut raw = Raw::server(&self.url("callvault", name)).await;
        for statement in sql {
            raw.run(statement).await;
        }
        raw.close().await;
        told(self.command(&self.url("callvault_runtime", name), name, "doctor")).await
    }
}

/// The lines that doctor has about the database.
async fn told(command: Command) -> Vec<String> {
    let output = run(command).await;
    let text = stdout(&output);
    let about = |line: &&str| line.get(6..).is_some_and(|rest| rest.starts_with("database "));
    let lines: Vec<String> = text.lines().filter(about).map(str::to_owned).collect();
    assert!(!lines.is_empty(), "{text}{}", stderr(&output));
    if lines.iter().any(|line| line.starts_with("FAIL")) {
        assert_eq!(output.status.code(), Some(1), "a fault ends with 1");
    }
    lines
}

/// One line that begins with a mark holds all of these.
#[track_caller]
fn says(lines: &[String], mark: &str, parts: &[&str]) {
    let fits = |line: &&String| line.starts_with(mark) && parts.iter().all(|part| line.contains(part));
    assert_eq!(lines.iter().filter(fits).count(), 1, "{parts:?} in {lines:#?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: tests/run.sh has it"]
async fn databases_that_can_not_be_relied_on() {
    let ward = Ward::open().await;
    assert!(ward.after("well", &[]).await.iter().all(|line| line.starts_with("ok")), "nothing is wrong with it");
    let cases: &[(&str, &[&str], &str, &[&str])] = &[
        ("lacking", &["revoke insert on journal from callvault_runtime"], "FAIL", &["insert journal", "grants.sql"]),
        ("unread", &["revoke select on journal_head from callvault_runtime"], "FAIL", &["journal_head", "grants.sql"]),
        ("mighty", &["grant update on journal to callvault_runtime"], "note", &["update journal", "roles.sql"]),
        ("newer", &["update schema_version set version = 99"], "FAIL", &["99", "use a newer callvault"]),
        ("older", &["update schema_version set version = 1"], "FAIL", &["run callvault migrate"]),
        ("strange", &["delete from schema_version"], "FAIL", &["no schema version", "restore it from a backup"]),
        (
            "readonly",
            &["alter role callvault_runtime in database readonly set default_transaction_read_only = on"],
            "FAIL",
            &["read-only", "name the primary"],
        ),
        (
            "hasty",
            &["alter role callvault_runtime in database hasty set synchronous_commit = off"],
            "FAIL",
            &["synchronous_commit is off", "turn it on"],
        ),
    ];
    for (name, sql, mark, parts) in cases {
        says(&ward.after(name, sql).await, mark, parts);
    }
    ward.sql("create database empty").await;
    let empty = told(ward.command(&ward.url("callvault_runtime", "empty"), "empty", "doctor")).await;
    says(&empty, "FAIL", &["there is no archive in the database", "run callvault serve"]);
    ward.sql("alter role callvault_runtime connection limit 0").await;
    let full = told(ward.command(&ward.url("callvault_runtime", "well"), "full", "doctor")).await;
    says(&full, "FAIL", &["too many connections", "more connections"]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: tests/run.sh has it"]
async fn databases_that_can_not_be_reached() {
    let ward = Ward::open().await;
    let doctor = async |url: &str, name: &str| told(ward.command(url, name, "doctor")).await;
    let nobody = doctor("postgres://callvault_runtime@127.0.0.1:1/whole", "nobody").await;
    says(&nobody, "FAIL", &["see whether it runs", "host and port in database.url"]);
    let nowhere = doctor("postgres://callvault_runtime@database.invalid/whole", "nowhere").await;
    says(&nowhere, "FAIL", &["see whether it runs", "host and port in database.url"]);
    let stranger = doctor(&ward.url("nobody_of_ours", "whole"), "stranger").await;
    says(&stranger, "FAIL", &["nobody_of_ours", "correct user and password"]);
    let absent = doctor(&ward.url("callvault_runtime", "absent"), "absent").await;
    says(&absent, "FAIL", &["absent", "create it, or correct its name"]);
    // A password that is asked for and wrong.
    let data = ward.postgres.data();
    std::fs::write(data.join("pg_hba.conf"), "host all callvault all trust\nhost all all all scram-sha-256\n").unwrap();
    ward.sql("alter role callvault_runtime password 'right'").await;
    ward.sql("select pg_reload_conf()").await;
    let wrong = ward.url("callvault_runtime:very-secret", "whole");
    let refused = || async {
        let lines = doctor(&wrong, "wrong").await;
        lines.iter().any(|line| line.starts_with("FAIL")).then_some(lines)
    };
    let refused = crate::http::eventually("the new rules hold", refused).await;
    says(&refused, "FAIL", &["password authentication failed", "correct user and password"]);
    assert!(!refused.concat().contains("very-secret"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: tests/run.sh has it"]
async fn a_clock_that_is_off() {
    let ward = Ward::open().await;
    let doctor = ward.command(&ward.url("callvault_runtime", "whole"), "clock", "doctor");
    let mut late = Command::new("faketime");
    late.args(["-f", "+12m"]).arg(doctor.get_program()).args(doctor.get_args());
    late.current_dir(Path::new(doctor.get_current_dir().unwrap()));
    says(&told(late).await, "FAIL", &["this machine's clock is 12 minutes ahead of the database's", "NTP"]);
}
