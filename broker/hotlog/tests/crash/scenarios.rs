//! What the log does while it is crashed: short stories, each told once and broken at every point.

mod orders;

use hotlog::LogBeginning;
use hotlog::options::FlushMode;
use hotlog::sync_site::SyncSite;
use wire::ids::Offset;

use crate::explore::Recording;
use crate::filesystem::FileSystem;
use crate::life::{Life, Settings, Stuck, topic};
use crate::model::{Expectation, Note};
use crate::recording::{Event, RecordingDisk};
use crate::replay::sites;

/// A story: told on an empty disk, from the first start on.
pub type Story = fn(&RecordingDisk, Settings) -> Result<(), Stuck>;

/// All stories by name.
pub const STORIES: &[(&str, Story)] = &[
    ("first start", first_start),
    ("append and commit", append_and_commit),
    ("group commit", group_commit),
    ("wrap around", wrap_around),
    ("checkpoint", checkpoint),
    ("checkpoint replaced", checkpoint_replaced),
    ("segments roll", segments_roll),
    ("partial blocks", partial_blocks),
    ("log start moves", log_start_moves),
    ("truncate", truncate),
    ("delete and create again", delete_and_create_again),
    ("release", release),
    ("begins elsewhere", begins_elsewhere),
    ("full disk", full_disk),
    ("journal elsewhere", journal_elsewhere),
    ("many segments", many_segments),
    ("clean stop", clean_stop),
    ("never acknowledged", never_acknowledged),
    ("killed and started", killed_and_started),
    ("other flush mode", other_flush_mode),
    ("ack after os", orders::ack_after_os),
    ("partitions in turn", orders::partitions_in_turn),
    ("replaced with segments", orders::replaced_with_segments),
];

pub fn settings(flush: FlushMode, seed: u64) -> Settings {
    Settings {
        flush,
        segment_bytes: 24 << 10,
        journal_bytes: hotlog::limits::JOURNAL_BYTES_MIN,
        journal_folder: None,
        accept_loss: false,
        seed,
    }
}

/// A story's own settings.
pub fn settings_of(name: &str, flush: FlushMode, seed: u64) -> Settings {
    let usual = settings(flush, seed);
    match name {
        "journal elsewhere" => Settings { journal_folder: Some("/journal"), ..usual },
        "many segments" => Settings { journal_bytes: 2_400 << 10, segment_bytes: 1 << 20, ..usual },
        "partitions in turn" => Settings { segment_bytes: orders::SEGMENT_BYTES, ..usual },
        _ => usual,
    }
}

/// The syncs that a story is there for: without them it would prove nothing.
pub fn reaches(name: &str) -> &'static [SyncSite] {
    match name {
        "checkpoint replaced" => &[SyncSite::CheckpointReplacement, SyncSite::CheckpointName],
        "replaced with segments" => orders::REACHES_WITH_REPLACEMENT,
        "partitions in turn" => orders::REACHES,
        "segments roll" | "release" => {
            &[SyncSite::SegmentSealed, SyncSite::SidecarBytes, SyncSite::SidecarName]
        }
        "partial blocks" | "checkpoint" | "many segments" => {
            &[SyncSite::SegmentBytes, SyncSite::CheckpointAppended]
        }
        "wrap around" => &[SyncSite::CheckpointAppended],
        _ => &[],
    }
}

/// Tells a story and keeps the recording.
pub fn record(name: &'static str, story: Story, settings: Settings) -> Recording {
    let disk = RecordingDisk::new(FileSystem::default());
    if let Err(Stuck(why)) = story(&disk, settings) {
        panic!("{name}: the story itself fails: {why}");
    }
    let events = disk.take_events();
    // A story without a scene to set is told from the first start on.
    let in_story = !events.iter().any(|event| matches!(event, Event::Note(Note::StoryBegins)));
    let expectation = Expectation { in_story, ..Expectation::default() };
    let told = sites(&events);
    for site in reaches(name) {
        assert!(told.contains(site), "{name}: the story does not reach {site:?}");
    }
    // Those that take long.
    let point_one_in = match name {
        "many segments" => 12,
        "replaced with segments" => 4,
        "partitions in turn" => 2,
        _ => 1,
    };
    Recording { name, initial: FileSystem::default(), expectation, events, point_one_in, next: settings }
}

/// Starts, and makes the new epoch known to the model.
fn start(disk: &RecordingDisk, settings: Settings, next_id: u64) -> Result<Life, Stuck> {
    let life = Life::begin(disk, settings, next_id)?;
    disk.note(Note::Recovered { epoch: life.epoch() });
    Ok(life)
}

/// Ends a life without a word to the log; says which batch number is free.
fn kill(life: Life) -> u64 {
    life.next_id()
}

fn first_start(disk: &RecordingDisk, settings: Settings) -> Result<(), Stuck> {
    start(disk, settings, 1).map(drop)
}

fn append_and_commit(disk: &RecordingDisk, settings: Settings) -> Result<(), Stuck> {
    let mut life = start(disk, settings, 1)?;
    life.create(topic(1))?;
    for size_bytes in [100, 5_000, 1, 3_900] {
        life.append(topic(1), size_bytes)?;
        life.append_sequenced(topic(1), 7, size_bytes)?;
        life.commit()?;
    }
    life.serve(topic(1))
}

fn group_commit(disk: &RecordingDisk, settings: Settings) -> Result<(), Stuck> {
    let mut life = start(disk, settings, 1)?;
    (1..=3).try_for_each(|number| life.create(topic(number)))?;
    for _ in 0..3 {
        for number in 1..=3 {
            life.append_sequenced(topic(number), 7, 700)?;
            life.append(topic(number), 900)?;
        }
        life.commit()?;
    }
    Ok(())
}

fn wrap_around(disk: &RecordingDisk, settings: Settings) -> Result<(), Stuck> {
    let mut life = start(disk, settings, 1)?;
    life.create(topic(1))?;
    life.create(topic(2))?;
    for round in 0..16 {
        life.append_sequenced(topic(1), 7, 20_000)?;
        life.append(topic(2), 1_000 + round * 300)?;
        life.commit()?;
        if round % 3 == 0 {
            life.settle()?;
        }
    }
    Ok(())
}

fn checkpoint(disk: &RecordingDisk, settings: Settings) -> Result<(), Stuck> {
    let mut life = start(disk, settings, 1)?;
    life.create(topic(1))?;
    life.create(topic(2))?;
    for _ in 0..2 {
        for number in 1..=2 {
            life.append_sequenced(topic(number), 7, 2_000)?;
            life.append(topic(number), 6_000)?;
        }
        life.commit()?;
        life.append(topic(1), 500)?;
        life.checkpoint()?;
        life.commit()?;
    }
    life.append_sequenced(topic(1), 7, 100)?;
    life.commit()
}

/// Remainders that fill a checkpoint each, so that the file doubles past the size below which it is left alone.
fn checkpoint_replaced(disk: &RecordingDisk, settings: Settings) -> Result<(), Stuck> {
    let mut life = start(disk, settings, 1)?;
    for number in 1..=9 {
        life.create(topic(number))?;
    }
    for round in 0..4 {
        if round == 2 {
            disk.note(Note::StoryBegins);
        }
        for number in 1..=9 {
            life.append(topic(number), if round == 0 { 12_000 } else { 40 })?;
        }
        life.append_sequenced(topic(1), 7, 10)?;
        life.commit()?;
        life.checkpoint()?;
    }
    life.append_sequenced(topic(1), 7, 10)?;
    life.commit()?;
    // No checkpoint was added to the replacement when the next life finds it.
    let next_id = kill(life);
    let mut life = start(disk, settings, next_id)?;
    life.append(topic(2), 300)?;
    life.commit()
}

fn segments_roll(disk: &RecordingDisk, settings: Settings) -> Result<(), Stuck> {
    let mut life = start(disk, settings, 1)?;
    life.create(topic(1))?;
    for round in 0..14 {
        life.append_sequenced(topic(1), 7, 5_300)?;
        life.commit()?;
        if round % 4 == 3 {
            life.checkpoint()?;
        }
    }
    life.settle()?;
    life.serve(topic(1))
}

fn partial_blocks(disk: &RecordingDisk, settings: Settings) -> Result<(), Stuck> {
    let mut life = start(disk, settings, 1)?;
    life.create(topic(1))?;
    for size_bytes in [8_300, 300, 8_300, 300, 300] {
        life.append_sequenced(topic(1), 7, size_bytes)?;
        life.append(topic(1), 900)?;
        life.commit()?;
        life.checkpoint()?;
    }
    life.flush_remainders()
}

fn log_start_moves(disk: &RecordingDisk, settings: Settings) -> Result<(), Stuck> {
    let mut life = start(disk, settings, 1)?;
    life.create(topic(1))?;
    for to in [2, 5, 9] {
        for _ in 0..4 {
            life.append_sequenced(topic(1), 7, 4_000)?;
        }
        life.commit()?;
        life.move_log_start(topic(1), Offset(to))?;
        life.checkpoint()?;
    }
    Ok(())
}

fn truncate(disk: &RecordingDisk, settings: Settings) -> Result<(), Stuck> {
    let mut life = start(disk, settings, 1)?;
    life.create(topic(1))?;
    for to in [3, 5, 4] {
        for _ in 0..4 {
            life.append(topic(1), 4_000)?;
        }
        life.commit()?;
        // Twice, so that the second meets a cut that no checkpoint counts.
        life.truncate(topic(1), Offset(to + 1))?;
        life.truncate(topic(1), Offset(to))?;
        life.append(topic(1), 700)?;
        life.commit()?;
        life.checkpoint()?;
    }
    Ok(())
}

fn delete_and_create_again(disk: &RecordingDisk, settings: Settings) -> Result<(), Stuck> {
    let mut life = start(disk, settings, 1)?;
    life.create(topic(1))?;
    life.create(topic(2))?;
    for number in 1..=2 {
        for _ in 0..6 {
            life.append_sequenced(topic(number), 7, 5_000)?;
        }
        life.commit()?;
    }
    life.checkpoint()?;
    life.append(topic(1), 500)?;
    life.commit()?;
    life.delete(topic(1))?;
    life.settle()?;
    life.create(topic(3))?;
    life.append(topic(3), 500)?;
    life.commit()?;
    life.checkpoint()
}

fn release(disk: &RecordingDisk, settings: Settings) -> Result<(), Stuck> {
    let mut life = start(disk, settings, 1)?;
    life.create(topic(1))?;
    for _ in 0..3 {
        for _ in 0..6 {
            life.append_sequenced(topic(1), 7, 5_300)?;
        }
        life.commit()?;
        life.checkpoint()?;
        let sealed = life.partition(topic(1)).sealed_segments(Offset(0))?;
        if let Some(first) = sealed.first() {
            life.release(topic(1), Offset(first.last_offset.0 + 1))?;
        }
    }
    Ok(())
}

fn begins_elsewhere(disk: &RecordingDisk, settings: Settings) -> Result<(), Stuck> {
    let mut life = start(disk, settings, 1)?;
    for number in 1..=2 {
        life.create(topic(number))?;
        let beginning = LogBeginning { log_start: Offset(300), ..LogBeginning::at(Offset(7_000_000_000)) };
        life.begin_log(topic(number), &beginning)?;
    }
    life.append_sequenced(topic(1), 7, 3_000)?;
    life.commit()?;
    life.checkpoint()?;
    life.move_log_start(topic(2), Offset(400))?;
    let next_id = kill(life);
    let mut life = start(disk, settings, next_id)?;
    life.append(topic(1), 500)?;
    life.append(topic(2), 500)?;
    life.commit()?;
    life.checkpoint()?;
    life.serve(topic(2))
}

/// Producers are refused, what is in the log stays, and a deletion makes room, also over a restart.
fn full_disk(disk: &RecordingDisk, settings: Settings) -> Result<(), Stuck> {
    disk.limit(settings.journal_bytes * 5 / 2 + (120 << 10));
    let mut life = start(disk, settings, 1)?;
    life.create(topic(1))?;
    life.create(topic(2))?;
    life.append(topic(2), 9_000)?;
    fill(&mut life)?;
    life.checkpoint()?;
    life.serve(topic(1))?;
    let next_id = kill(life);
    let mut life = start(disk, settings, next_id)?;
    life.serve(topic(1))?;
    fill(&mut life)?;
    life.delete(topic(1))?;
    life.settle()?;
    life.append(topic(2), 9_000)?;
    life.commit()?;
    life.checkpoint()
}

/// Appends until the disk has no more.
fn fill(life: &mut Life) -> Result<(), Stuck> {
    for _ in 0..60 {
        match life.append(topic(1), 9_000) {
            Err(Stuck(why)) if why.contains("no disk space is left") => return life.commit(),
            appended => drop(appended?),
        }
        life.commit()?;
        life.settle()?;
    }
    Err(Stuck("the disk is never full".to_owned()))
}

fn journal_elsewhere(disk: &RecordingDisk, settings: Settings) -> Result<(), Stuck> {
    let mut life = start(disk, settings, 1)?;
    life.create(topic(1))?;
    for _ in 0..3 {
        life.append_sequenced(topic(1), 7, 19_000)?;
        life.commit()?;
        life.checkpoint()?;
    }
    life.append(topic(1), 500)?;
    life.commit()?;
    let next_id = kill(life);
    let mut life = start(disk, settings, next_id)?;
    life.append(topic(1), 500)?;
    life.commit()
}

/// So many segments written by one checkpoint that one sync of the file system takes the place of theirs.
fn many_segments(disk: &RecordingDisk, settings: Settings) -> Result<(), Stuck> {
    let mut life = start(disk, settings, 1)?;
    let count = hotlog::limits::SEGMENT_SYNCS_ONE_BY_ONE as u8 + 2;
    for number in 1..=count {
        life.create(topic(number))?;
    }
    life.checkpoint()?;
    for number in 1..=count {
        life.append(topic(number), 16_600)?;
    }
    life.commit()?;
    disk.note(Note::StoryBegins);
    life.checkpoint()?;
    life.append(topic(1), 500)?;
    life.commit()
}

fn clean_stop(disk: &RecordingDisk, settings: Settings) -> Result<(), Stuck> {
    let mut life = start(disk, settings, 1)?;
    life.create(topic(1))?;
    life.append_sequenced(topic(1), 7, 5_000)?;
    life.commit()?;
    life.close()?;
    let next_id = kill(life);
    let mut life = start(disk, settings, next_id)?;
    life.append(topic(1), 600)?;
    life.commit()?;
    life.close()
}

/// Commits reach the disk, and the process dies before anybody is told.
fn never_acknowledged(disk: &RecordingDisk, settings: Settings) -> Result<(), Stuck> {
    let mut life = start(disk, settings, 1)?;
    life.create(topic(1))?;
    life.append(topic(1), 600)?;
    life.commit()?;
    life.append(topic(1), 5_000)?;
    life.commit_unanswered();
    life.append(topic(1), 700)?;
    let next_id = kill(life);
    let mut life = start(disk, settings, next_id)?;
    life.append(topic(1), 300)?;
    life.commit_unanswered();
    Ok(())
}

fn killed_and_started(disk: &RecordingDisk, settings: Settings) -> Result<(), Stuck> {
    let mut next_id = 1;
    for round in 0..3 {
        let mut life = start(disk, settings, next_id)?;
        if round == 0 {
            life.create(topic(1))?;
        }
        life.append(topic(1), 3_000)?;
        life.append(topic(1), 2_000)?;
        life.commit()?;
        if round == 1 {
            life.checkpoint()?;
        }
        life.append(topic(1), 900)?;
        next_id = kill(life);
    }
    Ok(())
}

fn other_flush_mode(disk: &RecordingDisk, settings: Settings) -> Result<(), Stuck> {
    let other = match settings.flush {
        FlushMode::Ack => FlushMode::Os,
        FlushMode::Os => FlushMode::Ack,
    };
    let mut next_id = 1;
    for flush in [settings.flush, other, settings.flush] {
        let mut life = start(disk, Settings { flush, ..settings }, next_id)?;
        if next_id == 1 {
            life.create(topic(1))?;
        }
        life.append(topic(1), 3_000)?;
        life.commit()?;
        life.append(topic(1), 5_000)?;
        life.commit()?;
        next_id = kill(life);
    }
    Ok(())
}
