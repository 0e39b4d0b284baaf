//! MP4 and M4A (ISO/IEC 14496-12): the length is what the movie header says. `moov` may stand
//! before or after the sound.
//!
//! Fragments (`moof`) are skipped: where the header leaves the length to them and has no `mehd`, it
//! is unknown.

use super::intake::{Step, Walk};
use super::{AudioFacts, MP4, NotAudio, be16, be32, be64, bit_rate, claimed_seconds};

/// A box's size and type.
const BOX: usize = 8;
/// With a 64-bit size.
const LONG_BOX: usize = 16;
/// What is read of a sample description: the first entry's fixed part, and with it what an encoder
/// puts right behind.
const DESCRIPTION: usize = 44;
const DESCRIPTION_MORE: usize = 256;
/// The rates that are believed, in Hz.
const RATES: std::ops::RangeInclusive<u32> = 1..=768_000;

/// What the box being skipped is.
#[derive(Debug, Default, PartialEq, Eq)]
enum Inside {
    #[default]
    Other,
    Sound,
    /// To the end of the file, however far that is.
    OpenSound,
}

/// A track, as it is read.
#[derive(Clone, Copy, Debug, Default)]
struct Track {
    sound: bool,
    /// Its sample description was read.
    described: bool,
    channels: u8,
    rate: u32,
    time_scale: u32,
    seconds: Option<f64>,
    samples: u64,
}

#[derive(Debug, Default)]
pub(super) struct Mp4Walk {
    /// Offset of the current window.
    at: u64,
    /// Where the current top-level box ends, and the `moov` box.
    top_end: u64,
    moov_end: u64,
    time_scale: u32,
    seconds: Option<f64>,
    track: Track,
    sound: Option<Track>,
    data: u64,
    has_data: bool,
    has_moov: bool,
    bad: bool,
    inside: Inside,
}

impl Walk for Mp4Walk {
    fn unit(&self) -> usize {
        BOX
    }

    fn step(&mut self, window: &[u8], _eof: bool) -> Step {
        self.inside = Inside::Other;
        if window.len() < BOX {
            return Step::Need(BOX);
        }
        let (size, head) = match be32(window, 0) {
            1 if window.len() < LONG_BOX => return Step::Need(LONG_BOX),
            1 => (be64(window, 8), LONG_BOX),
            size => (u64::from(size), BOX),
        };
        let in_moov = self.at < self.moov_end;
        if size == 0 && !in_moov {
            return self.open_ended(&window[4..8]);
        }
        if size < head as u64 {
            self.bad = true;
            return Step::Stop;
        }
        if in_moov {
            // No child reaches beyond its parent, whatever it says.
            return self.child(window, size.min(self.moov_end - self.at), head);
        }
        self.top_end = self.at.saturating_add(size);
        match &window[4..8] {
            b"moov" if !self.has_moov => {
                self.has_moov = true;
                self.moov_end = self.top_end;
                self.skip(head as u64)
            }
            b"mdat" => {
                self.has_data = true;
                self.inside = Inside::Sound;
                self.data = self.data.saturating_add(size - head as u64);
                self.skip(size)
            }
            _ => self.skip(size),
        }
    }

    fn end(&mut self, missing: u64) -> Result<AudioFacts, NotAudio> {
        self.keep_track();
        let open = self.inside == Inside::OpenSound;
        let cut = !open && (missing > 0 || self.at < self.top_end);
        if missing > 0 && self.inside != Inside::Other {
            self.data = self.data.saturating_sub(missing);
        }
        let Some(track) = self.sound else {
            return Err(match (self.bad, self.has_moov && self.at.saturating_sub(missing) >= self.moov_end) {
                (true, _) => NotAudio::BadHeader,
                (_, true) => NotAudio::NoSoundTrack,
                (_, false) => NotAudio::CutOff,
            });
        };
        // The time scale of a sound track is its rate, by custom; the header's own field holds no
        // more than 65,535.
        let rate = [track.rate, track.time_scale].into_iter().find(|rate| RATES.contains(rate));
        let seconds = self.seconds.or(track.seconds).unwrap_or(0.0);
        Ok(AudioFacts {
            media_type: MP4.0,
            extension: MP4.1,
            seconds,
            bit_rate: bit_rate(self.data, seconds),
            channels: track.channels.max(1),
            sample_rate: rate.ok_or(NotAudio::BadHeader)?,
            frames: track.samples,
            complete: !cut && !self.bad && self.has_data,
        })
    }
}

impl Mp4Walk {
    fn skip(&mut self, count: u64) -> Step {
        self.at = self.at.saturating_add(count);
        Step::Skip(count)
    }

    fn open_ended(&mut self, name: &[u8]) -> Step {
        self.top_end = self.at;
        self.inside = Inside::OpenSound;
        if name == b"mdat" {
            self.has_data = true;
            self.data = u64::MAX - BOX as u64;
        }
        self.skip(u64::MAX)
    }

    /// A box within `moov`: the containers on the way are entered, so that their children come
    /// next.
    fn child(&mut self, window: &[u8], size: u64, head: usize) -> Step {
        let name = &window[4..8];
        // Bytes of the box that are read, its header included.
        let read = head
            + match name {
                b"mvhd" | b"mdhd" => 32,
                b"hdlr" | b"stsz" | b"mehd" => 12,
                b"stsd" => {
                    DESCRIPTION.max(usize::try_from(size).unwrap_or(0).saturating_sub(head).min(DESCRIPTION_MORE))
                }
                _ => 0,
            };
        if size < read as u64 {
            return self.skip(size);
        }
        if window.len() < read {
            return Step::Need(read);
        }
        let body = &window[head..];
        match name {
            b"trak" => {
                self.keep_track();
                self.track = Track::default();
                return self.skip(head as u64);
            }
            b"mdia" | b"minf" | b"stbl" | b"mvex" => return self.skip(head as u64),
            b"mvhd" => (self.time_scale, self.seconds) = media_time(body),
            b"mdhd" => (self.track.time_scale, self.track.seconds) = media_time(body),
            b"mehd" => {
                let count = if body[0] == 0 { u64::from(be32(body, 4)) } else { be64(body, 4) };
                self.seconds = self.seconds.or(claimed_seconds(count, u64::from(self.time_scale)));
            }
            b"hdlr" => self.track.sound = &body[8..12] == b"soun",
            b"stsz" => self.track.samples = u64::from(be32(body, 8)),
            b"stsd" => {
                self.track.described = true;
                let channels = be16(body, 32).min(u16::from(u8::MAX)) as u8;
                // Many writers put 2 in the entry whatever the sound has; the decoder's
                // configuration knows better.
                self.track.channels = aac_channels(body).unwrap_or(channels);
                self.track.rate = u32::from(be16(body, 40));
            }
            _ => {}
        }
        self.skip(size)
    }

    /// Keeps the track just read, where it is the first with sound.
    fn keep_track(&mut self) {
        if self.track.sound && self.track.described {
            self.sound.get_or_insert(self.track);
        }
    }
}

/// The time scale and the length of a movie or media header, whose fields are wider in version 1.
fn media_time(body: &[u8]) -> (u32, Option<f64>) {
    let (scale, count) = match body[0] {
        0 => (be32(body, 12), u64::from(be32(body, 16))),
        _ => (be32(body, 20), be64(body, 24)),
    };
    // All ones: unknown.
    let known = count != u64::from(u32::MAX) && count != u64::MAX;
    (scale, claimed_seconds(count, u64::from(scale)).filter(|_| known))
}

/// The number of channels in the AudioSpecificConfig (ISO/IEC 14496-3, section 1.6.2.1) of a sample
/// description's `esds`.
fn aac_channels(description: &[u8]) -> Option<u8> {
    let at = description.windows(4).position(|name| name == b"esds")?;
    // Behind the version: an ES descriptor, in it a decoder configuration, in that the one that is
    // looked for.
    let mut rest = description.get(at + 8..)?;
    for (tag, fixed) in [(3, 3), (4, 13), (5, 0)] {
        let (found, behind) = rest.split_first()?;
        // The length: seven bits a byte, at most four, the last without the top bit.
        let len = behind.iter().take(4).take_while(|byte| **byte & 0x80 != 0).count() + 1;
        rest = (*found == tag).then_some(behind)?.get(len + fixed..)?;
    }
    let bits = be16(rest, 0);
    let escaped = (bits >> 7) & 0xF == 0xF || bits >> 11 == 31;
    match (bits >> 3) & 0xF {
        count @ 1..=6 if !escaped => Some(count as u8),
        7 if !escaped => Some(8),
        _ => None,
    }
}
