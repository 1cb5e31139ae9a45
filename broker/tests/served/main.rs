//! A broker that is served in the test's own process: what it answers, and what it makes of hostile bytes.
//!
//! Owns: nothing but the list. Does not own: real clients and real processes (crate `tests`).

#![allow(missing_docs, reason = "a test has no users")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod answers;
mod hostile_input;
mod support;
