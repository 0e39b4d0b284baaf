//! The order of results, and where a page ends.
//!
//! A cursor holds the place of the last call of a page in the order, not a count: what arrives or
//! changes elsewhere neither repeats nor hides a call.

use std::str::FromStr;

use sha2::{Digest, Sha256};

use super::error::QueryError;
use super::expr::Expr;
use super::text::hex;

/// In which order calls are found. Calls without duration come last in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sort {
    /// `-started_at`: the newest first.
    #[default]
    StartedAtDesc,
    /// `started_at`
    StartedAt,
    /// `-duration`: the longest first.
    DurationDesc,
    /// `duration`
    Duration,
}

impl Sort {
    /// Longer durations, in seconds, are not told apart.
    pub(super) const LONGEST: u64 = u64::MAX - 1;
    const ALL: [Self; 4] = [Self::StartedAtDesc, Self::StartedAt, Self::DurationDesc, Self::Duration];

    /// The name in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StartedAtDesc => "-started_at",
            Self::StartedAt => "started_at",
            Self::DurationDesc => "-duration",
            Self::Duration => "duration",
        }
    }

    /// The rank of a sort time; smaller ranks come first.
    pub(super) fn rank_of_time(self, micros: i64) -> u64 {
        let ascending = micros.cast_unsigned() ^ (1 << 63);
        if self == Self::StartedAtDesc { !ascending } else { ascending }
    }

    /// The rank of a duration; smaller ranks come first, and a missing duration last.
    pub(super) fn rank_of_duration(self, seconds: Option<u64>) -> u64 {
        match seconds.map(|seconds| seconds.min(Self::LONGEST)) {
            None => u64::MAX,
            Some(seconds) if self == Self::DurationDesc => Self::LONGEST - seconds,
            Some(seconds) => seconds,
        }
    }

    /// The duration that has this rank, [`Self::LONGEST`] standing for all beyond it too; `None` for a missing one.
    pub(super) fn duration_of_rank(self, rank: u64) -> Option<u64> {
        match rank {
            u64::MAX => None,
            rank if self == Self::DurationDesc => Some(Self::LONGEST - rank),
            rank => Some(rank),
        }
    }

    /// Breaks ties in the direction of the sort: of two calls at the same time the later journaled
    /// one is the newer one.
    pub(super) fn tie(self, first_seq: u64) -> u64 {
        match self {
            Self::StartedAtDesc | Self::DurationDesc => !first_seq,
            Self::StartedAt | Self::Duration => first_seq,
        }
    }
}

impl FromStr for Sort {
    type Err = QueryError;

    fn from_str(name: &str) -> Result<Self, QueryError> {
        Self::ALL.into_iter().find(|sort| sort.as_str() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            QueryError::new("sort", format!("there is no such order; known are {known}"))
        })
    }
}

/// A call's place in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub rank: u64,
    pub tie: u64,
}

const KEY_BYTES: usize = 16;
const MARK_BYTES: usize = 8;

/// The cursor behind the call at `key` in the search for `expr`; safe in a URL.
pub(super) fn encode(key: Key, sort: Sort, expr: &Expr) -> String {
    let bytes = key_bytes(key);
    hex(&bytes) + &hex(&mark(&bytes, sort, expr))
}

/// Reads a cursor.
///
/// # Errors
/// If it was made for another search or another order, or was changed on the way.
pub(super) fn decode(cursor: &str, sort: Sort, expr: &Expr) -> Result<Key, QueryError> {
    let foreign = || QueryError::new("cursor", "this cursor does not belong to this search");
    let bytes = unhex(cursor).ok_or_else(foreign)?;
    let (key, given) = bytes.split_at_checked(KEY_BYTES).ok_or_else(foreign)?;
    if given != mark(key, sort, expr) {
        return Err(foreign());
    }
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    Ok(Key { rank: number(&key[..8]), tie: number(&key[8..]) })
}

fn key_bytes(key: Key) -> [u8; KEY_BYTES] {
    (u128::from(key.rank) << 64 | u128::from(key.tie)).to_be_bytes()
}

/// Binds the key to order and conditions. It guards against mistakes, not against forgery: whoever
/// forges a cursor sees nothing that the same search would not show.
fn mark(key: &[u8], sort: Sort, expr: &Expr) -> [u8; MARK_BYTES] {
    let mut hasher = Sha256::new();
    hasher.update(key);
    hasher.update(format!("{sort:?}{expr:?}"));
    let mut mark = [0; MARK_BYTES];
    mark.copy_from_slice(&hasher.finalize()[..MARK_BYTES]);
    mark
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    if bytes.len() != 2 * (KEY_BYTES + MARK_BYTES) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).filter(|_| !byte.is_ascii_uppercase());
    bytes.chunks_exact(2).map(|pair| u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::expr::Match;
    use super::*;

    #[test]
    fn names() {
        for sort in Sort::ALL {
            assert_eq!(sort.as_str().parse(), Ok(sort));
        }
        assert!("size".parse::<Sort>().is_err());
    }

    proptest! {
        #[test]
        fn cursors_come_back(rank: u64, tie: u64, at in 0usize..48, other in "[0-9a-f]") {
            let (key, sort, expr) = (Key { rank, tie }, Sort::Duration, Expr::All);
            let cursor = encode(key, sort, &expr);
            prop_assert_eq!(decode(&cursor, sort, &expr), Ok(key));
            prop_assert!(decode(&cursor, Sort::StartedAt, &expr).is_err());
            prop_assert!(decode(&cursor, sort, &Expr::Is(Match::OnHold(true))).is_err());
            let mut changed = cursor.clone();
            changed.replace_range(at..=at, &other);
            prop_assert_eq!(decode(&changed, sort, &expr).is_ok(), changed == cursor);
        }

        #[test]
        fn any_text_is_refused_without_panic(text in ".{0,60}") {
            prop_assert!(decode(&text, Sort::default(), &Expr::All).is_err());
        }

        #[test]
        fn ranks_order(a: i64, b: i64) {
            prop_assert_eq!(a < b, Sort::StartedAt.rank_of_time(a) < Sort::StartedAt.rank_of_time(b));
            prop_assert_eq!(a < b, Sort::StartedAtDesc.rank_of_time(a) > Sort::StartedAtDesc.rank_of_time(b));
            for (sort, seconds) in [(Sort::Duration, a), (Sort::DurationDesc, b)] {
                let seconds = Some(seconds.cast_unsigned().min(Sort::LONGEST));
                for seconds in [seconds, Some(Sort::LONGEST), None] {
                    prop_assert_eq!(sort.duration_of_rank(sort.rank_of_duration(seconds)), seconds);
                }
            }
        }
    }
}
