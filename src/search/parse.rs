//! Reads the query language of `q` into an [`Expr`]. Pure; never panics; every error has its place.
//!
//! ```text
//! either  := both ("OR" both)*
//! both    := one ("AND"? one)*
//! one     := ("NOT" | "-")* (field ":" value | phrase | number | word | "(" either ")")
//! ```
//!
//! `AND`, `OR` and `NOT` are words of the language in capitals only: "and" may be part of a name.

use super::QueryContext;
use super::error::QueryError;
use super::expr::{Expr, Match, Who};
use super::number::{self, Fragment};
use super::values::{self, known, quoted};

/// Longest query, in characters.
pub const MAX_CHARS: usize = 2_000;
/// Deepest nesting of brackets.
pub const MAX_DEPTH: usize = 64;
/// Most conditions in one query: each costs a walk through a part of the index.
pub const MAX_CONDITIONS: usize = 100;

const FIELDS: &[&str] = &[
    "agent",
    "customer",
    "number",
    "direction",
    "status",
    "duration",
    "started",
    "flag",
    "flag_state",
    "recording",
    "waba",
    "channel",
];

/// Reads `q`; nothing but spaces is [`Expr::All`].
///
/// # Errors
/// [`QueryError`] with the character at which `q` stops making sense.
pub fn parse(q: &str, context: &QueryContext) -> Result<Expr, QueryError> {
    let chars: Vec<char> = q.chars().take(MAX_CHARS + 1).collect();
    if chars.len() > MAX_CHARS {
        let message = format!("this query is longer than {MAX_CHARS} characters");
        return Err(QueryError::at(MAX_CHARS, message));
    }
    let mut parser = Parser { chars, at: 0, depth: 0, conditions: 0, context };
    if parser.at_end() {
        return Ok(Expr::All);
    }
    let expr = parser.either()?;
    match parser.peek() {
        None => Ok(expr),
        Some(_) => Err(QueryError::at(parser.at, "this bracket was never opened")),
    }
}

struct Parser<'a> {
    chars: Vec<char>,
    /// The next character to read.
    at: usize,
    depth: usize,
    conditions: usize,
    context: &'a QueryContext,
}

impl Parser<'_> {
    fn either(&mut self) -> Result<Expr, QueryError> {
        let mut branches = vec![self.both()?];
        while self.keyword("OR") {
            branches.push(self.both()?);
        }
        Ok(Expr::any(branches))
    }

    fn both(&mut self) -> Result<Expr, QueryError> {
        let mut parts = vec![self.one()?];
        loop {
            let joined = self.keyword("AND");
            if !joined && (self.at_end() || self.peek() == Some(')') || self.is_keyword("OR")) {
                return Ok(Expr::all(parts));
            }
            parts.push(self.one()?);
        }
    }

    fn one(&mut self) -> Result<Expr, QueryError> {
        let mut negated = false;
        loop {
            self.skip_spaces();
            if self.keyword("NOT") {
                negated = !negated;
            } else if self.peek() == Some('-') && self.chars.get(self.at + 1).is_some_and(|c| begins(*c)) {
                self.at += 1;
                negated = !negated;
            } else {
                break;
            }
        }
        let expr = self.operand()?;
        Ok(if negated { Expr::Not(Box::new(expr)) } else { expr })
    }

    fn operand(&mut self) -> Result<Expr, QueryError> {
        let start = self.at;
        for keyword in ["AND", "OR"] {
            if self.is_keyword(keyword) {
                let message = format!("{keyword} needs a condition on both sides");
                return Err(QueryError::at(start, message));
            }
        }
        match self.peek() {
            None => Err(QueryError::at(start, "a word, a number or a condition is missing here")),
            Some(')') => Err(QueryError::at(start, "a condition is missing before this bracket")),
            Some(_) => {
                if let Some(number) = self.number() {
                    return self.anything(start, &number, true);
                }
                match self.peek() {
                    Some('(') => self.group(),
                    Some('"') => {
                        let phrase = self.phrase()?;
                        self.anything(start, &phrase, false)
                    }
                    _ => self.word_or_field(),
                }
            }
        }
    }

    fn group(&mut self) -> Result<Expr, QueryError> {
        let open = self.at;
        if self.depth == MAX_DEPTH {
            let message = format!("brackets can't be nested more than {MAX_DEPTH} deep");
            return Err(QueryError::at(open, message));
        }
        self.depth += 1;
        self.at += 1;
        let expr = self.either()?;
        if self.peek() != Some(')') {
            return Err(QueryError::at(open, "this bracket is never closed"));
        }
        self.at += 1;
        self.depth -= 1;
        Ok(expr)
    }

    fn word_or_field(&mut self) -> Result<Expr, QueryError> {
        let start = self.at;
        let word = self.word();
        let Some(colon) = word.find(':') else {
            return self.anything(start, &word, true);
        };
        let name = &word[..colon];
        if name.is_empty() {
            return Err(QueryError::at(start, "a field's name is missing before the colon"));
        }
        let Some(field) = FIELDS.iter().find(|field| field.eq_ignore_ascii_case(name)) else {
            let message = format!(
                "there is no field {}; known are {} (quotes search for a text with a colon)",
                quoted(name),
                FIELDS.join(", ")
            );
            return Err(QueryError::at(start, message));
        };
        self.at = start + name.chars().count() + 1;
        self.condition(field)
    }

    /// Reads the value behind `field:`.
    fn condition(&mut self, field: &'static str) -> Result<Expr, QueryError> {
        self.skip_spaces();
        let start = self.at;
        let exact = self.peek() == Some('"');
        let value = if exact {
            self.phrase()?
        } else {
            let takes_numbers = matches!(field, "agent" | "customer" | "number" | "waba");
            let number = if takes_numbers { self.number() } else { None };
            number.unwrap_or_else(|| self.word())
        };
        if value.trim().is_empty() {
            let message = format!("a value is missing after {field}:, as in {}", example(field));
            return Err(QueryError::at(start, message));
        }
        let found = self.read(field, &value, exact).map_err(|message| QueryError::at(start, message))?;
        self.counted(start, found)
    }

    fn read(&self, field: &str, value: &str, exact: bool) -> Result<Match, String> {
        let QueryContext { tz, region } = self.context;
        let who = || {
            Who::read(value, !exact, region).ok_or_else(|| format!("{} holds no letter and no digit", quoted(value)))
        };
        Ok(match field {
            "agent" => Match::Agent(who()?),
            "customer" => Match::Customer(who()?),
            "number" => Match::Number(fragment(value, region)?),
            "waba" => Match::Waba(whole_number(value, region)),
            "direction" => Match::Direction(known(field, value, values::DIRECTIONS)?),
            "status" => Match::Status(known(field, value, values::STATUSES)?),
            "recording" => Match::Recording(known("recording state", value, values::RECORDINGS)?),
            "channel" => Match::Channel(known(field, value, values::CHANNELS)?),
            "duration" => values::durations(value.trim())?,
            "started" => values::dates(value.trim(), tz)?,
            "flag_state" => Match::Flag { rule: None, state: Some(known("flag state", value, values::FLAG_STATES)?) },
            // FIELDS has no other.
            _ => Match::Flag { rule: Some(value.trim().to_owned()), state: None },
        })
    }

    /// A word, phrase or number without a field.
    fn anything(&mut self, start: usize, typed: &str, prefix: bool) -> Result<Expr, QueryError> {
        match Who::read(typed, prefix, &self.context.region) {
            Some(who) => self.counted(start, Match::Anything(who)),
            None => {
                let message = format!("{} holds no letter and no digit", quoted(typed));
                Err(QueryError::at(start, message))
            }
        }
    }

    fn counted(&mut self, start: usize, found: Match) -> Result<Expr, QueryError> {
        self.conditions += 1;
        if self.conditions > MAX_CONDITIONS {
            let message = format!("a query can't have more than {MAX_CONDITIONS} conditions");
            return Err(QueryError::at(start, message));
        }
        Ok(Expr::Is(found))
    }

    /// A text in quotes, without them. There is no escape: a name holds no quotes.
    fn phrase(&mut self) -> Result<String, QueryError> {
        let open = self.at;
        let rest = &self.chars[open + 1..];
        let Some(length) = rest.iter().position(|c| *c == '"') else {
            return Err(QueryError::at(open, "this quote is never closed"));
        };
        self.at = open + length + 2;
        Ok(rest[..length].iter().collect())
    }

    /// Everything up to a space, a bracket or a quote.
    fn word(&mut self) -> String {
        let rest = &self.chars[self.at..];
        let length = rest.iter().position(|c| !is_word(*c)).unwrap_or(rest.len());
        self.at += length;
        rest[..length].iter().collect()
    }

    /// The longest run of digits, spaces and `+ - ( )` here that is a number: three digits or more,
    /// brackets in pairs, and no letter touching its end.
    fn number(&mut self) -> Option<String> {
        let rest = &self.chars[self.at..];
        let mut length = rest.iter().position(|c| !in_number(*c)).unwrap_or(rest.len());
        if rest.get(length).is_some_and(|c| is_word(*c)) {
            // "98200abc" is a word; "98200 abc" is a number before a word.
            length = rest[..length].iter().rposition(|c| c.is_whitespace()).unwrap_or(0);
        }
        let length = balanced(&rest[..length]);
        let run = &rest[..length];
        let end = run.iter().rposition(|c| is_digit(*c) || *c == ')')? + 1;
        let digits = run[..end].iter().filter(|c| is_digit(**c)).count();
        let starts = run.iter().find(|c| !matches!(c, '+' | '(' | ' ')).is_some_and(|c| is_digit(*c));
        if digits < number::MIN_DIGITS || !starts {
            return None;
        }
        self.at += end;
        Some(run[..end].iter().collect())
    }

    fn keyword(&mut self, keyword: &str) -> bool {
        let found = self.is_keyword(keyword);
        if found {
            self.at += keyword.len();
        }
        found
    }

    /// Whether the next word is `keyword`; skips the spaces before it.
    fn is_keyword(&mut self, keyword: &str) -> bool {
        self.skip_spaces();
        let rest = &self.chars[self.at..];
        rest.len() >= keyword.len()
            && rest.iter().zip(keyword.chars()).all(|(c, k)| *c == k)
            && !rest.get(keyword.len()).is_some_and(|c| is_word(*c))
    }

    fn at_end(&mut self) -> bool {
        self.skip_spaces();
        self.peek().is_none()
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn skip_spaces(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }
}

/// How much of `run` has its brackets in pairs.
fn balanced(run: &[char]) -> usize {
    let mut open = Vec::new();
    for (index, c) in run.iter().enumerate() {
        match c {
            '(' => open.push(index),
            ')' if open.pop().is_none() => return index,
            _ => {}
        }
    }
    open.first().copied().unwrap_or(run.len())
}

fn is_digit(c: char) -> bool {
    crate::phone::ascii_digit(c).is_some()
}

fn in_number(c: char) -> bool {
    is_digit(c) || c.is_whitespace() || matches!(c, '+' | '-' | '(' | ')')
}

fn is_word(c: char) -> bool {
    !c.is_whitespace() && !matches!(c, '(' | ')' | '"')
}

/// Whether a condition can begin with `c`, so that a `-` before it means NOT.
fn begins(c: char) -> bool {
    !c.is_whitespace() && c != ')'
}

fn example(field: &str) -> &'static str {
    match field {
        "agent" | "customer" => "agent:ananya",
        "number" | "waba" => "number:9820011223",
        "duration" => "duration:>60 or duration:10..20",
        "started" => "started:2026-03-01..2026-03-09",
        "flag" => "flag:short_call",
        "flag_state" => "flag_state:open",
        _ => "status:ended",
    }
}

/// A fragment of a number, or why it is none.
pub(super) fn fragment(value: &str, region: &str) -> Result<Fragment, String> {
    Fragment::read(value, region).ok_or_else(|| {
        let least = number::MIN_DIGITS;
        format!("{} is no part of a phone number; give at least {least} digits", quoted(value))
    })
}

/// The forms in which a whole number may have been indexed; for something else, itself.
pub(super) fn whole_number(value: &str, region: &str) -> Vec<String> {
    let forms = Fragment::read(value, region).map(|fragment| fragment.forms);
    let mut forms = forms.unwrap_or_else(|| vec![super::text::term(value.trim())]);
    forms.extend(crate::phone::e164_digits(value, region).filter(|form| !forms.contains(form)));
    forms
}
