//! A broker that tiers to MinIO, and what it says of its partitions.
//!
//! Owns: how such a broker and its topics are set up, and waiting until local copies are gone.
//! Does not own: the processes (`longhaul`, `minio`), what is written and read.

use std::collections::BTreeMap;

use control::v1::{PartitionStatus, StatusReply};

use crate::clients::python::Python;
use crate::deadline::Deadline;
use crate::longhaul::{Broker, BrokerSettings, verb_with};
use crate::minio::Minio;
use crate::process::Output;
use crate::scratch::Scratch;

/// What a topic may keep on local disk.
pub const LOCAL_LIMIT_BYTES: u64 = 2 << 20;
/// Kafka's smallest segment, no end of life (the data is from 2013), and a local limit of two segments.
pub const TOPIC_SETTINGS: [&str; 4] =
    ["retention.ms=-1", "segment.bytes=1048576", "local.retention.bytes=2097152", "local.retention.ms=-2"];
/// How long segments may take to be sealed, tiered and released on a loaded machine.
const TIERED_SECONDS: u64 = 90;

/// Where the cluster of that name tiers to.
pub fn store_of(name: &str) -> String {
    format!("s3://longhaul/{name}")
}

/// Makes the cluster's store ready and starts its broker.
///
/// # Errors
/// When the store or the broker cannot be used.
pub fn start(scratch: &Scratch, name: &str, minio: &Minio) -> anyhow::Result<Broker> {
    tier(&["init", "--store", &store_of(name)], minio)?.success()?;
    Broker::start(scratch.join(name), settings(name, minio))
}

/// How the broker of that name is started.
pub fn settings(name: &str, minio: &Minio) -> BrokerSettings {
    let settings = BrokerSettings { environment: minio.environment(), ..BrokerSettings::default() };
    settings.with("--cluster").with(name).with("--store").with(store_of(name))
}

/// Runs `longhaul tier ARGUMENTS...` against this MinIO.
///
/// # Errors
/// When the verb cannot be run; a failed verb is an `Output`.
pub fn tier(arguments: &[&str], minio: &Minio) -> anyhow::Result<Output> {
    verb_with(&[&["tier"], arguments].concat(), &minio.environment())
}

/// Makes a topic that tiers and keeps little on local disk.
///
/// # Errors
/// What the broker says.
pub fn make_topic(broker: &Broker, topic: &str, partitions: u32) -> anyhow::Result<()> {
    Python::Confluent.create_topic(&broker.bootstrap(), topic, partitions, &TOPIC_SETTINGS)
}

/// Asks a broker or a flow at its admin address how it is.
///
/// # Errors
/// When it does not answer.
pub fn ask(admin: &str) -> anyhow::Result<StatusReply> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(control::ask_status(admin))?)
}

/// The partitions of a topic as the broker sees them.
///
/// # Errors
/// When it does not answer, or does not have the topic.
pub fn partitions_of(broker: &Broker, topic: &str) -> anyhow::Result<BTreeMap<i32, PartitionStatus>> {
    let status = ask(&broker.admin().to_string())?.broker;
    let mut topics = status.into_iter().flat_map(|broker| broker.topics);
    let found = topics.find(|each| each.name == topic);
    let found = anyhow::Context::context(found, "the broker does not have the topic")?;
    Ok(found.partitions.into_iter().map(|partition| (partition.partition, partition)).collect())
}

/// Waits until sealed segments are in the store and local disk holds no more than its limit and an active segment.
///
/// # Errors
/// When that does not come about.
pub fn wait_until_released(broker: &Broker, topic: &str) -> anyhow::Result<()> {
    Deadline::seconds(TIERED_SECONDS).wait_for("sealed segments to be tiered and released", || {
        let partitions = partitions_of(broker, topic)?;
        let small = partitions.values().all(|each| each.local_bytes <= LOCAL_LIMIT_BYTES + (2 << 20));
        let moved = partitions.values().all(|each| each.local_log_start_offset > 0);
        Ok((small && moved).then_some(()))
    })
}
