//! The walk over streams of frames that start with a sync word: MPEG audio and ADTS.
//!
//! The first frames must be three in a row that agree. From then on a frame is taken by its header
//! alone, and whatever is no frame is junk that is searched for the next two that agree; so a
//! damaged frame costs itself and no more.

use super::intake::{Step, Walk};
use super::sniff::id3v2_len;
use super::{AAC, AudioFacts, MP3, NotAudio, adts, bit_rate, claimed_seconds, le32, mpeg};

/// Enough for a frame header and for what a Xing, Info or VBRI frame says.
pub(super) const UNIT: usize = 64;
/// The first frame must start within so many bytes behind the ID3v2 tags.
const START_WITHIN: u64 = 32 * 1024;
/// More junk than this in one piece ends the walk: what follows is not taken for the same
/// recording.
const MAX_JUNK: u64 = 1024 * 1024;
/// Enough bytes to read either kind of header.
const HEADER: usize = 8;
/// An APE tag's header or footer (APEv2 specification, "APE Tags Header").
const APE_HEADER: usize = 32;

/// A frame as its header describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes with the header, 8 or more.
    pub(super) len: u32,
    /// Samples per channel.
    pub(super) samples: u32,
    /// In Hz, never 0.
    pub(super) rate: u32,
    pub(super) channels: u8,
    /// The same for all frames of one stream.
    pub(super) ident: u32,
}

/// What the stream's first frame says of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Declared {
    pub(super) frames: Option<u32>,
    pub(super) bytes: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Mpeg,
    Adts,
}

impl Family {
    fn parse(self, window: &[u8]) -> Option<Head> {
        match self {
            Self::Mpeg => mpeg::parse(window),
            Self::Adts => adts::parse(window),
        }
    }
}

/// How a run of frame headers at the start of a window came out.
enum Chain {
    Good,
    Bad,
    /// Not enough bytes to tell.
    More(usize),
    /// The file ends after so many that agree.
    Ended(usize),
}

/// What the last skip was over.
#[derive(Debug, Default)]
enum Inside {
    #[default]
    Nothing,
    Frame(Head),
    /// A Xing frame, or a tag.
    Other,
}

#[derive(Debug, Default)]
pub(super) struct SyncWalk {
    family: Option<Family>,
    /// Bytes searched for the first frame.
    searched: u64,
    /// A frame header was seen that the file was too short to confirm.
    hopeful: bool,
    first: Option<Head>,
    ident: u32,
    rate: u32,
    /// Samples at `rate`; those at an earlier rate are in `seconds`.
    samples: u64,
    seconds: f64,
    frames: u64,
    frame_bytes: u64,
    declared: Option<Declared>,
    /// Bytes from the first header on, tags left out.
    span: u64,
    junk: u64,
    junk_run: u64,
    inside: Inside,
    cut: bool,
}

impl Walk for SyncWalk {
    fn unit(&self) -> usize {
        UNIT
    }

    fn step(&mut self, window: &[u8], eof: bool) -> Step {
        self.inside = Inside::Nothing;
        match self.family {
            None => self.search(window, eof),
            Some(family) => self.next(family, window, eof),
        }
    }

    fn end(&mut self, missing: u64) -> Result<AudioFacts, NotAudio> {
        if missing > 0 {
            self.cut = true;
            if let Inside::Frame(head) = self.inside {
                self.frames -= 1;
                self.samples -= u64::from(head.samples);
                self.frame_bytes -= u64::from(head.len);
            }
            self.span = self.span.saturating_sub(missing);
        }
        let (Some(family), Some(first)) = (self.family, self.first) else {
            return Err(if self.hopeful { NotAudio::TooShort } else { NotAudio::Unknown });
        };
        if self.frames == 0 {
            return Err(NotAudio::TooShort);
        }
        let kind = if family == Family::Mpeg { MP3 } else { AAC };
        let seconds = self.seconds + self.samples as f64 / f64::from(self.rate);
        Ok(AudioFacts {
            media_type: kind.0,
            extension: kind.1,
            seconds,
            bit_rate: bit_rate(self.frame_bytes, seconds),
            channels: first.channels,
            sample_rate: first.rate,
            frames: self.frames,
            complete: !self.cut && !self.short_of_declared(first),
        })
    }
}

impl SyncWalk {
    /// Looks for the first frame.
    fn search(&mut self, window: &[u8], eof: bool) -> Step {
        for family in [Family::Mpeg, Family::Adts] {
            let found = match chain(family, window, eof, 3) {
                Chain::More(need) => return Step::Need(need),
                Chain::Good => true,
                Chain::Bad => false,
                // A very short file: two must do, and only where nothing stands before them.
                Chain::Ended(links) => {
                    self.hopeful |= self.searched == 0;
                    links >= 2 && self.searched == 0
                }
            };
            if found && let Some(head) = family.parse(window) {
                self.family = Some(family);
                self.first = Some(head);
                return self.accept(family, head, window);
            }
        }
        self.searched += 1;
        if self.searched > START_WITHIN { Step::Stop } else { Step::Skip(1) }
    }

    /// The next frame, tag or byte of junk.
    fn next(&mut self, family: Family, window: &[u8], eof: bool) -> Step {
        let head = family.parse(window);
        if self.junk_run == 0 {
            // In step: the frame before ended exactly here.
            if let Some(head) = head
                && head.ident == self.ident
            {
                return self.accept(family, head, window);
            }
            if let Some(len) = tag_len(window) {
                self.inside = Inside::Other;
                return Step::Skip(len);
            }
            if eof && window.len() < HEADER && window[0] == 0xFF && head.is_none() {
                self.cut = true; // in the middle of a header
            }
        }
        if let Some(head) = head {
            // Another stream glued to this one has to show three frames, this one's continuation
            // two.
            let links = if head.ident == self.ident { 2 } else { 3 };
            match chain(family, window, eof, links) {
                Chain::Good => return self.accept(family, head, window),
                Chain::More(need) => return Step::Need(need),
                Chain::Bad => {}
                Chain::Ended(_) if head.ident == self.ident => {
                    return self.accept(family, head, window);
                }
                Chain::Ended(_) => {}
            }
        }
        self.junk_run += 1;
        if self.junk_run > MAX_JUNK {
            self.cut = true;
            return Step::Stop;
        }
        Step::Skip(1)
    }

    fn accept(&mut self, family: Family, head: Head, window: &[u8]) -> Step {
        let len = u64::from(head.len);
        self.span += len + self.junk_run;
        self.junk += self.junk_run;
        self.junk_run = 0;
        self.ident = head.ident;
        if self.rate != head.rate {
            if self.rate > 0 {
                self.seconds += self.samples as f64 / f64::from(self.rate);
            }
            self.samples = 0;
            self.rate = head.rate;
        }
        if family == Family::Mpeg
            && let Some(declared) = mpeg::declared(window, &head)
        {
            // Where files were glued together the first one's header does not speak for all, but no
            // less than for itself.
            if self.frames == 0 {
                self.declared = Some(declared);
            }
            self.inside = Inside::Other;
            return Step::Skip(len);
        }
        self.frames += 1;
        self.samples += u64::from(head.samples);
        self.frame_bytes += len;
        self.inside = Inside::Frame(head);
        Step::Skip(len)
    }

    /// Whether the stream's own header promised more than came.
    fn short_of_declared(&self, first: Head) -> bool {
        let Some(Declared { frames: Some(frames), bytes }) = self.declared else {
            return false;
        };
        let frames = u64::from(frames);
        // Nonsense in the header must not make a whole file a broken one.
        if claimed_seconds(frames * u64::from(first.samples), u64::from(first.rate)).is_none() {
            return false;
        }
        match bytes.map(u64::from) {
            Some(bytes) if bytes >= frames => self.frames < frames && self.span < bytes,
            Some(_) => false,
            None => {
                let lost = self.junk / (self.frame_bytes / self.frames.max(1)).max(1);
                // One off, because some encoders count the header's own frame.
                self.frames + lost + 1 < frames
            }
        }
    }
}

/// Checks that `links` frames in a row start at the window's start, each where the one before ends.
fn chain(family: Family, window: &[u8], eof: bool, links: usize) -> Chain {
    let Some(first) = family.parse(window) else {
        return Chain::Bad;
    };
    let mut at = first.len as usize;
    for link in 1..links {
        if window.len() < at + HEADER {
            return if eof { Chain::Ended(link) } else { Chain::More(at + HEADER) };
        }
        match family.parse(&window[at..]) {
            Some(next) if next.ident == first.ident => at += next.len as usize,
            _ => return Chain::Bad,
        }
    }
    Chain::Good
}

/// Length of a tag that stands exactly between or behind frames: ID3v2 or APE. (ID3v1 is
/// 128 bytes at the very end; as junk it does no harm.)
fn tag_len(window: &[u8]) -> Option<u64> {
    if let Some(len) = id3v2_len(window) {
        return Some(len);
    }
    if window.starts_with(b"APETAGEX") && window.len() >= APE_HEADER {
        let is_header = le32(window, 20) & 0x2000_0000 != 0;
        let content = if is_header { u64::from(le32(window, 12)) } else { 0 };
        return Some(APE_HEADER as u64 + content);
    }
    None
}
