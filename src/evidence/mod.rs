//! The arithmetic of a transparency log: leaf and node hashes and the frontier of the tree, as in RFC 6962.
//!
//! Pure: no I/O, no clock, no knowledge of what an entry says. Checkpoints, tiles and proofs are laid over the leaf
//! hashes that the journal keeps from its first entry on.

mod tree;

pub use tree::{Frontier, Hash, leaf_hash, node_hash};
