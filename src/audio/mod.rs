//! What a recording's bytes say about it: no network, no storage, no database, no clock, no
//! logging.
//!
//! Two readers, for two moments:
//!
//! - [`walk`] looks at the bytes while they stream in, in constant memory and without decoding
//!   anything. It answers the question the archiver asks before it stores: is this audio at all,
//!   how long is it, and is it all there?
//! - [`mod@analyse`] decodes a stored recording, later and in the background: a waveform of 1,000
//!   peaks and the share of silence. It is slow beside the walk, and nothing waits for it.
//!
//! Both take every input to be hostile. Neither repairs, converts or rewrites anything; neither
//! verifies the checksums a container may carry (fixity is the archive's own hashes); neither keeps
//! tags, titles or pictures; and neither says what was spoken. MPEG "free format" frames, AMR with
//! several channels, and the fragments of an MP4 whose header gives no length are recognised by
//! neither.

pub mod analyse;
pub mod walk;

pub use analyse::{AnalyseError, Analysis, MediaSource, PEAKS, SILENCE_DBFS, analyse};
pub use walk::{AudioFacts, FrameWalk, NotAudio};
