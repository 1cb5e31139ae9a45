//! The timers of all groups: one task sleeps until the earliest deadline of any.

use std::sync::{Arc, PoisonError};

use super::{Cell, Coordinator};

impl Coordinator {
    pub(super) fn arm(&self, locked: &mut Cell) {
        let next = locked.group.next_deadline_ms();
        if next == locked.armed_for_ms {
            return;
        }
        let mut timers = self.timers.lock().unwrap_or_else(PoisonError::into_inner);
        let id = locked.group.id().to_owned();
        if let Some(earlier) = locked.armed_for_ms.take() {
            timers.remove(&(earlier, id.clone()));
        }
        if let Some(next) = next {
            timers.insert((next, id), ());
            locked.armed_for_ms = Some(next);
        }
        drop(timers);
        self.timers_changed.notify_one();
    }

    /// Runs the groups' timers for ever.
    pub(crate) async fn run_timers(self: Arc<Self>) {
        loop {
            let now_ms = self.now_ms();
            let (due, next_ms) = self.due(now_ms);
            for id in due {
                if let Some(cell) = self.find(&id) {
                    {
                        let mut locked = cell.lock();
                        locked.armed_for_ms = None;
                        let actions = locked.group.tick(now_ms);
                        self.perform(&cell, &mut locked, actions);
                    }
                    // Ids that were given and never came back may have been all that a group was.
                    self.forget_unformed(&id, &cell);
                }
            }
            let wait_ms =
                next_ms.map_or(i64::from(u16::MAX), |next| next - now_ms).clamp(1, i64::from(u16::MAX));
            let wait = std::time::Duration::from_millis(wait_ms.unsigned_abs());
            let _ = tokio::time::timeout(wait, self.timers_changed.notified()).await;
        }
    }

    fn due(&self, now_ms: i64) -> (Vec<String>, Option<i64>) {
        let mut timers = self.timers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut due = Vec::new();
        while let Some(entry) = timers.first_entry().filter(|entry| entry.key().0 <= now_ms) {
            due.push(entry.remove_entry().0.1);
        }
        (due, timers.first_key_value().map(|(key, ())| key.0))
    }
}
