//! Real clients against `longhaul broker`: produce, consume, groups, admin, segments on disk, kill -9 under load.
//!
//! Nothing here knows how the broker works; it is what Kafka's users would see.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};

use tests::clients::java::{self, Tool};
use tests::clients::python::{Consumed, Python};
use tests::clients::{exchange, kcat};
use tests::deadline::Deadline;
use tests::flights;
use tests::longhaul::{Broker, BrokerSettings, verb};
use tests::scratch::Scratch;

fn start(scratch: &Scratch, settings: BrokerSettings) -> Broker {
    Broker::start(scratch.join("broker"), settings).unwrap()
}

#[test]
fn every_client_reads_what_every_client_wrote() {
    let scratch = Scratch::new().unwrap();
    let broker = start(&scratch, BrokerSettings::default());
    let records = flights::records(2_000).unwrap();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        exchange::between_all(&broker.bootstrap(), &records, codec).unwrap();
    }
}

#[test]
fn records_and_positions_outlive_a_stop_and_a_kill() {
    let scratch = Scratch::new().unwrap();
    let mut broker = start(&scratch, BrokerSettings::default());
    let bootstrap = broker.bootstrap();
    let records = flights::records(3_000).unwrap();
    Python::Confluent.create_topic(&bootstrap, "flights", 1, &["retention.ms=-1"]).unwrap();
    let acknowledged = Python::Confluent.produce(&bootstrap, "flights", &records, &[]).unwrap();
    let first = Python::KafkaPython.consume_as_group(&bootstrap, "flights", "readers", 1_000).unwrap();
    broker.kill9().unwrap();
    broker.restart().unwrap();
    let second = Python::KafkaPython.consume_as_group(&bootstrap, "flights", "readers", 1_000).unwrap();
    broker.stop().unwrap();
    broker.restart().unwrap();
    let third = Python::KafkaPython.consume_as_group(&bootstrap, "flights", "readers", 1_000).unwrap();
    let together: Vec<Consumed> = [first, second, third].concat();
    exchange::is_what_was_written(&records, &acknowledged, &together).unwrap();
    let offsets: Vec<i64> = together.iter().map(|record| record.offset).collect();
    assert_eq!(offsets, (0..3_000).collect::<Vec<_>>(), "the group goes on at the exact next record");
}

#[test]
fn a_static_member_and_a_second_one_share_a_group() {
    let scratch = Scratch::new().unwrap();
    let broker = start(&scratch, BrokerSettings::default());
    let bootstrap = broker.bootstrap();
    let records = flights::records(1_000).unwrap();
    Python::Confluent.create_topic(&bootstrap, "flights", 4, &[]).unwrap();
    Python::Confluent.produce(&bootstrap, "flights", &records, &[]).unwrap();
    let member = |instance: &str, count: &str, log: PathBuf| {
        let arguments = ["group", "--bootstrap", &bootstrap, "--topic", "flights", "--group", "pair"];
        let rest = ["--count", count, "--instance", instance];
        Python::Confluent.start(&[&arguments[..], &rest[..]].concat(), &log).unwrap()
    };
    // Neither finishes alone: each wants half of the records, and holds its partitions until it has them.
    let mut left = member("left", "400", scratch.join("left.log"));
    let mut right = member("right", "400", scratch.join("right.log"));
    let state = Deadline::seconds(30).wait_for("two members in the group", || {
        let described =
            Python::Confluent.call(&["describe-group", "--bootstrap", &bootstrap, "--group", "pair"], &[]);
        Ok(described.ok().and_then(|lines| lines.into_iter().next()).filter(|group| group["members"] == 2))
    });
    let finished = [left.wait(Deadline::seconds(60)), right.wait(Deadline::seconds(60))];
    let logs = format!("{}\n{}", left.log_tail(), right.log_tail());
    assert!(finished.iter().any(|status| status.as_ref().is_ok_and(|status| status.success())), "{logs}");
    state.unwrap();
}

#[test]
fn kafkas_own_tools_administer_it() {
    let scratch = Scratch::new().unwrap();
    let broker = start(&scratch, BrokerSettings::default());
    let bootstrap = broker.bootstrap();
    let server = ["--bootstrap-server", bootstrap.as_str()];
    let tool = |tool: Tool, arguments: &[&str]| {
        java::call(tool, &[&server[..], arguments].concat(), &[]).unwrap_or_else(|error| panic!("{error:#}"))
    };

    let versions = tool(Tool::ApiVersions, &[]);
    assert!(versions.contains("Produce(0)"), "{versions}");
    tool(
        Tool::Topics,
        &["--create", "--topic", "flights", "--partitions", "2", "--config", "retention.ms=-1"],
    );
    let described = tool(Tool::Topics, &["--describe", "--topic", "flights"]);
    assert!(described.contains("PartitionCount: 2") && described.contains("retention.ms=-1"), "{described}");
    tool(Tool::Topics, &["--alter", "--topic", "flights", "--partitions", "3"]);
    let topic = ["--entity-type", "topics", "--entity-name", "flights"];
    tool(Tool::Configs, &[&["--alter", "--add-config", "segment.bytes=1048576"], &topic[..]].concat());
    let configured = tool(Tool::Configs, &[&["--describe"], &topic[..]].concat());
    assert!(configured.contains("segment.bytes=1048576"), "{configured}");

    let lines: String = (0..100).map(|number| format!("line {number}\n")).collect();
    java::call(Tool::ConsoleProducer, &[&server[..], &["--topic", "flights"]].concat(), lines.as_bytes())
        .unwrap();
    let limits = ["--topic", "flights", "--from-beginning", "--max-messages", "100", "--group", "console"];
    let consumed = tool(Tool::ConsoleConsumer, &[&limits[..], &["--timeout-ms", "60000"]].concat());
    let mut sorted: Vec<&str> = consumed.lines().collect();
    sorted.sort_by_key(|line| line.trim_start_matches("line ").parse::<u32>().unwrap_or(u32::MAX));
    assert_eq!(sorted.join("\n") + "\n", lines);
    let groups = tool(Tool::Groups, &["--describe", "--group", "console"]);
    assert!(groups.contains("flights"), "{groups}");

    let offsets = tool(Tool::GetOffsets, &["--topic", "flights"]);
    let ends = offsets.lines().filter_map(|line| line.rsplit(':').next()?.parse::<i64>().ok());
    assert_eq!(ends.sum::<i64>(), 100, "{offsets}");
    let cut = scratch.join("cut.json");
    std::fs::write(&cut, r#"{"partitions":[{"topic":"flights","partition":0,"offset":-1}],"version":1}"#)
        .unwrap();
    tool(Tool::DeleteRecords, &["--offset-json-file", &cut.display().to_string()]);
    let starts = tool(Tool::GetOffsets, &["--topic", "flights", "--time", "earliest", "--partitions", "0"]);
    let ends = tool(Tool::GetOffsets, &["--topic", "flights", "--partitions", "0"]);
    assert_eq!(starts, ends, "partition 0 is cut to its end");

    tool(Tool::Groups, &["--delete", "--group", "console"]);
    tool(Tool::Topics, &["--delete", "--topic", "flights"]);
    let listed = tool(Tool::Topics, &["--list"]);
    assert!(!listed.lines().any(|topic| topic == "flights"), "{listed}");
}

#[test]
fn kcat_writes_and_reads() {
    let scratch = Scratch::new().unwrap();
    let broker = start(&scratch, BrokerSettings::default());
    let bootstrap = broker.bootstrap();
    Python::Aiokafka.create_topic(&bootstrap, "lines", 1, &[]).unwrap();
    kcat::call(&bootstrap, &["-P", "-t", "lines", "-K:"], b"a:1\nb:2\nc:3\n").unwrap();
    let read = kcat::call(
        &bootstrap,
        &["-C", "-t", "lines", "-o", "beginning", "-e", "-q", "-f", "%o %k %s\n"],
        &[],
    );
    assert_eq!(read.unwrap(), "0 a 1\n1 b 2\n2 c 3\n");
}

/// Segment files, named by their base offset as Kafka names them.
fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(segments(&path));
        } else if path.extension().is_some_and(|e| e == "log")
            && stem.len() == 20
            && stem.parse::<i64>().is_ok()
        {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn dump_log_segments_reads_our_segments() {
    let scratch = Scratch::new().unwrap();
    let mut broker = start(&scratch, BrokerSettings::default());
    let bootstrap = broker.bootstrap();
    let records = flights::records(10_000).unwrap();
    let settings = ["segment.bytes=1048576", "retention.ms=-1"];
    Python::Confluent.create_topic(&bootstrap, "flights", 1, &settings).unwrap();
    Python::Confluent.produce(&bootstrap, "flights", &records, &[]).unwrap();
    // What is still in the journal alone is written when it is asked for, and by a stop.
    let admin = broker.admin().to_string();
    verb(&["log", "flush", "--admin", &admin]).unwrap().success().unwrap();
    dumped(&broker.data(), records.len());
    broker.stop().unwrap();
    dumped(&broker.data(), records.len());
}

/// Kafka's own tool finds so many flights in the segments, and nothing wrong.
fn dumped(data: &Path, wanted: usize) {
    let all = segments(data);
    let (mut values, mut ours) = (0, 0);
    for segment in &all {
        let path = segment.display().to_string();
        let dump = java::call(
            Tool::DumpLogSegments,
            &["--deep-iteration", "--print-data-log", "--files", &path],
            &[],
        );
        let dump = dump.unwrap();
        assert!(!dump.contains("isvalid: false") && !dump.contains("Found"), "{path}:\n{dump}");
        let flights = dump.lines().filter(|line| line.contains("\"carrier\"")).count();
        values += flights;
        ours += usize::from(flights > 0);
    }
    assert_eq!(values, wanted, "in {all:?}");
    assert!(ours >= 3, "10,000 flights fill several segments of 1 MiB, not {ours}");
}
