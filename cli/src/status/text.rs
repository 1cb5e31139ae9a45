//! A status report as text for people.
//!
//! Owns: tables, sums and units. Does not own: the figures.

use std::fmt::Write;

use super::{ClusterReport, FlowPartitionReport, FlowReport, MapTopicReport, Report};

/// The whole report; `now_ms` turns moments into ages.
pub(super) fn of(report: &Report, now_ms: i64) -> String {
    let mut out = String::new();
    for (name, cluster) in &report.clusters {
        write_cluster(&mut out, name, cluster, now_ms).expect("a string takes all");
    }
    for (name, flow) in &report.flows {
        write_flow(&mut out, name, flow, now_ms).expect("a string takes all");
    }
    out
}

fn write_cluster(out: &mut String, name: &str, cluster: &ClusterReport, now_ms: i64) -> std::fmt::Result {
    writeln!(out, "cluster {name} ({}) on {}", cluster.datacenter, cluster.listen)?;
    if let Some(failure) = &cluster.failure {
        return writeln!(out, "  DOWN: {failure}\n");
    }
    if let Some(store) = &cluster.store {
        match (&store.failure, store.failing_since_ms) {
            (Some(failure), Some(since_ms)) => {
                writeln!(out, "  store {} FAILS for {}: {failure}", store.url, age(now_ms - since_ms))?;
            }
            (Some(failure), None) => writeln!(out, "  store {} FAILS: {failure}", store.url)?,
            (None, _) => writeln!(out, "  store {} works", store.url)?,
        }
    }
    cluster.alarms.iter().try_for_each(|alarm| writeln!(out, "  ALARM: {alarm}"))?;
    if !cluster.topics.is_empty() {
        writeln!(
            out,
            "  {:<32} {:>10} {:>14} {:>10} {:>10} {:>12}",
            "topic", "partitions", "offsets", "local", "stored", "unprotected"
        )?;
    }
    for (topic, report) in &cluster.topics {
        let partitions = &report.partitions;
        // Not records: transaction markers, compaction and lost tails leave offsets without one.
        let offsets: i64 = partitions.iter().map(|p| p.high_watermark - p.log_start_offset).sum();
        let local = partitions.iter().map(|p| p.local_bytes).sum();
        let stored = sum(partitions.iter().map(|p| p.tiered_stored_bytes));
        let unprotected = sum(partitions.iter().map(|p| p.unprotected_bytes));
        writeln!(
            out,
            "  {topic:<32} {:>10} {offsets:>14} {:>10} {:>10} {:>12}",
            partitions.len(),
            bytes(local),
            stored.map_or_else(|| "-".to_owned(), bytes),
            unprotected.map_or_else(|| "-".to_owned(), bytes),
        )?;
    }
    writeln!(out)
}

fn write_flow(out: &mut String, name: &str, flow: &FlowReport, now_ms: i64) -> std::fmt::Result {
    writeln!(out, "flow {name} from {} to {}: {}", flow.source, flow.target, flow.state)?;
    if let Some(failure) = &flow.failure {
        return writeln!(out, "  DOWN: {failure}\n");
    }
    for (end, cluster, since_ms) in flow.silent() {
        writeln!(out, "  {end} {cluster} has NOT ANSWERED for {}", age(now_ms - since_ms))?;
    }
    write_progress(out, flow)?;
    for partition in &flow.partitions {
        if let Some(event) = &partition.event {
            writeln!(out, "  PAUSED {}: {event}", place(partition))?;
        }
    }
    for group in &flow.groups {
        let place = format!("group {} on {}-{}", group.group, group.source_topic, group.partition);
        match (group.target_offset, &group.reason) {
            (Some(target), None) => write!(out, "  {place}: {} is {target}", group.source_offset)?,
            (Some(target), Some(reason)) => {
                write!(out, "  {place}: {} is {target} ({reason})", group.source_offset)?;
            }
            (None, reason) => {
                let reason = reason.as_deref().unwrap_or("not synced yet");
                write!(out, "  {place}: {} has no place yet: {reason}", group.source_offset)?;
            }
        }
        match group.synced_at_ms {
            Some(at_ms) => writeln!(out, ", synced {} ago", age(now_ms - at_ms))?,
            None => writeln!(out)?,
        }
    }
    if let Some(map_topic) = &flow.map_topic {
        let MapTopicReport { log_start_offset, log_end_offset, size_bytes } = map_topic;
        let (size, target) = (bytes(*size_bytes), &flow.target);
        writeln!(out, "  map topic on {target}: {size}, offsets {log_start_offset} to {log_end_offset}")?;
    }
    flow.alarms.iter().try_for_each(|alarm| writeln!(out, "  ALARM: {alarm}"))?;
    writeln!(out)
}

/// What was copied and what is still to be.
fn write_progress(out: &mut String, flow: &FlowReport) -> std::fmt::Result {
    if flow.is_idle() && !flow.topics.is_empty() {
        let (source, topics) = (&flow.source, flow.topics.join(", "));
        return writeln!(
            out,
            "  copies nothing: found no topic of {source} that matches {topics}, or could begin with none yet (then \
             its log says why)"
        );
    }
    let copied = bytes(flow.bytes_copied);
    let lag_offsets = sum(flow.partitions.iter().map(|p| p.lag_offsets));
    let unknown = flow.partitions.iter().filter(|p| p.lag_offsets.is_none() && p.event.is_none()).count();
    let lag_bytes = sum(flow.partitions.iter().map(|p| p.lag_bytes));
    let lag_ms = flow.partitions.iter().filter_map(|p| p.lag_ms).max();
    write!(out, "  copied {} records, {copied}; behind", flow.records_copied)?;
    match lag_offsets {
        Some(offsets) if unknown == 0 => write!(out, " {offsets} offsets")?,
        Some(offsets) => {
            let all = flow.partitions.iter().filter(|p| p.partition >= 0).count();
            write!(out, " {offsets} offsets, and an unknown number in {unknown} of {all} partitions")?;
        }
        None => write!(out, " by an unknown number of offsets")?,
    }
    if let Some(lag) = lag_bytes {
        write!(out, ", {}", bytes(lag))?;
    }
    if let Some(lag_ms) = lag_ms {
        write!(out, ", {}", age(i64::try_from(lag_ms).unwrap_or(i64::MAX)))?;
    }
    writeln!(out)
}

/// What an event is about: a partition, or a topic as a whole.
fn place(partition: &FlowPartitionReport) -> String {
    match partition.partition {
        ..0 => partition.source_topic.clone(),
        number => format!("{}-{number}", partition.source_topic),
    }
}

/// The sum of what is known; none when nothing is.
fn sum(values: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    values.flatten().reduce(u64::saturating_add)
}

/// Bytes in the largest unit that leaves a whole number, with one decimal.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut scaled = count as f64;
    let mut unit = 0;
    while scaled >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{scaled:.1} {}", UNITS[unit]) }
}

/// A duration in the largest unit that leaves a whole number.
fn age(milliseconds: i64) -> String {
    match milliseconds.max(0) {
        ms @ ..1_000 => format!("{ms} ms"),
        ms @ ..120_000 => format!("{:.1} s", ms as f64 / 1e3),
        ms @ ..7_200_000 => format!("{} min", ms / 60_000),
        ms @ ..172_800_000 => format!("{} h", ms / 3_600_000),
        ms => format!("{} d", ms / 86_400_000),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::status::{GroupReport, StoreReport};

    #[test]
    fn units_are_the_largest_that_fit() {
        assert_eq!(
            [0, 1023, 1024, 1 << 20, u64::MAX].map(bytes),
            ["0 B", "1023 B", "1.0 KiB", "1.0 MiB", "16777216.0 TiB"]
        );
        assert_eq!(
            [-5, 999, 1500, 120_000, 7_200_000, 172_800_000].map(age),
            ["0 ms", "999 ms", "1.5 s", "2 min", "2 h", "2 d"]
        );
    }

    #[test]
    fn a_store_that_fails_does_not_work_whether_or_not_since_when_is_known() {
        let line = |failure: Option<&str>, failing_since_ms| {
            let url = "s3://lake".to_owned();
            let cluster = ClusterReport {
                datacenter: "here".to_owned(),
                listen: "127.0.0.1:1".to_owned(),
                admin: "127.0.0.1:2".to_owned(),
                failure: None,
                topics: BTreeMap::new(),
                alarms: Vec::new(),
                connections: 0,
                store: Some(StoreReport { url, failure: failure.map(str::to_owned), failing_since_ms }),
            };
            let clusters = [("west".to_owned(), cluster)].into();
            let text = of(&Report { clusters, flows: BTreeMap::new() }, 5_000);
            text.lines().nth(1).map(str::to_owned)
        };
        assert_eq!(line(None, None).as_deref(), Some("  store s3://lake works"));
        assert_eq!(line(Some("denied"), None).as_deref(), Some("  store s3://lake FAILS: denied"));
        assert_eq!(
            line(Some("denied"), Some(2_000)).as_deref(),
            Some("  store s3://lake FAILS for 3.0 s: denied")
        );
    }

    #[test]
    fn a_flow_says_its_lag_its_events_and_its_groups() {
        let partition = FlowPartitionReport {
            source_topic: "flights".to_owned(),
            target_topic: "flights".to_owned(),
            partition: 1,
            state: "paused".to_owned(),
            source_position: 10,
            target_position: 8,
            source_end_offset: Some(30),
            lag_offsets: Some(20),
            lag_bytes: None,
            lag_ms: Some(2_500),
            event: Some("the source lost 10 to 12".to_owned()),
        };
        let group = GroupReport {
            group: "readers".to_owned(),
            source_topic: "flights".to_owned(),
            partition: 1,
            source_offset: 9,
            target_offset: Some(7),
            reason: None,
            synced_at_ms: Some(500),
        };
        let flow = FlowReport {
            source: "west".to_owned(),
            target: "east".to_owned(),
            admin: "127.0.0.1:1".to_owned(),
            state: "paused".to_owned(),
            failure: None,
            topics: vec!["flights".to_owned()],
            records_copied: 10,
            bytes_copied: 2048,
            partitions: vec![partition],
            groups: vec![group],
            map_topic: Some(MapTopicReport {
                log_start_offset: 0,
                log_end_offset: 4_026,
                size_bytes: 800 * 1024,
            }),
            source_silent_since_ms: None,
            target_silent_since_ms: None,
            alarms: Vec::new(),
        };
        let report = Report { clusters: BTreeMap::new(), flows: [("over".to_owned(), flow)].into() };
        assert_eq!(
            of(&report, 1_500),
            "flow over from west to east: paused\n  copied 10 records, 2.0 KiB; behind 20 offsets, 2.5 s\n  \
             PAUSED flights-1: the source lost 10 to 12\n  group readers on flights-1: 9 is 7, synced 1.0 s ago\n  \
             map topic on east: 800.0 KiB, offsets 0 to 4026\n\n"
        );
    }

    #[test]
    fn a_flow_whose_source_does_not_answer_knows_no_lag() {
        let partition = |lag_offsets| FlowPartitionReport {
            source_topic: "flights".to_owned(),
            target_topic: "flights".to_owned(),
            partition: 0,
            state: "unknown".to_owned(),
            source_position: 10,
            target_position: 8,
            source_end_offset: Some(10),
            lag_offsets,
            lag_bytes: None,
            lag_ms: Some(12_000),
            event: None,
        };
        let below_the_name = |lags: [Option<u64>; 2], source_silent_since_ms| {
            let flow = FlowReport {
                source: "west".to_owned(),
                target: "east".to_owned(),
                admin: "127.0.0.1:1".to_owned(),
                state: "running".to_owned(),
                failure: None,
                topics: vec!["flights".to_owned()],
                records_copied: 10,
                bytes_copied: 10,
                partitions: lags.map(partition).into(),
                groups: Vec::new(),
                map_topic: None,
                source_silent_since_ms,
                target_silent_since_ms: None,
                alarms: Vec::new(),
            };
            let report = Report { clusters: BTreeMap::new(), flows: [("over".to_owned(), flow)].into() };
            let text = of(&report, 20_000);
            text.lines().skip(1).take_while(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(
            below_the_name([None, None], Some(8_000)),
            "  source west has NOT ANSWERED for 12.0 s\n  \
             copied 10 records, 10 B; behind by an unknown number of offsets, 12.0 s"
        );
        assert_eq!(
            below_the_name([Some(3), None], None),
            "  copied 10 records, 10 B; behind 3 offsets, and an unknown number in 1 of 2 partitions, 12.0 s"
        );
    }

    /// What is said of a flow that runs, below its name.
    fn of_flow(change: impl FnOnce(&mut FlowReport)) -> String {
        let mut flow = FlowReport {
            source: "west".to_owned(),
            target: "east".to_owned(),
            admin: "127.0.0.1:1".to_owned(),
            state: "running".to_owned(),
            failure: None,
            topics: vec!["orders".to_owned(), "audit.*".to_owned()],
            records_copied: 0,
            bytes_copied: 0,
            partitions: Vec::new(),
            groups: Vec::new(),
            map_topic: None,
            source_silent_since_ms: None,
            target_silent_since_ms: None,
            alarms: Vec::new(),
        };
        change(&mut flow);
        let report = Report { clusters: BTreeMap::new(), flows: [("over".to_owned(), flow)].into() };
        let text = of(&report, 20_000);
        text.lines().skip(1).take_while(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn an_event_of_a_whole_topic_names_no_partition() {
        let paused = |partition, lag_offsets, event: Option<&str>| FlowPartitionReport {
            source_topic: "flights".to_owned(),
            target_topic: "flights".to_owned(),
            partition,
            state: "paused".to_owned(),
            source_position: 0,
            target_position: 0,
            source_end_offset: None,
            lag_offsets,
            lag_bytes: None,
            lag_ms: None,
            event: event.map(str::to_owned),
        };
        let gone = Some("the source topic was deleted");
        let partitions = vec![paused(-1, None, gone), paused(0, None, gone), paused(1, Some(3), None)];
        assert_eq!(
            of_flow(|flow| flow.partitions = partitions),
            "  copied 0 records, 0 B; behind 3 offsets\n  PAUSED flights: the source topic was deleted\n  \
             PAUSED flights-0: the source topic was deleted"
        );
        let partitions = vec![paused(-1, None, gone), paused(0, None, None), paused(1, Some(3), None)];
        let said = of_flow(|flow| flow.partitions = partitions);
        assert!(said.contains("an unknown number in 1 of 2 partitions"), "{said}");
    }

    #[test]
    fn a_flow_that_finds_no_topic_says_what_it_looks_for() {
        assert_eq!(
            of_flow(|_| {}),
            "  copies nothing: found no topic of west that matches orders, audit.*, or could begin with none yet (then \
             its log says why)"
        );
        // Nothing is known of the topics of a source that does not answer, nor by a flow that waits for its turn.
        let unknown = "copied 0 records, 0 B; behind by an unknown number of offsets";
        for said in [
            of_flow(|flow| flow.source_silent_since_ms = Some(1)),
            of_flow(|flow| flow.state = "waiting".to_owned()),
        ] {
            assert!(said.ends_with(unknown), "{said}");
        }
    }
}
