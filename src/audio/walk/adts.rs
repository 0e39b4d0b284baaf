//! AAC in ADTS frames (ISO/IEC 13818-7 section 6.2, ISO/IEC 14496-3 section 1.A.2).

use super::be32;
use super::sync::Head;

/// Bytes of a frame header without its checksum.
pub(super) const HEADER: usize = 7;

const RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

/// Sync, version, layer, profile, sampling rate and channels: what stays the same from frame to
/// frame.
const IDENT: u32 = 0xFFFE_FDC0;

/// Reads the frame header that `window` starts with.
///
/// With HE-AAC the rate is that of the core, half of what comes out; the length in seconds is the
/// same.
pub(super) fn parse(window: &[u8]) -> Option<Head> {
    let [0xFF, b1, b2, b3, b4, b5, b6, ..] = *window else {
        return None;
    };
    let rate = *RATES.get(usize::from((b2 >> 2) & 0xF))?;
    let len = (u32::from(b3 & 3) << 11) | (u32::from(b4) << 3) | u32::from(b5 >> 5);
    let header = if b1 & 1 == 0 { HEADER + 2 } else { HEADER };
    if b1 & 0xF6 != 0xF0 || (len as usize) <= header {
        return None;
    }
    let channels = match ((b2 & 1) << 2) | (b3 >> 6) {
        0 => 1, // said inside the frame, where this does not look
        7 => 8,
        count => count,
    };
    Some(Head { len, samples: 1024 * (u32::from(b6 & 3) + 1), rate, channels, ident: be32(window, 0) & IDENT })
}
