//! What an entry commits to.

use std::sync::Arc;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::evidence::Hash;

/// Length of the salt in front of every body, in bytes.
pub const SALT_BYTES: usize = 16;

/// The content of an entry with the salt that keeps its hash from being guessed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    pub salt: [u8; SALT_BYTES],
    pub bytes: Arc<[u8]>,
}

impl Body {
    /// Takes bytes as they are, with a fresh random salt.
    ///
    /// # Panics
    /// The operating system has no random numbers: nothing may be journaled then.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let mut salt = [0; SALT_BYTES];
        #[allow(clippy::expect_used, reason = "without a random salt a commitment could be guessed")]
        getrandom::fill(&mut salt).expect("the operating system gives random numbers");
        Self { salt, bytes: bytes.into() }
    }

    /// A body of our own making: canonical JSON (RFC 8785).
    ///
    /// # Errors
    /// The value has no JSON form.
    pub fn of_json(value: &impl Serialize) -> serde_json::Result<Self> {
        Ok(Self::of_bytes(&serde_json_canonicalizer::to_vec(value)?))
    }

    /// The commitment: SHA-256(salt ‖ bytes).
    #[must_use]
    pub fn hash(&self) -> Hash {
        Sha256::new().chain_update(self.salt).chain_update(&self.bytes).finalize().into()
    }
}
