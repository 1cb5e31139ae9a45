//! Crash-point tests: the shipped log over a disk that knows what a power loss would keep.
//!
//! Each story is told once and recorded. At every point of the recording, each legal state of the disk (all of them
//! where they are few, a seeded sample where not) is handed to a new life, which must open, hold what was promised,
//! answer retries, and go on; some of these lives are crashed again. Then every sync is taken away, and every two of
//! which one follows the other are exchanged, and the same checks must notice, save for the pairs that `mutations` lists
//! as harmless with the reason.
//!
//! `LONGHAUL_CRASH_STATES=20` tries twenty times as many states; `LONGHAUL_CRASH_SEED` repeats a run.

#![allow(clippy::unwrap_used, reason = "a test that meets the impossible stops")]
#![allow(unreachable_pub, reason = "a test program has no public face")]

mod check;
mod explore;
mod faults;
mod filesystem;
mod flips;
mod life;
mod model;
mod mutations;
mod panics;
mod random;
mod recording;
mod replay;
mod scenarios;
mod threads;

use std::io::Write;

use explore::{Effort, Explorer, Recording, Tally, Violation};
use hotlog::options::FlushMode;
use replay::Mutation;

fn multiplier() -> usize {
    std::env::var("LONGHAUL_CRASH_STATES").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

fn seed() -> u64 {
    std::env::var("LONGHAUL_CRASH_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_130_101)
}

/// Past the test harness's capture: how much was tried is part of the answer.
fn say(text: &str) {
    writeln!(std::io::stderr(), "{text}").expect("standard error takes text");
}

fn run(recording: &Recording, mutation: Mutation, effort: Effort) -> Result<Tally, Violation> {
    // Not the same choices for all stories, which begin alike.
    let seed = seed() ^ u64::from(crc32c::crc32c(recording.name.as_bytes()));
    let mut explorer = Explorer::new(mutation, effort, seed);
    explorer.explore(recording)?;
    Ok(explorer.tally)
}

fn every_story(flush: FlushMode) {
    let effort = Effort {
        states_per_point: 6 * multiplier(),
        deepen_one_in: 8,
        depth: 3,
        later_states: 250 * multiplier() as u64,
    };
    let mut failures = Vec::new();
    for (name, story) in scenarios::STORIES {
        let told = check::quietly(|| {
            Ok(scenarios::record(name, *story, scenarios::settings_of(name, flush, seed())))
        });
        let recording = match told {
            Ok(recording) => recording,
            Err(complaint) => {
                say(&format!("crash {flush:?} {name}: WRONG without a crash: {complaint}"));
                failures.push(*name);
                continue;
            }
        };
        match run(&recording, Mutation::None, effort) {
            Ok(tally) => say(&format!(
                "crash {flush:?} {name}: {} points, {} states, {} after a second crash, {} after a third, seed {}",
                tally.points,
                tally.states[1],
                tally.states[2],
                tally.states[3],
                seed()
            )),
            Err(violation) => {
                say(&format!("crash {flush:?} {name}: WRONG: {violation}"));
                failures.push(*name);
            }
        }
    }
    assert!(failures.is_empty(), "{flush:?}: {failures:?}");
}

#[test]
fn in_flush_mode_ack_nothing_acknowledged_or_served_is_ever_lost() {
    every_story(FlushMode::Ack);
}

#[test]
fn in_flush_mode_os_death_loses_nothing_and_power_loss_is_reported() {
    every_story(FlushMode::Os);
}
