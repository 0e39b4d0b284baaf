//! Whether two texts name the same person: a number or a name, as senders, tokens and lists spell it. Pure.

use super::facts::Facts;
use super::stated::Field;
use super::view::Call;

/// Fewer digits are an extension or a code, which many people share.
const SHORTEST_NUMBER: usize = 8;

/// By what a person is found again: the digits of a number, else the letters and digits of a name in lower case. Empty where
/// the text holds neither.
#[must_use]
pub fn person_key(text: &str) -> String {
    number(text).unwrap_or_else(|| text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect())
}

/// Names without regard to case, spaces and punctuation; numbers without regard to how they are written and whether a country
/// code is with them.
#[must_use]
pub fn is_same_person(one: &str, other: &str) -> bool {
    match (number(one), number(other)) {
        (Some(one), Some(other)) => one.ends_with(&other) || other.ends_with(&one),
        _ => {
            let key = person_key(one);
            !key.is_empty() && key == person_key(other)
        }
    }
}

impl Facts {
    /// Those who took part on the firm's side, as they were ever stated: nobody of them reviews the call. Who ended it may be
    /// the customer, who reviews nothing.
    pub fn agents(&self) -> impl Iterator<Item = &str> {
        [Field::Agent, Field::EndedBy, Field::RejectedBy].into_iter().flat_map(|field| self.texts(field))
    }
}

impl Call {
    /// The same, as they are shown.
    pub fn agents(&self) -> impl Iterator<Item = &str> {
        [&self.agent, &self.ended_by, &self.rejected_by].into_iter().flatten().map(String::as_str)
    }
}

/// The digits of what is written like a phone number, without the zeros in front.
fn number(text: &str) -> Option<String> {
    let written = text.chars().all(|c| c.is_ascii_digit() || c.is_whitespace() || "+-().".contains(c));
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_start_matches('0');
    (written && digits.len() >= SHORTEST_NUMBER).then(|| digits.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_in_many_spellings() {
        for (one, other, same) in [
            ("Farhan Siddiqui", "farhan.siddiqui", true),
            ("FARHAN-SIDDIQUI", " Farhan  Siddiqui ", true),
            ("Farhan Siddiqui", "Farhan", false),
            ("919833344556", "+91 98333-44556", true),
            ("09833344556", "+91 98333 44556", true),
            ("919833344556", "919833344557", false),
            ("1234", "991234", false),
            ("1234", "12-34", true),
            ("", "", false),
            ("-", "+", false),
            ("अनन्या", "अनन्या", true),
        ] {
            assert_eq!(is_same_person(one, other), same, "{one:?} and {other:?}");
            assert_eq!(is_same_person(other, one), same, "{other:?} and {one:?}");
        }
        assert_eq!(person_key("+91 98333 44556"), "919833344556");
        assert_eq!(person_key("Farhan S."), "farhans");
    }
}
