//! A small index, made once: what queries and cursors are tried on.

use std::sync::LazyLock;

use callvault::search::{CallDoc, Index, QueryContext, Searcher};
use tempfile::TempDir;

pub const CALLS: u64 = 23;

pub static LAB: LazyLock<(TempDir, Searcher, QueryContext)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut index, _) = Index::open_or_rebuild(folder.path(), "IN").expect("an index");
    let calls: Vec<CallDoc> = (0..CALLS).map(call).collect();
    // Two commits make two segments.
    for (part, calls) in (1..).zip(calls.chunks(12)) {
        index.apply(calls).expect("calls are taken");
        index.commit(part).expect("a commit");
    }
    let searcher = Searcher::open(folder.path(), 1).expect("a searcher");
    let tz = jiff::tz::TimeZone::fixed(jiff::tz::offset(5));
    (folder, searcher, QueryContext { tz, region: "IN".into() })
});

fn call(n: u64) -> CallDoc {
    let pick = |of: &[&str]| of[usize::try_from(n).unwrap_or_default() % of.len()].to_owned();
    CallDoc {
        call_id: format!("call_{n}"),
        first_seq: n,
        // Some begin at the same time.
        sort_at: 1_770_000_000_000_000 + i64::try_from(n / 3).unwrap_or_default() * 3_600_000_000,
        duration_seconds: (!n.is_multiple_of(5)).then_some(n * 7 % 90),
        status: pick(&["ended", "missed", "in_progress"]),
        direction: Some(pick(&["incoming", "outgoing"])),
        channel: pick(&["whatsapp", "pstn"]),
        waba_number: Some("912240001234".into()),
        recording_state: pick(&["archived", "none", "pending", "failed"]),
        flags: if n.is_multiple_of(4) { vec![("short_call".into(), "open".into())] } else { Vec::new() },
        agent: Some(pick(&["919833344556", "Farhan Siddiqui", "Siobhan O'Brien"])),
        customer_name: Some(pick(&["Ananya Kulkarni", "मीरा शर्मा", "José Müller-Straße", "R. S. Iyer"])),
        customer_number: Some(format!("9198200112{n:02}")),
        ids: vec![format!("chat_{n}")],
        ..CallDoc::default()
    }
}
