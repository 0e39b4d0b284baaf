//! Who may do what: tokens, roles, sessions and sign-in links.
//!
//! A secret is kept as its SHA-256 only. Tokens follow from journal entries; sessions and links are conveniences that
//! can be lost. Which request needs which permission is said where the request is handled.

mod role;
mod session;
mod token;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use tokio::sync::RwLock;

pub use role::{Permission, Role};
pub use session::SESSION_LIFE;
pub use token::{TokenError, TokenInfo, TokenProjection, TokenRow};

use crate::clock::Clock;
use crate::db::{Db, Result};
use crate::journal::Journal;

/// Known tokens are read again after this long: a revoked one stops working within it.
const FRESH: Duration = Duration::from_secs(2);
/// A secret that is unknown makes us look again, but not more often than this.
const SECOND_LOOK: Duration = Duration::from_millis(200);

/// Somebody who showed a valid secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The token's name.
    pub name: String,
    pub role: Role,
}

impl Identity {
    /// As it stands in the journal.
    #[must_use]
    pub fn actor(&self) -> String {
        format!("token:{}", self.name)
    }
}

/// A handle on tokens and sessions; cheap to clone.
#[derive(Clone)]
pub struct Access {
    db: Db,
    journal: Journal,
    clock: Clock,
    known: Arc<RwLock<Known>>,
}

/// The tokens in force, by the hash of their secret.
#[derive(Default)]
struct Known {
    read: Option<Instant>,
    by_hash: HashMap<[u8; 32], Identity>,
}

impl Access {
    #[must_use]
    pub fn new(db: Db, journal: Journal, clock: Clock) -> Self {
        Self { db, journal, clock, known: Arc::default() }
    }

    /// Who holds this secret; `None` if nobody does. While the database is out of reach, the tokens that were known
    /// last go on working.
    pub async fn authenticate(&self, secret: &str) -> Option<Identity> {
        let hash = hash(secret);
        {
            let known = self.known.read().await;
            let age = known.read.map(|read| read.elapsed());
            let found = known.by_hash.get(&hash).cloned();
            if age.is_some_and(|age| age < if found.is_some() { FRESH } else { SECOND_LOOK }) {
                return found;
            }
        }
        let mut known = self.known.write().await;
        if known.read.is_none_or(|read| read.elapsed() >= SECOND_LOOK) {
            match token::in_force(&self.db).await {
                Ok(by_hash) => *known = Known { read: Some(Instant::now()), by_hash },
                Err(error) => tracing::warn!(%error, "tokens could not be read; those known go on working"),
            }
        }
        known.by_hash.get(&hash).cloned()
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
