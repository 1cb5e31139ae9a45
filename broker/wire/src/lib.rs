//! Kafka messages and record batches as bytes. No I/O, no clock.

pub mod batch;
pub mod compress;
pub mod ids;
