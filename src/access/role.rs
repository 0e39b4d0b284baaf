//! Roles and what they may do.

use std::str::FromStr;

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Posts webhooks and nothing else.
    Ingest,
    /// Searches, listens, exports, reviews, retries, places holds.
    Officer,
    /// Searches, listens, exports, reads the journal and the quarantine, changes nothing.
    Auditor,
    /// Everything but approving its own disposition.
    Admin,
}

/// Something that a request needs to be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    PostWebhooks,
    /// Search, listen and export.
    ReadCalls,
    /// The journal and the quarantine.
    ReadJournal,
    /// Have a recording fetched again.
    RetryRecordings,
    /// Say why a call that does not fit is no gap.
    ExplainGaps,
    /// Place and release legal holds, and tell of events with customers.
    PlaceHolds,
    /// Propose, approve and execute dispositions, and bring policies into force.
    Dispose,
    /// Say what is to be thought of a flag.
    ReviewFlags,
    ReadMetrics,
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Ingest, Self::Officer, Self::Auditor, Self::Admin];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Officer => "officer",
            Self::Auditor => "auditor",
            Self::Admin => "admin",
        }
    }

    #[must_use]
    pub fn may(self, permission: Permission) -> bool {
        match permission {
            Permission::PostWebhooks => matches!(self, Self::Ingest | Self::Admin),
            Permission::ReadCalls | Permission::ReadMetrics => !matches!(self, Self::Ingest),
            Permission::ReadJournal => matches!(self, Self::Auditor | Self::Admin),
            Permission::RetryRecordings
            | Permission::ReviewFlags
            | Permission::ExplainGaps
            | Permission::PlaceHolds => {
                matches!(self, Self::Officer | Self::Admin)
            }
            Permission::Dispose => matches!(self, Self::Admin),
        }
    }
}

/// There is no role of that name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no role: give ingest, officer, auditor or admin")]
pub struct UnknownRole(String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| UnknownRole(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_knows_the_same_roles() {
        assert_eq!(crate::config::ROLES, Role::ALL.map(Role::as_str));
    }
}
