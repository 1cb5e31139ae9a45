//! One flipped bit in the journal: refused by name, reported, or harmless, and never served.

use hotlog::options::FlushMode;

use crate::check::{compare, quietly};
use crate::explore::Recording;
use crate::filesystem::FileSystem;
use crate::life::{Life, Settings, Stuck};
use crate::model::{BatchId, Crash, Expectation, Note};
use crate::random::Random;
use crate::recording::{Event, RecordingDisk};
use crate::replay::{Mutation, Replay};
use crate::{multiplier, say, scenarios, seed};

/// What the log made of a flipped bit.
enum Verdict {
    Refused,
    Reported,
    Harmless,
}

/// The batches acknowledged last: nothing in the journal follows their commit, so a flip there looks like a commit
/// that the power cut short.
fn newest_commit(events: &[Event]) -> Vec<BatchId> {
    let acks = events.iter().rev().skip_while(|event| !matches!(event, Event::Note(Note::Acked { .. })));
    let ids = acks.map_while(|event| match event {
        Event::Note(Note::Acked { id }) => Some(*id),
        _ => None,
    });
    ids.collect()
}

fn judge(state: &FileSystem, recording: &Recording, expectation: &Expectation) -> Result<Verdict, String> {
    quietly(|| {
        let next_id = expectation.next_id;
        match Life::begin(&RecordingDisk::new(state.clone()), recording.next, next_id) {
            Ok(life) if life.report.losses.is_empty() => {
                let mut allowed = expectation.clone();
                allowed.excuse(&newest_commit(&recording.events));
                compare(&life, &allowed, Crash::Power).map(|_| Verdict::Harmless)
            }
            Ok(life) => {
                let mut allowed = expectation.clone();
                allowed.excuse_all();
                compare(&life, &allowed, Crash::Power).map(|_| Verdict::Reported)
            }
            Err(Stuck(why)) if why.contains("--accept-loss") => {
                let accepting = Settings { accept_loss: true, ..recording.next };
                let life = Life::begin(&RecordingDisk::new(state.clone()), accepting, next_id)
                    .map_err(|Stuck(why)| format!("cannot open even with --accept-loss: {why}"))?;
                if life.report.losses.is_empty() {
                    return Err("refused as a loss, then accepted without reporting one".to_owned());
                }
                let mut allowed = expectation.clone();
                allowed.excuse_all();
                compare(&life, &allowed, Crash::Power).map(|_| Verdict::Refused)
            }
            Err(Stuck(why)) => Err(format!("refused, naming no way on: {why}")),
        }
    })
}

fn flip_bits_of(recording: &Recording, tries: usize) {
    let mut replay = Replay::new(recording, Mutation::None);
    while replay.next_point().is_some() {}
    let (state, expectation) = (replay.state, replay.expectation);
    let journal =
        (0..state.files.len()).max_by_key(|file| state.files[*file].live.len()).expect("a file is there");
    let written: Vec<usize> =
        (0..state.files[journal].live.len()).filter(|at| state.files[journal].live[*at] != 0).collect();
    let mut random = Random::new(seed());
    let mut verdicts = [0; 3];
    for _ in 0..tries {
        let (at, bit) = (written[random.below(written.len())], random.below(8));
        let mut flipped = state.clone();
        flipped.files[journal].live[at] ^= 1 << bit;
        match judge(&flipped, recording, &expectation) {
            Ok(verdict) => verdicts[verdict as usize] += 1,
            Err(complaint) => panic!("{}: bit {bit} of byte {at} flipped: {complaint}", recording.name),
        }
    }
    let [refused, reported, harmless] = verdicts;
    say(&format!(
        "crash {:?} {}: {tries} flipped bits, {refused} refused, {reported} reported, {harmless} harmless, seed {}",
        recording.next.flush,
        recording.name,
        seed()
    ));
}

#[test]
fn a_flipped_bit_in_the_journal_is_never_served() {
    for flush in [FlushMode::Ack, FlushMode::Os] {
        for name in ["append and commit", "group commit", "checkpoint", "wrap around", "killed and started"] {
            let (name, story) = scenarios::STORIES.iter().find(|(known, _)| *known == name).expect("a story");
            let recording = scenarios::record(name, *story, scenarios::settings_of(name, flush, seed()));
            flip_bits_of(&recording, 120 * multiplier());
        }
    }
}
