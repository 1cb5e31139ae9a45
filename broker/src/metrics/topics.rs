//! What is told of topics: sums over their partitions, for a bounded number of topics.
//!
//! Owns: the sums, their names, the bound.
//! Does not own: the figures of a partition (`hotlog`, `tiering`), who asks (`status`), counters (`metrics`).
//!
//! What Kafka has a metric for (KIP-405, KIP-963) is called as the usual rules of its JMX exporter call that; the rest is
//! `longhaul_`. As in Kafka, the sample without a `topic` is that of all topics together.

use control::v1::PartitionStatus;
use control::{Kind, Metric, Sample};

/// Topics that have samples of their own, the first by name; all count in the samples without a topic. A page has about
/// as many lines as twelve times this.
const LABELLED_TOPICS: usize = 500;

/// A topic's partitions, or all topics', taken together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    start_offsets: i64,
    end_offsets: i64,
    local_bytes: u64,
    /// None where nothing of it is tiered.
    tiered: Option<TieredSums>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct TieredSums {
    copy_lag_bytes: u64,
    copy_lag_segments: u64,
    delete_lag_bytes: u64,
    delete_lag_segments: u64,
    segment_bytes: u64,
    segments: u64,
    stored_bytes: u64,
    unprotected_bytes: u64,
    /// The greatest, not the sum.
    unprotected_age_ms: u64,
}

impl Sums {
    /// One partition.
    pub(crate) fn of(partition: &PartitionStatus, tiered: Option<&tiering::PartitionStatus>) -> Self {
        let tiered = tiered.map(|tiered| TieredSums {
            copy_lag_bytes: tiered.copy_lag_bytes,
            copy_lag_segments: tiered.copy_lag_segments,
            delete_lag_bytes: tiered.delete_lag_bytes,
            delete_lag_segments: tiered.delete_lag_segments,
            segment_bytes: tiered.segment_bytes,
            segments: tiered.segments,
            stored_bytes: tiered.object_bytes,
            unprotected_bytes: partition.unprotected_bytes.unwrap_or(0),
            unprotected_age_ms: partition.unprotected_age_ms.unwrap_or(0),
        });
        Self {
            start_offsets: partition.log_start_offset,
            end_offsets: partition.high_watermark,
            local_bytes: partition.local_bytes,
            tiered,
        }
    }

    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            start_offsets: self.start_offsets + other.start_offsets,
            end_offsets: self.end_offsets + other.end_offsets,
            local_bytes: self.local_bytes + other.local_bytes,
            tiered: match (self.tiered, other.tiered) {
                (Some(left), Some(right)) => Some(left.and(right)),
                (left, right) => left.or(right),
            },
        }
    }
}

impl TieredSums {
    fn and(self, other: Self) -> Self {
        Self {
            copy_lag_bytes: self.copy_lag_bytes + other.copy_lag_bytes,
            copy_lag_segments: self.copy_lag_segments + other.copy_lag_segments,
            delete_lag_bytes: self.delete_lag_bytes + other.delete_lag_bytes,
            delete_lag_segments: self.delete_lag_segments + other.delete_lag_segments,
            segment_bytes: self.segment_bytes + other.segment_bytes,
            segments: self.segments + other.segments,
            stored_bytes: self.stored_bytes + other.stored_bytes,
            unprotected_bytes: self.unprotected_bytes + other.unprotected_bytes,
            unprotected_age_ms: self.unprotected_age_ms.max(other.unprotected_age_ms),
        }
    }
}

/// A gauge of topics: its name, its help, and what it shows of the sums.
type Gauge = (&'static str, &'static str, fn(&Sums) -> Option<f64>);

const GAUGES: [Gauge; 12] = [
    ("longhaul_broker_log_start_offsets", "Log start offsets, summed over partitions", |sums| {
        Some(sums.start_offsets as f64)
    }),
    ("longhaul_broker_log_end_offsets", "High watermarks, summed over partitions", |sums| {
        Some(sums.end_offsets as f64)
    }),
    ("longhaul_broker_local_bytes", "Bytes of the log on local disk", |sums| Some(sums.local_bytes as f64)),
    ("longhaul_tier_unprotected_bytes", "Bytes that only local disk holds", |sums| {
        Some(sums.tiered?.unprotected_bytes as f64)
    }),
    ("longhaul_tier_unprotected_age_seconds", "Age of the oldest byte that only local disk holds", |sums| {
        Some(sums.tiered?.unprotected_age_ms as f64 / 1e3)
    }),
    ("longhaul_tier_stored_bytes", "Bytes of live objects, as they are stored", |sums| {
        Some(sums.tiered?.stored_bytes as f64)
    }),
    (
        "kafka_server_brokertopicmetrics_remotelogsizebytes",
        "Bytes of segments in the store, before compression",
        |sums| Some(sums.tiered?.segment_bytes as f64),
    ),
    ("kafka_server_brokertopicmetrics_remotelogmetadatacount", "Segments in the store", |sums| {
        Some(sums.tiered?.segments as f64)
    }),
    (
        "kafka_server_brokertopicmetrics_remotecopylagbytes",
        "Bytes of sealed segments that wait for their upload",
        |sums| Some(sums.tiered?.copy_lag_bytes as f64),
    ),
    (
        "kafka_server_brokertopicmetrics_remotecopylagsegments",
        "Sealed segments that wait for their upload",
        |sums| Some(sums.tiered?.copy_lag_segments as f64),
    ),
    (
        "kafka_server_brokertopicmetrics_remotedeletelagbytes",
        "Bytes of objects that wait for their delete",
        |sums| Some(sums.tiered?.delete_lag_bytes as f64),
    ),
    (
        "kafka_server_brokertopicmetrics_remotedeletelagsegments",
        "Objects that wait for their delete",
        |sums| Some(sums.tiered?.delete_lag_segments as f64),
    ),
];

/// The gauges of all topics, given by name with their sums.
pub(crate) fn topic_metrics(topics: &[(String, Sums)]) -> Vec<Metric> {
    let all = topics.iter().map(|(_, sums)| *sums).fold(Sums::default(), Sums::and);
    let labelled = &topics[..topics.len().min(LABELLED_TOPICS)];
    let gauge = |(name, help, shown): Gauge| {
        let total = shown(&all).map(|value| Sample { labels: Vec::new(), value });
        let of_topic = |(topic, sums): &(String, Sums)| {
            let value = shown(sums)?;
            Some(Sample { labels: vec![("topic", topic.clone())], value })
        };
        let samples = total.into_iter().chain(labelled.iter().filter_map(of_topic)).collect();
        Metric { name, help, kind: Kind::Gauge, samples }
    };
    let mut metrics: Vec<Metric> = GAUGES.map(gauge).into();
    // Without a store, nothing is to be said of one.
    metrics.retain(|metric| !metric.samples.is_empty());
    let count = |name, help, count: usize| Metric::plain(name, help, Kind::Gauge, count as f64);
    metrics.push(count("longhaul_broker_topics", "Topics", topics.len()));
    metrics.push(count(
        "longhaul_broker_unlabelled_topics",
        "Topics that count in sums only, because there are too many for samples of their own",
        topics.len() - labelled.len(),
    ));
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(tiered: bool) -> Sums {
        let status = PartitionStatus {
            log_start_offset: 10,
            high_watermark: 30,
            local_bytes: 100,
            unprotected_bytes: tiered.then_some(40),
            unprotected_age_ms: tiered.then_some(1_500),
            ..PartitionStatus::default()
        };
        let in_store = tiering::PartitionStatus {
            topic_id: String::new(),
            partition: 0,
            start_offset: 10,
            end_offset: 20,
            segments: 2,
            object_bytes: 60,
            segment_bytes: 90,
            delete_lag_segments: 3,
            delete_lag_bytes: 33,
            copy_lag_segments: 4,
            copy_lag_bytes: 44,
            oldest_unprotected_age_ms: 1_500,
            quarantined_segments: 0,
            trouble: None,
        };
        Sums::of(&status, Some(&in_store).filter(|_| tiered))
    }

    fn values(metrics: &[Metric], name: &str) -> Vec<(String, f64)> {
        let found = metrics.iter().find(|metric| metric.name == name);
        let samples = found.map(|metric| metric.samples.clone()).unwrap_or_default();
        let said = |sample: Sample| {
            let topic = sample.labels.first().map(|(_, topic)| topic.clone()).unwrap_or_default();
            (topic, sample.value)
        };
        samples.into_iter().map(said).collect()
    }

    #[test]
    fn partitions_are_summed_by_topic_and_over_all_topics() {
        let flights = partition(true).and(partition(true));
        let metrics =
            topic_metrics(&[("flights".to_owned(), flights), ("plain".to_owned(), partition(false))]);
        let two = |all: f64, flights: f64| vec![(String::new(), all), ("flights".to_owned(), flights)];
        for (name, flights) in [
            ("longhaul_tier_unprotected_bytes", 80.0),
            ("longhaul_tier_unprotected_age_seconds", 1.5),
            ("longhaul_tier_stored_bytes", 120.0),
            ("kafka_server_brokertopicmetrics_remotelogsizebytes", 180.0),
            ("kafka_server_brokertopicmetrics_remotelogmetadatacount", 4.0),
            ("kafka_server_brokertopicmetrics_remotecopylagbytes", 88.0),
            ("kafka_server_brokertopicmetrics_remotecopylagsegments", 8.0),
            ("kafka_server_brokertopicmetrics_remotedeletelagbytes", 66.0),
            ("kafka_server_brokertopicmetrics_remotedeletelagsegments", 6.0),
        ] {
            assert_eq!(values(&metrics, name), two(flights, flights), "{name}");
        }
        for (name, one) in [
            ("longhaul_broker_log_start_offsets", 10.0),
            ("longhaul_broker_log_end_offsets", 30.0),
            ("longhaul_broker_local_bytes", 100.0),
        ] {
            let mut expected = two(3.0 * one, 2.0 * one);
            expected.push(("plain".to_owned(), one));
            assert_eq!(values(&metrics, name), expected, "{name}");
        }
    }

    #[test]
    fn without_a_store_nothing_is_said_of_one() {
        let metrics = topic_metrics(&[("plain".to_owned(), partition(false))]);
        assert!(metrics.iter().all(|metric| metric.name.starts_with("longhaul_broker_")), "{metrics:?}");
        assert_eq!(values(&metrics, "longhaul_broker_local_bytes").len(), 2);
    }

    #[test]
    fn the_number_of_labelled_topics_is_bounded_and_the_sum_is_not() {
        let topics: Vec<(String, Sums)> =
            (0..LABELLED_TOPICS + 7).map(|number| (format!("t{number:04}"), partition(true))).collect();
        let metrics = topic_metrics(&topics);
        let local = values(&metrics, "longhaul_broker_local_bytes");
        assert_eq!(local.len(), LABELLED_TOPICS + 1);
        assert_eq!(local[0], (String::new(), 100.0 * topics.len() as f64));
        assert_eq!(values(&metrics, "longhaul_broker_unlabelled_topics"), [(String::new(), 7.0)]);
        assert_eq!(values(&metrics, "longhaul_broker_topics"), [(String::new(), topics.len() as f64)]);
    }
}
