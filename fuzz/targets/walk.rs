//! The walk over a recording's frames: constant memory, the same answer however the bytes are cut, and sane facts.

#![no_main]

use callvault::audio::{AudioFacts, FrameWalk, NotAudio};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // The last bytes say where to cut, so that a plain audio file is a good seed.
    let (audio, cuts) = bytes.split_at(bytes.len() - bytes.len().min(4));
    let whole = walked(std::iter::once(audio));
    let size = cuts.iter().fold(0, |size, byte| size * 7 + usize::from(*byte)) % 4096 + 1;
    assert_eq!(walked(audio.chunks(size)), whole, "cut at every {size}");
    if audio.len() < 4096 {
        assert_eq!(walked(audio.chunks(1)), whole, "byte by byte");
    }
    if let Ok(facts) = &whole {
        assert!(facts.seconds.is_finite() && facts.seconds >= 0.0, "{facts:?}");
        assert!(facts.channels >= 1 && facts.sample_rate >= 1, "{facts:?}");
        assert!(facts.frames > 0 || facts.seconds == 0.0 || !facts.complete || facts.extension == "m4a", "{facts:?}");
        assert!(!facts.media_type.is_empty() && !facts.extension.is_empty());
    }
});

fn walked<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Result<AudioFacts, NotAudio> {
    let mut walk = FrameWalk::new();
    chunks.for_each(|chunk| walk.feed(chunk));
    walk.finish()
}
