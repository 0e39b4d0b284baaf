//! Names as they are compared: which words a text has, and in which form.
//!
//! One function serves the index and the query, so that both always agree. It is right for Latin
//! and Indic scripts: tantivy's own tokenizer splits at a virama. It does **not** stem, transliterate
//! or guess at spelling.

use sha2::{Digest, Sha256};
use tantivy::tokenizer::{Token, TokenStream, Tokenizer};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;
use unicode_segmentation::UnicodeSegmentation;

/// Longer words are cut, in the index as in the query.
const MAX_WORD_CHARS: usize = 64;
/// Of a text that a sender made longer than any name, only so many words are indexed.
const MAX_WORDS: usize = 256;
/// Terms up to this many bytes are indexed as they are.
const MAX_TERM_BYTES: usize = 400;

/// The words of `text` in the form in which they are compared: NFKC, lower case, Latin letters
/// without diacritics, Indic signs kept, apostrophes dropped.
#[must_use]
pub fn words(text: &str) -> Vec<String> {
    let folded = fold(text);
    folded
        .unicode_words()
        .flat_map(|word| word.split(|c: char| !(c.is_alphanumeric() || is_combining_mark(c))))
        .filter(|word| !word.is_empty())
        .map(|word| word.chars().take(MAX_WORD_CHARS).collect())
        .take(MAX_WORDS)
        .collect()
}

/// `name` with a space for each apostrophe, if it has any: "O'Brien" is found by "brien" as well as by "obrien".
#[must_use]
pub fn at_apostrophes(name: &str) -> Option<String> {
    const APOSTROPHES: [char; 3] = ['\'', '\u{2019}', '\u{2bc}'];
    name.contains(APOSTROPHES).then(|| name.replace(APOSTROPHES, " "))
}

fn fold(text: &str) -> String {
    let lower: String = text.nfkc().flat_map(char::to_lowercase).collect();
    let mut latin = false;
    let mut folded = String::with_capacity(lower.len());
    for c in lower.nfd() {
        match c {
            // Combining diacritics mean nothing to whoever searches "Jose"; on other scripts they
            // make another letter.
            '\u{300}'..='\u{36f}' if latin => continue,
            // Apostrophes, and the joiners that only change how Indic text is drawn.
            '\'' | '\u{2019}' | '\u{2bc}' | '\u{200c}' | '\u{200d}' => continue,
            'ß' => folded.push_str("ss"),
            'æ' => folded.push_str("ae"),
            'œ' => folded.push_str("oe"),
            'ø' => folded.push('o'),
            'đ' | 'ð' => folded.push('d'),
            'ł' => folded.push('l'),
            'ı' => folded.push('i'),
            other => folded.push(other),
        }
        latin = c.is_ascii_alphabetic() || ('\u{c0}'..='\u{24f}').contains(&c);
    }
    folded.nfc().collect()
}

/// `value` as an index term: itself, or if it is too long for one its beginning and its hash.
/// A value that went through once comes out unchanged.
#[must_use]
pub fn term(value: &str) -> String {
    const HASH_CHARS: usize = 1 + 32;
    if value.len() <= MAX_TERM_BYTES {
        return value.to_owned();
    }
    let mut end = MAX_TERM_BYTES - HASH_CHARS;
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}~{}", &value[..end], hex(&Sha256::digest(value)[..16]))
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
        .map(char::from)
        .collect()
}

/// A list of terms with rising positions, as tantivy wants to read it.
pub(super) struct Terms {
    terms: std::vec::IntoIter<String>,
    token: Token,
}

impl Terms {
    pub(super) fn new(terms: Vec<String>) -> Self {
        Self { terms: terms.into_iter(), token: Token::default() }
    }
}

impl TokenStream for Terms {
    fn advance(&mut self) -> bool {
        let Some(text) = self.terms.next() else { return false };
        // A fresh token's position is usize::MAX, so that the first one becomes 0.
        self.token.position = self.token.position.wrapping_add(1);
        self.token.text = text;
        true
    }

    fn token(&self) -> &Token {
        &self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        &mut self.token
    }
}

/// [`words`] as a tantivy tokenizer.
#[derive(Clone)]
pub(super) struct NameTokenizer;

impl Tokenizer for NameTokenizer {
    type TokenStream<'a> = Terms;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> Terms {
        Terms::new(words(text))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn splits_and_folds() {
        for (text, expected) in [
            ("Ananya Kulkarni", vec!["ananya", "kulkarni"]),
            ("José  MÜLLER-Straße", vec!["jose", "muller", "strasse"]),
            ("S.R.Kumar", vec!["s", "r", "kumar"]),
            ("O'Brien O’Brien", vec!["obrien", "obrien"]),
            ("मीरा शर्मा", vec!["मीरा", "शर्मा"]),
            ("क\u{958}र", vec!["क\u{915}\u{93c}र"]),
            ("শ্রীমতী রায়", vec!["শ্রীমতী", "রায\u{9bc}"]),
            ("ＡＮＡ ﬁn", vec!["ana", "fin"]),
            ("Ravi_K 7", vec!["ravi", "k", "7"]),
            (" -- ", vec![]),
        ] {
            assert_eq!(words(text), expected, "{text}");
        }
    }

    #[test]
    fn long_terms_are_stable() {
        let long = "ा".repeat(1000);
        assert_eq!(term(&term(&long)), term(&long));
        assert!(term(&long).len() <= MAX_TERM_BYTES);
        assert_ne!(term(&long), term(&format!("{long}x")));
        assert_eq!(term("call_7Qm2"), "call_7Qm2");
    }

    proptest! {
        #[test]
        fn words_are_words(text in ".{0,80}") {
            for word in words(&text) {
                let again = words(&word);
                prop_assert!(again.len() <= 1 || word.chars().count() == MAX_WORD_CHARS || !again.is_empty());
            }
        }
    }
}
