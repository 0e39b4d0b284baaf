//! What is indexed of a call.

use sha2::{Digest, Sha256};

/// A call as the index sees it: flat, made elsewhere from the folded call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallDoc {
    pub call_id: String,
    /// The journal's first entry about the call: unique, never changes, breaks ties of the sort.
    pub first_seq: u64,
    /// Microseconds UTC of started_at, else ended_at, else first_seen_at.
    pub sort_at: i64,
    pub duration_seconds: Option<u64>,
    pub status: String,
    pub direction: Option<String>,
    pub channel: String,
    pub waba_number: Option<String>,
    /// As shown: `fetching` is `pending`.
    pub recording_state: String,
    pub on_hold: bool,
    /// Rule and state of each flag.
    pub flags: Vec<(String, String)>,
    /// Number or display name, as sent.
    pub agent: Option<String>,
    pub customer_name: Option<String>,
    pub customer_id: Option<String>,
    /// As sent.
    pub customer_number: Option<String>,
    /// Called from and to, as sent; may hold the customer's again.
    pub numbers: Vec<String>,
    /// Who ended or rejected the call, as sent: names or numbers.
    pub other_names: Vec<String>,
    /// Chat, message and device. The call's and the customer's own id need not be repeated.
    pub ids: Vec<String>,
}

impl CallDoc {
    /// A hash over every field: the first 8 bytes of SHA-256 over an unambiguous encoding, the
    /// same on every machine and in every version. `verify` compares it between index and database.
    #[must_use]
    pub fn digest(&self) -> u64 {
        // Taken apart without `..`, so that a new field can't be forgotten.
        let Self {
            call_id,
            first_seq,
            sort_at,
            duration_seconds,
            status,
            direction,
            channel,
            waba_number,
            recording_state,
            on_hold,
            flags,
            agent,
            customer_name,
            customer_id,
            customer_number,
            numbers,
            other_names,
            ids,
        } = self;
        let mut encoding = Encoding(Sha256::new());
        encoding.text(call_id);
        encoding.number(*first_seq);
        encoding.number(sort_at.cast_unsigned());
        encoding.number(u64::from(duration_seconds.is_some()));
        encoding.number(duration_seconds.unwrap_or_default());
        encoding.number(u64::from(*on_hold));
        encoding.texts([status, channel, recording_state]);
        for optional in [direction, waba_number, agent, customer_name, customer_id, customer_number] {
            encoding.texts(optional);
        }
        encoding.texts(flags.iter().flat_map(|(rule, state)| [rule, state]));
        for list in [numbers, other_names, ids] {
            encoding.texts(list);
        }
        let hash = encoding.0.finalize();
        hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

/// Numbers as 8 bytes, texts behind their length, lists before a mark that no length can be.
struct Encoding(Sha256);

impl Encoding {
    fn number(&mut self, number: u64) {
        self.0.update(number.to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.update(text.as_bytes());
    }

    fn texts<'a>(&mut self, texts: impl IntoIterator<Item = &'a String>) {
        for text in texts {
            self.text(text);
        }
        self.number(u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_is_stable_and_sees_every_field() {
        let base = CallDoc { call_id: "call_1".into(), first_seq: 7, ..CallDoc::default() };
        assert_eq!(base.digest(), base.clone().digest());
        let text = || Some("x".to_owned());
        let changed = [
            CallDoc { call_id: "call_2".into(), ..base.clone() },
            CallDoc { first_seq: 8, ..base.clone() },
            CallDoc { sort_at: -1, ..base.clone() },
            CallDoc { duration_seconds: Some(0), ..base.clone() },
            CallDoc { status: "x".into(), ..base.clone() },
            CallDoc { direction: text(), ..base.clone() },
            CallDoc { channel: "x".into(), ..base.clone() },
            CallDoc { waba_number: text(), ..base.clone() },
            CallDoc { recording_state: "x".into(), ..base.clone() },
            CallDoc { on_hold: true, ..base.clone() },
            CallDoc { flags: vec![("x".into(), "open".into())], ..base.clone() },
            CallDoc { agent: text(), ..base.clone() },
            CallDoc { customer_name: text(), ..base.clone() },
            CallDoc { customer_id: text(), ..base.clone() },
            CallDoc { customer_number: text(), ..base.clone() },
            CallDoc { numbers: vec!["x".into()], ..base.clone() },
            CallDoc { other_names: vec!["x".into()], ..base.clone() },
            CallDoc { ids: vec!["x".into()], ..base.clone() },
            base,
        ];
        let digests: std::collections::BTreeSet<u64> = changed.iter().map(CallDoc::digest).collect();
        assert_eq!(digests.len(), changed.len());
    }
}
