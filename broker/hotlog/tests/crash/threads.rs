//! Several threads at once, as in a broker: the order is the scheduler's, the recording is judged like any other.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use hotlog::directory::LogDirectory;
use hotlog::options::FlushMode;
use hotlog::partition::{Origin, PartitionId};
use hotlog::worker::Threads;

use crate::explore::{Effort, Explorer, Recording};
use crate::filesystem::FileSystem;
use crate::life::{Life, Stuck, batch_bytes, topic};
use crate::model::{Expectation, Note, Place, Sequenced};
use crate::recording::RecordingDisk;
use crate::replay::Mutation;
use crate::{multiplier, say, scenarios, seed};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn wait<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// One connection's work: a few batches, then their commit, then their acknowledgement; two partitions in turn.
fn produce(disk: &RecordingDisk, log: &LogDirectory, ids: &AtomicU64, producer_id: i64) -> Result<(), Stuck> {
    let mut base_sequences = [0, 0];
    for round in 0..5 {
        let mut appended = Vec::new();
        for _ in 0..1 + round % 2 {
            let turn = (round + producer_id as usize) % 2;
            let partition = topic(1 + turn as u8);
            let id = ids.fetch_add(1, Ordering::Relaxed);
            let base_sequence = base_sequences[turn];
            base_sequences[turn] += 2;
            let sequenced = Some(Sequenced { producer_id, producer_epoch: 0, base_sequence });
            let bytes = batch_bytes(id, &vec![3; 300 + round * 900], 2, sequenced);
            disk.note(Note::Begun { id, partition, bytes: bytes.clone().into(), sequenced });
            let room = wait(log.reserve_room(bytes.len()))?;
            let handle = log.partition(partition).expect("the story made it");
            let done = handle.append(room, &bytes, Origin::Client)?;
            let place = Place {
                base_offset: done.base_offset,
                last_offset: done.last_offset,
                epoch: log.leader_epoch(),
                append_time_ms: Some(done.append_time_ms),
            };
            disk.note(Note::Placed { id, place });
            appended.push((id, done.ticket));
        }
        for (id, ticket) in appended {
            wait(log.commit(ticket))?;
            disk.note(Note::Acked { id });
        }
    }
    Ok(())
}

fn record(flush: FlushMode) -> Recording {
    let settings = scenarios::settings(flush, seed());
    let disk = RecordingDisk::new(FileSystem::default()).yielding();
    let life = Life::begin_on(&disk, settings, 1, Arc::new(Threads)).expect("an empty disk opens");
    disk.note(Note::Recovered { epoch: life.epoch() });
    let ids = AtomicU64::new(life.next_id());
    for number in [1, 2] {
        let partition = topic(number);
        create(&disk, &life, &ids, partition);
    }
    std::thread::scope(|scope| {
        for producer_id in 0..3 {
            let (disk, log, ids) = (&disk, &life.log, &ids);
            scope.spawn(move || produce(disk, log, ids, producer_id).expect("the story goes on"));
        }
    });
    let events = disk.take_events();
    life.log.close().expect("a log in order closes");
    let (initial, expectation) =
        (FileSystem::default(), Expectation { in_story: true, ..Expectation::default() });
    Recording { name: "several threads", initial, expectation, events, point_one_in: 1, next: settings }
}

fn create(disk: &RecordingDisk, life: &Life, ids: &AtomicU64, partition: PartitionId) {
    disk.note(Note::Create { partition, acked: false });
    let id = ids.fetch_add(1, Ordering::Relaxed);
    let bytes = batch_bytes(id, &crate::life::create_payload(partition), 1, None);
    disk.note(Note::Begun {
        id,
        partition: PartitionId::METADATA,
        bytes: bytes.clone().into(),
        sequenced: None,
    });
    let room = wait(life.log.reserve_room(bytes.len())).expect("room is there");
    let metadata = life.partition(PartitionId::METADATA);
    let done = metadata.append(room, &bytes, Origin::Internal).expect("metadata is taken");
    wait(life.log.commit(done.ticket)).expect("metadata is committed");
    life.log.create_partition(partition, life.config()).expect("an open log takes partitions");
    disk.note(Note::Create { partition, acked: true });
}

#[test]
fn several_threads_keep_every_promise() {
    for flush in [FlushMode::Ack, FlushMode::Os] {
        for run in 0..2 * multiplier() {
            let recording = record(flush);
            let effort = Effort { states_per_point: 3, deepen_one_in: 60, depth: 2, later_states: 100 };
            let mut explorer = Explorer::new(Mutation::None, effort, seed() + run as u64);
            if let Err(violation) = explorer.explore(&recording) {
                panic!("several threads, {flush:?}: {violation}");
            }
            let states: u64 = explorer.tally.states.iter().sum();
            say(&format!(
                "crash {flush:?} several threads, run {run}: {} points, {states} states",
                explorer.tally.points
            ));
        }
    }
}
