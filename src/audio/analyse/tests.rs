use std::io::Cursor;

use super::*;

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/audio/", $name)).as_slice()
    };
}

static GO: AtomicBool = AtomicBool::new(false);

fn run(bytes: &[u8], extension: &str) -> Result<Analysis, AnalyseError> {
    analyse(Box::new(Cursor::new(bytes.to_vec())), extension, &GO)
}

/// A WAV file of 16-bit samples at 8 kHz.
fn wav(channels: u16, samples: &[i16]) -> Vec<u8> {
    let size = samples.len() as u32 * 2;
    let mut file = b"RIFF".to_vec();
    file.extend((36 + size).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0");
    file.extend(channels.to_le_bytes());
    file.extend(8_000_u32.to_le_bytes());
    file.extend((16_000 * u32::from(channels)).to_le_bytes());
    file.extend((channels * 2).to_le_bytes());
    file.extend(b"\x10\0data");
    file.extend(size.to_le_bytes());
    file.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    file
}

#[test]
fn every_kind_is_decoded_in_the_length_that_the_walk_tells() {
    let files = [
        (fixture!("cbr.mp3"), "mp3", 3.024),
        (fixture!("vbr.mp3"), "audio/mpeg", 3.024),
        (fixture!("call.mp2"), "mp3", 1.008),
        (fixture!("pcm.wav"), "wav", 0.5),
        (fixture!("alaw.wav"), "wav", 1.5),
        (fixture!("ulaw.wav"), "wav", 1.0),
        (fixture!("call.ogg"), "ogg", 2.865),
        (fixture!("moov_first.m4a"), "m4a", 3.072),
        (fixture!("moov_last.m4a"), "m4a", 3.072),
        (fixture!("call.aac"), "aac", 3.072),
        (fixture!("call.flac"), "flac", 0.9),
        (fixture!("call.flac"), "", 0.9),
    ];
    for (bytes, extension, seconds) in files {
        let found = run(bytes, extension).unwrap_or_else(|error| panic!("{extension}: {error}"));
        assert!((found.seconds - seconds).abs() < 0.03, "{extension}: {} s instead of {seconds} s", found.seconds);
        assert_eq!((found.peaks.len(), found.damaged), (PEAKS, 0), "{extension}");
        assert!(found.peaks.iter().any(|peak| *peak > 60), "{extension}: someone speaks");
        assert!((0.0..0.6).contains(&found.silent_share), "{extension}: {}", found.silent_share);
    }
}

#[test]
fn peaks_and_silence_are_where_the_sound_is() {
    // A second of each: nothing, full scale, nothing, half scale on the second channel only.
    let mut samples = Vec::new();
    for second in 0..4 {
        for i in 0..8_000 {
            let sign = if i / 10 % 2 == 0 { 1 } else { -1 };
            samples.extend(match second {
                1 => [i16::MIN, sign * i16::MAX],
                3 => [0, sign * (i16::MAX / 2)],
                _ => [5, -5],
            });
        }
    }
    let found = run(&wav(2, &samples), "wav").unwrap();
    assert!((found.seconds - 4.0).abs() < 1e-9);
    assert!((found.silent_share - 0.5).abs() < 0.01, "{}", found.silent_share);
    for (i, peak) in found.peaks.iter().enumerate() {
        let expected = [0, 255, 0, 127][i / 250];
        assert!(peak.abs_diff(expected) <= 1, "peak {i}: {peak} instead of {expected}");
    }
}

#[test]
fn fewer_frames_than_peaks_repeat() {
    let found = run(&wav(1, &[0, i16::MAX, 0, i16::MAX]), "wav").unwrap();
    let expected: Vec<u8> = [0, 255, 0, 255].into_iter().flat_map(|peak| [peak; PEAKS / 4]).collect();
    assert_eq!(found.peaks, expected);
}

#[test]
fn a_long_waveform_is_merged_without_losing_a_peak() {
    let mut waveform = peaks::Waveform::default();
    let quiet = vec![0.0; 10_000];
    for second in 0..2_000 {
        let mut samples = quiet.clone();
        if second % 500 == 250 {
            samples[5_000] = -1.0;
        }
        waveform.take(&samples, 1);
    }
    let loud: Vec<usize> =
        waveform.peaks().iter().enumerate().filter(|(_, peak)| **peak == 255).map(|(i, _)| i).collect();
    assert_eq!(loud, [125, 375, 625, 875]);
}

#[test]
fn silence_is_judged_at_the_threshold() {
    let share = |amplitude: f32| {
        let mut levels = peaks::Levels::default();
        let samples: Vec<f32> = (0..8_000).map(|i| if i % 2 == 0 { amplitude } else { -amplitude }).collect();
        for packet in samples.chunks(333) {
            levels.take(packet, 1, 8_000);
        }
        levels.silent_share()
    };
    let threshold = 10_f32.powf(SILENCE_DBFS as f32 / 20.0);
    assert_eq!((share(threshold * 0.99), share(threshold * 1.01)), (1.0, 0.0));
}

#[test]
fn damage_in_the_middle_does_not_end_the_decoding() {
    let mut bytes = fixture!("cbr.mp3").to_vec();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 400].fill(0xAA);
    let found = run(&bytes, "mp3").unwrap();
    assert!(found.seconds > 2.6 && found.seconds < 3.1, "{} s", found.seconds);
    let mut flac = fixture!("call.flac").to_vec();
    flac[4_000..4_050].fill(0x55);
    assert!(run(&flac, "flac").unwrap().seconds > 0.3);
}

#[test]
fn a_frame_that_cannot_be_decoded_keeps_its_place() {
    let mut bytes = fixture!("cbr.mp3").to_vec();
    // The body of the 11th of 42 frames of 144 bytes.
    bytes[10 * 144 + 4..11 * 144].fill(0xFF);
    let found = run(&bytes, "mp3").unwrap();
    assert!(found.damaged >= 1, "{}", found.damaged);
    assert!((found.seconds - 3.024).abs() < 0.001, "{} s", found.seconds);
}

#[test]
fn half_a_file_is_half_the_length() {
    let bytes = fixture!("cbr.mp3");
    let found = run(&bytes[..bytes.len() / 2], "mp3").unwrap();
    assert!((found.seconds - 1.5).abs() < 0.1, "{} s", found.seconds);
}

#[test]
fn a_large_tag_is_passed_over() {
    let mut bytes = b"ID3\x04\0\0\0\x7F\x7F\x7F".to_vec();
    bytes.resize(10 + (1 << 21) - 1, 0xFF);
    bytes.extend(fixture!("cbr.mp3"));
    assert!((run(&bytes, "mp3").unwrap().seconds - 3.024).abs() < 0.001);
}

#[test]
fn what_cannot_be_decoded_says_so() {
    let opus = fixture!("call.opus");
    for (bytes, extension) in [(opus, "opus"), (opus, "audio/ogg"), (fixture!("call.amr"), "amr")] {
        assert!(matches!(run(bytes, extension), Err(AnalyseError::Unsupported(_))), "{extension}");
    }
    for extension in ["mp3", "wav", "ogg", "m4a", "aac", "flac", ""] {
        assert!(run(b"<html>Not found</html>", extension).is_err(), "{extension}");
        assert!(run(&[0xFF; 100], extension).is_err(), "{extension}");
        assert!(run(b"", extension).is_err(), "{extension}");
    }
}

#[test]
fn a_stop_is_heeded() {
    let stop = AtomicBool::new(true);
    let source = Box::new(Cursor::new(fixture!("cbr.mp3").to_vec()));
    assert!(matches!(analyse(source, "mp3", &stop), Err(AnalyseError::Stopped)));
}
