//! The map topic, read to its end, and on from there.
//!
//! Owns: up to where it was read, and noticing that the log is no longer the one that was read.
//! Does not own: what the records come to (`map_topic::Ledger`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use client::fetch::{FetchFrom, FetchRound};
use client::{Cluster, Isolation, Lane, RequestError};
use tokio::time::sleep;
use wire::batch::{BatchView, Entries, Entry, Records};
use wire::{ErrorCode, LeaderEpoch, Offset, TopicId};

use super::{RETRY_WAIT, map_partition};
use crate::flow::{FlowError, log_ends};
use crate::map_topic::{Key, Ledger, MAP_TOPIC};

const FETCH_BYTES: i32 = 4 * 1024 * 1024;
const DECOMPRESSED_BYTES: usize = 64 * 1024 * 1024;
/// Empty answers below the end before the rest counts as taken by a log cleaner: a broker that throttles a client
/// answers so too, for a while.
const EMPTY_ANSWERS: u32 = 25;

/// Reads the map topic from its start, and on from where it stopped. A log that was replaced meanwhile, as when a target
/// is set up anew or restored from a copy, is read from its start again.
#[derive(Debug)]
pub(crate) struct MapReader {
    cluster: Cluster,
    read: ReadTo,
    log_start: Offset,
}

impl MapReader {
    pub(crate) fn new(cluster: &Cluster) -> Self {
        Self { cluster: cluster.clone(), read: ReadTo::default(), log_start: Offset(0) }
    }

    /// Whether the cluster has the topic at all.
    pub(crate) async fn exists(cluster: &Cluster) -> Result<bool, RequestError> {
        Ok(cluster.refresh(&[Arc::from(MAP_TOPIC)]).await?.topics.contains_key(MAP_TOPIC))
    }

    /// The first offset that there was at the last reading. The topic is only compacted, so above 0 its beginning is
    /// lost.
    pub(crate) fn log_start(&self) -> Offset {
        self.log_start
    }

    /// The end that there was at the last reading.
    pub(crate) fn log_end(&self) -> Offset {
        self.read.next
    }

    /// Bytes of what was read, from the start to the end. What the target has compacted away since still counts.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.read.size_bytes
    }

    /// Takes in everything up to the present end.
    pub(crate) async fn read_to_end(&mut self, ledger: &mut Ledger) -> Result<(), FlowError> {
        loop {
            let (start, end) = log_ends(&self.cluster, &map_partition(), Isolation::ReadUncommitted).await?;
            if self.read.next <= end && self.read_on(start, end, ledger).await? {
                self.log_start = start;
                return Ok(());
            }
            tracing::info!("the map topic is not the log that was read before; reading it from its start");
            self.read = ReadTo::default();
            ledger.begin_again();
            sleep(RETRY_WAIT).await;
        }
    }

    /// Reads up to `end`; false when that is not the end of what was read before.
    async fn read_on(&mut self, start: Offset, end: Offset, ledger: &mut Ledger) -> Result<bool, FlowError> {
        self.read.pass_over(start);
        // Said once: what comes from here on is of the log that answers, and is not doubted.
        let mut after_epoch = self.read.epoch;
        let mut empty = 0;
        while self.read.next < end {
            let leader = self.cluster.leader(&map_partition()).await?;
            let round = fetch_round(self.read.next, after_epoch);
            let fetched = self.cluster.fetch(leader.broker, &round).await?.swap_remove(0);
            if fetched.diverging.is_some() || fetched.code == ErrorCode::OFFSET_OUT_OF_RANGE {
                return Ok(false);
            }
            if fetched.code != ErrorCode::NONE {
                tracing::debug!(code = %fetched.code, "reading the map topic again");
                sleep(RETRY_WAIT).await;
                continue;
            }
            let before = self.read.next;
            self.read.take(ledger, &fetched.records);
            if self.read.next > before {
                (empty, after_epoch) = (0, LeaderEpoch::NONE);
            } else if empty < EMPTY_ANSWERS {
                empty += 1;
                sleep(RETRY_WAIT).await;
            } else {
                self.read.pass_over(end);
            }
        }
        Ok(true)
    }
}

/// Up to where the topic was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ReadTo {
    next: Offset,
    /// Leader epoch of the batch that ends at `next`, by which the broker knows whether its log goes on from there; none
    /// where no batch was read that does.
    epoch: LeaderEpoch,
    /// Of all batches that were read.
    size_bytes: u64,
}

impl Default for ReadTo {
    fn default() -> Self {
        Self { next: Offset(0), epoch: LeaderEpoch::NONE, size_bytes: 0 }
    }
}

impl ReadTo {
    /// There is nothing to read below `offset`. The epoch may have ended before that.
    fn pass_over(&mut self, offset: Offset) {
        if self.next < offset {
            (self.next, self.epoch) = (offset, LeaderEpoch::NONE);
        }
    }

    /// Folds an answer into the ledger.
    fn take(&mut self, ledger: &mut Ledger, bytes: &Bytes) {
        for entry in Entries::new(bytes).map_while(Result::ok) {
            let Entry::Batch(batch) = entry else { continue };
            let header = batch.header();
            if header.next_offset() <= self.next {
                continue;
            }
            apply(ledger, &batch, self.next);
            self.next = header.next_offset();
            self.epoch = header.leader_epoch;
            self.size_bytes += header.size_bytes as u64;
        }
    }
}

/// A fetch from `offset` on, behind a batch of `after_epoch` if one was read.
fn fetch_round(offset: Offset, after_epoch: LeaderEpoch) -> FetchRound {
    FetchRound {
        partitions: vec![FetchFrom {
            partition: map_partition(),
            topic_id: TopicId::ZERO,
            offset,
            leader_epoch: LeaderEpoch::NONE,
            last_fetched_epoch: after_epoch,
            max_bytes: FETCH_BYTES,
        }],
        max_wait: Duration::from_millis(100),
        min_bytes: 1,
        max_bytes: FETCH_BYTES,
        isolation: Isolation::ReadUncommitted,
        lane: Lane::Fetch,
    }
}

/// Folds a batch into the ledger, from an offset on. What cannot be read is passed over and said.
fn apply(ledger: &mut Ledger, batch: &BatchView<'_>, from: Offset) {
    let mut records = Records::new(batch, DECOMPRESSED_BYTES);
    while let Ok(Some(record)) = records.next_record() {
        if record.offset < from {
            continue;
        }
        let key = record.key.and_then(|key| std::str::from_utf8(key).ok());
        match key.map(str::parse::<Key>) {
            Some(Ok(key)) => {
                if let Err(error) = ledger.apply(key, record.value) {
                    tracing::warn!(offset = record.offset.0, %error, "passing over a record of the map topic");
                }
            }
            _ => tracing::debug!(offset = record.offset.0, "passing over a key of the map topic"),
        }
    }
}

#[cfg(test)]
mod tests {
    use wire::batch::{BatchBuilder, BatchOptions, NewRecord};

    use super::*;
    use crate::map_topic::RegisteredProducer;

    /// A batch that registers producer ids for a flow.
    fn registering(base_offset: i64, leader_epoch: i32, ids: &[i64]) -> Vec<u8> {
        let options = BatchOptions {
            base_offset: Offset(base_offset),
            leader_epoch: LeaderEpoch(leader_epoch),
            ..BatchOptions::default()
        };
        let mut builder = BatchBuilder::new(options);
        let value = RegisteredProducer { flow: "f".to_owned(), source_cluster: "west".to_owned() }.encode();
        for id in ids {
            let key = format!("producer/{id}").into_bytes();
            builder.push(&NewRecord { key: Some(&key), value: Some(&value), ..NewRecord::default() });
        }
        builder.build()
    }

    #[test]
    fn a_reading_goes_on_where_the_one_before_stopped() {
        let (mut read, mut ledger) = (ReadTo::default(), Ledger::default());
        let (first, second) = (registering(0, 3, &[7, 8]), registering(2, 4, &[9]));
        let both: Bytes = [&first[..], &second[..]].concat().into();
        read.take(&mut ledger, &both.slice(..first.len()));
        assert_eq!((read.next, read.epoch), (Offset(2), LeaderEpoch(3)));
        // An answer begins with the batch that holds the offset, which may have been read.
        read.take(&mut ledger, &both);
        assert_eq!((read.next, read.epoch), (Offset(3), LeaderEpoch(4)));
        assert_eq!(read.size_bytes, both.len() as u64, "each batch counts once");
        assert_eq!(ledger.producers().count(), 3);
    }

    #[test]
    fn nothing_is_claimed_of_an_epoch_that_may_have_ended_before() {
        let (mut read, mut ledger) = (ReadTo::default(), Ledger::default());
        read.take(&mut ledger, &registering(0, 3, &[7, 8]).into());
        read.pass_over(Offset(2));
        assert_eq!(read.epoch, LeaderEpoch(3), "there was nothing to pass over");
        read.pass_over(Offset(10));
        assert_eq!((read.next, read.epoch), (Offset(10), LeaderEpoch::NONE));
    }
}
