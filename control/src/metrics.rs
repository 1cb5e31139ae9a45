//! Metrics as plain data, written out when somebody asks.
//!
//! Owns: the shape of a metric and its OpenMetrics text.
//! Does not own: the figures. The program counts in its own structs and never reads a metric back.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

/// One metric with all its labelled samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Name without the `_total` of counters, unit last: `longhaul_broker_produced_bytes`.
    pub name: &'static str,
    /// One sentence for whoever meets it on a dashboard.
    pub help: &'static str,
    /// Counter or gauge.
    pub kind: Kind,
    /// One sample for each set of labels.
    pub samples: Vec<Sample>,
}

/// How a metric moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises, from the start of the process.
    Counter,
    /// Rises and falls.
    Gauge,
}

/// A figure with its labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Label names and values.
    pub labels: Vec<(&'static str, String)>,
    /// The figure; counters hold whole numbers up to 2^53.
    pub value: f64,
}

impl Metric {
    /// A metric that has no labels.
    pub fn plain(name: &'static str, help: &'static str, kind: Kind, value: f64) -> Self {
        Self { name, help, kind, samples: vec![Sample { labels: Vec::new(), value }] }
    }
}

#[derive(Debug)]
struct Snapshot(Vec<Metric>);

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for metric in &self.0 {
            let metric_type = match metric.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
            };
            let mut family = encoder.encode_descriptor(metric.name, metric.help, None, metric_type)?;
            for sample in &metric.samples {
                if sample.labels.is_empty() {
                    encode(metric.kind, sample.value, &mut family)?;
                    continue;
                }
                let labels: Vec<(&str, &str)> =
                    sample.labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
                encode(metric.kind, sample.value, &mut family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

fn encode(kind: Kind, value: f64, encoder: &mut MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
    match kind {
        Kind::Counter => encoder.encode_counter::<NoLabelSet, f64, f64>(&value, None),
        Kind::Gauge => encoder.encode_gauge(&value),
    }
}

/// The OpenMetrics text of a snapshot.
pub(crate) fn to_text(metrics: Vec<Metric>) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Snapshot(metrics)));
    let mut page = String::new();
    text::encode(&mut page, &registry).expect("writing to a string does not fail");
    page
}
