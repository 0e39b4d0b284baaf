//! The one place where object keys are built.

use jiff::civil::Date;

/// The key of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectKey {
    /// `recordings/YYYY/MM/DD/<call key>/<sha256>.<ext>`
    Recording { day: Date, call_key: String, sha256: String, extension: String },
    /// The call record beside it: `<sha256>.vcon.json`
    CallRecord { day: Date, call_key: String, sha256: String },
    /// `doctor/probe`, at which a remote store is tried.
    Probe,
    /// A key that was built here before and stands in the journal.
    Journaled(String),
}

impl ObjectKey {
    /// Where all recordings and call records lie.
    pub const RECORDINGS: &'static str = "recordings/";
    /// Where decisions about destruction lie, and the certificates.
    pub const DISPOSITIONS: &'static str = "dispositions/";

    /// The key as the store sees it.
    #[must_use]
    pub fn path(&self) -> String {
        let folder = |day: &Date, call_key: &str| {
            format!("{}{:04}/{:02}/{:02}/{call_key}", Self::RECORDINGS, day.year(), day.month(), day.day())
        };
        match self {
            Self::Recording { day, call_key, sha256, extension } => {
                format!("{}/{sha256}.{extension}", folder(day, call_key))
            }
            Self::Probe => "doctor/probe".into(),
            Self::Journaled(path) => path.clone(),
            Self::CallRecord { day, call_key, sha256 } => format!("{}/{sha256}.vcon.json", folder(day, call_key)),
        }
    }

    /// The next key beside one that somebody has taken: `<sha256>-2.<ext>`, then `-3`.
    #[must_use]
    pub fn beside(path: &str) -> String {
        let (folder, name) = path.rfind('/').map_or(("", path), |slash| path.split_at(slash + 1));
        let (stem, extension) = name.find('.').map_or((name, ""), |dot| name.split_at(dot));
        let numbered = stem.rsplit_once('-').and_then(|(stem, number)| Some((stem, number.parse::<u32>().ok()? + 1)));
        let (stem, number) = numbered.unwrap_or((stem, 2));
        format!("{folder}{stem}-{number}{extension}")
    }
}

/// True for keys that name a file below the root and nothing else: no empty, hidden or climbing part.
pub(super) fn is_sound(key: &str) -> bool {
    !key.is_empty()
        && key.split('/').all(|part| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.len() <= 200
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.%~".contains(&b))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_as_documented() {
        let day = "2026-03-09".parse().unwrap();
        let key = ObjectKey::Recording { day, call_key: "call_1".into(), sha256: "ab".into(), extension: "mp3".into() };
        assert_eq!(key.path(), "recordings/2026/03/09/call_1/ab.mp3");
        let key = ObjectKey::CallRecord { day, call_key: "call_1".into(), sha256: "ab".into() };
        assert_eq!(key.path(), "recordings/2026/03/09/call_1/ab.vcon.json");
    }

    #[test]
    fn beside_what_is_taken() {
        let second = ObjectKey::beside("recordings/2026/03/09/call-1/ab.vcon.json");
        assert_eq!(second, "recordings/2026/03/09/call-1/ab-2.vcon.json");
        assert_eq!(ObjectKey::beside(&second), "recordings/2026/03/09/call-1/ab-3.vcon.json");
        assert_eq!(ObjectKey::beside("ab"), "ab-2");
    }

    #[test]
    fn nothing_climbs() {
        for key in ["", "/a", "a//b", "../a", "a/../b", "a/.b", "a\\b", "a/b\0", "a b"] {
            assert!(!is_sound(key), "{key:?}");
        }
        assert!(is_sound("recordings/2026/03/09/%2E%2E%2F/ab.vcon.json"));
    }
}
