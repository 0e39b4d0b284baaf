//! `import`: past webhooks, one body a line.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::Context;
use sha2::{Digest, Sha256};

use super::{Found, Outcome};
use crate::app::App;
use crate::clock::Clock;
use crate::config::Config;
use crate::fault;
use crate::intake::{self, MAX_BODY_BYTES};
use crate::journal::{Kind, NewEntry};

/// Lines that are journaled together.
const BATCH: usize = 500;

#[derive(Default)]
struct Tally {
    lines: u64,
    added: u64,
    known: u64,
    quarantined: u64,
    refused: u64,
}

/// Journals the lines that the journal does not hold yet. A body that stands several times in the file counts as often:
/// the sender has events that are legitimately repeated.
pub(super) async fn import(config: Config, path: &Path) -> Outcome {
    let input: Box<dyn Read + Send> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(File::open(path).with_context(|| format!("can't read {}", path.display()))?)
    };
    let app = App::open(config, Clock::system()).await?;
    let mut lines = BufReader::new(input);
    let mut tally = Tally::default();
    let mut seen: HashMap<[u8; 32], u64> = HashMap::new();
    let mut known = Known::default();
    let mut batch = Vec::new();
    while let Some(line) = next_line(&mut lines)? {
        tally.lines += 1;
        match line {
            Line::TooLong => {
                tally.refused += 1;
                eprintln!("line {}: over 256 KiB, not imported", tally.lines);
            }
            Line::Body(body) if body.iter().all(u8::is_ascii_whitespace) => {}
            Line::Body(body) => {
                let digest: [u8; 32] = Sha256::digest(&body).into();
                let occurrence = seen.entry(digest).or_default();
                *occurrence += 1;
                let (entry, quarantined) = intake::entry(Kind::WebhookImported, "cli", &body, None);
                if known.count(&app, entry.subject.as_deref(), &body, digest).await? >= *occurrence {
                    tally.known += 1;
                    continue;
                }
                if let Some(why) = quarantined {
                    tally.quarantined += 1;
                    eprintln!("line {}: quarantined, {why}", tally.lines);
                }
                tally.added += 1;
                batch.push(entry);
                if batch.len() >= BATCH {
                    flush(&app, &mut batch).await?;
                }
            }
        }
    }
    flush(&app, &mut batch).await?;
    eprintln!(
        "{} journaled ({} of them quarantined), {} known already, {} refused.",
        tally.added, tally.quarantined, tally.known, tally.refused
    );
    Ok(if tally.quarantined + tally.refused > 0 { Found::Wrong } else { Found::Nothing })
}

/// How often the journal holds a body.
#[derive(Default)]
struct Known {
    /// Bodies without a subject, which no index finds; read once, when the first is met.
    without_subject: Option<HashMap<[u8; 32], u64>>,
}

impl Known {
    async fn count(&mut self, app: &App, subject: Option<&str>, body: &[u8], digest: [u8; 32]) -> anyhow::Result<u64> {
        if let Some(subject) = subject {
            return Ok(app.journal.count_of_body(subject, body).await?);
        }
        if self.without_subject.is_none() {
            let mut counts = HashMap::new();
            let mut from = 0;
            loop {
                let records = app.journal.without_subject(from, 1000).await?;
                let Some(last) = records.last() else { break };
                from = last.entry.seq + 1;
                for body in records.iter().filter_map(|record| record.body.as_ref()) {
                    *counts.entry(Sha256::digest(&body.bytes).into()).or_default() += 1;
                }
            }
            self.without_subject = Some(counts);
        }
        Ok(self.without_subject.as_ref().and_then(|counts| counts.get(&digest)).copied().unwrap_or_default())
    }
}

async fn flush(app: &App, batch: &mut Vec<NewEntry>) -> anyhow::Result<()> {
    if !batch.is_empty() {
        app.journal.append(std::mem::take(batch)).await?;
        fault::point("import.batch");
    }
    Ok(())
}

enum Line {
    Body(Vec<u8>),
    TooLong,
}

/// One line without its end; a line that is too long is skipped in constant memory.
fn next_line(input: &mut impl BufRead) -> std::io::Result<Option<Line>> {
    let mut line = Vec::new();
    let limit = MAX_BODY_BYTES as u64 + 2;
    if input.by_ref().take(limit).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.last() != Some(&b'\n') && line.len() as u64 == limit {
        input.skip_until(b'\n')?;
        return Ok(Some(Line::TooLong));
    }
    while line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        line.pop();
    }
    Ok(Some(if line.len() > MAX_BODY_BYTES { Line::TooLong } else { Line::Body(line) }))
}
