//! The log on a real disk with real threads: what is appended and committed is read, also after a stop, a kill and a restart.
//!
//! Owns: nothing but the list. Does not own: what a power loss leaves of a disk (`crash`).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod appended;
mod beginning;
mod cuts;
mod directory;
mod golden;
mod model;
mod removal;
mod sidecars;
mod support;
mod transactions;
