//! Recovers a crashed directory and compares what it holds with what must be true.
//!
//! Owns: the checks. Each failure is a sentence. Does not own: which crashed states there are (`explore`).

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use hotlog::epochs::EpochEnd;
use hotlog::partition::PartitionId;
use hotlog::sidecar::Sidecar;
use wire::ids::Offset;

use crate::life::{Found, Life, Settings, Stuck, records_of, split};
use crate::model::{BatchFact, BatchId, Crash, Cut, Expectation, Note};
use crate::recording::RecordingDisk;

/// What is wrong.
pub type Complaint = String;

/// Recovers, checks, and goes on working a little, so that the disk's recording holds a whole second life.
pub fn judge(
    disk: &RecordingDisk,
    settings: Settings,
    expectation: &mut Expectation,
    crash: Crash,
) -> Result<(), Complaint> {
    quietly(|| {
        let next_id =
            expectation.batches.keys().next_back().map_or(1, |last| last + 1).max(expectation.next_id);
        let mut life =
            Life::begin(disk, settings, next_id).map_err(|Stuck(why)| format!("cannot open: {why}"))?;
        let lost = compare(&life, expectation, crash)?;
        announce(&life, expectation, lost);
        let producers = check_producers(&mut life, expectation)?;
        go_on(&mut life, expectation, producers).map_err(|Stuck(why)| format!("cannot go on: {why}"))?;
        Ok(())
    })
}

/// Turns a panic of the log, or of a check, into a complaint.
pub fn quietly<T>(work: impl FnOnce() -> Result<T, Complaint>) -> Result<T, Complaint> {
    crate::panics::silenced(|| catch_unwind(AssertUnwindSafe(work))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}

/// The batches that are gone, all of which the crash was allowed to take.
pub fn compare(life: &Life, expectation: &Expectation, crash: Crash) -> Result<Vec<BatchId>, Complaint> {
    if life.epoch().0 <= expectation.epoch {
        return Err(format!("epoch {} follows epoch {}", life.epoch(), expectation.epoch));
    }
    let mut lost = Vec::new();
    let mut partitions: BTreeSet<PartitionId> = expectation.partitions.keys().copied().collect();
    partitions.insert(PartitionId::METADATA);
    for partition in partitions {
        let fact = expectation.partitions.get(&partition).cloned().unwrap_or_default();
        match life.log.partition(partition) {
            Some(_) if fact.delete_acked => return Err(format!("deleted {partition} is back")),
            None if fact.create_acked && !fact.delete_begun => return Err(format!("{partition} is gone")),
            Some(_) => lost.extend(compare_partition(life, expectation, partition, crash)?),
            None => lost.extend(of(expectation, partition).map(|(id, _)| id)),
        }
    }
    let painful: Vec<_> = lost
        .iter()
        .filter(|id| expectation.batches[id].acked && !gone_with_topic(expectation, **id))
        .collect();
    if !painful.is_empty() && life.report.losses.is_empty() {
        return Err(format!("acknowledged batches {painful:?} are lost, which the report does not say"));
    }
    if crash == Crash::Kill && !expectation.power_was_lost && !life.report.losses.is_empty() {
        return Err(format!("losses reported after a mere kill: {:?}", life.report.losses));
    }
    if expectation.is_closed && !life.report.losses.is_empty() {
        return Err(format!("losses reported after a stop in good order: {:?}", life.report.losses));
    }
    Ok(lost)
}

fn gone_with_topic(expectation: &Expectation, id: BatchId) -> bool {
    let fact = &expectation.batches[&id];
    fact.cut != Cut::No
        || expectation.partitions.get(&fact.partition).is_some_and(|partition| partition.delete_begun)
}

fn of(expectation: &Expectation, partition: PartitionId) -> impl Iterator<Item = (BatchId, &BatchFact)> {
    let here = move |(_, fact): &(&BatchId, &BatchFact)| fact.partition == partition;
    expectation.batches.iter().filter(here).map(|(id, fact)| (*id, fact))
}

fn compare_partition(
    life: &Life,
    expectation: &Expectation,
    partition: PartitionId,
    crash: Crash,
) -> Result<Vec<BatchId>, Complaint> {
    let handle = life.partition(partition);
    let fact = expectation.partitions.get(&partition).cloned().unwrap_or_default();
    let (start, local_start) = (handle.log_start(), handle.local_log_start());
    let end = handle.log_end();
    if !(fact.start_acked..=fact.start_begun).contains(&start.0) {
        return Err(format!(
            "{partition} starts at {start}, not in {}..={}",
            fact.start_acked, fact.start_begun
        ));
    }
    if handle.high_watermark() != end {
        return Err(format!("{partition}: high watermark {} is not the end {end}", handle.high_watermark()));
    }
    if local_start.0 > start.0.max(fact.released) {
        return Err(format!(
            "{partition}: local start {local_start} is beyond what was released, {}",
            fact.released
        ));
    }
    let found = life.read_all(partition).map_err(|Stuck(why)| format!("{partition}: cannot read: {why}"))?;
    check_tiling(partition, &found, local_start, end)?;
    let mut present = BTreeSet::new();
    for batch in &found {
        check_batch(expectation, partition, batch)?;
        if !present.insert(batch.id) {
            return Err(format!("{partition}: batch {} is there twice", batch.id));
        }
    }
    check_epochs(life, partition, &found, end)?;
    check_sealed(life, partition, expectation)?;
    let mut lost = Vec::new();
    for (id, fact) in of(expectation, partition).filter(|(id, _)| !present.contains(id)) {
        let below_start = fact.place.is_some_and(|place| place.last_offset < local_start);
        if below_start && fact.cut == Cut::No {
            continue;
        }
        let needed = match crash {
            Crash::Power => fact.synced,
            Crash::Kill => fact.acked || fact.served,
        };
        if needed && fact.cut == Cut::No {
            return Err(format!("{partition}: batch {id} at {:?} is lost", fact.place));
        }
        lost.push(id);
    }
    Ok(lost)
}

fn check_tiling(
    partition: PartitionId,
    found: &[Found],
    start: Offset,
    end: Offset,
) -> Result<(), Complaint> {
    let mut next = found.first().map_or(start, |first| first.header.base_offset);
    if next > start {
        return Err(format!("{partition}: the first batch begins at {next}, behind the start {start}"));
    }
    for batch in found {
        if batch.header.base_offset != next {
            return Err(format!(
                "{partition}: a batch begins at {}, not at {next}",
                batch.header.base_offset
            ));
        }
        next = batch.header.next_offset();
    }
    if next != end {
        return Err(format!("{partition}: readers find the end at {next}, the log says {end}"));
    }
    Ok(())
}

fn check_batch(expectation: &Expectation, partition: PartitionId, found: &Found) -> Result<(), Complaint> {
    let id = found.id;
    let Some(fact) = expectation.batches.get(&id) else {
        return Err(format!("{partition}: batch {id} is back, though it was gone"));
    };
    if fact.partition != partition {
        return Err(format!("{partition}: batch {id} belongs to {}", fact.partition));
    }
    if fact.cut == Cut::Gone {
        return Err(format!("{partition}: batch {id} is back, though it was cut away"));
    }
    // Base offset and leader epoch are the log's own; every other byte is the sender's.
    if found.bytes.len() != fact.bytes.len()
        || found.bytes[8..12] != fact.bytes[8..12]
        || found.bytes[16..] != fact.bytes[16..]
    {
        return Err(format!("{partition}: batch {id} is not what was sent"));
    }
    if let Some(place) = fact.place
        && (found.header.base_offset, found.header.leader_epoch) != (place.base_offset, place.epoch)
    {
        return Err(format!(
            "{partition}: batch {id} was at {place:?}, is at {:?}",
            found.header.base_offset
        ));
    }
    Ok(())
}

fn check_epochs(life: &Life, partition: PartitionId, found: &[Found], end: Offset) -> Result<(), Complaint> {
    let handle = life.partition(partition);
    for batch in found {
        let epoch = batch.header.leader_epoch;
        let later = found.iter().find(|other| other.header.leader_epoch > epoch);
        let expected = later.map_or(end, |other| other.header.base_offset);
        let answer = handle.offset_for_leader_epoch(epoch);
        if answer != Some(EpochEnd { epoch, end_offset: expected }) {
            return Err(format!("{partition}: epoch {epoch} ends at {expected}, the log says {answer:?}"));
        }
    }
    Ok(())
}

/// What the archiver would take: whole segments, and sidecars that tell the truth about them.
fn check_sealed(life: &Life, partition: PartitionId, expectation: &Expectation) -> Result<(), Complaint> {
    let sealed = life.partition(partition).sealed_segments(Offset(0));
    for segment in sealed.map_err(|error| format!("{partition}: sealed segments: {error}"))? {
        let base = segment.base_offset;
        let bytes = segment.bytes.read().map_err(|error| format!("{partition}: segment {base}: {error}"))?;
        let batches = split(&bytes);
        let sidecar =
            Sidecar::decode(&segment.sidecar).map_err(|error| format!("{partition}: {base}: {error}"))?;
        let last = batches.last().map(|batch| batch.header);
        if last.map(|last| last.last_offset()) != Some(segment.last_offset)
            || sidecar.next_offset.0 != segment.last_offset.0 + 1
            || sidecar.size_bytes() as usize != bytes.len()
            || last.map(|last| last.leader_epoch) != Some(sidecar.leader_epoch)
        {
            return Err(format!("{partition}: segment {base} and its sidecar disagree"));
        }
        for batch in &batches {
            check_batch(expectation, partition, batch)?;
        }
        check_sidecar_producers(partition, &sidecar, expectation)?;
        check_sidecar_times(partition, &sidecar, &batches, expectation)?;
    }
    Ok(())
}

/// The sidecar knows when its batches were appended, which nothing else does: retention goes by it where records have no time.
fn check_sidecar_times(
    partition: PartitionId,
    sidecar: &Sidecar,
    batches: &[Found],
    expectation: &Expectation,
) -> Result<(), Complaint> {
    let appended = |found: Option<&Found>| {
        found.and_then(|found| expectation.batches.get(&found.id)?.place?.append_time_ms)
    };
    let times = [
        (sidecar.first_append_time_ms, appended(batches.first())),
        (sidecar.last_append_time_ms, appended(batches.last())),
    ];
    match times.iter().find(|(said, known)| known.is_some_and(|known| known != *said)) {
        Some((said, known)) => Err(format!(
            "{partition}: sidecar {} says {said} of an append at {known:?}",
            sidecar.base_offset()
        )),
        None => Ok(()),
    }
}

/// The sidecar's producers are those that the batches up to the segment's end make.
fn check_sidecar_producers(
    partition: PartitionId,
    sidecar: &Sidecar,
    expectation: &Expectation,
) -> Result<(), Complaint> {
    let mut expected: BTreeMap<i64, (Offset, i32)> = BTreeMap::new();
    for (_, fact) in of(expectation, partition) {
        if let (Some(place), Some(fields)) = (fact.place, fact.sequenced)
            && place.last_offset < sidecar.next_offset
            && fact.cut == Cut::No
        {
            let last_sequence = fields.base_sequence + records_of(&fact.bytes) - 1;
            let newest = expected.entry(fields.producer_id).or_insert((place.last_offset, last_sequence));
            *newest = (*newest).max((place.last_offset, last_sequence));
        }
    }
    let found: BTreeMap<i64, i32> =
        sidecar.producers.iter().filter_map(|view| Some((view.producer_id.0, view.last_sequence?))).collect();
    let expected: BTreeMap<i64, i32> =
        expected.into_iter().map(|(id, (_, sequence))| (id, sequence)).collect();
    if found != expected {
        let base = sidecar.base_offset();
        return Err(format!(
            "{partition}: sidecar {base} says producers {found:?}, the batches say {expected:?}"
        ));
    }
    Ok(())
}

/// Notes what the new life shows to its readers: all that is a promise now.
fn announce(life: &Life, expectation: &mut Expectation, lost: Vec<BatchId>) {
    let mut notes = vec![Note::Lost { ids: lost }];
    for (partition, known) in &expectation.partitions {
        let partition = *partition;
        match life.log.partition(partition) {
            Some(_) => notes.push(Note::Create { partition, acked: true }),
            None if known.delete_begun => notes.push(Note::Delete { partition, acked: true }),
            None => {}
        }
    }
    for partition in expectation.partitions.keys().copied().chain([PartitionId::METADATA]) {
        let Some(handle) = life.log.partition(partition) else { continue };
        if partition != PartitionId::METADATA {
            notes.push(Note::LogStart { partition, to: handle.log_start(), acked: true });
        }
        let found = life.read_all(partition).unwrap_or_default();
        notes.extend(found.iter().map(|found| Note::Found { id: found.id, place: found.place() }));
    }
    notes.push(Note::Recovered { epoch: life.epoch() });
    for note in notes {
        expectation.apply(&note);
        life.disk.note(note);
    }
}

/// Per partition and producer, the sequence that comes next.
type NextSequences = BTreeMap<(PartitionId, i64), i32>;

/// Every batch that a producer may send again is answered with where it is; a gap is refused.
fn check_producers(life: &mut Life, expectation: &Expectation) -> Result<NextSequences, Complaint> {
    let mut sent: BTreeMap<(PartitionId, i64), Vec<(BatchId, &BatchFact)>> = BTreeMap::new();
    for (id, fact) in expectation.batches.iter().filter(|(_, fact)| fact.cut != Cut::Gone) {
        if let Some(fields) = fact.sequenced
            && life.log.partition(fact.partition).is_some()
        {
            sent.entry((fact.partition, fields.producer_id)).or_default().push((*id, fact));
        }
    }
    let mut next = NextSequences::new();
    for ((partition, producer_id), mut batches) in sent {
        batches.sort_by_key(|(_, fact)| fact.sequenced.map(|fields| fields.base_sequence));
        for (id, fact) in batches.iter().rev().take(5) {
            life.retry(*id, fact)
                .map_err(|Stuck(why)| format!("{partition}: batch {id} sent again: {why}"))?;
        }
        let (_, last) = batches.last().expect("a producer that sent nothing is not listed");
        let fields = last.sequenced.expect("only sequenced batches are listed");
        let records = records_of(&last.bytes);
        let follows = fields.base_sequence + records;
        life.check_gap(partition, producer_id, follows + 1)
            .map_err(|Stuck(why)| format!("{partition}: producer {producer_id}: {why}"))?;
        next.insert((partition, producer_id), follows);
    }
    Ok(next)
}

/// A little of everything, so that a second crash finds something to break.
fn go_on(life: &mut Life, expectation: &Expectation, producers: NextSequences) -> Result<(), Stuck> {
    life.continue_sequences(producers);
    let live: Vec<_> = expectation
        .partitions
        .keys()
        .copied()
        .filter(|partition| life.log.partition(*partition).is_some())
        .collect();
    for partition in &live {
        life.append(*partition, 300)?;
        life.append_sequenced(*partition, 7, 200)?;
    }
    life.commit()?;
    for partition in &live {
        life.serve(*partition)?;
    }
    if life.random.chance(2) {
        life.checkpoint()?;
    }
    for partition in &live {
        life.append_sequenced(*partition, 7, 2_500)?;
    }
    life.commit()
}
