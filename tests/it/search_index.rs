//! The index is disposable: whatever is done to it, the same calls are found again.

use std::fs;
use std::path::PathBuf;

use crate::app::TestApp;
use crate::events::missed;
use crate::http::eventually;
use crate::leftovers::files;
use crate::process::ended_with;

async fn filled() -> TestApp {
    let app = TestApp::start().await;
    for n in 0..20 {
        app.post(&missed(&format!("call_{n}"))).await;
    }
    app.found("limit=1", 20).await;
    app
}

fn index_files(app: &TestApp) -> Vec<PathBuf> {
    let all = files(&app.data_dir().join("index"));
    all.into_iter().filter(|file| !file.to_string_lossy().ends_with(".lock")).collect()
}

/// The next call and all that were there before are found.
async fn heals(app: &TestApp, next: &str, total: u64) {
    app.post(&missed(next)).await;
    app.found(&format!("q={next}"), 1).await;
    app.found("limit=1", total).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_while_it_serves_is_mended() {
    let app = filled().await;
    for file in index_files(&app) {
        fs::remove_file(file).unwrap();
    }
    heals(&app, "after_removal", 21).await;

    for file in index_files(&app) {
        let garbage = vec![0xa5; usize::try_from(fs::metadata(&file).unwrap().len()).unwrap()];
        // In place: whoever has the file open sees it too.
        let mut open = fs::OpenOptions::new().write(true).open(&file).unwrap();
        std::io::Write::write_all(&mut open, &garbage).unwrap();
    }
    heals(&app, "after_garbage", 22).await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_gone_or_broken_is_built_again_at_the_start() {
    let mut app = filled().await;
    app.stop().await;
    fs::remove_dir_all(app.data_dir().join("index")).unwrap();
    app.serve_again().await;
    heals(&app, "after_removal", 21).await;
    app.settle().await;
    app.stop().await;
    for file in index_files(&app) {
        fs::write(file, "not an index").unwrap();
    }
    app.serve_again().await;
    heals(&app, "after_garbage", 22).await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reindex_beside_a_running_server_and_without_one() {
    let mut app = filled().await;
    let output = app.cli(&["reindex"]).await;
    assert!(ended_with(&output, 0).starts_with("Asked the running server (process "), "{output:?}");
    let seq = app.journal("&kind=index.rebuild_requested").await[0]["entry"]["seq"].as_u64().unwrap();
    let rebuilt = || async {
        let searcher = app.parts().search.searcher().ok()?;
        searcher.built_at().is_some_and(|at| at > seq).then_some(())
    };
    eventually("the index is built again", rebuilt).await;
    heals(&app, "after_reindex", 21).await;

    app.settle().await;
    app.stop().await;
    fs::remove_dir_all(app.data_dir().join("index")).unwrap();
    let search = app.cli(&["search", "call_7"]).await;
    ended_with(&search, 1);
    assert!(crate::process::stderr(&search).contains("callvault reindex"), "{search:?}");
    assert_eq!(ended_with(&app.cli(&["reindex"]).await, 0), "The search index is rebuilt: 21 calls.\n");
    assert!(ended_with(&app.cli(&["search", "call_7"]).await, 0).contains("1 calls"));
    app.serve_again().await;
    app.finish().await;
}
