//! What a file is, by its first bytes.

use super::intake::Step;
use super::{NotAudio, Stage, amr, flac, mp4, ogg, sync, wav};

/// The bytes of an ID3v2 tag's header (id3.org, ID3v2.4.0 structure, section 3.1).
pub(super) const ID3V2_HEADER: usize = 10;

/// Length in bytes of the ID3v2 tag that `window` starts with, its header and footer included.
pub(in crate::audio) fn id3v2_len(window: &[u8]) -> Option<u64> {
    let head = window.get(..ID3V2_HEADER)?;
    let plain =
        head.starts_with(b"ID3") && head[3] != 0xFF && head[4] != 0xFF && head[6..].iter().all(|b| b & 0x80 == 0);
    let size = head[6..].iter().fold(0_u64, |size, b| (size << 7) | u64::from(*b));
    let footer = if head[5] & 0x10 != 0 { ID3V2_HEADER as u64 } else { 0 };
    plain.then_some(ID3V2_HEADER as u64 + size + footer)
}

/// The kind of text that `lead` starts as, if it is text.
///
/// A byte outside ASCII counts as text: pages come in many encodings. A control character does not.
pub(super) fn text(lead: &[u8]) -> Option<NotAudio> {
    if lead.starts_with(&[0xFF, 0xFE, b'<', 0]) || lead.starts_with(&[0xFE, 0xFF, 0, b'<']) {
        return Some(NotAudio::Html); // UTF-16
    }
    let lead = lead.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(lead).trim_ascii_start();
    match lead {
        [b'<', next, ..] if next.is_ascii_alphabetic() || *next == b'!' || *next == b'?' => {
            return Some(NotAudio::Html);
        }
        [] => return None,
        _ => {}
    }
    let readable = !lead.iter().any(|b| b.is_ascii_control() && !b.is_ascii_whitespace());
    let ascii = lead.iter().filter(|b| b.is_ascii()).count();
    if !readable || ascii * 2 < lead.len() {
        return None;
    }
    Some(if matches!(lead[0], b'{' | b'[') { NotAudio::Json } else { NotAudio::Text })
}

/// What [`Sniff::look`] came to.
pub(super) enum Sniffed {
    /// Not decided yet.
    Step(Step),
    /// Decided; this many bytes are done with.
    Found(Stage, u64),
}

/// Looks at the first bytes, behind any ID3v2 tags.
#[derive(Debug, Default)]
pub(super) struct Sniff {
    tags: u8,
}

impl Sniff {
    pub(super) const UNIT: usize = 16;
    /// More ID3v2 tags than this in front of the audio are not skipped.
    const MAX_TAGS: u8 = 16;

    pub(super) fn look(&mut self, window: &[u8], eof: bool) -> Sniffed {
        if let Some(len) = id3v2_len(window)
            && self.tags < Self::MAX_TAGS
        {
            self.tags += 1;
            return Sniffed::Step(Step::Skip(len));
        }
        match window {
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E', ..]
            | [b'R', b'F', b'6', b'4', _, _, _, _, b'W', b'A', b'V', b'E', ..] => {
                Sniffed::Found(Stage::Wav(wav::WavWalk::default()), 12)
            }
            [b'O', b'g', b'g', b'S', ..] => Sniffed::Found(Stage::Ogg(ogg::OggWalk::default()), 0),
            [_, _, _, _, b'f', b't', b'y', b'p', ..] => Sniffed::Found(Stage::Mp4(mp4::Mp4Walk::default()), 0),
            [b'f', b'L', b'a', b'C', ..] => Sniffed::Found(Stage::Flac(flac::FlacWalk::default()), 4),
            _ if window.starts_with(amr::MAGIC_NB) => {
                Sniffed::Found(Stage::Amr(amr::AmrWalk::narrow()), amr::MAGIC_NB.len() as u64)
            }
            _ if window.starts_with(amr::MAGIC_WB) => {
                Sniffed::Found(Stage::Amr(amr::AmrWalk::wide()), amr::MAGIC_WB.len() as u64)
            }
            _ if window.len() < super::LEAD && !eof => Sniffed::Step(Step::Need(super::LEAD)),
            _ => match text(window) {
                // Refused whatever follows: a page with audio glued to it is still a page. Other
                // text may be junk in front.
                Some(why @ (NotAudio::Html | NotAudio::Json)) => Sniffed::Found(Stage::Refused(why), 0),
                _ => Sniffed::Found(Stage::Sync(sync::SyncWalk::default()), 0),
            },
        }
    }
}
