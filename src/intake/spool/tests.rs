use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;

use super::file::{Files, Waiting};

fn waiting(n: u64) -> Waiting {
    Waiting {
        actor: "token:x".into(),
        received_at: jiff::Timestamp::from_second(1_700_000_000 + n.cast_signed()).unwrap(),
        tried_since: n.is_multiple_of(3).then_some(n),
        salt: [u8::try_from(n % 256).unwrap(); 16],
        body: format!("{{\"n\":{n}}}\n\"with a line in it\"").into_bytes(),
    }
}

fn names(folder: &Path) -> BTreeSet<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return BTreeSet::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Takes out up to `limit`, as the journal does that takes them.
fn take(files: &mut Files, limit: usize) -> Vec<Waiting> {
    let mut next = files.next(limit, usize::MAX).unwrap();
    files.begin(&mut next, 100).unwrap();
    files.done(&next).unwrap();
    next.waiting
}

#[test]
fn what_waits_comes_in_order_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("webhooks");
    let mut files = Files::open(&folder).unwrap();
    assert!(files.is_empty() && names(&folder).is_empty());
    files.append(&[waiting(0), waiting(1)]).unwrap();
    files.append(&[waiting(2)]).unwrap();
    assert_eq!(take(&mut files, 2), [waiting(0), waiting(1)]);
    files.append(&[waiting(3)]).unwrap();
    assert_eq!((files.count(), take(&mut files, 9)), (2, vec![waiting(2), waiting(3)]));
    assert!(files.is_empty());
    assert_eq!(names(&folder), BTreeSet::new(), "no file at rest");
    files.append(&[waiting(4)]).unwrap();
    assert_eq!(take(&mut files, 9), [waiting(4)]);
}

#[test]
fn an_attempt_that_nobody_heard_the_end_of_is_told_with_the_journal_s_size_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = Files::open(dir.path()).unwrap();
    files.append(&[waiting(1), waiting(2)]).unwrap();
    let mut next = files.next(9, usize::MAX).unwrap();
    assert_eq!(next.tried_since, None);
    files.begin(&mut next, 70).unwrap();
    let mut files = Files::open(dir.path()).unwrap();
    let mut next = files.next(9, usize::MAX).unwrap();
    assert_eq!((next.waiting.len(), next.tried_since), (2, Some(70)));
    files.begin(&mut next, 90).unwrap();
    assert_eq!(next.tried_since, Some(70), "the first attempt may be the one that took effect");
    files.done(&next).unwrap();
    files.append(&[waiting(3)]).unwrap();
    assert_eq!(files.next(9, usize::MAX).unwrap().tried_since, Some(3), "somebody tried it before it was put by");
}

#[test]
fn a_torn_end_was_never_acknowledged_and_a_damaged_line_holds_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = Files::open(dir.path()).unwrap();
    files.append(&[waiting(1), waiting(2), waiting(3)]).unwrap();
    let path = dir.path().join(names(dir.path()).first().unwrap());
    let mut bytes = std::fs::read(&path).unwrap();
    let second = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 20;
    bytes[second] ^= 1;
    bytes.extend(b"0000 half a li");
    std::fs::write(&path, bytes).unwrap();
    let mut files = Files::open(dir.path()).unwrap();
    assert_eq!(files.count(), 3);
    assert_eq!(take(&mut files, 9), [waiting(1), waiting(3)]);
    assert!(files.is_empty());
    assert_eq!(names(dir.path()), BTreeSet::from(["damaged".to_owned()]), "what was acknowledged is not thrown away");
    assert_eq!(names(&dir.path().join("damaged")).len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Whatever is put in, taken out and opened again: nothing is lost, all is in order, and what comes twice is what was
    /// tried last.
    #[test]
    fn first_in_first_out(steps in prop::collection::vec(0_usize..12, 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let (mut files, mut put, mut taken, mut noted) = (Files::open(dir.path()).unwrap(), 0, 0, 0);
        for step in steps {
            match step {
                0..=5 => {
                    let more: Vec<_> = (put..=put + step as u64).map(waiting).collect();
                    files.append(&more).unwrap();
                    put += more.len() as u64;
                }
                6..=10 if taken < put => {
                    noted = taken;
                    for one in take(&mut files, step - 5) {
                        prop_assert_eq!(one, waiting(taken));
                        taken += 1;
                    }
                }
                _ => {
                    files = Files::open(dir.path()).unwrap();
                    taken = noted;
                }
            }
            if files.is_empty() {
                noted = taken;
            }
            prop_assert_eq!(files.count(), put - taken);
        }
    }
}
