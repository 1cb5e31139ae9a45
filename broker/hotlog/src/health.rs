//! Whether a log directory still works, and the bell that wakes its workers.
//!
//! Owns: the poison that the first failed write or sync leaves behind, the closed flag. Does not own: recovery from either.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::error::{CommitError, Poisoned};

/// A directory's fitness; once lost it does not come back.
#[derive(Debug, Default)]
pub(crate) struct Health {
    poison: OnceLock<Poisoned>,
    closed: AtomicBool,
}

impl Health {
    /// Takes the directory out of service. The first reason stays.
    pub(crate) fn poison(&self, operation: &str, error: &io::Error) -> Poisoned {
        self.poison.get_or_init(|| Poisoned { operation: operation.into(), kind: error.kind() }).clone()
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Whether writes may still be tried.
    pub(crate) fn check_writable(&self) -> Result<(), Poisoned> {
        self.poison.get().cloned().map_or(Ok(()), Err)
    }

    pub(crate) fn check(&self) -> Result<(), CommitError> {
        self.check_writable()?;
        if self.is_closed() { Err(CommitError::Closed) } else { Ok(()) }
    }
}

/// Takes a lock whose data stays sound when a holder panics: every critical section of this crate either asserts before it
/// changes anything, or poisons the directory.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A bell: rung by many, heard by one worker. A ring while nobody waits is kept.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    state: Mutex<BellState>,
    rung: Condvar,
}

#[derive(Debug, Default)]
struct BellState {
    rung: bool,
    waiting: bool,
}

impl Bell {
    pub(crate) fn ring(&self) {
        let mut state = lock(&self.state);
        state.rung = true;
        if state.waiting {
            self.rung.notify_one();
        }
    }

    /// Waits for a ring, `at_most` so long.
    pub(crate) fn wait(&self, at_most: Duration) {
        let mut state = lock(&self.state);
        if !state.rung {
            state.waiting = true;
            let (back, _timed_out) =
                self.rung.wait_timeout(state, at_most).unwrap_or_else(PoisonError::into_inner);
            state = back;
            state.waiting = false;
        }
        state.rung = false;
    }
}
