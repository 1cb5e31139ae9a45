//! What the broker says of itself on the admin address.
//!
//! Owns: the figures in the control API's words, and which troubles of the store are alarms.
//! Does not own: the figures (`hotlog`, `tiering`, `metrics`), the broker's alarms (`broker`), the listener
//! (`control`).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use control::v1::{BrokerStatus, PartitionStatus, StatusReply, StoreStatus, TopicStatus};
use control::{Kind, Metric, Sample, Subject};

use tiering::store::{Right, StoreFailure};
use tiering::{Tier, TierMetrics, TierState, TierStatus};
use wire::ids::Offset;

use crate::broker::Broker;
use crate::options::BrokerOptions;
use crate::partition::Partition;

/// A broker behind an admin address.
#[derive(Debug)]
pub(crate) struct AdminSubject {
    broker: Arc<Broker>,
    started_at_ms: i64,
    listen: String,
    flush: String,
}

impl AdminSubject {
    /// Tells of `broker`.
    pub(crate) fn new(broker: Arc<Broker>, options: &BrokerOptions) -> Self {
        Self {
            started_at_ms: broker.clock.wall_ms(),
            listen: format!("{}:{}", broker.advertised.host, broker.port()),
            flush: options.flush.to_string(),
            broker,
        }
    }
}

fn partition_status(partition: &Partition, tiered: Option<&tiering::PartitionStatus>) -> PartitionStatus {
    let hot = partition.hot();
    PartitionStatus {
        partition: partition.id().partition,
        leader_epoch: hot.leader_epoch().0,
        log_start_offset: hot.log_start().0,
        local_log_start_offset: hot.local_log_start().0,
        last_stable_offset: hot.last_stable_offset().0,
        high_watermark: hot.high_watermark().0,
        local_bytes: hot.local_size_bytes().unwrap_or(0),
        tiered_end_offset: tiered.map(|tiered| tiered.end_offset).filter(|end| *end >= 0),
        tiered_stored_bytes: tiered.map(|tiered| tiered.object_bytes),
        unprotected_bytes: tiered.and_then(|tiered| {
            // Before the store answered, nothing is known to be there.
            hot.local_size_bytes_from(Offset(tiered.end_offset.max(0))).ok()
        }),
        unprotected_age_ms: tiered.and_then(|tiered| u64::try_from(tiered.oldest_unprotected_age_ms).ok()),
    }
}

fn tier_metrics(figures: &TierMetrics) -> Vec<Metric> {
    let counter = |name, help, value: u64| Metric::plain(name, help, Kind::Counter, value as f64);
    vec![
        counter(
            "longhaul_tier_copied_bytes",
            "Bytes of segments made visible in the store",
            figures.remote_copy_bytes,
        ),
        counter("longhaul_tier_copies", "Uploads tried", figures.remote_copy_requests),
        counter("longhaul_tier_copy_errors", "Uploads or commits that failed", figures.remote_copy_errors),
        counter(
            "longhaul_tier_fetched_bytes",
            "Bytes of batches handed to readers",
            figures.remote_fetch_bytes,
        ),
        counter("longhaul_tier_fetches", "Reads asked for", figures.remote_fetch_requests),
        counter("longhaul_tier_fetch_errors", "Reads that failed", figures.remote_fetch_errors),
        counter("longhaul_tier_deletes", "Deletes tried", figures.remote_delete_requests),
        counter("longhaul_tier_delete_errors", "Deletes that failed", figures.remote_delete_errors),
    ]
}

/// Which rights on the store fail, by name.
fn store_metric(failures: &[StoreFailure]) -> Metric {
    let sample = |right: Right| {
        let fails = failures.iter().any(|failure| failure.right == right);
        Sample { labels: vec![("right", right.name().to_owned())], value: f64::from(u8::from(fails)) }
    };
    Metric {
        name: "longhaul_tier_store_failing",
        help: "Whether nothing has worked by a right on the store since it failed",
        kind: Kind::Gauge,
        samples: Right::ALL.map(sample).into(),
    }
}

fn store_status(tier: &TierStatus, failures: &[StoreFailure]) -> StoreStatus {
    let failing_since_ms = failures.iter().map(|failure| failure.since_ms).min();
    let failure = match &tier.state {
        TierState::Ready if failures.is_empty() => None,
        TierState::Ready => {
            let details: Vec<&str> = failures.iter().map(|failure| failure.detail.as_str()).collect();
            Some(details.join("; "))
        }
        TierState::Connecting { last_error } => Some(format!("not reached yet: {last_error}")),
        TierState::Refused { reason } => Some(reason.clone()),
    };
    StoreStatus { url: tier.store.clone(), failure, failing_since_ms }
}

impl Subject for AdminSubject {
    fn status(&self) -> StatusReply {
        let broker = &self.broker;
        let topics = broker.topics();
        let tier = broker.tier.as_ref().map(Tier::status);
        let failures = broker.tier.as_ref().map(Tier::store_failures).unwrap_or_default();
        let tiered: HashMap<(&str, i32), &tiering::PartitionStatus> = tier
            .iter()
            .flat_map(|tier| &tier.partitions)
            .map(|partition| ((partition.topic_id.as_str(), partition.partition), partition))
            .collect();
        let described = topics.iter().map(|topic| {
            let topic_id = topic.id.to_string();
            let status = |partition: &Arc<Partition>| {
                let key = (topic_id.as_str(), partition.id().partition);
                partition_status(partition, tiered.get(&key).copied().filter(|_| topic.config.tiered))
            };
            let partitions = topic.partitions.iter().map(status).collect();
            TopicStatus { name: topic.name.to_string(), partitions, topic_id }
        });
        let mut alarms = broker.alarms();
        let damaged =
            tier.iter().flat_map(|tier| &tier.partitions).filter(|each| each.quarantined_segments > 0);
        alarms.extend(damaged.map(|each| {
            let (topic, partition, count) = (&each.topic_id, each.partition, each.quarantined_segments);
            format!("{count} tiered segments of {topic}-{partition} are damaged: `longhaul tier verify` names them")
        }));
        let troubled = tier.iter().flat_map(|tier| &tier.partitions);
        alarms.extend(troubled.filter_map(|partition| {
            let trouble = partition.trouble.as_ref()?;
            Some(format!("tiering of {}-{}: {trouble}", partition.topic_id, partition.partition))
        }));
        alarms.extend(self.health().err());
        if broker.directory.is_storage_full() {
            alarms.push("no disk space is left for segments: producers are refused".to_owned());
        }
        StatusReply {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at_ms: self.started_at_ms,
            broker: Some(BrokerStatus {
                cluster: broker.identity.name.clone(),
                cluster_id: broker.identity.cluster_id.to_string(),
                listen: self.listen.clone(),
                flush: self.flush.clone(),
                topics: described.collect(),
                store: tier.as_ref().map(|tier| store_status(tier, &failures)),
                alarms,
                connections: u32::try_from(broker.metrics.connections.load(Ordering::Relaxed))
                    .unwrap_or(u32::MAX),
            }),
            ..StatusReply::default()
        }
    }

    fn metrics(&self) -> Vec<Metric> {
        let mut metrics = self.broker.metrics.snapshot();
        if let Some(tier) = &self.broker.tier {
            metrics.extend(tier_metrics(&tier.metrics()));
            metrics.push(store_metric(&tier.store_failures()));
        }
        metrics
    }

    fn health(&self) -> Result<(), String> {
        self.broker.directory.health().map_err(|error| error.to_string())
    }

    fn ready(&self) -> Result<(), String> {
        self.health()?;
        if self.broker.ready.load(Ordering::Acquire) {
            Ok(())
        } else {
            Err("groups are being loaded".to_owned())
        }
    }

    fn drain(&self) {
        self.broker.stop.cancel();
    }
}
