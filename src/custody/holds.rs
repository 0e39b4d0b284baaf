//! Legal holds: over calls that were picked by hand, or over all that a query is about, those still to come too. A call
//! under a hold is destroyed by nobody, whatever its date; a hold is released by two people.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::{Custody, CustodyError};
use crate::calls::records::HoldRecord;
use crate::calls::{AS_STORED, Facts};
use crate::db::ColumnType::{Int, Text};
use crate::db::{Arg, Ask, Error as DbError, Row, Rows, Tx};
use crate::fault;
use crate::intake::call_key;
use crate::journal::{AppendError, Appended, Body, Kind, NewEntry, Projection, ProjectionError};
use crate::search::{CallDoc, Expr, Filters, QueryContext, compile, matching};

/// Calls that are looked at together.
const STEP: u64 = 2000;
/// Calls that may be picked by hand for one hold.
const PICKED: usize = 10_000;

/// `hold.placed`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewHold {
    /// By which it is known; never given twice.
    pub name: String,
    /// The case or the request.
    pub matter: String,
    pub reason: String,
    /// Who answers for it.
    pub custodian: String,
    /// Picked by hand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<HoldQuery>,
}

/// A search as it was meant when the hold was placed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldQuery {
    pub filters: Filters,
    /// In which dates are read.
    pub timezone: String,
    /// Country of numbers without country code.
    pub region: String,
}

impl HoldQuery {
    fn compiled(&self) -> Result<(Expr, QueryContext), CustodyError> {
        let unknown = |_| CustodyError::Refused(format!("{:?} is no time zone", self.timezone));
        let tz = TimeZone::get(&self.timezone).map_err(unknown)?;
        let context = QueryContext { tz, region: self.region.clone() };
        Ok((compile(&self.filters, &context)?, context))
    }
}

/// Where a hold stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HoldState {
    /// It catches what its query is about.
    Open,
    /// It catches nothing new.
    Closed,
    /// Somebody asked to release it; somebody else has to agree.
    ReleaseRequested,
    Released,
}

impl HoldState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::ReleaseRequested => "release_requested",
            Self::Released => "released",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Open, Self::Closed, Self::ReleaseRequested, Self::Released].into_iter().find(|s| s.as_str() == text)
    }
}

/// A hold as it is listed.
#[derive(Clone, Debug, Serialize)]
pub struct Hold {
    #[serde(flatten)]
    pub placed: NewHold,
    pub state: HoldState,
    pub placed_by: String,
    pub placed_at: jiff::Timestamp,
    /// Who asked for its release.
    pub requested_by: Option<String>,
    /// Calls of the past are caught.
    pub complete: bool,
    #[serde(skip)]
    placed_seq: u64,
}

/// Keeps the table of holds, and lets nothing be destroyed while one is being placed.
pub struct HoldProjection;

fn state_of(kind: Kind) -> Option<HoldState> {
    match kind {
        Kind::HoldPlaced => Some(HoldState::Open),
        Kind::HoldClosed => Some(HoldState::Closed),
        Kind::HoldReleaseRequested => Some(HoldState::ReleaseRequested),
        Kind::HoldReleased => Some(HoldState::Released),
        _ => None,
    }
}

/// The subject of entries about a hold.
fn subject(name: &str) -> String {
    format!("hold:{name}")
}

#[async_trait]
impl Projection for HoldProjection {
    fn ask(&self, entries: &[NewEntry]) -> Option<Ask> {
        let destroys = entries.iter().any(|entry| entry.kind == Kind::CallDestroying);
        let about_holds = entries.iter().any(|entry| state_of(entry.kind).is_some());
        (destroys || about_holds).then(|| Ask::Plain("select name, state, requested_by, caught_at from holds".into()))
    }

    async fn apply(&self, _: &mut Tx, known: Vec<Row>, batch: &[Appended]) -> Result<Vec<Rows>, ProjectionError> {
        let refused = |why: &str| ProjectionError::Refused(why.to_owned());
        let mut states = std::collections::BTreeMap::new();
        for row in &known {
            states.insert(row.text("name")?, (HoldState::parse(&row.text("state")?), row.opt_text("requested_by")?));
        }
        let (mut placed, mut changed) = (Vec::new(), std::collections::BTreeMap::new());
        let mut placing = false;
        for row in &known {
            placing |= row.opt_int("caught_at")?.is_none() && row.text("state")? != HoldState::Released.as_str();
        }
        for Appended { entry, .. } in batch {
            if entry.kind == Kind::CallDestroying && placing {
                return Err(refused("a legal hold is being placed, and its calls are not all known yet: try again"));
            }
            let Some(next) = state_of(entry.kind) else { continue };
            let name = entry.subject.as_deref().and_then(|s| s.strip_prefix("hold:")).unwrap_or_default().to_owned();
            let now = states.get(&name).cloned();
            let requested = now.as_ref().and_then(|(_, by)| by.clone());
            match (next, now.and_then(|(state, _)| state)) {
                (HoldState::Open, Some(_)) => {
                    return Err(refused("there is, or was, a hold of that name: give this one another"));
                }
                (HoldState::Open, None) => {
                    placing = true;
                    placed.push(vec![name.as_str().into(), Arg::Int(entry.seq.cast_signed()), next.as_str().into()]);
                }
                (_, None) => return Err(refused("there is no hold of that name")),
                (_, Some(HoldState::Released)) => return Err(refused("the hold is released already")),
                (HoldState::Closed, Some(HoldState::Closed | HoldState::ReleaseRequested)) => {
                    return Err(refused("the hold is closed already"));
                }
                (HoldState::ReleaseRequested, Some(HoldState::ReleaseRequested)) => {
                    return Err(refused("its release is asked for already; somebody else has to agree"));
                }
                (HoldState::Released, Some(HoldState::ReleaseRequested))
                    if requested.as_ref() == Some(&entry.actor) =>
                {
                    return Err(refused(
                        "whoever asks for the release of a hold can't agree to it: somebody else has to",
                    ));
                }
                (HoldState::Released, Some(state)) if state != HoldState::ReleaseRequested => {
                    return Err(refused("nobody asked for the release of this hold"));
                }
                (_, Some(_)) => {}
            }
            let by = if next == HoldState::ReleaseRequested { Some(entry.actor.clone()) } else { requested };
            states.insert(name.clone(), (Some(next), by.clone()));
            if next != HoldState::Open {
                changed.insert(name.clone(), vec![name.into(), 0.into(), next.as_str().into(), by.into()]);
            }
        }
        Ok(vec![
            Rows {
                head: "insert into holds (name, placed_seq, state)",
                types: &[Text, Int, Text],
                rows: placed,
                tail: "",
            },
            Rows {
                head: "insert into holds (name, placed_seq, state, requested_by)",
                types: &[Text, Int, Text, Text],
                rows: changed.into_values().collect(),
                tail: "on conflict (name) do update set state = excluded.state, requested_by = excluded.requested_by",
            },
        ])
    }
}

impl Custody {
    /// Places a hold. What it is about is caught by whoever follows the journal; until all of that is known, nothing is
    /// destroyed.
    ///
    /// # Errors
    /// [`CustodyError::Refused`] where it is about nothing, or its name is taken; a query that can't be read.
    pub async fn place(&self, hold: &NewHold, actor: &str) -> Result<(), CustodyError> {
        let refused = |why: &str| Err(CustodyError::Refused(why.to_owned()));
        let sound = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        if hold.name.is_empty() || hold.name.len() > 80 || !hold.name.chars().all(sound) {
            return refused("the name of a hold is 1 to 80 letters, digits, dots, dashes or underscores");
        }
        for (what, text) in [("matter", &hold.matter), ("reason", &hold.reason), ("custodian", &hold.custodian)] {
            if text.trim().is_empty() || text.len() > 2000 {
                return refused(&format!("a hold needs a {what}, of at most 2,000 characters"));
            }
        }
        match &hold.query {
            None if hold.calls.is_empty() => return refused("the hold is about nothing: name calls, or give a query"),
            Some(query) if query.compiled()?.0 == Expr::All => {
                return refused("the query of the hold says nothing: give it a condition");
            }
            _ => {}
        }
        if hold.calls.len() > PICKED {
            return refused("a hold takes at most 10,000 calls that are picked by hand: use a query");
        }
        let keys: Vec<String> = hold.calls.iter().map(|call_id| call_key(call_id)).collect();
        let found = self.calls.facts_of(&keys).await?.facts;
        let known: BTreeSet<&str> = found.iter().map(|facts| facts.call_id.as_str()).collect();
        if let Some(unknown) = hold.calls.iter().find(|call_id| !known.contains(call_id.as_str())) {
            return Err(CustodyError::Unknown(format!("call {unknown}")));
        }
        if let Some(gone) = found.iter().find(|facts| facts.is_gone()) {
            return refused(&format!("call {} is destroyed: it is too late to hold it", gone.call_id));
        }
        self.about_hold(Kind::HoldPlaced, &hold.name, actor, hold).await
    }

    /// Lets a hold catch no new calls.
    ///
    /// # Errors
    /// [`CustodyError::Refused`] where that makes no sense.
    pub async fn close_hold(&self, name: &str, actor: &str) -> Result<(), CustodyError> {
        self.about_hold(Kind::HoldClosed, name, actor, &Word { hold: name }).await
    }

    /// Asks for the release of a hold, or agrees to it where somebody else has asked.
    ///
    /// # Errors
    /// [`CustodyError::Refused`] where the same person asked, or it is released already.
    pub async fn release_hold(&self, name: &str, actor: &str) -> Result<HoldState, CustodyError> {
        let hold = self.hold(name).await?.ok_or_else(|| CustodyError::Unknown(format!("hold {name}")))?;
        let (kind, state) = match hold.state {
            HoldState::ReleaseRequested => (Kind::HoldReleased, HoldState::Released),
            _ => (Kind::HoldReleaseRequested, HoldState::ReleaseRequested),
        };
        self.about_hold(kind, name, actor, &Word { hold: name }).await?;
        Ok(state)
    }

    async fn about_hold(&self, kind: Kind, name: &str, actor: &str, body: &impl Serialize) -> Result<(), CustodyError> {
        let entry = NewEntry::new(kind, actor, Some(subject(name)), Body::of_json(body)?);
        match self.journal.append(vec![entry]).await {
            Ok(_) => Ok(()),
            Err(AppendError::Refused(why)) => Err(CustodyError::Refused(why)),
            Err(error) => Err(error.into()),
        }
    }

    /// All holds, the newest first.
    ///
    /// # Errors
    /// The database, or an entry that does not read back.
    pub async fn holds(&self) -> Result<Vec<Hold>, CustodyError> {
        let sql = "select name, placed_seq, state, requested_by, caught_at from holds order by placed_seq desc";
        let mut holds = Vec::new();
        for row in self.db.fetch_all(sql, &[]).await? {
            holds.push(self.hold_of(&row).await?);
        }
        Ok(holds)
    }

    /// One hold.
    ///
    /// # Errors
    /// As [`Custody::holds`].
    pub async fn hold(&self, name: &str) -> Result<Option<Hold>, CustodyError> {
        let sql = "select name, placed_seq, state, requested_by, caught_at from holds where name = $1";
        match self.db.fetch_optional(sql, &[name.into()]).await? {
            Some(row) => Ok(Some(self.hold_of(&row).await?)),
            None => Ok(None),
        }
    }

    async fn hold_of(&self, row: &Row) -> Result<Hold, CustodyError> {
        let damaged = |why: &str| DbError::Damaged(format!("a hold: {why}"));
        let placed_seq = row.int("placed_seq")?.cast_unsigned();
        let record = self.journal.entry(placed_seq).await?.ok_or_else(|| damaged("its entry is missing"))?;
        let body = record.body.ok_or_else(|| damaged("the body of its entry is missing"))?;
        Ok(Hold {
            placed: serde_json::from_slice(&body.bytes)?,
            state: HoldState::parse(&row.text("state")?).ok_or_else(|| damaged("it has a strange state"))?,
            placed_by: record.entry.actor,
            placed_at: record.entry.at,
            requested_by: row.opt_text("requested_by")?,
            complete: row.opt_int("caught_at")?.is_some(),
            placed_seq,
        })
    }

    /// Catches those of these calls that open holds are about.
    pub(super) async fn catch(&self, all: &[Arc<Facts>]) -> Result<(), CustodyError> {
        if self.db.fetch_optional("select name from holds where state = 'open' limit 1", &[]).await?.is_none() {
            return Ok(());
        }
        for hold in self.holds().await?.into_iter().filter(|hold| hold.state == HoldState::Open) {
            self.catch_for(&hold, all).await?;
        }
        Ok(())
    }

    async fn catch_for(&self, hold: &Hold, all: &[Arc<Facts>]) -> Result<(), CustodyError> {
        let name = hold.placed.name.as_str();
        let free = |facts: &&Arc<Facts>| !facts.is_gone() && !facts.held_by().any(|held| held == name);
        let free: Vec<&Arc<Facts>> = all.iter().filter(free).collect();
        let mut caught: BTreeSet<String> =
            free.iter().map(|facts| facts.call_id.clone()).filter(|id| hold.placed.calls.contains(id)).collect();
        if let Some(query) = &hold.placed.query
            && !free.is_empty()
        {
            let (docs, query) =
                (free.iter().map(|facts| CallDoc::from(&***facts)).collect::<Vec<_>>(), query.compiled()?);
            let found = tokio::task::spawn_blocking(move || matching(&docs, &[query])).await;
            let found =
                found.map_err(|error| CustodyError::Refused(format!("a query could not be run: {error}")))??;
            caught.extend(found.into_iter().flatten());
        }
        self.about_calls(Kind::HoldCaught, name, caught.into_iter().collect()).await
    }

    /// Journals that calls come under a hold, or are under it no longer.
    async fn about_calls(&self, kind: Kind, hold: &str, call_ids: Vec<String>) -> Result<(), CustodyError> {
        for call_id in call_ids {
            let subject = Some(call_key(&call_id));
            let record = HoldRecord { call_id, hold: hold.to_owned() };
            let entry = NewEntry::new(kind, "system", subject, Body::of_json(&record)?);
            match self.journal.append(vec![entry]).await {
                Ok(_) => {}
                // Its destruction began before the hold came to it, and can't be undone.
                Err(AppendError::Refused(why)) => tracing::warn!(hold, call_id = record.call_id, why, "not held"),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Catches the calls of the past that a hold is about.
    pub(super) async fn catch_past(&self, placed_seq: u64) -> Result<(), CustodyError> {
        let sql = "select name from holds where placed_seq = $1 and caught_at is null";
        let Some(row) = self.db.fetch_optional(sql, &[placed_seq.cast_signed().into()]).await? else { return Ok(()) };
        let Some(hold) = self.hold(&row.text("name")?).await? else { return Ok(()) };
        let picked = hold.placed.calls.iter().map(|call_id| (call_key(call_id), AS_STORED)).collect();
        self.catch_for(&hold, &self.calls.facts_with(&picked).await?.facts).await?;
        let mut after = i64::MIN;
        while hold.placed.query.is_some() {
            let stretch = self.calls.facts_after(after, STEP).await?;
            let Some(last) = stretch.last else { break };
            self.catch_for(&hold, &stretch.readable.facts).await?;
            after = last;
        }
        fault::point("custody.caught");
        let now = self.clock.now().as_microsecond();
        let sql = "update holds set caught_at = $2 where placed_seq = $1 and caught_at is null";
        self.db.execute(sql, &[hold.placed_seq.cast_signed().into(), now.into()]).await?;
        Ok(())
    }

    /// Lets go of every call that a hold has, once it is released.
    pub(super) async fn let_go(&self, released_seq: u64) -> Result<(), CustodyError> {
        let Some(record) = self.journal.entry(released_seq).await? else { return Ok(()) };
        let name = record.entry.subject.as_deref().and_then(|s| s.strip_prefix("hold:")).unwrap_or_default().to_owned();
        let held = self.calls_held(&name).await?;
        self.about_calls(Kind::HoldLifted, &name, held).await
    }

    /// The ids of the calls that a hold has.
    ///
    /// # Errors
    /// The database.
    pub async fn calls_held(&self, name: &str) -> Result<Vec<String>, CustodyError> {
        let (mut after, mut ids) = (i64::MIN, Vec::new());
        loop {
            let sql =
                "select distinct call_seq, subject from kept where held and call_seq > $1 order by call_seq limit 500";
            let rows = self.db.fetch_all(sql, &[after.into()]).await?;
            let Some(last) = rows.last() else { return Ok(ids) };
            after = last.int("call_seq")?;
            let subjects = rows.iter().map(|row| row.text("subject")).collect::<Result<Vec<_>, _>>()?;
            let found = self.calls.facts_of(&subjects).await?.facts;
            let has = found.iter().filter(|facts| facts.held_by().any(|held| held == name));
            ids.extend(has.map(|facts| facts.call_id.clone()));
        }
    }
}

/// The body of a word about a hold that says all by its kind.
#[derive(Serialize)]
struct Word<'a> {
    hold: &'a str,
}
