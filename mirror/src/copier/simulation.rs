//! Whole lives of a partition's copy against a simulated source, target and map topic, crashes included.
//!
//! Each seed makes one story: what the source holds, where the process dies, which answers are lost, which requests
//! arrive late, when the target forgets its producers, what it deletes, how large a map may become. In the end each
//! committed record at or above the start is in the target once, in order, and every offset translates as the plain
//! list of pairs says, but for what the map had to forget. After every single commit, whatever dies next, the map topic
//! gives exactly the map that the copier had; and there are no more commits than `gathering` says.

mod dice;
mod process;
mod source_log;
mod target_log;
mod world;

use process::Process;
use world::World;

use super::Input;
use crate::offset_map::MAX_MAP_BYTES;

/// What a story held: crashes, and maps that forgot because the target deleted, or because they grew too large.
#[derive(Default)]
struct Told {
    crashes: u32,
    trimmed: u32,
    shed: u32,
}

fn live(seed: u64) -> Told {
    let mut world = World::new(seed);
    let crashes = world.dice.below(6);
    for _ in 0..crashes {
        let mut process = world.start();
        for _ in 0..world.dice.below(120) {
            world.happen(&mut process);
        }
        if world.dice.one_in(4) {
            stop(&mut world, &mut process);
        }
        world.crash(process);
    }
    let mut process = world.start();
    for _ in 0..20_000 {
        world.happen(&mut process);
        if process.copier.map().position().source.0 == world.source.end && process.copier.is_settled() {
            break;
        }
    }
    stop(&mut world, &mut process);
    world.check(process.copier.map());
    let kept = world.ledger.partition(&World::key()).unwrap().offset_map().unwrap();
    world.check(&kept);
    let forgot = u32::from(world.has_forgotten(&kept));
    match world.map_bytes {
        MAX_MAP_BYTES => Told { crashes: world.crashes, trimmed: forgot, shed: 0 },
        _ => Told { crashes: world.crashes, trimmed: 0, shed: forgot },
    }
}

fn stop(world: &mut World, process: &mut Process) {
    process.pace.check();
    let actions = process.copier.step(Input::Stop, 0);
    world.handle(process, actions);
    for _ in 0..2_000 {
        if process.stopped {
            return;
        }
        world.happen(process);
    }
    panic!("the copier does not stop");
}

#[test]
fn every_committed_record_arrives_once_whatever_dies() {
    let stories = std::env::var("LONGHAUL_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let seeds = stories.map_or(1..=1_000, |seed| seed..=seed);
    let told = seeds.clone().count() as u32;
    let mut all = Told::default();
    for seed in seeds {
        let story = std::panic::catch_unwind(|| live(seed));
        let story = story.unwrap_or_else(|_| panic!("the story of LONGHAUL_SEED={seed} ends badly"));
        all.crashes += story.crashes;
        all.trimmed += story.trimmed;
        all.shed += story.shed;
    }
    assert!(told == 1 || all.crashes > 1_000, "the stories must hold crashes: {}", all.crashes);
    assert!(told == 1 || all.trimmed > 50, "maps must forget what the target deletes: {}", all.trimmed);
    assert!(told == 1 || all.shed > 50, "maps must grow too large: {}", all.shed);
}
