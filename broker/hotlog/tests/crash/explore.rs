//! Walks a recording and judges the states that a crash could leave at each of its points.
//!
//! Owns: which of the points and of the legal states are tried; crashes within the life that follows. Does not own: where
//! points are (`replay`), what is legal (`filesystem`) and what is right (`check`).

use std::collections::HashSet;

use crate::check::{Complaint, judge};
use crate::filesystem::FileSystem;
use crate::life::Settings;
use crate::model::{Crash, Expectation};
use crate::random::Random;
use crate::recording::{Event, RecordingDisk};
use crate::replay::{Mutation, Replay};

/// How much is tried.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// States after a power loss per crash point and piece size.
    pub states_per_point: usize,
    /// Of how many judged states one is crashed again in its second life.
    pub deepen_one_in: usize,
    /// How many crashes in a row.
    pub depth: usize,
    /// States after a second crash and later ones, in all.
    pub later_states: u64,
}

/// How a recording was made and how its directory is opened again.
#[derive(Clone, Debug)]
pub struct Recording {
    pub name: &'static str,
    pub initial: FileSystem,
    pub expectation: Expectation,
    pub events: Vec<Event>,
    /// Of how many crash points one is tried.
    pub point_one_in: usize,
    /// The settings of the lives that follow.
    pub next: Settings,
}

/// What was tried.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub points: u64,
    /// Judged states by how many crashes led there.
    pub states: [u64; 4],
}

/// A state that is wrong.
#[derive(Clone, Debug)]
pub struct Violation {
    pub complaint: Complaint,
    /// Per crash, the event before which it happened and how.
    pub trail: Vec<String>,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} [{}]", self.complaint, self.trail.join("; "))
    }
}

pub struct Explorer {
    pub mutation: Mutation,
    pub effort: Effort,
    pub random: Random,
    pub tally: Tally,
    trail: Vec<String>,
    /// States of later crashes that may be tried by now: they are spread over the story.
    later_states_so_far: u64,
}

impl Explorer {
    pub fn new(mutation: Mutation, effort: Effort, seed: u64) -> Self {
        Self {
            mutation,
            effort,
            random: Random::new(seed),
            tally: Tally::default(),
            trail: Vec::new(),
            later_states_so_far: 0,
        }
    }

    /// Judges states at every point of the recording.
    pub fn explore(&mut self, recording: &Recording) -> Result<(), Violation> {
        self.walk(recording, 1)
    }

    fn walk(&mut self, recording: &Recording, depth: usize) -> Result<(), Violation> {
        let mutation = if depth == 1 { self.mutation } else { self.mutation.after_a_crash() };
        let mut replay = Replay::new(recording, mutation);
        let mut seen = HashSet::new();
        while let Some(point) = replay.next_point() {
            let one_in = match (depth, mutation) {
                // Such points are few, and each is one of a kind.
                (1, Mutation::Exchanged(..)) => 1,
                (1, Mutation::None | Mutation::Without(_)) => recording.point_one_in,
                // Later crashes have many more points; each is met by chance.
                _ => (recording.events.len() / POINTS_PER_LATER_LIFE).max(1),
            };
            if !replay.expectation.in_story || !self.random.chance(one_in) {
                continue;
            }
            self.tally.points += 1;
            if depth == 1 {
                self.later_states_so_far =
                    self.effort.later_states * replay.at as u64 / recording.events.len() as u64;
            }
            self.trail.push(point);
            for loss in self.losses_here(&replay, depth) {
                let state = loss.apply(&replay);
                if seen.insert((state.fingerprint(), replay.expectation.version, loss.crash())) {
                    self.trail.push(loss.describe(&replay));
                    self.crashed(recording, state, (&replay.expectation, loss.crash()), depth)?;
                    self.trail.pop();
                }
            }
            self.trail.pop();
        }
        Ok(())
    }

    /// Which of the legal losses are tried here: all where they are few, else the telling ones and a sample.
    fn losses_here(&mut self, replay: &Replay<'_>, depth: usize) -> Vec<Loss> {
        let per_size =
            if depth == 1 { self.effort.states_per_point } else { self.effort.states_per_point.div_ceil(8) };
        let mut losses = vec![Loss::Killed { torn_eighths: 8 }];
        if replay.under_way_writes().next().is_some() {
            losses.push(Loss::Killed { torn_eighths: self.random.below(8) });
        }
        for piece_bytes in [512, 4096] {
            let units = replay.state.units(piece_bytes);
            let few = if depth == 1 { EXHAUSTIVE_UNITS } else { 1 };
            let kept = choose(units.len(), few, per_size, &mut self.random);
            losses.extend(kept.into_iter().map(|kept| Loss::Power { piece_bytes, kept }));
        }
        losses
    }

    /// Whether this state's second (or third) life is crashed too.
    fn deepens(&mut self, depth: usize) -> bool {
        let [_, _, second, third] = self.tally.states;
        match depth {
            1 => second + third < self.later_states_so_far && self.random.chance(self.effort.deepen_one_in),
            // As many as second crashes, which come before them.
            _ => third < second && self.random.chance(4),
        }
    }

    fn crashed(
        &mut self,
        recording: &Recording,
        state: FileSystem,
        (expectation, crash): (&Expectation, Crash),
        depth: usize,
    ) -> Result<(), Violation> {
        self.tally.states[depth.min(3)] += 1;
        let disk = RecordingDisk::new(state.clone());
        let next = Settings { seed: self.random.next(), ..recording.next };
        judge(&disk, next, &mut expectation.clone(), crash)
            .map_err(|complaint| Violation { complaint, trail: self.trail.clone() })?;
        if depth < self.effort.depth && self.deepens(depth) {
            let mut expectation = expectation.clone();
            if crash == Crash::Power {
                expectation.lose_power();
            }
            self.walk(
                &Recording { initial: state, expectation, events: disk.take_events(), ..*recording },
                depth + 1,
            )?;
        }
        Ok(())
    }
}

/// About so many crash points are met of a second or third life.
const POINTS_PER_LATER_LIFE: usize = 8;

/// Up to this many units, every subset is tried.
const EXHAUSTIVE_UNITS: usize = 5;

/// What a crash took.
#[derive(Clone, Debug)]
enum Loss {
    /// The power: of the units that no sync covers, these are kept.
    Power { piece_bytes: usize, kept: Vec<bool> },
    /// The process only; of writes under way so much was made.
    Killed { torn_eighths: usize },
}

impl Loss {
    fn crash(&self) -> Crash {
        match self {
            Loss::Power { .. } => Crash::Power,
            Loss::Killed { .. } => Crash::Kill,
        }
    }

    fn describe(&self, replay: &Replay<'_>) -> String {
        match self {
            Loss::Power { piece_bytes, kept } => {
                let units = replay.state.units(*piece_bytes);
                let lost = (0..kept.len()).filter(|unit| !kept[*unit]);
                let named: Vec<_> =
                    lost.clone().take(4).map(|unit| replay.state.name(&units[unit])).collect();
                format!("power lost, with it {} of {} units: {}", lost.count(), kept.len(), named.join(", "))
            }
            Loss::Killed { torn_eighths } => format!("killed, {torn_eighths}/8 of what was under way done"),
        }
    }

    fn apply(&self, replay: &Replay<'_>) -> FileSystem {
        match self {
            Loss::Power { piece_bytes, kept } => {
                replay.state.after_power_loss(&replay.state.units(*piece_bytes), |unit| kept[unit])
            }
            Loss::Killed { torn_eighths } => {
                let under_way: Vec<_> = replay.under_way_writes().collect();
                replay.state.after_death(&under_way, |length| length * torn_eighths / 8)
            }
        }
    }
}

/// Subsets of `count` units: all where they are few, else `limit` of them.
fn choose(count: usize, few: usize, limit: usize, random: &mut Random) -> Vec<Vec<bool>> {
    if count <= few {
        return (0..1usize << count)
            .map(|set| (0..count).map(|unit| set >> unit & 1 == 1).collect())
            .collect();
    }
    let mut chosen = vec![vec![false; count], vec![true; count]];
    while chosen.len() < limit {
        let one = random.below(count);
        chosen.push(match random.below(6) {
            0 => (0..count).map(|unit| unit == one).collect(),
            1 => (0..count).map(|unit| unit != one).collect(),
            2 => (0..count).map(|unit| unit < one).collect(),
            3 => (0..count).map(|unit| unit >= one).collect(),
            4 => (0..count).map(|_| random.chance(2)).collect(),
            _ => (0..count).map(|_| !random.chance(5)).collect(),
        });
    }
    chosen.truncate(limit.max(2));
    chosen
}
