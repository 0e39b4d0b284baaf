//! Why a fetch did not give a recording, and when to try again. Texts hold nothing of the URL but its host.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use super::rules::Refusal;
use crate::clock::Clock;

/// The longest pause between two attempts, in the archive's own rhythm.
const MAX_PAUSE: Duration = Duration::from_secs(15 * 60);
/// The longest pause that the sender may ask for.
const MAX_ASKED: Duration = Duration::from_secs(6 * 3600);

/// What went wrong with one attempt.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// Trying again would change nothing.
    #[error("{0}")]
    Final(String),
    /// Worth another attempt, after the pause that the sender asked for or our own.
    #[error("{reason}")]
    Passing { reason: String, after: Option<Duration> },
    /// The fault is ours: tried again for as long as it lasts, and no attempt of the sender's.
    #[error("{0}")]
    Own(String),
}

impl FetchError {
    pub(super) fn passing(reason: impl Into<String>) -> Self {
        Self::Passing { reason: reason.into(), after: None }
    }

    /// What an answer other than 200 means.
    pub(super) fn of_status(status: StatusCode, headers: &HeaderMap, clock: &Clock) -> Self {
        let reason = format!("the sender answered {}", status.as_u16());
        let passing = matches!(status.as_u16(), 401 | 403 | 404 | 408 | 425 | 429)
            || status.is_server_error()
            || status.is_success();
        if passing { Self::Passing { reason, after: retry_after(headers, clock) } } else { Self::Final(reason) }
    }

    /// What a broken connection means. The client's own text may repeat the URL with the key, so it is never shown.
    pub(super) fn of_client(error: &reqwest::Error) -> Self {
        if let Some(refusal) = super::resolve::refusal_in(error) {
            // A name may lead elsewhere by the next attempt; nothing was dialled.
            return Self::passing(refusal.to_string());
        }
        Self::passing(if error.is_timeout() {
            "the sender took too long"
        } else if error.is_connect() {
            "the sender could not be reached"
        } else {
            "the recording broke off on its way"
        })
    }
}

impl From<Refusal> for FetchError {
    fn from(refusal: Refusal) -> Self {
        Self::Final(refusal.to_string())
    }
}

/// RFC 9110, section 10.2.3: seconds or a date.
fn retry_after(headers: &HeaderMap, clock: &Clock) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let pause = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
            Duration::try_from(date.duration_since(clock.now())).ok()?
        }
    };
    Some(pause.min(MAX_ASKED))
}

/// The pause before the next attempt: doubles each time, with up to a fifth of jitter, never more than 15 minutes.
pub(super) fn pause(base: Duration, attempts: u64) -> Duration {
    let doubled = base.saturating_mul(1 << attempts.saturating_sub(1).min(20)).min(MAX_PAUSE);
    doubled.mul_f64(0.8 + 0.2 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        let base = Duration::from_secs(5);
        for (attempts, most) in [(1, 5), (2, 10), (3, 20), (8, 640), (9, 900), (1000, 900)] {
            let pause = pause(base, attempts).as_secs_f64();
            assert!(pause <= f64::from(most) && pause >= f64::from(most) * 0.8, "{attempts}: {pause}");
        }
    }

    #[test]
    fn the_sender_may_ask_for_a_pause() {
        let clock = Clock::from_fn(|| "2026-03-09T05:15:41Z".parse().unwrap());
        let asked = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers, &clock).map(|pause| pause.as_secs())
        };
        assert_eq!(asked("7"), Some(7));
        assert_eq!(asked("Mon, 09 Mar 2026 05:16:41 GMT"), Some(60));
        assert_eq!(asked("99999999"), Some(6 * 3600));
        assert_eq!(asked("soon"), None);
    }

    #[test]
    fn which_answers_are_final() {
        let clock = Clock::system();
        let kind = |code: u16| FetchError::of_status(StatusCode::from_u16(code).unwrap(), &HeaderMap::new(), &clock);
        for code in [401, 403, 404, 408, 425, 429, 500, 503, 204] {
            assert!(matches!(kind(code), FetchError::Passing { .. }), "{code}");
        }
        for code in [400, 405, 410, 451] {
            assert!(matches!(kind(code), FetchError::Final(_)), "{code}");
        }
    }
}
