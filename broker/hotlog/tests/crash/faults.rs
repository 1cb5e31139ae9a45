//! One operation of the disk fails: the log changes nothing any more, and what it had promised is there after the next start.

use hotlog::options::FlushMode;

use crate::check::quietly;
use crate::explore::{Effort, Explorer, Recording};
use crate::filesystem::FileSystem;
use crate::life::{Settings, Stuck};
use crate::model::{Expectation, Note};
use crate::recording::{Event, RecordingDisk};
use crate::replay::Mutation;
use crate::scenarios::{self, Story};
use crate::{multiplier, say, seed};

/// Operations of a story that fail, one at a time.
const FAULTS_PER_STORY: usize = 14;

/// Stories that would take too long, one fault after the other.
const LONG: &[&str] = &["many segments", "full disk", "checkpoint replaced", "replaced with segments"];

/// How many changing operations a story takes.
fn operations(story: Story, settings: Settings) -> usize {
    let disk = RecordingDisk::new(FileSystem::default());
    story(&disk, settings).expect("without a fault the story goes well");
    disk.operations()
}

/// Tells the story up to the fault, and for as long as the log takes part.
fn record(name: &'static str, story: Story, settings: Settings, fail_after: usize) -> Recording {
    let disk = RecordingDisk::new(FileSystem::default());
    disk.fail_after(fail_after);
    let told = quietly(|| story(&disk, settings).map_err(|Stuck(why)| why));
    if let Err(why) = told {
        assert!(!why.starts_with("panic"), "{name}: operation {fail_after} failed: {why}");
    }
    let events = disk.take_events();
    let fault = events.iter().rposition(|event| matches!(event, Event::Note(Note::StoryBegins)));
    let after = &events[fault.expect("the operation was reached")..];
    // The part of a failed write that was made is recorded behind the fault.
    let same_life = after.iter().take_while(|event| !matches!(event, Event::Note(Note::Opens)));
    let made: Vec<_> = same_life.filter(|event| !matches!(event, Event::Note(_))).collect();
    assert!(made.len() <= 1, "{name}: operation {fail_after} failed, and then {:?}", made[1]);
    let (initial, expectation) = (FileSystem::default(), Expectation::default());
    Recording { name, initial, expectation, events, point_one_in: 1, next: settings }
}

#[test]
fn after_a_failed_write_or_sync_nothing_is_written_and_nothing_is_lost() {
    let effort = Effort { states_per_point: 3 * multiplier(), deepen_one_in: 20, depth: 2, later_states: 20 };
    for flush in [FlushMode::Ack, FlushMode::Os] {
        for (name, story) in scenarios::STORIES {
            if LONG.contains(name) {
                continue;
            }
            let settings = scenarios::settings_of(name, flush, seed());
            let operations = operations(*story, settings);
            let faults = FAULTS_PER_STORY * multiplier();
            let mut states = 0;
            for fail_after in (0..operations).step_by(operations.div_ceil(faults)) {
                let recording = record(name, *story, settings, fail_after);
                let mut explorer = Explorer::new(Mutation::None, effort, seed());
                if let Err(violation) = explorer.explore(&recording) {
                    panic!("{name}, {flush:?}, operation {fail_after} of {operations} failed: {violation}");
                }
                states += explorer.tally.states.iter().sum::<u64>();
            }
            say(&format!("crash {flush:?} {name}: one of {operations} operations fails, {states} states"));
        }
    }
}
