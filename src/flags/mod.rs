//! Marks calls that somebody should look at, and takes a mark back once its reason is gone.
//!
//! `rules` decides, purely, from a call's facts, the thresholds and the time; `pattern` from the calls of one agent. The evaluator follows the journal for what
//! just changed and looks at the clock for what should have happened by now; what it finds becomes a fact only by an
//! entry that carries the rule, the threshold and the time. `again` evaluates the past with other thresholds, `review` works flags off, `sample` and
//! `sampler` have some calls reviewed at random. Who may is not decided here.

mod again;
mod evaluator;
mod out_of_hours;
mod pattern;
mod review;
mod rules;
mod sample;
mod sampled;
mod sampler;

pub use again::{Again, AgainError, Change, Listed, Preview};
pub use evaluator::Evaluator;
pub use review::{ReviewError, Reviewed, Reviewer, Verdict, Which, review, review_many};
pub use rules::{Finding, Rule, Rules, SILENT_SHARE, evaluate};
pub use sample::{Drawn, History, Part, Population, Seeded, Week, WeekOf, draw, subject};
pub use sampled::SampleWeek;
pub use sampler::{Sampler, SamplerError, Source};
