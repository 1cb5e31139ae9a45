//! `tier recover`: a cluster whose data folder is lost comes back from its store alone.
//!
//! Owns: the order of the three steps, and what people read of them. Does not own: taking the cluster over
//! (`tiering::recover`), writing the folder (`broker::restore`).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use broker::restore::{self, RestoreOptions, Restored};
use serde_json::json;
use tiering::recover::{self, PartitionReport, RecoveredCluster, RecoveryReport};

use crate::arguments::RecoverArguments;
use crate::clock;
use crate::status::bytes;

/// Looks at the folder, takes the cluster over, writes the folder, and says what is there again and what is not.
pub(super) async fn recover(asked: &RecoverArguments) -> anyhow::Result<()> {
    let options = RestoreOptions { data: asked.data.clone(), journal: asked.journal.clone() };
    // Before anything is taken over: a slip in --data must not fence a broker that serves.
    restore::prepare(&options)?;
    let cluster = recover::recover(&asked.store.store).await?;
    let restored = restore::restore(&options, &cluster).await?;
    if asked.store.json {
        println!("{}", answer(&cluster, restored));
    } else {
        print!("{}", text(asked, &cluster, restored));
    }
    Ok(())
}

fn answer(cluster: &RecoveredCluster, restored: Restored) -> serde_json::Value {
    json!({
        "cluster": cluster.identity.cluster_name,
        "cluster_id": cluster.identity.cluster_id,
        "recovery_generation": cluster.identity.recovery_generation,
        "topics": restored.topics,
        "partitions": restored.partitions,
        "groups": restored.groups,
        "group_offsets": restored.group_offsets,
        "next_leader_epoch": cluster.next_leader_epoch.0,
        "next_producer_id": cluster.next_producer_id.0,
        "report": cluster.report,
    })
}

fn text(asked: &RecoverArguments, cluster: &RecoveredCluster, restored: Restored) -> String {
    let mut out = String::new();
    let (identity, report) = (&cluster.identity, &cluster.report);
    let (store, data, now_ms) = (&asked.store.store, asked.data.display(), clock::now_ms());
    let journal =
        asked.journal.as_ref().map_or_else(String::new, |folder| format!(" --journal {}", folder.display()));
    line(
        &mut out,
        format_args!("cluster {} ({}) is rebuilt in {data}", identity.cluster_name, identity.cluster_id),
    );
    line(
        &mut out,
        format_args!(
            "  {} topics, {} partitions; settings as {} ago",
            restored.topics,
            restored.partitions,
            age(now_ms - report.cluster_manifest_at_ms)
        ),
    );
    match report.group_offsets_at_ms {
        Some(at_ms) => line(
            &mut out,
            format_args!(
                "  {} offsets of {} groups, as {} ago: what they committed since is lost, and read again",
                restored.group_offsets,
                restored.groups,
                age(now_ms - at_ms)
            ),
        ),
        None => line(&mut out, format_args!("  no offsets of groups: the store never heard of any")),
    }
    let mut topics: BTreeMap<&str, Vec<&PartitionReport>> = BTreeMap::new();
    for partition in &report.partitions {
        topics.entry(&partition.topic).or_default().push(partition);
    }
    for (name, partitions) in topics {
        if partitions.iter().all(|partition| partition.last_commit_ms.is_none()) {
            line(
                &mut out,
                format_args!(
                    "  topic {name}: no record of its {} partitions was in the store",
                    partitions.len()
                ),
            );
            continue;
        }
        line(&mut out, format_args!("  topic {name}"));
        partitions.into_iter().for_each(|partition| partition_lines(&mut out, partition, now_ms));
    }
    if topics_of_flows(report).next().is_some() {
        line(
            &mut out,
            format_args!(
                "  LOST: what flows into this cluster remembered (their offset maps, promotions and claims): rather than copy everything \
                 again they pause at topics that hold records; copy into other topics, or delete the copies first"
            ),
        );
    }
    report.damage.iter().for_each(|damage| line(&mut out, format_args!("DAMAGED: {damage}")));
    line(
        &mut out,
        format_args!(
            "next: longhaul broker --data {data}{journal} --store {store} --cluster {} --listen HOST:PORT, or up with its topology file",
            identity.cluster_name
        ),
    );
    out
}

/// The topics in which flows keep what they know of their copies.
fn topics_of_flows(report: &RecoveryReport) -> impl Iterator<Item = &PartitionReport> {
    report.partitions.iter().filter(|partition| partition.topic == mirror::map_topic::MAP_TOPIC)
}

fn partition_lines(out: &mut String, found: &PartitionReport, now_ms: i64) {
    let number = found.partition;
    if found.lost_from > found.log_start {
        let (segments, size) = (found.segments, bytes(found.object_bytes));
        line(
            out,
            format_args!(
                "    partition {number}: offsets {} to {} are there ({segments} segments, {size})",
                found.log_start,
                found.lost_from - 1
            ),
        );
    } else {
        line(out, format_args!("    partition {number}: no record was in the store"));
    }
    let heard = found
        .last_commit_ms
        .map_or_else(|| "never".to_owned(), |at_ms| format!("{} ago", age(now_ms - at_ms)));
    match found.known_lost_to {
        Some(to) => line(
            out,
            format_args!(
                "      LOST: offsets {} to {}, which a group had read, and whatever came after them",
                found.lost_from,
                to - 1
            ),
        ),
        None => line(
            out,
            format_args!(
                "      not in the store: whatever came after offset {}, if anything did (last heard of: {heard})",
                found.lost_from - 1
            ),
        ),
    }
    line(out, format_args!("      new records come after offset {}", found.new_start));
}

fn line(out: &mut String, what: std::fmt::Arguments<'_>) {
    writeln!(out, "{what}").expect("a string takes everything");
}

/// A span of time in its largest unit.
fn age(span_ms: i64) -> String {
    let seconds = span_ms.max(0) / 1_000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> PartitionReport {
        PartitionReport {
            topic: "flights".to_owned(),
            partition: 2,
            log_start: 7,
            lost_from: 4_000,
            known_lost_to: None,
            new_start: 1 << 40,
            last_commit_ms: Some(1_000),
            segments: 3,
            object_bytes: 2_048,
        }
    }

    fn lines(report: &PartitionReport) -> String {
        let mut out = String::new();
        partition_lines(&mut out, report, 91_000);
        out
    }

    #[test]
    fn what_is_not_known_is_not_called_lost() {
        let said = lines(&report());
        assert!(said.contains("offsets 7 to 3999 are there (3 segments"), "{said}");
        assert!(
            said.contains("whatever came after offset 3999, if anything did (last heard of: 90 s ago)"),
            "{said}"
        );
        assert!(!said.contains("LOST"), "{said}");
    }

    #[test]
    fn what_a_group_had_read_is_known_to_be_lost() {
        let said = lines(&PartitionReport { known_lost_to: Some(4_100), ..report() });
        assert!(said.contains("LOST: offsets 4000 to 4099"), "{said}");
    }

    #[test]
    fn ages_are_told_in_their_largest_unit() {
        assert_eq!([5_000, 300_000, 10_800_000, 864_000_000].map(age), ["5 s", "5 min", "3 h", "10 days"]);
    }
}
