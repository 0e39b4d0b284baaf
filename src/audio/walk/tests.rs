use proptest::prelude::*;

use super::*;

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/audio/", $name)).as_slice()
    };
}

/// File, media type, seconds (by ffprobe; by soxi for AMR), channels, rate, frames.
type Expected = (&'static [u8], &'static str, f64, u8, u32, u64);

fn fixtures() -> Vec<Expected> {
    vec![
        (fixture!("cbr.mp3"), "audio/mpeg", 3.024, 1, 8_000, 42),
        (fixture!("vbr.mp3"), "audio/mpeg", 3.024, 1, 8_000, 42),
        (fixture!("call.mp2"), "audio/mpeg", 1.008, 1, 16_000, 14),
        (fixture!("pcm.wav"), "audio/wav", 0.5, 1, 8_000, 4_000),
        (fixture!("alaw.wav"), "audio/wav", 1.5, 1, 8_000, 12_000),
        (fixture!("ulaw.wav"), "audio/wav", 1.0, 1, 8_000, 8_000),
        (fixture!("call.ogg"), "audio/ogg", 2.865_25, 1, 16_000, 0),
        (fixture!("call.opus"), "audio/ogg", 2.865_25, 1, 48_000, 0),
        (fixture!("moov_first.m4a"), "audio/mp4", 2.866, 1, 8_000, 24),
        (fixture!("moov_last.m4a"), "audio/mp4", 2.866, 1, 8_000, 24),
        (fixture!("call.aac"), "audio/aac", 3.072, 1, 8_000, 24),
        (fixture!("call.amr"), "audio/amr", 2.88, 1, 8_000, 144),
        (fixture!("call.flac"), "audio/flac", 0.9, 1, 8_000, 0),
    ]
}

fn walk(bytes: &[u8]) -> Result<AudioFacts, NotAudio> {
    let mut walk = FrameWalk::new();
    walk.feed(bytes);
    walk.finish()
}

fn walk_in(bytes: &[u8], sizes: &[usize]) -> Result<AudioFacts, NotAudio> {
    let mut walk = FrameWalk::new();
    let mut rest = bytes;
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (now, later) = rest.split_at((*size).min(rest.len()));
        walk.feed(now);
        rest = later;
    }
    walk.finish()
}

/// An MPEG 1 layer III frame of 32 kbit/s at 32 kHz, mono: 144 bytes, 36 ms. The body looks like no
/// header.
fn frame() -> Vec<u8> {
    let mut frame = vec![0x55; 144];
    frame[..4].copy_from_slice(&[0xFF, 0xFB, 0x18, 0xC4]);
    frame
}

/// A frame with a Xing header that promises so much.
fn xing(frames: u32, bytes: Option<u32>) -> Vec<u8> {
    let mut frame = frame();
    frame[4..].fill(0);
    frame[21..25].copy_from_slice(b"Xing");
    frame[28] = if bytes.is_some() { 3 } else { 1 };
    frame[29..33].copy_from_slice(&frames.to_be_bytes());
    frame[33..37].copy_from_slice(&bytes.unwrap_or(0).to_be_bytes());
    frame
}

fn id3v2(size: u32) -> Vec<u8> {
    let mut tag = b"ID3\x04\0\0".to_vec();
    tag.extend([21, 14, 7, 0].map(|shift| ((size >> shift) & 0x7F) as u8));
    tag
}

fn seconds(bytes: &[u8]) -> f64 {
    walk(bytes).unwrap().seconds
}

#[track_caller]
fn assert_near(found: f64, expected: f64) {
    assert!((found - expected).abs() < 0.000_6, "{found} s instead of {expected} s");
}

#[test]
fn real_files_have_the_length_that_other_tools_tell() {
    for (bytes, media_type, length, channels, rate, frames) in fixtures() {
        let facts = walk(bytes).unwrap();
        assert_eq!((facts.media_type, facts.channels, facts.sample_rate), (media_type, channels, rate));
        assert!((facts.seconds - length).abs() < 0.000_6, "{media_type}: {} s instead of {length} s", facts.seconds);
        assert!(facts.complete, "{media_type}");
        assert!(frames == 0 || facts.frames == frames, "{media_type}: {} frames", facts.frames);
        let about = bytes.len() as f64 * 8.0 / length;
        let rate = f64::from(facts.bit_rate);
        assert!(rate <= about + 1.0 && rate > about * 0.5, "{media_type}: {rate} bit/s of {about}");
    }
}

#[test]
fn half_a_file_is_not_complete() {
    for (bytes, media_type, length, ..) in fixtures() {
        // The AMR file ends with three empty frames of a byte each: a cut there is between two.
        let end = bytes.len() - if media_type == "audio/amr" { 5 } else { 3 };
        for cut in [bytes.len() / 2 + 1, bytes.len() * 2 / 3 + 1, end] {
            match walk(&bytes[..cut]) {
                Ok(facts) => {
                    assert!(!facts.complete, "{media_type} cut at {cut} of {}", bytes.len());
                    assert!(facts.seconds < length + 0.001, "{media_type}");
                }
                // An index that comes last is lost with the end; a page of half a second may be the
                // only one.
                Err(why) => assert!(matches!(
                    (media_type, why),
                    ("audio/mp4", NotAudio::CutOff) | ("audio/ogg", NotAudio::TooShort)
                )),
            }
        }
    }
}

#[test]
fn no_beginning_of_a_file_is_longer_than_the_file_or_panics() {
    for (bytes, media_type, length, ..) in fixtures() {
        for cut in 0..bytes.len() {
            if let Ok(facts) = walk(&bytes[..cut]) {
                assert!(facts.seconds <= length + 0.001, "{media_type} at {cut}");
                // Nothing shows where a stream of bare frames is cut exactly between two.
                let bare = ["audio/mpeg", "audio/aac", "audio/amr"].contains(&media_type);
                assert!(bare || !facts.complete, "{media_type} at {cut}");
            }
        }
    }
}

#[test]
fn frames_are_counted_whatever_a_xing_header_says() {
    let sound = frame().repeat(10);
    assert_near(seconds(&sound), 0.36);
    for declared in [0, 1, 10, u32::MAX] {
        let facts = walk(&[xing(declared, None), sound.clone()].concat()).unwrap();
        assert_near(facts.seconds, 0.36);
        assert_eq!(facts.frames, 10, "the header's own frame is no sound");
        assert!(facts.complete, "declared {declared}");
    }
}

#[test]
fn a_xing_header_that_promises_more_shows_the_cut() {
    let sound = frame().repeat(10);
    let cut = |frames, bytes| !walk(&[xing(frames, bytes), sound.clone()].concat()).unwrap().complete;
    assert!(cut(20, None));
    assert!(cut(11, Some(12 * 144)), "one frame less, cut between two");
    assert!(!cut(20, Some(11 * 144)), "all the bytes came: the count was wrong");
    assert!(!cut(20, Some(7)), "less than a byte a frame");
}

#[test]
fn a_damaged_frame_costs_itself_only() {
    let mut bytes = frame().repeat(50);
    bytes[20 * 144..20 * 144 + 100].fill(0);
    let facts = walk(&bytes).unwrap();
    assert_eq!(facts.frames, 49);
    assert!(facts.complete);
}

#[test]
fn junk_between_frames_is_passed_over_up_to_a_bound() {
    let with = |junk: usize| walk(&[frame().repeat(5), vec![b'x'; junk], frame().repeat(5)].concat()).unwrap();
    for junk in [1, 143, 144, 10_000, 1024 * 1024] {
        assert_eq!((with(junk).frames, with(junk).complete), (10, true), "{junk} bytes");
    }
    let facts = with(1024 * 1024 + 1);
    assert_eq!((facts.frames, facts.complete), (5, false));
}

#[test]
fn a_header_among_junk_is_not_believed_alone() {
    // Of layer II; what it announces would swallow six frames of the sound.
    let junk = [vec![b'x'; 50], vec![0xFF, 0xFD, 0x88, 0xC4], vec![b'x'; 50]].concat();
    let facts = walk(&[frame().repeat(5), junk, frame().repeat(9)].concat()).unwrap();
    assert_eq!((facts.frames, facts.sample_rate), (14, 32_000));
}

#[test]
fn tags_are_skipped_by_count() {
    let size = 100 << 20;
    let mut walk = FrameWalk::new();
    walk.feed(&id3v2(size));
    // Frames inside a tag are not the recording's.
    let chunk = frame().repeat(1 << 10);
    let mut left = size as usize;
    while left > 0 {
        let now = left.min(chunk.len());
        walk.feed(&chunk[..now]);
        left -= now;
    }
    assert!(walk.intake.held() <= MEMORY);
    walk.feed(&frame().repeat(7));
    assert_eq!(walk.finish().unwrap().frames, 7);
}

#[test]
fn tags_behind_the_sound_are_neither_sound_nor_damage() {
    let mut id3v1 = vec![b' '; 128];
    id3v1[..3].copy_from_slice(b"TAG");
    // Its content looks like frames.
    let inside = frame().repeat(4);
    let mut ape = b"APETAGEX\xd0\x07\0\0".to_vec();
    ape.extend((inside.len() as u32 + 32).to_le_bytes());
    ape.extend([1, 0, 0, 0, 0, 0, 0, 0xA0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let mut footer = ape.clone();
    footer[23] = 0x80;
    let bytes = [frame().repeat(5), ape, inside, footer, id3v1].concat();
    let facts = walk(&bytes).unwrap();
    assert_eq!((facts.frames, facts.complete), (5, true));
}

#[test]
fn recordings_glued_together_add_up() {
    let (first, second) = (fixture!("cbr.mp3"), fixture!("vbr.mp3"));
    assert_near(seconds(&[first, second].concat()), 6.048);
    // Another rate: 5 frames at 32 kHz behind 42 at 8 kHz.
    assert_near(seconds(&[first, &frame().repeat(5)].concat()), 3.204);
    let ogg = fixture!("call.ogg");
    assert_near(seconds(&[ogg, ogg].concat()), 5.7305);
}

#[test]
fn what_is_no_audio_is_named() {
    let html = b"\n\n <!DOCTYPE html><html><body>Not found</body></html>";
    assert_eq!(walk(b""), Err(NotAudio::Empty));
    assert_eq!(walk(html), Err(NotAudio::Html));
    assert_eq!(walk(b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>"), Err(NotAudio::Html));
    assert_eq!(
        walk(&[html.as_slice(), &frame().repeat(20)].concat()),
        Err(NotAudio::Html),
        "a page with audio behind it"
    );
    assert_eq!(walk(b"{\"error\": \"expired\"}"), Err(NotAudio::Json));
    assert_eq!(walk(b"Too many requests"), Err(NotAudio::Text));
    assert_eq!(walk(b"\0\0\0\0\0\0\0\0\0\0"), Err(NotAudio::TooShort));
    assert_eq!(walk(&[0; 100_000]), Err(NotAudio::Unknown));
    assert_eq!(walk(&frame()), Err(NotAudio::TooShort));
    assert_eq!(walk(&id3v2(5_000)), Err(NotAudio::TooShort));
    assert_eq!(walk(&fixture!("pcm.wav")[..44]), Err(NotAudio::TooShort));
    assert_eq!(walk(&fixture!("pcm.wav")[..20]), Err(NotAudio::CutOff));
}

#[test]
fn two_frames_that_agree_are_not_enough_at_the_start_of_a_longer_file() {
    let bytes = [frame().repeat(2), vec![0x33; 50_000]].concat();
    assert_eq!(walk(&bytes), Err(NotAudio::Unknown));
    assert_eq!(walk(&frame().repeat(2)).unwrap().frames, 2, "but where they are all there is");
}

#[test]
fn a_stream_to_a_pipe_lasts_to_the_end() {
    let mut wav = fixture!("alaw.wav").to_vec();
    let size = wav.windows(4).position(|name| name == b"data").unwrap() + 4;
    for open in [[0; 4], [0xFF; 4]] {
        wav[size..size + 4].copy_from_slice(&open);
        let facts = walk(&wav).unwrap();
        assert_near(facts.seconds, 1.5);
        assert!(facts.complete);
    }
}

#[test]
fn a_claimed_length_beyond_reason_is_no_length() {
    let mut m4a = fixture!("moov_first.m4a").to_vec();
    for name in [b"mvhd", b"mdhd"] {
        let at = m4a.windows(4).position(|found| found == name).unwrap();
        m4a[at + 20..at + 24].copy_from_slice(&0xFFFF_FFF0_u32.to_be_bytes());
    }
    let facts = walk(&m4a).unwrap();
    assert_eq!((facts.seconds, facts.bit_rate), (0.0, 0));
}

#[test]
fn a_jump_in_the_granule_positions_is_no_sound() {
    let mut ogg = fixture!("call.opus").to_vec();
    let pages: Vec<usize> = (0..ogg.len() - 4).filter(|at| &ogg[*at..*at + 4] == b"OggS").collect();
    ogg[pages[2] + 6..pages[2] + 14].copy_from_slice(&i64::MAX.to_le_bytes());
    assert!(walk(&ogg).map_or(0.0, |facts| facts.seconds) < 2.9);
}

#[test]
fn facts_are_written_and_read() {
    let facts = walk(fixture!("call.flac")).unwrap();
    let text = serde_json::to_string(&facts).unwrap();
    assert_eq!(serde_json::from_str::<AudioFacts>(&text).unwrap(), facts);
    assert!(serde_json::from_str::<AudioFacts>(&text.replace("flac", "exe")).is_err());
}

/// A real file with some of its bytes changed, cut out or repeated.
fn mangled() -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_usize..600, 0_u8..4), 0..12);
    (0..fixtures().len(), edits).prop_map(|(which, edits)| {
        let mut bytes = fixtures()[which].0.to_vec();
        for (at, value, len, how) in edits {
            let at = at.index(bytes.len().max(1)).min(bytes.len());
            let end = (at + len).min(bytes.len());
            match how {
                0 => bytes[at..end.min(at + 1)].fill(value),
                1 => bytes[at..end].fill(value),
                2 => drop(bytes.drain(at..end)),
                _ => {
                    let again = bytes[at..end].to_vec();
                    bytes.splice(at..at, again);
                }
            }
        }
        bytes
    })
}

/// Bytes that look like headers more often than chance would have it.
fn header_soup() -> impl Strategy<Value = Vec<u8>> {
    let pieces: Vec<Vec<u8>> = vec![
        frame(),
        frame()[..40].to_vec(),
        vec![0xFF, 0xFB],
        vec![0xFF, 0xF1, 0x6C, 0x40, 0x7F, 0xFF, 0xFC, 0],
        xing(9, Some(100)),
        id3v2(40),
        b"OggS\0\x02".to_vec(),
        b"RIFF\xFF\xFF\xFF\xFFWAVEfmt \x10\0\0\0".to_vec(),
        b"data\xFF\xFF\xFF\xFF".to_vec(),
        b"\0\0\0\x10ftypM4A ".to_vec(),
        b"\0\0\0\x01moov\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF".to_vec(),
        b"\0\0\x01\0mvhd\x01".to_vec(),
        b"\0\0\0\0mdat".to_vec(),
        b"fLaC\x80\0\0\x22".to_vec(),
        b"#!AMR\n".to_vec(),
        b"APETAGEX".to_vec(),
        vec![0xFF; 30],
        vec![0; 30],
    ];
    let piece = prop_oneof![
        3 => prop::sample::select(pieces),
        1 => prop::collection::vec(any::<u8>(), 0..60),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn chunk_sizes(most: usize) -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1..most, 1..8)
}

/// The most that a walk keeps: what is used up is let go of only after as much again.
const MEMORY: usize = 8 * intake::MAX_WINDOW;

fn check_any(bytes: &[u8], sizes: &[usize]) -> Result<(), TestCaseError> {
    let whole = walk(bytes);
    prop_assert_eq!(&walk_in(bytes, sizes), &whole);
    prop_assert_eq!(&walk_in(bytes, &[1]), &whole);
    let mut small = FrameWalk::new();
    bytes.chunks(700).for_each(|chunk| small.feed(chunk));
    prop_assert!(small.intake.held() <= MEMORY);
    if let Ok(facts) = whole {
        prop_assert!(facts.seconds.is_finite() && facts.seconds >= 0.0);
        prop_assert!(facts.channels > 0 && facts.sample_rate > 0);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_chunking_makes_no_difference(bytes in mangled(), sizes in chunk_sizes(3_000)) {
        check_any(&bytes, &sizes)?;
    }

    #[test]
    fn nor_for_hostile_bytes(bytes in header_soup(), sizes in chunk_sizes(100)) {
        check_any(&bytes, &sizes)?;
    }

    #[test]
    fn noise_is_no_audio(bytes in prop::collection::vec(any::<u8>(), 0..5_000)) {
        prop_assert!(walk(&bytes).is_err());
    }
}
