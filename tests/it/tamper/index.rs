//! The index damaged under the running program, file by file, while it is searched: not one answer is wrong, the index is
//! built again, and the process lives.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use callvault::search::Searcher;

use crate::app::AUDITOR;
use crate::events::{event, missed};
use crate::http::{Answer, eventually};
use crate::process::ProcessApp;

type Damage = fn(&Path);

/// In place, so that whoever has the file mapped would see it.
fn overwrite(file: &Path) {
    let garbage = vec![0xa5; usize::try_from(fs::metadata(file).unwrap().len()).unwrap()];
    fs::OpenOptions::new().write(true).open(file).unwrap().write_all(&garbage).unwrap();
}

fn flip(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::OpenOptions::new().write(true).open(file).unwrap().write_all(&bytes).unwrap();
}

fn cut(file: &Path) {
    let half = fs::metadata(file).unwrap().len() / 2;
    fs::OpenOptions::new().write(true).open(file).unwrap().set_len(half).unwrap();
}

fn empty(file: &Path) {
    fs::OpenOptions::new().write(true).open(file).unwrap().set_len(0).unwrap();
}

fn remove(file: &Path) {
    fs::remove_file(file).unwrap();
}

fn replace(file: &Path) {
    let other = file.with_extension("other");
    fs::write(&other, "another file").unwrap();
    fs::rename(other, file).unwrap();
}

const DAMAGES: [(&str, Damage); 6] = [
    ("overwritten", overwrite),
    ("a bit flipped", flip),
    ("cut", cut),
    ("emptied", empty),
    ("removed", remove),
    ("replaced", replace),
];

fn live(app: &ProcessApp) -> PathBuf {
    app.data_dir().join("index/live")
}

/// What the files of the index are called but for the segment's name: these stay the same when it is built again.
fn kinds(live: &Path) -> BTreeSet<String> {
    let names = fs::read_dir(live).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.ends_with(".lock")).map(|name| kind(&name)).collect()
}

fn kind(name: &str) -> String {
    if name.ends_with(".json") { name.to_owned() } else { name.rsplit('.').next().unwrap().to_owned() }
}

fn one_of(live: &Path, wanted: &str) -> Option<PathBuf> {
    let mut files = fs::read_dir(live).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    files.find(|file| kind(file.file_name().unwrap().to_str().unwrap()) == wanted)
}

/// Searches without a pause, and holds every answer against what it must be.
async fn search_on(client: reqwest::Client, url: String, total: Arc<AtomicU64>, stop: Arc<AtomicBool>) -> u64 {
    let mut asked = 0;
    while !stop.load(Ordering::Relaxed) {
        for query in ["limit=100&sort=started_at", "limit=1&q=ananya&facets=agent,status", "limit=1&number=98200"] {
            let least = total.load(Ordering::SeqCst);
            let request = client.get(format!("{url}/api/v1/calls?{query}")).bearer_auth(AUDITOR);
            let answer = Answer::of(request).await.ok();
            let found = answer["total"].as_u64().unwrap();
            assert!(found >= least && found <= least + 1, "{query}: {found} of {least}");
            asked += 1;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    asked
}

#[tokio::test(flavor = "multi_thread")]
async fn every_file_of_a_served_index_may_be_damaged() {
    let app = ProcessApp::start().await;
    for n in 0..20 {
        app.post(&missed(&format!("call_{n}"))).await;
    }
    // A call that changed leaves a document to be left out, and so another kind of file.
    app.settle().await;
    app.post(&event("CALL_INCOMING_INITIATED", "call_3", serde_json::json!({}))).await;
    app.settle().await;
    let (total, stop) = (Arc::new(AtomicU64::new(20)), Arc::new(AtomicBool::new(false)));
    let searching = tokio::spawn(search_on(app.client.clone(), app.url.clone(), Arc::clone(&total), Arc::clone(&stop)));
    let live = live(&app);
    let kinds = kinds(&live);
    assert!(kinds.len() >= 8, "{kinds:?}");
    let (mut rounds, mut rebuilt, mut slowest) = (0, 0, Duration::ZERO);
    for kind in &kinds {
        for (what, damage) in DAMAGES {
            let Some(file) = one_of(&live, kind) else { continue };
            let before = fs::metadata(&live).unwrap().ino();
            let start = Instant::now();
            damage(&file);
            let damaged = fs::read(&file).ok();
            let built = || async {
                if fs::metadata(live.join("meta.json")).is_ok() && fs::metadata(&live).ok()?.ino() != before {
                    return Some(true);
                }
                // The writer may have replaced the file by itself just then, or have had no more use for it.
                let moot = fs::read(&file).ok() != damaged || damaged.is_none();
                let healthy = || Searcher::open(live.parent().unwrap(), 1).ok()?.check(false).ok();
                (moot && healthy()?.is_empty()).then_some(false)
            };
            let what = format!("the index is built again after {kind} was {what}");
            rebuilt += u32::from(eventually(&what, built).await);
            app.settle().await;
            slowest = slowest.max(start.elapsed());
            rounds += 1;
        }
    }
    assert!(rebuilt >= 30, "{rebuilt} of {rounds}");
    // What comes now is found as ever.
    app.post(&missed("call_after")).await;
    app.settle().await;
    total.store(21, Ordering::SeqCst);
    stop.store(true, Ordering::Relaxed);
    let asked = searching.await.unwrap();
    assert!(asked > 100, "{asked}");
    eprintln!("{rounds} rounds, {rebuilt} times built again, {asked} answers, the slowest rebuild took {slowest:?}");
    app.finish().await;
}
