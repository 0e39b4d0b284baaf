//! RIFF WAVE (Microsoft, "Multimedia Data Standards Update", 1994) and its 64-bit form RF64 (EBU
//! Tech 3306): PCM, A-law, mu-law, and whatever else states its byte rate.

use super::intake::{Step, Walk};
use super::{AudioFacts, NotAudio, WAV, bit_rate, claimed_seconds, le16, le32, le64};

/// A chunk's name and size.
const CHUNK: usize = 8;
/// The part of a `fmt ` chunk that every format has.
const FORMAT: usize = 16;
/// A size that writers to a pipe put because they cannot go back: until the end of the file.
const OPEN_ENDED: u64 = u32::MAX as u64;
/// Formats in which a block is one sample of every channel: PCM, IEEE float, A-law, mu-law,
/// extensible.
const BLOCK_IS_SAMPLE: [u16; 5] = [1, 3, 6, 7, 0xFFFE];

#[derive(Clone, Copy, Debug)]
struct Format {
    tag: u16,
    channels: u8,
    rate: u32,
    byte_rate: u32,
    block: u16,
}

#[derive(Debug, Default)]
enum Inside {
    #[default]
    Other,
    /// The sound; so many bytes were declared, None where the file's end is the end.
    Data(Option<u64>),
}

#[derive(Debug, Default)]
pub(super) struct WavWalk {
    format: Option<Format>,
    bad: bool,
    /// From an RF64 file's `ds64`.
    long_size: Option<u64>,
    data: u64,
    has_data: bool,
    inside: Inside,
}

impl Walk for WavWalk {
    fn unit(&self) -> usize {
        CHUNK
    }

    fn step(&mut self, window: &[u8], _eof: bool) -> Step {
        self.inside = Inside::Other;
        if window.len() < CHUNK {
            // A few stray bytes behind the sound are common and harmless.
            return if self.has_data { Step::Stop } else { Step::Need(CHUNK) };
        }
        let size = u64::from(le32(window, 4));
        // Chunks start at even offsets.
        let whole = CHUNK as u64 + size + (size & 1);
        match &window[..4] {
            b"fmt " | b"ds64" if window.len() < CHUNK + FORMAT => Step::Need(CHUNK + FORMAT),
            b"fmt " => {
                self.format = self.format.or_else(|| format(&window[CHUNK..]));
                self.bad |= self.format.is_none() || size < FORMAT as u64;
                if self.bad { Step::Stop } else { Step::Skip(whole) }
            }
            b"ds64" => {
                self.long_size = Some(le64(window, CHUNK + 8));
                Step::Skip(whole)
            }
            b"data" if !self.has_data => self.data(size),
            _ => Step::Skip(whole),
        }
    }

    fn end(&mut self, missing: u64) -> Result<AudioFacts, NotAudio> {
        let mut cut = missing > 0;
        match self.inside {
            Inside::Data(Some(declared)) => {
                // The byte that pads an odd chunk is often left out; it is no sound.
                cut = missing > (declared & 1);
                self.data = declared - missing.saturating_sub(declared & 1).min(declared);
            }
            Inside::Data(None) => {
                cut = false;
                self.data = (u64::MAX - missing).saturating_sub(CHUNK as u64);
            }
            Inside::Other => {}
        }
        if self.bad {
            return Err(NotAudio::BadHeader);
        }
        let format = self.format.ok_or(NotAudio::CutOff)?;
        if self.data == 0 {
            return Err(NotAudio::TooShort);
        }
        let blocks = self.data / u64::from(format.block);
        let seconds = if BLOCK_IS_SAMPLE.contains(&format.tag) {
            blocks as f64 / f64::from(format.rate)
        } else {
            claimed_seconds(self.data, u64::from(format.byte_rate)).unwrap_or(0.0)
        };
        Ok(AudioFacts {
            media_type: WAV.0,
            extension: WAV.1,
            seconds,
            bit_rate: bit_rate(self.data, seconds),
            channels: format.channels,
            sample_rate: format.rate,
            frames: blocks,
            complete: !cut,
        })
    }
}

impl WavWalk {
    fn data(&mut self, size: u64) -> Step {
        self.has_data = true;
        let long = self.long_size.filter(|long| size == OPEN_ENDED && *long < u64::MAX / 2);
        // No size at all is the same haste as all ones.
        let declared = long.or((size != 0 && size != OPEN_ENDED).then_some(size));
        self.inside = Inside::Data(declared);
        let Some(size) = declared else {
            return Step::Skip(u64::MAX);
        };
        self.data = size;
        Step::Skip(CHUNK as u64 + size + (size & 1))
    }
}

/// Reads a `fmt ` chunk; None where it makes no sense.
fn format(body: &[u8]) -> Option<Format> {
    let found = Format {
        tag: le16(body, 0),
        channels: u8::try_from(le16(body, 2)).ok()?,
        rate: le32(body, 4),
        byte_rate: le32(body, 8),
        block: le16(body, 12),
    };
    (found.channels > 0 && (1..=768_000).contains(&found.rate) && found.block > 0).then_some(found)
}
