//! Fetch: whole batches of any number of partitions, from one broker, as bytes.
//!
//! Owns: one round: the request, and an answer for each partition asked for.
//! Does not own: who leads (`cluster`), what is in the bytes (`isolation`, `consumer`), when to ask again and from
//! where.
//!
//! Versions 4 to 18; topics by id where both sides know it (13 on), else by name. Without fetch sessions: every
//! request names its partitions, every answer all of them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use wire::api::fetch::{
    AbortedTransaction, FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData,
};
use wire::{ApiKey, ErrorCode, LeaderEpoch, Offset, Text, TopicId};

use crate::cluster::{Cluster, Lane};
use crate::error::{CallError, Nonsense, RequestError};
use crate::layout::{BrokerId, TopicPartition};
use crate::offsets::Isolation;

/// The last version that speaks of topics by name.
const BY_NAME_LAST: i16 = 12;
/// The first version in which a broker tells where its log has parted from the asker's.
const DIVERGENCE_SINCE: i16 = 12;

/// What to fetch from one broker.
#[derive(Clone, Debug)]
pub struct FetchRound {
    /// The partitions; the broker goes through them in this order.
    pub partitions: Vec<FetchFrom>,
    /// How long the broker may wait for `min_bytes`.
    pub max_wait: Duration,
    /// What the broker waits for.
    pub min_bytes: i32,
    /// For all of the answer; the first batch comes even if it is larger.
    pub max_bytes: i32,
    /// Whether records of open transactions are wanted.
    pub isolation: Isolation,
    /// The connection to use, by what else may wait behind it.
    pub lane: Lane,
}

/// One partition to fetch.
#[derive(Clone, Debug)]
pub struct FetchFrom {
    /// The partition.
    pub partition: TopicPartition,
    /// The topic's id, or [`TopicId::ZERO`]: a topic made again under the name is then not noticed.
    pub topic_id: TopicId,
    /// The next offset wanted. The batch that holds it comes whole.
    pub offset: Offset,
    /// The leader epoch that the asker believes in, or -1.
    pub leader_epoch: LeaderEpoch,
    /// The epoch of the last record that the asker has, or -1: a log that has parted from it is told (KIP-595).
    pub last_fetched_epoch: LeaderEpoch,
    /// For this partition; the first batch comes even if it is larger.
    pub max_bytes: i32,
}

/// What a broker had for one partition.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The partition.
    pub partition: TopicPartition,
    /// Kafka's code; the cluster has taken notice where it concerns leadership.
    pub code: ErrorCode,
    /// The end of what is replicated.
    pub high_watermark: Offset,
    /// The end of what is decided; -1 where it is not known.
    pub last_stable_offset: Offset,
    /// The first offset there is; -1 where it is not known.
    pub log_start_offset: Offset,
    /// Transactions in the range whose records do not count, by producer and first offset.
    pub aborted: Vec<AbortedTransaction>,
    /// Where the log has parted from `last_fetched_epoch`: the epoch before that, and its end.
    pub diverging: Option<(LeaderEpoch, Offset)>,
    /// A nearer broker to read from.
    pub preferred_broker: Option<BrokerId>,
    /// Whole batches one after the other, the last perhaps cut short; shares the answer's memory.
    pub records: Bytes,
}

impl Cluster {
    /// Fetches from `broker`, which [`Cluster::leader`] names. Every partition asked for is in the result, in order.
    ///
    /// # Errors
    /// [`RequestError`] for the request as a whole; what concerns one partition is its code.
    pub async fn fetch(&self, broker: BrokerId, round: &FetchRound) -> Result<Vec<Fetched>, RequestError> {
        let connection = self.connection(broker, round.lane).await?;
        let by_id = round.partitions.iter().all(|from| !from.topic_id.is_zero());
        let (first, last) = ApiKey::Fetch.api().served;
        let version = connection.version(ApiKey::Fetch, first, if by_id { last } else { BY_NAME_LAST })?;
        let request = request(round, version);
        let response: FetchResponse = connection.call_waiting(version, &request, round.max_wait).await?;
        RequestError::check(ApiKey::Fetch, response.error_code, None)?;
        let malformed = |missing: String| CallError::Malformed {
            api: ApiKey::Fetch,
            broker: Arc::clone(connection.broker()),
            fault: Nonsense::Missing(missing),
        };
        let mut answers = Answers::new(response, version > BY_NAME_LAST);
        let mut all = Vec::with_capacity(round.partitions.len());
        for from in &round.partitions {
            let data = answers.take(from).ok_or_else(|| malformed(from.partition.to_string()))?;
            let hint =
                (BrokerId(data.current_leader.leader_id), LeaderEpoch(data.current_leader.leader_epoch));
            self.heed(&from.partition, data.error_code, Some(hint));
            all.push(fetched(from, data));
        }
        Ok(all)
    }
}

/// Partitions of one topic that follow each other share its entry.
fn request(round: &FetchRound, version: i16) -> FetchRequest {
    let by_id = version > BY_NAME_LAST;
    let mut topics: Vec<FetchTopic> = Vec::new();
    let mut last: Option<&FetchFrom> = None;
    for from in &round.partitions {
        let same = last.is_some_and(|last| {
            last.partition.topic == from.partition.topic && last.topic_id == from.topic_id
        });
        if !same {
            let topic = if by_id { Text::EMPTY } else { Text::from(&*from.partition.topic) };
            let topic_id = if by_id { from.topic_id } else { TopicId::ZERO };
            topics.push(FetchTopic { topic, topic_id, partitions: Vec::new() });
        }
        last = Some(from);
        topics.last_mut().expect("one was pushed").partitions.push(FetchPartition {
            partition: from.partition.partition,
            current_leader_epoch: from.leader_epoch.0,
            fetch_offset: from.offset.0,
            // Older brokers are asked by OffsetForLeaderEpoch instead.
            last_fetched_epoch: if version >= DIVERGENCE_SINCE { from.last_fetched_epoch.0 } else { -1 },
            partition_max_bytes: from.max_bytes,
            ..Default::default()
        });
    }
    FetchRequest {
        max_wait_ms: i32::try_from(round.max_wait.as_millis()).unwrap_or(i32::MAX),
        min_bytes: round.min_bytes,
        max_bytes: round.max_bytes,
        isolation_level: round.isolation.level(),
        topics,
        ..Default::default()
    }
}

/// The partitions of an answer, taken in the order in which brokers give them: that of the request.
struct Answers {
    rest: Vec<(Text, TopicId, PartitionData)>,
    by_id: bool,
}

impl Answers {
    fn new(response: FetchResponse, by_id: bool) -> Self {
        let mut rest = Vec::new();
        for topic in response.responses {
            for data in topic.partitions {
                rest.push((topic.topic.clone(), topic.topic_id, data));
            }
        }
        rest.reverse();
        Self { rest, by_id }
    }

    fn take(&mut self, from: &FetchFrom) -> Option<PartitionData> {
        let at = self.rest.iter().rposition(|(name, topic_id, data)| {
            let topic = if self.by_id { *topic_id == from.topic_id } else { **name == *from.partition.topic };
            topic && data.partition_index == from.partition.partition
        })?;
        Some(self.rest.remove(at).2)
    }
}

fn fetched(from: &FetchFrom, data: PartitionData) -> Fetched {
    let diverging = &data.diverging_epoch;
    Fetched {
        partition: from.partition.clone(),
        code: data.error_code,
        high_watermark: Offset(data.high_watermark),
        last_stable_offset: Offset(data.last_stable_offset),
        log_start_offset: Offset(data.log_start_offset),
        diverging: (diverging.end_offset >= 0)
            .then_some((LeaderEpoch(diverging.epoch), Offset(diverging.end_offset))),
        preferred_broker: Some(BrokerId(data.preferred_read_replica)).filter(|broker| broker.0 >= 0),
        aborted: data.aborted_transactions.unwrap_or_default(),
        records: data.records.and_then(wire::Records::into_bytes).unwrap_or_default(),
    }
}
