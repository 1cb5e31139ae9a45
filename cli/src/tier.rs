//! `tier`: looking after a store of sealed segments, from the command line.
//!
//! Owns: how the answers are printed. Does not own: what is asked of the store (`tiering::admin`), recovery's own report
//! (`recovered`).

mod recovered;

use serde::Serialize;
use tiering::admin::{self, Inspection};

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
    for topic in &found.topics {
        let deleted = if topic.deleted_at_ms.is_some() { ", deleted" } else { "" };
        println!("  topic {} ({}{deleted})", topic.name, topic.topic_id);
        for partition in &topic.partitions {
            println!(
                "    partition {}: offsets {} to {}, {} segments, {} stored of {}",
                partition.partition,
                partition.start_offset,
                partition.end_offset,
                partition.segments.len(),
                bytes(partition.object_bytes),
                bytes(partition.segment_bytes),
            );
            for (from, to, why) in &partition.gaps {
                println!("      no object holds {from} to {to}: {why}");
            }
            if let Some(trouble) = &partition.trouble {
                println!("      TROUBLE: {trouble}");
            }
        }
    }
}
