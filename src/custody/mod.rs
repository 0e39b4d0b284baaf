//! Keeps what is kept for as long as it is to be kept, and no longer: follows the journal, moves locks to later dates, sets
//! and lifts legal holds, and carries out what was decided about the end.
//!
//! Which policy asks for what is said in `retention`, which is pure. Nothing here shortens anything; only an executed
//! disposition destroys.

mod kept;

pub use kept::{Judgeable, KeptRow, What};
