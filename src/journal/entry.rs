//! The form of an entry: a small JSON object in RFC 8785 canonical form; its bytes are the tree's leaf.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::evidence::{Hash, leaf_hash};

/// The kinds of entries: the name in the entry, and whether its subject is a call whose fold takes it in.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal $(of $call:ident)?,)*) => {
        /// What an entry records.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind { $($(#[$doc])* $kind,)* }

        impl Kind {
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// The name in the entry.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            /// True for entries whose subject is a call and that its fold takes in.
            #[must_use]
            pub fn concerns_call(self) -> bool {
                match self { $(Self::$kind => false $(|| stringify!($call) == "call")?,)* }
            }
        }
    };
}

kinds! {
    WebhookReceived = "webhook.received" of call,
    /// A webhook of the past, brought in by an operator.
    WebhookImported = "webhook.imported" of call,
    /// A body that could not be understood; `reason` says why.
    WebhookQuarantined = "webhook.quarantined",
    RecordingIntended = "recording.intended" of call,
    RecordingArchived = "recording.archived" of call,
    RecordingFailed = "recording.failed" of call,
    RecordingRetried = "recording.retried" of call,
    RecordingAnalysed = "recording.analysed" of call,
    /// Another version of an object that is kept was found in the store.
    RecordingDuplicated = "recording.duplicated" of call,
    FlagRaised = "flag.raised" of call,
    FlagResolved = "flag.resolved" of call,
    /// Somebody looked into a flag.
    FlagReviewed = "flag.reviewed" of call,
    /// Somebody says why a call does not fit.
    GapExplained = "gap.explained" of call,
    /// The retention policies in force from here on, with their texts.
    PoliciesAdopted = "policies.adopted",
    /// A dated event with a customer, such as the end of the relationship, from which periods run.
    ClientEvent = "client.event",
    /// A recording is kept for longer than its receipt says.
    RetentionExtended = "retention.extended" of call,
    HoldPlaced = "hold.placed",
    /// A hold catches no new calls any more; those that it has, it keeps.
    HoldClosed = "hold.closed",
    HoldReleaseRequested = "hold.release_requested",
    HoldReleased = "hold.released",
    /// A call is under a hold.
    HoldCaught = "hold.caught" of call,
    HoldLifted = "hold.lifted" of call,
    DispositionProposed = "disposition.proposed",
    DispositionApproved = "disposition.approved",
    DispositionCancelled = "disposition.cancelled",
    /// The decision is in the store; what it names is destroyed from here on.
    DispositionDecided = "disposition.decided",
    DispositionExecuted = "disposition.executed",
    /// What belongs to the call is about to be destroyed.
    CallDestroying = "call.destroying" of call,
    /// Nothing is left of the call but this.
    CallDestroyed = "call.destroyed" of call,
    /// The seed of a sample, before its period ends.
    SampleSeeded = "sample.seeded",
    SampleDrawn = "sample.drawn",
    /// Objects were read again and are what they were.
    FixityChecked = "fixity.checked",
    FixityFailed = "fixity.failed",
    ReportMade = "report.made",
    /// Where a report got.
    ReportDelivered = "report.delivered",
    TokenCreated = "token.created",
    TokenRevoked = "token.revoked",
    IndexRebuildRequested = "index.rebuild_requested",
}

impl Kind {
    /// The kind of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == name)
    }
}

/// The reason of a webhook whose body was not kept, since its call was destroyed.
pub const DESTROYED: &str = "destroyed";

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

    /// True for a webhook about a call that was destroyed: its body was not kept.
    #[must_use]
    pub fn is_ignored(&self) -> bool {
        self.kind != Kind::WebhookQuarantined && self.reason.as_deref() == Some(DESTROYED)
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
        for &kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.as_str()), Some(kind));
        }
    }
}
