//! What of a call lies in the store. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::facts::Facts;

/// One version of one object that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptObject {
    pub key: String,
    /// The store's id; `None` where it keeps none.
    pub version: Option<String>,
    /// Lower-case hex.
    pub sha256: String,
    /// In bytes; known of recordings.
    pub size: Option<u64>,
    /// The latest date of those that the call's recordings ask for.
    pub retain_until: Timestamp,
}

impl KeptObject {
    /// True for the same version of the same object, whatever is known of it.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.key, &self.version) == (&other.key, &other.version)
    }
}

impl Facts {
    /// Every object version of the call's recordings, each once: audio, call record, and duplicates of both.
    #[must_use]
    pub fn objects(&self) -> Vec<KeptObject> {
        let mut objects: BTreeMap<(String, Option<String>), KeptObject> = BTreeMap::new();
        for recording in self.recordings.values() {
            let (Some((.., receipt)), Some(retain_until)) = (&recording.receipt, recording.retain_until()) else {
                continue;
            };
            let audio = (&receipt.object_key, &receipt.version, &receipt.sha256, Some(receipt.size_bytes));
            let record = (&receipt.vcon_key, &receipt.vcon_version, &receipt.vcon_sha256, None);
            for (key, version, sha256, size) in [audio, record] {
                let others = self.duplicates.iter().filter(|(other, _)| other == key).map(|(_, v)| Some(v.clone()));
                for version in std::iter::once(version.clone()).chain(others) {
                    let (key, sha256) = (key.clone(), sha256.clone());
                    let object = KeptObject { key: key.clone(), version: version.clone(), sha256, size, retain_until };
                    let known = objects.entry((key, version)).or_insert(object);
                    known.retain_until = known.retain_until.max(retain_until);
                }
            }
        }
        objects.into_values().collect()
    }
}
