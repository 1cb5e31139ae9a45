//! Real clients, called as a user would call them.
//!
//! Owns: one driver per client. Does not own: what the tests expect of them.

pub mod exchange;
pub mod java;
pub mod kcat;
pub mod python;
