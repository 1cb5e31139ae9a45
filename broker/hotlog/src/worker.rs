//! The background work as explicit objects, so that threads run it in production and a test step by step.
//!
//! Owns: the worker's contract and the seam that starts one. Does not own: what the workers do.

use std::fmt;
use std::io;

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Something; there may be more.
    Worked,
    /// There was nothing to do.
    Idle,
    /// The log is closed or poisoned; no later step does anything.
    Done,
}

/// One kind of background work of a log directory.
pub trait Worker: fmt::Debug + Send {
    /// What it does, for thread names and logs.
    fn name(&self) -> &'static str;
    /// Does what is there to be done now, without waiting for more.
    fn step(&mut self) -> Step;
    /// Blocks until there may be something to do.
    fn wait(&self);
    /// Works until [`Step::Done`].
    fn run(&mut self) {
        loop {
            match self.step() {
                Step::Worked => {}
                Step::Idle => self.wait(),
                Step::Done => return,
            }
        }
    }
}

/// Where workers run.
pub trait Spawner: fmt::Debug + Send + Sync {
    /// Takes a worker over: runs it on a thread of its own, or keeps it and steps it.
    fn start(&self, worker: Box<dyn Worker>) -> io::Result<()>;
}

/// One operating-system thread per worker.
#[derive(Debug, Clone, Copy, Default)]
pub struct Threads;

impl Spawner for Threads {
    fn start(&self, mut worker: Box<dyn Worker>) -> io::Result<()> {
        let name = worker.name().to_owned();
        std::thread::Builder::new().name(name).spawn(move || worker.run()).map(drop)
    }
}
