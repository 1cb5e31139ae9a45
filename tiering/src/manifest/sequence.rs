//! A sequence of create-once records in one folder, without a word about what they say.
//!
//! Owns: loading the newest base and what follows, appending at the one free sequence, and closing old slots so that no
//! sequence is ever created twice. Does not own: states, edits, epochs.
//!
//! Sequences come in slots of [`SLOT_RECORDS`]; the first of a slot is a base, so a slot that has one makes all before
//! it unnecessary. Before records of a slot are deleted, the slot is closed by an object that stays for ever. A writer
//! that slept since then may create a deleted sequence again: it looks for that object after each create, finds it, and
//! knows that its record is void. A listing is only a hint here: each answer is confirmed by reading.

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};

use super::record::{Record, RecordError, RecordKind, Slim};
use crate::keys;
use crate::limits::{MANIFEST_RECORD_LIMIT_BYTES, OVERSIZED_RECORD_LIMIT_BYTES, SLOT_RECORDS};
use crate::seams::{Backoff, Seams};
use crate::store::{Settled, Store, StoreError, StoreKey, create_settled, list_all};

/// Records fetched at the same time while loading.
const LOAD_CONCURRENCY: usize = 16;
/// Loads tried while another writer closes slots under us.
const LOAD_TRIES: u32 = 4;

/// Why the records cannot be read. A damaged manifest is never guessed around.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("manifest record {key} cannot be used: {source}")]
    Damaged { key: String, source: RecordError },
    #[error("manifest record {key} is missing, but later ones exist")]
    Hole { key: String },
    #[error("the manifest in {folder} changes faster than it can be read")]
    Contended { folder: String },
    #[error("manifest record {key} is not written: {source}")]
    TooLarge { key: String, source: RecordError },
}

/// Whose records, and what is left of one that is too large to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) folder: &'a str,
    pub(super) slim: Slim,
}

/// What an append came to.
#[derive(Debug)]
pub(super) enum Appended {
    /// The record is there for good.
    Done,
    /// Another record has that sequence.
    Taken(Record),
    /// The sequence belongs to the past: the record is void, and so is whatever its writer knew.
    Closed,
}

/// The newest base and all records after it, in order; empty for a manifest that was never written.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) records: Vec<Record>,
    /// Records that nobody needs any more, by sequence.
    pub(super) stale: Vec<u64>,
}

pub(super) fn slot_of(sequence: u64) -> u64 {
    sequence / SLOT_RECORDS
}

pub(super) fn is_base(sequence: u64) -> bool {
    sequence.is_multiple_of(SLOT_RECORDS)
}

/// Reads the newest base and what follows it.
pub(super) async fn load(store: &dyn Store, place: Place<'_>, seams: &Seams) -> Result<Loaded, LoadError> {
    let folder = place.folder;
    let listed_folder = format!("{folder}/records");
    for _ in 0..LOAD_TRIES {
        let listed = retried(seams, || list_all(store, &listed_folder).boxed()).await?;
        let listed: Vec<u64> =
            listed.iter().filter_map(|entry| keys::record_sequence(folder, &entry.key)).collect();
        let base = match listed.iter().rev().find(|sequence| is_base(**sequence)) {
            // A record in a closed slot is void: the listing is old, or somebody who slept made it again.
            Some(base) if !is_closed(store, folder, slot_of(*base), seams).await? => *base,
            _ => first_open_slot(store, folder, seams).await? * SLOT_RECORDS,
        };
        let hinted = listed.last().copied().unwrap_or(base).max(base);
        if let Some(records) = follow(store, place, seams, base..=hinted).await? {
            let keep_from = slot_of(base).saturating_sub(1) * SLOT_RECORDS;
            let stale = listed.into_iter().filter(|sequence| *sequence < keep_from).collect();
            return Ok(Loaded { records, stale });
        }
        if base == 0 && listed.is_empty() {
            return Ok(Loaded::default());
        }
    }
    Err(LoadError::Contended { folder: folder.to_owned() })
}

/// Reads a base and all after it; `None` when the base is not there (any more).
async fn follow(
    store: &dyn Store,
    place: Place<'_>,
    seams: &Seams,
    hint: std::ops::RangeInclusive<u64>,
) -> Result<Option<Vec<Record>>, LoadError> {
    let (base, hinted) = (*hint.start(), *hint.end());
    let fetched: Vec<Option<Record>> = stream::iter(hint)
        .map(|sequence| read(store, place, sequence, seams))
        .buffered(LOAD_CONCURRENCY)
        .try_collect()
        .await?;
    let mut records = Vec::with_capacity(fetched.len());
    for (sequence, record) in (base..).zip(fetched) {
        match record {
            Some(record) => records.push(record),
            None if sequence == base => return Ok(None),
            None => return Err(LoadError::Hole { key: keys::record(place.folder, sequence).to_string() }),
        }
    }
    // The listing may have been old: only a read that finds nothing is the end.
    let mut sequence = hinted + 1;
    while let Some(record) = read(store, place, sequence, seams).await? {
        if record.kind == RecordKind::Base {
            records.clear();
        }
        records.push(record);
        sequence += 1;
    }
    Ok(Some(records))
}

async fn read(
    store: &dyn Store,
    place: Place<'_>,
    sequence: u64,
    seams: &Seams,
) -> Result<Option<Record>, LoadError> {
    let key = keys::record(place.folder, sequence);
    let mut got = retried(seams, || store.get(&key, MANIFEST_RECORD_LIMIT_BYTES)).await;
    if let Err(StoreError::TooLarge { .. }) = got {
        got = retried(seams, || store.get(&key, OVERSIZED_RECORD_LIMIT_BYTES)).await;
    }
    match got {
        Ok(bytes) => decode(&key, bytes, place, sequence).map(Some),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn decode(key: &StoreKey, bytes: Bytes, place: Place<'_>, sequence: u64) -> Result<Record, LoadError> {
    let damaged = |source| LoadError::Damaged { key: key.to_string(), source };
    let record = Record::decode_or_slim(bytes, place.folder, Some(place.slim)).map_err(damaged)?;
    let kind = if is_base(sequence) { RecordKind::Base } else { RecordKind::Delta };
    if record.sequence != sequence || record.kind != kind {
        return Err(damaged(RecordError::Swapped(format!("sequence {}", record.sequence))));
    }
    Ok(record)
}

/// The first slot that is not closed, found without trusting a listing: closed slots have no holes between them.
async fn first_open_slot(store: &dyn Store, folder: &str, seams: &Seams) -> Result<u64, LoadError> {
    if !is_closed(store, folder, 0, seams).await? {
        return Ok(0);
    }
    let (mut closed, mut open) = (0, 1);
    while is_closed(store, folder, open, seams).await? {
        (closed, open) = (open, open * 2);
    }
    while closed + 1 < open {
        let middle = closed + (open - closed) / 2;
        if is_closed(store, folder, middle, seams).await? { closed = middle } else { open = middle }
    }
    Ok(open)
}

async fn is_closed(store: &dyn Store, folder: &str, slot: u64, seams: &Seams) -> Result<bool, StoreError> {
    let key = keys::closed(folder, slot);
    match retried(seams, || store.head(&key)).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Creates `record` at its sequence, and proves that the sequence still counts.
///
/// # Errors
/// [`LoadError::TooLarge`]: nothing was written. Any other: the outcome is not known. The record may be there or appear
/// later; the next append at its sequence finds out.
pub(super) async fn append(
    store: &dyn Store,
    record: &Record,
    slim: Slim,
    seams: &Seams,
) -> Result<Appended, LoadError> {
    let key = keys::record(&record.folder, record.sequence);
    let bytes = record.encode().map_err(|source| LoadError::TooLarge { key: key.to_string(), source })?;
    let place = Place { folder: &record.folder, slim };
    match create_settled(store, &key, &vec![bytes], seams).await? {
        Settled::Theirs(bytes) => Ok(Appended::Taken(decode(&key, bytes, place, record.sequence)?)),
        Settled::Ours => match is_closed(store, &record.folder, slot_of(record.sequence), seams).await? {
            true => Ok(Appended::Closed),
            false => Ok(Appended::Done),
        },
    }
}

/// Closes all slots up to `last` for ever, in order; their records may be deleted after that.
pub(super) async fn close_up_to(
    store: &dyn Store,
    folder: &str,
    last: u64,
    seams: &Seams,
) -> Result<(), LoadError> {
    for slot in first_open_slot(store, folder, seams).await?..=last {
        // Whoever closed it, it is closed.
        create_settled(store, &keys::closed(folder, slot), &vec![Bytes::from_static(b"closed\n")], seams)
            .await?;
    }
    Ok(())
}

/// Tries a read a few times.
pub(super) async fn retried<'a, T>(
    seams: &Seams,
    mut operation: impl FnMut() -> futures::future::BoxFuture<'a, Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let mut backoff = Backoff::for_operation(seams);
    loop {
        match operation().await {
            Err(error) if error.is_retriable() => {
                if !backoff.pause().await {
                    return Err(error);
                }
            }
            other => return other,
        }
    }
}
