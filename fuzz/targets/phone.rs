//! Numbers as people and senders write them: E.164 digits that read back as themselves, or nothing.

#![no_main]

use callvault::phone::{digits, e164_digits};
use callvault::search::Fragment;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (region, raw) = text.split_once(':').unwrap_or(("IN", text));
    assert!(digits(raw).bytes().all(|b| b.is_ascii_digit()));
    if let Some(found) = e164_digits(raw, region) {
        assert!((1..=15).contains(&found.len()) && found.bytes().all(|b| b.is_ascii_digit()), "{found}");
    }
    if let Some(fragment) = Fragment::read(raw, region) {
        assert!(!fragment.forms.is_empty());
        for form in &fragment.forms {
            assert!((3..=64).contains(&form.len()) && form.bytes().all(|b| b.is_ascii_digit()), "{form}");
        }
    }
});
