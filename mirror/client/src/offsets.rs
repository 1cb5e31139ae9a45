//! Positions in a log: by time, by its ends (ListOffsets), and by leader epoch (OffsetForLeaderEpoch).
//!
//! Owns: Kafka's numbers for the places, the levels of isolation, when a question names a leader epoch.
//! Does not own: a group's positions (`group`), reading from a place on (`fetch`), what an epoch's end means for a
//! copy (`mirror`).

use std::collections::BTreeMap;
use std::sync::Arc;

use wire::api::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use wire::api::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use wire::{ApiKey, ErrorCode, LeaderEpoch, Offset, Text};

use crate::cluster::{Cluster, Lane};
use crate::error::{CallError, Nonsense, RequestError};
use crate::layout::{BrokerId, Leader, TopicPartition};

/// Which records a reader wants to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Isolation {
    /// All, up to the high watermark.
    #[default]
    ReadUncommitted,
    /// Those that are decided, up to the last stable offset.
    ReadCommitted,
}

impl Isolation {
    pub(crate) fn level(self) -> i8 {
        match self {
            Self::ReadUncommitted => 0,
            Self::ReadCommitted => 1,
        }
    }
}

/// A place in a log, to be found by the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The first record at or after this time, milliseconds since 1970.
    Time(i64),
    /// The first offset there is.
    Earliest,
    /// The end: the high watermark, or the last stable offset.
    Latest,
    /// The record with the greatest time (KIP-734; Kafka 3.0).
    MaxTimestamp,
    /// The first offset on the broker's own disk (KIP-405; Kafka 3.4).
    EarliestLocal,
    /// The last offset in the remote store (KIP-1005; Kafka 3.9).
    LatestTiered,
}

impl Place {
    /// Kafka's number for it, and the first version that knows it.
    fn on_the_wire(self) -> (i64, i16) {
        match self {
            Self::Time(timestamp_ms) => (timestamp_ms, 1),
            Self::Latest => (-1, 1),
            Self::Earliest => (-2, 1),
            Self::MaxTimestamp => (-3, 7),
            Self::EarliestLocal => (-4, 8),
            Self::LatestTiered => (-5, 9),
        }
    }
}

/// A place that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The partition.
    pub partition: TopicPartition,
    /// The offset; none when no record is there.
    pub offset: Option<Offset>,
    /// The record's time, milliseconds since 1970; -1 for the ends.
    pub timestamp_ms: i64,
    /// Epoch of the leader that wrote the record, or -1.
    pub leader_epoch: LeaderEpoch,
}

/// Whether a question names the leader epoch that the layout knows, so that a leader of another epoch refuses to answer
/// (KIP-320).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    Named,
    /// The leader is behind the layout, which never goes back. It may lag for a moment; if its cluster was restored
    /// from an older copy, it would never answer.
    Left,
}

impl Claim {
    fn after(self, error: &RequestError) -> Self {
        if error.code() == Some(ErrorCode::UNKNOWN_LEADER_EPOCH) { Self::Left } else { self }
    }

    fn of(self, leader: Leader) -> Leader {
        match self {
            Self::Named => leader,
            Self::Left => Leader { epoch: LeaderEpoch::NONE, ..leader },
        }
    }
}

/// The end of a leader epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// The greatest epoch at or below the one asked for; -1 when there is none.
    pub epoch: LeaderEpoch,
    /// The offset after its last record; -1 when there is none.
    pub end_offset: Offset,
}

impl Cluster {
    /// Finds places, each partition at its leader. The result is in the order of `asked`.
    ///
    /// # Errors
    /// [`RequestError`], once nothing was left to try.
    pub async fn list_offsets(
        &self,
        asked: &[(TopicPartition, Place)],
        isolation: Isolation,
    ) -> Result<Vec<Found>, RequestError> {
        let mut retry = self.retry();
        let mut claim = Claim::Named;
        loop {
            match self.try_list_offsets(asked, isolation, claim).await {
                Err(error) if retry.again(&error).await => claim = claim.after(&error),
                done => return done,
            }
        }
    }

    async fn try_list_offsets(
        &self,
        asked: &[(TopicPartition, Place)],
        isolation: Isolation,
        claim: Claim,
    ) -> Result<Vec<Found>, RequestError> {
        let mut by_leader: BTreeMap<BrokerId, Vec<(usize, Leader)>> = BTreeMap::new();
        for (index, (partition, _)) in asked.iter().enumerate() {
            let leader = claim.of(self.leader(partition).await?);
            by_leader.entry(leader.broker).or_default().push((index, leader));
        }
        let mut found = vec![None; asked.len()];
        for (broker, group) in by_leader {
            let connection = self.connection(broker, Lane::Control).await?;
            let first = group.iter().map(|(index, _)| asked[*index].1.on_the_wire().1).max().unwrap_or(1);
            let first = if isolation == Isolation::ReadCommitted { first.max(2) } else { first };
            let last = ApiKey::ListOffsets.api().served.1;
            let version = connection.version(ApiKey::ListOffsets, first, last)?;
            let request = list_request(asked, &group, isolation);
            let response: ListOffsetsResponse = connection.call(version, &request).await?;
            for (index, _) in group {
                let answer = found_in(&response, &asked[index].0).ok_or_else(|| CallError::Malformed {
                    api: ApiKey::ListOffsets,
                    broker: Arc::clone(connection.broker()),
                    fault: Nonsense::Missing(asked[index].0.to_string()),
                })?;
                let (code, place) = answer;
                self.heed(&asked[index].0, code, None);
                RequestError::check(ApiKey::ListOffsets, code, None)?;
                found[index] = Some(place);
            }
        }
        Ok(found.into_iter().map(|place| place.expect("every index is in one group")).collect())
    }

    /// Where a leader epoch ends in the partition's log now: what a reader that has records of that epoch compares
    /// its own end with (KIP-320).
    ///
    /// # Errors
    /// [`RequestError`], once nothing was left to try.
    pub async fn offset_for_leader_epoch(
        &self,
        partition: &TopicPartition,
        epoch: LeaderEpoch,
    ) -> Result<EpochEnd, RequestError> {
        let mut retry = self.retry();
        let mut claim = Claim::Named;
        loop {
            match self.try_offset_for_leader_epoch(partition, epoch, claim).await {
                Err(error) if retry.again(&error).await => claim = claim.after(&error),
                done => return done,
            }
        }
    }

    async fn try_offset_for_leader_epoch(
        &self,
        partition: &TopicPartition,
        epoch: LeaderEpoch,
        claim: Claim,
    ) -> Result<EpochEnd, RequestError> {
        let leader = claim.of(self.leader(partition).await?);
        let connection = self.connection(leader.broker, Lane::Control).await?;
        let (first, last) = ApiKey::OffsetForLeaderEpoch.api().served;
        let version = connection.version(ApiKey::OffsetForLeaderEpoch, first, last)?;
        let asked = OffsetForLeaderPartition {
            partition: partition.partition,
            current_leader_epoch: leader.epoch.0,
            leader_epoch: epoch.0,
        };
        let topic = OffsetForLeaderTopic { topic: Text::from(&*partition.topic), partitions: vec![asked] };
        let request = OffsetForLeaderEpochRequest { replica_id: -1, topics: vec![topic] };
        let response = connection.call(version, &request).await?;
        let answer = response
            .topics
            .iter()
            .filter(|topic| *topic.topic == *partition.topic)
            .flat_map(|topic| &topic.partitions)
            .find(|answer| answer.partition == partition.partition)
            .ok_or_else(|| CallError::Malformed {
                api: ApiKey::OffsetForLeaderEpoch,
                broker: Arc::clone(connection.broker()),
                fault: Nonsense::Missing(partition.to_string()),
            })?;
        self.heed(partition, answer.error_code, None);
        RequestError::check(ApiKey::OffsetForLeaderEpoch, answer.error_code, None)?;
        Ok(EpochEnd { epoch: LeaderEpoch(answer.leader_epoch), end_offset: Offset(answer.end_offset) })
    }
}

fn list_request(
    asked: &[(TopicPartition, Place)],
    group: &[(usize, Leader)],
    isolation: Isolation,
) -> ListOffsetsRequest {
    let mut topics: Vec<ListOffsetsTopic> = Vec::new();
    for (index, leader) in group {
        let (partition, place) = &asked[*index];
        if topics.last().is_none_or(|last| *last.name != *partition.topic) {
            topics.push(ListOffsetsTopic { name: Text::from(&*partition.topic), partitions: Vec::new() });
        }
        topics.last_mut().expect("one was pushed").partitions.push(ListOffsetsPartition {
            partition_index: partition.partition,
            current_leader_epoch: leader.epoch.0,
            timestamp: place.on_the_wire().0,
            ..Default::default()
        });
    }
    ListOffsetsRequest { replica_id: -1, isolation_level: isolation.level(), topics, ..Default::default() }
}

fn found_in(response: &ListOffsetsResponse, partition: &TopicPartition) -> Option<(wire::ErrorCode, Found)> {
    let answer = response
        .topics
        .iter()
        .filter(|topic| *topic.name == *partition.topic)
        .flat_map(|topic| &topic.partitions)
        .find(|answer| answer.partition_index == partition.partition)?;
    let found = Found {
        partition: partition.clone(),
        offset: Some(Offset(answer.offset)).filter(|offset| offset.0 >= 0),
        timestamp_ms: answer.timestamp,
        leader_epoch: LeaderEpoch(answer.leader_epoch),
    };
    Some((answer.error_code, found))
}
