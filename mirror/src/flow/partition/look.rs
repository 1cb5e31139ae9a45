//! Looks at the target's log beside the loop: what became of batches in doubt, what lies between two batches, where it
//! begins.
//!
//! Owns: asking, and asking again until there is an answer where one is needed.
//! Does not own: the judgement (`recovery`), what follows from it (`copier`).

use std::ops::Range;
use std::sync::Arc;

use tokio::time::sleep;

use super::refusal::{missing_topic, topic_event};
use super::{Happened, RETRY_WAIT, Running};
use crate::copier::{Input, Producer};
use crate::events::Side;
use crate::flow::tail::TailError;
use crate::map_topic::BatchIntent;
use crate::offset_map::{Position, SourceOffset, TargetOffset};
use crate::recovery::Expected;

impl Running<'_> {
    /// Asks where the target's log begins. At a rare interval rather than by the answers to Produce, which name it too,
    /// so that a partition to which nothing is written forgets as well. Without an answer the next time will do.
    pub(super) fn ask_log_start(&mut self) {
        if std::mem::replace(&mut self.asking_log_start, true) {
            return;
        }
        let (target, answers) = (self.task.target.clone(), self.answers.clone());
        tokio::spawn(async move {
            let found = target.log_start().await.inspect_err(|error| {
                tracing::debug!(partition = %target.partition, %error, "not known where the target's log begins");
            });
            let _ = answers.send(Happened::LogStart(found.ok())).await;
        });
    }

    /// Hands it to the copier.
    pub(super) async fn take_log_start(&mut self, found: Option<TargetOffset>) {
        self.asking_log_start = false;
        if let Some(log_start) = found {
            self.step(Input::TargetLogStart(log_start)).await;
        }
    }

    /// Whether all between two batches is somebody else's. The next look starts where this one ends, so it is asked
    /// until it is answered, or the partition's loop is gone.
    pub(super) fn look_between(&self, producer_id: i64, source: SourceOffset, between: Range<TargetOffset>) {
        let (target, answers) = (self.task.target.clone(), self.answers.clone());
        let (board, flow) = (self.task.board.clone(), Arc::clone(&self.task.flow));
        // Without a permit it is looked at all the same: only fetching waits for them.
        let permit = Arc::clone(&self.looks).try_acquire_owned().ok();
        tokio::spawn(async move {
            let _held = permit;
            loop {
                match target.expect_foreign(producer_id, source, between.clone()).await {
                    Ok(()) => return,
                    Err(TailError::Event(event)) => {
                        let _ = answers.send(Happened::Event(event)).await;
                        return;
                    }
                    Err(TailError::Request(error)) => {
                        tracing::debug!(%error, "looking again at what others wrote to the target");
                        board.change(&flow, |figures| figures.last_error = Some(error.to_string()));
                    }
                }
                tokio::select! {
                    () = sleep(RETRY_WAIT) => {}
                    () = answers.closed() => return,
                }
            }
        });
    }

    /// Which of the batches in doubt arrived.
    pub(super) fn read_back(&self, position: Position, producer: Producer, intents: Vec<BatchIntent>) {
        let (target, answers) = (self.task.target.clone(), self.answers.clone());
        let stop = self.task.stop.clone();
        self.task.figures(|figures| figures.recoveries += 1);
        let (board, flow) = (self.task.board.clone(), Arc::clone(&self.task.flow));
        let target_epoch = self.with_copier(|copier| {
            copier.map().open_block().map_or(-1, |block| block.provenance().target_leader_epoch)
        });
        tokio::spawn(async move {
            loop {
                let expected = Expected { position, producer, intents: &intents };
                let happened = match target.settle(expected, target_epoch).await {
                    Ok(arrived) => Happened::ReadBack(arrived),
                    Err(TailError::Event(event)) => Happened::Event(event),
                    Err(TailError::Request(error)) => {
                        if stop.is_cancelled() {
                            return;
                        }
                        board.change(&flow, |figures| figures.last_error = Some(error.to_string()));
                        if missing_topic(&target.cluster, &target.partition, target.topic_id).await {
                            Happened::Event(topic_event(
                                &target.cluster,
                                &target.partition,
                                target.topic_id,
                                Side::Target,
                            ))
                        } else {
                            sleep(RETRY_WAIT).await;
                            continue;
                        }
                    }
                };
                let _ = answers.send(happened).await;
                return;
            }
        });
    }
}
