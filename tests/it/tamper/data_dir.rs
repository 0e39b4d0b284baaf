//! The data directory as somebody else left it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use callvault::objects::ObjectKey;

use super::archive::{Copy, copy_folder};
use crate::app::{TestApp, load};
use crate::events::{ended, missed, recording};
use crate::leftovers::files;
use crate::pair::EMBEDDED;
use crate::process::{cli, ended_with, stderr};
use crate::raw::Raw;

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_database_beside_objects_is_refused() {
    let copy = Copy::embedded().await;
    let database = copy.database();
    fs::remove_file(&database).unwrap();
    for content in [None, Some(&b""[..])] {
        if let Some(content) = content {
            fs::write(&database, content).unwrap();
        }
        for command in ["serve", "verify", "search"] {
            let output = cli(&copy.config_file(), &[command]).await;
            ended_with(&output, 1);
            let said = stderr(&output);
            assert!(said.contains("holds recordings") && said.contains("restore the database"), "{command}: {said}");
        }
        assert_eq!(fs::read(&database).ok().as_deref(), content, "nothing was made in its place");
    }
    // One that was made elsewhere, and knows of no recording.
    let other = tempfile::tempdir().unwrap();
    let fresh = callvault::db::Db::open_sqlite(&other.path().join("callvault.db")).await.unwrap();
    fresh.migrate().await.unwrap();
    fresh.close().await;
    fs::copy(other.path().join("callvault.db"), &database).unwrap();
    assert!(stderr(&cli(&copy.config_file(), &["serve"]).await).contains("holds recordings"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_none_or_from_a_newer_version_is_refused_and_kept() {
    let copy = Copy::embedded().await;
    let original = fs::read(copy.database()).unwrap();
    let garbage = b"this is no database, whatever its name says".repeat(100);
    fs::write(copy.database(), &garbage).unwrap();
    let output = cli(&copy.config_file(), &["serve"]).await;
    ended_with(&output, 1);
    assert!(stderr(&output).contains("callvault.db can't be opened as the archive's database"), "{}", stderr(&output));
    assert_eq!(fs::read(copy.database()).unwrap(), garbage);
    for (change, expected) in [
        ("update schema_version set version = 99", "use a newer callvault"),
        ("delete from schema_version", "has tables but no schema version"),
    ] {
        fs::write(copy.database(), &original).unwrap();
        let mut raw = Raw::file(&copy.database()).await;
        raw.run(change).await;
        raw.close().await;
        let before = fs::read(copy.database()).unwrap();
        let output = cli(&copy.config_file(), &["serve"]).await;
        ended_with(&output, 1);
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
        assert!(fs::read(copy.database()).unwrap() == before, "nothing is touched");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_folders_between_starts() {
    let copy = Copy::embedded().await;
    for folder in ["spool", "index"] {
        fs::remove_dir_all(copy.data().join(folder)).unwrap();
    }
    let app = copy.open().await.unwrap();
    app.db.close().await;
    fs::rename(copy.data().join("objects"), copy.data().join("elsewhere")).unwrap();
    let output = cli(&copy.config_file(), &["serve"]).await;
    ended_with(&output, 1);
    assert!(stderr(&output).contains("mount its disk or restore it"), "{}", stderr(&output));
    assert!(!copy.data().join("objects").exists(), "it is not made anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_that_go_while_it_serves() {
    let app = TestApp::with(&EMBEDDED).await;
    app.post(&ended("call_1", &app.sender.audio("/1.mp3", &recording(1)))).await;
    app.settle().await;
    fs::remove_dir_all(app.data_dir().join("spool")).unwrap();
    // Somebody may be writing there.
    fs::rename(app.data_dir().join("index"), app.scratch().join("index")).unwrap();
    fs::remove_dir_all(app.data_dir().join("objects/.staging")).unwrap();
    app.post(&ended("call_2", &app.sender.audio("/2.mp3", &recording(2)))).await;
    app.call_in("call_2", "archived").await;
    app.found("limit=1", 2).await;
    // The store's own folder is not made again: its disk may only be away.
    let (objects, away) = (app.data_dir().join("objects"), app.data_dir().join("away"));
    fs::rename(&objects, &away).unwrap();
    app.post(&ended("call_3", &app.sender.audio("/3.mp3", &recording(3)))).await;
    let waits =
        |call: &serde_json::Value| call["recording"]["last_error"].as_str().is_some_and(|e| e.contains("mount"));
    app.call_when("call_3", "it waits for the store", waits).await;
    assert!(!objects.exists());
    fs::rename(&away, &objects).unwrap();
    app.call_in("call_3", "archived").await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_open_to_everybody_is_closed() {
    let copy = Copy::embedded().await;
    for (before, after) in [(0o755, 0o750), (0o777, 0o770), (0o750, 0o750), (0o700, 0o700)] {
        fs::set_permissions(copy.data(), fs::Permissions::from_mode(before)).unwrap();
        copy.open().await.unwrap().db.close().await;
        let mode = fs::metadata(copy.data()).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, after, "{before:o} becomes {mode:o}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_of_the_file_system_are_nothing_of_ours() {
    let mut app = TestApp::with(&EMBEDDED).await;
    app.post(&ended("call_1", &app.sender.audio("/1.mp3", &recording(1)))).await;
    app.settle().await;
    app.stop().await;
    for folder in ["", "spool", "objects", "objects/.staging", "index"] {
        fs::create_dir(app.data_dir().join(folder).join("lost+found")).unwrap();
    }
    app.serve_again().await;
    app.found("limit=1", 1).await;
    for folder in ["spool", "objects/.staging"] {
        fs::remove_dir(app.data_dir().join(folder).join("lost+found")).unwrap();
    }
    app.finish().await;
}

/// Copied file by file under a running server: it opens, and whatever the copy lacks is named; nothing else is said.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_made_while_it_serves_opens_or_says_what_it_lacks() {
    let app = TestApp::with(&EMBEDDED).await;
    let posting = async {
        for n in 0..60 {
            let url = app.sender.audio(&format!("/{n}.mp3"), &recording(n));
            app.post(&ended(&format!("call_{n}"), &url)).await;
            app.post(&missed(&format!("missed_{n}"))).await;
        }
    };
    let copies = tempfile::tempdir().unwrap();
    let copying = async {
        for round in 0..3 {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            let (from, to) = (app.data_dir(), copies.path().join(format!("{round}/data")));
            tokio::task::spawn_blocking(move || copy_what_stays(&from, &to)).await.unwrap();
        }
    };
    tokio::join!(posting, copying);
    for round in 0..3 {
        let folder = copies.path().join(round.to_string());
        let text = fs::read_to_string(app.config_file()).unwrap();
        let old = app.data_dir();
        let text = text.replace(old.to_str().unwrap(), folder.join("data").to_str().unwrap());
        fs::write(folder.join("callvault-test.toml"), text).unwrap();
        let output = cli(&folder.join("callvault-test.toml"), &["verify"]).await;
        let said = format!("{}{}", crate::process::stdout(&output), stderr(&output));
        assert!(matches!(output.status.code(), Some(0 | 1)), "{said}");
        let damaged: Vec<&str> = said.lines().filter(|line| line.starts_with("DAMAGED")).collect();
        let opened = said.contains(" journal entries, ");
        assert!(opened || said.contains("can't be opened") || said.contains("holds recordings"), "{round}: {said}");
        for line in damaged {
            assert!(
                line.contains("object recordings/") || line.contains("index") || line.contains("database"),
                "{line}"
            );
        }
    }
    app.finish().await;
}

/// As `cp -r` does it beside a server: what vanishes in between is passed over.
fn copy_what_stays(from: &std::path::Path, to: &std::path::Path) {
    for file in files_that_stay(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        let _ = fs::copy(file, target);
    }
}

fn files_that_stay(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.is_dir() { found.extend(files_that_stay(&path)) } else { found.push(path) }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_write_ahead_log_a_copy_says_what_it_lacks() {
    let app = TestApp::with(&EMBEDDED).await;
    app.post(&ended("call_1", &app.sender.audio("/1.mp3", &recording(1)))).await;
    app.call_in("call_1", "archived").await;
    let copy = tempfile::tempdir().unwrap();
    copy_folder(&app.data_dir(), &copy.path().join("data"));
    for file in files(&copy.path().join("data")) {
        let name = file.to_string_lossy().into_owned();
        if name.ends_with("-wal") || name.ends_with("-shm") {
            fs::remove_file(file).unwrap();
        }
    }
    let text = fs::read_to_string(app.config_file()).unwrap();
    let (old, new) = (app.data_dir(), copy.path().join("data"));
    fs::write(copy.path().join("c.toml"), text.replace(old.to_str().unwrap(), new.to_str().unwrap())).unwrap();
    let output = cli(&copy.path().join("c.toml"), &["verify"]).await;
    ended_with(&output, 1);
    let said = format!("{}{}", crate::process::stdout(&output), stderr(&output));
    assert!(said.contains("holds recordings") || said.contains(ObjectKey::RECORDINGS), "{said}");
    assert_eq!(load(&app.config_file(), "").data_dir, app.data_dir());
    app.finish().await;
}
