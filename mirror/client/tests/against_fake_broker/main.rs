//! The client against a broker that does what a test tells it to.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod broker;
mod cluster;
mod connection;
mod waits;
