//! Turns a phone number as somebody wrote it into its E.164 digits.
//!
//! Pure and total: no I/O, and no input makes it panic. It does **not** decide whether a number is
//! in service, nor does it format one for people; what was sent is always kept beside it.

use std::str::FromStr;

use phonenumber::{Mode, country};

/// Longer texts are no phone number, however they are written.
const MAX_CHARS: usize = 40;
/// E.164 section 6.2.1: at most 15 digits, country code included.
const MAX_DIGITS: usize = 15;
/// Shorter numbers are service codes, which have no international form.
const MIN_DIGITS: usize = 7;
/// Up to this length a number without `+` that fits no numbering plan is read as national.
const LONGEST_NATIONAL: usize = 10;

/// The E.164 digits of `raw`, country code first and without the `+`; `region` is the ISO 3166
/// code of the country in which a number without country code is read.
///
/// `None` if `raw` is not written like a phone number, or is too short or too long for one.
/// Numbers that WhatsApp sends, all digits with the country code first, are recognised: the
/// region's own plan is tried, then the international reading.
#[must_use]
pub fn e164_digits(raw: &str, region: &str) -> Option<String> {
    let Written { digits, plus } = Written::read(raw)?;
    if let Some(known) = indian_mobile(&digits, plus, region) {
        return Some(known);
    }
    let country = country::Id::from_str(&region.to_ascii_uppercase()).ok();
    if plus {
        return international(&digits).map(|found| found.digits);
    }
    if let Some(rest) = digits.strip_prefix("00") {
        return international(rest).map(|found| found.digits);
    }
    let national = parsed(country, &digits);
    let international = (!digits.starts_with('0')).then(|| international(&digits)).flatten();
    match (national, international) {
        (Some(found), _) if found.valid => Some(found.digits),
        (_, Some(found)) if found.valid => Some(found.digits),
        (Some(found), _) if digits.len() <= LONGEST_NATIONAL || digits.starts_with('0') => Some(found.digits),
        (_, Some(found)) => Some(found.digits),
        _ => None,
    }
}

/// The decimal digit that `c` stands for, as ASCII: Latin, full-width, Arabic-Indic, and those of
/// the scripts of India.
#[must_use]
pub fn ascii_digit(c: char) -> Option<char> {
    const ZEROS: [u32; 13] =
        [0x30, 0xFF10, 0x0660, 0x06F0, 0x0966, 0x09E6, 0x0A66, 0x0AE6, 0x0B66, 0x0BE6, 0x0C66, 0x0CE6, 0x0D66];
    let code = u32::from(c);
    let zero = ZEROS.iter().find(|zero| (**zero..**zero + 10).contains(&code))?;
    char::from_digit(code - zero, 10)
}

/// All digits of `raw`, in order and as ASCII, whatever stands between them.
#[must_use]
pub fn digits(raw: &str) -> String {
    raw.chars().filter_map(ascii_digit).collect()
}

/// Digits and whether a `+` stood before them.
struct Written {
    digits: String,
    plus: bool,
}

impl Written {
    /// Reads what consists of digits and the usual punctuation only, so that the parser below
    /// never sees an extension, a context or letters.
    fn read(raw: &str) -> Option<Self> {
        let mut written = Self { digits: String::new(), plus: false };
        for (index, c) in raw.trim().chars().enumerate() {
            if index >= MAX_CHARS {
                return None;
            }
            match c {
                '+' | '\u{FF0B}' if written.digits.is_empty() && !written.plus => written.plus = true,
                ' ' | '-' | '(' | ')' | '.' | '/' | '\u{a0}' | '\u{2010}'..='\u{2015}' => {}
                _ => written.digits.push(ascii_digit(c)?),
            }
        }
        let significant = written.digits.trim_start_matches('0').len();
        (MIN_DIGITS..=MAX_DIGITS).contains(&significant).then_some(written)
    }
}

/// The overwhelming majority of numbers where this runs, answered without the numbering plans
/// (whose metadata is only loaded when something else is asked).
fn indian_mobile(digits: &str, plus: bool, region: &str) -> Option<String> {
    let mobile = |national: &str| national.len() == 10 && national.as_bytes()[0] >= b'6';
    match digits.strip_prefix("91") {
        Some(national) if mobile(national) && (plus || region == "IN") => Some(digits.to_owned()),
        _ if region == "IN" && !plus && mobile(digits) => Some(format!("91{digits}")),
        _ => None,
    }
}

/// What the numbering plans make of a number.
struct Plan {
    digits: String,
    valid: bool,
}

fn international(digits: &str) -> Option<Plan> {
    parsed(None, &format!("+{digits}"))
}

fn parsed(country: Option<country::Id>, written: &str) -> Option<Plan> {
    let number = phonenumber::parse(country, written).ok()?;
    let e164: String = number.format().mode(Mode::E164).to_string();
    let digits = digits(&e164);
    (digits.len() <= MAX_DIGITS && number.code().value() != 0).then(|| Plan { digits, valid: number.is_valid() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_people_write() {
        for raw in [
            "919820011223",
            "+91 98200-11223",
            "+91 (98200) 11223",
            "9820011223",
            "09820011223",
            "00919820011223",
            "0091 98200 11223",
            "+९१ ९८२०० ११२२३",
        ] {
            assert_eq!(e164_digits(raw, "IN").as_deref(), Some("919820011223"), "{raw}");
        }
    }

    #[test]
    fn reads_other_countries() {
        assert_eq!(e164_digits("+44 7911 123456", "IN").as_deref(), Some("447911123456"));
        assert_eq!(e164_digits("447911123456", "IN").as_deref(), Some("447911123456"));
        assert_eq!(e164_digits("07911 123456", "GB").as_deref(), Some("447911123456"));
        assert_eq!(e164_digits("912240001234", "IN").as_deref(), Some("912240001234"));
        assert_eq!(e164_digits("022 4000 1234", "IN").as_deref(), Some("912240001234"));
        assert_eq!(e164_digits("+919820011223", "GB").as_deref(), Some("919820011223"));
    }

    #[test]
    fn refuses_what_is_no_number() {
        for raw in ["", "+", "12", "198", "Ananya", "call_9820011223", "1234567890123456789", "98200x11223"] {
            assert_eq!(e164_digits(raw, "IN"), None, "{raw}");
        }
        assert_eq!(e164_digits(&"9".repeat(10_000), "IN"), None);
        assert_eq!(e164_digits("9820011223", "nowhere"), e164_digits("9820011223", ""));
    }

    proptest! {
        #[test]
        fn never_panics(raw in ".{0,60}", region in "[A-Za-z]{0,3}") {
            let _ = e164_digits(&raw, &region);
        }

        #[test]
        fn never_panics_on_digits(raw in "[+0]{0,3}[0-9 ()-]{0,24}", region in "(IN|GB|US|DE|XX)") {
            if let Some(digits) = e164_digits(&raw, &region) {
                prop_assert!(digits.len() <= MAX_DIGITS && digits.bytes().all(|b| b.is_ascii_digit()));
            }
        }
    }
}
