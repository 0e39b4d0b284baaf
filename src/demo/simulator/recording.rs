//! The recordings: what a call's MP3 is made of, and how the host that serves it misbehaves. All of it follows from the
//! call's id, and nothing is kept. Does no I/O; [`super::doubletick`] serves.
//!
//! A recording is whole MP3 frames of a few spoken assets, one after the other, cut after the frame at which the call
//! ends. The assets have one frame length per band and neither tags nor Xing frames (see `assets/make.sh`), so a
//! recording's size and length are plain multiplications, and it is streamed from the program's own image without ever
//! being built.

use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;

/// No recording is longer than this.
pub const LONGEST: Duration = Duration::from_secs(240);

const WIDE: [&[u8]; 8] = [
    include_bytes!("../assets/01-sip-review.mp3"),
    include_bytes!("../assets/02-risk-profile.mp3"),
    include_bytes!("../assets/03-statement.mp3"),
    include_bytes!("../assets/04-redemption.mp3"),
    include_bytes!("../assets/05-kyc-hindi.mp3"),
    include_bytes!("../assets/06-savings-hindi.mp3"),
    include_bytes!("../assets/07-hinglish.mp3"),
    include_bytes!("../assets/08-wrong-number.mp3"),
];
const NARROW: [&[u8]; 2] =
    [include_bytes!("../assets/09-portal-pstn.mp3"), include_bytes!("../assets/10-address-pstn.mp3")];
const SILENCE: &[u8] = include_bytes!("../assets/11-silence.mp3");
const WRONG_NUMBER: &[u8] = WIDE[7];

/// How a call sounds, which is also how its MP3 is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Band {
    /// WhatsApp: 16 kHz, 24 kbit/s.
    Wide,
    /// PSTN: 8 kHz, 16 kbit/s.
    Narrow,
}

impl Band {
    /// Bytes in a frame; always the same, because these bit rates divide evenly and need no padding.
    pub const fn frame_bytes(self) -> usize {
        match self {
            Self::Wide => 108,
            Self::Narrow => 144,
        }
    }

    /// 576 samples.
    const fn frame_millis(self) -> u64 {
        match self {
            Self::Wide => 36,
            Self::Narrow => 72,
        }
    }
}

/// What goes wrong when a recording is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    None,
    /// Not ready: 503 with `Retry-After` until this long after it was first asked for.
    Late(Duration),
    /// 503 with `Retry-After`, this many times.
    Busy {
        times: u32,
    },
    /// 404 this many times, then it is there.
    NotFoundYet {
        times: u32,
    },
    /// 404 for ever.
    Never,
    /// The answer begins only after this long.
    SlowStart(Duration),
}

/// The recording of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    pub band: Band,
    pub trouble: Trouble,
    /// Whether nobody speaks on it.
    pub silent: bool,
    /// Whole assets in order, of which only the first `frames` frames are served.
    parts: Vec<&'static [u8]>,
    frames: usize,
}

impl Recording {
    /// The recording that belongs to a call, the same every time.
    pub fn of(call_id: &str) -> Self {
        let mut rng = Rng::with_seed(fnv1a(call_id.as_bytes()));
        let band = if rng.u8(..16) == 0 { Band::Narrow } else { Band::Wide };
        let silent = band == Band::Wide && rng.u8(..80) == 0;
        let trouble = trouble(&mut rng);
        // Short calls are a minority, and every other one is the complete wrong number.
        let short = rng.u8(..100) < 9;
        if short && !silent && band == Band::Wide && rng.bool() {
            let frames = WRONG_NUMBER.len() / band.frame_bytes();
            return Self { band, trouble, silent, parts: vec![WRONG_NUMBER], frames };
        }
        let millis = if short { rng.u64(4_000..19_000) } else { usual_millis(&mut rng) };
        let frames = (millis / band.frame_millis()) as usize;
        let parts = parts(&mut rng, band, silent, frames);
        Self { band, trouble, silent, parts, frames }
    }

    pub fn bytes(&self) -> u64 {
        (self.frames * self.band.frame_bytes()) as u64
    }

    pub fn duration(&self) -> Duration {
        Duration::from_millis(self.frames as u64 * self.band.frame_millis())
    }

    /// The length as DoubleTick states it, in whole seconds.
    pub fn seconds(&self) -> u64 {
        (self.duration().as_millis() as u64 + 500) / 1000
    }

    /// The MP3 in pieces, none of them copied.
    pub fn chunks(&self) -> impl Iterator<Item = Bytes> + Send + use<> {
        let mut left = self.frames * self.band.frame_bytes();
        self.parts.clone().into_iter().map(move |part| {
            let taken = part.len().min(left);
            left -= taken;
            Bytes::from_static(&part[..taken])
        })
    }
}

/// Two out of five recordings come with some trouble; who wants fewer picks call ids accordingly.
fn trouble(rng: &mut Rng) -> Trouble {
    match rng.u8(..100) {
        0..12 => Trouble::Late(Duration::from_secs(rng.u64(3..25))),
        12..20 => Trouble::Busy { times: rng.u32(1..=3) },
        20..30 => Trouble::NotFoundYet { times: rng.u32(1..=3) },
        30..31 => Trouble::Never,
        31..40 => Trouble::SlowStart(Duration::from_millis(rng.u64(500..4_000))),
        _ => Trouble::None,
    }
}

/// Twenty seconds and a log-normal tail with a median of ten: most calls are under a minute, a few take minutes.
fn usual_millis(rng: &mut Rng) -> u64 {
    let normal = (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0;
    let seconds = 20.5 + (10.0_f64.ln() + 1.1 * normal).exp();
    ((seconds * 1000.0) as u64).min(LONGEST.as_millis() as u64)
}

fn parts(rng: &mut Rng, band: Band, silent: bool, frames: usize) -> Vec<&'static [u8]> {
    let assets: &[&'static [u8]] = match band {
        Band::Wide if silent => &[SILENCE],
        Band::Wide => &WIDE[..7],
        Band::Narrow => &NARROW,
    };
    // One after the other from a random one on, so that a call doesn't say the same thing twice in a row.
    let first = rng.usize(..assets.len());
    let mut parts = Vec::new();
    let mut have = 0;
    for asset in assets.iter().cycle().skip(first) {
        if have >= frames {
            break;
        }
        have += asset.len() / band.frame_bytes();
        parts.push(*asset);
    }
    parts
}

/// Stable across versions and platforms, unlike the standard library's hashers: an id announced by an older run must
/// keep its recording.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> impl Iterator<Item = String> {
        (0..3_000).map(|n| format!("call_{n:010}"))
    }

    /// Walks MPEG audio frame headers (ISO/IEC 11172-3, 2.4.1.3, with the lower sampling rates of 13818-3 and MPEG 2.5)
    /// and returns the length in milliseconds; panics at the first byte that is no frame.
    fn walk(mp3: &[u8]) -> u64 {
        const KBITS: [usize; 15] = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
        let (mut at, mut millis) = (0, 0);
        while at < mp3.len() {
            let header = u32::from_be_bytes(mp3[at..at + 4].try_into().unwrap());
            assert_eq!(header >> 21, 0x7ff, "no sync word at {at}");
            let hertz = match (header >> 19) & 3 {
                0 => [11_025, 12_000, 8_000],
                2 => [22_050, 24_000, 16_000],
                version => panic!("MPEG version {version} at {at}"),
            }[(header >> 10) as usize & 3];
            assert_eq!((header >> 17) & 3, 1, "not layer III at {at}");
            assert_eq!((header >> 6) & 3, 3, "not mono at {at}");
            let bits = KBITS[(header >> 12) as usize & 15] * 1000;
            at += 72 * bits / hertz + ((header >> 9) & 1) as usize;
            millis += 576_000 / hertz as u64;
        }
        assert_eq!(at, mp3.len(), "the last frame is cut");
        millis
    }

    #[test]
    fn assets_are_whole_frames_of_their_band_and_small() {
        let mut total = 0;
        for (asset, band) in WIDE
            .iter()
            .chain([&SILENCE])
            .map(|asset| (asset, Band::Wide))
            .chain(NARROW.iter().map(|asset| (asset, Band::Narrow)))
        {
            let frames = asset.len() / band.frame_bytes();
            assert_eq!(walk(asset), frames as u64 * band.frame_millis());
            assert!((4_000..=61_000).contains(&walk(asset)));
            // main_data_begin, the byte after the header (and its checksum): a first frame that reaches back into
            // frames which aren't there would click at every join.
            assert_eq!(asset[4 + 2 * usize::from(asset[1] & 1 == 0)], 0, "reaches into an earlier frame");
            total += asset.len();
        }
        assert!(total < 1_600_000, "{total}");
    }

    #[test]
    fn a_recording_has_the_size_and_length_that_it_promises() {
        for id in ids().take(300) {
            let recording = Recording::of(&id);
            let mp3: Vec<u8> = recording.chunks().flatten().collect();
            assert_eq!(mp3.len() as u64, recording.bytes(), "{id}");
            assert_eq!(u128::from(walk(&mp3)), recording.duration().as_millis(), "{id}");
            assert!((4..=240).contains(&recording.seconds()), "{id}");
            assert_eq!(recording, Recording::of(&id));
        }
    }

    #[test]
    fn every_kind_of_recording_occurs() {
        let all: Vec<Recording> = ids().map(|id| Recording::of(&id)).collect();
        let share = |wanted: &dyn Fn(&Recording) -> bool| {
            all.iter().filter(|recording| wanted(recording)).count() as f64 / all.len() as f64
        };
        assert!((0.04..0.09).contains(&share(&|r| r.band == Band::Narrow)));
        assert!((0.005..0.025).contains(&share(&|r| r.silent)));
        assert!((0.06..0.12).contains(&share(&|r| r.seconds() < 20)));
        assert!((0.01..0.12).contains(&share(&|r| r.seconds() > 90)));
        assert!((0.55..0.65).contains(&share(&|r| r.trouble == Trouble::None)));
        assert!((0.003..0.02).contains(&share(&|r| r.trouble == Trouble::Never)));
    }
}
