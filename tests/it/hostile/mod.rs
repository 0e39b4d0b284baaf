//! What comes from outside and means harm, or might as well: texts, addresses, recordings, floods. Nothing is lost,
//! nothing leaks, nobody else waits for it.

mod addresses;
mod audio;
mod content;
mod flood;
mod limits;
mod secrets;
