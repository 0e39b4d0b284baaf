//! Who may do what: tokens, roles, sessions and sign-in links.
//!
//! A secret is kept as its SHA-256 only. Tokens follow from journal entries; sessions and links are conveniences that
//! can be lost. Which request needs which permission is said where the request is handled.

mod role;
mod session;
mod token;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

pub use role::{Permission, Role};
pub use session::SESSION_LIFE;
pub use token::{TokenError, TokenInfo, TokenProjection, TokenRow};

use crate::clock::Clock;
use crate::db::{Db, Result};
use crate::flags::Reviewer;
use crate::journal::Journal;

/// Known tokens are read again after this long: a revoked one stops working within it.
const FRESH: Duration = Duration::from_secs(2);
/// A secret that is unknown makes us look again, but not more often than this: a flood of them costs no database.
const SECOND_LOOK: Duration = Duration::from_millis(200);
/// A database that takes longer is out of reach for now.
const READ_PATIENCE: Duration = Duration::from_secs(2);

/// Somebody who showed a valid secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The token's name.
    pub name: String,
    pub role: Role,
    /// The agent to whom the token belongs, by number or name as senders state it.
    pub agent: Option<String>,
}

impl Identity {
    /// As it stands in the journal.
    #[must_use]
    pub fn actor(&self) -> String {
        format!("token:{}", self.name)
    }

    /// The same as somebody who works flags off.
    #[must_use]
    pub fn reviewer(&self) -> Reviewer {
        let names = std::iter::once(&self.name).chain(&self.agent).cloned().collect();
        Reviewer { actor: self.actor(), names }
    }
}

/// The tokens could not be read, so that nothing can be said of one that is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tokens can't be read at the moment")]
pub struct OutOfReach;

/// A handle on tokens and sessions; cheap to clone.
#[derive(Clone)]
pub struct Access {
    db: Db,
    journal: Journal,
    clock: Clock,
    known: Arc<RwLock<Known>>,
    /// Held by whoever reads the tokens: one at a time does.
    reading: Arc<Mutex<()>>,
}

/// The tokens in force, by the hash of their secret.
#[derive(Default)]
struct Known {
    read: Option<Instant>,
    /// Whether the last attempt to read them went well.
    complete: bool,
    by_hash: HashMap<[u8; 32], Identity>,
}

impl Access {
    #[must_use]
    pub fn new(db: Db, journal: Journal, clock: Clock) -> Self {
        Self { db, journal, clock, known: Arc::default(), reading: Arc::default() }
    }

    /// Who holds this secret; `None` if nobody does. While the database is out of reach, the tokens that were known
    /// last go on working.
    ///
    /// # Errors
    /// The secret is not known, and the database could not be asked: it may be in force all the same.
    pub async fn authenticate(&self, secret: &str) -> Result<Option<Identity>, OutOfReach> {
        let hash = hash(secret);
        let (found, age) = self.look_up(&hash);
        let fresh = if matches!(found, Ok(Some(_))) { FRESH } else { SECOND_LOOK };
        if age.is_none_or(|age| age >= fresh) {
            self.read_tokens(fresh).await;
            return self.look_up(&hash).0;
        }
        found
    }

    /// Gets to know the tokens in force before anybody asks.
    pub async fn learn(&self) {
        self.read_tokens(Duration::ZERO).await;
        // The first to ask looks again: a token may be made in between.
        self.known.write().unwrap_or_else(PoisonError::into_inner).read = None;
    }

    /// Whose secret has this hash, and how old that knowledge is.
    fn look_up(&self, hash: &[u8; 32]) -> (Result<Option<Identity>, OutOfReach>, Option<Duration>) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let found = match known.by_hash.get(hash) {
            Some(identity) => Ok(Some(identity.clone())),
            None if known.complete => Ok(None),
            None => Err(OutOfReach),
        };
        (found, known.read.map(|read| read.elapsed()))
    }

    /// Reads the tokens, unless somebody else did so in the meantime. All who ask meanwhile
    /// wait for the one who reads, and then know.
    async fn read_tokens(&self, fresh: Duration) {
        let _reading = self.reading.lock().await;
        let age = self.known.read().unwrap_or_else(PoisonError::into_inner).read.map(|read| read.elapsed());
        if age.is_some_and(|age| age < fresh) {
            return;
        }
        let by_hash = match tokio::time::timeout(READ_PATIENCE, token::in_force(&self.db)).await {
            Ok(Ok(by_hash)) => Some(by_hash),
            Ok(Err(error)) => {
                tracing::warn!(%error, "tokens could not be read; those known go on working");
                None
            }
            Err(_) => {
                tracing::warn!("tokens could not be read in time; those known go on working");
                None
            }
        };
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        // Also where it failed: the next one to ask must not wait as long again.
        known.read = Some(Instant::now());
        known.complete = by_hash.is_some();
        if let Some(by_hash) = by_hash {
            known.by_hash = by_hash;
        }
    }

    async fn identity_of(&self, token: &str) -> Result<Option<Identity>> {
        Ok(token::in_force(&self.db).await?.into_values().find(|identity| identity.name == token))
    }
}

/// A new secret: 32 random bytes in base64url.
fn new_secret() -> String {
    let mut bytes = [0; 32];
    #[allow(clippy::expect_used, reason = "without random numbers no secret may be made")]
    getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
    URL_SAFE_NO_PAD.encode(bytes)
}

fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret).into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn nodes_that_start_together_agree_on_the_tokens_of_the_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open_sqlite(&dir.path().join("callvault.db")).await.unwrap();
        db.migrate().await.unwrap();
        let node = || {
            let journal = Journal::start(db.clone(), Clock::system(), vec![Arc::new(TokenProjection)]).unwrap();
            Access::new(db.clone(), journal, Clock::system())
        };
        let (one, other) = (node(), node());
        let tokens = crate::config::with_defaults(&serde_json::json!({
            "bootstrap": {"tokens": "admin=a-secret-of-a-good-length,ingest=and-another-one-beside-it"}
        }));
        let tokens = tokens.unwrap().bootstrap.parse().unwrap();
        let (first, second) = tokio::join!(one.sync_bootstrap(&tokens), other.sync_bootstrap(&tokens));
        first.and(second).unwrap();
        assert_eq!(one.tokens().await.unwrap().len(), 2);
        assert!(matches!(other.authenticate("a-secret-of-a-good-length").await, Ok(Some(_))));

        let (first, second) = tokio::join!(
            one.create_token("phone", Role::Ingest, "test"),
            other.create_token("phone", Role::Officer, "test")
        );
        let ((Ok(secret), Err(TokenError::NameTaken(_))) | (Err(TokenError::NameTaken(_)), Ok(secret))) =
            (first, second)
        else {
            panic!("one of them has it")
        };
        assert!(matches!(one.authenticate(&secret).await, Ok(Some(_))), "and its secret is the one that works");
    }

    #[tokio::test]
    async fn nobody_is_turned_away_because_the_database_is() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open_sqlite(&dir.path().join("callvault.db")).await.unwrap();
        db.migrate().await.unwrap();
        let journal = Journal::start(db.clone(), Clock::system(), vec![Arc::new(TokenProjection)]).unwrap();
        let access = || Access::new(db.clone(), journal.clone(), Clock::system());
        let secret = access().create_token("phone", Role::Ingest, "test").await.unwrap();
        let (read_before, never_read) = (access(), access());
        assert_eq!(read_before.authenticate("nobody has this one").await, Ok(None));
        db.close().await;
        assert!(matches!(read_before.authenticate(&secret).await, Ok(Some(identity)) if identity.name == "phone"));
        assert_eq!(never_read.authenticate(&secret).await, Err(OutOfReach));
        tokio::time::sleep(SECOND_LOOK).await;
        assert_eq!(read_before.authenticate("made meanwhile, perhaps").await, Err(OutOfReach));
        assert!(matches!(read_before.authenticate(&secret).await, Ok(Some(_))), "what was known goes on");
    }
}
