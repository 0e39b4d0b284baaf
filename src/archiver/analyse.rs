//! The second look at what is archived: waveform and share of silence, one at a time and at low priority.

use std::collections::BTreeSet;
use std::io::{Seek, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

use super::{Archive, ArchiveError, Rush};
use crate::audio::{AnalyseError, Analysis, analyse};
use crate::calls::records::AnalysisRecord;
use crate::db::Sql;
use crate::fault;
use crate::intake::call_key;
use crate::journal::Kind;
use crate::nodes::{Node, Turn};

/// How much the operating system should prefer everything else.
const NICENESS: i32 = 15;
/// New entries are let gather for so long: most of them bring nothing to analyse.
const GATHER: Duration = Duration::from_millis(50);
/// Without a sign of new entries the queue is looked at all the same.
const POLL: Duration = Duration::from_secs(2);
/// Pause before what went wrong is tried again, once nothing else is left.
const BACK_OFF: Duration = Duration::from_secs(15);
/// Pause after an error.
const ERROR_PAUSE: Duration = Duration::from_secs(1);
/// The part of the archive's health that is this worker's.
const PART: &str = "analysis";

const NEXT: Sql = Sql::Split {
    sqlite: "select call_id, source, sha256, object_key from recordings where state = 'archived' and analysed = 0
             order by call_seq desc limit 50",
    postgres: "select call_id, source, sha256, object_key from recordings where state = 'archived' and not analysed
               order by call_seq desc limit 50",
};

/// Analyses archived recordings, the newest first.
pub struct Analyser {
    archive: Arc<Archive>,
    node: Node,
    rush: Rush,
}

impl Analyser {
    #[must_use]
    pub fn new(archive: Arc<Archive>, node: Node, rush: Rush) -> Self {
        Self { archive, node, rush }
    }

    /// Runs until cancelled; of several nodes one analyses, far faster than all together archive.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        let mut turn = self.node.turn("analysis");
        self.work(&mut turn, &cancel).await;
        if let Err(error) = turn.let_go().await {
            tracing::warn!(%error, "the turn at the analysis could not be given up; it ends by itself");
        }
    }

    async fn work(&self, turn: &mut Turn, cancel: &CancellationToken) {
        let mut grown = self.archive.journal.watch();
        let mut troubled = BTreeSet::new();
        loop {
            grown.mark_unchanged();
            let pause = match self.next(turn, &mut troubled, cancel).await {
                Ok(true) if !cancel.is_cancelled() => continue,
                Ok(_) if troubled.is_empty() => {
                    self.archive.health.clear(PART);
                    POLL
                }
                // Only those are left that went wrong: each gets another try, after a pause.
                Ok(_) => {
                    troubled.clear();
                    BACK_OFF
                }
                Err(error) => {
                    tracing::error!(%error, "a recording could not be analysed; trying again");
                    self.archive.health.report(PART, "recordings can't be analysed at the moment: see the log");
                    ERROR_PAUSE
                }
            };
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = grown.changed(), if pause == POLL => tokio::time::sleep(GATHER).await,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Analyses one recording; `false` where none waits.
    async fn next(
        &self,
        turn: &mut Turn,
        troubled: &mut BTreeSet<(String, String)>,
        cancel: &CancellationToken,
    ) -> Result<bool, ArchiveError> {
        // Of a store that is away everybody knows already.
        if !turn.is_mine().await? || !self.archive.gate.is_open() {
            return Ok(false);
        }
        let mut chosen = None;
        for row in self.archive.db.fetch_all(NEXT, &[]).await? {
            let (call_id, source) = (row.text("call_id")?, row.text("source")?);
            if !troubled.contains(&(call_id.clone(), source.clone())) {
                chosen = Some((call_id, source, row.text("sha256")?, row.text("object_key")?));
                break;
            }
        }
        let Some((call_id, source, sha256, key)) = chosen else { return Ok(false) };
        // Reading it back is work for the store too, which nobody can be asked to do at low priority.
        self.rush.pass().await;
        let file = match self.copy(&call_id, &source, &key).await {
            Ok(file) => file,
            Err(error) => {
                // One object that can't be read must not hold up the others.
                troubled.insert((call_id, source));
                return Err(error);
            }
        };
        let extension = key.rsplit('.').next().unwrap_or_default().to_owned();
        let record = |seconds, analysis: Result<Analysis, String>| {
            let (analysis, unavailable) = match analysis {
                Ok(analysis) => (Some(analysis), None),
                Err(why) => (None, Some(why)),
            };
            AnalysisRecord {
                call_id: call_id.clone(),
                source: source.clone(),
                sha256: sha256.clone(),
                seconds,
                silent_share: analysis.as_ref().map(|a| (a.silent_share * 10_000.0).round() / 10_000.0),
                peaks: analysis.as_ref().map(|a| STANDARD.encode(&a.peaks)),
                unavailable,
            }
        };
        let record = match decode(file, extension, cancel).await {
            Ok(analysis) => record((analysis.seconds * 1000.0).round() / 1000.0, Ok(analysis)),
            Err(AnalyseError::Stopped) => return Ok(false),
            Err(AnalyseError::Read(error)) => return Err(error.into()),
            Err(error) => record(0.0, Err(error.to_string())),
        };
        fault::point("analysis.decoded");
        self.archive.journal_json(Kind::RecordingAnalysed, &call_id, &record).await?;
        fault::point("analysis.journaled");
        Ok(true)
    }

    /// Decoders seek, stores stream: a nameless copy in the spool gives the one from the other.
    async fn copy(&self, call_id: &str, source: &str, key: &str) -> Result<std::fs::File, ArchiveError> {
        let mut file = self.archive.spool.nameless()?;
        let version = self.version(call_id, source).await?;
        let mut bytes = self.archive.store.get(key, version.as_deref(), None).await?;
        while let Some(chunk) = bytes.next().await {
            file.write_all(&chunk?)?;
        }
        file.rewind()?;
        Ok(file)
    }
}

impl Analyser {
    /// The version that the receipt names. Where the call does not read back, the store takes the first.
    async fn version(&self, call_id: &str, source: &str) -> Result<Option<String>, ArchiveError> {
        let readable = self.archive.calls.facts_of(&[call_key(call_id)]).await?;
        let recording = readable.facts.first().and_then(|facts| facts.recordings.get(source));
        let receipt = recording.and_then(|recording| recording.receipt.as_ref());
        Ok(receipt.and_then(|(.., receipt)| receipt.version.clone()))
    }
}

/// Decodes on a thread of its own, which alone is slowed down.
async fn decode(file: std::fs::File, extension: String, cancel: &CancellationToken) -> Result<Analysis, AnalyseError> {
    let stop = Arc::new(AtomicBool::new(false));
    let (answer, mut done) = tokio::sync::oneshot::channel();
    let stopped = Arc::clone(&stop);
    let thread = std::thread::Builder::new().name("analysis".into()).spawn(move || {
        // Only politeness: a machine that refuses it analyses at full speed.
        let _ = rustix::process::nice(NICENESS);
        let _ = answer.send(analyse(Box::new(file), &extension, &stopped));
    });
    thread.map_err(AnalyseError::Read)?;
    tokio::select! {
        () = cancel.cancelled() => stop.store(true, Ordering::Relaxed),
        result = &mut done => return result.unwrap_or(Err(AnalyseError::Decoder)),
    }
    done.await.unwrap_or(Err(AnalyseError::Stopped))
}
