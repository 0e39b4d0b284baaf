//! MPEG audio frame headers (ISO/IEC 11172-3 section 2.4.2.3, ISO/IEC 13818-3; "MPEG 2.5" is
//! Fraunhofer's extension) and the Xing, Info and VBRI frames that encoders put first.

use super::be32;
use super::sync::{Declared, Head};

// Bit rates by the index in the header, in kbit/s. 0 where the index is "free" or forbidden.
const V1_L1: [u16; 16] = [0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448, 0];
const V1_L2: [u16; 16] = [0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 0];
const V1_L3: [u16; 16] = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0];
const V2_L1: [u16; 16] = [0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256, 0];
const V2_L23: [u16; 16] = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0];

/// The bits that stay the same from frame to frame: sync, version, layer and sampling rate.
const IDENT: u32 = 0xFFFE_0C00;

/// Version bits of MPEG 1, in a header's second byte; 0 is MPEG 2.5, 1 is reserved, 2 is MPEG 2.
const MPEG_1: u8 = 3;
/// Layer bits; 0 is reserved (ADTS uses it).
const LAYER_I: u8 = 3;
const LAYER_II: u8 = 2;
/// Mode bits of a single channel.
const MONO: u8 = 3;

/// Reads the frame header that `window` starts with. Free-format frames, whose length no header
/// tells, are not read.
pub(super) fn parse(window: &[u8]) -> Option<Head> {
    let [0xFF, b1, b2, b3, ..] = *window else {
        return None;
    };
    let (version, layer, mode) = ((b1 >> 3) & 3, (b1 >> 1) & 3, b3 >> 6);
    if b1 & 0xE0 != 0xE0 || version == 1 || layer == 0 || b3 & 3 == 2 {
        return None;
    }
    let rate = match (b2 >> 2) & 3 {
        0 => 44_100,
        1 => 48_000,
        2 => 32_000,
        _ => return None,
    } >> match version {
        MPEG_1 => 0,
        2 => 1,
        _ => 2,
    };
    let table = match (version, layer) {
        (MPEG_1, LAYER_I) => &V1_L1,
        (MPEG_1, LAYER_II) => &V1_L2,
        (MPEG_1, _) => &V1_L3,
        (_, LAYER_I) => &V2_L1,
        _ => &V2_L23,
    };
    let bits = u32::from(table[usize::from(b2 >> 4)]) * 1000;
    if bits == 0 {
        return None;
    }
    let padding = u32::from((b2 >> 1) & 1);
    let samples = match (version, layer) {
        (_, LAYER_I) => 384,
        (_, LAYER_II) | (MPEG_1, _) => 1152,
        _ => 576,
    };
    let len = if layer == LAYER_I { (12 * bits / rate + padding) * 4 } else { samples / 8 * bits / rate + padding };
    let mono = mode == MONO;
    let ident = (be32(window, 0) & IDENT) | u32::from(mono);
    Some(Head { len, samples, rate, channels: if mono { 1 } else { 2 }, ident })
}

/// What a Xing, Info or VBRI frame says of the frames behind it; None where `window` is a frame of
/// sound. `window` should reach [`super::sync::UNIT`] bytes.
pub(super) fn declared(window: &[u8], head: &Head) -> Option<Declared> {
    if window.get(36..40) == Some(b"VBRI") {
        return Some(Declared { bytes: Some(be32(window, 46)), frames: Some(be32(window, 50)) });
    }
    // Behind the side information, whose length is by version and channels. A checksum does not
    // count for most encoders, but does for some.
    let side = match (head.samples, head.channels) {
        (1152, 1) | (576, 2) => 17,
        (1152, _) => 32,
        _ => 9,
    };
    let at = [4 + side, 6 + side].into_iter().find(|at| matches!(window.get(*at..at + 4), Some(b"Xing" | b"Info")))?;
    let flags = be32(window, at + 4);
    let mut field = at + 8;
    let mut next = |flag: u32| {
        (flags & flag != 0).then(|| {
            field += 4;
            be32(window, field - 4)
        })
    };
    Some(Declared { frames: next(1), bytes: next(2) })
}
