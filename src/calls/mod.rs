//! Folds entries into calls, keeps the projection, and tells what is overdue.
//!
//! `facts` is the fold: a pure function that takes entries in any order and any number of times and gives the same
//! call, out of what was `stated`. `view` reads a call out of the facts. `project` keeps the tables in the transaction
//! that appends, `due` the queue of recordings that are awaited, `recent` what was just folded, for those who follow the
//! journal. Nothing here fetches, indexes or decides what is suspicious; what depends on a clock or on configuration
//! reaches the fold only as an entry.

mod damaged;
mod due;
mod facts;
mod objects;
mod project;
mod read;
mod recent;
pub mod records;
mod stated;
mod view;

pub use damaged::{DamagedRow, DamagedRows, Skipped};
pub use due::{Lane, host_of, mend_queue};
pub use facts::{Destroyed, Explanation, Facts, FlagFacts, FoldError, RecordingFacts, Review};
pub use objects::KeptObject;
pub use project::{CallProjection, Columns, RecordingRow};
pub use read::{AS_STORED, Calls, Readable, StoredCall, Stretch, Subjects, Work};
pub use stated::{Field, Stated, Value, Values};
pub use view::{Call, Customer, FlagView, RecordingState, RecordingView};
