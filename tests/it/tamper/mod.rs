//! One finished archive, damaged in one place at a time: `verify` finds it and names it, or it is on the list of what
//! can't be found, with the reason.

mod archive;
mod data_dir;
mod database;
mod exceptions;
mod files;
mod index;
mod rows;
mod while_serving;
