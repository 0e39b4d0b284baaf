//! Tokens: made and revoked by journal entries, kept in a table that follows from them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Access, Identity, Role, hash, new_secret};
use crate::calls::person_key;
use crate::clock::from_micros;
use crate::config::BootstrapToken;
use crate::db::{Arg, Ask, Db, Error as DbError, Result, Row, Rows, Tx, text_safe};
use crate::fault;
use crate::journal::{AppendError, Appended, Body, Kind, NewEntry, Projection, ProjectionError, Record};

/// Characters of an agent at most.
const MOST_AGENT: usize = 200;
/// Names with this prefix belong to tokens of the configuration.
const BOOTSTRAP: &str = "bootstrap-";

/// A token as it is listed.
#[derive(Clone, Debug, Serialize)]
pub struct TokenInfo {
    pub name: String,
    pub role: String,
    pub created_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
    /// The agent to whom it belongs.
    pub agent: Option<String>,
}

/// Why a token was not made or revoked.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("a token named {0:?} exists or existed: choose another name")]
    NameTaken(String),
    #[error(
        "{0:?} is no token name: give 1 to 60 letters, digits, dots, dashes or underscores, not starting with bootstrap-"
    )]
    BadName(String),
    #[error("this names no agent: give a number or a name of at most 200 characters, as calls have it")]
    BadAgent,
    #[error("the secret of token {0:?} is used, or was used, under another role: give each token a secret of its own")]
    SecretReused(String),
    #[error("there is no token named {0:?} in force: callvault token list shows them")]
    Unknown(String),
    #[error(transparent)]
    Db(#[from] DbError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error("a record has no JSON form: {0}")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Role(#[from] super::role::UnknownRole),
}

/// `token.created`.
#[derive(Serialize, Deserialize)]
struct Created {
    name: String,
    role: String,
    /// Lower-case hex.
    secret_sha256: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
}

/// `token.revoked`.
#[derive(Serialize, Deserialize)]
struct Revoked {
    name: String,
    reason: String,
}

impl Access {
    /// Makes a token and returns its secret, which is kept nowhere.
    ///
    /// # Errors
    /// The name is taken or unusable, or the journal can't be written.
    pub async fn create_token(&self, name: &str, role: Role, actor: &str) -> Result<String, TokenError> {
        self.create_token_for(name, role, None, actor).await
    }

    /// The same for a token that belongs to an agent, who reviews none of that agent's calls.
    ///
    /// # Errors
    /// As [`Access::create_token`]; also where the agent is no name.
    pub async fn create_token_for(
        &self,
        name: &str,
        role: Role,
        agent: Option<&str>,
        actor: &str,
    ) -> Result<String, TokenError> {
        let usable = (1..=60).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b))
            && !name.starts_with(BOOTSTRAP);
        if !usable {
            return Err(TokenError::BadName(name.to_owned()));
        }
        if agent.is_some_and(|agent| agent.chars().count() > MOST_AGENT || person_key(agent).is_empty()) {
            return Err(TokenError::BadAgent);
        }
        let secret = format!("cv_{}", new_secret());
        self.add_token((name, role), agent, &secret, actor).await?;
        fault::point("token.created");
        Ok(secret)
    }

    async fn add_token(
        &self,
        (name, role): (&str, Role),
        agent: Option<&str>,
        secret: &str,
        actor: &str,
    ) -> Result<(), TokenError> {
        if self.find(name).await?.is_some() {
            return Err(TokenError::NameTaken(name.to_owned()));
        }
        let secret_sha256 = hex::encode(hash(secret));
        let agent = agent.map(|agent| text_safe(agent.trim()).into_owned());
        let body = Created { name: name.into(), role: role.as_str().into(), secret_sha256, agent };
        match self.append(Kind::TokenCreated, name, actor, Body::of_json(&body)?).await {
            // Somebody else made it at the same moment.
            Err(_) if self.find(name).await?.is_some() => Err(TokenError::NameTaken(name.to_owned())),
            appended => appended,
        }
    }

    /// Takes a token out of force; sessions that were opened with it end too.
    ///
    /// # Errors
    /// There is no such token in force, or the journal can't be written.
    pub async fn revoke_token(&self, name: &str, reason: &str, actor: &str) -> Result<(), TokenError> {
        if self.find(name).await?.is_none_or(|token| token.revoked_at.is_some()) {
            return Err(TokenError::Unknown(name.to_owned()));
        }
        let body = Revoked { name: name.into(), reason: reason.into() };
        self.append(Kind::TokenRevoked, name, actor, Body::of_json(&body)?).await
    }

    /// All tokens that ever were, by name.
    ///
    /// # Errors
    /// The database.
    pub async fn tokens(&self) -> Result<Vec<TokenInfo>> {
        let sql = "select name, role, created_at, revoked_at, agent from tokens order by name";
        self.db.fetch_all(sql, &[]).await?.iter().map(info).collect()
    }

    /// Brings the tokens of the configuration into force: new ones are made, those that left the list are revoked,
    /// and one that was revoked stays so.
    ///
    /// # Errors
    /// An unknown role, or the journal can't be written.
    pub async fn sync_bootstrap(&self, tokens: &[BootstrapToken]) -> Result<(), TokenError> {
        let mut wanted = BTreeSet::new();
        for token in tokens {
            let role: Role = token.role.parse()?;
            let digest = hex::encode(hash(token.secret.expose()));
            let name = format!("{BOOTSTRAP}{}-{}", role.as_str(), &digest[..8]);
            let sql = "select name from tokens where secret_hash = $1 and name <> $2";
            let params = [Arg::from(&hash(token.secret.expose())[..]), name.as_str().into()];
            if let Some(other) = self.db.fetch_optional(sql, &params).await? {
                return Err(TokenError::SecretReused(other.text("name")?));
            }
            match self.add_token((&name, role), None, token.secret.expose(), "config").await {
                // From a start before this one, or by a node that starts beside it.
                Ok(()) | Err(TokenError::NameTaken(_)) => {}
                Err(error) => return Err(error),
            }
            wanted.insert(name);
        }
        for known in self.tokens().await? {
            if known.name.starts_with(BOOTSTRAP) && known.revoked_at.is_none() && !wanted.contains(&known.name) {
                self.revoke_token(&known.name, "it left bootstrap.tokens", "config").await?;
            }
        }
        Ok(())
    }

    async fn find(&self, name: &str) -> Result<Option<TokenInfo>> {
        let sql = "select name, role, created_at, revoked_at, agent from tokens where name = $1";
        self.db.fetch_optional(sql, &[name.into()]).await?.as_ref().map(info).transpose()
    }

    async fn append(&self, kind: Kind, name: &str, actor: &str, body: Body) -> Result<(), TokenError> {
        let subject = Some(format!("token:{name}"));
        self.journal.append(vec![NewEntry::new(kind, actor, subject, body)]).await?;
        Ok(())
    }
}

/// The tokens in force by the hash of their secret.
pub(super) async fn in_force(db: &Db) -> Result<HashMap<[u8; 32], Identity>> {
    let rows = db.fetch_all("select name, role, secret_hash, agent from tokens where revoked_at is null", &[]).await?;
    rows.iter()
        .map(|row| {
            let damaged = || DbError::Damaged("a token does not read back: run callvault verify".into());
            let hash = row.bytes("secret_hash")?.try_into().map_err(|_| damaged())?;
            let role = row.text("role")?.parse().map_err(|_| damaged())?;
            Ok((hash, Identity { name: row.text("name")?, role, agent: row.opt_text("agent")? }))
        })
        .collect()
}

fn info(row: &Row) -> Result<TokenInfo> {
    Ok(TokenInfo {
        name: row.text("name")?,
        role: row.text("role")?,
        created_at: from_micros(row.int("created_at")?),
        revoked_at: row.opt_int("revoked_at")?.map(from_micros),
        agent: row.opt_text("agent")?,
    })
}

/// A row of `tokens`: all of it follows from the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    role: String,
    secret_hash: Vec<u8>,
    created_at: i64,
    revoked_at: Option<i64>,
    agent: Option<String>,
}

impl TokenRow {
    /// Takes an entry about a token in; revocations after creations.
    pub fn fold(rows: &mut BTreeMap<String, Self>, record: &Record) {
        let (Some(body), at) = (&record.body, record.entry.at.as_microsecond()) else { return };
        match record.entry.kind {
            Kind::TokenCreated => {
                let Ok(created) = serde_json::from_slice::<Created>(&body.bytes) else { return };
                let secret_hash = hex::decode(&created.secret_sha256).unwrap_or_default();
                let (role, agent) = (created.role, created.agent);
                rows.insert(created.name, Self { role, secret_hash, created_at: at, revoked_at: None, agent });
            }
            Kind::TokenRevoked => {
                let Ok(revoked) = serde_json::from_slice::<Revoked>(&body.bytes) else { return };
                if let Some(row) = rows.get_mut(&revoked.name) {
                    row.revoked_at.get_or_insert(at);
                }
            }
            _ => {}
        }
    }
}

impl Access {
    /// The table as it is stored, by name: for verification. `None` for a row that can't be read.
    ///
    /// # Errors
    /// The database.
    pub async fn token_rows(&self) -> Result<BTreeMap<String, Option<TokenRow>>> {
        let rows =
            self.db.fetch_all("select name, role, secret_hash, created_at, revoked_at, agent from tokens", &[]).await?;
        let row = |row: &Row| {
            let (role, secret_hash) = (row.text("role")?, row.bytes("secret_hash")?);
            let (created_at, revoked_at) = (row.int("created_at")?, row.opt_int("revoked_at")?);
            Ok::<_, DbError>(TokenRow { role, secret_hash, created_at, revoked_at, agent: row.opt_text("agent")? })
        };
        let name = |row: &Row| row.text("name").unwrap_or_else(|_| "whose name can't be read".into());
        Ok(rows.iter().map(|stored| (name(stored), row(stored).ok())).collect())
    }
}

/// Keeps the table of tokens.
pub struct TokenProjection;

#[async_trait]
impl Projection for TokenProjection {
    fn ask(&self, _: &[NewEntry]) -> Option<Ask> {
        None
    }

    async fn apply(&self, tx: &mut Tx, _: Vec<Row>, batch: &[Appended]) -> Result<Vec<Rows>, ProjectionError> {
        for Appended { entry, body, .. } in batch {
            let unreadable = |error: serde_json::Error| ProjectionError::Entry(error.to_string());
            let at = Arg::Int(entry.at.as_microsecond());
            match entry.kind {
                Kind::TokenCreated => {
                    let created: Created = serde_json::from_slice(body).map_err(unreadable)?;
                    let hash =
                        hex::decode(&created.secret_sha256).map_err(|e| ProjectionError::Entry(e.to_string()))?;
                    let sql =
                        "insert into tokens (name, role, secret_hash, created_at, agent) values ($1, $2, $3, $4, $5)";
                    let params = [created.name.into(), created.role.into(), hash.into(), at, created.agent.into()];
                    tx.execute(sql, &params).await?;
                }
                Kind::TokenRevoked => {
                    let revoked: Revoked = serde_json::from_slice(body).map_err(unreadable)?;
                    let sql = "update tokens set revoked_at = $2 where name = $1 and revoked_at is null";
                    tx.execute(sql, &[revoked.name.into(), at]).await?;
                }
                _ => {}
            }
        }
        Ok(Vec::new())
    }
}
