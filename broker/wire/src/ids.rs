//! Identifiers that Kafka's protocol and log share, each a type of its own so that none is taken for another.
//!
//! Owns: their text forms and reserved values. Does not own: how they are chosen; this crate has no randomness.

use std::fmt;
use std::str::FromStr;

/// A topic's 128-bit identity, never used twice, whatever the topic's name (KIP-516).
///
/// Its text form is Kafka's: 22 characters of URL-safe base64 without padding.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub [u8; 16]);

impl TopicId {
    /// "No id": what requests that name a topic by its name carry.
    pub const ZERO: TopicId = TopicId([0; 16]);

    /// The fixed id of Kafka's metadata log, the topic `__cluster_metadata`.
    pub const CLUSTER_METADATA: TopicId = TopicId([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

    /// Whether this is [`TopicId::ZERO`].
    pub fn is_zero(self) -> bool {
        self == TopicId::ZERO
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const TEXT_LENGTH: usize = 22;

impl fmt::Display for TopicId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = u128::from_be_bytes(self.0);
        let mut text = [0; TEXT_LENGTH];
        for (place, character) in text.iter_mut().enumerate() {
            // The first 21 characters carry six bits each; the last carries two, padded with zeros.
            let sextet = match place {
                21 => (number << 4) & 0x3f,
                _ => (number >> (122 - 6 * place)) & 0x3f,
            };
            *character = ALPHABET[sextet as usize];
        }
        formatter.pad(std::str::from_utf8(&text).expect("the alphabet is ascii"))
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TopicId({self})")
    }
}

/// Text that is not a topic id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a topic id is 22 characters of url-safe base64, such as AAAAAAAAAAAAAAAAAAAAAQ")]
pub struct ParseTopicIdError;

impl FromStr for TopicId {
    type Err = ParseTopicIdError;

    fn from_str(text: &str) -> Result<TopicId, ParseTopicIdError> {
        if text.len() != TEXT_LENGTH {
            return Err(ParseTopicIdError);
        }
        let mut number: u128 = 0;
        for (place, character) in text.bytes().enumerate() {
            let sextet =
                ALPHABET.iter().position(|&letter| letter == character).ok_or(ParseTopicIdError)? as u128;
            number = match place {
                // Bits that no id has would make two texts of one id.
                21 if sextet & 0x0f != 0 => return Err(ParseTopicIdError),
                21 => (number << 2) | (sextet >> 4),
                _ => (number << 6) | sextet,
            };
        }
        Ok(TopicId(number.to_be_bytes()))
    }
}

macro_rules! number_ids {
    ($( $(#[$meta:meta])* $name:ident($number:ty); )+) => { $(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $number);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl From<$number> for $name {
            fn from(number: $number) -> $name {
                $name(number)
            }
        }
    )+ };
}

number_ids! {
    /// The place of a record in its partition, counted from 0.
    Offset(i64);
    /// The number of a partition's leadership; it rises with each new leader (KIP-101).
    LeaderEpoch(i32);
    /// The number that a broker hands to an idempotent producer (KIP-98).
    ProducerId(i64);
    /// The generation of a producer id; a higher one fences the lower (KIP-98).
    ProducerEpoch(i16);
}

impl LeaderEpoch {
    /// "Unknown": written by clients that do not track epochs.
    pub const NONE: LeaderEpoch = LeaderEpoch(-1);
}

impl ProducerId {
    /// "Not idempotent": the producer id of a batch that no sequence protects.
    pub const NONE: ProducerId = ProducerId(-1);
}

impl ProducerEpoch {
    /// The epoch that goes with [`ProducerId::NONE`].
    pub const NONE: ProducerEpoch = ProducerEpoch(-1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn topic_ids_read_as_kafka_writes_them() {
        // From Kafka: Uuid.ZERO_UUID, Uuid.METADATA_TOPIC_ID, and Uuid(0x0123456789abcdef, 0xfedcba9876543210).
        assert_eq!(TopicId::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(TopicId::CLUSTER_METADATA.to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        let id = TopicId(0x0123_4567_89ab_cdef_fedc_ba98_7654_3210_u128.to_be_bytes());
        assert_eq!(id.to_string(), "ASNFZ4mrze_-3LqYdlQyEA");
    }

    #[test]
    fn malformed_topic_ids_are_refused() {
        for text in [
            "",
            "AAAAAAAAAAAAAAAAAAAAA",
            "AAAAAAAAAAAAAAAAAAAAAB",
            "AAAAAAAAAAAAAAAAAAAAA=",
            "AAAAAAAAAAAAAAAAAAAAé",
        ] {
            assert_eq!(text.parse::<TopicId>(), Err(ParseTopicIdError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn topic_id_text_round_trips(bytes: [u8; 16]) {
            prop_assert_eq!(TopicId(bytes).to_string().parse(), Ok(TopicId(bytes)));
        }
    }
}
