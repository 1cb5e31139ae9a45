//! The offset map against brute force: both logs are read whole, paired record by record, and every offset is asked.
//!
//! Owns: reading a partition with everything that a record has, pairing, the plain rule for every offset.
//! Does not own: the offset map that it judges.

use std::collections::BTreeMap;

use client::fetch::{FetchFrom, FetchRound};
use client::isolation::AbortedFilter;
use client::offsets::Place;
use client::{Cluster, Isolation, Lane, TopicPartition};
use mirror::offset_map::{OffsetMap, SourceOffset, TargetOffset};
use wire::batch::{Batches, Records};
use wire::{ErrorCode, LeaderEpoch, Offset, TopicId};

use crate::flow::{Flow, connect};

/// Key of records that a test writes to the target beside the flow.
pub const FOREIGN_KEY: &str = "foreign";

/// A record, as far as a consumer can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its offset.
    pub offset: i64,
    /// Its time.
    pub timestamp_ms: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
    /// Its headers, in order.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Seen {
    fn is_same(&self, other: &Self) -> bool {
        Self { offset: 0, ..self.clone() } == Self { offset: 0, ..other.clone() }
    }

    fn is_foreign(&self) -> bool {
        self.key.as_deref() == Some(FOREIGN_KEY.as_bytes())
    }
}

/// A partition as a reader of committed records finds it.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// Its first offset.
    pub start: i64,
    /// Its last stable offset.
    pub end: i64,
    /// Its committed records.
    pub records: Vec<Seen>,
}

/// Reads a partition from its first offset to its last stable one.
///
/// # Errors
/// When the cluster does not answer, or the log does not go on.
pub async fn read(cluster: &Cluster, partition: &TopicPartition) -> anyhow::Result<Log> {
    let mut ends = [0; 2];
    for (end, place) in ends.iter_mut().zip([Place::Earliest, Place::Latest]) {
        let found = cluster.list_offsets(&[(partition.clone(), place)], Isolation::ReadCommitted).await?;
        *end = found[0].offset.map_or(0, |offset| offset.0);
    }
    let [start, end] = ends;
    let (mut next, mut records) = (start, Vec::new());
    while next < end {
        let leader = cluster.leader(partition).await?;
        let fetched = cluster.fetch(leader.broker, &round(partition, next)).await?.swap_remove(0);
        anyhow::ensure!(fetched.code == ErrorCode::NONE, "{partition} at {next}: {}", fetched.code);
        let mut filter = AbortedFilter::new(fetched.aborted.clone());
        let before = next;
        for batch in Batches::new(&fetched.records).map_while(Result::ok) {
            let admitted = filter.admits(&batch)? && !batch.header().attributes.is_control();
            let mut inside = Records::new(&batch, 1 << 26);
            while let Some(record) = inside.next_record()? {
                if admitted && record.offset.0 >= before {
                    let headers = record.headers;
                    let headers =
                        headers.map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec)));
                    records.push(Seen {
                        offset: record.offset.0,
                        timestamp_ms: record.timestamp_ms,
                        key: record.key.map(<[u8]>::to_vec),
                        value: record.value.map(<[u8]>::to_vec),
                        headers: headers.collect(),
                    });
                }
            }
            next = next.max(batch.header().next_offset().0);
        }
        // A log cleaner may have taken all that stood before the end.
        if next == before {
            anyhow::ensure!(fetched.records.is_empty(), "{partition} does not move on at {next}");
            break;
        }
    }
    Ok(Log { start, end, records })
}

fn round(partition: &TopicPartition, next: i64) -> FetchRound {
    const BYTES: i32 = 8 << 20;
    FetchRound {
        partitions: vec![FetchFrom {
            partition: partition.clone(),
            topic_id: TopicId::ZERO,
            offset: Offset(next),
            leader_epoch: LeaderEpoch::NONE,
            last_fetched_epoch: LeaderEpoch::NONE,
            max_bytes: BYTES,
        }],
        max_wait: std::time::Duration::from_millis(200),
        min_bytes: 1,
        max_bytes: BYTES,
        isolation: Isolation::ReadCommitted,
        lane: Lane::Fetch,
    }
}

/// Every record of these partitions once and in order, nothing of the source's besides, and every offset, one before
/// the first and one beyond the last included, both ways as the plain pairs have it.
///
/// # Errors
/// Names the first difference.
pub async fn check(flow: &Flow, partitions: &[(&str, i32)]) -> anyhow::Result<()> {
    let source = connect(&flow.spec.from.bootstrap[0]).await?;
    let target = connect(&flow.spec.to.bootstrap[0]).await?;
    for (topic, partition) in partitions {
        let there = read(&source, &TopicPartition::new(*topic, *partition)).await?;
        let renamed = flow.spec.rename.apply(topic);
        let here = read(&target, &TopicPartition::new(renamed.as_str(), *partition)).await?;
        let map = mirror::load_offset_map(&flow.spec, topic, *partition).await?;
        compare(&there, &here, &map).map_err(|error| error.context(format!("{topic}-{partition}")))?;
    }
    Ok(())
}

/// As [`check`], of logs and a map that were read before.
///
/// # Errors
/// Names the first difference.
pub fn compare(there: &Log, here: &Log, map: &OffsetMap) -> anyhow::Result<()> {
    let copies: Vec<&Seen> = here.records.iter().filter(|record| !record.is_foreign()).collect();
    for (one, other) in there.records.iter().zip(&copies) {
        anyhow::ensure!(one.is_same(other), "{one:?} became {other:?}");
    }
    let (sent, arrived) = (there.records.len(), copies.len());
    anyhow::ensure!(sent == arrived, "{sent} records became {arrived}");
    let pairs = Pairs {
        there,
        here,
        start: here.start,
        pairs: there.records.iter().zip(&copies).map(|(one, other)| (one.offset, other.offset)).collect(),
    };
    for next in there.start - 1..=there.end + 1 {
        let (asked, wanted) = (map.translate(SourceOffset(next)).to_string(), pairs.to_target(next));
        anyhow::ensure!(asked == wanted, "source {next} is {wanted}, not {asked}");
    }
    for next in here.start..=here.end + 1 {
        let (asked, wanted) = (map.translate_back(TargetOffset(next)).to_string(), pairs.to_source(next));
        anyhow::ensure!(asked == wanted, "target {next} is {wanted}, not {asked}");
    }
    Ok(())
}

/// The plain truth: source offset to target offset of every copied record.
struct Pairs<'a> {
    there: &'a Log,
    here: &'a Log,
    /// Where the target stood when the copy began.
    start: i64,
    pairs: BTreeMap<i64, i64>,
}

impl Pairs<'_> {
    /// The target offset after the last copy.
    fn end(&self) -> i64 {
        self.pairs.last_key_value().map_or(self.start, |(_, target)| target + 1)
    }

    fn to_target(&self, next: i64) -> String {
        if next < self.there.start {
            return format!("before {}", self.start);
        }
        if next > self.there.end {
            return format!("ahead {}", self.end());
        }
        let exact = self.pairs.get(&next).copied();
        let before = || self.pairs.range(..next).next_back().map_or(self.start, |(_, target)| target + 1);
        format!("exact {}", exact.unwrap_or_else(before))
    }

    fn to_source(&self, next: i64) -> String {
        if next == self.end() {
            return format!("exact {}", self.there.end);
        }
        if next > self.end() {
            return format!("ahead {}", self.there.end);
        }
        if let Some((source, _)) = self.pairs.iter().find(|(_, target)| **target == next) {
            return format!("exact {source}");
        }
        let before = self.pairs.iter().take_while(|(_, target)| **target < next).last();
        debug_assert!(self.here.start <= next, "the caller asks from the log's start on");
        format!("foreign {}", before.map_or(self.there.start, |(source, _)| source + 1))
    }
}
