//! Resident memory after the same load: Kafka with its shipped heap settings, and Longhaul as it comes.
//!
//! Owns: this one comparison. Does not own: the load tools.

use tests::clients::java::{Tool, call};
use tests::kafka::Kafka;
use tests::longhaul::{Broker, BrokerSettings};
use tests::scratch::Scratch;

use crate::cost::resident_bytes;
use crate::perf_tools::{Load, RECORD_BYTES, consume, produce};
use crate::table::{Mark, Row, Table};

/// What Kafka's start script gives the Java machine.
const SHIPPED_HEAP: [&str; 2] = ["-Xmx1G", "-Xms1G"];

const RECORDS: u64 = (2 << 30) / RECORD_BYTES;

pub(crate) fn measure(table: &mut Table) -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    let mut kafka = Kafka::start_with(scratch.join("kafka"), &[], &SHIPPED_HEAP)?;
    let kafka_bytes = after_load(&kafka.bootstrap(), kafka.process().id())?;
    kafka.stop()?;
    let mut broker = Broker::start(scratch.join("longhaul"), BrokerSettings::default())?;
    let longhaul_bytes = after_load(&broker.bootstrap(), broker.process().id())?;
    broker.stop()?;
    for (side, bytes) in
        [("Kafka 4.3.1, shipped heap", kafka_bytes), ("Longhaul --flush ack", longhaul_bytes)]
    {
        let figures = vec![("MB", bytes as f64 / 1e6)];
        table.row(Row { work: "memory after 2 GiB".to_owned(), side: side.to_owned(), figures });
    }
    table.ratio("memory: Longhaul / Kafka", longhaul_bytes as f64 / kafka_bytes as f64, Mark::AtMost(0.1));
    Ok(())
}

fn after_load(bootstrap: &str, process: u32) -> anyhow::Result<u64> {
    call(
        Tool::Topics,
        &["--bootstrap-server", bootstrap, "--create", "--topic", "memory", "--partitions", "6"],
        &[],
    )?;
    produce(bootstrap, "memory", Load { records: RECORDS, pace: None, batch_bytes: None })?;
    consume(bootstrap, "memory", RECORDS)?;
    resident_bytes(process)
}
