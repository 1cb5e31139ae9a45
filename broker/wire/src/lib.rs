//! Kafka messages and record batches as bytes. No I/O, no clock.
