//! The named invariants of a manifest, checked before each commit and after each load.
//!
//! Owns: the predicates and their names. Does not own: the edits that keep them.

use super::partition::PartitionManifest;

/// A state that must not be: nothing is written, and the name says what to look at.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("manifest invariant {name} is violated: {detail}")]
pub struct Violation {
    /// The invariant.
    pub name: &'static str,
    /// Where it fails.
    pub detail: String,
}

/// An invariant of partition manifests: its name, and what breaks it.
type Invariant = (&'static str, fn(&PartitionManifest) -> Option<String>);

const PARTITION: [Invariant; 8] = [
    ("segments-rise", segments_rise),
    ("holes-are-declared", holes_are_declared),
    ("gaps-rise", gaps_rise),
    ("spilled-come-first", spilled_come_first),
    ("start-is-inside", start_is_inside),
    ("epochs-rise", epochs_rise),
    ("dead-is-not-live", dead_is_not_live),
    ("rows-are-plausible", rows_are_plausible),
];

/// Checks all invariants of a partition manifest.
pub(super) fn check_partition(manifest: &PartitionManifest) -> Result<(), Violation> {
    PARTITION.iter().try_for_each(|(name, broken)| match broken(manifest) {
        None => Ok(()),
        Some(detail) => Err(Violation { name, detail }),
    })
}

/// Every offset is in at most one live segment.
fn segments_rise(manifest: &PartitionManifest) -> Option<String> {
    let falls = manifest.segments.windows(2).find(|pair| pair[1].base_offset < pair[0].next_offset);
    falls
        .map(|pair| format!("segment {} starts before {} ends", pair[1].base_offset.0, pair[0].base_offset.0))
}

/// Between two segments there is nothing, or a hole that says why it is there.
fn holes_are_declared(manifest: &PartitionManifest) -> Option<String> {
    let mut ends: Vec<(i64, i64)> =
        manifest.spilled.iter().map(|file| (file.base_offset.0, file.end_offset.0)).collect();
    ends.extend(manifest.segments.iter().map(|row| (row.base_offset.0, row.next_offset.0)));
    ends.windows(2).find_map(|pair| {
        let (from, to) = (pair[0].1, pair[1].0);
        let mut covered = from;
        for gap in manifest.gaps.iter().filter(|gap| gap.to.0 > from && gap.from.0 < to) {
            if gap.from.0 > covered {
                break;
            }
            covered = gap.to.0;
        }
        (from < to && covered < to).then(|| format!("offsets {covered} to {to} are missing undeclared"))
    })
}

/// Gaps rise and hold something.
fn gaps_rise(manifest: &PartitionManifest) -> Option<String> {
    let empty = manifest
        .gaps
        .iter()
        .find(|gap| gap.from >= gap.to)
        .map(|gap| format!("gap at {} is empty", gap.from.0));
    let falls = || manifest.gaps.windows(2).find(|pair| pair[1].from < pair[0].to);
    empty.or_else(|| {
        falls().map(|pair| format!("gap at {} starts before the one before ends", pair[1].from.0))
    })
}

/// Spilled ranges rise and end where the rows in memory begin.
fn spilled_come_first(manifest: &PartitionManifest) -> Option<String> {
    let falls = manifest.spilled.windows(2).find(|pair| pair[1].base_offset < pair[0].end_offset);
    if let Some(pair) = falls {
        return Some(format!("spilled range {} starts before the one before ends", pair[1].base_offset.0));
    }
    let (last, first) = (manifest.spilled.last()?, manifest.segments.first()?);
    (first.base_offset < last.end_offset)
        .then(|| format!("segment {} lies in a spilled range", first.base_offset.0))
}

/// The log start is an offset the log has or had, and no live segment ends at or below it for longer than one edit.
fn start_is_inside(manifest: &PartitionManifest) -> Option<String> {
    let (start, end) = (manifest.start_offset, manifest.end_offset());
    (start.0 < 0 || start > end).then(|| format!("start {} is not in 0 to {}", start.0, end.0))
}

/// Leader epochs and their starts rise together.
fn epochs_rise(manifest: &PartitionManifest) -> Option<String> {
    let falls = manifest
        .epochs
        .windows(2)
        .find(|pair| pair[1].epoch <= pair[0].epoch || pair[1].start_offset <= pair[0].start_offset);
    falls.map(|pair| format!("epoch {} follows {}", pair[1].epoch.0, pair[0].epoch.0))
}

/// No object is both readable and about to be deleted.
fn dead_is_not_live(manifest: &PartitionManifest) -> Option<String> {
    let live: std::collections::HashSet<_> = manifest
        .segments
        .iter()
        .map(|row| row.attempt)
        .chain(manifest.spilled.iter().map(|file| file.attempt))
        .collect();
    let both = manifest.dead.iter().find(|dead| live.contains(&dead.attempt));
    both.map(|dead| format!("object of attempt {} is live and dead", dead.attempt))
}

/// Rows describe something that can be.
fn rows_are_plausible(manifest: &PartitionManifest) -> Option<String> {
    let odd = manifest.segments.iter().find(|row| {
        row.base_offset.0 < 0
            || row.base_offset >= row.next_offset
            || row.raw_bytes == 0
            || row.object_bytes <= u64::from(row.footer_bytes)
    });
    odd.map(|row| format!("segment {} has impossible sizes or offsets", row.base_offset.0))
}
