//! `demo`: the whole story on a bare machine in half a minute, with nothing but this binary.
//!
//! Owns: the order of the steps and what people read. Does not own: the steps (`demo/steps`), the processes
//! (`demo/world`), the data (`demo/flights`).
//!
//! Every broker and flow is a child process that is reached by socket; every kill is kill -9; and each step checks
//! what it claims against a ledger of what was acknowledged.

mod flights;
mod ledger;
mod reading;
mod steps;
mod world;

use std::path::PathBuf;

use client::RequestError;
use client::consumer::ConsumerError;
use client::producer::ProducerError;
use tokio::time::Instant;

use self::steps::Story;
use self::world::{TOPIC, World};
use crate::live::LiveError;
use crate::supervisor::SpawnError;

/// Why the demo did not reach its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    #[error("cannot use {}: {source}", path.display())]
    Folder { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    #[error(transparent)]
    Live(#[from] LiveError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Consumer(#[from] ConsumerError),
    #[error(transparent)]
    Producer(#[from] ProducerError),
    #[error("waited {seconds} s in vain for {what}; the last word of its log: {said}")]
    InVain { what: String, seconds: u64, said: String },
    #[error("{0}")]
    Disproved(String),
    #[error("interrupted")]
    Interrupted,
}

/// Tells the story; leaves its processes at work with `keep`.
pub(crate) async fn demo(keep: bool) -> Result<(), DemoError> {
    let started_at = Instant::now();
    println!("Longhaul in half a minute: two datacenters on this machine, real flights, real kills.\n");
    let mut story = Story::begin(World::new()?);
    let told = tokio::select! {
        told = tell(&mut story) => told,
        _ = tokio::signal::ctrl_c() => Err(DemoError::Interrupted),
    };
    if let Err(error) = told {
        let world = story.world_mut();
        world.keep_logs();
        println!("\nNOT as it should be. Logs and data are left in {}.", world.folder().display());
        return Err(error);
    }
    println!("\nAll six steps held, in {:.1} s.", started_at.elapsed().as_secs_f64());
    if keep {
        print_addresses(&mut story);
    }
    println!(
        "\nNext: write a topology file (see README.md), `longhaul plan FILE`, `longhaul up FILE`, `longhaul status FILE`."
    );
    Ok(())
}

async fn tell(story: &mut Story) -> Result<(), DemoError> {
    step("1 produce", story.produce().await?);
    step("2 tier", story.tier().await?);
    step("3 replay", story.replay().await?);
    step("4 mirror", story.mirror().await?);
    step("5 fail over", story.fail_over().await?);
    step("  at a bad moment", story.cut_off().await?);
    step("6 kill and recover", story.kill_and_recover().await?);
    Ok(())
}

/// What a step proved, and how long it took.
pub(super) struct Proved {
    lines: Vec<String>,
    seconds: f64,
}

impl Proved {
    fn since(started_at: Instant, lines: Vec<String>) -> Self {
        Self { lines, seconds: started_at.elapsed().as_secs_f64() }
    }
}

fn step(name: &str, proved: Proved) {
    let mut name = name;
    for (index, line) in proved.lines.iter().enumerate() {
        let last = index + 1 == proved.lines.len();
        let took = if last { format!("{:>6.1} s", proved.seconds) } else { String::new() };
        println!("{name:<20}{line:<92}{took}");
        name = "";
    }
}

fn print_addresses(story: &mut Story) {
    let world = story.world_mut();
    world.keep();
    println!("\nEverything is left running in {}:", world.folder().display());
    for (name, cluster) in &world.topology().clusters {
        println!(
            "  kcat -b {} -C -t {TOPIC} -o beginning -c 5     # cluster {name}",
            cluster.bootstrap().join(",")
        );
    }
    println!("  longhaul status {}", world.file().display());
    println!("  longhaul down {}", world.file().display());
}
