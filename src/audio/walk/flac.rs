//! FLAC (RFC 9639). A frame does not say how long it is, so every byte is looked at: a frame begins
//! where a header stands whose checksum is right and whose number is the next, and the checksum of
//! the last one says whether it is whole.

use super::intake::{Step, Walk};
use super::{AudioFacts, FLAC, NotAudio, be16, bit_rate};

/// A metadata block's header, and what is read of STREAMINFO behind it.
const BLOCK: usize = 4;
const STREAMINFO: usize = 18;
/// The longest frame header (RFC 9639, section 9.1).
const FRAME: usize = 16;
/// So many frames may be lost to damage in one piece. Bounds how far a number may jump.
const MAX_LOST: u64 = 1_024;

#[derive(Clone, Copy, Debug)]
struct Info {
    rate: u32,
    channels: u8,
    /// 0 where unknown.
    total: u64,
}

/// A frame's header.
#[derive(Clone, Copy, Debug)]
struct Head {
    /// Of the frame, or of its first sample where `variable`.
    number: u64,
    variable: bool,
    samples: u64,
    channels: u8,
}

#[derive(Debug, Default)]
pub(super) struct FlacWalk {
    info: Option<Info>,
    in_frames: bool,
    last: Option<Head>,
    samples: u64,
    frames: u64,
    bytes: u64,
    crc: u16,
    bad: bool,
}

impl Walk for FlacWalk {
    fn unit(&self) -> usize {
        if self.in_frames { FRAME } else { BLOCK }
    }

    fn step(&mut self, window: &[u8], _eof: bool) -> Step {
        if self.in_frames { self.byte(window) } else { self.block(window) }
    }

    fn end(&mut self, missing: u64) -> Result<AudioFacts, NotAudio> {
        if self.bad {
            return Err(NotAudio::BadHeader);
        }
        let Some(info) = self.info else {
            return Err(NotAudio::CutOff);
        };
        // A frame with its checksum behind it has the checksum 0.
        let whole = missing == 0 && self.crc == 0;
        if let (false, Some(last)) = (whole, self.last) {
            self.frames -= 1;
            self.samples -= last.samples;
        }
        if self.frames == 0 {
            return Err(NotAudio::TooShort);
        }
        let seconds = self.samples as f64 / f64::from(info.rate);
        Ok(AudioFacts {
            media_type: FLAC.0,
            extension: FLAC.1,
            seconds,
            bit_rate: bit_rate(self.bytes, seconds),
            channels: info.channels,
            sample_rate: info.rate,
            frames: self.frames,
            complete: whole && self.samples >= info.total,
        })
    }
}

impl FlacWalk {
    fn block(&mut self, window: &[u8]) -> Step {
        if window.len() < BLOCK {
            return Step::Need(BLOCK);
        }
        let len = u64::from(u32::from_be_bytes([0, window[1], window[2], window[3]]));
        if window[0] & 0x7F == 0 && self.info.is_none() {
            if window.len() < BLOCK + STREAMINFO {
                return Step::Need(BLOCK + STREAMINFO);
            }
            self.info = stream_info(&window[BLOCK..]);
        }
        // STREAMINFO must be the first (RFC 9639, section 8.1).
        if self.info.is_none() {
            self.bad = true;
            return Step::Stop;
        }
        self.in_frames = window[0] & 0x80 != 0;
        Step::Skip(BLOCK as u64 + len)
    }

    fn byte(&mut self, window: &[u8]) -> Step {
        if window[0] == 0xFF
            && let Some(head) = frame(window)
            && self.follows(head)
        {
            self.frames += 1;
            self.samples += head.samples;
            self.last = Some(head);
            self.crc = 0;
        }
        if self.frames > 0 {
            self.bytes += 1;
        }
        self.crc = (self.crc << 8) ^ CRC16[usize::from((self.crc >> 8) as u8 ^ window[0])];
        Step::Skip(1)
    }

    /// Whether `head` may be the next frame. Where the frame before is damaged, or some are lost,
    /// its number may be ahead.
    fn follows(&self, head: Head) -> bool {
        let Some(last) = self.last else {
            return self.info.is_some_and(|info| info.channels == head.channels);
        };
        let step = if last.variable { last.samples } else { 1 };
        let next = last.number.saturating_add(step);
        let furthest = if self.crc == 0 { next } else { next.saturating_add(step.saturating_mul(MAX_LOST)) };
        head.variable == last.variable && head.channels == last.channels && (next..=furthest).contains(&head.number)
    }
}

fn stream_info(body: &[u8]) -> Option<Info> {
    // 20 bits of rate, 3 of channels, 5 of bits per sample, 36 of samples.
    let bits = super::be64(body, 10);
    let info =
        Info { rate: (bits >> 44) as u32, channels: ((bits >> 41) & 7) as u8 + 1, total: bits & ((1 << 36) - 1) };
    (info.rate > 0).then_some(info)
}

/// Reads the frame header that `window` starts with (RFC 9639, section 9.1), its checksum verified.
fn frame(window: &[u8]) -> Option<Head> {
    let (b1, b2, b3) = (*window.get(1)?, *window.get(2)?, *window.get(3)?);
    let (block, rate, channels) = (b2 >> 4, b2 & 0xF, b3 >> 4);
    if b1 & 0xFE != 0xF8 || block == 0 || rate == 0xF || channels > 10 || b3 & 1 != 0 {
        return None;
    }
    let (number, coded) = coded_number(window.get(4..)?)?;
    let mut at = 4 + coded;
    let samples = match block {
        1 => 192,
        2..=5 => 144 << block,
        6 => {
            at += 1;
            u64::from(*window.get(at - 1)?) + 1
        }
        7 => {
            at += 2;
            u64::from(be16(window, at - 2)) + 1
        }
        _ => 1 << block,
    };
    at += match rate {
        12 => 1,
        13 | 14 => 2,
        _ => 0,
    };
    let crc = window.get(..at)?.iter().fold(0_u8, |crc, byte| CRC8[usize::from(crc ^ byte)]);
    let channels = if channels > 7 { 2 } else { channels + 1 };
    (*window.get(at)? == crc).then_some(Head { number, variable: b1 & 1 != 0, samples, channels })
}

/// A number in the extended UTF-8 of FLAC: its value and its length in bytes, 1 to 7.
fn coded_number(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let len = match first.leading_ones() {
        0 => return Some((u64::from(first), 1)),
        ones @ 2..=7 => ones as usize,
        _ => return None,
    };
    let head = u64::from(first) & ((1 << (7 - len)) - 1);
    let number = bytes
        .get(1..len)?
        .iter()
        .try_fold(head, |number, byte| (byte & 0xC0 == 0x80).then_some((number << 6) | u64::from(byte & 0x3F)))?;
    Some((number, len))
}

/// CRC-8 with the polynomial x^8 + x^2 + x + 1.
const CRC8: [u8; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u8;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc << 1) ^ if crc & 0x80 != 0 { 0x07 } else { 0 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

/// CRC-16 with the polynomial x^16 + x^15 + x^2 + 1.
const CRC16: [u16; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = (i as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc << 1) ^ if crc & 0x8000 != 0 { 0x8005 } else { 0 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};
