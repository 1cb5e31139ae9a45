//! Where a partition goes on: from what the map topic and the target's tail say, or from the flow's start.
//!
//! Owns: the checks that both logs still are what was copied. Does not own: the loop that follows (`partition`).

use client::Isolation;
use client::offsets::Place;
use tokio::time::sleep;
use wire::LeaderEpoch;

use super::{PartitionTask, RETRY_WAIT};
use crate::copier::plan::Planner;
use crate::copier::{Copier, Producer, Resume};
use crate::events::{EventKind, Side};
use crate::flow::log_ends;
use crate::flow::tail::TailError;
use crate::map_topic::PartitionLedger;
use crate::offset_map::{OffsetMap, Position, Provenance as MadeBy, SourceOffset, TargetOffset};
use crate::recovery::{Expected, Left};

impl PartitionTask {
    /// Finds where to go on: from the ledger and the target's tail, or from the start.
    pub(super) async fn recover(&self, ledger: &PartitionLedger) -> Result<(Copier, Planner), EventKind> {
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

    async fn try_recover(&self, ledger: &PartitionLedger) -> Result<(Copier, Planner), TailError> {
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
        self.check_source(&left.map, left.source_epoch).await?;
        let Left { map, producer, intents, source_epoch } = left;
        let planner = Planner::new(map.position().source, source_epoch, intents.clone(), self.plan.clone());
        let superseded = ledger.superseded(&self.key, &map);
        let resume = Resume {
            key: self.key.clone(),
            map,
            provenance: made_by,
            replay_as: producer,
            replay: intents,
            then_as,
            source_epoch,
            superseded,
        };
        Ok((Copier::new(resume), planner))
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

    /// The source must still have what was copied from it.
    pub(super) async fn check_source(&self, map: &OffsetMap, source_epoch: i32) -> Result<(), TailError> {
        let position = map.position().source.0;
        let (log_start, end) =
            log_ends(&self.source, &self.source_partition, Isolation::ReadUncommitted).await?;
        let (log_start, end) = (log_start.0, end.0);
        if log_start > position {
            return Err(TailError::Event(EventKind::SourceTruncated { from: position, to: log_start }));
        }
        if end < position {
            return Err(TailError::Event(EventKind::LogShrank { side: Side::Source, position, end }));
        }
        let copied_to = map.open_block().map_or(0, |block| block.end().source.0);
        if source_epoch >= 0 {
            let epoch = LeaderEpoch(source_epoch);
            let end = self.source.offset_for_leader_epoch(&self.source_partition, epoch).await?.end_offset.0;
            if (0..copied_to).contains(&end) {
                return Err(TailError::Event(EventKind::EpochRollback {
                    side: Side::Source,
                    leader_epoch: source_epoch,
                    position: copied_to,
                    common: end,
                }));
            }
        }
        Ok(())
    }
}
