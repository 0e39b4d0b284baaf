//! Peaks and levels of a sound of unknown length, in constant memory.

use super::{PEAKS, SILENCE_DBFS};

/// The most windows a waveform keeps; an even number, and many times [`PEAKS`], so that a peak is
/// off by a small part of its width at most.
const MAX_WINDOWS: usize = 16 * 1024;

/// The largest |sample| of each window. Windows start at one frame and are merged in pairs whenever
/// there are too many, which keeps between half of [`MAX_WINDOWS`] and all of it, however long the
/// sound becomes.
#[derive(Debug)]
pub(super) struct Waveform {
    windows: Vec<f32>,
    /// Frames in a window, a power of two.
    width: u64,
    /// The window that is being filled.
    peak: f32,
    filled: u64,
}

impl Default for Waveform {
    fn default() -> Self {
        Self { windows: Vec::with_capacity(MAX_WINDOWS), width: 1, peak: 0.0, filled: 0 }
    }
}

impl Waveform {
    /// Takes interleaved samples in −1..=1.
    pub(super) fn take(&mut self, samples: &[f32], channels: usize) {
        let mut frames = samples.chunks_exact(channels).len();
        let mut rest = samples;
        while frames > 0 {
            let room = usize::try_from(self.width - self.filled).unwrap_or(usize::MAX).min(frames);
            let (now, later) = rest.split_at(room * channels);
            // `max` passes over NaN.
            self.peak = now.iter().fold(self.peak, |peak, sample| peak.max(sample.abs()));
            self.advance(room as u64);
            rest = later;
            frames -= room;
        }
    }

    /// Takes so many frames of which nothing is known.
    pub(super) fn gap(&mut self, mut frames: u64) {
        while frames > 0 {
            let room = (self.width - self.filled).min(frames);
            self.advance(room);
            frames -= room;
        }
    }

    fn advance(&mut self, frames: u64) {
        self.filled += frames;
        if self.filled < self.width {
            return;
        }
        self.windows.push(self.peak);
        self.peak = 0.0;
        self.filled = 0;
        if self.windows.len() == MAX_WINDOWS {
            for i in 0..MAX_WINDOWS / 2 {
                self.windows[i] = self.windows[2 * i].max(self.windows[2 * i + 1]);
            }
            self.windows.truncate(MAX_WINDOWS / 2);
            self.width *= 2;
        }
    }

    /// Exactly [`PEAKS`] peaks, 255 for full scale. A sound of fewer frames than that repeats some.
    pub(super) fn peaks(mut self) -> Vec<u8> {
        if self.filled > 0 {
            self.windows.push(self.peak);
        }
        let count = self.windows.len();
        (0..PEAKS)
            .map(|i| {
                let from = i * count / PEAKS;
                let to = ((i + 1) * count / PEAKS).max(from + 1).min(count);
                let peak = self.windows[from.min(to)..to].iter().fold(0.0_f32, |peak, window| peak.max(*window));
                // `as` saturates: what overshoots full scale is full scale.
                (peak * 255.0).round() as u8
            })
            .collect()
    }
}

/// How many windows of 20 ms are silent.
#[derive(Debug, Default)]
pub(super) struct Levels {
    windows: u64,
    silent: u64,
    /// The window that is being filled: its squares, its frames so far, and its format.
    squares: f64,
    filled: usize,
    channels: usize,
    width: usize,
}

impl Levels {
    /// Windows per second.
    const PER_SECOND: u32 = 50;

    /// Takes interleaved samples in −1..=1; `rate` in Hz.
    pub(super) fn take(&mut self, samples: &[f32], channels: usize, rate: u32) {
        let width = ((rate / Self::PER_SECOND) as usize).max(1);
        if (self.width, self.channels) != (width, channels) {
            self.close();
            (self.width, self.channels) = (width, channels);
        }
        let mut rest = samples;
        while rest.len() >= channels {
            let room = (self.width - self.filled).min(rest.len() / channels);
            let (now, later) = rest.split_at(room * channels);
            self.squares += f64::from(now.iter().map(|sample| sample * sample).sum::<f32>());
            self.filled += room;
            rest = later;
            if self.filled == self.width {
                self.close();
            }
        }
    }

    /// Counts the window that is being filled, unless it is less than half of one.
    fn close(&mut self) {
        if self.filled * 2 >= self.width.max(1) {
            let mean = self.squares / (self.filled * self.channels.max(1)) as f64;
            self.windows += 1;
            self.silent += u64::from(mean < 10_f64.powf(SILENCE_DBFS / 10.0));
        }
        self.squares = 0.0;
        self.filled = 0;
    }

    /// 0 to 1; 0 where there was no sound at all.
    pub(super) fn silent_share(mut self) -> f64 {
        self.close();
        if self.windows == 0 { 0.0 } else { self.silent as f64 / self.windows as f64 }
    }
}
