//! Whether the tests can fail: each sync taken away, and each two whose order matters exchanged, must be noticed.

use hotlog::options::FlushMode;
use hotlog::sync_site::SyncSite;

use crate::explore::{Effort, Explorer, Mutation, Recording, sites};
use crate::{multiplier, say, scenarios, seed};

/// Syncs whose order the protocol rests on: the first must have taken effect before the second begins.
const ORDERED: &[(SyncSite, SyncSite)] = &[
    (SyncSite::JournalCommit, SyncSite::SegmentBytes),
    (SyncSite::JournalCommit, SyncSite::SegmentSealed),
    (SyncSite::JournalCommit, SyncSite::CheckpointAppended),
    (SyncSite::JournalCommitSynced, SyncSite::CheckpointAppended),
    (SyncSite::RecoveryRing, SyncSite::RecoveryStart),
    (SyncSite::RecoveryStart, SyncSite::JournalCommit),
    (SyncSite::RecoveryStart, SyncSite::JournalCommitSynced),
    (SyncSite::SegmentBytes, SyncSite::CheckpointAppended),
    (SyncSite::CheckpointAppended, SyncSite::JournalCommit),
    (SyncSite::CheckpointAppended, SyncSite::JournalCommitSynced),
    (SyncSite::CheckpointReplacement, SyncSite::CheckpointName),
    (SyncSite::CheckpointName, SyncSite::JournalCommit),
];

fn recordings() -> Vec<Recording> {
    let mut all: Vec<_> = [FlushMode::Ack, FlushMode::Os]
        .into_iter()
        .flat_map(|flush| scenarios::STORIES.iter().map(move |(name, story)| (*name, *story, flush)))
        .map(|(name, story, flush)| {
            scenarios::record(name, story, scenarios::settings_of(name, flush, seed()))
        })
        .collect();
    // The shortest first: most mutations are noticed by one of them.
    all.sort_by_key(|recording| recording.events.len());
    all
}

/// How the mutation was noticed; `None` when it was not.
fn noticed(
    mutation: Mutation,
    recordings: &[Recording],
    concerns: impl Fn(&Recording) -> bool,
) -> Option<String> {
    // First a quick look at each story, then a long one.
    for (states_per_point, deepen_one_in, depth) in [(4, 60, 2), (16, 6, 3)] {
        for recording in recordings.iter().filter(|recording| concerns(recording)) {
            let later_states = 300 * multiplier() as u64;
            let states_per_point = states_per_point * multiplier();
            let effort = Effort { states_per_point, deepen_one_in, depth, later_states };
            let mut explorer = Explorer::new(mutation, effort, seed());
            if let Err(violation) = explorer.explore(recording) {
                let states: u64 = explorer.tally.states.iter().sum();
                let Recording { name, next, .. } = recording;
                return Some(format!("{name} ({:?}), state {states}: {}", next.flush, violation.complaint));
            }
        }
    }
    None
}

#[test]
fn every_sync_is_missed_when_it_is_taken_away() {
    let recordings = recordings();
    let mut unnoticed = Vec::new();
    for site in SyncSite::ALL {
        let mutation = Mutation::Without(*site);
        match noticed(mutation, &recordings, |recording| sites(&recording.events).contains(site)) {
            Some(how) => say(&format!("crash without {site:?}: {how}")),
            None => unnoticed.push(*site),
        }
    }
    assert!(unnoticed.is_empty(), "nothing breaks without {unnoticed:?}");
}

#[test]
fn every_order_of_two_syncs_that_matters_is_missed_when_it_is_turned_round() {
    let recordings = recordings();
    let mut unnoticed = Vec::new();
    for &(first, second) in ORDERED {
        let mutation = Mutation::Exchanged(first, second);
        let concerns = |recording: &Recording| {
            [first, second].iter().all(|site| sites(&recording.events).contains(site))
        };
        match noticed(mutation, &recordings, concerns) {
            Some(how) => say(&format!("crash with {first:?} after {second:?}: {how}")),
            None => unnoticed.push((first, second)),
        }
    }
    assert!(
        unnoticed.is_empty(),
        "nothing breaks when the first of these comes after the second: {unnoticed:?}"
    );
}
