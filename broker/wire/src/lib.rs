//! Kafka messages and record batches as bytes. No I/O, no clock.
//!
//! Reading order: [`ids`] and [`error_code`]; [`codec`], the primitives; [`message`], how messages are declared;
//! [`api`], one file for each; [`header`], what goes before a body; [`frame`], how frames lie on a connection; then
//! [`batch`], what records lie in, and [`compress`].
//!
//! Owns: the bytes of all that clients and brokers say, and of the batches that logs hold.
//! Does not own: what is done about it: answering (`broker`), asking (`client`), storing (`hotlog`).
//!
//! Invariants:
//!   A. No input panics, or makes this crate allocate more than [`codec::limits`] allow for the size of its frame.
//!   B. Records are never copied or looked into while a message is read or written.
//!   C. What one version says is read back from it unchanged, and as Kafka 4.3.1 reads it.

pub mod api;
pub mod batch;
pub mod codec;
pub mod compress;
pub mod error_code;
pub mod frame;
pub mod header;
pub mod ids;
pub mod message;

pub use api::{ApiKey, Request, RequestMessage, Response};
pub use codec::{DecodeError, EncodeError, Encoded, FileRange, Piece, Reader, Records, Text, Writer};
pub use error_code::ErrorCode;
pub use ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TopicId};
pub use message::Message;

#[cfg(test)]
mod tests;
