//! Every client writes, every client reads all that was written: one check for any server.
//!
//! Owns: the comparison, record by record, with what was acknowledged. Does not own: the server.

use std::collections::HashMap;

use anyhow::Context;

use crate::clients::python::{Acknowledged, Consumed, Python};
use crate::flights::Record;

/// Partitions of the topics made here.
const PARTITIONS: u32 = 3;

/// Each client makes a topic named after it and writes the records; all read them back, and it reads them as a group.
///
/// # Errors
/// When any of it differs from what was sent and acknowledged.
pub fn between_all(bootstrap: &str, records: &[Record], codec: &str) -> anyhow::Result<()> {
    for writer in Python::ALL {
        let topic = format!("{writer:?}-{codec}");
        writer.create_topic(bootstrap, &topic, PARTITIONS, &["retention.ms=-1"])?;
        let acknowledged = writer.produce(bootstrap, &topic, records, &["--codec", codec])?;
        for reader in Python::ALL {
            let consumed = reader.consume_all(bootstrap, &topic)?;
            is_what_was_written(records, &acknowledged, &consumed)
                .with_context(|| format!("{reader:?} reads what {writer:?} wrote with codec {codec}"))?;
        }
        let consumed =
            writer.consume_as_group(bootstrap, &topic, &format!("{topic}-group"), records.len())?;
        is_what_was_written(records, &acknowledged, &consumed)
            .with_context(|| format!("{writer:?} reads as a group"))?;
    }
    Ok(())
}

/// Every acknowledged record once, at its place, with its key, value and time, and nothing else.
///
/// # Errors
/// Names the first difference.
pub fn is_what_was_written(
    records: &[Record],
    acknowledged: &[Acknowledged],
    consumed: &[Consumed],
) -> anyhow::Result<()> {
    anyhow::ensure!(
        consumed.len() == acknowledged.len(),
        "{} records read, {} written",
        consumed.len(),
        acknowledged.len()
    );
    let by_place: HashMap<_, _> = consumed.iter().map(|each| ((each.partition, each.offset), each)).collect();
    for place in acknowledged {
        let found = by_place.get(&(place.partition, place.offset));
        let found = found.with_context(|| format!("nothing was read at {place:?}"))?;
        let sent = &records[place.sequence];
        let same = found.value.as_ref() == Some(&sent.value)
            && found.key.as_ref() == Some(&sent.key)
            && found.timestamp_ms == sent.timestamp_ms;
        anyhow::ensure!(same, "at {place:?}: read {found:?}, wrote {sent:?}");
    }
    Ok(())
}
