//! Where a partition goes on: from what the map topic and the target's tail say, or from the flow's start.
//!
//! Owns: the checks that both logs still are what was copied. Does not own: the loop that follows (`partition`).

use client::Isolation;
use client::offsets::Place;
use tokio::time::sleep;
use wire::LeaderEpoch;

use super::source::Source;
use super::{PartitionTask, RETRY_WAIT};
use crate::copier::plan::{Planner, ReadTo};
use crate::copier::{Copier, Producer, Resume};
use crate::events::{EventKind, Side};
use crate::flow::tail::TailError;
use crate::map_topic::PartitionLedger;
use crate::offset_map::{OffsetMap, Position, Provenance as MadeBy, SourceOffset, TargetOffset};
use crate::recovery::{Expected, Left};

/// Where a partition goes on.
pub(super) struct Recovered {
    pub(super) copier: Copier,
    pub(super) planner: Planner,
    /// Leader epoch of the source under which all that was copied was found in its log.
    pub(super) vouched: LeaderEpoch,
}

impl PartitionTask {
    /// Finds where to go on: from the ledger and the target's tail, or from the start.
    pub(super) async fn recover(&self, ledger: &PartitionLedger) -> Result<Recovered, EventKind> {
        loop {
            match self.try_recover(ledger).await {
                Ok(recovered) => return Ok(recovered),
                Err(TailError::Event(event)) => return Err(event),
                Err(TailError::Request(error)) => {
                    tracing::warn!(partition = %self.source_partition, %error, "recovering again");
                    self.board.change(&self.flow, |flow| flow.last_error = Some(error.to_string()));
                    sleep(RETRY_WAIT).await;
                }
            }
        }
    }

    async fn try_recover(&self, ledger: &PartitionLedger) -> Result<Recovered, TailError> {
        let made_by = MadeBy {
            source_leader_epoch: -1,
            target_leader_epoch: ledger.progress().map_or(-1, |(_, progress)| progress.target_epoch),
            generation: self.generation,
        };
        let (left, then_as) = match (ledger.progress(), ledger.offset_map()) {
            (Some((_, progress)), Some(map)) => {
                let producer = Producer {
                    id: progress.producer_id,
                    epoch: progress.producer_epoch,
                    sequence: progress.sequence,
                };
                let source_epoch = progress.source_epoch;
                let left = Left { map, producer, intents: progress.intents.clone(), source_epoch };
                let expected = Expected { position: left.map.position(), producer, intents: &left.intents };
                let arrived = self.target.settle(expected, made_by.target_leader_epoch).await?;
                let left = left.take_arrived(&arrived, made_by).map_err(|error| {
                    TailError::Event(EventKind::LogShrank {
                        side: Side::Target,
                        position: error.position.target.0,
                        end: error.run.target.0,
                    })
                })?;
                (left, self.producer_after(producer))
            }
            _ => (self.fresh(made_by).await?, self.first_producer()),
        };
        let Left { map, producer, intents, source_epoch } = left;
        let (next, read) = (map.position().source, ReadTo::copied(&map, source_epoch));
        let vouched = Source::of(self).check(next, read).await?;
        let planner = Planner::new(next, read, intents.clone(), self.plan.clone());
        let superseded = ledger.superseded(&self.key, &map);
        let resume = Resume {
            key: self.key.clone(),
            map,
            provenance: made_by,
            replay_as: producer,
            replay: intents,
            then_as,
            source_epoch,
            left_out: ledger.progress().is_some_and(|(_, progress)| progress.left_out),
            superseded,
        };
        Ok(Recovered { copier: Copier::new(resume), planner, vouched })
    }

    fn first_producer(&self) -> Producer {
        Producer { id: self.producer_id, epoch: 0, sequence: 0 }
    }

    /// A takeover raises the epoch, so that the target itself refuses an owner who was not dead.
    fn producer_after(&self, old: Producer) -> Producer {
        match old.epoch.checked_add(1) {
            Some(epoch) => Producer { id: old.id, epoch, sequence: 0 },
            None => self.first_producer(),
        }
    }

    async fn fresh(&self, made_by: MadeBy) -> Result<Left, TailError> {
        let place = match self.start {
            topology::Start::Earliest => Place::Earliest,
            topology::Start::Latest => Place::Latest,
        };
        let asked = [(self.source_partition.clone(), place)];
        let found = self.source.list_offsets(&asked, Isolation::ReadCommitted).await?;
        let (_, target_end) = self.target.ends().await?;
        let start = Position {
            source: SourceOffset(found[0].offset.map_or(0, |offset| offset.0)),
            target: TargetOffset(target_end.0),
        };
        let map = OffsetMap::new(start, made_by);
        Ok(Left { map, producer: self.first_producer(), intents: Vec::new(), source_epoch: -1 })
    }
}
