//! The bytes behind a recording's ID3v2 tags, readable until the caller asks to stop.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicBool, Ordering};

use symphonia::core::io::MediaSource;

/// More tags than this in front of the sound are not skipped.
const MAX_TAGS: u32 = 16;

/// A source that starts where the tags end, so that no tag, however large, is ever read into
/// memory; and whose reads fail once the flag is set, because a reader may search a damaged file
/// for long without coming back.
pub(super) struct Source<'s> {
    inner: Box<dyn MediaSource>,
    start: u64,
    should_stop: &'s AtomicBool,
}

impl<'s> Source<'s> {
    /// # Errors
    /// Those of reading and seeking.
    pub(super) fn behind_tags(mut inner: Box<dyn MediaSource>, should_stop: &'s AtomicBool) -> io::Result<Self> {
        let mut start = 0;
        if inner.is_seekable() {
            for _ in 0..MAX_TAGS {
                inner.seek(SeekFrom::Start(start))?;
                let mut head = Vec::with_capacity(16);
                inner.by_ref().take(16).read_to_end(&mut head)?;
                match crate::audio::walk::id3v2_len(&head) {
                    Some(len) => start += len,
                    None => break,
                }
            }
            inner.seek(SeekFrom::Start(start))?;
        }
        Ok(Self { inner, start, should_stop })
    }
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.should_stop.load(Ordering::Relaxed) {
            // Not `Interrupted`, which readers take for an invitation to try again.
            return Err(io::Error::other("stopped"));
        }
        self.inner.read(buffer)
    }
}

impl Seek for Source<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => SeekFrom::Start(self.start.saturating_add(at)),
            other => other,
        };
        Ok(self.inner.seek(to)?.saturating_sub(self.start))
    }
}

impl MediaSource for Source<'_> {
    fn is_seekable(&self) -> bool {
        self.inner.is_seekable()
    }

    fn byte_len(&self) -> Option<u64> {
        Some(self.inner.byte_len()?.saturating_sub(self.start))
    }
}
