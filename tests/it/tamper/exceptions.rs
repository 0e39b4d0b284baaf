//! What can't be found, with the reason; the same list stands in `docs/ARCHITECTURE.md`.

/// Tables, columns (`table.column`, `table.*` for all that are no key), operations on rows (`table: operation`), and files.
pub const UNFINDABLE: &[&str] = &[
    "cursors.next_seq",
    "cursors: deleted",
    "recording_work.*",
    "fixity.looked_at",
    "fixity.why",
    "schedule",
    "leases.*",
    "kept.held_in_store",
    "kept.locked_in_store",
    "holds.caught_at",
    "sessions",
    "sign_in_links",
    "node-id",
    "serve.lock",
    "verify.json",
    "index/live/*.lock",
    "index/live/meta.json",
    "spool/, objects/.staging/",
    "the journal's tail",
];

pub fn is_listed(name: &str) -> bool {
    UNFINDABLE.contains(&name)
}

#[test]
fn the_documentation_lists_the_same() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ARCHITECTURE.md");
    let text = std::fs::read_to_string(file).unwrap();
    let (_, section) = text.split_once("## What `verify` can't find").expect("the section is there");
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")).skip(1);
    let documented: Vec<(String, &str)> = rows
        .map(|row| {
            let (name, reason) = row.split_once(" | ").unwrap();
            (name.replace('`', ""), reason)
        })
        .collect();
    let names: Vec<&str> = documented.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, UNFINDABLE);
    for (name, reason) in &documented {
        assert!(reason.len() > 30, "{name} needs a reason, not {reason:?}");
    }
}
