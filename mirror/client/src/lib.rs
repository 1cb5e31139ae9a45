//! A lean client of any Kafka cluster: raw batches in, raw batches out.
