//! What a search asks for, as a tree: the meaning of `q` and of all filters together.
//!
//! Pure data. Names are folded, numbers are digits, dates are microseconds; nothing here depends
//! on the index any more, so that a naive model can answer the same tree.

use super::number::Fragment;
use super::text;

/// A condition on calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expr {
    /// Every call.
    All,
    /// All of them hold; at least two.
    And(Vec<Expr>),
    /// Any of them holds; at least two.
    Or(Vec<Expr>),
    Not(Box<Expr>),
    Is(Match),
}

impl Expr {
    /// Joins conditions that must all hold; none is [`Expr::All`].
    #[must_use]
    pub fn all(conditions: Vec<Self>) -> Self {
        let mut conditions: Vec<Self> = conditions.into_iter().filter(|c| *c != Self::All).collect();
        match conditions.len() {
            0 => Self::All,
            1 => conditions.swap_remove(0),
            _ => Self::And(conditions),
        }
    }

    /// How many conditions it has.
    #[must_use]
    pub fn conditions(&self) -> usize {
        match self {
            Self::All => 0,
            Self::And(parts) | Self::Or(parts) => parts.iter().map(Self::conditions).sum(),
            Self::Not(inner) => inner.conditions(),
            Self::Is(_) => 1,
        }
    }

    /// Joins conditions of which one must hold; none is [`Expr::All`], as for a filter not given.
    #[must_use]
    pub fn any(mut conditions: Vec<Self>) -> Self {
        match conditions.len() {
            0 => Self::All,
            1 => conditions.swap_remove(0),
            _ => Self::Or(conditions),
        }
    }
}

/// One condition on one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// A word, phrase or number without a field: any name, any id, any number.
    Anything(Who),
    /// The agent's name, number, or the whole agent string as sent.
    Agent(Who),
    /// The customer's name, number, or id.
    Customer(Who),
    /// The number of the customer, or the one called from or to.
    Number(Fragment),
    /// The business number, whole; any of the forms it may have been sent in.
    Waba(Vec<String>),
    Status(String),
    Direction(String),
    Channel(String),
    Recording(String),
    /// Has this flag in this state; `None` stands for any. At least one of them is given.
    Flag {
        rule: Option<String>,
        state: Option<String>,
    },
    OnHold(bool),
    /// Sort time in microseconds UTC, from (included) until (excluded).
    Started {
        from: Option<i64>,
        until: Option<i64>,
    },
    /// Whole seconds, both ends included. A call without duration never matches.
    Duration {
        min: Option<u64>,
        max: Option<u64>,
    },
}

/// Somebody or something, by name, number or id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// Compared with ids, or with the whole string as sent; an index term.
    pub exact: String,
    pub name: Option<Phrase>,
    pub number: Option<Fragment>,
}

/// Words that follow each other in one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phrase {
    /// Folded, at least one.
    pub words: Vec<String>,
    /// Whether the last word may be the beginning of a longer one.
    pub prefix: bool,
}

impl Who {
    /// Reads what somebody typed; `None` if it holds neither letter nor digit.
    #[must_use]
    pub fn read(typed: &str, prefix: bool, region: &str) -> Option<Self> {
        let typed = typed.trim();
        let words = text::words(typed);
        let name = (!words.is_empty()).then_some(Phrase { words, prefix });
        let number = Fragment::read(typed, region);
        (name.is_some() || number.is_some()).then(|| Self { exact: text::term(typed), name, number })
    }
}
