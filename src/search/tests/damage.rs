//! The index is disposable: what can't be used is set aside and replaced, and nothing else is.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;

fn files(lab: &Lab) -> Vec<PathBuf> {
    let live = lab.folder.path().join("live");
    let mut files: Vec<PathBuf> = fs::read_dir(live).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| !file.to_string_lossy().ends_with(".lock"));
    files.sort();
    files
}

fn filled() -> Lab {
    let mut lab = Lab::new();
    let calls: Vec<CallDoc> = (0..200)
        .map(|n| CallDoc {
            sort_at: n,
            customer_name: some("Ananya"),
            customer_number: some("9820011223"),
            ..call(&format!("call_{n}"))
        })
        .collect();
    lab.put(&calls);
    lab.index.take().unwrap().close().unwrap();
    lab
}

fn reopen(lab: &Lab) -> (Index, Opened) {
    Index::open_or_rebuild(lab.folder.path(), "IN").unwrap()
}

#[test]
fn an_index_is_found_again() {
    let lab = filled();
    let (mut index, opened) = reopen(&lab);
    assert_eq!(opened, Opened::Ready { cursor: 1 });
    assert!(!index.is_empty().unwrap());
    assert!(matches!(Index::open_or_rebuild(lab.folder.path(), "IN"), Err(Error::Locked)));
    index.set_memory(30_000_000).unwrap();
    index.apply(&[call("x")]).unwrap();
    assert!(matches!(index.set_memory(STEADY_BYTES), Err(Error::Uncommitted)));
    index.commit(5).unwrap();
    index.clear().unwrap();
    assert!(index.is_empty().unwrap());
    assert_eq!(lab.searcher().num_calls(), 0);
    index.apply_new(&[call("x")]).unwrap();
    index.commit(7).unwrap();
    let searcher = lab.searcher();
    assert_eq!((searcher.num_calls(), searcher.cursor(), searcher.built_at()), (1, 7, Some(7)));
    drop(index);
    assert_eq!(reopen(&lab).1, Opened::Ready { cursor: 7 });
}

#[test]
fn what_was_not_committed_is_forgotten() {
    let lab = filled();
    let (mut index, _) = reopen(&lab);
    index.apply(&[call("new")]).unwrap();
    drop(index);
    assert_eq!(reopen(&lab).1, Opened::Ready { cursor: 1 });
    assert_eq!(lab.searcher().num_calls(), 200);
}

#[test]
fn no_index_is_said_to_be_missing() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(Searcher::open(folder.path(), 1), Err(Error::Missing)));
}

#[test]
fn another_region_or_version_is_rebuilt() {
    let lab = filled();
    let (index, opened) = Index::open_or_rebuild(lab.folder.path(), "GB").unwrap();
    assert!(matches!(opened, Opened::RebuiltBecause(reason) if reason.contains("region IN")));
    drop(index);
    let lab = filled();
    let meta = lab.folder.path().join("live/meta.json");
    let text = fs::read_to_string(&meta)
        .unwrap()
        .replace(&format!("\\\"version\\\":{}", super::super::schema::VERSION), "\\\"version\\\":0");
    fs::write(&meta, text).unwrap();
    assert!(matches!(Searcher::open(lab.folder.path(), 1), Err(Error::Damaged(_))));
    assert!(matches!(reopen(&lab).1, Opened::RebuiltBecause(reason) if reason.contains("version 0")));
}

/// Whatever happens to whichever file: it is rebuilt, or nothing is lost, and nothing panics.
#[test]
fn every_kind_of_damage_to_every_file_is_survived() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 4] = [
        ("flip", |file| {
            let mut bytes = fs::read(file).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x55;
            fs::write(file, bytes).unwrap();
        }),
        ("cut", |file| {
            let bytes = fs::read(file).unwrap();
            fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("empty", |file| fs::write(file, b"").unwrap()),
        ("remove", |file| fs::remove_file(file).unwrap()),
    ];
    let count = files(&filled()).len();
    for (what, damage) in damages {
        for number in 0..count {
            let lab = filled();
            let file = files(&lab)[number].clone();
            damage(&file);
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            let seen = Searcher::open(lab.folder.path(), 1).and_then(|searcher| searcher.check(true));
            let managed = name == ".managed.json";
            assert!(managed || !matches!(&seen, Ok(damaged) if damaged.is_empty()), "{what} {name}: {seen:?}");
            if let Ok(searcher) = Searcher::open(lab.folder.path(), 1) {
                let expr = parse("ananya OR 98200", &context()).unwrap();
                let _ = searcher.search(&expr, &Page { facets: vec![Facet::Agent], ..Page::default() }, &context());
            }
            let (mut index, opened) = reopen(&lab);
            match opened {
                Opened::RebuiltBecause(reason) => {
                    assert!(!reason.is_empty() && lab.folder.path().join("aside").exists());
                    assert!(index.is_empty().unwrap());
                }
                other => assert!(managed, "{what} {name}: {other:?}"),
            }
            index.apply(&[call("new")]).unwrap();
            index.commit(9).unwrap();
            assert_eq!(lab.ids("new").len() + lab.ids("call_new").len(), 1, "{what} {name}");
        }
    }
}

#[test]
fn an_open_searcher_goes_over_to_the_new_index() {
    let lab = filled();
    let searcher = lab.searcher();
    fs::write(lab.folder.path().join("live/meta.json"), b"{}").unwrap();
    assert!(searcher.refresh().is_err_and(|error| error.is_damage()));
    assert_eq!(searcher.num_calls(), 200);
    let (mut index, _) = reopen(&lab);
    index.apply_new(&[call("call_new")]).unwrap();
    index.commit(1).unwrap();
    searcher.refresh().unwrap();
    assert_eq!(searcher.num_calls(), 1);
    assert_eq!(lab.ids("call_new"), ["call_new"]);
}

#[test]
fn both_sides_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Searcher>();
    shared::<Index>();
}

#[test]
fn an_index_can_be_discarded_when_nobody_writes_it() {
    let lab = filled();
    let (index, _) = reopen(&lab);
    assert!(matches!(Index::discard(lab.folder.path()), Err(Error::Locked)));
    drop(index);
    Index::discard(lab.folder.path()).unwrap();
    Index::discard(lab.folder.path()).unwrap();
    assert_eq!(reopen(&lab).1, Opened::Empty);
}

#[test]
fn only_one_index_is_kept_aside() {
    let lab = filled();
    for round in 0..2 {
        fs::write(lab.folder.path().join("live/meta.json"), b"{}").unwrap();
        let (index, opened) = reopen(&lab);
        assert!(matches!(opened, Opened::RebuiltBecause(_)), "{round}");
        drop(index);
    }
    let entries = fs::read_dir(lab.folder.path()).unwrap().count();
    assert_eq!(entries, 2);
}

#[test]
fn a_merge_that_a_restart_interrupted_doubles_no_call() {
    let calls: Vec<CallDoc> = (0..50).map(|n| call(&format!("call_{n}"))).collect();
    let mut lab = Lab::new();
    lab.put(&calls[..40]);
    lab.put(&calls[40..]);
    // So many of the smaller segment are replaced that all are to be merged, which the end of the process prevents.
    lab.put(&calls[40..44]);
    drop(lab.index.take());
    let (index, _) = reopen(&lab);
    lab.index = Some(index);
    // The merge begins again while the first change after the restart is committed, to a call of that segment.
    lab.put(&calls[44..45]);
    lab.index.take().unwrap().close().unwrap();
    assert_eq!(lab.searcher().num_calls(), 50);
}
