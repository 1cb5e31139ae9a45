//! One read from the store for a fetch, and the alarm when the store leaves it without an answer.
//!
//! Owns: when a store counts as silent. Does not own: how long the fetch waits (`fetch`), the task that the read runs in
//! (`cold_reads`), whether the store fails by its own account (`tiering`).

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use hotlog::{Isolation, ReadLimits};
use tokio::time::Instant;
use wire::ids::Offset;

use crate::broker::Broker;
use crate::cold_reads::{Outcome, SILENT_STORE};
use crate::limits::{STORE_ANSWERED_WITHIN, STORE_SILENT_AFTER};
use crate::partition::Partition;

/// What is read.
pub(super) struct StoredRead {
    pub(super) broker: Arc<Broker>,
    pub(super) partition: Arc<Partition>,
    pub(super) from: Offset,
    pub(super) limits: ReadLimits,
    pub(super) isolation: Isolation,
}

impl StoredRead {
    /// The read, to be run by whoever keeps it.
    pub(super) fn begin(self) -> BoxFuture<'static, Outcome> {
        Box::pin(self.run())
    }

    /// Reads for as long as the store's own tries last.
    async fn run(self) -> Outcome {
        let begun = Instant::now();
        let mut unanswered = None;
        let mut read = pin!(self.partition.read(self.from, self.limits, self.isolation));
        loop {
            tokio::select! {
                biased;
                outcome = &mut read => {
                    drop(unanswered);
                    let reads = &self.broker.cold_reads;
                    // One that failed says so to its reader, and the alarm goes when the store answers again.
                    if outcome.is_ok() {
                        reads.note_answered();
                        if !reads.has_unanswered() {
                            self.broker.clear_alarm(SILENT_STORE);
                        }
                    }
                    return outcome;
                }
                () = tokio::time::sleep(STORE_SILENT_AFTER) => {
                    // A link over which every read takes long is no silent store, as long as any of them comes to its end.
                    let reads = &self.broker.cold_reads;
                    if !reads.is_silent_for(STORE_ANSWERED_WITHIN) {
                        drop(unanswered.take());
                        if !reads.has_unanswered() {
                            self.broker.clear_alarm(SILENT_STORE);
                        }
                        continue;
                    }
                    if unanswered.is_none() {
                        unanswered = Some(reads.count_unanswered());
                    }
                    self.broker.raise_alarm(SILENT_STORE, self.complaint(begun.elapsed()));
                }
            }
        }
    }

    fn complaint(&self, waited: Duration) -> String {
        let id = self.partition.id();
        let name = match self.broker.topics().with_id(id.topic_id) {
            Some(topic) => format!("{}-{}", topic.name, id.partition),
            None => id.to_string(),
        };
        format!(
            "the store has not answered a read of {name} from offset {} for {} s: who reads what only the store has gets \
             nothing until it does, all else is served; see that the store runs and can be reached",
            self.from,
            waited.as_secs(),
        )
    }
}
