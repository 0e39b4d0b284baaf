//! Phone numbers as they are searched: any fragment of three or more digits.
//!
//! The index holds every group of four digits of a number, and its last three, with rising positions
//! (tantivy's own n-gram tokenizer leaves all positions at 0). Three digits are the beginning of a
//! group, four are one, more are a phrase of such groups. Groups of three would be too common: every
//! number of a country begins alike, and a phrase has to be looked for in all of them. Parsing a whole
//! number is [`crate::phone`]'s job.

use std::collections::HashMap;

use tantivy::tokenizer::Tokenizer;

use super::text::Terms;
use crate::phone;

/// The shortest fragment that can be searched.
pub const MIN_DIGITS: usize = 3;
const GROUP: usize = 4;
/// Nobody has longer numbers; more digits in one are not indexed, nor searched.
const MAX_DIGITS: usize = 64;
/// A leading 0 or 00 is taken for a prefix, which may be left out, if at least so many digits
/// follow; below that it may as well be the middle of a number.
const MIN_BEHIND_PREFIX: usize = 6;

/// A number or a part of one, as somebody searches for it: the forms of which any may occur in an
/// indexed number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// Each of at least [`MIN_DIGITS`] ASCII digits, none a part of another one.
    pub forms: Vec<String>,
}

impl Fragment {
    /// Reads `typed`; `None` if it has fewer than [`MIN_DIGITS`] digits, more than a number can
    /// have, or anything that does not belong in a number.
    ///
    /// Besides the digits as typed it matches the E.164 digits, where a whole number was typed,
    /// and the digits behind a leading 0 or 00.
    #[must_use]
    pub fn read(typed: &str, region: &str) -> Option<Self> {
        if !typed.chars().all(is_number_char) {
            return None;
        }
        let digits = phone::digits(typed);
        if !(MIN_DIGITS..=MAX_DIGITS).contains(&digits.len()) {
            return None;
        }
        let bare = digits.strip_prefix("00").or_else(|| digits.strip_prefix('0'));
        let bare = bare.filter(|bare| bare.len() >= MIN_BEHIND_PREFIX).map(str::to_owned);
        let mut forms = vec![digits];
        for form in bare.into_iter().chain(phone::e164_digits(typed, region)) {
            // What contains another form finds nothing that the other one does not.
            if !forms.iter().any(|shorter| form.contains(shorter.as_str())) {
                forms.retain(|longer| !longer.contains(form.as_str()));
                forms.push(form);
            }
        }
        Some(Self { forms })
    }
}

/// Whether `c` may stand in a number as people write them.
pub(super) fn is_number_char(c: char) -> bool {
    phone::ascii_digit(c).is_some() || matches!(c, ' ' | '\u{a0}' | '+' | '-' | '(' | ')' | '.' | '/')
}

/// The digit strings under which the number `raw` is indexed: as sent, and E.164, unless one
/// contains the other. Empty if there are no three digits.
#[must_use]
pub fn indexed_forms(raw: &str, region: &str) -> Vec<String> {
    let sent: String = phone::digits(raw).chars().take(MAX_DIGITS).collect();
    match phone::e164_digits(raw, region) {
        _ if sent.len() < MIN_DIGITS => Vec::new(),
        Some(e164) if e164.contains(&sent) => vec![e164],
        Some(e164) if !sent.contains(&e164) => vec![sent, e164],
        _ => vec![sent],
    }
}

/// [`indexed_forms`], remembering numbers that come again and again: a business has few, and the
/// numbering plans are slow.
pub(super) struct Forms {
    region: String,
    known: HashMap<String, Vec<String>>,
}

impl Forms {
    const MOST: usize = 1024;

    pub(super) fn new(region: &str) -> Self {
        Self { region: region.to_owned(), known: HashMap::new() }
    }

    pub(super) fn region(&self) -> &str {
        &self.region
    }

    /// The forms of a number that other calls have too.
    pub(super) fn shared(&mut self, raw: &str) -> Vec<String> {
        if let Some(forms) = self.known.get(raw) {
            return forms.clone();
        }
        if self.known.len() >= Self::MOST {
            self.known.clear();
        }
        let forms = self.own(raw);
        if raw.len() <= MAX_DIGITS {
            self.known.insert(raw.to_owned(), forms.clone());
        }
        forms
    }

    /// The forms of a number that is one call's own.
    pub(super) fn own(&self, raw: &str) -> Vec<String> {
        indexed_forms(raw, &self.region)
    }
}

/// Whether `raw` is written like a phone number, not like a name.
#[must_use]
pub fn looks_like_number(raw: &str) -> bool {
    raw.chars().all(is_number_char) && phone::digits(raw).len() >= MIN_DIGITS
}

/// Those groups, with their positions, that pin down `digits` when they occur in one number: every
/// fourth, and the last. Three digits are a group by themselves, to which a fourth may come.
pub(super) fn covering_groups(digits: &str) -> Vec<(usize, &str)> {
    if digits.len() < MIN_DIGITS {
        return Vec::new();
    }
    let last = digits.len().saturating_sub(GROUP);
    let starts = (0..last).step_by(GROUP).chain([last]);
    starts.map(|start| (start, &digits[start..digits.len().min(start + GROUP)])).collect()
}

/// Every group of a text that consists of digits.
#[derive(Clone)]
pub(super) struct GroupTokenizer;

impl Tokenizer for GroupTokenizer {
    type TokenStream<'a> = Terms;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> Terms {
        let groups = (0..).zip(text.as_bytes().windows(MIN_DIGITS));
        let group = |(start, _): (usize, _)| &text.as_bytes()[start..text.len().min(start + GROUP)];
        Terms::new(groups.map(|at| String::from_utf8_lossy(group(at)).into_owned()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments() {
        let forms = |typed: &str| Fragment::read(typed, "IN").map(|f| f.forms);
        assert_eq!(forms("982"), Some(vec!["982".into()]));
        assert_eq!(forms("98"), None);
        assert_eq!(forms("98a200"), None);
        assert_eq!(forms("09820011223"), Some(vec!["9820011223".into()]));
        assert_eq!(forms("0091 98200 11223"), Some(vec!["919820011223".into()]));
        assert_eq!(forms("+91 98200-11223"), Some(vec!["919820011223".into()]));
        assert_eq!(forms("9820011223"), Some(vec!["9820011223".into()]));
        assert_eq!(forms("00112"), Some(vec!["00112".into()]));
    }

    #[test]
    fn forms_in_the_index() {
        assert_eq!(indexed_forms("9820011223", "IN"), ["919820011223"]);
        assert_eq!(indexed_forms("919820011223", "IN"), ["919820011223"]);
        assert_eq!(indexed_forms("09820011223", "IN"), ["09820011223", "919820011223"]);
        assert_eq!(indexed_forms("1800", "IN"), ["1800"]);
        assert!(indexed_forms("Ananya", "IN").is_empty());
    }

    #[test]
    fn groups_cover() {
        assert_eq!(covering_groups("123"), [(0, "123")]);
        assert_eq!(covering_groups("1234"), [(0, "1234")]);
        assert_eq!(covering_groups("12345"), [(0, "1234"), (1, "2345")]);
        assert_eq!(covering_groups("123456789"), [(0, "1234"), (4, "5678"), (5, "6789")]);
        assert!(covering_groups("12").is_empty());
    }
}
