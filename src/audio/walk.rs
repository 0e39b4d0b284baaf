//! An incremental walk over the bytes of a recording while it streams in: is it audio, and how
//! long?
//!
//! [`FrameWalk`] is fed chunks of any size and keeps at most `intake::MAX_WINDOW` bytes of them,
//! plus the first `LEAD` to tell a web page from noise; whatever can be skipped by its declared
//! length is skipped by count. What comes out depends on the bytes only, never on where the chunks
//! were cut.
//!
//! One file per container below, each a `intake::Walk`. Nothing here decodes a sample or checks a
//! checksum (but for FLAC, whose frames cannot be told apart without).

mod adts;
mod amr;
mod flac;
mod intake;
mod mp4;
mod mpeg;
mod ogg;
mod sniff;
mod sync;
mod wav;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Deserializer, Serialize};

use intake::{Intake, Step, Walk};
pub(super) use sniff::id3v2_len;
use sniff::{Sniff, Sniffed};

/// How many of a file's first bytes are kept, to say what it is when it is not audio.
const LEAD: usize = 512;

/// A length above this is a lie or a mistake: no call lasts a month. It bounds what a header may
/// claim; what was walked frame by frame needs no bound.
const MAX_CLAIMED_SECONDS: f64 = 31.0 * 86_400.0;

/// A text from the fixed list in `KINDS`. An alias, because serde takes a literal `&'static str`
/// field for borrowed input and would then deserialize from static input only.
type Name = &'static str;

/// What a recording is, as far as its bytes tell without decoding them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AudioFacts {
    /// Media type (RFC 6838), for example `audio/mpeg`.
    #[serde(deserialize_with = "known_name")]
    pub media_type: Name,
    /// Usual file extension, without the dot, for example `mp3`.
    #[serde(deserialize_with = "known_name")]
    pub extension: Name,
    /// Length in seconds, never negative, always finite. The sum over the frames that were seen
    /// where the container has frames; otherwise what its header says, 0 where that says nothing.
    pub seconds: f64,
    /// Average bit rate of the audio in bit/s, without tags; 0 where the length is unknown.
    pub bit_rate: u32,
    /// Number of channels, 1 or more.
    pub channels: u8,
    /// Samples per second and channel, in Hz. For Opus always 48,000, the rate it decodes to (RFC
    /// 7845, section 5.1).
    pub sample_rate: u32,
    /// How many units the container counts: frames (MPEG, ADTS, AMR, FLAC), samples per channel or
    /// blocks (WAV), pages (Ogg), samples in the sense of ISO/IEC 14496-12 (MP4). Whole ones only.
    pub frames: u64,
    /// False where the end is missing: the last frame or a declared chunk is cut off, or fewer
    /// frames came than the file's own header promised. True is no proof: a stream of frames cut
    /// exactly between two of them, with no header that counts them, is whole to all appearances.
    pub complete: bool,
}

/// Why something is not audio. Carries nothing of the content, so that it can be logged and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAudio {
    /// Not one byte.
    #[error("the file is empty")]
    Empty,
    /// Starts as HTML or XML does: an error page, most often.
    #[error("the file is a web page or another XML or HTML document, not audio")]
    Html,
    /// Starts as a JSON document does.
    #[error("the file is a JSON document, not audio")]
    Json,
    /// Readable text of another kind.
    #[error("the file is text, not audio")]
    Text,
    /// Ends before it can be told what it is, or before its first whole frame.
    #[error("the file ends before the first audio in it")]
    TooShort,
    /// Ends before the container's description of the audio, so that nothing can be said about it.
    #[error("the file is cut off before the description of its audio")]
    CutOff,
    /// A container that holds no sound track, or none in a form that calls are recorded in.
    #[error("the file is a media container without a known sound track")]
    NoSoundTrack,
    /// A container's header contradicts itself.
    #[error("the file's header makes no sense")]
    BadHeader,
    /// None of the known kinds of audio.
    #[error("the file is of no known audio format")]
    Unknown,
}

/// A kind of audio: its media type and its extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kind(Name, Name);

const MP3: Kind = Kind("audio/mpeg", "mp3");
const WAV: Kind = Kind("audio/wav", "wav");
const OGG: Kind = Kind("audio/ogg", "ogg");
const OPUS: Kind = Kind("audio/ogg", "opus");
const MP4: Kind = Kind("audio/mp4", "m4a");
const AAC: Kind = Kind("audio/aac", "aac");
const AMR_NB: Kind = Kind("audio/amr", "amr");
const AMR_WB: Kind = Kind("audio/amr-wb", "awb");
const FLAC: Kind = Kind("audio/flac", "flac");
const KINDS: [Kind; 9] = [MP3, WAV, OGG, OPUS, MP4, AAC, AMR_NB, AMR_WB, FLAC];

/// The walk: [`FrameWalk::feed`] it every byte in order, then [`FrameWalk::finish`].
///
/// Constant memory, time linear in the bytes fed, no panic, for any bytes.
#[derive(Debug)]
pub struct FrameWalk {
    lead: Vec<u8>,
    bytes: u64,
    intake: Intake,
    stage: Stage,
}

impl Default for FrameWalk {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameWalk {
    /// A walk that has seen nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self { lead: Vec::new(), bytes: 0, intake: Intake::default(), stage: Stage::Sniff(Sniff::default()) }
    }

    /// Takes the next bytes, any number of them. Once it is clear that the file is no audio the
    /// rest is counted and otherwise ignored.
    pub fn feed(&mut self, data: &[u8]) {
        self.bytes = self.bytes.saturating_add(data.len() as u64);
        let wanted = LEAD.saturating_sub(self.lead.len()).min(data.len());
        self.lead.extend_from_slice(&data[..wanted]);
        self.intake.feed(&mut self.stage, data);
    }

    /// What the bytes were.
    ///
    /// # Errors
    /// [`NotAudio`] says why they are no audio, or too little of it.
    pub fn finish(mut self) -> Result<AudioFacts, NotAudio> {
        let missing = self.intake.finish(&mut self.stage);
        let scanning = matches!(self.stage, Stage::Sniff(_) | Stage::Sync(_));
        match self.stage.end(missing) {
            Err(_) if self.bytes == 0 => Err(NotAudio::Empty),
            // The scan for frames cannot tell what it was instead; the first bytes can.
            Err(why) if scanning => Err(sniff::text(&self.lead).unwrap_or(match why {
                NotAudio::Unknown if self.bytes < Sniff::UNIT as u64 => NotAudio::TooShort,
                why => why,
            })),
            found => found,
        }
    }
}

/// Where the walk stands: not yet known, or in one container.
#[derive(Debug)]
enum Stage {
    Sniff(Sniff),
    Sync(sync::SyncWalk),
    Wav(wav::WavWalk),
    Ogg(ogg::OggWalk),
    Mp4(mp4::Mp4Walk),
    Amr(amr::AmrWalk),
    Flac(flac::FlacWalk),
    Refused(NotAudio),
}

impl Stage {
    fn inner(&mut self) -> Option<&mut dyn Walk> {
        Some(match self {
            Self::Sync(walk) => walk,
            Self::Wav(walk) => walk,
            Self::Ogg(walk) => walk,
            Self::Mp4(walk) => walk,
            Self::Amr(walk) => walk,
            Self::Flac(walk) => walk,
            Self::Sniff(_) | Self::Refused(_) => return None,
        })
    }
}

impl Walk for Stage {
    fn unit(&self) -> usize {
        match self {
            Self::Sniff(_) => Sniff::UNIT,
            Self::Sync(walk) => walk.unit(),
            Self::Wav(walk) => walk.unit(),
            Self::Ogg(walk) => walk.unit(),
            Self::Mp4(walk) => walk.unit(),
            Self::Amr(walk) => walk.unit(),
            Self::Flac(walk) => walk.unit(),
            Self::Refused(_) => 1,
        }
    }

    fn step(&mut self, window: &[u8], eof: bool) -> Step {
        if let Self::Sniff(sniff) = self {
            match sniff.look(window, eof) {
                Sniffed::Step(step) => return step,
                Sniffed::Found(stage, skip) => {
                    *self = stage;
                    return Step::Skip(skip);
                }
            }
        }
        self.inner().map_or(Step::Stop, |walk| walk.step(window, eof))
    }

    fn end(&mut self, missing: u64) -> Result<AudioFacts, NotAudio> {
        match self {
            Self::Refused(why) => Err(*why),
            Self::Sniff(_) => Err(NotAudio::TooShort),
            _ => self.inner().map_or(Err(NotAudio::Unknown), |walk| walk.end(missing)),
        }
    }
}

/// Average bit rate in bit/s of `bytes` over `seconds`, 0 where there is no length.
fn bit_rate(bytes: u64, seconds: f64) -> u32 {
    if seconds > 0.0 {
        // `as` saturates, which is what a nonsensical rate deserves.
        (bytes as f64 * 8.0 / seconds).round() as u32
    } else {
        0
    }
}

/// `count / rate` in seconds where a header claims it, None where it is evidently nonsense or says
/// nothing.
fn claimed_seconds(count: u64, rate: u64) -> Option<f64> {
    let seconds = count as f64 / rate as f64;
    (count > 0 && rate > 0 && seconds <= MAX_CLAIMED_SECONDS).then_some(seconds)
}

/// Reads a media type or an extension back as the static text it was written from.
fn known_name<'de, D: Deserializer<'de>>(from: D) -> Result<Name, D::Error> {
    let text = String::deserialize(from)?;
    KINDS
        .iter()
        .flat_map(|kind| [kind.0, kind.1])
        .find(|name| *name == text)
        .ok_or_else(|| serde::de::Error::custom("no media type or extension that the archive writes"))
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|b| b.try_into().ok()).map_or(0, u16::from_be_bytes)
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes)
}

fn be64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_be_bytes)
}

fn le16(bytes: &[u8], at: usize) -> u16 {
    be16(bytes, at).swap_bytes()
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    be32(bytes, at).swap_bytes()
}

fn le64(bytes: &[u8], at: usize) -> u64 {
    be64(bytes, at).swap_bytes()
}
