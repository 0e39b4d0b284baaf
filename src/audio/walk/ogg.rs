//! Ogg pages (RFC 3533) with Opus (RFC 7845), Vorbis or FLAC: the length is where the granule
//! positions lead. Page checksums are not verified.

use super::intake::{Step, Walk};
use super::{AudioFacts, NotAudio, OGG, OPUS, bit_rate, le16, le32, le64};

/// A page's header without its segment table.
const PAGE: usize = 27;
/// Enough of a stream's first packet to know the codec.
const IDENTIFICATION: usize = 30;
/// Header flags: first and last page of a stream.
const FIRST: u8 = 2;
const LAST: u8 = 4;
/// The most samples that one page can add: 255 packets of at most 8,192 Vorbis samples (an Opus
/// packet has 5,760). A longer step is a jump in the numbering, not sound.
const MAX_PER_PAGE: u64 = 255 * 8_192;
/// More bytes than this without a page end the walk.
const MAX_JUNK: u64 = 1024 * 1024;

#[derive(Clone, Copy, Debug)]
struct Codec {
    opus: bool,
    channels: u8,
    /// Of the granule positions and of the sound.
    rate: u32,
    /// Samples at the start that are not played.
    pre_skip: u64,
}

/// The stream that is being counted.
#[derive(Clone, Copy, Debug)]
struct Stream {
    serial: u32,
    codec: Codec,
    at: u64,
    samples: u64,
    ended: bool,
}

#[derive(Debug, Default)]
pub(super) struct OggWalk {
    first: Option<Codec>,
    stream: Option<Stream>,
    /// `stream` as it was before the page that is being skipped, which may not come whole.
    before_page: Option<Stream>,
    /// Of the streams before this one.
    seconds: f64,
    pages: u64,
    bytes: u64,
    junk_run: u64,
    broken: bool,
    /// Bytes of the sound's page that is being skipped, 0 for others.
    page: u64,
}

impl Walk for OggWalk {
    fn unit(&self) -> usize {
        PAGE
    }

    fn step(&mut self, window: &[u8], eof: bool) -> Step {
        self.page = 0;
        if !window.starts_with(b"OggS") || (window.len() < PAGE && eof) {
            self.broken |= window.starts_with(b"OggS");
            self.junk_run += 1;
            if self.junk_run > MAX_JUNK {
                self.broken = true;
                return Step::Stop;
            }
            return Step::Skip(1);
        }
        let table = PAGE + usize::from(window[26]);
        if window.len() < table {
            return Step::Need(table);
        }
        let body: usize = window[PAGE..table].iter().map(|size| usize::from(*size)).sum();
        let first = window[5] & FIRST != 0;
        let wanted = table + if first { body.min(IDENTIFICATION) } else { 0 };
        if window.len() < wanted {
            return Step::Need(wanted);
        }
        self.junk_run = 0;
        if first {
            self.begin(le32(window, 14), &window[table..wanted]);
        }
        self.page(window, (table + body) as u64);
        Step::Skip((table + body) as u64)
    }

    fn end(&mut self, missing: u64) -> Result<AudioFacts, NotAudio> {
        let (Some(first), Some(mut stream)) = (self.first, self.stream) else {
            return Err(if missing > 0 { NotAudio::CutOff } else { NotAudio::NoSoundTrack });
        };
        if missing > 0 && self.page > 0 {
            self.pages = self.pages.saturating_sub(1);
            self.bytes -= self.page;
            stream = self.before_page.unwrap_or(stream);
        }
        let seconds = self.seconds + seconds(&stream);
        if seconds <= 0.0 {
            return Err(NotAudio::TooShort);
        }
        let kind = if first.opus { OPUS } else { OGG };
        Ok(AudioFacts {
            media_type: kind.0,
            extension: kind.1,
            seconds,
            bit_rate: bit_rate(self.bytes, seconds),
            channels: first.channels,
            sample_rate: first.rate,
            frames: self.pages,
            // A stream's last page says that it is the last (RFC 3533, section 6).
            complete: missing == 0 && !self.broken && stream.ended,
        })
    }
}

impl OggWalk {
    /// A stream begins: the sound, where there is none yet or where the one before is over (a
    /// chain).
    fn begin(&mut self, serial: u32, packet: &[u8]) {
        let Some(codec) = codec(packet) else { return };
        if let Some(before) = self.stream {
            // Several at once (RFC 3533, section 4): the first is the one that counts.
            if !before.ended && before.samples == 0 {
                return;
            }
            self.seconds += seconds(&before);
        }
        self.first.get_or_insert(codec);
        self.stream = Some(Stream { serial, codec, at: 0, samples: 0, ended: false });
    }

    fn page(&mut self, window: &[u8], len: u64) {
        let Some(stream) = self.stream.as_mut().filter(|stream| stream.serial == le32(window, 14)) else {
            return;
        };
        self.before_page = Some(*stream);
        self.pages += 1;
        self.bytes += len;
        self.page = len;
        stream.ended |= window[5] & LAST != 0;
        // Negative says that no packet ends on this page.
        let at = le64(window, 6);
        if at > i64::MAX as u64 {
            return;
        }
        let added = at.saturating_sub(stream.at);
        if added <= MAX_PER_PAGE {
            stream.samples += added;
        }
        stream.at = at;
    }
}

fn seconds(stream: &Stream) -> f64 {
    stream.samples.saturating_sub(stream.codec.pre_skip) as f64 / f64::from(stream.codec.rate)
}

/// Reads a stream's first packet; None for what is no known sound.
fn codec(packet: &[u8]) -> Option<Codec> {
    let found = if packet.starts_with(b"OpusHead") && packet.len() >= 19 {
        Codec { opus: true, channels: packet[9], rate: 48_000, pre_skip: u64::from(le16(packet, 10)) }
    } else if packet.starts_with(b"\x01vorbis") && packet.len() >= 16 {
        Codec { opus: false, channels: packet[11], rate: le32(packet, 12), pre_skip: 0 }
    } else if packet.starts_with(b"\x7FFLAC") && packet.len() >= 30 {
        // STREAMINFO stands behind 13 bytes of the mapping and 4 of the block's header.
        let bits = u32::from_be_bytes([0, packet[27], packet[28], packet[29]]);
        Codec { opus: false, channels: ((bits >> 1) & 7) as u8 + 1, rate: bits >> 4, pre_skip: 0 }
    } else {
        return None;
    };
    (found.channels > 0 && (1..=768_000).contains(&found.rate)).then_some(found)
}
