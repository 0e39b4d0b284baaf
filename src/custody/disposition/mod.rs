//! The end of what is kept: what is due is proposed, a second person approves, a time of grace passes, and then it is
//! destroyed, with a certificate.
//!
//! ```text
//! due ─▶ proposed ─▶ approved ─(grace)─▶ decided: in the store ─▶ each call: destroying ─▶ objects ─▶ destroyed ─▶ bodies ─▶ executed
//! ```
//! Nothing is destroyed here that is under a hold, or whose date by any policy in force is still to come. From the decision
//! on every step can be run again.

mod execute;
mod page;
mod records;
mod states;

pub use execute::{Executing, Progress};
pub use page::certificate_page;
pub use records::{Certificate, Decided, Executed, Item, Proposal, Skipped};
pub use states::{Disposition, DispositionProjection, DispositionState, Terms};
