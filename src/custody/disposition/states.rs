//! Where dispositions stand, and the steps that people take: propose, approve, cancel.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;

use super::records::{Item, Proposal, Word};
use crate::clock::from_micros;
use crate::custody::{Custody, CustodyError};
use crate::db::ColumnType::{Int, Text};
use crate::db::{Ask, Error as DbError, Row, Rows, Tx};
use crate::journal::{AppendError, Appended, Body, Kind, NewEntry, Projection, ProjectionError};

/// So many calls are in one batch at most.
pub const BATCH: u64 = 10_000;

/// What the configuration says of the end.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Nothing is ever destroyed unless this is on.
    pub on: bool,
    /// Between approval and execution.
    pub grace: Duration,
}

/// Where a disposition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DispositionState {
    Proposed,
    Approved,
    Cancelled,
    /// Decided; what it names is being destroyed.
    Executing,
    Executed,
}

impl DispositionState {
    const ALL: [Self; 5] = [Self::Proposed, Self::Approved, Self::Cancelled, Self::Executing, Self::Executed];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::Approved => "approved",
            Self::Cancelled => "cancelled",
            Self::Executing => "executing",
            Self::Executed => "executed",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    fn of(kind: Kind) -> Option<Self> {
        match kind {
            Kind::DispositionProposed => Some(Self::Proposed),
            Kind::DispositionApproved => Some(Self::Approved),
            Kind::DispositionCancelled => Some(Self::Cancelled),
            Kind::DispositionDecided => Some(Self::Executing),
            Kind::DispositionExecuted => Some(Self::Executed),
            _ => None,
        }
    }
}

/// A disposition as it is listed.
#[derive(Clone, Debug, Serialize)]
pub struct Disposition {
    pub id: String,
    pub state: DispositionState,
    pub proposed_by: String,
    pub proposed_at: Timestamp,
    pub approved_by: Option<String>,
    pub approved_at: Option<Timestamp>,
    /// Calls and bodies that were proposed.
    pub items: Vec<Item>,
}

impl Disposition {
    /// When it may be executed.
    #[must_use]
    pub fn from(&self, terms: Terms) -> Option<Timestamp> {
        self.approved_at?.checked_add(terms.grace).ok()
    }
}

/// Keeps the table of dispositions.
pub struct DispositionProjection;

pub(super) fn subject(id: &str) -> String {
    format!("disposition:{id}")
}

/// A row of the table.
#[derive(Clone)]
struct Standing {
    proposed_seq: i64,
    proposed_by: String,
    state: Option<DispositionState>,
    approved_by: Option<String>,
    approved_at: Option<i64>,
}

impl Standing {
    fn from_row(row: &Row) -> Result<Self, DbError> {
        Ok(Self {
            proposed_seq: row.int("proposed_seq")?,
            proposed_by: row.text("proposed_by")?,
            state: DispositionState::parse(&row.text("state")?),
            approved_by: row.opt_text("approved_by")?,
            approved_at: row.opt_int("approved_at")?,
        })
    }

    /// What an entry makes of it.
    fn after(known: Option<Self>, appended: &Appended, next: DispositionState) -> Result<Self, &'static str> {
        use DispositionState::{Approved, Cancelled, Executed, Executing, Proposed};
        let entry = &appended.entry;
        let new = Self {
            proposed_seq: entry.seq.cast_signed(),
            proposed_by: entry.actor.clone(),
            state: Some(next),
            approved_by: None,
            approved_at: None,
        };
        let Some(known) = known else {
            // A decision that is in the store stands, also where the database is from before it.
            return if matches!(next, Proposed | Executing) { Ok(new) } else { Err("there is no such proposal") };
        };
        match (next, known.state) {
            (Approved, Some(Proposed)) if known.proposed_by == entry.actor => {
                return Err("whoever proposes a disposition can't approve it: somebody else has to");
            }
            (Approved, Some(Proposed)) => {
                let at = Some(entry.at.as_microsecond());
                return Ok(Self {
                    state: Some(next),
                    approved_by: Some(entry.actor.clone()),
                    approved_at: at,
                    ..known
                });
            }
            (Approved, Some(Approved | Executing | Executed)) => return Err("it is approved already"),
            (Approved, _) => return Err("it was cancelled: propose anew"),
            (Cancelled, Some(Proposed | Approved))
            | (Executing, Some(Approved | Executing))
            | (Executed, Some(Executing)) => {}
            (Cancelled, Some(Cancelled)) => return Err("it is cancelled already"),
            (Cancelled, _) => return Err("its execution began: it can't be cancelled any more"),
            (Executing, Some(Proposed)) => return Err("nobody approved it"),
            (Executing, _) => return Err("it was cancelled, or is executed already"),
            (Executed, _) => return Err("it is not being executed"),
            (Proposed, _) => return Err("there is a proposal of that name"),
        }
        Ok(Self { state: Some(next), ..known })
    }
}

#[async_trait]
impl Projection for DispositionProjection {
    fn ask(&self, entries: &[NewEntry]) -> Option<Ask> {
        let ids: BTreeSet<&str> = entries
            .iter()
            .filter(|entry| DispositionState::of(entry.kind).is_some())
            .filter_map(|entry| entry.subject.as_deref()?.strip_prefix("disposition:"))
            .collect();
        let head = "select id, proposed_seq, proposed_by, state, approved_by, approved_at from dispositions where id";
        (!ids.is_empty()).then(|| Ask::ByKeys { head, keys: ids.into_iter().map(Into::into).collect() })
    }

    async fn apply(&self, _: &mut Tx, known: Vec<Row>, batch: &[Appended]) -> Result<Vec<Rows>, ProjectionError> {
        let mut standing = BTreeMap::new();
        for row in &known {
            standing.insert(row.text("id")?, Standing::from_row(row)?);
        }
        let mut touched = BTreeSet::new();
        for appended in batch {
            let Some(next) = DispositionState::of(appended.entry.kind) else { continue };
            let id = appended.entry.subject.as_deref().and_then(|s| s.strip_prefix("disposition:"));
            let id = id.unwrap_or_default().to_owned();
            let after = Standing::after(standing.get(&id).cloned(), appended, next);
            standing.insert(id.clone(), after.map_err(|why| ProjectionError::Refused(why.into()))?);
            touched.insert(id);
        }
        let row = |id: String| {
            let now = standing.get(&id)?;
            let state = now.state.map_or("", DispositionState::as_str);
            Some(vec![
                id.into(),
                now.proposed_seq.into(),
                now.proposed_by.as_str().into(),
                state.into(),
                now.approved_by.clone().into(),
                now.approved_at.into(),
            ])
        };
        Ok(vec![Rows {
            head: "insert into dispositions (id, proposed_seq, proposed_by, state, approved_by, approved_at)",
            types: &[Text, Int, Text, Text, Text, Int],
            rows: touched.into_iter().filter_map(row).collect(),
            tail: "on conflict (id) do update set state = excluded.state, approved_by = excluded.approved_by,
                   approved_at = excluded.approved_at",
        }])
    }
}

impl Custody {
    /// What is due now and not held, the longest over first; at most `limit`.
    ///
    /// # Errors
    /// Database or journal.
    pub async fn due(&self, limit: u64) -> Result<Vec<Item>, CustodyError> {
        self.catch_up().await?;
        let sql = "select call_seq, subject, what, due_at, policy, policy_sha256, bytes, source from kept k
            where due_at <= $1 and destroyed_at is null and disposition is null and not held
              and not exists (select 1 from kept o where o.call_seq = k.call_seq and o.destroyed_at is null
                              and (o.due_at > $1 or o.held))
            order by due_at, call_seq, source limit $2";
        let now = self.clock.now().as_microsecond();
        let rows = self.db.fetch_all(sql, &[now.into(), limit.min(100_000).cast_signed().into()]).await?;
        let mut items: Vec<Item> = Vec::with_capacity(rows.len());
        let mut places: BTreeMap<i64, usize> = BTreeMap::new();
        for row in &rows {
            let (seq, bytes) = (row.int("call_seq")?, row.int("bytes")?.cast_unsigned());
            if let Some(known) = places.get(&seq).and_then(|place| items.get_mut(*place)) {
                // Another recording of the call.
                known.bytes += bytes;
                continue;
            }
            places.insert(seq, items.len());
            items.push(Item {
                call_id: (row.text("what")? != "quarantine").then(|| row.text("subject")).transpose()?,
                seq: seq.cast_unsigned(),
                due_at: from_micros(row.int("due_at")?),
                policy: row.text("policy")?,
                policy_sha256: row.text("policy_sha256")?,
                bytes,
            });
        }
        self.with_call_ids(items).await
    }

    /// Keys of calls are not their ids.
    async fn with_call_ids(&self, mut items: Vec<Item>) -> Result<Vec<Item>, CustodyError> {
        let keys: Vec<String> = items.iter().filter_map(|item| item.call_id.clone()).collect();
        let found = self.calls.facts_of(&keys).await?.facts;
        let ids: BTreeMap<String, &str> =
            found.iter().map(|facts| (crate::intake::call_key(&facts.call_id), facts.call_id.as_str())).collect();
        for item in &mut items {
            if let Some(id) = item.call_id.as_ref().and_then(|key| ids.get(key)) {
                item.call_id = Some((*id).to_owned());
            }
        }
        Ok(items)
    }

    pub(super) fn must_dispose(&self) -> Result<(), CustodyError> {
        match self.terms.on {
            true => Ok(()),
            false => Err(CustodyError::Refused(
                "nothing is destroyed while retention.disposition is off: set it to true first".into(),
            )),
        }
    }

    /// Proposes a batch of what is due and in no other batch; its id.
    ///
    /// # Errors
    /// [`CustodyError::Refused`] where disposition is off, or nothing is due.
    pub async fn propose(&self, limit: u64, actor: &str) -> Result<Disposition, CustodyError> {
        self.must_dispose()?;
        let mut taken = BTreeSet::new();
        for other in self.dispositions().await? {
            if matches!(other.state, DispositionState::Proposed | DispositionState::Approved) {
                taken.extend(other.items.iter().map(|item| item.seq));
            }
        }
        let limit = limit.min(BATCH);
        let mut items = self.due(limit + taken.len() as u64).await?;
        items.retain(|item| !taken.contains(&item.seq));
        items.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        if items.is_empty() {
            return Err(CustodyError::Refused("nothing is due that is not in a proposal already".into()));
        }
        let day = self.clock.now().strftime("%Y%m%d").to_string();
        let random = uuid::Uuid::new_v4().simple().to_string();
        let id = format!("{day}-{}", &random[..8]);
        self.about_disposition(Kind::DispositionProposed, &id, actor, &Proposal { id: id.clone(), items }).await?;
        self.disposition(&id).await?.ok_or(CustodyError::Vanished)
    }

    /// Approves a proposal: somebody else than who proposed it.
    ///
    /// # Errors
    /// [`CustodyError::Refused`] where that is the same person, or it is approved or cancelled already.
    pub async fn approve(&self, id: &str, actor: &str) -> Result<Disposition, CustodyError> {
        self.must_dispose()?;
        self.about_disposition(Kind::DispositionApproved, id, actor, &Word { id: id.into(), reason: None }).await?;
        self.disposition(id).await?.ok_or(CustodyError::Vanished)
    }

    /// Cancels a disposition that is not being executed yet.
    ///
    /// # Errors
    /// [`CustodyError::Refused`] where it is too late.
    pub async fn cancel(&self, id: &str, reason: Option<String>, actor: &str) -> Result<(), CustodyError> {
        self.about_disposition(Kind::DispositionCancelled, id, actor, &Word { id: id.into(), reason }).await
    }

    pub(super) async fn about_disposition(
        &self,
        kind: Kind,
        id: &str,
        actor: &str,
        body: &impl Serialize,
    ) -> Result<(), CustodyError> {
        let entry = NewEntry::new(kind, actor, Some(subject(id)), Body::of_json(body)?);
        match self.journal.append(vec![entry]).await {
            Ok(_) => Ok(()),
            Err(AppendError::Refused(why)) => Err(CustodyError::Refused(why)),
            Err(error) => Err(error.into()),
        }
    }

    /// All dispositions, the newest first.
    ///
    /// # Errors
    /// The database, or an entry that does not read back.
    pub async fn dispositions(&self) -> Result<Vec<Disposition>, CustodyError> {
        let sql = "select id, proposed_seq, proposed_by, state, approved_by, approved_at from dispositions
                   order by proposed_seq desc";
        let mut all = Vec::new();
        for row in self.db.fetch_all(sql, &[]).await? {
            all.push(self.disposition_of(&row).await?);
        }
        Ok(all)
    }

    /// The dispositions that may be executed now, the oldest first.
    ///
    /// # Errors
    /// As [`Custody::dispositions`].
    pub async fn ready(&self) -> Result<Vec<String>, CustodyError> {
        let now = self.clock.now();
        let ready = |one: &Disposition| match one.state {
            DispositionState::Executing => true,
            DispositionState::Approved => one.from(self.terms).is_some_and(|from| from <= now),
            _ => false,
        };
        Ok(self.dispositions().await?.into_iter().rev().filter(ready).map(|one| one.id).collect())
    }

    /// One disposition.
    ///
    /// # Errors
    /// As [`Custody::dispositions`].
    pub async fn disposition(&self, id: &str) -> Result<Option<Disposition>, CustodyError> {
        let sql =
            "select id, proposed_seq, proposed_by, state, approved_by, approved_at from dispositions where id = $1";
        match self.db.fetch_optional(sql, &[id.into()]).await? {
            Some(row) => Ok(Some(self.disposition_of(&row).await?)),
            None => Ok(None),
        }
    }

    async fn disposition_of(&self, row: &Row) -> Result<Disposition, CustodyError> {
        let damaged = |why: &str| DbError::Damaged(format!("a disposition: {why}"));
        let now = Standing::from_row(row)?;
        let record = self.journal.entry(now.proposed_seq.cast_unsigned()).await?;
        let record = record.ok_or_else(|| damaged("its entry is missing"))?;
        let body = record.body.ok_or_else(|| damaged("the body of its entry is missing"))?;
        // Of one that only the store knew, the decision says what it is about.
        let items = match record.entry.kind {
            Kind::DispositionProposed => serde_json::from_slice::<Proposal>(&body.bytes)?.items,
            _ => Vec::new(),
        };
        Ok(Disposition {
            id: row.text("id")?,
            state: now.state.ok_or_else(|| damaged("it has a strange state"))?,
            proposed_by: now.proposed_by,
            proposed_at: record.entry.at,
            approved_by: now.approved_by,
            approved_at: now.approved_at.map(from_micros),
            items,
        })
    }
}
