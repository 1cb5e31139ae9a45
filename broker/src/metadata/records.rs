//! The records of the metadata log: what the cluster is, which topics it has, which producer ids are taken.
//! `FORMAT-METADATA.md` beside this file draws the bytes; a change here is a new version there.
//!
//! Owns: those bytes, and the refusal of newer ones.
//! Does not own: the primitives (`fields`), what records add up to (`image`), the batch around them (`log`).

use wire::ids::TopicId;

use crate::fields::{DamagedField, FieldReader, put_text, put_varint};
use crate::topic_config::Overrides;

const CLUSTER: u8 = 1;
const TOPIC_CREATED: u8 = 2;
const PARTITIONS_ADDED: u8 = 3;
const TOPIC_CONFIGS: u8 = 4;
const TOPIC_DELETED: u8 = 5;
const PRODUCER_IDS: u8 = 6;
const VERSION: u8 = 0;

/// One change of the cluster's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MetadataRecord {
    /// Who this cluster is; the first record of a metadata log, and the last one that a rebuild from the store writes.
    Cluster {
        /// The cluster's id.
        cluster_id: TopicId,
        /// The name given by the user.
        name: String,
        /// This broker's id.
        broker_id: i32,
        /// How often the cluster was rebuilt from its store before this folder was made.
        recovery_generation: u32,
        /// When the cluster was made.
        created_ms: i64,
    },
    /// A topic is made.
    TopicCreated {
        /// Its id, never used again.
        topic_id: TopicId,
        /// Its name.
        name: String,
        /// How many partitions it has.
        partitions: i32,
        /// What was set explicitly.
        configs: Overrides,
        /// When.
        created_ms: i64,
    },
    /// A topic gets more partitions.
    PartitionsAdded {
        /// The topic.
        topic_id: TopicId,
        /// How many it has now.
        partitions: i32,
    },
    /// A topic's overrides are replaced.
    TopicConfigs {
        /// The topic.
        topic_id: TopicId,
        /// All that is set explicitly from now on.
        configs: Overrides,
    },
    /// A topic is deleted; its id stays known, so that entries of it left in the journal are passed over.
    TopicDeleted {
        /// The topic.
        topic_id: TopicId,
        /// When.
        deleted_ms: i64,
    },
    /// Producer ids below `next` are taken.
    ProducerIds {
        /// The first id not taken.
        next: i64,
    },
}

/// Why a metadata record cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MetadataRecordError {
    /// The bytes are not what they claim to be.
    #[error(transparent)]
    Damaged(#[from] DamagedField),
    /// Written by a newer program.
    #[error(
        "metadata record of kind {kind} version {version} is newer than this program knows: run the newer one"
    )]
    Unknown {
        /// The record's kind.
        kind: u8,
        /// Its version.
        version: u8,
    },
}

impl MetadataRecord {
    /// The record's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        match self {
            Self::Cluster { cluster_id, name, broker_id, recovery_generation, created_ms } => {
                out.extend_from_slice(&[CLUSTER, VERSION]);
                out.extend_from_slice(&cluster_id.0);
                put_text(&mut out, Some(name));
                out.extend_from_slice(&broker_id.to_be_bytes());
                out.extend_from_slice(&recovery_generation.to_be_bytes());
                out.extend_from_slice(&created_ms.to_be_bytes());
            }
            Self::TopicCreated { topic_id, name, partitions, configs, created_ms } => {
                out.extend_from_slice(&[TOPIC_CREATED, VERSION]);
                out.extend_from_slice(&topic_id.0);
                put_text(&mut out, Some(name));
                out.extend_from_slice(&partitions.to_be_bytes());
                put_overrides(&mut out, configs);
                out.extend_from_slice(&created_ms.to_be_bytes());
            }
            Self::PartitionsAdded { topic_id, partitions } => {
                out.extend_from_slice(&[PARTITIONS_ADDED, VERSION]);
                out.extend_from_slice(&topic_id.0);
                out.extend_from_slice(&partitions.to_be_bytes());
            }
            Self::TopicConfigs { topic_id, configs } => {
                out.extend_from_slice(&[TOPIC_CONFIGS, VERSION]);
                out.extend_from_slice(&topic_id.0);
                put_overrides(&mut out, configs);
            }
            Self::TopicDeleted { topic_id, deleted_ms } => {
                out.extend_from_slice(&[TOPIC_DELETED, VERSION]);
                out.extend_from_slice(&topic_id.0);
                out.extend_from_slice(&deleted_ms.to_be_bytes());
            }
            Self::ProducerIds { next } => {
                out.extend_from_slice(&[PRODUCER_IDS, VERSION]);
                out.extend_from_slice(&next.to_be_bytes());
            }
        }
        out
    }

    /// Reads a record.
    ///
    /// # Errors
    /// When the bytes are damaged, or of a kind or version not known.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, MetadataRecordError> {
        let mut fields = FieldReader::new(bytes);
        let kind = fields.u8("kind")?;
        let version = fields.u8("version")?;
        if version != VERSION {
            return Err(MetadataRecordError::Unknown { kind, version });
        }
        let record = match kind {
            CLUSTER => Self::Cluster {
                cluster_id: TopicId(fields.id("cluster id")?),
                name: fields.text(false, "cluster name")?,
                broker_id: fields.i32("broker id")?,
                recovery_generation: fields.i32("recovery generation")?.cast_unsigned(),
                created_ms: fields.i64("created")?,
            },
            TOPIC_CREATED => Self::TopicCreated {
                topic_id: TopicId(fields.id("topic id")?),
                name: fields.text(false, "topic name")?,
                partitions: fields.i32("partitions")?,
                configs: overrides(&mut fields)?,
                created_ms: fields.i64("created")?,
            },
            PARTITIONS_ADDED => Self::PartitionsAdded {
                topic_id: TopicId(fields.id("topic id")?),
                partitions: fields.i32("partitions")?,
            },
            TOPIC_CONFIGS => Self::TopicConfigs {
                topic_id: TopicId(fields.id("topic id")?),
                configs: overrides(&mut fields)?,
            },
            TOPIC_DELETED => Self::TopicDeleted {
                topic_id: TopicId(fields.id("topic id")?),
                deleted_ms: fields.i64("deleted")?,
            },
            PRODUCER_IDS => Self::ProducerIds { next: fields.i64("next producer id")? },
            kind => return Err(MetadataRecordError::Unknown { kind, version }),
        };
        if fields.remaining() > 0 {
            return Err(DamagedField { field: "end of record" }.into());
        }
        Ok(record)
    }
}

fn put_overrides(out: &mut Vec<u8>, configs: &Overrides) {
    put_varint(out, configs.len() as u32);
    for (name, value) in configs {
        put_text(out, Some(name));
        put_text(out, Some(value));
    }
}

fn overrides(fields: &mut FieldReader<'_>) -> Result<Overrides, DamagedField> {
    let mut configs = Overrides::new();
    for _ in 0..fields.varint("configs")? {
        configs.insert(fields.text(false, "config name")?, fields.text(false, "config value")?);
    }
    Ok(configs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples() -> Vec<(&'static str, MetadataRecord)> {
        let id = TopicId(*b"0123456789abcdef");
        let configs: Overrides = [("retention.ms".to_owned(), "-1".to_owned())].into();
        vec![
            (
                "010030313233343536373839616263646566000477657374000000010000000200000000000003e8",
                MetadataRecord::Cluster {
                    cluster_id: id,
                    name: "west".into(),
                    broker_id: 1,
                    recovery_generation: 2,
                    created_ms: 1000,
                },
            ),
            (
                "0200303132333435363738396162636465660007666c69676874730000000601000c726574656e74696f6e2e6d7300022d3100000000000003e8",
                MetadataRecord::TopicCreated {
                    topic_id: id,
                    name: "flights".into(),
                    partitions: 6,
                    configs: configs.clone(),
                    created_ms: 1000,
                },
            ),
            (
                "03003031323334353637383961626364656600000008",
                MetadataRecord::PartitionsAdded { topic_id: id, partitions: 8 },
            ),
            (
                "04003031323334353637383961626364656601000c726574656e74696f6e2e6d7300022d31",
                MetadataRecord::TopicConfigs { topic_id: id, configs },
            ),
            (
                "05003031323334353637383961626364656600000000000007d0",
                MetadataRecord::TopicDeleted { topic_id: id, deleted_ms: 2000 },
            ),
            ("060000000000000003e8", MetadataRecord::ProducerIds { next: 1000 }),
        ]
    }

    #[test]
    fn records_keep_their_bytes() {
        for (golden, record) in examples() {
            let bytes = record.encode();
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, golden, "{record:?}");
            assert_eq!(MetadataRecord::decode(&bytes), Ok(record));
        }
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        for (_, record) in examples() {
            let bytes = record.encode();
            for end in 0..bytes.len() {
                assert!(MetadataRecord::decode(&bytes[..end]).is_err(), "{record:?} cut at {end}");
            }
            let mut longer = bytes.clone();
            longer.push(0);
            assert!(MetadataRecord::decode(&longer).is_err());
            let mut newer = bytes;
            newer[1] = 9;
            assert!(matches!(
                MetadataRecord::decode(&newer),
                Err(MetadataRecordError::Unknown { version: 9, .. })
            ));
        }
    }
}
