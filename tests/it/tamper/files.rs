//! Every file of the archive damaged in every way, one at a time.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::archive::{Copy, Verdict};
use super::exceptions::is_listed;
use crate::leftovers::files;

/// Makes the same places come up in every run.
const SEED: u64 = 20_260_309;

/// What is done to a file; `false` where it can't be done to this one.
type Damage = fn(&Path, &mut fastrand::Rng) -> bool;

fn flip(file: &Path, random: &mut fastrand::Rng) -> bool {
    change(file, |bytes| {
        let at = random.usize(..bytes.len());
        bytes[at] ^= 1 << random.u8(..8);
    })
}

fn swap(file: &Path, random: &mut fastrand::Rng) -> bool {
    change(file, |bytes| {
        let half = bytes.len() / 2;
        let length = 1 + random.usize(..half.clamp(1, 16));
        let (front, back) = bytes.split_at_mut(half);
        let length = length.min(front.len()).min(back.len());
        front[..length].swap_with_slice(&mut back[..length]);
    })
}

fn cut(file: &Path, random: &mut fastrand::Rng) -> bool {
    change(file, |bytes| bytes.truncate(random.usize(1..bytes.len().max(2))))
}

/// Changes a file's bytes; `false` where they come out the same.
fn change(file: &Path, with: impl FnOnce(&mut Vec<u8>)) -> bool {
    let old = fs::read(file).unwrap();
    let mut new = old.clone();
    if new.len() > 1 {
        with(&mut new);
    }
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(file, &new).unwrap();
    if file.to_string_lossy().contains("/objects/") && !file.to_string_lossy().ends_with(".retention.json") {
        fs::set_permissions(file, fs::Permissions::from_mode(0o444)).unwrap();
    }
    old != new
}

fn empty(file: &Path, _: &mut fastrand::Rng) -> bool {
    change(file, Vec::clear)
}

fn remove(file: &Path, _: &mut fastrand::Rng) -> bool {
    fs::remove_file(file).unwrap();
    true
}

fn rename(file: &Path, _: &mut fastrand::Rng) -> bool {
    fs::rename(file, file.with_file_name("renamed.mp3")).unwrap();
    true
}

fn link(file: &Path, _: &mut fastrand::Rng) -> bool {
    let elsewhere = file.with_file_name(".elsewhere");
    fs::rename(file, &elsewhere).unwrap();
    symlink(&elsewhere, file).unwrap();
    true
}

fn make_writable(file: &Path, _: &mut fastrand::Rng) -> bool {
    let objects = file.to_string_lossy().contains("/objects/");
    fs::set_permissions(file, fs::Permissions::from_mode(0o666)).unwrap();
    objects
}

fn stray(file: &Path, _: &mut fastrand::Rng) -> bool {
    fs::copy(file, format!("{}.copy", file.display())).unwrap();
    true
}

/// Another valid recording under its name, with or without its lock.
fn replace(file: &Path, with_lock: bool) -> bool {
    let name = file.to_string_lossy().into_owned();
    if !name.ends_with(".mp3") {
        return false;
    }
    let mut root = file;
    while root.file_name().is_some_and(|name| name != "objects") {
        root = root.parent().unwrap();
    }
    let others = files(root);
    let other = others.iter().find(|other| other.to_string_lossy().ends_with(".mp3") && *other != file).unwrap();
    fs::remove_file(file).unwrap();
    fs::copy(other, file).unwrap();
    if with_lock {
        fs::copy(format!("{}.retention.json", other.display()), format!("{name}.retention.json")).unwrap();
    }
    true
}

fn replace_alone(file: &Path, _: &mut fastrand::Rng) -> bool {
    replace(file, false)
}

fn replace_with_lock(file: &Path, _: &mut fastrand::Rng) -> bool {
    replace(file, true)
}

fn move_date(file: &Path, from: &str, to: &str) -> bool {
    if !file.to_string_lossy().ends_with(".retention.json") {
        return false;
    }
    let text = fs::read_to_string(file).unwrap();
    fs::write(file, text.replace(from, to)).unwrap();
    true
}

fn shorten(file: &Path, _: &mut fastrand::Rng) -> bool {
    move_date(file, "2031-", "2030-")
}

fn lengthen(file: &Path, _: &mut fastrand::Rng) -> bool {
    move_date(file, "2031-", "2131-")
}

const DAMAGES: [(&str, Damage); 14] = [
    ("a bit flipped", flip),
    ("another bit flipped", flip),
    ("ranges swapped", swap),
    ("cut", cut),
    ("emptied", empty),
    ("removed", remove),
    ("renamed", rename),
    ("a link in its place", link),
    ("made writable", make_writable),
    ("a stray copy beside it", stray),
    ("another recording", replace_alone),
    ("another recording with its lock", replace_with_lock),
    ("its date shortened", shorten),
    ("its date moved out", lengthen),
];

/// A folder's content, to be put back.
struct Saved(BTreeMap<PathBuf, (Vec<u8>, u32)>);

impl Saved {
    fn of(folder: &Path) -> Self {
        let save = |file: PathBuf| {
            let mode = fs::metadata(&file).unwrap().permissions().mode();
            (file.clone(), (fs::read(&file).unwrap(), mode))
        };
        Self(files(folder).into_iter().map(save).collect())
    }

    fn put_back(&self, folder: &Path) {
        for file in files(folder) {
            fs::remove_file(file).unwrap();
        }
        for (file, (bytes, mode)) in &self.0 {
            fs::write(file, bytes).unwrap();
            fs::set_permissions(file, fs::Permissions::from_mode(*mode)).unwrap();
        }
    }
}

/// Damages every file below a folder in every way; what was not found or not named, and how many cases there were.
async fn damage_all(copy: Copy, folder: &str, names: impl Fn(&str) -> Vec<String>) -> (Vec<String>, usize) {
    let below = copy.data().join(folder);
    let (saved, mut random) = (Saved::of(&below), fastrand::Rng::with_seed(SEED));
    let (mut wrong, mut cases) = (Vec::new(), 0);
    for file in saved.0.keys() {
        let name = file.strip_prefix(copy.data()).unwrap().to_str().unwrap();
        for (what, damage) in DAMAGES {
            if damage(file, &mut random) {
                cases += 1;
                let verdict = copy.verify().await;
                if !is_found(name, &verdict, &names(name)) {
                    wrong.push(format!("{name}, {what}: {verdict:?}"));
                }
            }
            saved.put_back(&below);
        }
    }
    assert_eq!(copy.verify().await.0, [""; 0], "everything is back in its place");
    (wrong, cases)
}

/// Named, or listed as what can't always be found.
fn is_found(name: &str, verdict: &Verdict, names: &[String]) -> bool {
    let listed = is_listed(name) || (name.ends_with(".lock") && is_listed("index/live/*.lock"));
    listed || verdict.names(names)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_damaged_object_and_lock_is_found_and_named() {
    let key = |name: &str| {
        let key = name.strip_prefix("objects/").unwrap();
        vec![key.strip_suffix(".retention.json").unwrap_or(key).to_owned()]
    };
    let (wrong, cases) = damage_all(Copy::embedded().await, "objects", key).await;
    assert!(cases > 100, "{cases}");
    assert_eq!(wrong, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_damaged_file_of_the_index_is_found() {
    let file = |name: &str| {
        let file = name.rsplit('/').next().unwrap().to_owned();
        // Without its lists there is nothing to name a file of.
        vec![file.clone(), format!("{file}.copy"), "the search index is damaged".into(), "no search index yet".into()]
    };
    let (wrong, cases) = damage_all(Copy::new().await, "index", file).await;
    assert!(cases > 60, "{cases}");
    assert_eq!(wrong, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_no_objects_are_found_wherever_they_lie() {
    let copy = Copy::embedded().await;
    let objects = copy.data().join("objects");
    for place in ["stray", "recordings/stray.mp3", "recordings/.hidden", "other/deep/file", "x.mp3.retention.json"] {
        let path = objects.join(place);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "stray").unwrap();
        let verdict = copy.verify().await;
        assert!(verdict.names(&[place.to_owned()]), "{place}: {verdict:?}");
        fs::remove_file(path).unwrap();
    }
    fs::create_dir(objects.join("lost+found")).unwrap();
    fs::write(objects.join("lost+found/#123"), "what fsck found").unwrap();
    assert_eq!(copy.verify().await.0, [""; 0], "that is the file system's own");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_matters_to_nobody_changes_nothing() {
    let copy = Copy::embedded().await;
    for name in ["node-id", "serve.lock", "verify.json"] {
        assert!(is_listed(name));
        for content in [&b"other"[..], b"", b"\xff\xfe"] {
            fs::write(copy.data().join(name), content).unwrap();
            assert_eq!(copy.verify().await.0, [""; 0], "{name}");
        }
    }
    for folder in ["spool", "objects/.staging"] {
        fs::write(copy.data().join(folder).join("left behind"), "half").unwrap();
        assert_eq!(copy.verify().await.0, [""; 0], "{folder}");
    }
}

/// The program says it, too.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_names_the_object_and_ends_with_1() {
    let copy = Copy::embedded().await;
    let objects = files(&copy.data().join("objects"));
    let object = objects.iter().find(|file| file.to_string_lossy().ends_with(".mp3")).unwrap();
    assert!(cut(object, &mut fastrand::Rng::with_seed(SEED)));
    let output = crate::process::cli(&copy.config_file(), &["verify"]).await;
    let said = crate::process::ended_with(&output, 1);
    let key = object.strip_prefix(copy.data().join("objects")).unwrap().to_str().unwrap();
    assert!(said.contains(&format!("DAMAGED  object {key} of call ")), "{said}");
    assert!(said.contains(": 1 DAMAGED"), "{said}");
}
