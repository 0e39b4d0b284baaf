//! AMR and AMR-WB storage files, one channel (RFC 4867, section 5).

use super::intake::{Step, Walk};
use super::{AMR_NB, AMR_WB, AudioFacts, Kind, NotAudio, bit_rate};

pub(super) const MAGIC_NB: &[u8] = b"#!AMR\n";
pub(super) const MAGIC_WB: &[u8] = b"#!AMR-WB\n";

/// Bytes of a frame behind its header byte, by frame type (RFC 4867, section 5.3, with the sizes of
/// 3GPP TS 26.101 and TS 26.201).
type Sizes = [u8; 16];
/// A frame type that is reserved.
const NONE: u8 = u8::MAX;
const SIZES_NB: Sizes = [12, 13, 15, 17, 19, 20, 26, 31, 5, NONE, NONE, NONE, NONE, NONE, NONE, 0];
const SIZES_WB: Sizes = [17, 23, 32, 36, 40, 46, 50, 58, 60, 5, NONE, NONE, NONE, NONE, 0, 0];

/// Every frame is 20 ms.
const FRAMES_PER_SECOND: f64 = 50.0;
/// More bytes than this that are no frame header, in one piece, end the walk. There is no sync word
/// to find the way back by.
const MAX_JUNK: u32 = 4 * 1024;

#[derive(Debug)]
pub(super) struct AmrWalk {
    kind: Kind,
    sizes: &'static Sizes,
    rate: u32,
    frames: u64,
    bytes: u64,
    last: u64,
    junk_run: u32,
    cut: bool,
}

impl AmrWalk {
    pub(super) fn narrow() -> Self {
        Self { kind: AMR_NB, sizes: &SIZES_NB, rate: 8_000, frames: 0, bytes: 0, last: 0, junk_run: 0, cut: false }
    }

    pub(super) fn wide() -> Self {
        Self { kind: AMR_WB, sizes: &SIZES_WB, rate: 16_000, ..Self::narrow() }
    }
}

impl Walk for AmrWalk {
    fn unit(&self) -> usize {
        1
    }

    fn step(&mut self, window: &[u8], _eof: bool) -> Step {
        // The first bit and the last two are padding and must be 0.
        let size = self.sizes[usize::from((window[0] >> 3) & 0xF)];
        if window[0] & 0x83 == 0 && size != NONE {
            self.junk_run = 0;
            self.frames += 1;
            self.last = 1 + u64::from(size);
            self.bytes += self.last;
            return Step::Skip(self.last);
        }
        self.junk_run += 1;
        if self.junk_run > MAX_JUNK {
            self.cut = true;
            return Step::Stop;
        }
        Step::Skip(1)
    }

    fn end(&mut self, missing: u64) -> Result<AudioFacts, NotAudio> {
        if missing > 0 {
            self.frames -= 1;
            self.bytes -= self.last;
        }
        if self.frames == 0 {
            return Err(NotAudio::TooShort);
        }
        let seconds = self.frames as f64 / FRAMES_PER_SECOND;
        Ok(AudioFacts {
            media_type: self.kind.0,
            extension: self.kind.1,
            seconds,
            bit_rate: bit_rate(self.bytes, seconds),
            channels: 1,
            sample_rate: self.rate,
            frames: self.frames,
            complete: missing == 0 && !self.cut,
        })
    }
}
