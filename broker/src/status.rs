//! What the broker says of itself on the admin address.
//!
//! Owns: the figures in the control API's words, the names of the store's metrics, and which troubles of the store are
//! alarms.
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
use crate::metrics::{Sums, topic_metrics};
use crate::options::BrokerOptions;
use crate::partition::Partition;
use crate::topics::Topic;

/// Alarms of one kind that are told one by one: with a store that is gone, all partitions would say the same.
const ALARMS_PER_KIND: usize = 8;

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

/// The store's counters, as the usual rules of Kafka's JMX exporter call those of KIP-405 and KIP-963.
fn tier_counters(figures: &TierMetrics) -> Vec<Metric> {
    let counter = |name, help, value: u64| Metric::plain(name, help, Kind::Counter, value as f64);
    vec![
        counter(
            "kafka_server_brokertopicmetrics_remotecopybytes",
            "Bytes of objects made visible in the store",
            figures.remote_copy_bytes,
        ),
        counter(
            "kafka_server_brokertopicmetrics_remotecopyrequests",
            "Uploads tried",
            figures.remote_copy_requests,
        ),
        counter(
            "kafka_server_brokertopicmetrics_remotecopyerrors",
            "Uploads or commits that failed",
            figures.remote_copy_errors,
        ),
        counter(
            "kafka_server_brokertopicmetrics_remotefetchbytes",
            "Bytes of batches handed to readers",
            figures.remote_fetch_bytes,
        ),
        counter(
            "kafka_server_brokertopicmetrics_remotefetchrequests",
            "Reads asked for",
            figures.remote_fetch_requests,
        ),
        counter(
            "kafka_server_brokertopicmetrics_remotefetcherrors",
            "Reads that failed",
            figures.remote_fetch_errors,
        ),
        counter(
            "kafka_server_brokertopicmetrics_remotedeleterequests",
            "Deletes tried",
            figures.remote_delete_requests,
        ),
        counter(
            "kafka_server_brokertopicmetrics_remotedeleteerrors",
            "Deletes that failed",
            figures.remote_delete_errors,
        ),
    ]
}

/// Whether the store works, and which rights on it fail, by name.
fn store_metrics(state: &TierState, failures: &[StoreFailure]) -> [Metric; 2] {
    let sample = |right: Right| {
        let fails = failures.iter().any(|failure| failure.right == right);
        Sample { labels: vec![("right", right.name().to_owned())], value: f64::from(u8::from(fails)) }
    };
    let failing = Metric {
        name: "longhaul_tier_store_failing",
        help: "Whether nothing has worked by a right on the store since it failed",
        kind: Kind::Gauge,
        samples: Right::ALL.map(sample).into(),
    };
    let ready = f64::from(u8::from(*state == TierState::Ready));
    let help = "Whether the store was reached and takes this broker's segments";
    [failing, Metric::plain("longhaul_tier_store_ready", help, Kind::Gauge, ready)]
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

/// What a human should hear of the store and of the partitions that are tiered there, each with its name.
fn tier_alarms(store: &StoreStatus, partitions: &[(String, &tiering::PartitionStatus)]) -> Vec<String> {
    let failure = store.failure.iter();
    let mut alarms: Vec<String> =
        failure.map(|failure| format!("the store {} fails: {failure}", store.url)).collect();
    let damaged = partitions.iter().filter(|(_, each)| each.quarantined_segments > 0).map(|(name, each)| {
        let count = each.quarantined_segments;
        format!("{count} tiered segments of {name} are damaged: `longhaul tier verify` names them")
    });
    alarms.extend(bounded(damaged.collect(), "have damaged segments"));
    let troubled = partitions.iter().filter_map(|(name, each)| {
        let trouble = each.trouble.as_ref()?;
        Some(format!("tiering of {name}: {trouble}"))
    });
    alarms.extend(bounded(troubled.collect(), "wait with their tiering"));
    alarms
}

/// The first alarms of a kind, and how many more partitions there are of which the same is to be said.
fn bounded(mut alarms: Vec<String>, what: &str) -> Vec<String> {
    let more = alarms.len().saturating_sub(ALARMS_PER_KIND);
    if more > 0 {
        alarms.truncate(ALARMS_PER_KIND);
        alarms.push(format!("{more} more partitions {what}"));
    }
    alarms
}

/// What the store says of each partition, by topic id and number.
fn by_partition(tier: Option<&TierStatus>) -> HashMap<(&str, i32), &tiering::PartitionStatus> {
    let partitions = tier.into_iter().flat_map(|tier| &tier.partitions);
    partitions.map(|each| ((each.topic_id.as_str(), each.partition), each)).collect()
}

impl AdminSubject {
    fn alarms(&self, tier: Option<&TierStatus>, store: Option<&StoreStatus>) -> Vec<String> {
        let mut alarms = self.broker.alarms();
        let trouble = self.broker.tier.as_ref().and_then(Tier::cluster_trouble);
        alarms.extend(trouble.map(|trouble| format!("the store's account of this cluster: {trouble}")));
        if let (Some(tier), Some(store)) = (tier, store) {
            let topics = self.broker.topics();
            let names: HashMap<String, &str> =
                topics.iter().map(|topic| (topic.id.to_string(), &*topic.name)).collect();
            // One whose topic was just deleted has no name any more.
            let name = |each: &tiering::PartitionStatus| {
                let topic = names.get(&each.topic_id).copied().unwrap_or(&each.topic_id);
                format!("{topic}-{}", each.partition)
            };
            let named: Vec<_> = tier.partitions.iter().map(|each| (name(each), each)).collect();
            alarms.extend(tier_alarms(store, &named));
        }
        alarms.extend(self.health().err());
        if self.broker.directory.is_storage_full() {
            alarms.push("no disk space is left for segments: producers are refused".to_owned());
        }
        alarms
    }
}

impl Subject for AdminSubject {
    fn status(&self) -> StatusReply {
        let broker = &self.broker;
        let topics = broker.topics();
        let tier = broker.tier.as_ref().map(Tier::status);
        let failures = broker.tier.as_ref().map(Tier::store_failures).unwrap_or_default();
        let tiered = by_partition(tier.as_ref());
        let described = topics.iter().map(|topic| {
            let topic_id = topic.id.to_string();
            let status = |partition: &Arc<Partition>| {
                let key = (topic_id.as_str(), partition.id().partition);
                partition_status(partition, tiered.get(&key).copied().filter(|_| topic.config.tiered))
            };
            let partitions = topic.partitions.iter().map(status).collect();
            TopicStatus { name: topic.name.to_string(), partitions, topic_id }
        });
        let store = tier.as_ref().map(|tier| store_status(tier, &failures));
        StatusReply {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at_ms: self.started_at_ms,
            broker: Some(BrokerStatus {
                cluster: broker.identity.name.clone(),
                cluster_id: broker.identity.cluster_id.to_string(),
                listen: self.listen.clone(),
                flush: self.flush.clone(),
                topics: described.collect(),
                alarms: self.alarms(tier.as_ref(), store.as_ref()),
                store,
                connections: u32::try_from(broker.metrics.connections.load(Ordering::Relaxed))
                    .unwrap_or(u32::MAX),
            }),
            ..StatusReply::default()
        }
    }

    fn metrics(&self) -> Vec<Metric> {
        let mut metrics = self.broker.metrics.snapshot();
        let tier = self.broker.tier.as_ref().map(Tier::status);
        let tiered = by_partition(tier.as_ref());
        let sums = |topic: &Arc<Topic>| {
            let topic_id = topic.id.to_string();
            let one = |partition: &Arc<Partition>| {
                let key = (topic_id.as_str(), partition.id().partition);
                let tiered = tiered.get(&key).copied().filter(|_| topic.config.tiered);
                Sums::of(&partition_status(partition, tiered), tiered)
            };
            (topic.name.to_string(), topic.partitions.iter().map(one).fold(Sums::default(), Sums::and))
        };
        let sums: Vec<(String, Sums)> = self.broker.topics().iter().map(sums).collect();
        metrics.extend(topic_metrics(&sums));
        if let (Some(handle), Some(status)) = (&self.broker.tier, &tier) {
            metrics.extend(tier_counters(&handle.metrics()));
            metrics.extend(store_metrics(&status.state, &handle.store_failures()));
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

    fn flush_log(&self) -> Result<(), String> {
        self.broker.directory.flush_remainders().map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tier(state: TierState) -> TierStatus {
        TierStatus { store: "s3://lake/west".to_owned(), state, partitions: Vec::new() }
    }

    fn failure(right: Right, since_ms: i64) -> StoreFailure {
        StoreFailure { right, since_ms, detail: format!("{} fails", right.name()) }
    }

    #[test]
    fn whatever_ails_the_store_is_told_with_its_time_and_as_an_alarm() {
        let said = "no answer".to_owned();
        for (state, failures, expected) in [
            (TierState::Ready, vec![failure(Right::Write, 7)], "write fails"),
            (
                TierState::Ready,
                vec![failure(Right::Read, 9), failure(Right::List, 7)],
                "read fails; list fails",
            ),
            (
                TierState::Connecting { last_error: said.clone() },
                vec![failure(Right::Write, 7)],
                "not reached yet: no answer",
            ),
            (TierState::Refused { reason: said }, vec![failure(Right::Write, 7)], "no answer"),
        ] {
            let status = store_status(&tier(state.clone()), &failures);
            assert_eq!(status.failure.as_deref(), Some(expected));
            assert_eq!(status.failing_since_ms, Some(7));
            let alarms = tier_alarms(&status, &[]);
            assert_eq!(alarms, [format!("the store s3://lake/west fails: {expected}")]);
            // A bucket that does not fence, or another owner, is no call that failed: nobody knows since when.
            if state != TierState::Ready {
                let status = store_status(&tier(state), &[]);
                assert_eq!((status.failure.as_deref(), status.failing_since_ms), (Some(expected), None));
                assert_eq!(tier_alarms(&status, &[]).len(), 1);
            }
        }
    }

    #[test]
    fn a_store_that_works_is_no_alarm() {
        let status = store_status(&tier(TierState::Ready), &[]);
        assert_eq!((&status.failure, status.failing_since_ms), (&None, None));
        assert_eq!(tier_alarms(&status, &[]), [""; 0]);
    }

    #[test]
    fn a_store_that_is_gone_does_not_flood_the_alarms() {
        let status = store_status(&tier(TierState::Ready), &[failure(Right::Write, 7)]);
        let troubled = tiering::PartitionStatus {
            topic_id: "id".to_owned(),
            partition: 0,
            start_offset: 0,
            end_offset: 0,
            segments: 0,
            object_bytes: 0,
            segment_bytes: 0,
            delete_lag_segments: 0,
            delete_lag_bytes: 0,
            copy_lag_segments: 0,
            copy_lag_bytes: 0,
            oldest_unprotected_age_ms: 0,
            quarantined_segments: 0,
            trouble: Some("no answer".to_owned()),
        };
        let named: Vec<_> = (0..100).map(|number| (format!("flights-{number}"), &troubled)).collect();
        let alarms = tier_alarms(&status, &named);
        assert_eq!(alarms.len(), 1 + ALARMS_PER_KIND + 1);
        assert_eq!(alarms[1], "tiering of flights-0: no answer");
        assert_eq!(alarms.last().map(String::as_str), Some("92 more partitions wait with their tiering"));
    }

    #[test]
    fn a_store_that_is_not_ready_shows_in_the_metrics() {
        let ready = |state: &TierState| store_metrics(state, &[])[1].samples[0].value;
        assert_eq!(ready(&TierState::Ready), 1.0);
        assert_eq!(ready(&TierState::Connecting { last_error: String::new() }), 0.0);
    }
}
