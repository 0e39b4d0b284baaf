//! The newest steps of the journal in memory, as this process appended them: who follows closely reads no row for them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Appended, Step};

/// Steps that are kept: more than a follower falls behind by while the machine keeps up.
const KEPT: usize = 8192;

/// Without gaps; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent(Arc<Mutex<VecDeque<Step>>>);

impl Recent {
    /// Takes in what was just committed.
    pub(super) fn push(&self, committed: &[Appended]) {
        let mut steps = self.lock();
        let first = committed.first().map(|appended| appended.entry.seq);
        if steps.back().map(|step| step.seq + 1) != first {
            // Another process appended in between.
            steps.clear();
        }
        steps.extend(committed.iter().map(|Appended { entry, .. }| Step {
            seq: entry.seq,
            kind: Some(entry.kind),
            subject: entry.subject.clone(),
        }));
        let surplus = steps.len().saturating_sub(KEPT);
        steps.drain(..surplus);
    }

    /// Up to `limit` steps from `from` on; `None` where that one is not kept.
    pub(super) fn from(&self, from: u64, limit: u64) -> Option<Vec<Step>> {
        let steps = self.lock();
        let skip = usize::try_from(from.checked_sub(steps.front()?.seq)?).ok()?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        (skip < steps.len()).then(|| steps.iter().skip(skip).take(limit).cloned().collect())
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Step>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Entry, Kind};

    fn committed(seqs: std::ops::Range<u64>) -> Vec<Appended> {
        let entry = |seq| Entry {
            seq,
            at: jiff::Timestamp::UNIX_EPOCH,
            received_at: None,
            kind: Kind::WebhookReceived,
            actor: "token:x".into(),
            subject: Some(format!("call:{seq}")),
            body: [0; 32],
            reason: None,
        };
        seqs.map(|seq| Appended { entry: entry(seq), body: Arc::from(&b"{}"[..]), understood: None }).collect()
    }

    fn seqs(recent: &Recent, from: u64, limit: u64) -> Option<Vec<u64>> {
        recent.from(from, limit).map(|steps| steps.iter().map(|step| step.seq).collect())
    }

    #[test]
    fn what_is_told_has_no_gaps_and_an_end() {
        let recent = Recent::default();
        assert_eq!(seqs(&recent, 0, 9), None);
        recent.push(&committed(5..7));
        recent.push(&committed(7..9));
        assert_eq!(seqs(&recent, 4, 9), None);
        assert_eq!(seqs(&recent, 5, 9), Some(vec![5, 6, 7, 8]));
        assert_eq!(seqs(&recent, 6, 2), Some(vec![6, 7]));
        assert_eq!(seqs(&recent, 9, 9), None);
        // Entry 9 is another process's.
        recent.push(&committed(10..12));
        assert_eq!(seqs(&recent, 8, 9), None);
        assert_eq!(seqs(&recent, 10, 9), Some(vec![10, 11]));
        recent.push(&committed(12..12 + KEPT as u64));
        assert_eq!(seqs(&recent, 11, 9), None);
        assert_eq!(recent.lock().len(), KEPT);
    }
}
