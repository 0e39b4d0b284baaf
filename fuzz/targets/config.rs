//! A configuration file and variables: read, or refused in one line that repeats no secret.

#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use callvault::config::{Flags, load};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

const SECRET: &str = "hunter2-of-the-fuzzer-hunter2";

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir_in("/dev/shm").expect("a folder in memory"));

fuzz_target!(|text: &str| {
    // Before a NUL the file, after it variables, one a line.
    let (file, variables) = text.split_once('\0').unwrap_or((text, ""));
    let path: PathBuf = FOLDER.path().join("callvault.toml");
    std::fs::write(&path, file).expect("the file is written");
    let flags = Flags { config: Some(path), ..Flags::default() };
    let variables = variables.lines().filter_map(|line| line.split_once('='));
    let variables = variables.map(|(name, value)| (format!("CALLVAULT_{name}"), value.to_owned()));
    match load(&flags, variables) {
        Ok(config) => {
            assert!(config.recordings.concurrency > 0 && config.recordings.max_bytes > 0);
            assert!(config.flags.short_call_seconds <= config.flags.long_call_seconds);
            assert_eq!(config.region.len(), 2);
            config.bootstrap.parse().expect("it was checked");
            assert!(!keeps_its_place(text) || !format!("{config:?}").contains(SECRET), "{config:?}");
        }
        Err(error) => {
            let said = error.to_string();
            assert!(!said.is_empty() && !said.contains('\n'), "{said:?}");
            assert!(!keeps_its_place(text) || !said.contains(SECRET), "{said}");
        }
    }
});

/// Whether the secret stands only where secrets belong: written into another key it may be repeated like any other value.
fn keeps_its_place(text: &str) -> bool {
    let belongs = |line: &str| {
        let key = line.split('=').next().unwrap_or_default().trim().to_ascii_lowercase();
        ["api_key", "tokens", "url"].iter().any(|secret| key.ends_with(secret))
    };
    text.split(['\n', '\0']).filter(|line| line.contains(SECRET)).all(belongs)
}
