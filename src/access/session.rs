//! Browser sessions and links that sign in once.

use std::time::Duration;

use super::{Access, Identity, hash, new_secret};
use crate::db::{Arg, Result};

/// How long a browser stays signed in.
pub const SESSION_LIFE: Duration = Duration::from_secs(12 * 3600);
/// How long a sign-in link can be used.
const LINK_LIFE: Duration = Duration::from_secs(24 * 3600);

impl Access {
    /// Opens a session for whoever holds a token; returns the cookie's value.
    ///
    /// # Errors
    /// The database.
    pub async fn open_session(&self, identity: &Identity) -> Result<String> {
        let (value, now) = (new_secret(), self.now());
        let sql = "delete from sessions where expires_at < $1 or expires_at > $2";
        self.db.execute(sql, &[Arg::Int(now), latest(now, SESSION_LIFE)]).await?;
        let sql = "insert into sessions (id_hash, token, created_at, expires_at) values ($1, $2, $3, $4)";
        let until = now + micros(SESSION_LIFE);
        self.db
            .execute(sql, &[Arg::from(&hash(&value)[..]), identity.name.as_str().into(), now.into(), until.into()])
            .await?;
        Ok(value)
    }

    /// Who is signed in with this cookie; a revoked token ends its sessions.
    ///
    /// # Errors
    /// The database.
    pub async fn session(&self, value: &str) -> Result<Option<Identity>> {
        // One that lasts longer than any was not opened here.
        let sql = "select token from sessions where id_hash = $1 and expires_at > $2 and expires_at <= $3";
        let now = self.now();
        let params = [Arg::from(&hash(value)[..]), Arg::Int(now), latest(now, SESSION_LIFE)];
        let row = self.db.fetch_optional(sql, &params).await?;
        match row {
            Some(row) => self.identity_of(&row.text("token")?).await,
            None => Ok(None),
        }
    }

    /// Ends a session.
    ///
    /// # Errors
    /// The database.
    pub async fn close_session(&self, value: &str) -> Result<()> {
        self.db.execute("delete from sessions where id_hash = $1", &[Arg::from(&hash(value)[..])]).await.map(drop)
    }

    /// Makes a link's code that signs in once as the holder of a token.
    ///
    /// # Errors
    /// The database.
    pub async fn make_sign_in_code(&self, token: &str) -> Result<String> {
        let code = new_secret();
        let sql = "insert into sign_in_links (code_hash, token, expires_at) values ($1, $2, $3)";
        let until = self.now() + micros(LINK_LIFE);
        self.db.execute(sql, &[Arg::from(&hash(&code)[..]), token.into(), until.into()]).await?;
        Ok(code)
    }

    /// Uses a link's code up; `None` if it is unknown, expired or used.
    ///
    /// # Errors
    /// The database.
    pub async fn redeem_sign_in_code(&self, code: &str) -> Result<Option<Identity>> {
        let (hash, now) = (Arg::from(&hash(code)[..]), self.now());
        // Anybody can ask for any code: only one that may exist is worth the write lock.
        let sql = "select token from sign_in_links where code_hash = $1 and used_at is null and expires_at > $2";
        if self.db.fetch_optional(sql, &[hash.clone(), Arg::Int(now)]).await?.is_none() {
            return Ok(None);
        }
        let mut tx = self.db.begin().await?;
        let sql = "update sign_in_links set used_at = $2
            where code_hash = $1 and used_at is null and expires_at > $2 and expires_at <= $3";
        let used = tx.execute(sql, &[hash.clone(), Arg::Int(now), latest(now, LINK_LIFE)]).await?;
        let row = tx.fetch_optional("select token from sign_in_links where code_hash = $1", &[hash]).await?;
        tx.commit().await?;
        match row {
            Some(row) if used == 1 => self.identity_of(&row.text("token")?).await,
            _ => Ok(None),
        }
    }

    /// The tokens of sessions and links that last longer than any that was made here, for verification.
    ///
    /// # Errors
    /// The database.
    pub async fn impossible_sessions(&self) -> Result<Vec<String>> {
        let sql = "select token from sessions where expires_at > $1 or expires_at - created_at > $2
                   union all select token from sign_in_links where expires_at > $3";
        let (now, life) = (self.now(), micros(SESSION_LIFE));
        let params = [Arg::Int(now + life), Arg::Int(life), Arg::Int(now + micros(LINK_LIFE))];
        let rows = self.db.fetch_all(sql, &params).await?;
        rows.iter().map(|row| row.text("token")).collect()
    }

    fn now(&self) -> i64 {
        self.clock.now().as_microsecond()
    }
}

/// The latest end that something of this life can have; with a later one it was made while a clock was ahead, and would
/// be good for years. An hour is what clocks may differ by.
fn latest(now: i64, life: Duration) -> Arg {
    Arg::Int(now.saturating_add(micros(life + Duration::from_secs(3600))))
}

fn micros(life: Duration) -> i64 {
    i64::try_from(life.as_micros()).unwrap_or(i64::MAX)
}
