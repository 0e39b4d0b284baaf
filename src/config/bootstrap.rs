//! Tokens that a container is started with: `role=secret,role=secret`.

use super::{ConfigError, Secret};

/// The shortest secret that is taken, in characters.
const MIN_SECRET_CHARS: usize = 24;

/// The roles that a token may have.
pub const ROLES: [&str; 4] = ["ingest", "officer", "auditor", "admin"];

/// One `role=secret` of `bootstrap.tokens`.
#[derive(Clone, Debug)]
pub struct BootstrapToken {
    pub role: String,
    pub secret: Secret,
}

impl super::Bootstrap {
    /// The tokens of the list, in its order.
    ///
    /// # Errors
    /// A part without `=`, or a secret that is too short; the message never repeats a secret.
    pub fn parse(&self) -> Result<Vec<BootstrapToken>, ConfigError> {
        let parts = self.tokens.expose().split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.enumerate().map(|(index, part)| parse_one(index, part)).collect()
    }
}

fn parse_one(index: usize, part: &str) -> Result<BootstrapToken, ConfigError> {
    let invalid =
        |why: &str| ConfigError::Value { key: "bootstrap.tokens".into(), why: format!("entry {}: {why}", index + 1) };
    let (role, secret) = part.split_once('=').ok_or_else(|| invalid("write role=secret"))?;
    if !ROLES.contains(&role.trim()) {
        return Err(invalid(&format!("there is no such role: give {}", ROLES.join(", "))));
    }
    if secret.chars().count() < MIN_SECRET_CHARS {
        return Err(invalid(&format!("the secret needs at least {MIN_SECRET_CHARS} characters")));
    }
    Ok(BootstrapToken { role: role.trim().to_owned(), secret: Secret::from(secret) })
}
