//! The form of an entry: a small JSON object in RFC 8785 canonical form; its bytes are the tree's leaf.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::evidence::{Hash, leaf_hash};

/// What an entry records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    WebhookReceived,
    /// A webhook of the past, brought in by an operator.
    WebhookImported,
    /// A body that could not be understood; `reason` says why.
    WebhookQuarantined,
    RecordingIntended,
    RecordingArchived,
    RecordingFailed,
    RecordingRetried,
    RecordingAnalysed,
    /// Another version of an object that is kept was found in the store.
    RecordingDuplicated,
    FlagRaised,
    FlagResolved,
    TokenCreated,
    TokenRevoked,
    IndexRebuildRequested,
}

impl Kind {
    pub const ALL: [Self; 14] = [
        Self::WebhookReceived,
        Self::WebhookImported,
        Self::WebhookQuarantined,
        Self::RecordingIntended,
        Self::RecordingArchived,
        Self::RecordingFailed,
        Self::RecordingRetried,
        Self::RecordingAnalysed,
        Self::RecordingDuplicated,
        Self::FlagRaised,
        Self::FlagResolved,
        Self::TokenCreated,
        Self::TokenRevoked,
        Self::IndexRebuildRequested,
    ];

    /// The name in the entry.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WebhookReceived => "webhook.received",
            Self::WebhookImported => "webhook.imported",
            Self::WebhookQuarantined => "webhook.quarantined",
            Self::RecordingIntended => "recording.intended",
            Self::RecordingArchived => "recording.archived",
            Self::RecordingFailed => "recording.failed",
            Self::RecordingRetried => "recording.retried",
            Self::RecordingAnalysed => "recording.analysed",
            Self::RecordingDuplicated => "recording.duplicated",
            Self::FlagRaised => "flag.raised",
            Self::FlagResolved => "flag.resolved",
            Self::TokenCreated => "token.created",
            Self::TokenRevoked => "token.revoked",
            Self::IndexRebuildRequested => "index.rebuild_requested",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// True for entries whose subject is a call and that its fold takes in.
    #[must_use]
    pub fn concerns_call(self) -> bool {
        !matches!(
            self,
            Self::WebhookQuarantined | Self::TokenCreated | Self::TokenRevoked | Self::IndexRebuildRequested
        )
    }
}

/// One entry of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub seq: u64,
    /// Time of appending, never before the previous entry's.
    pub at: Timestamp,
    /// Where the request came earlier than `at` because it waited in a spool.
    pub received_at: Option<Timestamp>,
    pub kind: Kind,
    /// Who: `token:NAME`, `system` or `cli`.
    pub actor: String,
    /// What it is about: a call's key, a token's name. At most some hundred bytes.
    pub subject: Option<String>,
    /// The commitment to the body.
    pub body: Hash,
    /// Why a body is in quarantine: a short code.
    pub reason: Option<String>,
}

/// The JSON form. The fields stand in the order that RFC 8785 asks for, and strings and whole numbers below 2^53 are
/// written by `serde_json` as it demands; a test compares with a canonicaliser.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire<'a> {
    actor: Cow<'a, str>,
    at: Cow<'a, str>,
    body: Cow<'a, str>,
    kind: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    reason: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    received_at: Option<Cow<'a, str>>,
    seq: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    subject: Option<Cow<'a, str>>,
}

impl Entry {
    /// The entry's bytes, which the tree's leaf hash covers.
    #[must_use]
    pub fn canonical(&self) -> String {
        let wire = Wire {
            actor: (&*self.actor).into(),
            at: format!("{:.6}", self.at).into(),
            body: format!("sha256:{}", hex::encode(self.body)).into(),
            kind: self.kind.as_str().into(),
            reason: self.reason.as_deref().map(Into::into),
            received_at: self.received_at.map(|at| format!("{at:.6}").into()),
            seq: self.seq,
            subject: self.subject.as_deref().map(Into::into),
        };
        // Strings and one integer always have a JSON form.
        serde_json::to_string(&wire).unwrap_or_default()
    }

    /// Reads an entry back; `None` unless the text is exactly the canonical form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let wire: Wire<'_> = serde_json::from_str(text).ok()?;
        let mut body = [0; 32];
        hex::decode_to_slice(wire.body.strip_prefix("sha256:")?, &mut body).ok()?;
        let entry = Self {
            seq: wire.seq,
            at: wire.at.parse().ok()?,
            received_at: wire.received_at.map(|at| at.parse()).transpose().ok()?,
            kind: Kind::parse(&wire.kind)?,
            actor: wire.actor.into_owned(),
            subject: wire.subject.map(Cow::into_owned),
            body,
            reason: wire.reason.map(Cow::into_owned),
        };
        (entry.canonical() == text).then_some(entry)
    }

    /// When the fact reached us.
    #[must_use]
    pub fn received(&self) -> Timestamp {
        self.received_at.unwrap_or(self.at)
    }

    /// The leaf hash of a canonical entry.
    #[must_use]
    pub fn leaf(canonical: &str) -> Hash {
        leaf_hash(canonical.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Entry {
        Entry {
            seq: 4711,
            at: "2026-03-09T05:15:42.120934Z".parse().unwrap(),
            received_at: None,
            kind: Kind::WebhookReceived,
            actor: "token:doubletick".into(),
            subject: Some("call_7Qm2Xk9sVb".into()),
            body: [0xab; 32],
            reason: None,
        }
    }

    #[test]
    fn the_form_is_the_documented_one() {
        let body = "ab".repeat(32);
        let expected = format!(
            r#"{{"actor":"token:doubletick","at":"2026-03-09T05:15:42.120934Z","body":"sha256:{body}","kind":"webhook.received","seq":4711,"subject":"call_7Qm2Xk9sVb"}}"#
        );
        assert_eq!(sample().canonical(), expected);
    }

    #[test]
    fn reads_back_only_the_canonical_form() {
        let entry = Entry {
            received_at: Some("2026-03-09T05:15:40Z".parse().unwrap()),
            reason: Some("not_json".into()),
            ..sample()
        };
        assert_eq!(Entry::parse(&entry.canonical()), Some(entry.clone()));
        assert_eq!(Entry::parse(&entry.canonical().replace("\"seq\":", "\"seq\": ")), None);
        assert_eq!(Entry::parse(&entry.canonical().replace("\"seq\"", "\"sequence\"")), None);
    }

    proptest::proptest! {
        #[test]
        fn the_form_is_canonical(actor: String, subject: Option<String>, reason: Option<String>, seq in 0..1u64 << 53, kind in 0..Kind::ALL.len(), received: bool) {
            let entry = sample();
            let received_at = received.then_some(entry.at);
            let entry = Entry { actor, subject, reason, seq, kind: Kind::ALL[kind], received_at, ..entry };
            let text = entry.canonical();
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            proptest::prop_assert_eq!(&serde_json_canonicalizer::to_string(&value).unwrap(), &text);
            proptest::prop_assert_eq!(Entry::parse(&text), Some(entry));
        }
    }

    #[test]
    fn every_kind_has_its_own_name() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.as_str()), Some(kind));
        }
    }
}
