//! What the journal holds about a call, in words. Pure.

use super::format::{Stamp, sentence, shortened, size};
use super::rows::Terms;
use super::words;
use crate::calls::records::{
    AnalysisRecord, ArchiveReceipt, ExplanationRecord, ExtensionRecord, FailureRecord, FlagRecord, HoldRecord,
    ReviewRecord,
};
use crate::intake;
use crate::journal::{Kind, Record};

pub(super) struct Moment {
    pub(super) seq: u64,
    pub(super) at: Stamp,
    /// `call`, `recording`, `flag` or `hold`, for the mark beside it.
    pub(super) about: &'static str,
    pub(super) text: String,
    pub(super) detail: Option<String>,
    /// Who, where that was not the archive itself.
    pub(super) by: Option<String>,
    /// The entry's kind, for who knows the journal.
    pub(super) kind: &'static str,
}

pub(super) fn moment(record: &Record, terms: &Terms<'_>) -> Moment {
    let entry = &record.entry;
    let (about, text, detail) = said(record);
    Moment {
        seq: entry.seq,
        at: Stamp::new(entry.received(), terms.tz),
        about,
        text,
        detail: detail.map(|detail| shortened(&detail, 600)),
        by: by(&entry.actor),
        kind: entry.kind.as_str(),
    }
}

fn by(actor: &str) -> Option<String> {
    match actor {
        "system" => None,
        "cli" => Some("on the command line".into()),
        "config" => Some("by configuration".into()),
        other => Some(format!("by {}", shortened(other.strip_prefix("token:").unwrap_or(other), 80))),
    }
}

fn said(record: &Record) -> (&'static str, String, Option<String>) {
    match record.entry.kind {
        Kind::WebhookReceived => ("call", event(record), None),
        Kind::WebhookImported => ("call", event(record), Some("Brought in later from older data.".into())),
        Kind::WebhookQuarantined => {
            ("call", "A message about this call could not be understood.".into(), record.entry.reason.clone())
        }
        Kind::RecordingIntended => ("recording", "The recording was fetched and its fingerprint taken.".into(), None),
        Kind::RecordingArchived => {
            let receipt: Option<ArchiveReceipt> = body(record);
            let detail = receipt
                .map(|receipt| format!("{}, kept by the policy “{}”.", size(receipt.size_bytes), receipt.policy));
            ("recording", "The recording was archived.".into(), detail)
        }
        Kind::RecordingFailed => {
            let failure: Option<FailureRecord> = body(record);
            (
                "recording",
                "The archive gave up fetching the recording.".into(),
                failure.map(|f| words::problem(&f.reason)),
            )
        }
        Kind::RecordingRetried => ("recording", "Another attempt at the recording was asked for.".into(), None),
        Kind::RecordingAnalysed => ("recording", "The recording was analysed.".into(), analysis(record)),
        Kind::RecordingDuplicated => (
            "recording",
            "A second copy of the recording was found in the store, and is kept with it.".into(),
            Some("An attempt that was cut off had left it there.".into()),
        ),
        Kind::FlagRaised => flag(record, "Marked for review"),
        Kind::FlagResolved => flag(record, "No longer marked"),
        Kind::FlagReviewed => {
            let said: Option<ReviewRecord> = body(record);
            let text = said.as_ref().map_or_else(
                || "A flag was looked into.".to_owned(),
                |said| format!("{}: {}.", words::rule(&said.rule), words::review(said.state)),
            );
            ("flag", text, said.and_then(|said| said.note.or(said.outcome)))
        }
        Kind::GapExplained => {
            let said: Option<ExplanationRecord> = body(record);
            ("flag", "Somebody explained why this call is no gap.".into(), said.map(|said| said.reason))
        }
        Kind::RetentionExtended => {
            let later: Option<ExtensionRecord> = body(record);
            let detail = later.map(|later| format!("By the policy “{}”.", later.policy));
            ("recording", "The recording is kept for longer.".into(), detail)
        }
        Kind::HoldCaught => ("hold", "The call came under a legal hold.".into(), hold(record)),
        Kind::HoldLifted => ("hold", "A legal hold was lifted.".into(), hold(record)),
        Kind::CallDestroying => ("hold", "Its time was over; its destruction began.".into(), None),
        Kind::CallDestroyed => ("hold", "Everything about the call was destroyed.".into(), None),
        _ => ("call", format!("The journal took up {}.", record.entry.kind.as_str()), None),
    }
}

/// What the sender's event means.
fn event(record: &Record) -> String {
    let event = record.body.as_ref().and_then(|body| intake::understand(&body.bytes).ok());
    let Some(event) = event else { return "The sender's message about this call is erased.".into() };
    match event.name() {
        "CALL_INCOMING_INITIATED" => "The customer called.",
        "CALL_OUTGOING_INITIATED" => "The agent called the customer.",
        "CALL_ACCEPTED" => "The call was accepted.",
        "CALL_ENDED" => "The call ended.",
        "CALL_MISSED" => "The call was missed.",
        "CALL_NOT_PICKED" => "Nobody picked up.",
        "CALL_REJECTED" => "The call was rejected.",
        "CALL_FAILED" => "The call failed.",
        other => return format!("The sender reported “{}”.", shortened(other, 80)),
    }
    .to_owned()
}

fn analysis(record: &Record) -> Option<String> {
    let analysis: AnalysisRecord = body(record)?;
    match (analysis.silent_share, analysis.unavailable) {
        (Some(share), _) => Some(format!("{:.0} % of it is silence.", share * 100.0)),
        (None, why) => Some(sentence(&why?)),
    }
}

fn flag(record: &Record, what: &str) -> (&'static str, String, Option<String>) {
    let flag: Option<FlagRecord> = body(record);
    let text = flag.as_ref().map_or_else(|| format!("{what}."), |flag| format!("{what}: {}.", words::rule(&flag.rule)));
    ("flag", text, flag.map(|flag| sentence(&flag.reason)))
}

fn hold(record: &Record) -> Option<String> {
    body::<HoldRecord>(record).map(|record| format!("The hold “{}”.", record.hold))
}

fn body<T: serde::de::DeserializeOwned>(record: &Record) -> Option<T> {
    record.body.as_ref().and_then(|body| serde_json::from_slice(&body.bytes).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Body, Entry};

    fn record(kind: Kind, actor: &str, body: Option<&str>) -> Record {
        let entry = Entry {
            seq: 7,
            at: "2026-03-09T05:15:42Z".parse().unwrap(),
            received_at: None,
            kind,
            actor: actor.into(),
            subject: Some("call_1".into()),
            body: [0; 32],
            reason: None,
        };
        let body = body.map(|body| Body { salt: [0; 16], bytes: body.as_bytes().to_vec().into() });
        Record { entry, leaf: [0; 32], body }
    }

    #[test]
    fn entries_speak() {
        let terms = Terms { tz: &jiff::tz::TimeZone::UTC, region: "IN" };
        let told = |kind, body| {
            let moment = moment(&record(kind, "token:doubletick", body), &terms);
            (moment.text, moment.detail, moment.by)
        };
        let accepted = told(Kind::WebhookReceived, Some(r#"{"event":"CALL_ACCEPTED","callId":"call_1"}"#));
        assert_eq!(accepted, ("The call was accepted.".into(), None, Some("by doubletick".into())));
        let unknown = told(Kind::WebhookReceived, Some(r#"{"event":"CALL_<b>","callId":"call_1"}"#));
        assert_eq!(unknown.0, "The sender reported “CALL_<b>”.");
        let flag = r#"{"call_id":"call_1","rule":"short_call","reason":"9 s, below 20 s","evaluated_at":"2026-03-09T05:15:42Z"}"#;
        let raised = told(Kind::FlagRaised, Some(flag));
        assert_eq!(
            (raised.0.as_str(), raised.1.as_deref()),
            ("Marked for review: Short call.", Some("9 s, below 20 s."))
        );
        for &kind in Kind::ALL {
            assert!(!told(kind, None).0.is_empty());
            assert!(!told(kind, Some("not json")).0.is_empty());
        }
    }
}
