//! Fetch: batches to consumers.
//!
//! Behaviour: a fetch that finds too little waits until a commit wakes it, and looks again from where it stopped; it
//! never polls. One of nothing, such as ends a session, is answered at once, and so is one that found records in a file:
//! a read ends with its segment, so the reader is behind, and the rest is its next fetch's. The first batch comes whole
//! even when it is larger than was asked for; an offset in the middle of a batch returns that batch. Sessions (KIP-227)
//! say only what changed. Readers of committed records stop at the last stable offset and are told which transactions to
//! leave out. Records are never null, even beside an error.
//! What only the store has is waited for like what is not written yet, all partitions at once: a fetch that has found
//! nothing waits a little longer for it than it says (KIP-405), then it answers without, and its read goes on for the
//! next one. So a store that hangs starves nobody of what is here.
//! Version notes: 7 sessions; 9 leader epochs; 12 diverging epochs; 13 topic ids.
//! Owns: when an answer is enough, and its share of the memory for all fetches.
//! Does not own: where bytes come from (`partition`), reads from the store under way (`cold_reads`), sessions
//! (`fetch_sessions`), who is woken (`waiters`), sending (`connection`).

mod stored;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hotlog::{Isolation, ReadLimits};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use wire::ErrorCode;
use wire::api::fetch::{
    AbortedTransaction, EpochEndOffset, FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
};
use wire::batch::Batches;
use wire::codec::{Piece, Records, Text};
use wire::header::response_frame;
use wire::ids::{LeaderEpoch, Offset};

use self::stored::StoredRead;
use super::{Context, check_epoch};
use crate::broker::Broker;
use crate::cold_reads::{Place, ReadSize, Waiter, Wanted};
use crate::connection::{Answer, Outcome};
use crate::error_codes;
use crate::fetch_sessions::{Fetching, SessionOutcome, SessionRequest, Target, Told, TopicKey};
use crate::limits::{MAX_FETCH_RESPONSE_BYTES, MAX_FETCH_WAIT_MS, STORE_WAIT};
use crate::metrics::Metrics;
use crate::partition::{Partition, Read, ReadRefused};

/// First version that names topics by id.
const IDS_SINCE: i16 = 13;

/// What of a request remains while it waits: nothing of the frame.
struct Ask {
    isolation: Isolation,
    max_wait: Duration,
    min_bytes: usize,
    max_bytes: usize,
    replica: bool,
}

/// One partition of a fetch.
struct Reading {
    target: Target,
    partition: Option<Arc<Partition>>,
    /// Where to go on: behind what was read.
    next: i64,
    pieces: Vec<Piece>,
    /// Pieces whose end is already in `next`.
    walked: usize,
    aborted: Vec<(i64, i64)>,
    bytes: usize,
    bounds: Option<Told>,
    /// Whether a read from the store is under way for it.
    awaits_store: bool,
    /// The readable end that a read came to without finding anything: there is nothing to look for until it moves.
    empty_up_to: Option<Offset>,
    error: ErrorCode,
    diverging: Option<(LeaderEpoch, Offset)>,
}

pub(super) async fn run(broker: Arc<Broker>, context: Context, request: FetchRequest) -> Outcome {
    let ask = Ask {
        isolation: if request.isolation_level == 1 {
            Isolation::ReadCommitted
        } else {
            Isolation::ReadUncommitted
        },
        max_wait: Duration::from_millis(
            i64::from(request.max_wait_ms).clamp(0, MAX_FETCH_WAIT_MS).unsigned_abs(),
        ),
        min_bytes: usize::try_from(request.min_bytes).unwrap_or(0),
        max_bytes: usize::try_from(request.max_bytes).unwrap_or(0).min(MAX_FETCH_RESPONSE_BYTES),
        replica: request.replica_id >= 0 || request.replica_state.replica_id >= 0,
    };
    let session = session_request(&context, &request);
    drop(request);
    let fetching = match broker.fetch_sessions.begin(session, broker.clock.monotonic_ms()) {
        Ok(fetching) => fetching,
        Err(error_code) => return context.answer(&FetchResponse { error_code, ..FetchResponse::default() }),
    };
    let mut fetch = Fetch::new(&broker, &fetching, &ask);
    fetch.read_until_enough().await;
    let Fetch { readings, permit, .. } = fetch;
    let response = respond(&broker, &fetching, readings);
    let header = &context.header;
    let frame = response_frame(header.key, header.version, header.correlation_id, &response)?;
    Ok(Some(Answer { frame, permit }))
}

fn session_request(context: &Context, request: &FetchRequest) -> SessionRequest {
    let uses_ids = context.version() >= IDS_SINCE;
    let key = |name: &Text, id| if uses_ids { TopicKey::Id(id) } else { TopicKey::Name(Arc::from(&**name)) };
    let mut targets = Vec::new();
    for topic in &request.topics {
        let topic_key = key(&topic.topic, topic.topic_id);
        targets.extend(topic.partitions.iter().map(|partition| Target {
            topic: topic_key.clone(),
            partition: partition.partition,
            offset: partition.fetch_offset,
            max_bytes: partition.partition_max_bytes,
            current_leader_epoch: partition.current_leader_epoch,
            last_fetched_epoch: partition.last_fetched_epoch,
        }));
    }
    let mut forgotten = Vec::new();
    for topic in &request.forgotten_topics_data {
        let topic_key = key(&topic.topic, topic.topic_id);
        forgotten.extend(topic.partitions.iter().map(|partition| (topic_key.clone(), *partition)));
    }
    SessionRequest { id: request.session_id, epoch: request.session_epoch, uses_ids, targets, forgotten }
}

struct Fetch<'a> {
    broker: &'a Arc<Broker>,
    ask: &'a Ask,
    /// Woken by commits, and by what comes from the store.
    waiter: Arc<Waiter>,
    readings: Vec<Reading>,
    bytes: usize,
    permit: Option<OwnedSemaphorePermit>,
}

impl<'a> Fetch<'a> {
    fn new(broker: &'a Arc<Broker>, fetching: &Fetching, ask: &'a Ask) -> Self {
        let topics = broker.topics();
        let reading = |target: &Target| {
            let topic = match &target.topic {
                TopicKey::Name(name) => topics.named(name),
                TopicKey::Id(id) => topics.with_id(*id),
            };
            let partition = topic.and_then(|topic| topic.partition(target.partition)).cloned();
            let error = match (&partition, &target.topic) {
                _ if ask.replica => ErrorCode::TOPIC_AUTHORIZATION_FAILED,
                (None, TopicKey::Id(_)) if topic.is_none() => ErrorCode::UNKNOWN_TOPIC_ID,
                (None, _) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                (Some(partition), _) => check_epoch(target.current_leader_epoch, partition.leader_epoch().0)
                    .err()
                    .unwrap_or(ErrorCode::NONE),
            };
            let mut reading = Reading {
                next: target.offset,
                target: target.clone(),
                partition,
                pieces: Vec::new(),
                walked: 0,
                aborted: Vec::new(),
                bytes: 0,
                bounds: None,
                awaits_store: false,
                empty_up_to: None,
                error,
                diverging: None,
            };
            reading.find_divergence();
            reading
        };
        let readings = fetching.targets.iter().map(reading).collect();
        Self { broker, ask, waiter: Arc::default(), readings, bytes: 0, permit: None }
    }

    async fn read_until_enough(&mut self) {
        let begun = Instant::now();
        self.read().await;
        if self.is_enough() || self.longest_wait().is_zero() {
            return;
        }
        Metrics::add(&self.broker.metrics.waited_fetches, 1);
        let mut stop = std::pin::pin!(self.broker.stop.cancelled());
        loop {
            for partition in self.readings.iter().filter_map(|reading| reading.partition.as_ref()) {
                partition.waiters.register(&self.waiter.notify);
            }
            // What was committed between the last look and the registration woke nobody.
            self.read().await;
            if self.is_enough() {
                return;
            }
            tokio::select! {
                () = self.waiter.notify.notified() => {}
                () = tokio::time::sleep_until(begun + self.longest_wait()) => return,
                () = &mut stop => return,
            }
        }
    }

    /// How long it may take in all, as things stand. Whoever has something need not wait longer for the store.
    fn longest_wait(&self) -> Duration {
        let needs_store = needs_store(self.bytes, &self.readings);
        if needs_store { self.ask.max_wait.max(STORE_WAIT) } else { self.ask.max_wait }
    }

    fn is_enough(&self) -> bool {
        is_enough(self.ask, self.bytes, &self.readings)
    }

    async fn read(&mut self) {
        for index in 0..self.readings.len() {
            if self.bytes >= self.ask.max_bytes && self.bytes > 0 {
                self.readings[index].note_bounds();
            } else {
                self.read_one(index).await;
            }
        }
    }

    async fn read_one(&mut self, index: usize) {
        let (ask, first) = (self.ask, self.bytes == 0);
        let reading = &mut self.readings[index];
        reading.awaits_store = false;
        let Some(partition) = reading.partition.clone() else { return };
        if reading.error != ErrorCode::NONE || reading.diverging.is_some() {
            return;
        }
        reading.walk();
        let end = partition.readable_end(ask.isolation);
        let is_at_end = Offset(reading.next) >= end || reading.empty_up_to.is_some_and(|seen| end <= seen);
        if reading.bounds.is_some() && is_at_end {
            return;
        }
        let wanted = usize::try_from(reading.target.max_bytes).unwrap_or(0).saturating_sub(reading.bytes);
        let left = wanted.min(ask.max_bytes.saturating_sub(self.bytes));
        if left == 0 && !first {
            reading.note_bounds();
            return;
        }
        let limits = ReadLimits { max_bytes: left, at_least_one_batch: first };
        if partition.is_cold(Offset(reading.next)) || !self.read_local(index, &partition, limits).await {
            self.read_stored(index, &partition, limits).await;
        }
    }

    /// Reads from the local log. False when only the store has what is wanted.
    async fn read_local(&mut self, index: usize, partition: &Partition, limits: ReadLimits) -> bool {
        let from = Offset(self.readings[index].next);
        let reserved = self.reserve(limits.max_bytes.max(1), limits.at_least_one_batch).await;
        let Some(permit) = reserved else {
            self.readings[index].note_bounds();
            return true;
        };
        match partition.read_local(from, limits, self.ask.isolation).await {
            Ok(Some(read)) => self.keep(index, permit, read),
            Ok(None) => return false,
            Err(refused) => self.refuse(index, partition, &refused),
        }
        true
    }

    /// Takes up what was read from the store, or has it read. Nothing of the budget is held meanwhile: a store that hangs must
    /// not hold what tail reads need, and those who hold a part and wait for the rest would wait for each other.
    async fn read_stored(&mut self, index: usize, partition: &Arc<Partition>, limits: ReadLimits) {
        let (first, from) = (limits.at_least_one_batch, Offset(self.readings[index].next));
        let isolation = self.ask.isolation;
        let committed_only = isolation == Isolation::ReadCommitted;
        // Not what is left in this answer: were that to say how much, the same read would begin anew with every answer.
        let most = usize::try_from(self.readings[index].target.max_bytes).unwrap_or(0);
        let size = ReadSize::within(most.min(self.ask.max_bytes));
        let place = Place { partition: partition.id(), from, committed_only, size };
        let wanted = Wanted { place, waiter: Arc::clone(&self.waiter) };
        let (broker, owned) = (Arc::clone(self.broker), Arc::clone(partition));
        let read = move |max_bytes: usize| {
            // Which of the partitions comes first in an answer is not known before they are here.
            let limits = ReadLimits { max_bytes, at_least_one_batch: true };
            StoredRead { broker, partition: owned, from, limits, isolation }.begin()
        };
        let Some(finished) = self.broker.cold_reads.take_or_begin(&wanted, read).await else {
            self.readings[index].awaits_store = true;
            self.readings[index].note_bounds();
            return;
        };
        let (fits, in_memory) = match &finished.outcome {
            Ok(read) => (first || read.bytes() <= limits.max_bytes, in_memory_bytes(read)),
            Err(refused) => return self.refuse(index, partition, refused),
        };
        let permit = if fits { self.reserve(in_memory, first).await } else { None };
        match permit {
            Some(permit) => {
                if let Ok(read) = finished.outcome {
                    if read.bytes() == 0 {
                        let end = if committed_only { read.last_stable_offset } else { read.high_watermark };
                        self.readings[index].empty_up_to = Some(end);
                    }
                    self.keep(index, permit, read);
                }
            }
            None => self.broker.cold_reads.put_back(place, finished),
        }
        // The bounds may have moved since it was read.
        self.readings[index].note_bounds();
    }

    fn keep(&mut self, index: usize, permit: OwnedSemaphorePermit, read: Read) {
        self.keep_permit(permit, &read);
        self.bytes += read.bytes();
        self.readings[index].take(read);
    }

    fn refuse(&mut self, index: usize, partition: &Partition, refused: &ReadRefused) {
        let reading = &mut self.readings[index];
        reading.error = error_codes::of_read(refused);
        if matches!(reading.error, ErrorCode::CORRUPT_MESSAGE | ErrorCode::KAFKA_STORAGE_ERROR) {
            self.broker.raise_alarm("read", refused.to_string());
        }
        reading.note_bounds();
        if reading.error != ErrorCode::OFFSET_OUT_OF_RANGE {
            let from = reading.next;
            tracing::warn!(partition = %partition.id(), from, error = %refused, "a read failed");
        }
    }

    /// Memory for a read. The first read of a fetch waits for it, later ones are left out of the answer.
    async fn reserve(&self, bytes: usize, first: bool) -> Option<OwnedSemaphorePermit> {
        let budget = Arc::clone(&self.broker.fetch_budget);
        let wanted = u32::try_from(kib(bytes)).unwrap_or(u32::MAX);
        match Arc::clone(&budget).try_acquire_many_owned(wanted) {
            Ok(permit) => Some(permit),
            Err(_) if first => budget.acquire_many_owned(wanted).await.ok(),
            Err(_) => None,
        }
    }

    /// Keeps as much of the budget as the read holds in memory.
    fn keep_permit(&mut self, mut permit: OwnedSemaphorePermit, read: &Read) {
        let used = kib(in_memory_bytes(read)).min(permit.num_permits());
        drop(permit.split(permit.num_permits() - used));
        match &mut self.permit {
            Some(whole) => whole.merge(permit),
            None => self.permit = Some(permit),
        }
    }
}

/// Whether nothing was found and something may come from the store.
fn needs_store(bytes: usize, readings: &[Reading]) -> bool {
    bytes == 0 && readings.iter().any(|reading| reading.awaits_store)
}

/// Whether the answer may go: nothing to wait for, enough bytes, or something the client must hear of at once. Nothing at all
/// is not enough while the store is asked, even for one that wants no bytes: it would ask over and over.
fn is_enough(ask: &Ask, bytes: usize, readings: &[Reading]) -> bool {
    let wanted = ask.min_bytes.min(ask.max_bytes.max(1));
    let has_bytes = bytes >= wanted && !needs_store(bytes, readings);
    readings.is_empty() || has_bytes || readings.iter().any(Reading::ends_the_wait)
}

fn in_memory_bytes(read: &Read) -> usize {
    let in_memory = |piece: &Piece| if let Piece::Memory(bytes) = piece { bytes.len() } else { 0 };
    read.pieces.iter().map(in_memory).sum()
}

fn kib(bytes: usize) -> usize {
    bytes.div_ceil(1024)
}

impl Reading {
    fn find_divergence(&mut self) {
        let (Some(partition), epoch @ 0..) = (&self.partition, self.target.last_fetched_epoch) else {
            return;
        };
        if self.error != ErrorCode::NONE {
            return;
        }
        let found = partition.offset_for_leader_epoch(LeaderEpoch(epoch));
        if let Some((found, end)) = found
            && (found < LeaderEpoch(epoch) || end.0 < self.target.offset)
        {
            self.diverging = Some((found, end));
            self.note_bounds();
        }
    }

    fn note_bounds(&mut self) {
        if let Some(partition) = &self.partition {
            let hot = partition.hot();
            self.bounds = Some(Told {
                high_watermark: hot.high_watermark().0,
                last_stable_offset: hot.last_stable_offset().0,
                log_start: hot.log_start().0,
            });
        }
    }

    fn take(&mut self, read: Read) {
        self.bounds = Some(Told {
            high_watermark: read.high_watermark.0,
            last_stable_offset: read.last_stable_offset.0,
            log_start: read.log_start.0,
        });
        self.bytes += read.bytes();
        self.aborted.extend(read.aborted);
        self.pieces.extend(read.pieces);
    }

    /// Whether the client must have this at once: it has to hear of something, or it reads from a file, where it is not
    /// known what offset the pieces end with.
    fn ends_the_wait(&self) -> bool {
        self.error != ErrorCode::NONE || self.diverging.is_some() || self.reads_from_a_file()
    }

    fn reads_from_a_file(&self) -> bool {
        self.pieces[self.walked..].iter().any(|piece| matches!(piece, Piece::File(_)))
    }

    /// Finds where to read on; only a fetch that waits for more needs to know, and none waits with pieces of a file. What is
    /// behind such a piece may begin inside of a batch.
    fn walk(&mut self) {
        for piece in &self.pieces[self.walked..] {
            let Piece::Memory(bytes) = piece else { return };
            let last = Batches::new(bytes).filter_map(Result::ok).last();
            self.next = last.map_or(self.next, |batch| batch.header().next_offset().0);
        }
        self.walked = self.pieces.len();
    }

    fn into_data(self) -> PartitionData {
        let bounds =
            self.bounds.unwrap_or(Told { high_watermark: -1, last_stable_offset: -1, log_start: -1 });
        let mut data = PartitionData {
            partition_index: self.target.partition,
            error_code: self.error,
            high_watermark: bounds.high_watermark,
            last_stable_offset: bounds.last_stable_offset,
            log_start_offset: bounds.log_start,
            records: Some(Records::from(self.pieces)),
            aborted_transactions: None,
            ..PartitionData::default()
        };
        if !self.aborted.is_empty() {
            let aborted = self.aborted.into_iter();
            let listed =
                aborted.map(|(producer_id, first_offset)| AbortedTransaction { producer_id, first_offset });
            data.aborted_transactions = Some(listed.collect());
        }
        if let Some((epoch, end)) = self.diverging {
            data.diverging_epoch = EpochEndOffset { epoch: epoch.0, end_offset: end.0 };
        }
        data
    }
}

fn respond(broker: &Broker, fetching: &Fetching, readings: Vec<Reading>) -> FetchResponse {
    let mut outcomes: Vec<SessionOutcome> = readings
        .iter()
        .map(|reading| SessionOutcome {
            key: (reading.target.topic.clone(), reading.target.partition),
            tells: reading.bounds.filter(|_| reading.error == ErrorCode::NONE && reading.diverging.is_none()),
            has_records: reading.bytes > 0,
            keep: true,
        })
        .collect();
    if fetching.session_id != 0 {
        broker.fetch_sessions.finish(fetching.session_id, fetching.incremental, &mut outcomes);
    }
    let mut response = FetchResponse { session_id: fetching.session_id, ..FetchResponse::default() };
    let mut places: HashMap<TopicKey, usize> = HashMap::new();
    for (reading, outcome) in readings.into_iter().zip(outcomes).filter(|(_, outcome)| outcome.keep) {
        Metrics::add(&broker.metrics.fetched_bytes, reading.bytes);
        let place = *places.entry(outcome.key.0).or_insert_with_key(|key| {
            let mut topic = FetchableTopicResponse::default();
            match key {
                TopicKey::Name(name) => topic.topic = Text::from(&**name),
                TopicKey::Id(id) => topic.topic_id = *id,
            }
            response.responses.push(topic);
            response.responses.len() - 1
        });
        response.responses[place].partitions.push(reading.into_data());
    }
    response
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use wire::batch::{BatchBuilder, BatchOptions, NewRecord};
    use wire::codec::FileRange;

    use super::*;

    fn reading(pieces: Vec<Piece>) -> Reading {
        let target = Target {
            topic: TopicKey::Name(Arc::from("t")),
            partition: 0,
            offset: 7,
            max_bytes: 1 << 20,
            current_leader_epoch: -1,
            last_fetched_epoch: -1,
        };
        Reading {
            next: target.offset,
            target,
            partition: None,
            pieces,
            walked: 0,
            aborted: Vec::new(),
            bytes: 0,
            bounds: None,
            awaits_store: false,
            empty_up_to: None,
            error: ErrorCode::NONE,
            diverging: None,
        }
    }

    #[test]
    fn one_that_wants_no_bytes_waits_for_the_store_all_the_same() {
        let ask = Ask {
            isolation: Isolation::ReadUncommitted,
            max_wait: Duration::ZERO,
            min_bytes: 0,
            max_bytes: 1 << 20,
            replica: false,
        };
        let here = || reading(Vec::new());
        let in_store = || Reading { awaits_store: true, ..reading(Vec::new()) };
        assert!(is_enough(&ask, 0, &[]));
        assert!(is_enough(&ask, 0, &[here()]));
        assert!(!is_enough(&ask, 0, &[here(), in_store()]));
        assert!(is_enough(&ask, 1, &[here(), in_store()]));
        let failed = Reading { error: ErrorCode::OFFSET_OUT_OF_RANGE, ..here() };
        assert!(is_enough(&ask, 0, &[failed, in_store()]));
    }

    #[test]
    fn what_is_behind_a_piece_of_a_file_is_not_taken_for_batches_and_does_not_wait() {
        let mut builder =
            BatchBuilder::new(BatchOptions { base_offset: Offset(90), ..BatchOptions::default() });
        builder.push(&NewRecord { value: Some(b"v"), ..NewRecord::default() });
        let batch = Piece::Memory(Bytes::from(builder.build()));
        let mut whole = reading(vec![batch.clone()]);
        assert!(!whole.ends_the_wait());
        whole.walk();
        assert_eq!((whole.next, whole.walked), (91, 1));
        // A record's value may look like a batch, and a block of the file may end right before it.
        let file = Arc::new(tempfile::tempfile().unwrap());
        let begun = Piece::File(FileRange { file, position: 0, length: 4_096 });
        let mut split = reading(vec![begun, batch]);
        split.walk();
        assert_eq!((split.next, split.walked), (7, 0));
        assert!(split.ends_the_wait());
    }
}
