//! The append-only journal: every fact is one entry, dense from 0, hashed into a Merkle tree as it is written.
//!
//! Entries carry no personal data: they commit to a body by a salted hash, and body and salt stand beside them.
//! Appending is serialised in one writer task that commits whatever waits as one transaction. The journal does not
//! know what bodies mean: whoever keeps a table that follows from entries takes part as a [`Projection`], in the
//! same transaction. Nothing here updates or deletes an entry; bodies are erased only by an executed disposition.

mod body;
mod cursors;
mod entry;
mod moments;
mod projection;
mod read;
mod recent;
mod rows;
mod writer;

pub use body::{Body, SALT_BYTES};
pub use cursors::{CURSORS, advanced, impossible_cursors};
pub use entry::{DESTROYED, Entry, Kind};
pub use projection::{Projection, ProjectionError};
pub use read::{Filter, Head, Record, Step, Stored, about_in, damage_in_row};
pub use rows::erased;
pub use writer::{AppendError, Appended, Journal, NewEntry, Receipt, Understood};
