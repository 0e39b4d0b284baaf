//! Turns chunks of any size into windows of the size a container's walk asks for.
//!
//! A walk sees exactly as many bytes as it asked for, wherever the chunks were cut; that alone
//! makes its result independent of the chunking. Only at the end of the file does it see fewer.

use super::{AudioFacts, NotAudio};

/// The most a walk may ask for at once, in bytes: from one ADTS header to the next but one, at the
/// largest frame size.
pub(super) const MAX_WINDOW: usize = 17 * 1024;

/// What a walk wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The same position again with a window of this many bytes; more than it just saw, at most
    /// [`MAX_WINDOW`]. At the end of the file it means that these bytes are missing.
    Need(usize),
    /// Done with this many bytes, which may reach beyond the window: they are skipped by count. 0
    /// only when the walk has changed its own state so that it will not return 0 again for the same
    /// bytes.
    Skip(u64),
    /// Nothing further is of interest.
    Stop,
}

/// One container's walk.
pub(super) trait Walk {
    /// The window size to start with after a skip, 1 or more.
    fn unit(&self) -> usize;
    /// Looks at the bytes at the current position. Shorter than asked for only where `eof` says
    /// that this is all there is; never empty.
    fn step(&mut self, window: &[u8], eof: bool) -> Step;
    /// The end: `missing` bytes of the last [`Step::Skip`] or [`Step::Need`] did not come.
    fn end(&mut self, missing: u64) -> Result<AudioFacts, NotAudio>;
}

/// The bytes between a walk and the chunks.
#[derive(Debug, Default)]
pub(super) struct Intake {
    /// Bytes kept from earlier chunks; those before `start` are used up.
    kept: Vec<u8>,
    start: usize,
    /// Bytes still to be skipped.
    skip: u64,
    /// Window asked for, 0 for the walk's unit.
    need: usize,
    stopped: bool,
}

impl Intake {
    /// Runs `walk` over what is at hand.
    pub(super) fn feed<W: Walk>(&mut self, walk: &mut W, mut data: &[u8]) {
        while !self.stopped {
            data = self.skip_ahead(data);
            if self.skip > 0 {
                return;
            }
            let need = self.window(walk);
            let held = self.kept.len() - self.start;
            if held == 0 {
                let Some(window) = data.get(..need) else {
                    break;
                };
                let step = walk.step(window, false);
                self.take(step, need);
                continue;
            }
            // Only as much as is needed joins the kept bytes, so that the direct way is soon open
            // again.
            let (joining, rest) = data.split_at(need.saturating_sub(held).min(data.len()));
            self.keep(joining);
            data = rest;
            if self.kept.len() - self.start < need {
                return;
            }
            let step = walk.step(&self.kept[self.start..self.start + need], false);
            self.take(step, need);
        }
        if !self.stopped {
            self.keep(data);
        }
    }

    /// Runs `walk` over the remainder. Returns how many bytes it still wanted.
    pub(super) fn finish<W: Walk>(&mut self, walk: &mut W) -> u64 {
        let kept = std::mem::take(&mut self.kept);
        let mut rest = &kept[self.start..];
        while !self.stopped {
            let ahead = usize::try_from(self.skip).unwrap_or(usize::MAX).min(rest.len());
            rest = &rest[ahead..];
            self.skip -= ahead as u64;
            if self.skip > 0 || rest.is_empty() {
                return self.skip;
            }
            let window = &rest[..self.window(walk).min(rest.len())];
            let eof = window.len() == rest.len();
            match walk.step(window, eof) {
                Step::Need(need) if eof => return need.saturating_sub(rest.len()) as u64,
                step => self.take(step, window.len()),
            }
        }
        0
    }

    /// Bytes of memory in use.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.kept.capacity()
    }

    fn window<W: Walk>(&self, walk: &W) -> usize {
        if self.need == 0 { walk.unit() } else { self.need }
    }

    fn take(&mut self, step: Step, seen: usize) {
        match step {
            Step::Need(need) => {
                debug_assert!(need > seen && need <= MAX_WINDOW, "window of {need} after {seen}");
                // A walk that breaks the rule must not hang the archive.
                self.need = need.clamp(seen + 1, MAX_WINDOW.max(seen + 1));
            }
            Step::Skip(count) => {
                self.skip = count;
                self.need = 0;
            }
            Step::Stop => {
                self.stopped = true;
                self.kept = Vec::new();
                self.start = 0;
            }
        }
    }

    fn skip_ahead<'a>(&mut self, data: &'a [u8]) -> &'a [u8] {
        let held = self.kept.len() - self.start;
        let from_kept = usize::try_from(self.skip).unwrap_or(usize::MAX).min(held);
        self.start += from_kept;
        self.skip -= from_kept as u64;
        if self.start == self.kept.len() {
            self.kept.clear();
            self.start = 0;
        }
        let from_data = usize::try_from(self.skip).unwrap_or(usize::MAX).min(data.len());
        self.skip -= from_data as u64;
        &data[from_data..]
    }

    fn keep(&mut self, data: &[u8]) {
        // Moved to the front only after as many bytes were used up, so that every byte moves once
        // on average.
        if self.start > MAX_WINDOW {
            self.kept.drain(..self.start);
            self.start = 0;
        }
        self.kept.extend_from_slice(data);
    }
}
