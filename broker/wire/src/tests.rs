//! Tests that go over all messages at once, and what they need: random instances and a counting allocator.

pub(crate) mod allocation;
mod hostile;
mod kafka_protocol;
mod requests;
mod round_trip;
pub(crate) mod sample;
mod versions;
