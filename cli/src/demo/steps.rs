//! The six steps of the demo, each of which proves what it says.
//!
//! Owns: what is done and what must hold. Does not own: how it is shown (`demo`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use client::producer::{Delivered, Delivery, OutgoingRecord};
use client::{Cluster, Producer, ProducerOptions};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::flights::{self, Flight};
use super::ledger::Ledger;
use super::world::{FLOW, TOPIC, World};
use super::{DemoError, Proved, ledger, reading};
use crate::children::{broker_name, flow_name};
use crate::status::{self, FlowReport, GroupReport, PartitionReport};
use crate::{clock, live, plan};

/// The group that fails over.
const GROUP: &str = "travellers";
/// kill -9 of the broker under load, each with records in flight.
const KILLS: usize = 3;
/// Records written between two of these kills, at least.
const RECORDS_BETWEEN_KILLS: usize = 400;
/// The group that is cut off.
const CUT_GROUP: &str = "commuters";
/// Records that the flow has to copy while that group reads.
const RECORDS_BEFORE_CUT: usize = 2_000;
/// The cut comes within this time.
const LATEST_CUT_MS: u64 = 500;
/// Offsets that are translated one by one.
const TRANSLATED: usize = 3;

/// The story so far.
pub(super) struct Story {
    world: World,
    ledger: Ledger,
}

fn disproved(reason: impl Into<String>) -> DemoError {
    DemoError::Disproved(reason.into())
}

/// A number with its thousands apart.
fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

impl Story {
    pub(super) fn begin(world: World) -> Self {
        Self { world, ledger: Ledger::default() }
    }

    pub(super) fn world_mut(&mut self) -> &mut World {
        &mut self.world
    }

    /// An ordinary producer writes real events into west.
    pub(super) async fn produce(&mut self) -> Result<Proved, DemoError> {
        self.world.start_broker("west").await?;
        self.world.start_broker("east").await?;
        let report = self.world.report().await;
        let world = live::look(self.world.topology(), &report).await;
        for step in plan::decide(self.world.topology(), &world) {
            live::apply(self.world.topology(), &step).await?;
        }
        let started_at = Instant::now();
        let west = live::connect(self.world.topology(), "west").await?;
        let producer = producer(&west).await?;
        let mut deliveries = Vec::new();
        for flight in flights::all(0) {
            deliveries.push((send(&producer, &flight).await?, flight));
        }
        for (delivery, flight) in deliveries {
            note(&mut self.ledger, delivery.delivered().await?, flight)?;
        }
        let size = status::bytes(self.ledger.value_bytes());
        let written = count(self.ledger.len());
        let line =
            format!("{written} flights of January 2013 ({size}) acknowledged by west, each on disk first");
        Ok(Proved::since(started_at, vec![line]))
    }

    /// Segments seal, go compressed to the store, and leave local disk.
    pub(super) async fn tier(&mut self) -> Result<Proved, DemoError> {
        let started_at = Instant::now();
        let west = broker_name("west");
        let world = &self.world;
        let partitions =
            world.wait_for("sealed segments to be in the store and off local disk", &west, async || {
                let report = world.report().await;
                let topic = report.clusters.get("west")?.topics.get(TOPIC)?;
                let gone = |p: &PartitionReport| {
                    p.tiered_end_offset.is_some_and(|end| end > 0 && end == p.local_log_start_offset)
                };
                let all_gone = !topic.partitions.is_empty() && topic.partitions.iter().all(gone);
                all_gone.then(|| topic.partitions.iter().map(sizes).collect::<Vec<_>>())
            });
        let partitions = partitions.await?;
        let local = status::bytes(partitions.iter().map(|sizes| sizes.0).sum());
        let stored = status::bytes(partitions.iter().map(|sizes| sizes.1).sum());
        let tiered = partitions.iter().map(|sizes| sizes.2).sum();
        let line =
            format!("{} of them sealed and stored in {stored}; local disk keeps {local}", count(tiered));
        Ok(Proved::since(started_at, vec![line]))
    }

    /// A consumer reads from the first offset, through the seam between store and disk.
    pub(super) async fn replay(&mut self) -> Result<Proved, DemoError> {
        let started_at = Instant::now();
        let west = live::connect(self.world.topology(), "west").await?;
        let read = reading::all(&west, None).await?;
        self.ledger.is_exactly(&read).map_err(disproved)?;
        let line =
            format!("{} read from the first offset, store then disk, every byte as sent", count(read.len()));
        Ok(Proved::since(started_at, vec![line]))
    }

    /// The flow copies to east, is killed on the way, and translates offsets exactly.
    pub(super) async fn mirror(&mut self) -> Result<Proved, DemoError> {
        let started_at = Instant::now();
        self.world.start_flow()?;
        self.flow_until("the flow to copy", |flow| flow.records_copied > 0).await?;
        self.world.kill(&flow_name(FLOW)).await?;
        self.world.start_flow()?;
        let ends = self.ledger.ends();
        self.flow_until("the flow to catch up", |flow| {
            let copied = |(partition, end): (&i32, &i64)| {
                flow.partitions.iter().any(|p| p.partition == *partition && p.source_position >= *end)
            };
            ends.iter().all(copied)
        })
        .await?;
        let east = live::connect(self.world.topology(), "east").await?;
        let copy = reading::all(&east, None).await?;
        self.ledger.is_all_of(&[&copy]).map_err(disproved)?;
        self.check_translation(&ends, &copy).await?;
        let lines = vec![
            format!(
                "{} in east, once each and in order, though the flow was killed on the way",
                count(copy.len())
            ),
            format!("{TRANSLATED} offsets translated: each names the same record on both sides"),
        ];
        Ok(Proved::since(started_at, lines))
    }

    async fn check_translation(
        &self,
        ends: &BTreeMap<i32, i64>,
        copy: &[client::consumer::ConsumedRecord],
    ) -> Result<(), DemoError> {
        let file = self.world.file().display().to_string();
        for (partition, end) in ends.iter().take(TRANSLATED) {
            let source = end / 2;
            let asked = [&partition.to_string(), &source.to_string()].map(String::clone);
            let answer =
                self.world.verb(&["mirror", "translate", &file, FLOW, TOPIC, &asked[0], &asked[1]]).await?;
            let target = answer.trim().strip_prefix("exact ").and_then(|number| number.parse::<i64>().ok());
            let target = target
                .ok_or_else(|| disproved(format!("offset {source} translates to: {}", answer.trim())))?;
            let sent = self.ledger.at((*partition, source));
            let found = copy.iter().find(|r| r.partition.partition == *partition && r.offset.0 == target);
            if sent.map(|flight| Some(&flight.value)) != found.map(|record| record.value.as_ref()) {
                return Err(disproved(format!(
                    "{TOPIC}/{partition}: {source} in west is not {target} in east"
                )));
            }
        }
        Ok(())
    }

    /// A group stops in west, west dies, and the group goes on in east at the exact next record.
    pub(super) async fn fail_over(&mut self) -> Result<Proved, DemoError> {
        let started_at = Instant::now();
        let total = self.ledger.len();
        let west = live::connect(self.world.topology(), "west").await?;
        let (before, positions) = reading::as_group(&west, GROUP, total / 3).await?;
        self.flow_until("the group's position to be carried over", |flow| {
            let synced = |(partition, offset): (&i32, &i64)| {
                flow.groups.iter().any(|group| {
                    let same = group.group == GROUP && group.partition == *partition;
                    same && group.source_offset == *offset && group.target_offset.is_some()
                })
            };
            // A position of 0 needs no carrying: a group without one begins there.
            positions.iter().filter(|(_, offset)| **offset > 0).all(synced)
        })
        .await?;
        self.world.kill(&broker_name("west")).await?;
        let file = self.world.file().display().to_string();
        self.world.verb(&["mirror", "failover", &file, FLOW]).await?;
        let east = live::connect(self.world.topology(), "east").await?;
        let (after, _) = reading::as_group(&east, GROUP, total - before.len()).await?;
        self.ledger.is_all_of(&[&before, &after]).map_err(disproved)?;
        self.world.start_broker("west").await?;
        self.world.kill(&flow_name(FLOW)).await?;
        self.world.start_flow()?;
        self.flow_until("the promoted flow to stay stopped", |flow| flow.state == "promoted").await?;
        let lines = vec![
            format!("a group read {} in west and left; west was killed; failover; then", count(before.len())),
            format!("it read the other {} in east: none twice, none skipped", count(after.len())),
            "west is back, and the flow stays promoted".to_owned(),
        ];
        Ok(Proved::since(started_at, lines))
    }

    /// West dies while a group reads and the flow copies: nothing is skipped, and what is read again was announced.
    pub(super) async fn cut_off(&mut self) -> Result<Proved, DemoError> {
        let started_at = Instant::now();
        let file = self.world.file().display().to_string();
        self.world.kill(&flow_name(FLOW)).await?;
        self.world.verb(&["mirror", "redeclare", &file, FLOW]).await?;
        let west = live::connect(self.world.topology(), "west").await?;
        let producer = producer(&west).await?;
        let mut deliveries = Vec::new();
        for flight in flights::all(3).into_iter().take(RECORDS_BEFORE_CUT) {
            deliveries.push((send(&producer, &flight).await?, flight));
        }
        for (delivery, flight) in deliveries {
            note(&mut self.ledger, delivery.delivered().await?, flight)?;
        }
        let reader = reading::Endless::start(&west, CUT_GROUP);
        self.world.start_flow()?;
        let partitions = self.ledger.ends().len();
        self.flow_until("the group's position to be carried over", |flow| {
            let synced = |group: &&GroupReport| group.group == CUT_GROUP && group.target_offset.is_some();
            flow.groups.iter().filter(synced).count() == partitions
        })
        .await?;
        let moment = Duration::from_millis(clock::now_ms().unsigned_abs() % LATEST_CUT_MS);
        tokio::time::sleep(moment).await;
        self.world.kill(&broker_name("west")).await?;
        let before = reader.stop();
        let report = self.world.verb(&["mirror", "failover", &file, FLOW, "--json"]).await?;
        let announced = announced(&report)?;
        let east = live::connect(self.world.topology(), "east").await?;
        let after = reading::as_group_to_the_end(&east, CUT_GROUP).await?;
        let copy = reading::all(&east, None).await?;
        let again = ledger::cover(&copy, &before, &after).map_err(disproved)?;
        if again > announced {
            let (again, announced) = (count(again), count(announced));
            return Err(disproved(format!("{again} records were read twice, {announced} were announced")));
        }
        self.world.start_broker("west").await?;
        let lines = vec![
            format!(
                "killed at a random moment, with a group in the middle of its work ({} read):",
                count(before.len())
            ),
            format!(
                "none skipped in east; {} read again, {} announced by the failover",
                count(again),
                count(announced)
            ),
        ];
        Ok(Proved::since(started_at, lines))
    }

    /// kill -9 under load loses nothing, and the store alone brings a lost data folder back.
    pub(super) async fn kill_and_recover(&mut self) -> Result<Proved, DemoError> {
        let started_at = Instant::now();
        let (written, in_flight) = self.kill_east_under_load().await?;
        let mut lines = vec![
            format!(
                "{} more written to east through {KILLS} kill -9, with {} in flight:",
                count(written),
                count(in_flight)
            ),
            "none lost, none doubled".to_owned(),
        ];
        lines.extend(self.lose_west().await?);
        Ok(Proved::since(started_at, lines))
    }

    /// Records written and acknowledged, and the fewest that were in flight at a kill.
    async fn kill_east_under_load(&mut self) -> Result<(usize, usize), DemoError> {
        let east = live::connect(self.world.topology(), "east").await?;
        let bounds = reading::bounds(&east).await?;
        let before = bounds.iter().map(|(partition, (_, end))| (partition.partition, end.0)).collect();
        let producer = producer(&east).await?;
        let mut ledger = Ledger::default();
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let mut fewest = usize::MAX;
        let mut flights = flights::all(1).into_iter();
        for _ in 0..KILLS {
            let mut pending = JoinSet::new();
            let known_before = acknowledged.load(Ordering::Relaxed);
            for flight in flights.by_ref().take(RECORDS_BETWEEN_KILLS) {
                let delivery = send(&producer, &flight).await?;
                let acknowledged = Arc::clone(&acknowledged);
                pending.spawn(async move {
                    let delivered = delivery.delivered().await;
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                    (delivered, flight)
                });
            }
            let known = acknowledged.load(Ordering::Relaxed) - known_before;
            fewest = fewest.min(pending.len() - known);
            self.world.kill(&broker_name("east")).await?;
            self.world.start_broker("east").await?;
            while let Some(joined) = pending.join_next().await {
                let (delivered, flight) = joined.expect("waiting for an acknowledgement does not panic");
                note(&mut ledger, delivered?, flight)?;
            }
        }
        let east = live::connect(self.world.topology(), "east").await?;
        let read = reading::all(&east, Some(&before)).await?;
        ledger.is_exactly(&read).map_err(disproved)?;
        Ok((ledger.len(), fewest))
    }

    /// West's data folder is deleted; the store gives back all that it has, and no offset is used twice.
    async fn lose_west(&mut self) -> Result<Vec<String>, DemoError> {
        self.world.kill(&broker_name("west")).await?;
        let data = self.world.data("west");
        let unusable = |source| DemoError::Folder { path: data.clone(), source };
        std::fs::remove_dir_all(&data).map_err(unusable)?;
        let said = self.world.start_refused("west").await?;
        if !said.contains("tier recover") {
            return Err(disproved(format!("the refusal does not name `longhaul tier recover`: {said}")));
        }
        // The refused start may have left the folder, which has to be empty.
        if data.exists() {
            std::fs::remove_dir_all(&data).map_err(unusable)?;
        }
        let url = self.world.store_url("west");
        self.world.verb(&["tier", "recover", "--data", &data.display().to_string(), "--store", &url]).await?;
        self.world.start_broker("west").await?;
        let west = live::connect(self.world.topology(), "west").await?;
        // A new record in each partition: past the hole that recovery leaves, and the end of what is read.
        let producer = producer(&west).await?;
        let flight = flights::all(2).swap_remove(0);
        for (partition, end) in self.ledger.ends() {
            let record = OutgoingRecord { partition: Some(partition), ..record_of(&flight) };
            let new = producer.send_now(&Arc::from(TOPIC), record).await?;
            let offset = new.offset.map_or(0, |offset| offset.0);
            if offset < end {
                return Err(disproved(format!("a new record got offset {offset}, which another had before")));
            }
        }
        let ends = self.ledger.ends();
        let mut read = reading::all(&west, None).await?;
        read.retain(|record| record.offset.0 < ends[&record.partition.partition]);
        self.ledger.holds(&read).map_err(disproved)?;
        Ok(vec![
            "west's data folder deleted: its broker refused the store in use and named the fix".to_owned(),
            format!("{} of {} rebuilt from the store alone;", count(read.len()), count(self.ledger.len())),
            "no offset was given to another record".to_owned(),
        ])
    }

    async fn flow_until(&self, what: &str, holds: impl Fn(&FlowReport) -> bool) -> Result<(), DemoError> {
        let world = &self.world;
        world
            .wait_for(what, &flow_name(FLOW), async || {
                let report = world.report().await;
                report.flows.get(FLOW).is_some_and(|flow| flow.failure.is_none() && holds(flow)).then_some(())
            })
            .await
    }
}

/// How many records the group that was cut off may read again, as the failover says.
fn announced(report: &str) -> Result<usize, DemoError> {
    let unreadable = || disproved(format!("the failover's report cannot be read: {report}"));
    let report: serde_json::Value = serde_json::from_str(report).map_err(|_| unreadable())?;
    let groups = report["groups"].as_array().ok_or_else(unreadable)?;
    let offsets = groups.iter().filter(|group| group["group"] == CUT_GROUP).map(|group| {
        // Without a position the group begins anew.
        Some(group["to"].as_i64()? - group["from"].as_i64().unwrap_or(0))
    });
    let sum = offsets.sum::<Option<i64>>().ok_or_else(unreadable)?;
    usize::try_from(sum).map_err(|_| unreadable())
}

/// Local bytes, stored bytes, tiered records.
fn sizes(partition: &PartitionReport) -> (u64, u64, usize) {
    let tiered = partition.tiered_end_offset.unwrap_or(0) - partition.log_start_offset;
    (partition.local_bytes, partition.tiered_stored_bytes.unwrap_or(0), usize::try_from(tiered).unwrap_or(0))
}

async fn producer(cluster: &Cluster) -> Result<Producer, DemoError> {
    let options = ProducerOptions::default();
    Ok(Producer::new(cluster, options).await?)
}

fn record_of(flight: &Flight) -> OutgoingRecord {
    OutgoingRecord {
        partition: None,
        timestamp_ms: flight.timestamp_ms,
        key: Some(flight.key.clone()),
        value: Some(flight.value.clone()),
        headers: Vec::new(),
    }
}

async fn send(producer: &Producer, flight: &Flight) -> Result<Delivery, DemoError> {
    Ok(producer.send(&Arc::from(TOPIC), record_of(flight)).await?)
}

fn note(ledger: &mut Ledger, delivered: Delivered, flight: Flight) -> Result<(), DemoError> {
    let offset = delivered.offset.ok_or_else(|| disproved("a record was acknowledged without its offset"))?;
    ledger.note((delivered.partition.partition, offset.0), flight).map_err(disproved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failover_announces_is_added_up_over_the_partitions_of_the_group() {
        let report = r#"{"groups": [
            {"group": "commuters", "from": 10, "to": 15}, {"group": "commuters", "from": null, "to": 7},
            {"group": "others", "from": 0, "to": 100}]}"#;
        assert_eq!(announced(report).unwrap(), 12);
        assert!(announced("{}").is_err());
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!(
            [0, 999, 1_000, 27_004, 1_234_567].map(count),
            ["0", "999", "1,000", "27,004", "1,234,567"]
        );
    }
}
