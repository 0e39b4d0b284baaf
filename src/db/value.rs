//! Statements, arguments and rows that mean the same in both dialects.

use std::borrow::Cow;
use std::sync::Arc;

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgRow, PgTypeInfo};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments, Encode, Postgres, Row as _, Type};

use super::rows::{Column, ColumnType};
use super::{Error, Result};

/// One statement.
#[derive(Clone, Debug)]
pub enum Sql {
    /// The same text in both dialects.
    Same(&'static str),
    /// The few that must differ.
    Split { sqlite: &'static str, postgres: &'static str },
    /// Built from constant parts, such as a number of placeholders; never from values.
    Owned(String),
    /// The same where the two must differ.
    OwnedSplit { sqlite: String, postgres: String },
}

impl From<String> for Sql {
    fn from(sql: String) -> Self {
        Self::Owned(sql)
    }
}

impl From<&'static str> for Sql {
    fn from(text: &'static str) -> Self {
        Self::Same(text)
    }
}

impl Sql {
    pub(super) fn sqlite(self) -> Cow<'static, str> {
        match self {
            Self::Same(text) | Self::Split { sqlite: text, .. } => text.into(),
            Self::Owned(text) | Self::OwnedSplit { sqlite: text, .. } => text.into(),
        }
    }
    pub(super) fn postgres(self) -> Cow<'static, str> {
        match self {
            Self::Same(text) | Self::Split { postgres: text, .. } => text.into(),
            Self::Owned(text) | Self::OwnedSplit { postgres: text, .. } => text.into(),
        }
    }
}

/// One argument of a statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Arg {
    Int(i64),
    Text(String),
    Bytes(Arc<[u8]>),
    Bool(bool),
    Null,
}

impl From<i64> for Arg {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}
impl From<bool> for Arg {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}
impl From<&str> for Arg {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}
impl From<String> for Arg {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}
impl From<&[u8]> for Arg {
    fn from(value: &[u8]) -> Self {
        Self::Bytes(value.into())
    }
}
impl From<Vec<u8>> for Arg {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(value.into())
    }
}
impl<T: Into<Arg>> From<Option<T>> for Arg {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A NULL whose type PostgreSQL infers from where it stands (a NULL of type bigint is refused for a text column).
struct UntypedNull;

impl Type<Postgres> for UntypedNull {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(705))
    }
}

impl Encode<'_, Postgres> for UntypedNull {
    fn encode_by_ref(&self, _: &mut PgArgumentBuffer) -> std::result::Result<IsNull, BoxDynError> {
        Ok(IsNull::Yes)
    }
}

/// Binding is the one thing that each driver's argument list does for itself.
pub(super) trait Bind<A> {
    fn bind(self, into: &mut A) -> std::result::Result<(), BoxDynError>;
}

impl Bind<SqliteArguments> for Arg {
    fn bind(self, into: &mut SqliteArguments) -> std::result::Result<(), BoxDynError> {
        match self {
            Self::Int(value) => into.add(value),
            Self::Text(value) => into.add(value),
            Self::Bytes(value) => into.add(value.to_vec()),
            Self::Bool(value) => into.add(value),
            Self::Null => into.add(None::<i64>),
        }
    }
}

impl Bind<PgArguments> for Arg {
    fn bind(self, into: &mut PgArguments) -> std::result::Result<(), BoxDynError> {
        match self {
            Self::Int(value) => into.add(value),
            Self::Text(value) => into.add(value),
            Self::Bytes(value) => into.add(&value[..]),
            Self::Bool(value) => into.add(value),
            Self::Null => into.add(UntypedNull),
        }
    }
}

impl Bind<PgArguments> for Column {
    fn bind(self, into: &mut PgArguments) -> std::result::Result<(), BoxDynError> {
        macro_rules! all {
            ($variant:ident, $value:ident => $taken:expr) => {{
                let taken = self.args.iter().map(|arg| match arg {
                    Arg::Null => Ok(None),
                    Arg::$variant($value) => Ok(Some($taken)),
                    _ => Err(BoxDynError::from("an argument is not of its column's type")),
                });
                into.add(taken.collect::<std::result::Result<Vec<_>, _>>()?)
            }};
        }
        match self.of {
            ColumnType::Int => all!(Int, value => *value),
            ColumnType::Text => all!(Text, value => value.as_str()),
            ColumnType::Bytes => all!(Bytes, value => &value[..]),
            ColumnType::Bool => all!(Bool, value => *value),
        }
    }
}

/// One row of an answer; columns are asked for by name.
pub enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

macro_rules! getter {
    ($(#[$doc:meta])* $name:ident, $type:ty) => {
        $(#[$doc])*
        ///
        /// # Errors
        /// The column is absent or of another type.
        pub fn $name(&self, column: &str) -> Result<$type> {
            match self {
                Self::Sqlite(row) => row.try_get(column),
                Self::Postgres(row) => row.try_get(column),
            }
            .map_err(Error::Sqlx)
        }
    };
}

impl Row {
    getter!(/** A text. */ text, String);
    getter!(/** A text or NULL. */ opt_text, Option<String>);
    getter!(/** Bytes. */ bytes, Vec<u8>);
    getter!(/** Bytes or NULL. */ opt_bytes, Option<Vec<u8>>);

    /// A whole number.
    ///
    /// # Errors
    /// The column is absent or of another type.
    pub fn int(&self, column: &str) -> Result<i64> {
        match self {
            Self::Sqlite(row) => Ok(row.try_get(column)?),
            // What stands in a query as a number is of PostgreSQL's smaller type.
            Self::Postgres(row) => Ok(row.try_get(column).or_else(|_| row.try_get(column).map(|n: i32| n.into()))?),
        }
    }

    /// A whole number or NULL.
    ///
    /// # Errors
    /// As [`Row::int`].
    pub fn opt_int(&self, column: &str) -> Result<Option<i64>> {
        match self {
            Self::Sqlite(row) => Ok(row.try_get(column)?),
            Self::Postgres(row) => {
                let small = |_| row.try_get(column).map(|n: Option<i32>| n.map(Into::into));
                Ok(row.try_get(column).or_else(small)?)
            }
        }
    }

    /// True or false.
    ///
    /// # Errors
    /// The column is absent or of another type, or holds neither.
    pub fn bool(&self, column: &str) -> Result<bool> {
        match self {
            Self::Sqlite(row) => match row.try_get::<i64, _>(column)? {
                0 => Ok(false),
                1 => Ok(true),
                _ => Err(Error::Damaged(format!("{column} is neither true nor false"))),
            },
            Self::Postgres(row) => Ok(row.try_get(column)?),
        }
    }
}

/// Whether rows that were asked for in the order of a column, from a number on, come in it. A database whose pages are
/// damaged may give others; whoever reads on behind the last row would then read for ever.
///
/// # Errors
/// They don't.
pub fn ascending(rows: &[Row], column: &'static str, from: i64) -> Result<()> {
    let mut least = Some(from);
    for row in rows {
        let number = row.int(column)?;
        if least.is_none_or(|least| number < least) {
            return Err(Error::Damaged(format!("rows do not come in the order of {column}: run callvault verify")));
        }
        least = number.checked_add(1);
    }
    Ok(())
}

/// Text that both databases keep: PostgreSQL refuses NUL, so it becomes U+FFFD in either.
#[must_use]
pub fn text_safe(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::{SCHEMA_VERSION, check::fresh};

    #[tokio::test]
    async fn rows_out_of_order_are_damage() {
        let db = fresh(SCHEMA_VERSION).await.unwrap();
        let rows = async |values: &str| {
            let sql = format!("select column1 as n from (values {values}) where column1 is not null");
            db.fetch_all(Sql::Owned(sql), &[]).await.unwrap()
        };
        let max = i64::MAX;
        for (values, from, fine) in [
            ("(null)", 5, true),
            ("(5)", 5, true),
            ("(5), (6), (9)", 2, true),
            (&format!("({max})"), 0, true),
            ("(4)", 5, false),
            ("(5), (5)", 5, false),
            ("(5), (9), (6)", 5, false),
            (&format!("({max}), ({max})"), 0, false),
        ] {
            let outcome = ascending(&rows(values).await, "n", from);
            assert_eq!(outcome.is_ok(), fine, "{values} from {from}");
            assert!(outcome.is_ok() || outcome.is_err_and(|error| error.is_damage()));
        }
    }
}
