//! Any store, with a point at every operation at which a test can break it.

use std::ops::Range;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use jiff::Timestamp;

use super::{ByteStream, Content, Diagnosis, Examined, Listed, ObjectInfo, ObjectKey, ObjectStore, StoreError};
use crate::fault::operation;

/// A store whose n-th operation may fail, half-happen or hang.
pub struct Faulty<S>(pub S);

#[async_trait]
impl<S: ObjectStore> ObjectStore for Faulty<S> {
    async fn put_new(&self, key: &ObjectKey, content: Content, until: Timestamp) -> Result<ObjectInfo, StoreError> {
        operation("store.put_new", self.0.put_new(key, content, until)).await
    }

    async fn get(&self, key: &str, version: Option<&str>, range: Option<Range<u64>>) -> Result<ByteStream, StoreError> {
        operation("store.get", self.0.get(key, version, range)).await
    }

    async fn examine(&self, key: &str, version: Option<&str>) -> Result<Option<Examined>, StoreError> {
        operation("store.examine", self.0.examine(key, version)).await
    }

    async fn head(&self, key: &str, version: Option<&str>) -> Result<Option<ObjectInfo>, StoreError> {
        operation("store.head", self.0.head(key, version)).await
    }

    async fn list(&self, prefix: &str) -> Result<BoxStream<'static, Result<Listed, StoreError>>, StoreError> {
        operation("store.list", self.0.list(prefix)).await
    }

    async fn extend_retention(&self, key: &str, version: Option<&str>, until: Timestamp) -> Result<(), StoreError> {
        operation("store.extend_retention", self.0.extend_retention(key, version, until)).await
    }

    async fn set_legal_hold(&self, key: &str, version: Option<&str>, on: bool) -> Result<(), StoreError> {
        operation("store.set_legal_hold", self.0.set_legal_hold(key, version, on)).await
    }

    async fn destroy(&self, key: &str, version: Option<&str>, now: Timestamp) -> Result<(), StoreError> {
        operation("store.destroy", self.0.destroy(key, version, now)).await
    }

    async fn tidy(&self) -> Result<u64, StoreError> {
        operation("store.tidy", self.0.tidy()).await
    }

    async fn diagnose(&self, now: Timestamp) -> Diagnosis {
        self.0.diagnose(now).await
    }

    fn is_remote(&self) -> bool {
        self.0.is_remote()
    }

    fn locks(&self) -> bool {
        self.0.locks()
    }

    fn lock_flaw(&self, found: Option<Timestamp>, until: Timestamp, now: Timestamp) -> Option<String> {
        self.0.lock_flaw(found, until, now)
    }
}
