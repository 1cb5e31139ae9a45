//! The bounds of this crate; those of one module stand in it.
//!
//! Does not own: what options say instead (`connection`), how much one message may allocate
//! (`wire::codec::limits`).

/// Bytes asked of the socket at once when no frame is open.
pub const READ_BYTES: usize = 64 * 1024;

/// The largest answer that is taken unless the options say otherwise.
pub const RESPONSE_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Requests under way on one connection unless the options say otherwise. Five keep an idempotent producer in order.
pub const IN_FLIGHT_MAX: usize = 5;

/// Pieces handed to the socket in one call.
pub const WRITE_PIECES: usize = 64;

/// Topics named in one Metadata request.
pub const METADATA_TOPICS_MAX: usize = 1_000;

/// Connections of one cluster: brokers times lanes.
pub const CONNECTIONS_MAX: usize = 1_024;

/// Records that wait for one partition of a [`crate::Producer`].
pub const PRODUCER_QUEUE_RECORDS: usize = 10_000;

/// What a record batch may decompress to.
pub const BATCH_BUDGET_BYTES: usize = 256 * 1024 * 1024;
