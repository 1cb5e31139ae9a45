//! Batches against models, against themselves damaged, and against bytes that Kafka's own client wrote.

mod check;
mod golden;
mod headers;
mod records;
