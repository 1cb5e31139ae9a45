//! Reads that outlive their fetches, against stores that answer when the test says so.

use bytes::Bytes;
use futures::FutureExt as _;
use tokio::sync::oneshot;
use wire::codec::Piece;
use wire::ids::TopicId;

use super::*;

fn reads() -> Arc<ColdReads> {
    Arc::new(ColdReads::new(CancellationToken::new()))
}

fn wanted(from: i64) -> Wanted {
    sized(from, 1 << 20)
}

fn sized(from: i64, max_bytes: usize) -> Wanted {
    let partition = PartitionId { topic_id: TopicId([3; 16]), partition: 0 };
    let size = ReadSize::within(max_bytes);
    let place = Place { partition, from: Offset(from), committed_only: false, size };
    Wanted { place, waiter: Arc::default() }
}

fn found(log_start: i64) -> Outcome {
    Ok(Read {
        pieces: Vec::new(),
        high_watermark: Offset(9),
        last_stable_offset: Offset(9),
        log_start: Offset(log_start),
        aborted: Vec::new(),
    })
}

/// As much as one read may bring.
fn found_much(log_start: i64) -> Outcome {
    let piece = Piece::Memory(Bytes::from(vec![0; COLD_READ_BYTES]));
    found(log_start).map(|read| Read { pieces: vec![piece], ..read })
}

/// A read that comes to its end when the test says what to.
fn slow() -> (oneshot::Sender<Outcome>, BoxFuture<'static, Outcome>) {
    let (sender, receiver) = oneshot::channel();
    (sender, receiver.map(|said| said.expect("the test says how it ends")).boxed())
}

fn never(_max_bytes: usize) -> BoxFuture<'static, Outcome> {
    panic!("the place is read once more")
}

fn told(finished: Option<Finished>) -> i64 {
    finished.expect("the read has come to its end").outcome.unwrap().log_start.0
}

async fn in_time(notify: &Notify) {
    tokio::time::timeout(Duration::from_secs(20), notify.notified()).await.unwrap();
}

#[tokio::test]
async fn what_is_here_is_given_at_once_and_only_once() {
    let reads = reads();
    let first = reads.take_or_begin(&wanted(5), |_| async { found(1) }.boxed()).await;
    assert_eq!(told(first), 1);
    assert!(reads.table().is_empty());
    let again = reads.take_or_begin(&wanted(5), |_| async { found(2) }.boxed()).await;
    assert_eq!(told(again), 2);
}

#[tokio::test]
async fn a_read_goes_on_without_its_fetch_and_the_next_one_takes_it_up() {
    let reads = reads();
    let (end, read) = slow();
    assert!(reads.take_or_begin(&wanted(5), |_| read).await.is_none());
    // The fetch has answered without it. Several that follow find it under way, as those of a client that waits 0.5 s do
    // with a store that takes 3 s.
    for _ in 0..5 {
        assert!(reads.take_or_begin(&wanted(5), never).await.is_none());
    }
    let last = wanted(5);
    assert!(reads.take_or_begin(&last, never).await.is_none());
    end.send(found(1)).unwrap();
    in_time(&last.waiter.notify).await;
    assert_eq!(told(reads.take_or_begin(&last, never).await), 1);
    assert!(reads.table().is_empty());
}

#[tokio::test]
async fn a_read_that_ended_between_two_fetches_is_kept_for_the_second() {
    let reads = reads();
    let (end, read) = slow();
    assert!(reads.take_or_begin(&wanted(5), |_| read).await.is_none());
    end.send(found(1)).unwrap();
    while reads.table().values().any(|begun| begun.finished.is_none()) {
        tokio::task::yield_now().await;
    }
    reads.forget_idle();
    assert_eq!(told(reads.take_or_begin(&wanted(5), never).await), 1);
}

#[tokio::test]
async fn fetches_that_wait_for_the_same_place_all_get_it() {
    let reads = reads();
    let (end, read) = slow();
    let (one, other) = (wanted(5), wanted(5));
    assert!(reads.take_or_begin(&one, |_| read).await.is_none());
    assert!(reads.take_or_begin(&other, never).await.is_none());
    end.send(found(1)).unwrap();
    in_time(&one.waiter.notify).await;
    assert_eq!(told(reads.take_or_begin(&one, never).await), 1);
    in_time(&other.waiter.notify).await;
    assert_eq!(told(reads.take_or_begin(&other, never).await), 1);
    assert!(reads.table().is_empty());
}

#[tokio::test]
async fn what_did_not_fit_is_there_for_the_next_fetch() {
    let reads = reads();
    let wanted = wanted(5);
    let finished = reads.take_or_begin(&wanted, |_| async { found(1) }.boxed()).await.unwrap();
    reads.put_back(wanted.place, finished);
    assert_eq!(told(reads.take_or_begin(&wanted, never).await), 1);
}

#[tokio::test]
async fn a_read_that_broke_off_leaves_its_place_to_the_next() {
    let reads = reads();
    let wanted = wanted(5);
    let (end, read) = slow();
    assert!(reads.take_or_begin(&wanted, |_| read).await.is_none());
    // The read panics in its task.
    drop(end);
    in_time(&wanted.waiter.notify).await;
    assert_eq!(told(reads.take_or_begin(&wanted, |_| async { found(2) }.boxed()).await), 2);
}

#[tokio::test]
async fn a_stop_ends_what_is_under_way() {
    let stop = CancellationToken::new();
    let reads = Arc::new(ColdReads::new(stop.clone()));
    let wanted = wanted(5);
    assert!(reads.take_or_begin(&wanted, |_| futures::future::pending().boxed()).await.is_none());
    stop.cancel();
    in_time(&wanted.waiter.notify).await;
    assert!(reads.table().is_empty());
}

#[tokio::test]
async fn reads_that_hang_hold_no_more_than_their_share() {
    let reads = reads();
    let most = COLD_READS_BYTES / COLD_READ_BYTES;
    let mut ends = Vec::new();
    for from in 0..most {
        let wanted = sized(from as i64, usize::MAX);
        let (end, read) = slow();
        let begun = reads.take_or_begin(&wanted, |max_bytes| {
            assert_eq!(max_bytes, COLD_READ_BYTES);
            read
        });
        assert!(begun.await.is_none());
        ends.push(end);
    }
    // Another one waits for room, and has it when one of them has found less than it might.
    let wanted = sized(-1, COLD_READ_BYTES);
    assert!(reads.take_or_begin(&wanted, |_| async { found(1) }.boxed()).await.is_none());
    tokio::task::yield_now().await;
    assert!(reads.take_or_begin(&wanted, never).await.is_none());
    ends.pop().unwrap().send(found(0)).unwrap();
    in_time(&wanted.waiter.notify).await;
    assert_eq!(told(reads.take_or_begin(&wanted, never).await), 1);
}

#[tokio::test]
async fn what_nobody_takes_up_makes_room_from_the_oldest_on() {
    let reads = reads();
    let most = (COLD_READS_BYTES / COLD_READ_BYTES) as i64;
    // The fetch of the very first has not answered yet.
    let awaited = sized(0, COLD_READ_BYTES);
    for from in 0..most {
        let wanted = if from == 0 { awaited.clone() } else { sized(from, COLD_READ_BYTES) };
        let (end, read) = slow();
        assert!(reads.take_or_begin(&wanted, |_| read).await.is_none());
        end.send(found_much(from)).unwrap();
        while reads.table()[&wanted.place].finished.is_none() {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(reads.budget.available_permits(), 0);
    let another = reads.take_or_begin(&sized(-1, COLD_READ_BYTES), |_| async { found(90) }.boxed()).await;
    assert_eq!(told(another), 90);
    assert!(!reads.table().contains_key(&sized(1, COLD_READ_BYTES).place));
    assert_eq!(told(reads.take_or_begin(&awaited, never).await), 0);
    assert_eq!(told(reads.take_or_begin(&sized(2, COLD_READ_BYTES), never).await), 2);
    assert_eq!(reads.short_kib.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn what_ends_without_its_fetch_makes_room_for_one_that_waits() {
    let reads = reads();
    let mut ends = Vec::new();
    for from in 0..COLD_READS_BYTES / COLD_READ_BYTES {
        let (end, read) = slow();
        assert!(reads.take_or_begin(&sized(from as i64, COLD_READ_BYTES), |_| read).await.is_none());
        ends.push(end);
    }
    let wanted = sized(-1, COLD_READ_BYTES);
    assert!(reads.take_or_begin(&wanted, |_| async { found(1) }.boxed()).await.is_none());
    ends.pop().unwrap().send(found_much(0)).unwrap();
    in_time(&wanted.waiter.notify).await;
    assert_eq!(told(reads.take_or_begin(&wanted, never).await), 1);
}

#[tokio::test]
async fn a_fetch_that_has_answered_is_not_waited_for_though_its_partition_would_wake_it() {
    let reads = reads();
    let (one, other) = (wanted(5), wanted(5));
    let (end, read) = slow();
    assert!(reads.take_or_begin(&one, |_| read).await.is_none());
    assert!(reads.take_or_begin(&other, never).await.is_none());
    let _registered = Arc::clone(&one.waiter.notify);
    drop(one);
    end.send(found(1)).unwrap();
    in_time(&other.waiter.notify).await;
    assert_eq!(told(reads.take_or_begin(&other, never).await), 1);
    assert!(reads.table().is_empty());
}

#[tokio::test]
async fn who_wants_little_is_not_given_what_another_asked_for() {
    for (max_bytes, size) in [
        (0, 1),
        (70_000, 65_536),
        (1 << 20, 1 << 20),
        ((1 << 20) + 5, 1 << 20),
        (usize::MAX, COLD_READ_BYTES),
    ] {
        assert_eq!(ReadSize::within(max_bytes), ReadSize(size));
    }
    let reads = reads();
    let (_end_of_large, large) = slow();
    assert!(reads.take_or_begin(&sized(5, usize::MAX), |_| large).await.is_none());
    let little = sized(5, 70_000);
    let (end, read) = slow();
    let begun = reads.take_or_begin(&little, |max_bytes| {
        assert_eq!(max_bytes, 65_536);
        read
    });
    assert!(begun.await.is_none());
    // Limits that are about the same share one read.
    assert!(reads.take_or_begin(&sized(5, 100_000), never).await.is_none());
    end.send(found(2)).unwrap();
    in_time(&little.waiter.notify).await;
    assert_eq!(told(reads.take_or_begin(&little, never).await), 2);
}

#[tokio::test]
async fn a_fetch_that_is_given_its_read_at_once_is_not_woken_by_it() {
    let reads = reads();
    let wanted = wanted(5);
    assert_eq!(told(reads.take_or_begin(&wanted, |_| async { found(1) }.boxed()).await), 1);
    assert!(wanted.waiter.notify.notified().now_or_never().is_none());
    // Only a read that it does not look at itself wakes it.
    let (end, read) = slow();
    assert!(reads.take_or_begin(&wanted, |_| read).await.is_none());
    end.send(found(2)).unwrap();
    in_time(&wanted.waiter.notify).await;
    assert_eq!(told(reads.take_or_begin(&wanted, never).await), 2);
}

#[tokio::test]
async fn a_store_that_answers_any_read_is_not_silent() {
    let (reads, short) = (reads(), Duration::from_millis(20));
    assert!(reads.is_silent_for(short), "nothing was ever read");
    reads.note_answered();
    assert!(!reads.is_silent_for(Duration::from_secs(60)));
    tokio::time::sleep(short).await;
    assert!(reads.is_silent_for(short));
}
