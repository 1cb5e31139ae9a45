//! Walks a recording and judges the states that a crash could leave at each of its points.
//!
//! Owns: replaying, with a sync left out or two exchanged where a mutation says so; which of the legal states are
//! tried; crashes within the life that follows. Does not own: what is legal (`filesystem`) and what is right (`check`).

use std::collections::{BTreeMap, HashSet};

use hotlog::sync_site::SyncSite;

use crate::check::{Complaint, judge};
use crate::filesystem::{FileId, FileSystem, Sequence};
use crate::life::Settings;
use crate::model::{Crash, Expectation, Note};
use crate::random::Random;
use crate::recording::{Event, RecordingDisk, Target};

/// What is wrong with the disk on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    None,
    /// Calls from this site make nothing durable.
    Without(SyncSite),
    /// Calls from the first site take effect only after the next call from the second.
    Exchanged(SyncSite, SyncSite),
}

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
        let mut replay = Replay::new(recording, self.mutation);
        let mut seen = HashSet::new();
        while let Some(point) = replay.next_point() {
            // Later crashes have many more points; each is met by chance.
            let one_in = match depth {
                1 => recording.point_one_in,
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

/// A recording played up to some event, by the rules of the file system.
pub struct Replay<'a> {
    events: &'a [Event],
    at: usize,
    pub state: FileSystem,
    pub expectation: Expectation,
    mutation: Mutation,
    /// Calls that began and have not ended.
    under_way: BTreeMap<usize, Call>,
    /// Ended calls that wait for another one's end, by that one.
    waiting: BTreeMap<usize, Vec<Call>>,
    /// Calls whose effect is to come after another's.
    exchanged: BTreeMap<usize, usize>,
    /// Calls that are due now, after a point.
    due: Vec<Call>,
}

#[derive(Clone, Debug)]
struct Call {
    target: Target,
    site: SyncSite,
    /// What it covers.
    until: Sequence,
}

impl<'a> Replay<'a> {
    pub fn new(recording: &'a Recording, mutation: Mutation) -> Self {
        Self {
            events: &recording.events,
            at: 0,
            state: recording.initial.clone(),
            expectation: recording.expectation.clone(),
            mutation,
            under_way: BTreeMap::new(),
            waiting: BTreeMap::new(),
            exchanged: exchanges(&recording.events, mutation),
            due: Vec::new(),
        }
    }

    /// Plays to the next point where a crash can leave something new, and says where that is.
    pub fn next_point(&mut self) -> Option<String> {
        for call in std::mem::take(&mut self.due) {
            self.take_effect(&call);
        }
        loop {
            let event = self.events.get(self.at)?;
            self.at += 1;
            self.play(event);
            let next_changes = self.events.get(self.at).is_none_or(|next| !matches!(next, Event::Note(_)));
            let telling = !matches!(event, Event::NewFile(_) | Event::NewFolder(_));
            if (next_changes && telling) || !self.due.is_empty() {
                return Some(format!("after event {} of {}, {}", self.at, self.events.len(), brief(event)));
            }
        }
    }

    fn play(&mut self, event: &Event) {
        match event {
            Event::NewFile(file) => self.state.ensure_file(*file),
            Event::NewFolder(folder) => self.state.ensure_folder(*folder),
            Event::Names(edits) => self.state.edit_names(edits.clone()),
            Event::Write { file, position, bytes } => {
                self.state.write(*file, *position, bytes.clone());
            }
            Event::SetLen { file, length } => self.state.set_len(*file, *length),
            Event::Note(note) => self.expectation.apply(note),
            Event::Begin { call, target, site } => {
                let until = match target {
                    Target::Write { file, position, bytes } => {
                        self.state.write(*file, *position, bytes.clone())
                    }
                    Target::File(_) | Target::AllFiles | Target::Folder(_) => self.state.now(),
                };
                self.under_way.insert(*call, Call { target: target.clone(), site: *site, until });
            }
            Event::End { call } => self.end(*call),
        }
    }

    fn end(&mut self, number: usize) {
        let call = self.under_way.remove(&number).expect("a call ends once");
        if let Some(after) = self.exchanged.get(&number) {
            self.waiting.entry(*after).or_default().push(call);
        } else if self.mutation != Mutation::Without(call.site) {
            self.take_effect(&call);
        }
        self.due = self.waiting.remove(&number).unwrap_or_default();
    }

    fn take_effect(&mut self, call: &Call) {
        match &call.target {
            Target::Write { file, .. } => self.state.sync_one(*file, call.until),
            Target::File(file) => self.state.sync(*file, call.until),
            Target::AllFiles => {
                (0..self.state.files.len()).for_each(|file| self.state.sync(file, call.until))
            }
            Target::Folder(folder) => self.state.sync_folder(*folder, call.until),
        }
    }

    fn under_way_writes(&self) -> impl Iterator<Item = (FileId, Sequence)> + '_ {
        self.under_way.values().filter_map(|call| match &call.target {
            Target::Write { file, .. } => Some((*file, call.until)),
            Target::File(_) | Target::AllFiles | Target::Folder(_) => None,
        })
    }
}

/// For each call from the first site, the nearest later call from the second, with no other of the first between.
fn exchanges(events: &[Event], mutation: Mutation) -> BTreeMap<usize, usize> {
    let Mutation::Exchanged(first, second) = mutation else { return BTreeMap::new() };
    let mut exchanged = BTreeMap::new();
    let mut waiting = None;
    for event in events {
        let Event::Begin { call, site, .. } = event else { continue };
        if *site == second
            && let Some(waiting) = waiting.take()
        {
            exchanged.insert(waiting, *call);
        } else if *site == first {
            waiting = Some(*call);
        }
    }
    exchanged
}

/// The sites of the durable calls of a recording's story, in order.
pub fn sites(events: &[Event]) -> Vec<SyncSite> {
    let site = |event: &Event| match event {
        Event::Begin { site, .. } => Some(*site),
        _ => None,
    };
    let begins = events.iter().rposition(|event| matches!(event, Event::Note(Note::StoryBegins)));
    events[begins.unwrap_or(0)..].iter().filter_map(site).collect()
}

fn brief(event: &Event) -> String {
    match event {
        Event::Write { file, position, bytes } => {
            format!("write of {} bytes at {position} of file {file}", bytes.len())
        }
        Event::Begin { target: Target::Write { position, bytes, .. }, site, .. } => {
            format!("{site:?} began: {} bytes at {position}", bytes.len())
        }
        Event::Begin { site, .. } => format!("{site:?} began"),
        Event::Note(note) => format!("{note:?}").chars().take(60).collect(),
        other => format!("{other:?}").chars().take(100).collect(),
    }
}
