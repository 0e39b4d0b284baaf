//! What must be true of every archive once it is at rest.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use callvault::app::App;
use callvault::clock::Clock;
use callvault::config::{Config, StorageKind};
use callvault::journal::{Filter, Kind};
use callvault::verify::{Damage, Progress, verify};
use futures_util::TryStreamExt;
use serde_json::Value;

/// Collects what the verification finds.
#[derive(Default)]
pub struct Findings(pub Vec<Damage>);

impl Progress for Findings {
    fn begin(&mut self, _: &'static str, _: u64) {}
    fn advance(&mut self, _: u64) {}
    fn damage(&mut self, damage: &Damage) {
        self.0.push(damage.clone());
    }
}

/// Checks an archive that nobody serves.
pub async fn check(config: Config) {
    let (spool, objects) = (config.spool_dir(), config.objects_dir());
    assert_eq!(files(&spool), BTreeSet::new(), "the spool is empty at rest");
    assert_eq!(files(&objects.join(".staging")), BTreeSet::new(), "nothing is left in staging");

    let app = App::open_existing(config, Clock::system()).await.unwrap();
    let mut findings = Findings::default();
    let report = verify(&app, &mut findings).await.unwrap();
    assert_eq!((findings.0, report.damages), (Vec::new(), 0));

    let half_way = app
        .db
        .fetch_all("select call_id, state from recordings where state not in ('archived', 'failed', 'destroyed')", &[]);
    assert_eq!(half_way.await.unwrap().len(), 0, "no recording is left half-way");
    let work = app.db.fetch_all("select source from recording_work", &[]).await.unwrap();
    assert_eq!(work.len(), 0, "no work is left");

    let receipted = receipted(&app).await;
    let locks = |key: &String| [key.clone(), format!("{key}.retention.json")];
    let (stored, expected): (BTreeSet<String>, _) = match app.config.storage.kind {
        StorageKind::Filesystem => {
            let on_disk = files(&objects);
            let keys = on_disk.iter().map(|path| path.strip_prefix(&objects).unwrap().to_str().unwrap().to_owned());
            (keys.collect(), receipted.iter().flat_map(locks).collect())
        }
        StorageKind::S3 => {
            let listed: Vec<_> = app.store.list("").await.unwrap().try_collect().await.unwrap();
            assert!(!objects.exists(), "nothing of it lies in a folder");
            (listed.into_iter().map(|listed| listed.key).collect(), receipted)
        }
    };
    assert_eq!(stored, expected, "the store holds what the journal has receipts for, and nothing else");
    app.db.close().await;
}

/// The keys that the receipts in the journal account for.
async fn receipted(app: &App) -> BTreeSet<String> {
    let filter = Filter { kind: Some(Kind::RecordingArchived), ..Filter::default() };
    let receipts = app.journal.read(0, u64::MAX, &filter).await.unwrap();
    let mut keys = BTreeSet::new();
    for record in receipts {
        let receipt: Value = serde_json::from_slice(&record.body.unwrap().bytes).unwrap();
        for key in ["object_key", "vcon_key"] {
            keys.insert(receipt[key].as_str().unwrap().to_owned());
        }
    }
    let filter = Filter { kind: Some(Kind::CallDestroyed), ..Filter::default() };
    for record in app.journal.read(0, u64::MAX, &filter).await.unwrap() {
        let destroyed: Value = serde_json::from_slice(&record.body.unwrap().bytes).unwrap();
        let recordings = destroyed["recordings"].as_array().unwrap().iter();
        for object in recordings.flat_map(|recording| recording["objects"].as_array().unwrap()) {
            keys.remove(object["key"].as_str().unwrap());
        }
    }
    for kind in [Kind::DispositionDecided, Kind::DispositionExecuted] {
        let filter = Filter { kind: Some(kind), ..Filter::default() };
        for record in app.journal.read(0, u64::MAX, &filter).await.unwrap() {
            let said: Value = serde_json::from_slice(&record.body.unwrap().bytes).unwrap();
            keys.insert(said["key"].as_str().unwrap().to_owned());
        }
    }
    let filter = Filter { kind: Some(Kind::ReportDelivered), ..Filter::default() };
    for record in app.journal.read(0, u64::MAX, &filter).await.unwrap() {
        let report: Value = serde_json::from_slice(&record.body.unwrap().bytes).unwrap();
        keys.extend(report["object"]["key"].as_str().map(str::to_owned));
    }
    keys
}

/// Every file below a folder; none where there is no folder.
pub fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return BTreeSet::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { BTreeSet::from([path]) }).collect()
}
