//! Whether the tests can fail: each sync taken away, and each two of which one follows the other exchanged, must be noticed.
//!
//! Owns: which pairs there are, and the list of those whose order nothing rests on. Does not own: what a mutation does to
//! the disk (`replay`), the stories that meet the pairs (`scenarios`).

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use hotlog::options::FlushMode;
use hotlog::sync_site::SyncSite;

use crate::explore::{Effort, Explorer, Recording};
use crate::life::name_rings_from;
use crate::replay::{Mutation, in_order, sites};
use crate::{multiplier, say, scenarios, seed};

/// Two sites, one of whose calls ends before the other's begins.
type Pair = (SyncSite, SyncSite);

/// Pairs of which the second may well take effect before the first, and why the protocol does not mind.
const HARMLESS: &[(Pair, &str)] = &[
    (
        (SyncSite::DirectoryName, SyncSite::JournalMade),
        "a ring in a folder without a name is none, and the next start makes both anew",
    ),
    (
        (SyncSite::DirectoryName, SyncSite::JournalMadeName),
        "a ring's name in a folder without one leads nowhere, and the next start makes both anew",
    ),
    (
        (SyncSite::DirectoryName, SyncSite::CheckpointReplacement),
        "without a checkpoint's name the directory is a new one, whichever of its folders are left",
    ),
    (
        (SyncSite::JournalMade, SyncSite::JournalMadeName),
        "no checkpoint names the ring yet, so that a named one without its bytes is made anew",
    ),
    (
        (SyncSite::JournalMade, SyncSite::CheckpointReplacement),
        "the replacement that names the ring is not the checkpoint yet, so that the ring is made anew",
    ),
    (
        (SyncSite::JournalMadeName, SyncSite::CheckpointReplacement),
        "the replacement that names the ring is not the checkpoint yet, so that a missing ring is made anew",
    ),
    (
        (SyncSite::JournalCommitSynced, SyncSite::CheckpointAppended),
        "the checkpoint holds all that commits below its cut said, and in flush mode os the ring may lack them",
    ),
    (
        (SyncSite::JournalCommitSynced, SyncSite::CheckpointName),
        "a replaced checkpoint holds all that was committed before it, and in flush mode os the ring may lack that",
    ),
    (
        (SyncSite::RecoveryRing, SyncSite::CheckpointName),
        "what recovery read is a promise only with the start that it records behind both",
    ),
    (
        (SyncSite::SegmentSealed, SyncSite::SidecarBytes),
        "neither counts before the next checkpoint, and until then the journal has what seals the segment again",
    ),
    (
        (SyncSite::SegmentSealed, SyncSite::SidecarName),
        "the checkpoint that counts on the seal follows both, and until then the segment is sealed again",
    ),
    (
        (SyncSite::SidecarBytes, SyncSite::SidecarName),
        "the checkpoint that counts on the sidecar follows both, and until then it is written again",
    ),
];

/// So many pairs the stories meet at least: with fewer, the exchange of some would be tried nowhere and noticed by nobody.
const PAIRS_MET: usize = 173;

/// How many threads try pairs.
const THREADS: usize = 2;

/// How closely each recording is looked at: states per crash point and piece size, of how many states one is crashed again,
/// and how many crashes in a row.
type Look = (usize, usize, usize);

/// Crashes at every point: first a quick look at each story, then a long one.
const LOOKS_AT_EVERY_POINT: &[Look] = &[(4, 60, 2), (16, 6, 3)];

/// Crashes between two effects, of which there are few: most pairs are noticed by what is left when all is lost there.
const LOOKS_BETWEEN_TWO: &[Look] = &[(4, 1, 1), (16, 4, 2), (64, 2, 3)];

/// The same for a pair that is to go unnoticed, and so is always tried to the end.
const LOOK_AT_HARMLESS: &[Look] = &[(4, 1, 1)];

/// That one where more is asked for.
const LONG_LOOK_AT_HARMLESS: &[Look] = &[(4, 12, 3)];

/// What came of a mutation.
struct Outcome {
    /// Crash points that were tried.
    points: u64,
    /// How it was noticed; `None` when it was not.
    noticed: Option<String>,
}

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

/// Tries a mutation on the recordings that it concerns, until it is noticed.
fn outcome(
    mutation: Mutation,
    recordings: &[Recording],
    concerns: impl Fn(&Recording) -> bool,
    looks: &[Look],
) -> Outcome {
    let mut points = 0;
    for &(states_per_point, deepen_one_in, depth) in looks {
        for recording in recordings.iter().filter(|recording| concerns(recording)) {
            let later_states = 300 * multiplier() as u64;
            let states_per_point = states_per_point * multiplier();
            let effort = Effort { states_per_point, deepen_one_in, depth, later_states };
            let mut explorer = Explorer::new(mutation, effort, seed());
            let explored = explorer.explore(recording);
            points += explorer.tally.points;
            if let Err(violation) = explored {
                let states: u64 = explorer.tally.states.iter().sum();
                let Recording { name, next, .. } = recording;
                let how = format!("{name} ({:?}), state {states}: {}", next.flush, violation.complaint);
                return Outcome { points, noticed: Some(how) };
            }
        }
        if points == 0 {
            break;
        }
    }
    Outcome { points, noticed: None }
}

#[test]
fn every_sync_is_missed_when_it_is_taken_away() {
    let recordings = recordings();
    let mut unnoticed = Vec::new();
    for site in SyncSite::ALL {
        let concerns = |recording: &Recording| sites(&recording.events).contains(site);
        let outcome = outcome(Mutation::Without(*site), &recordings, concerns, LOOKS_AT_EVERY_POINT);
        match outcome.noticed {
            Some(how) => say(&format!("crash without {site:?}: {how}")),
            None => unnoticed.push(*site),
        }
    }
    assert!(unnoticed.is_empty(), "nothing breaks without {unnoticed:?}");
}

/// Why nothing rests on the order of two syncs, if that is so.
fn harmless(wanted: Pair) -> Option<&'static str> {
    HARMLESS.iter().find(|(pair, _)| *pair == wanted).map(|(_, reason)| *reason)
}

/// Exchanges two sites wherever a call of the second follows one of the first.
fn exchanged((first, second): Pair, recordings: &[Recording]) -> Outcome {
    let reason = harmless((first, second));
    let looks = match (reason, multiplier()) {
        (None, _) => LOOKS_BETWEEN_TWO,
        (Some(_), 1) => LOOK_AT_HARMLESS,
        (Some(_), _) => LONG_LOOK_AT_HARMLESS,
    };
    let concerns = |recording: &Recording| in_order(&recording.events, first, second);
    let mutation = Mutation::Exchanged(first, second);
    let outcome = outcome(mutation, recordings, concerns, looks);
    match (&outcome.noticed, reason) {
        (Some(how), _) => say(&format!("crash with {first:?} after {second:?}: {how}")),
        (None, Some(reason)) => say(&format!("crash with {first:?} after {second:?}: harmless, {reason}")),
        (None, None) => {}
    }
    outcome
}

/// Each pair's outcome, in the order of the pairs.
fn exchange_all(pairs: &[Pair], recordings: &[Recording]) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(BTreeMap::new());
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(pair) = pairs.get(number) else { return };
            // Names that no recording has, and for each pair the same in every run.
            name_rings_from((number as u128 + 1) << 64);
            let outcome = exchanged(*pair, recordings);
            outcomes.lock().unwrap().insert(number, outcome);
        }
    };
    std::thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(work))));
    outcomes.into_inner().unwrap().into_values().collect()
}

#[test]
fn every_order_of_two_syncs_that_matters_is_missed_when_it_is_turned_round() {
    let recordings = recordings();
    let all = || SyncSite::ALL.iter().copied();
    let pairs: Vec<Pair> = all().flat_map(|first| all().map(move |second| (first, second))).collect();
    let (mut noticed, mut unnoticed) = (0, Vec::new());
    let (mut unmoved, mut harmful, mut unmet) = (0, Vec::new(), Vec::new());
    for (pair, outcome) in pairs.iter().zip(exchange_all(&pairs, &recordings)) {
        match (harmless(*pair), outcome.points, outcome.noticed) {
            (None, 0, _) => {}
            (None, _, Some(_)) => noticed += 1,
            (None, _, None) => unnoticed.push(pair),
            (Some(_), 0, _) => unmet.push(pair),
            (Some(_), _, Some(how)) => harmful.push((pair, how)),
            (Some(_), _, None) => unmoved += 1,
        }
    }
    let met = noticed + unnoticed.len() + unmoved + harmful.len();
    say(&format!(
        "crash with two syncs exchanged: of {} pairs {met} occur, {noticed} are noticed, {unmoved} are harmless",
        pairs.len()
    ));
    assert!(
        unnoticed.is_empty(),
        "nothing breaks when the first of these comes after the second: {unnoticed:?}"
    );
    assert!(harmful.is_empty(), "these are listed as harmless and break something: {harmful:?}");
    assert!(unmet.is_empty(), "these are listed as harmless and occur in no story: {unmet:?}");
    assert!(met >= PAIRS_MET, "the stories meet {met} pairs only: give those back that met {PAIRS_MET}");
}
