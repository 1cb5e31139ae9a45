//! The records of `__consumer_offsets`, byte for byte as Apache Kafka 4.3 writes them, and as any Kafka since 0.9
//! wrote them for reading: a key with a two-byte version, a value with its own, a tombstone to forget.
//!
//! | key version | key | value |
//! |--|--|--|
//! | 0, 1 | group, topic, partition | [`OffsetValue`], written in version 4 with the topic id, else 3 |
//! | 2 | group | [`GroupValue`], written in version 3 |
//!
//! Keys of other versions belong to group protocols that are not served; they are passed over.

use bytes::Bytes;
use wire::ids::TopicId;

use crate::fields::{DamagedField, FieldReader, put_bytes, put_compact_text, put_text, put_varint};

const OFFSET_KEY: i16 = 1;
const GROUP_KEY: i16 = 2;
const GROUP_VALUE: i16 = 3;
const TOPIC_ID_TAG: u32 = 0;

/// The key of a record in `__consumer_offsets`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// An offset committed by a group for a partition.
    Offset {
        /// The group.
        group: String,
        /// The topic's name.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// A group.
    Group(String),
    /// A record of a protocol that is not served.
    Foreign(i16),
}

impl Key {
    /// The key's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        match self {
            Self::Offset { group, topic, partition } => {
                out.extend_from_slice(&OFFSET_KEY.to_be_bytes());
                put_text(&mut out, Some(group));
                put_text(&mut out, Some(topic));
                out.extend_from_slice(&partition.to_be_bytes());
            }
            Self::Group(group) => {
                out.extend_from_slice(&GROUP_KEY.to_be_bytes());
                put_text(&mut out, Some(group));
            }
            Self::Foreign(version) => out.extend_from_slice(&version.to_be_bytes()),
        }
        out
    }

    /// Reads a key.
    ///
    /// # Errors
    /// When a known key's bytes are damaged.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DamagedField> {
        let mut fields = FieldReader::new(bytes);
        match fields.i16("key version")? {
            0 | OFFSET_KEY => Ok(Self::Offset {
                group: fields.text(false, "group")?,
                topic: fields.text(false, "topic")?,
                partition: fields.i32("partition")?,
            }),
            GROUP_KEY => Ok(Self::Group(fields.text(false, "group")?)),
            version => Ok(Self::Foreign(version)),
        }
    }
}

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OffsetValue {
    /// The next offset the group will read.
    pub(crate) offset: i64,
    /// The leader epoch of the last record read, -1 when not known.
    pub(crate) leader_epoch: i32,
    /// The client's own note.
    pub(crate) metadata: String,
    /// When it was committed, milliseconds since 1970.
    pub(crate) commit_timestamp: i64,
    /// When it expires, in the old version 1 only.
    pub(crate) expire_timestamp: Option<i64>,
    /// The topic's id, so that a topic made anew under the same name does not inherit the offset.
    pub(crate) topic_id: Option<TopicId>,
}

impl OffsetValue {
    /// The value's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(48 + self.metadata.len());
        let version: i16 = if self.topic_id.is_some() { 4 } else { 3 };
        out.extend_from_slice(&version.to_be_bytes());
        out.extend_from_slice(&self.offset.to_be_bytes());
        out.extend_from_slice(&self.leader_epoch.to_be_bytes());
        match self.topic_id {
            Some(_) => put_compact_text(&mut out, &self.metadata),
            None => put_text(&mut out, Some(&self.metadata)),
        }
        out.extend_from_slice(&self.commit_timestamp.to_be_bytes());
        if let Some(TopicId(id)) = self.topic_id {
            put_varint(&mut out, 1);
            put_varint(&mut out, TOPIC_ID_TAG);
            put_varint(&mut out, 16);
            out.extend_from_slice(&id);
        }
        out
    }

    /// Reads a value of any version.
    ///
    /// # Errors
    /// When the bytes are damaged or the version is not known.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DamagedField> {
        let mut fields = FieldReader::new(bytes);
        let version = fields.i16("value version")?;
        if !(0..=4).contains(&version) {
            return Err(DamagedField { field: "value version" });
        }
        let flexible = version >= 4;
        let offset = fields.i64("offset")?;
        let leader_epoch = if version >= 3 { fields.i32("leader epoch")? } else { -1 };
        let metadata = fields.text(flexible, "metadata")?;
        let commit_timestamp = fields.i64("commit timestamp")?;
        let expire_timestamp = if version == 1 { Some(fields.i64("expire timestamp")?) } else { None };
        let mut topic_id = None;
        if flexible {
            fields.tagged(|tag, mut field| {
                if tag == TOPIC_ID_TAG {
                    topic_id = Some(TopicId(field.id("topic id")?));
                }
                Ok(())
            })?;
        }
        Ok(Self { offset, leader_epoch, metadata, commit_timestamp, expire_timestamp, topic_id })
    }
}

/// A group between rebalances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupValue {
    /// What the protocols are for; empty for a group that only holds offsets.
    pub(crate) protocol_type: String,
    /// The generation.
    pub(crate) generation: i32,
    /// The protocol chosen.
    pub(crate) protocol: Option<String>,
    /// The leader's member id.
    pub(crate) leader: Option<String>,
    /// Since when the group has been in its state, -1 when not known.
    pub(crate) current_state_timestamp: i64,
    /// The members.
    pub(crate) members: Vec<MemberValue>,
}

/// A member of a [`GroupValue`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemberValue {
    /// The member's id.
    pub(crate) member_id: String,
    /// The static identity, if any.
    pub(crate) group_instance_id: Option<String>,
    /// The client's own name.
    pub(crate) client_id: String,
    /// The peer's address.
    pub(crate) client_host: String,
    /// How long a rebalance waits for the member, milliseconds.
    pub(crate) rebalance_timeout_ms: i32,
    /// How long the member may stay silent, milliseconds.
    pub(crate) session_timeout_ms: i32,
    /// What the member offered for the protocol chosen.
    pub(crate) subscription: Bytes,
    /// What it was assigned.
    pub(crate) assignment: Bytes,
}

impl GroupValue {
    /// The value's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(&GROUP_VALUE.to_be_bytes());
        put_text(&mut out, Some(&self.protocol_type));
        out.extend_from_slice(&self.generation.to_be_bytes());
        put_text(&mut out, self.protocol.as_deref());
        put_text(&mut out, self.leader.as_deref());
        out.extend_from_slice(&self.current_state_timestamp.to_be_bytes());
        out.extend_from_slice(&(self.members.len() as i32).to_be_bytes());
        for member in &self.members {
            put_text(&mut out, Some(&member.member_id));
            put_text(&mut out, member.group_instance_id.as_deref());
            put_text(&mut out, Some(&member.client_id));
            put_text(&mut out, Some(&member.client_host));
            out.extend_from_slice(&member.rebalance_timeout_ms.to_be_bytes());
            out.extend_from_slice(&member.session_timeout_ms.to_be_bytes());
            put_bytes(&mut out, &member.subscription);
            put_bytes(&mut out, &member.assignment);
        }
        out
    }

    /// Reads a value of any version.
    ///
    /// # Errors
    /// When the bytes are damaged or the version is not known.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DamagedField> {
        let mut fields = FieldReader::new(bytes);
        let version = fields.i16("value version")?;
        if !(0..=4).contains(&version) {
            return Err(DamagedField { field: "value version" });
        }
        let flexible = version >= 4;
        let protocol_type = fields.text(flexible, "protocol type")?;
        let generation = fields.i32("generation")?;
        let protocol = fields.nullable_text(flexible, "protocol")?;
        let leader = fields.nullable_text(flexible, "leader")?;
        let current_state_timestamp = if version >= 2 { fields.i64("state timestamp")? } else { -1 };
        let count = fields.count(flexible, "members")?;
        let mut members = Vec::new();
        for _ in 0..count {
            members.push(MemberValue::decode(&mut fields, version)?);
        }
        Ok(Self { protocol_type, generation, protocol, leader, current_state_timestamp, members })
    }
}

impl MemberValue {
    fn decode(fields: &mut FieldReader<'_>, version: i16) -> Result<Self, DamagedField> {
        let flexible = version >= 4;
        let member_id = fields.text(flexible, "member id")?;
        let group_instance_id =
            if version >= 3 { fields.nullable_text(flexible, "group instance id")? } else { None };
        let client_id = fields.text(flexible, "client id")?;
        let client_host = fields.text(flexible, "client host")?;
        let rebalance_timeout = if version >= 1 { Some(fields.i32("rebalance timeout")?) } else { None };
        let session_timeout_ms = fields.i32("session timeout")?;
        let subscription = Bytes::from(fields.bytes(flexible, "subscription")?);
        let assignment = Bytes::from(fields.bytes(flexible, "assignment")?);
        if flexible {
            fields.tagged(|_, _| Ok(()))?;
        }
        Ok(Self {
            member_id,
            group_instance_id,
            client_id,
            client_host,
            rebalance_timeout_ms: rebalance_timeout.unwrap_or(session_timeout_ms),
            session_timeout_ms,
            subscription,
            assignment,
        })
    }
}
