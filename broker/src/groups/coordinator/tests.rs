//! The coordinator against a log of its own: what is forgotten, when, and what is not.

use std::sync::atomic::AtomicI64;

use hotlog::{LogDirectory, LogOptions, PartitionConfig, PartitionId, Room, TopicDirectory};
use wire::ids::{Offset, TopicId};

use super::*;
use crate::groups::MAX_OFFSETS_PER_GROUP;
use crate::groups::member::Protocol;
use crate::groups::records::MemberValue;
use crate::partition::poll_once;
use crate::topic_config::{Overrides, TopicConfig};
use crate::topics::{Topic, Topics};

const SESSION_MS: i64 = 10_000;

/// A clock that stands still until it is moved.
#[derive(Debug, Default)]
struct StillClock(AtomicI64);

impl Clock for StillClock {
    fn wall_ms(&self) -> i64 {
        1_700_000_000_000 + self.monotonic_ms()
    }

    fn monotonic_ms(&self) -> i64 {
        self.0.load(Ordering::Acquire)
    }
}

/// One partition that takes the records of all groups.
#[derive(Debug)]
struct OneLog(Arc<Partition>);

impl OffsetsLog for OneLog {
    fn offsets_partition(&self, _number: i32) -> Option<Arc<Partition>> {
        Some(Arc::clone(&self.0))
    }
}

struct Bench {
    coordinator: Arc<Coordinator>,
    clock: Arc<StillClock>,
    log: Arc<OneLog>,
    directory: LogDirectory,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = LogOptions::new(folder.path().join("data"));
        let (directory, _) = LogDirectory::open(options).unwrap().finish(&TopicDirectory::default()).unwrap();
        let id = PartitionId { topic_id: TopicId([4; 16]), partition: 0 };
        let hot = directory.create_partition(id, PartitionConfig::default()).unwrap();
        let partition = Arc::new(Partition::new(hot, directory.clone(), None, Arc::default()));
        let clock = Arc::new(StillClock::default());
        let log = Arc::new(OneLog(partition));
        let shared: Arc<dyn OffsetsLog> = Arc::clone(&log) as Arc<dyn OffsetsLog>;
        let coordinator = Arc::new(Coordinator::new(Arc::clone(&clock) as Arc<dyn Clock>, 3_000));
        coordinator.connect(Arc::downgrade(&shared));
        coordinator.finish_loading();
        Self { coordinator, clock, log, directory, _folder: folder }
    }

    /// Takes all room there is.
    async fn fill_journal(&self) -> Vec<Room> {
        let mut rooms = Vec::new();
        for bytes in [self.directory.batch_bytes_max(), 1 << 10] {
            while let Some(room) = poll_once(&mut self.directory.reserve_room(bytes)).await {
                rooms.push(room.unwrap());
            }
        }
        rooms
    }

    async fn commit(&self, offset: i64) -> Result<(), ErrorCode> {
        let value = committed(offset, self.coordinator.now_ms());
        self.commit_all(vec![NewOffset { key: key(), value }]).await
    }

    async fn commit_all(&self, offsets: Vec<NewOffset>) -> Result<(), ErrorCode> {
        let nobody = Caller { member_id: String::new(), instance_id: None, generation: -1 };
        self.coordinator.commit("g", nobody, offsets).await
    }

    /// An offset for a partition of its own, with a note.
    fn noted(&self, partition: i32, note: &str) -> NewOffset {
        let value = committed(i64::from(partition), self.coordinator.now_ms());
        NewOffset {
            key: ("flights".to_owned(), partition),
            value: OffsetValue { metadata: note.to_owned(), ..value },
        }
    }

    async fn join(&self, join: Join) -> JoinAnswer {
        let share = self.coordinator.share_memory(1_000).unwrap();
        self.coordinator.join("g", join, share).await
    }

    /// What the next start would find for [`key`].
    async fn replayed(&self) -> Option<i64> {
        let next = Coordinator::new(Arc::clone(&self.clock) as Arc<dyn Clock>, 3_000);
        next.load(&self.log.0).await.unwrap();
        next.find("g").and_then(|cell| position(&cell))
    }
}

fn key() -> OffsetKey {
    ("flights".to_owned(), 0)
}

fn committed(offset: i64, commit_timestamp: i64) -> OffsetValue {
    OffsetValue {
        offset,
        leader_epoch: -1,
        metadata: String::new(),
        commit_timestamp,
        expire_timestamp: None,
        topic_id: None,
    }
}

fn no_topics() -> Arc<Topics> {
    Arc::default()
}

fn position(cell: &GroupCell) -> Option<i64> {
    cell.lock().group.offsets.get("flights", 0).map(|value| value.offset)
}

fn join(member_id: &str, metadata_bytes: usize) -> Join {
    Join {
        token: Token(0),
        member_id: member_id.to_owned(),
        instance_id: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        rebalance_timeout_ms: 60_000,
        session_timeout_ms: SESSION_MS,
        protocol_type: "consumer".into(),
        protocols: vec![Protocol { name: "range".into(), metadata: vec![1_u8; metadata_bytes].into() }],
        require_known_member_id: false,
        understands_skip: true,
        fresh_member_id: "m-1".into(),
    }
}

#[tokio::test]
async fn what_is_committed_while_expiry_waits_for_room_stays() {
    let bench = Bench::new();
    let cell = bench.coordinator.find_or_make("g").unwrap();
    cell.lock().group.offsets.apply(key(), committed(7, 0), 0);
    let rooms = bench.fill_journal().await;
    let coordinator = Arc::clone(&bench.coordinator);
    let expiry = tokio::spawn(async move {
        coordinator.expire(&no_topics).await;
    });
    tokio::task::yield_now().await;
    assert!(!expiry.is_finished(), "there was room left");
    cell.lock().group.offsets.apply(key(), committed(8, bench.coordinator.now_ms()), 1);
    drop(rooms);
    expiry.await.unwrap();
    assert_eq!(position(&cell), Some(8));
    assert_eq!(bench.log.0.hot().high_watermark(), Offset(0), "no tombstone was written");
}

#[tokio::test]
async fn what_is_committed_for_a_topic_made_while_expiry_waits_for_room_stays() {
    let bench = Bench::new();
    let cell = bench.coordinator.find_or_make("g").unwrap();
    let of = |number: u8| OffsetValue {
        topic_id: Some(TopicId([number; 16])),
        ..committed(7, bench.coordinator.now_ms())
    };
    cell.lock().group.offsets.apply(("gone".to_owned(), 0), of(5), 0);
    let rooms = bench.fill_journal().await;
    let topics = Arc::new(Mutex::new(Arc::new(Topics::default())));
    let (coordinator, seen) = (Arc::clone(&bench.coordinator), Arc::clone(&topics));
    let expiry = tokio::spawn(async move {
        coordinator.expire(&move || Arc::clone(&seen.lock().unwrap())).await;
    });
    tokio::task::yield_now().await;
    assert!(!expiry.is_finished(), "there was room left");
    let flights = Topic {
        id: TopicId([6; 16]),
        name: Arc::from("flights"),
        overrides: Overrides::new(),
        config: TopicConfig::resolve(&Overrides::new()).unwrap(),
        partitions: Vec::new(),
    };
    *topics.lock().unwrap() = Arc::new(Topics::default().with(flights));
    cell.lock().group.offsets.apply(key(), of(6), 1);
    drop(rooms);
    expiry.await.unwrap();
    assert_eq!(position(&cell), Some(7));
    assert!(cell.lock().group.offsets.get("gone", 0).is_none(), "what is due goes all the same");
}

#[tokio::test]
async fn nothing_is_forgotten_under_a_commit_and_nothing_committed_under_a_deletion() {
    let bench = Bench::new();
    let cell = bench.coordinator.find_or_make("g").unwrap();
    cell.lock().group.offsets.apply(key(), committed(7, 0), -1);
    cell.lock().commits_under_way = 1;
    assert_eq!(bench.coordinator.delete("g").await, Err(ErrorCode::NON_EMPTY_GROUP));
    bench.coordinator.expire(&no_topics).await;
    assert_eq!(position(&cell), Some(7));
    cell.lock().commits_under_way = 0;

    let rooms = bench.fill_journal().await;
    let coordinator = Arc::clone(&bench.coordinator);
    let deletion = tokio::spawn(async move { coordinator.delete("g").await });
    tokio::task::yield_now().await;
    assert_eq!(bench.commit(8).await, Err(ErrorCode::COORDINATOR_NOT_AVAILABLE));
    drop(rooms);
    assert_eq!(deletion.await.unwrap(), Ok(()));
    assert!(bench.coordinator.find("g").is_none());
    assert_eq!(bench.replayed().await, None);

    assert_eq!(bench.commit(9).await, Ok(()));
    assert_eq!(bench.replayed().await, Some(9));
    let again = bench.coordinator.find("g").unwrap();
    assert_eq!(again.lock().commits_under_way, 0);
}

#[tokio::test]
async fn expired_offsets_are_gone_for_the_next_start_too() {
    let bench = Bench::new();
    assert_eq!(bench.commit(7).await, Ok(()));
    assert_eq!(bench.replayed().await, Some(7));
    bench.clock.0.fetch_add(crate::groups::OFFSETS_RETENTION_MS, Ordering::AcqRel);
    bench.coordinator.expire(&no_topics).await;
    assert!(bench.coordinator.find("g").is_none());
    assert_eq!(bench.replayed().await, None);
}

#[tokio::test]
async fn a_group_that_never_formed_is_forgotten() {
    let bench = Bench::new();
    let answer = bench.join(Join { session_timeout_ms: 0, ..join("", 1) }).await;
    assert_eq!(answer.error, ErrorCode::INVALID_SESSION_TIMEOUT);
    assert!(bench.coordinator.find("g").is_none());

    let answer = bench.join(Join { require_known_member_id: true, ..join("", 1) }).await;
    assert_eq!(answer.error, ErrorCode::MEMBER_ID_REQUIRED);
    bench.coordinator.expire(&no_topics).await;
    assert!(bench.coordinator.find("g").is_some(), "the member may still come back");
    bench.clock.0.fetch_add(SESSION_MS, Ordering::AcqRel);
    bench.coordinator.expire(&no_topics).await;
    assert!(bench.coordinator.find("g").is_none());
    assert_eq!(bench.coordinator.memory.held_bytes(), 0);
    assert_eq!(bench.log.0.hot().high_watermark(), Offset(0), "no tombstone was written");
}

#[tokio::test]
async fn a_static_member_is_told_its_new_id_once_that_is_durable() {
    let bench = Bench::new();
    let member = MemberValue {
        member_id: "m-0".into(),
        group_instance_id: Some("node-a".into()),
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        rebalance_timeout_ms: 60_000,
        session_timeout_ms: 10_000,
        subscription: vec![1_u8].into(),
        assignment: vec![7_u8].into(),
    };
    let value = GroupValue {
        protocol_type: "consumer".into(),
        generation: 5,
        protocol: Some("range".into()),
        leader: Some("m-0".into()),
        current_state_timestamp: -1,
        members: vec![member],
    };
    let cell = bench.coordinator.find_or_make("g").unwrap();
    cell.lock().group.restore(value, bench.coordinator.now_ms());
    let rooms = bench.fill_journal().await;
    let (coordinator, share) =
        (Arc::clone(&bench.coordinator), bench.coordinator.share_memory(1_000).unwrap());
    let back = Join { instance_id: Some("node-a".into()), ..join("", 1) };
    let joining = tokio::spawn(async move { coordinator.join("g", back, share).await });
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    assert!(
        !joining.is_finished(),
        "a broker that dies now comes back with the old id, and fences the new one"
    );
    drop(rooms);
    let answer = joining.await.unwrap();
    assert_eq!((answer.error, answer.generation, answer.member_id.as_str()), (ErrorCode::NONE, 5, "m-1"));

    let next = Coordinator::new(Arc::clone(&bench.clock) as Arc<dyn Clock>, 3_000);
    next.load(&bench.log.0).await.unwrap();
    let replayed = next.find("g").expect("the group was replayed");
    assert_eq!(replayed.lock().group.to_record().members[0].member_id, "m-1");
}

#[test]
fn what_is_described_is_shared_with_the_members() {
    let bench = Bench::new();
    let cell = bench.coordinator.find_or_make("g").unwrap();
    let offered = join("", 5_000);
    let metadata = offered.protocols[0].metadata.clone();
    let mut locked = cell.lock();
    locked.group.join(offered, 0);
    // The first rebalance waits for more members, then it takes what is there, and a protocol is chosen.
    locked.group.tick(3_000);
    drop(locked);
    let described = bench.coordinator.describe("g").unwrap().expect("the group was made");
    assert_eq!(described.record.members[0].subscription, metadata);
    assert_eq!(described.record.members[0].subscription.as_ptr(), metadata.as_ptr(), "the bytes were copied");
}

/// After a checkpoint the batches of an idle partition are read from its file up to a block, from there on from memory.
#[tokio::test]
async fn what_a_checkpoint_splits_between_file_and_memory_is_replayed() {
    let bench = Bench::new();
    // Batches of 15 KiB, so that the file's last whole block ends inside of one.
    let note = "n".repeat(3_000);
    let offsets = (0..40).map(|partition| bench.noted(partition, &note)).collect();
    assert_eq!(bench.commit_all(offsets).await, Ok(()));
    bench.directory.checkpoint().unwrap();
    let limits = hotlog::ReadLimits { max_bytes: 1 << 20, at_least_one_batch: true };
    let read = bench.log.0.read(Offset(0), limits, hotlog::Isolation::ReadUncommitted).await.unwrap();
    assert!(read.pieces.len() > 1, "nothing is split: {:?}", read.pieces);

    let next = Coordinator::new(Arc::clone(&bench.clock) as Arc<dyn Clock>, 3_000);
    next.load(&bench.log.0).await.unwrap();
    let cell = next.find("g").expect("the group was replayed");
    let locked = cell.lock();
    for partition in 0..40 {
        let value = locked.group.offsets.get("flights", partition).expect("every offset was replayed");
        assert_eq!((value.offset, &value.metadata), (i64::from(partition), &note));
    }
}

#[tokio::test]
async fn committed_offsets_are_counted_and_have_a_bound() {
    let bench = Bench::new();
    let memory = &bench.coordinator.offsets_memory;
    assert_eq!(bench.commit_all(vec![bench.noted(0, "note")]).await, Ok(()));
    let one_bytes = memory.held_bytes();
    assert!(one_bytes > "flights".len() + "note".len());
    let others = memory.share(COMMITTED_OFFSETS_BYTES - one_bytes).unwrap();
    assert_eq!(bench.commit_all(vec![bench.noted(0, "nota")]).await, Ok(()), "it takes the place of one");
    let refused = Err(ErrorCode::INVALID_COMMIT_OFFSET_SIZE);
    assert_eq!(bench.commit_all(vec![bench.noted(0, "a longer note")]).await, refused);
    assert_eq!(bench.commit_all(vec![bench.noted(1, "note")]).await, refused);
    assert_eq!(bench.log.0.hot().high_watermark(), Offset(2), "what was refused was written");
    drop(others);
    assert_eq!(bench.commit_all(vec![bench.noted(1, "note")]).await, Ok(()));
    assert_eq!(memory.held_bytes(), 2 * one_bytes);

    let next = Coordinator::new(Arc::clone(&bench.clock) as Arc<dyn Clock>, 3_000);
    next.load(&bench.log.0).await.unwrap();
    next.finish_loading();
    assert_eq!(next.offsets_memory.held_bytes(), 2 * one_bytes, "a start counts what it finds");
    assert_eq!(bench.coordinator.delete("g").await, Ok(()));
    assert_eq!(memory.held_bytes(), 0);
}

#[test]
fn a_group_at_its_number_of_offsets_goes_on_with_the_partitions_it_has() {
    let bench = Bench::new();
    let mut held = crate::groups::offsets::GroupOffsets::default();
    for partition in 0..MAX_OFFSETS_PER_GROUP as i32 {
        let NewOffset { key, value } = bench.noted(partition, "");
        held.apply(key, value, 0);
    }
    let admitted = |partition| {
        let chunk = [bench.noted(0, ""), bench.noted(partition, "")];
        bench.coordinator.share_for_offsets(&held, &chunk).map(drop)
    };
    assert_eq!(admitted(1), Ok(()));
    let beyond = MAX_OFFSETS_PER_GROUP as i32;
    assert_eq!(admitted(beyond), Err(ErrorCode::INVALID_COMMIT_OFFSET_SIZE));
}

#[tokio::test]
async fn memory_follows_what_members_hold() {
    let bench = Bench::new();
    let (coordinator, memory) = (&bench.coordinator, &bench.coordinator.memory);
    let cell = coordinator.find_or_make("g").unwrap();
    let mut locked = cell.lock();
    locked.group.join(join("", 5_000), coordinator.now_ms());
    coordinator.settle(&mut locked);
    let most = memory.held_bytes();
    assert!(most > 5_000);
    locked.group.join(join("m-1", 1_000), coordinator.now_ms());
    coordinator.settle(&mut locked);
    assert_eq!(memory.held_bytes(), most - 4_000);
    assert_eq!(locked.group.leave("m-1", None, coordinator.now_ms()).0, Ok(()));
    coordinator.settle(&mut locked);
    assert_eq!(memory.held_bytes(), 0);
}
