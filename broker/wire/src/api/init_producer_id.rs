//! InitProducerId (key 22): hands out a producer id and epoch, or raises the epoch.
//!
//! Served: versions 0 to 5. Kafka 4.3 knows a version 6 (two-phase commit), unstable and not announced.
//! Behaviour: without a transactional id every call gives a new producer id.
//! Versions: 2 flexible; 3 a producer may name the id and epoch it has (KIP-360); 4 and 5 differ in error codes only.
//! Does not own: where new ids come from (`broker::broker`), who is fenced by an epoch (`hotlog::producers`).

use super::Api;
use crate::codec::Text;
use crate::error_code::ErrorCode;
use crate::message::messages;

/// How it is announced and framed.
pub const API: Api =
    Api { key: 22, name: "InitProducerId", served: (0, 5), advertised_since: 0, flexible_since: 2 };

messages! {
    flexible API.flexible_since;

    /// Asks for a producer id.
    InitProducerIdRequest {
        transactional_id: Option<Text> { null_since: 0 } = Some(Text::EMPTY),
        transaction_timeout_ms: i32,
        producer_id: i64 { since: 3 } = -1,
        producer_epoch: i16 { since: 3 } = -1,
    }

    /// The producer id.
    InitProducerIdResponse {
        throttle_time_ms: i32 { ignorable: true },
        error_code: ErrorCode,
        producer_id: i64 = -1,
        producer_epoch: i16,
    }
}
