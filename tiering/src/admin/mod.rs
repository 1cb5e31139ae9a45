//! What an operator asks of a store: make it ready, show what it holds, prove that it is whole.
//!
//! Owns: `longhaul tier init|inspect|verify` as functions with plain, serialisable answers.
//! Does not own: how they are printed. None of them changes what a broker wrote.

mod init;
mod inspect;
mod verify;

pub use init::{InitError, InitReport, init};
pub use inspect::{
    InspectError, Inspection, PartitionInspection, SegmentInspection, TopicInspection, inspect,
};
pub use verify::{VerifyReport, verify};

#[cfg(test)]
pub(crate) use {inspect::inspect_store, verify::verify_store};
