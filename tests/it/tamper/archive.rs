//! The archive that is damaged, made once by the real thing, and copies of it.

use std::path::{Path, PathBuf};

use callvault::access::{Identity, Role};
use callvault::app::App;
use callvault::clock::Clock;
use callvault::custody::NewHold;
use callvault::journal::{Body, Kind, NewEntry};
use callvault::verify::verify;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::app::{TestApp, load};
use crate::events::{SPEECH, accepted, ended, ended_after, ended_with, missed, recording};
use crate::fake_doubletick::Reply;
use crate::http::eventually;
use crate::leftovers::Findings;
use crate::pair;
use crate::raw::Raw;

/// A copy of the finished archive, to be damaged.
pub struct Copy {
    dir: TempDir,
    template: &'static Path,
}

/// What `verify` said, one line for each damage, or why it could not go on.
#[derive(Debug)]
pub struct Verdict(pub Vec<String>);

impl Verdict {
    pub fn is_clean(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of these names stands in what was said, not merely as the beginning of a longer number or word.
    pub fn names(&self, names: &[String]) -> bool {
        let whole = |line: &str, name: &str| {
            line.match_indices(name).any(|(at, _)| {
                let next = line[at + name.len()..].chars().next();
                next.is_none_or(|next| !next.is_ascii_alphanumeric())
            })
        };
        self.0.iter().any(|line| names.iter().any(|name| whole(line, name)))
    }
}

async fn make(settings: &[(&str, &str)]) -> TempDir {
    let own = [
        ("recordings.retry_base", "\"10m\""),
        ("schedule.yearly.cron", "\"0 6 1 1 *\""),
        ("schedule.yearly.job", "\"fixity\""),
    ];
    let mut app = TestApp::with(&[settings, &own].concat()).await;
    app.sender.audio("/one.mp3", &recording(1));
    app.sender.audio("/two.mp3", SPEECH);
    app.sender.audio("/three.mp3", &recording(3));
    app.sender.on("/gone.mp3", [Reply::Status(410)]);
    app.sender.on("/late.mp3", [Reply::Status(503)]);
    app.post(&accepted("call_one")).await;
    app.post(&ended("call_one", &app.sender.url("/one.mp3"))).await;
    app.post(&ended("call_two", &app.sender.url("/two.mp3"))).await;
    app.post(&ended_with("call_two", json!({"recordingUrl": app.sender.url("/three.mp3")}))).await;
    app.post(&missed("call_missed")).await;
    app.post(&accepted("call_open")).await;
    app.post(&ended("call_gone", &app.sender.url("/gone.mp3"))).await;
    app.post(&ended_after("call_short", 1)).await;
    app.call_in("call_gone", "failed").await;
    let access = &app.parts().access;
    access.create_token_for("kept", Role::Officer, Some("919833344556"), "cli").await.unwrap();
    access.create_token("gone", Role::Auditor, "cli").await.unwrap();
    access.revoke_token("gone", "it left", "cli").await.unwrap();
    access.open_session(&Identity { name: "kept".into(), role: Role::Officer, agent: None }).await.unwrap();
    access.make_sign_in_code("kept").await.unwrap();
    let custody = app.custody();
    let hold = |name: &str| NewHold { name: name.into(), calls: vec!["call_one".into()], ..all_said() };
    custody.place(&hold("case-1"), "one").await.unwrap();
    custody.release_hold("case-1", "one").await.unwrap();
    propose_nothing(&app).await;
    app.settle().await;
    let rows = "select seq from fixity union all select done_until from schedule";
    let taken_in = async || app.parts().db.fetch_all(rows, &[]).await.unwrap().len();
    eventually("objects and schedule have their rows", || async { (taken_in().await == 7).then_some(()) }).await;
    // What is still to come, and so has work in progress.
    app.post(&ended("call_late", &app.sender.url("/late.mp3"))).await;
    app.call_when("call_late", "it was tried once", |call| call["recording"]["attempts"] == 1).await;
    // The last entry changes no call.
    assert_eq!(app.post_body("no JSON").await.ok()["quarantined"], "not_an_object");
    let parts = app.parts();
    let followed = || async {
        let size = parts.journal.size().await.unwrap();
        let sql = "select min(next_seq) as next_seq from cursors where name in ('flags', 'retention')";
        let flags = parts.db.fetch_one(sql, &[]).await.unwrap();
        let indexed = parts.search.searcher().is_ok_and(|searcher| searcher.cursor() == size);
        (indexed && flags.int("next_seq").unwrap().cast_unsigned() == size).then_some(())
    };
    eventually("everybody has followed the journal", followed).await;
    app.stop().await;
    let template = tempfile::tempdir().unwrap();
    copy_folder(app.scratch(), template.path());
    pair::copy_database(app.scratch(), template.path());
    template
}

fn all_said() -> NewHold {
    let text = || "said".to_owned();
    NewHold { name: text(), matter: text(), reason: text(), custodian: text(), calls: Vec::new(), query: None }
}

/// A disposition that two people agreed on, and an event with a customer.
async fn propose_nothing(app: &TestApp) {
    let journal = &app.parts().journal;
    let entry = |kind, actor: &str, subject: Option<&str>, body: &serde_json::Value| {
        NewEntry::new(kind, actor, subject.map(str::to_owned), Body::of_json(body).unwrap())
    };
    let disposition = Some("disposition:20260309-0a1b2c3d");
    let event = json!({"customer": "customer_1", "event": "relationship_end", "date": "2026-03-01T00:00:00Z"});
    for new in [
        entry(Kind::DispositionProposed, "one", disposition, &json!({"id": "20260309-0a1b2c3d", "items": []})),
        entry(Kind::DispositionApproved, "two", disposition, &json!({"id": "20260309-0a1b2c3d"})),
        entry(Kind::ClientEvent, "one", None, &event),
    ] {
        journal.append(vec![new]).await.unwrap();
    }
}

/// The finished archive; made by the first test that asks.
async fn template(embedded: bool) -> &'static Path {
    static TEMPLATES: [OnceCell<TempDir>; 2] = [const { OnceCell::const_new() }; 2];
    let settings: &[(&str, &str)] = if embedded { &pair::EMBEDDED } else { &[] };
    TEMPLATES[usize::from(embedded)].get_or_init(|| make(settings)).await.path()
}

/// Copies a folder with everything in it, as `cp -a` does.
pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

impl Copy {
    pub async fn new() -> Self {
        Self::of(template(false).await)
    }

    /// With SQLite and a folder, whatever the others have.
    pub async fn embedded() -> Self {
        Self::of(template(true).await)
    }

    fn of(template: &'static Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        copy_folder(template, dir.path());
        // The configuration names the directory that it was made for, and its database.
        let file = dir.path().join("callvault-test.toml");
        let old = std::fs::read_to_string(&file).unwrap();
        let shared = pair::is_shared() && !old.contains("\"sqlite\"");
        let moved = |line: &&str| line.starts_with("data_dir") || (shared && line.starts_with("database.url"));
        let mut lines: Vec<String> = old.lines().filter(|line| !moved(line)).map(str::to_owned).collect();
        let data = dir.path().join("data");
        lines.push(format!("data_dir = {:?}\n", data.to_str().unwrap()));
        if shared {
            lines.push(format!("database.url = {:?}\n", pair::as_runtime(dir.path())));
            pair::copy_database(template, dir.path());
        }
        std::fs::write(&file, lines.join("\n")).unwrap();
        Self { dir, template }
    }

    /// Puts the database back as it was.
    pub async fn restore(&self) {
        if load(&self.config_file(), "").database.url.expose() != "sqlite" {
            pair::remove(self.dir.path());
            pair::copy_database(self.template, self.dir.path());
            return;
        }
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", self.database().display()));
        }
        std::fs::copy(self.template.join("data/callvault.db"), self.database()).unwrap();
    }

    /// Its database past the program.
    pub async fn raw(&self) -> Raw {
        Raw::of(&load(&self.config_file(), ""), self.dir.path()).await
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn database(&self) -> PathBuf {
        self.data().join("callvault.db")
    }

    pub fn config_file(&self) -> PathBuf {
        self.dir.path().join("callvault-test.toml")
    }

    /// The archive as a program opens it.
    pub async fn open(&self) -> Result<App, String> {
        App::open_existing(load(&self.config_file(), ""), Clock::system()).await.map_err(|error| error.to_string())
    }

    pub async fn verify(&self) -> Verdict {
        let app = match self.open().await {
            Ok(app) => app,
            Err(error) => return Verdict(vec![error]),
        };
        let mut findings = Findings::default();
        let outcome = verify(&app, &mut findings).await;
        app.db.close().await;
        let mut said: Vec<String> =
            findings.0.iter().map(|damage| format!("{}: {}", damage.what, damage.why)).collect();
        said.extend(outcome.err().map(|error| error.to_string()));
        Verdict(said)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        pair::remove(self.dir.path());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undamaged_copy_is_clean() {
    assert_eq!(Copy::new().await.verify().await.0, [""; 0]);
}
