//! What compliance officers ask, each kind with ever new values, so that no cache flatters.

use callvault::search::{Facet, Filters, Sort};

use super::calls::{self, Dice, FIRST_NAMES, LAST_NAMES};

/// One kind of question.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Name,
    TwoNames,
    Prefix,
    FourDigits,
    SevenDigits,
    AgentMonth,
    Dates,
    OpenFlag,
    ShortEnded,
    Negation,
    Everything,
    Longest,
    LongestOfStatus,
    Facets,
    FacetsOfName,
    FacetsOfStatus,
}

/// One question, in the product's terms and in plain ones for the rivals.
pub struct Asked {
    pub filters: Filters,
    pub sort: Sort,
    pub facets: Vec<Facet>,
    pub plain: Plain,
}

/// What is asked for, before anybody's query language.
pub enum Plain {
    All,
    /// Each of these begins a word of some name.
    Words(Vec<String>),
    Digits(String),
    /// Agent, from, until (excluded), microseconds.
    AgentBetween(String, i64, i64),
    Between(i64, i64),
    OpenFlag(String),
    /// Shorter than so many seconds.
    EndedBelow(u64),
    NotRecording(String),
    Status(String),
}

/// With the newest first, and the total.
pub const BY_START: [Kind; 11] = [
    Kind::Name,
    Kind::TwoNames,
    Kind::Prefix,
    Kind::FourDigits,
    Kind::SevenDigits,
    Kind::AgentMonth,
    Kind::Dates,
    Kind::OpenFlag,
    Kind::ShortEnded,
    Kind::Negation,
    Kind::Everything,
];
pub const MORE: [Kind; 5] =
    [Kind::Longest, Kind::LongestOfStatus, Kind::Facets, Kind::FacetsOfName, Kind::FacetsOfStatus];

impl Kind {
    /// As it stands in the table, and in the names of the figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Name => "a name",
            Self::TwoNames => "two names",
            Self::Prefix => "the beginning of a name",
            Self::FourDigits => "4 digits of a number",
            Self::SevenDigits => "7 digits of a number",
            Self::AgentMonth => "an agent's month",
            Self::Dates => "a range of dates",
            Self::OpenFlag => "an open flag",
            Self::ShortEnded => "duration and status",
            Self::Negation => "all but a state of recording",
            Self::Everything => "everything",
            Self::Longest => "everything, longest first",
            Self::LongestOfStatus => "a status, longest first",
            Self::Facets => "all facets of everything",
            Self::FacetsOfName => "all facets of a name",
            Self::FacetsOfStatus => "all facets of a status",
        }
    }

    pub fn has_facets(self) -> bool {
        matches!(self, Self::Facets | Self::FacetsOfName | Self::FacetsOfStatus)
    }

    pub fn ask(self, dice: &mut Dice) -> Asked {
        let (filters, plain) = self.filters(dice);
        let sort =
            if matches!(self, Self::Longest | Self::LongestOfStatus) { Sort::DurationDesc } else { Sort::default() };
        let all = [Facet::Agent, Facet::Direction, Facet::Status, Facet::Flag, Facet::Recording, Facet::Day];
        let facets = if self.has_facets() { all.to_vec() } else { Vec::new() };
        Asked { filters, sort, facets, plain }
    }

    fn filters(self, dice: &mut Dice) -> (Filters, Plain) {
        let q = |q: String| Filters { q: Some(q), ..Filters::default() };
        let (first, last) = (typed(FIRST_NAMES, dice), typed(LAST_NAMES, dice));
        let name = if dice.below(2) == 0 { &first } else { &last };
        match self {
            Self::Name | Self::FacetsOfName => (q(name.clone()), Plain::Words(vec![name.clone()])),
            Self::TwoNames => (q(format!("{first} {last}")), Plain::Words(vec![first, last])),
            Self::Prefix => {
                let length = 3 + dice.below(2) as usize;
                let prefix: String = name.chars().take(length).collect();
                (q(prefix.clone()), Plain::Words(vec![prefix]))
            }
            Self::FourDigits | Self::SevenDigits => {
                let many = if self == Self::FourDigits { 4 } else { 7 };
                let (number, at) = (calls::any_number(dice), dice.below(11 - many) as usize);
                let digits = number[at..at + many as usize].to_owned();
                // A leading 0 may be the one that is dialled before a number: the product looks for both, the others don't.
                let digits = digits.replacen('0', "5", usize::from(digits.starts_with('0')));
                (q(digits.clone()), Plain::Digits(digits))
            }
            Self::AgentMonth => {
                let (agent, day) = (calls::any_agent(dice), day(dice));
                let (from, until) = (instant(day), instant(day + 30));
                let q = q(format!("agent:\"{agent}\" started:{}..{}", date(day), date(day + 29)));
                (q, Plain::AgentBetween(agent, from, until))
            }
            Self::Dates => {
                let (from, days) = (day(dice), 1 + dice.below(365).cast_signed());
                let q = q(format!("started:{}..{}", date(from), date(from + days - 1)));
                (q, Plain::Between(instant(from), instant(from + days)))
            }
            Self::OpenFlag => {
                let rule = dice.pick(&["short_call", "long_call", "recording_missing", "silent_recording"]).to_owned();
                let state = vec!["open".to_owned()];
                (Filters { flag: vec![rule.clone()], flag_state: state, ..Filters::default() }, Plain::OpenFlag(rule))
            }
            Self::ShortEnded => {
                let below = 5 + dice.below(300);
                (q(format!("duration:<{below} status:ended")), Plain::EndedBelow(below))
            }
            Self::Negation => {
                let state = dice.pick(&["archived", "none", "missing", "failed", "pending"]).to_owned();
                (q(format!("NOT recording:{state}")), Plain::NotRecording(state))
            }
            Self::FacetsOfStatus | Self::LongestOfStatus => {
                let status = dice.pick(&["ended", "missed", "rejected", "failed"]).to_owned();
                (Filters { status: vec![status.clone()], ..Filters::default() }, Plain::Status(status))
            }
            Self::Everything | Self::Longest | Self::Facets => (Filters::default(), Plain::All),
        }
    }
}

/// A name that everybody here reads alike: SQLite takes `D'Souza` for two words.
fn typed(names: &[&str], dice: &mut Dice) -> String {
    let plain: Vec<&str> = names.iter().copied().filter(|name| name.bytes().all(|b| b.is_ascii_alphabetic())).collect();
    dice.pick(&plain).to_lowercase()
}

/// A day of the five years, counted from their first.
fn day(dice: &mut Dice) -> i64 {
    dice.below(1790).cast_signed()
}

fn instant(day: i64) -> i64 {
    calls::BEGIN + day * 86_400_000_000
}

fn date(day: i64) -> String {
    let midnight = jiff::Timestamp::from_microsecond(instant(day)).expect("a time of this century");
    midnight.to_zoned(jiff::tz::TimeZone::UTC).date().to_string()
}
