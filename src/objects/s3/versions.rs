//! Which versions there are: of one key, in the order in which they were written, and of all.

use std::io;

use aws_sdk_s3::operation::list_object_versions::ListObjectVersionsOutput;
use aws_sdk_s3::types::EncodingType;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use percent_encoding::percent_decode_str;

use super::super::{Listed, ObjectKey, StoreError};
use super::{S3Store, doctor};

/// What a bucket without versions has for an id.
pub(super) const UNVERSIONED: &str = "null";

/// One version of a key.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub(super) id: String,
    pub(super) size: u64,
    /// How many others the key has, where it was looked for all of them.
    pub(super) others: usize,
}

/// All versions of a key.
#[derive(Debug, Default)]
pub(super) struct Versions {
    /// The latest first, as the server lists them.
    all: Vec<Version>,
    /// A delete marker is the latest: whoever asks without an id is told that there is nothing.
    pub(super) hidden: bool,
}

impl Versions {
    /// The one that counts.
    pub(super) fn first(&self) -> Option<&Version> {
        self.all.last()
    }

    pub(super) fn with_id(&self, id: &str) -> Option<&Version> {
        self.all.iter().find(|version| version.id == id)
    }
}

/// Where a list goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Marker {
    key: String,
    version: Option<String>,
}

/// One answer of a list, with its keys decoded.
struct Page {
    /// Each with the id of its version.
    versions: Vec<(String, Version)>,
    /// Each with whether it is the latest.
    markers: Vec<(String, bool)>,
    next: Option<Marker>,
}

impl S3Store {
    /// The versions of exactly this key.
    pub(super) async fn look(&self, name: &str) -> Result<Versions, StoreError> {
        let (mut found, mut from) = (Versions::default(), None);
        loop {
            let page = self.page(name, from).await?;
            let mut beyond = false;
            for (key, version) in page.versions {
                if key == name { found.all.push(version) } else { beyond = true }
            }
            for (key, latest) in page.markers {
                if key == name { found.hidden |= latest } else { beyond = true }
            }
            // Of all keys that begin with this one, it is the first.
            match page.next {
                Some(next) if !beyond => from = Some(next),
                _ => break,
            }
        }
        let others = found.all.len().saturating_sub(1);
        found.all.iter_mut().for_each(|version| version.others = others);
        Ok(found)
    }

    /// The version that is asked for, of a key as callers see it; without an id the first. `None` if the key has none.
    pub(super) async fn version(&self, name: &str, key: &str, id: Option<&str>) -> Result<Option<Version>, StoreError> {
        let versions = self.look(name).await?;
        chosen(&versions, key, id)
    }

    /// Every version below a prefix.
    pub(super) async fn every_version(
        &self,
        prefix: &str,
    ) -> Result<BoxStream<'static, Result<Listed, StoreError>>, StoreError> {
        let prefix = format!("{}{prefix}", self.0.prefix);
        // The first answer tells whether there is anything to list at all.
        let first = self.page(&prefix, None).await?;
        let store = self.clone();
        let pages = stream::unfold(Some(Ok(first)), move |page: Option<Result<Page, StoreError>>| {
            let (store, prefix) = (store.clone(), prefix.clone());
            async move {
                match page? {
                    Ok(page) => {
                        let next = page.next.clone();
                        let items = store.items(page);
                        let next = match next {
                            Some(next) => Some(store.page(&prefix, Some(next)).await),
                            None => None,
                        };
                        Some((items, next))
                    }
                    Err(error) => Some((vec![Err(error)], None)),
                }
            }
        });
        Ok(pages.flat_map(stream::iter).boxed())
    }

    /// What a page tells callers: keys without our prefix, and nothing of what `doctor` left.
    fn items(&self, page: Page) -> Vec<Result<Listed, StoreError>> {
        let own = |name: &str| name.strip_prefix(&self.0.prefix).unwrap_or(name).to_owned();
        let versions = page.versions.into_iter().map(|(name, version)| Listed {
            key: own(&name),
            size: version.size,
            version: Some(version.id),
        });
        let is_probe =
            |listed: &Listed| listed.key == ObjectKey::Probe.path() && listed.size == doctor::PROBE.len() as u64;
        let stray = |(name, _): (String, bool)| StoreError::Stray {
            key: own(&name),
            why: "it is a delete marker: somebody tried to remove what lies under it",
        };
        let versions = versions.filter(|listed| !is_probe(listed)).map(Ok);
        versions.chain(page.markers.into_iter().map(stray).map(Err)).collect()
    }

    async fn page(&self, prefix: &str, from: Option<Marker>) -> Result<Page, StoreError> {
        let (key, version) = from.clone().map_or((None, None), |marker| (Some(marker.key), marker.version));
        let answer = self
            .0
            .clients
            .reader
            .list_object_versions()
            .bucket(self.bucket())
            .prefix(prefix)
            // Otherwise a key that holds what XML can't say makes the whole list unreadable.
            .encoding_type(EncodingType::Url)
            .set_key_marker(key)
            .set_version_id_marker(version)
            .send()
            .await
            .map_err(|error| self.failed("s3:ListBucketVersions", &error))?;
        let page = Page::of(&answer)?;
        if page.next.is_some() && page.next == from {
            return Err(StoreError::Io(io::Error::other("the S3 server's list goes round in a circle")));
        }
        Ok(page)
    }
}

/// Picks the version that is asked for.
pub(super) fn chosen(versions: &Versions, key: &str, id: Option<&str>) -> Result<Option<Version>, StoreError> {
    let Some(first) = versions.first() else { return Ok(None) };
    match id {
        None => Ok(Some(first.clone())),
        Some(id) => match versions.with_id(id) {
            Some(version) => Ok(Some(version.clone())),
            None => Err(StoreError::VersionGone { key: key.to_owned(), version: id.to_owned() }),
        },
    }
}

impl Page {
    fn of(answer: &ListObjectVersionsOutput) -> Result<Self, StoreError> {
        let encoded = answer.encoding_type() == Some(&EncodingType::Url);
        let read = |key: Option<&str>| if encoded { decoded(key) } else { key.unwrap_or_default().to_owned() };
        let versions = answer.versions().iter().map(|version| {
            let id = version.version_id().unwrap_or(UNVERSIONED).to_owned();
            let size = version.size().unwrap_or_default().max(0).cast_unsigned();
            (read(version.key()), Version { id, size, others: 0 })
        });
        let markers = answer.delete_markers().iter();
        let markers = markers.map(|marker| (read(marker.key()), marker.is_latest().unwrap_or_default()));
        let last = [
            answer.versions().last().and_then(|version| version.key()),
            answer.delete_markers().last().and_then(|marker| marker.key()),
        ];
        let next = if answer.is_truncated().unwrap_or_default() {
            let key = answer.next_key_marker().ok_or_else(unfinished)?;
            let version = answer.next_version_id_marker().map(str::to_owned);
            Some(Marker { key: if encoded { marker(key, last) } else { key.to_owned() }, version })
        } else {
            None
        };
        Ok(Self { versions: versions.collect(), markers: markers.collect(), next })
    }
}

fn unfinished() -> StoreError {
    StoreError::Io(io::Error::other("the S3 server breaks its list off and does not say where"))
}

/// The key at which a list goes on. AWS encodes it as it does the keys, Ceph does not; it is the last of the keys, which
/// tells the one from the other.
pub(super) fn marker(told: &str, last: [Option<&str>; 2]) -> String {
    if last.contains(&Some(told)) { decoded(Some(told)) } else { told.to_owned() }
}

/// A key as the list's encoding writes it: `application/x-www-form-urlencoded`.
pub(super) fn decoded(key: Option<&str>) -> String {
    let spaced = key.unwrap_or_default().replace('+', " ");
    percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_decoded() {
        assert_eq!(decoded(Some("p%2Fa%252Eb%20c%2Bd+e")), "p/a%2Eb c+d e");
    }

    #[test]
    fn a_list_goes_on_where_either_server_says() {
        let last = [Some("p/a%252Eb"), Some("p/b")];
        assert_eq!(marker("p/a%252Eb", last), "p/a%2Eb", "encoded, as the keys are");
        assert_eq!(marker("p/a%2Eb", last), "p/a%2Eb", "plain");
        assert_eq!(marker("p/b", last), "p/b");
    }
}
