//! Plays a recording up to some event, by the rules of the file system, save what a mutation changes.
//!
//! Owns: when each durable call takes effect, and after which events a crash can leave something new.
//! Does not own: what is legal (`filesystem`), which of the points and states are tried (`explore`).

use std::collections::BTreeMap;

use hotlog::sync_site::SyncSite;

use crate::explore::Recording;
use crate::filesystem::{FileId, FileSystem, Sequence};
use crate::model::{Expectation, Note};
use crate::recording::{Event, Target};

/// What is wrong with the disk on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    None,
    /// Calls from this site make nothing durable.
    Without(SyncSite),
    /// Calls from the first site take effect only once the next call from the second has. Crashes come between those two
    /// effects and nowhere else, and only where that leaves something undone: before the second's effect the disk merely
    /// lacks a sync, which is another mutation, and after the first's it lacks nothing.
    Exchanged(SyncSite, SyncSite),
}

impl Mutation {
    /// What is wrong in the lives that follow a crash. Between two exchanged effects it was the crash that left one of
    /// them undone; the next life's own syncs are in order.
    pub fn after_a_crash(self) -> Self {
        match self {
            Self::Exchanged(..) => Self::None,
            Self::None | Self::Without(_) => self,
        }
    }
}

/// A recording played up to some event.
pub struct Replay<'a> {
    events: &'a [Event],
    /// Events played so far.
    pub at: usize,
    pub state: FileSystem,
    pub expectation: Expectation,
    mutation: Mutation,
    /// Calls that began and have not ended.
    under_way: BTreeMap<usize, Call>,
    /// Ended calls from the first of two exchanged sites.
    waiting: Vec<Call>,
    overtaken: Option<Overtaken>,
}

#[derive(Clone, Debug)]
struct Call {
    target: Target,
    site: SyncSite,
    /// What it covers.
    until: Sequence,
    /// The event with which it began.
    began: usize,
    /// The event with which it ended, for one that waits.
    ended: usize,
}

/// Calls whose effect comes after a point, because that of another one came before it.
struct Overtaken {
    calls: Vec<Call>,
    /// Where a site is exchanged with itself: the call that overtook, which waits for the one after it in its turn, and the
    /// state without its effect.
    in_turn: Option<(FileSystem, Call)>,
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
            waiting: Vec::new(),
            overtaken: None,
        }
    }

    /// Plays to the next point where a crash can leave something new, and says where that is.
    pub fn next_point(&mut self) -> Option<String> {
        self.catch_up();
        loop {
            let event = self.events.get(self.at)?;
            self.at += 1;
            self.play(event);
            if self.is_point(event) {
                return Some(format!("after event {} of {}, {}", self.at, self.events.len(), brief(event)));
            }
        }
    }

    /// Whether a crash after this event, which was played last, can leave something new.
    fn is_point(&self, event: &Event) -> bool {
        if let Mutation::Exchanged(..) = self.mutation {
            return self.overtaken.is_some();
        }
        let next_changes = self.events.get(self.at).is_none_or(|next| !matches!(next, Event::Note(_)));
        next_changes && !matches!(event, Event::NewFile(_) | Event::NewFolder(_))
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
                let begun =
                    Call { target: target.clone(), site: *site, until, began: self.at, ended: usize::MAX };
                self.under_way.insert(*call, begun);
            }
            Event::End { call } => self.end(*call),
        }
    }

    fn end(&mut self, number: usize) {
        let call = self.under_way.remove(&number).expect("a call ends once");
        match self.mutation {
            Mutation::Exchanged(first, second) if call.site == second => self.overtake(&call, first),
            Mutation::Exchanged(first, _) if call.site == first => {
                self.waiting.push(Call { ended: self.at, ..call });
            }
            Mutation::Without(site) if call.site == site => {}
            Mutation::None | Mutation::Without(_) | Mutation::Exchanged(..) => self.take_effect(&call),
        }
    }

    /// A call takes effect before those from `first` that had ended when it began.
    fn overtake(&mut self, call: &Call, first: SyncSite) {
        let waiting = std::mem::take(&mut self.waiting);
        let (calls, beside): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|waiting| waiting.ended < call.began);
        self.waiting = beside;
        let in_turn =
            (call.site == first).then(|| (self.state.clone(), Call { ended: self.at, ..call.clone() }));
        self.take_effect(call);
        let leaves_something_undone = calls.iter().any(|call| self.would_change(call));
        self.overtaken = Some(Overtaken { calls, in_turn });
        if !leaves_something_undone {
            self.catch_up();
        }
    }

    /// What was overtaken takes effect.
    fn catch_up(&mut self) {
        let Some(Overtaken { calls, in_turn }) = self.overtaken.take() else { return };
        if let Some((before, call)) = in_turn {
            self.state = before;
            self.waiting.push(call);
        }
        calls.iter().for_each(|call| self.take_effect(call));
    }

    fn take_effect(&mut self, call: &Call) {
        match &call.target {
            Target::Write { file, .. } => self.state.sync_one(*file, call.until),
            Target::File(file) => self.state.sync(*file, call.until),
            Target::AllFiles => {
                (0..self.state.files.len()).for_each(|file| self.state.sync(file, call.until));
            }
            Target::Folder(folder) => self.state.sync_folder(*folder, call.until),
        }
    }

    /// Whether the call would make anything durable now, or others have done that meanwhile.
    fn would_change(&self, call: &Call) -> bool {
        match &call.target {
            Target::Write { file, .. } => self.state.wants_sync_one(*file, call.until),
            Target::File(file) => self.state.wants_sync(*file, call.until),
            Target::AllFiles => {
                (0..self.state.files.len()).any(|file| self.state.wants_sync(file, call.until))
            }
            Target::Folder(folder) => self.state.wants_sync_folder(*folder, call.until),
        }
    }

    pub fn under_way_writes(&self) -> impl Iterator<Item = (FileId, Sequence)> + '_ {
        self.under_way.values().filter_map(|call| match &call.target {
            Target::Write { file, .. } => Some((*file, call.until)),
            Target::File(_) | Target::AllFiles | Target::Folder(_) => None,
        })
    }
}

fn story_begins(events: &[Event]) -> usize {
    events.iter().rposition(|event| matches!(event, Event::Note(Note::StoryBegins))).unwrap_or(0)
}

/// The sites of the durable calls of a recording's story, in order.
pub fn sites(events: &[Event]) -> Vec<SyncSite> {
    let site = |event: &Event| match event {
        Event::Begin { site, .. } => Some(*site),
        _ => None,
    };
    events[story_begins(events)..].iter().filter_map(site).collect()
}

/// Whether a call from the first site comes before one from the second that is part of the story.
pub fn in_order(events: &[Event], first: SyncSite, second: SyncSite) -> bool {
    let is_from = |event: &Event, wanted| matches!(event, Event::Begin { site, .. } if *site == wanted);
    let earliest = events.iter().position(|event| is_from(event, first));
    let latest = events.iter().rposition(|event| is_from(event, second));
    let latest = latest.filter(|latest| *latest >= story_begins(events));
    earliest.zip(latest).is_some_and(|(earliest, latest)| earliest < latest)
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
