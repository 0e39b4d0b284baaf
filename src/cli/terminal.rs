//! Text of senders on a terminal: what would move its cursor, clear it or turn its lines around is shown, not sent.

use std::fmt::Write;
use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// A progress bar where somebody sees it.
pub(super) fn bar() -> Option<ProgressBar> {
    std::io::stderr().is_terminal().then(|| {
        let style = ProgressStyle::with_template("{msg:<14} {wide_bar} {pos}/{len} {eta}");
        ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    })
}

/// `text` with control characters and marks of direction written out, as in `\u{1b}`.
pub(super) fn visible(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, c| {
        if c.is_control() || turns(c) {
            let _ = write!(shown, "{}", c.escape_unicode());
        } else {
            shown.push(c);
        }
        shown
    })
}

/// Marks that only change the direction of what stands around them, or end a line.
fn turns(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_text_only() {
        assert_eq!(visible("Ananya मीरा 🙂"), "Ananya मीरा 🙂");
        assert_eq!(visible("\u{1b}]0;x\u{7}\r\n\u{9b}2J"), "\\u{1b}]0;x\\u{7}\\u{d}\\u{a}\\u{9b}2J");
        assert_eq!(visible("a\u{202e}b\u{2066}\u{2028}"), "a\\u{202e}b\\u{2066}\\u{2028}");
    }
}
