//! `tier`: looking after a store of sealed segments, from the command line.
//!
//! Owns: how the answers are printed. Does not own: what is asked of the store (`tiering::admin`), recovery's own report
//! (`recovered`).

mod recovered;

use std::fmt::Write as _;

use serde::Serialize;
use tiering::admin::{self, Inspection, PartitionInspection, TopicInspection};

use crate::arguments::{StoreArguments, TierVerb};
use crate::status::bytes;

/// Runs one verb; false if it worked and found something wrong.
pub(crate) async fn call(verb: TierVerb) -> anyhow::Result<bool> {
    match verb {
        TierVerb::Init(asked) => {
            let report = admin::init(&asked.store).await?;
            show(&asked, &report, || {
                let made = if report.created { "made" } else { "was there" };
                println!(
                    "{} {made}; conditional PUT works; rights: {}",
                    report.store,
                    report.rights.join(", ")
                );
                report.advice.iter().for_each(|advice| println!("note: {advice}"));
            })?;
        }
        TierVerb::Inspect(asked) => {
            let found = admin::inspect(&asked.store).await?;
            show(&asked, &found, || print_inspection(&found))?;
        }
        TierVerb::Verify(asked) => {
            let report = admin::verify(&asked.store).await?;
            show(&asked, &report, || {
                let sizes = (bytes(report.object_bytes), bytes(report.segment_bytes));
                println!(
                    "{} objects of {} partitions read: {} stored, {} as segments",
                    report.objects, report.partitions, sizes.0, sizes.1
                );
                report.faults.iter().for_each(|fault| println!("FAULT: {fault}"));
            })?;
            return Ok(report.faults.is_empty());
        }
        TierVerb::Recover(asked) => recovered::recover(&asked).await?,
    }
    Ok(true)
}

fn show<T: Serialize>(asked: &StoreArguments, answer: &T, text: impl FnOnce()) -> serde_json::Result<()> {
    if asked.json {
        println!("{}", serde_json::to_string(answer)?);
    } else {
        text();
    }
    Ok(())
}

fn print_inspection(found: &Inspection) {
    println!("cluster {} ({})", found.owner.cluster_name, found.owner.cluster_id);
    println!("  writer epoch {}, recovered {} times", found.writer_epoch, found.recovery_generation);
    print!("{}", found.topics.iter().map(topic_text).collect::<String>());
}

/// A topic with those of its partitions of which there is something to say.
fn topic_text(topic: &TopicInspection) -> String {
    let deleted = if topic.deleted_at_ms.is_some() { ", deleted" } else { "" };
    let mut out = format!("  topic {} ({}{deleted})\n", topic.name, topic.topic_id);
    let (told, empty): (Vec<_>, Vec<_>) = topic.partitions.iter().partition(|each| holds_anything(each));
    told.into_iter().for_each(|partition| write_partition(&mut out, partition).expect("a string takes all"));
    match empty.len() {
        0 => {}
        1 => out += "    1 partition holds nothing\n",
        count => out += &format!("    {count} partitions hold nothing\n"),
    }
    out
}

/// Whether anything was ever stored of a partition, or should have been.
fn holds_anything(partition: &PartitionInspection) -> bool {
    let nothing = partition.segments.is_empty()
        && partition.gaps.is_empty()
        && partition.dead_objects == 0
        && partition.end_offset == 0
        && partition.trouble.is_none();
    !nothing
}

fn write_partition(out: &mut String, partition: &PartitionInspection) -> std::fmt::Result {
    writeln!(
        out,
        "    partition {}: offsets {} to {}, {} segments, {} stored of {}",
        partition.partition,
        partition.start_offset,
        partition.end_offset,
        partition.segments.len(),
        bytes(partition.object_bytes),
        bytes(partition.segment_bytes),
    )?;
    for (from, to, why) in &partition.gaps {
        writeln!(out, "      no object holds {from} to {to}: {why}")?;
    }
    match &partition.trouble {
        Some(trouble) => writeln!(out, "      TROUBLE: {trouble}"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: i32) -> PartitionInspection {
        PartitionInspection {
            partition: number,
            start_offset: 0,
            end_offset: 0,
            object_bytes: 0,
            segment_bytes: 0,
            last_commit_ms: 0,
            writer_epoch: 0,
            gaps: Vec::new(),
            dead_objects: 0,
            segments: Vec::new(),
            trouble: None,
        }
    }

    fn text(partitions: Vec<PartitionInspection>) -> String {
        let (name, topic_id) = ("__consumer_offsets".to_owned(), "id".to_owned());
        topic_text(&TopicInspection { name, topic_id, deleted_at_ms: None, partitions })
    }

    #[test]
    fn partitions_that_hold_nothing_are_counted_and_no_others() {
        assert_eq!(
            text((0..50).map(partition).collect()),
            "  topic __consumer_offsets (id)\n    50 partitions hold nothing\n"
        );
        let gap = PartitionInspection { gaps: vec![(3, 7, "Lost".to_owned())], ..partition(1) };
        let unreadable = PartitionInspection { trouble: Some("damaged".to_owned()), ..partition(2) };
        let expired = PartitionInspection { start_offset: 9, end_offset: 9, ..partition(3) };
        assert_eq!(
            text(vec![partition(0), gap, unreadable, expired]),
            "  topic __consumer_offsets (id)\n    \
             partition 1: offsets 0 to 0, 0 segments, 0 B stored of 0 B\n      no object holds 3 to 7: Lost\n    \
             partition 2: offsets 0 to 0, 0 segments, 0 B stored of 0 B\n      TROUBLE: damaged\n    \
             partition 3: offsets 9 to 9, 0 segments, 0 B stored of 0 B\n    \
             1 partition holds nothing\n"
        );
    }
}
