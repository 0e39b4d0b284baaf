//! Decodes a recording: a waveform of [`PEAKS`] peaks and the share of silence.
//!
//! Slow beside the walk (but hundreds of times faster than real time), so it runs in the background
//! on a thread that may block. Memory is constant for any length. Damaged frames are counted and
//! skipped; what a Xing header claims, or an encoder's delay, trims nothing, so that the length
//! agrees with that of [`super::walk`].
//!
//! Opus and AMR are recognised by the walk but have no decoder here: [`AnalyseError::Unsupported`].

mod peaks;
mod source;

#[cfg(test)]
mod tests;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use symphonia::core::audio::GenericAudioBufferRef;
use symphonia::core::codecs::audio::well_known::{CODEC_ID_MP1, CODEC_ID_MP2, CODEC_ID_MP3};
use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::{Hint, Probe};
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;
use symphonia::default::{formats, get_codecs};

/// What [`analyse`] reads from: a `File`, or a `Cursor` over bytes.
pub use symphonia::core::io::MediaSource;

use peaks::{Levels, Waveform};
use source::Source;

/// Number of peaks of a waveform.
pub const PEAKS: usize = 1_000;

/// A window of 20 ms whose root mean square lies under this counts as silence, in dB relative to
/// full scale. Line noise and comfort noise of telephony lie around −60 dBFS, quiet speech around
/// −40.
pub const SILENCE_DBFS: f64 = -50.0;

/// So many errors in a row between two packets end the decoding; a container that is damaged that
/// badly does not recover, and one that returns the same error for ever must not hold a thread for
/// ever.
const MAX_ERRORS_IN_A_ROW: u32 = 10_000;

/// What decoding a recording tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Analysis {
    /// Length in seconds of what was decoded, with the gaps that damaged frames left.
    pub seconds: f64,
    /// Exactly [`PEAKS`] values: the largest |sample| over all channels in each thousandth of the
    /// length, 255 for full scale.
    pub peaks: Vec<u8>,
    /// 0 to 1: the share of windows of 20 ms whose root mean square over all channels lies under
    /// [`SILENCE_DBFS`].
    pub silent_share: f64,
    /// Packets that could not be decoded.
    pub damaged: u64,
}

/// Why a recording could not be analysed. Carries nothing of the content.
#[derive(Debug, thiserror::Error)]
pub enum AnalyseError {
    /// There is no decoder for this kind of audio; trying again is of no use.
    #[error("no decoder for this audio: {0}")]
    Unsupported(&'static str),
    /// Nothing in it could be decoded; trying again is of no use.
    #[error("no sound could be decoded")]
    NoSound,
    /// The decoder panicked; a fault in the decoder that the file brought out.
    #[error("the decoder failed on this file")]
    Decoder,
    /// Reading the bytes failed; worth another try.
    #[error("reading the recording failed")]
    Read(#[source] io::Error),
    /// The caller asked to stop.
    #[error("stopped before the end")]
    Stopped,
}

/// Decodes all of `source` and measures it. Blocks; call it where blocking is allowed.
///
/// `extension` is that of [`super::AudioFacts`], or a media type; it selects the one reader that is
/// tried, so that a file cannot pass for something else here than it did when it was archived. An
/// unknown one tries them all. `should_stop` is looked at between packets and before every read.
///
/// # Errors
/// [`AnalyseError`]; [`AnalyseError::Stopped`] once `should_stop` is set.
pub fn analyse(
    source: Box<dyn MediaSource>,
    extension: &str,
    should_stop: &AtomicBool,
) -> Result<Analysis, AnalyseError> {
    // The decoders are safe code over hostile bytes: an index out of bounds in one of them must
    // cost this recording its waveform, not the archive its thread. Everything they touched is
    // dropped with the unwinding.
    let result =
        catch_unwind(AssertUnwindSafe(|| run(source, extension, should_stop))).unwrap_or(Err(AnalyseError::Decoder));
    // A stop shows as a read error somewhere in between.
    if result.is_err() && should_stop.load(Ordering::Relaxed) { Err(AnalyseError::Stopped) } else { result }
}

fn run(source: Box<dyn MediaSource>, extension: &str, should_stop: &AtomicBool) -> Result<Analysis, AnalyseError> {
    let probe = probe(extension)?;
    let source = Source::behind_tags(source, should_stop).map_err(AnalyseError::Read)?;
    let stream = MediaSourceStream::new(Box::new(source), Default::default());
    let format = probe
        .probe(&Hint::new(), stream, FormatOptions::default(), MetadataOptions::default())
        .map_err(|error| failure(error, AnalyseError::NoSound))?;
    Decoding::new(format)?.run(should_stop)
}

/// The reader for a kind of audio.
fn probe(extension: &str) -> Result<Probe, AnalyseError> {
    let mut probe = Probe::new();
    match extension.to_ascii_lowercase().as_str() {
        "mp3" | "audio/mpeg" => probe.register_format::<formats::MpaReader<'_>>(),
        "wav" | "audio/wav" => probe.register_format::<formats::WavReader<'_>>(),
        "ogg" | "audio/ogg" => probe.register_format::<formats::OggReader<'_>>(),
        "m4a" | "mp4" | "audio/mp4" => probe.register_format::<formats::IsoMp4Reader<'_>>(),
        "aac" | "audio/aac" => probe.register_format::<formats::AdtsReader<'_>>(),
        "flac" | "audio/flac" => probe.register_format::<formats::FlacReader<'_>>(),
        "opus" => return Err(AnalyseError::Unsupported("Opus")),
        "amr" | "awb" | "audio/amr" | "audio/amr-wb" => {
            return Err(AnalyseError::Unsupported("AMR"));
        }
        _ => symphonia::default::register_enabled_formats(&mut probe),
    }
    Ok(probe)
}

/// What an error of the reader or decoder means where it ends the analysis.
fn failure(error: Error, otherwise: AnalyseError) -> AnalyseError {
    match error {
        Error::IoError(error) if error.kind() != io::ErrorKind::UnexpectedEof => AnalyseError::Read(error),
        Error::Unsupported(what) => AnalyseError::Unsupported(what),
        _ => otherwise,
    }
}

struct Decoding<'s> {
    format: Box<dyn FormatReader + 's>,
    decoder: Box<dyn AudioDecoder>,
    track: u32,
    waveform: Waveform,
    levels: Levels,
    samples: Vec<f32>,
    seconds: f64,
    rate: u32,
    damaged: u64,
}

impl<'s> Decoding<'s> {
    fn new(format: Box<dyn FormatReader + 's>) -> Result<Self, AnalyseError> {
        let (track, decoder) = decoder(format.as_ref())?;
        Ok(Self {
            format,
            decoder,
            track,
            waveform: Waveform::default(),
            levels: Levels::default(),
            samples: Vec::new(),
            seconds: 0.0,
            rate: 0,
            damaged: 0,
        })
    }

    fn run(mut self, should_stop: &AtomicBool) -> Result<Analysis, AnalyseError> {
        let mut errors = 0;
        while errors < MAX_ERRORS_IN_A_ROW {
            if should_stop.load(Ordering::Relaxed) {
                return Err(AnalyseError::Stopped);
            }
            let packet = match self.format.next_packet() {
                Ok(Some(packet)) => packet,
                Ok(None) => break,
                Err(Error::DecodeError(_) | Error::Unsupported(_) | Error::LimitError(_)) => {
                    self.damaged += 1;
                    errors += 1;
                    continue;
                }
                // The next stream of a chain, with a codec of its own.
                Err(Error::ResetRequired) => match decoder(self.format.as_ref()) {
                    Ok((track, decoder)) => {
                        (self.track, self.decoder) = (track, decoder);
                        errors += 1;
                        continue;
                    }
                    Err(_) => break,
                },
                Err(Error::IoError(error)) if error.kind() != io::ErrorKind::UnexpectedEof => {
                    return Err(AnalyseError::Read(error));
                }
                // The file ends in the middle of something: what came before counts.
                Err(Error::IoError(_) | _) => break,
            };
            errors = 0;
            if packet.track_id != self.track {
                continue;
            }
            match self.decoder.decode(&packet) {
                Ok(sound) => measure(
                    &sound,
                    &mut self.samples,
                    &mut self.waveform,
                    &mut self.levels,
                    (&mut self.seconds, &mut self.rate),
                ),
                Err(_) => {
                    self.damaged += 1;
                    self.gap(packet.block_dur().get());
                }
            }
        }
        self.finish()
    }

    /// Keeps the place of a packet that could not be decoded, so that the waveform stays in step
    /// with the sound. Says nothing of silence.
    fn gap(&mut self, frames: u64) {
        // A packet is far shorter than a second; a longer one is damage too.
        if self.rate == 0 || frames > u64::from(self.rate) {
            return;
        }
        self.waveform.gap(frames);
        self.seconds += frames as f64 / f64::from(self.rate);
    }

    fn finish(self) -> Result<Analysis, AnalyseError> {
        if self.rate == 0 || self.seconds <= 0.0 {
            return Err(AnalyseError::NoSound);
        }
        Ok(Analysis {
            seconds: self.seconds,
            peaks: self.waveform.peaks(),
            silent_share: self.levels.silent_share(),
            damaged: self.damaged,
        })
    }
}

/// Takes in the sound of one packet.
fn measure(
    sound: &GenericAudioBufferRef<'_>,
    samples: &mut Vec<f32>,
    waveform: &mut Waveform,
    levels: &mut Levels,
    (seconds, rate): (&mut f64, &mut u32),
) {
    let (new_rate, channels) = (sound.spec().rate(), sound.spec().channels().count());
    if new_rate == 0 || channels == 0 || sound.frames() == 0 {
        return;
    }
    *rate = new_rate;
    sound.copy_to_vec_interleaved(samples);
    waveform.take(samples, channels);
    levels.take(samples, channels, new_rate);
    *seconds += sound.frames() as f64 / f64::from(new_rate);
}

/// A decoder for the first track of sound.
fn decoder(format: &dyn FormatReader) -> Result<(u32, Box<dyn AudioDecoder>), AnalyseError> {
    let track = format.default_track(TrackType::Audio).ok_or(AnalyseError::NoSound)?;
    let params = track.codec_params.as_ref().and_then(|params| params.audio()).ok_or(AnalyseError::NoSound)?;
    // In MPEG audio only the Xing header says what to trim, and it may lie; elsewhere the container
    // itself does.
    let mpeg = [CODEC_ID_MP1, CODEC_ID_MP2, CODEC_ID_MP3].contains(&params.codec);
    let options = AudioDecoderOptions::default().gapless(!mpeg).verify(false);
    let decoder =
        get_codecs().make_audio_decoder(params, &options).map_err(|error| failure(error, AnalyseError::NoSound))?;
    Ok((track.id, decoder))
}
