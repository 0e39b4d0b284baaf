//! A call's flags with what was said of them, and the form to say it.

use axum::extract::rejection::{FormRejection, PathRejection};
use axum::extract::{Form, Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::call::no_such_call;
use super::format::{Stamp, segment, sentence, shortened};
use super::rows::Terms;
use super::shell::{PageMay, shown};
use super::words::{self, Badge};
use crate::access::{Identity, Permission};
use crate::calls::records::ReviewState;
use crate::calls::{Call, FlagView};
use crate::flags::{Verdict, review};
use crate::web::WebState;
use crate::web::auth::ReviewFlags;
use crate::web::body::Timely;
use crate::web::error::{Error, Result};

/// A flag on the call's page.
pub(super) struct Flag {
    pub(super) rule: String,
    pub(super) name: String,
    pub(super) reason: String,
    pub(super) state: Badge,
    /// Somebody still has to look at it.
    pub(super) open: bool,
    pub(super) said: Option<Said>,
    /// Where to send what is to be thought of it; `None` for who may not.
    pub(super) form: Option<String>,
    /// It is being looked into already.
    pub(super) begun: bool,
}

/// What somebody said of a flag.
pub(super) struct Said {
    pub(super) by: String,
    pub(super) at: Stamp,
    pub(super) outcome: Option<String>,
}

/// The flags of a call, those first that somebody has to look at; and whether it is the reader's own call, which somebody
/// else has to review.
pub(super) fn flags(call: &Call, identity: &Identity, terms: &Terms<'_>) -> (Vec<Flag>, bool) {
    let own = call.agents().any(|agent| identity.reviewer().is_any(agent));
    let may = identity.role.may(Permission::ReviewFlags) && !own;
    let mut flags: Vec<Flag> = call.flags.iter().map(|flag| of(flag, call, may, terms)).collect();
    flags.sort_by_key(|flag| !flag.open);
    let to_review = flags.iter().any(|flag| flag.open);
    (flags, own && to_review && identity.role.may(Permission::ReviewFlags))
}

fn of(flag: &FlagView, call: &Call, may: bool, terms: &Terms<'_>) -> Flag {
    let open = matches!(flag.state.as_str(), "open" | "in_review");
    let said = flag.review.as_ref().map(|review| Said {
        by: shortened(review.reviewer.strip_prefix("token:").unwrap_or(&review.reviewer), 80),
        at: Stamp::new(review.at, terms.tz),
        outcome: review.outcome.clone(),
    });
    Flag {
        name: words::rule(&flag.rule),
        reason: sentence(&flag.reason),
        state: words::flag_state(&flag.state),
        open,
        said,
        form: (may && open).then(|| format!("/calls/{}/flags/{}/review", segment(&call.call_id), segment(&flag.rule))),
        begun: flag.state == "in_review",
        rule: flag.rule.clone(),
    }
}

#[derive(Deserialize)]
pub(super) struct ReviewForm {
    state: ReviewState,
    #[serde(default)]
    outcome: String,
    #[serde(default)]
    note: String,
}

/// Takes what somebody thinks of a flag, and shows the call.
pub(super) async fn take(
    may: PageMay<ReviewFlags>,
    State(state): State<WebState>,
    about: std::result::Result<Path<(String, String)>, PathRejection>,
    form: Timely<Form<ReviewForm>, FormRejection>,
) -> Response {
    let taken = async {
        let Ok(Path((call_id, rule))) = about else { return Err(no_such_call()) };
        let verdict = verdict(form)?;
        let (app, reviewer) = (&state.app, may.identity().reviewer());
        review(&app.journal, &app.calls, (&call_id, &rule), &verdict, &reviewer).await?;
        Ok(Redirect::to(&format!("/calls/{}?reviewed={}#flags", segment(&call_id), verdict.state.as_str()))
            .into_response())
    };
    shown(may.who(), taken.await)
}

fn verdict(form: Timely<Form<ReviewForm>, FormRejection>) -> Result<Verdict> {
    match form {
        Timely::Here(Form(form)) => Ok(Verdict::new(form.state, Some(form.outcome), Some(form.note))?),
        Timely::Late => Err(Error::TooSlow),
        Timely::Unreadable(_) => {
            Err(Error::BadRequest("Choose what is to be thought of the flag, and send the form again.".into()))
        }
    }
}
