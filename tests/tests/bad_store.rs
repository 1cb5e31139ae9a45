//! Stores and disks that are wrong: each fault has its own error, harms nobody else, and loses nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use client::fetch::{FetchFrom, FetchRound, Fetched};
use client::{Isolation, Lane, TopicPartition};
use tests::clients::exchange::is_what_was_written;
use tests::clients::python::{Acknowledged, Consumed, Python};
use tests::deadline::{Deadline, sleep};
use tests::flights::{self, Record};
use tests::flow::connect;
use tests::longhaul::{Broker, BrokerSettings};
use tests::minio::{ACCESS_KEY, Minio, REGION, SECRET_KEY};
use tests::ready::http_get;
use tests::scratch::Scratch;
use tests::tiered::{self, LOCAL_LIMIT_BYTES, ask, make_topic, partitions_of, tier, wait_until_released};
use tiering::store::{PutOutcome, Secret, Store, StoreKey, StoreUrl, list_all, open_store};
use wire::{ErrorCode, LeaderEpoch, Offset, TopicId};

const TOPIC: &str = "flights";
/// What librdkafka makes of the code CORRUPT_MESSAGE.
const CORRUPT: &str = "Broker: Invalid message";

fn store_url(minio: &Minio, name: &str) -> StoreUrl {
    let mut url: StoreUrl = tiered::store_of(name).parse().unwrap();
    url.endpoint = Some(minio.endpoint());
    url.region = Some(REGION.to_owned());
    url.credentials = Some((ACCESS_KEY.to_owned(), Secret::new(SECRET_KEY)));
    url
}

/// The store, for a hand that should not be in it.
struct Hand {
    store: Arc<dyn Store>,
    runtime: tokio::runtime::Runtime,
}

impl Hand {
    fn into(minio: &Minio, name: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let store = runtime.block_on(async { open_store(&store_url(minio, name)) }).unwrap();
        Self { store, runtime }
    }

    /// Segments of a partition, oldest first.
    fn segments(&self, partition: i32) -> Vec<StoreKey> {
        let all = self.runtime.block_on(list_all(&*self.store, "")).unwrap();
        let of_partition = |key: &StoreKey| {
            key.as_str().ends_with(".seg") && key.as_str().contains(&format!("/{partition}/"))
        };
        let mut keys: Vec<StoreKey> = all.into_iter().map(|entry| entry.key).filter(of_partition).collect();
        keys.sort();
        keys
    }

    fn get(&self, key: &StoreKey) -> Bytes {
        self.runtime.block_on(self.store.get(key, 64 << 20)).unwrap()
    }

    fn replace(&self, key: &StoreKey, bytes: Bytes) {
        self.runtime.block_on(self.store.delete(key)).unwrap();
        let put = self.runtime.block_on(self.store.put_if_absent(key, vec![bytes]));
        assert!(matches!(put, PutOutcome::Created), "{put:?}");
    }
}

/// Reads one partition to its end, from an offset on; the error of a reader that does not get there.
fn read(broker: &Broker, partition: i32, from: i64) -> Result<Vec<Consumed>, String> {
    let (bootstrap, partition, from) = (broker.bootstrap(), partition.to_string(), from.to_string());
    let asked = [
        "consume",
        "--bootstrap",
        &bootstrap,
        "--topic",
        TOPIC,
        "--partition",
        &partition,
        "--from",
        &from,
        "--seconds",
        "6",
    ];
    let lines = Python::Confluent.call(&asked, &[]).map_err(|error| format!("{error:#}"))?;
    Ok(lines.iter().map(|line| tests::clients::python::consumed(line).unwrap()).collect())
}

/// The records of one partition are there from an offset on, each in its place.
fn is_whole(broker: &Broker, partition: i32, from: i64, sent: &Sent) {
    let found = read(broker, partition, from).unwrap();
    let found: BTreeMap<i64, &Consumed> = found.iter().map(|record| (record.offset, record)).collect();
    let wanted =
        sent.acknowledged.iter().filter(|place| place.partition == partition && place.offset >= from);
    let mut count = 0;
    for place in wanted {
        let value = found[&place.offset].value.as_deref();
        assert_eq!(value, Some(sent.records[place.sequence].value.as_str()), "{place:?}");
        count += 1;
    }
    assert_eq!(found.len(), count);
}

struct Sent {
    records: Vec<Record>,
    acknowledged: Vec<Acknowledged>,
}

impl Sent {
    /// With what was sent after it.
    fn and(mut self, more: Sent) -> Self {
        let before = self.records.len();
        let moved = |place: Acknowledged| Acknowledged { sequence: before + place.sequence, ..place };
        self.acknowledged.extend(more.acknowledged.into_iter().map(moved));
        self.records.extend(more.records);
        self
    }
}

fn send(broker: &Broker, count: usize) -> Sent {
    let records = flights::records(count).unwrap();
    let acknowledged = Python::Confluent.produce(&broker.bootstrap(), TOPIC, &records, &[]).unwrap();
    Sent { records, acknowledged }
}

fn wait_for_alarm(broker: &Broker, says: &str) {
    Deadline::seconds(30)
        .wait_for(&format!("an alarm with {says:?}"), || {
            let alarms =
                ask(&broker.admin().to_string())?.broker.map(|broker| broker.alarms).unwrap_or_default();
            Ok(alarms.iter().any(|alarm| alarm.contains(says)).then_some(()))
        })
        .unwrap();
}

#[test]
fn damaged_and_swapped_objects_are_named_and_everything_else_is_served() {
    let scratch = Scratch::new().unwrap();
    let minio = Minio::start(scratch.join("minio")).unwrap();
    let mut west = tiered::start(&scratch, "west", &minio).unwrap();
    make_topic(&west, TOPIC, 3).unwrap();
    let sent = send(&west, 60_000);
    wait_until_released(&west, TOPIC).unwrap();

    let hand = Hand::into(&minio, "west");
    let (damaged, swapped) = (hand.segments(0), hand.segments(1));
    let good = hand.get(&damaged[1]);
    let mut bad = good.to_vec();
    bad[1_000] ^= 1;
    hand.replace(&damaged[1], Bytes::from(bad));
    let (first, second) = (hand.get(&swapped[0]), hand.get(&swapped[1]));
    hand.replace(&swapped[0], second.clone());
    hand.replace(&swapped[1], first.clone());
    // What was read ahead, or remembered, is forgotten.
    west.kill9().unwrap();
    west.restart().unwrap();

    for partition in [0, 1] {
        let error = read(&west, partition, 0).unwrap_err();
        assert!(error.contains(CORRUPT), "{error}");
    }
    is_whole(&west, 2, 0, &sent);
    // Beyond the damage, everything is there.
    is_whole(&west, 0, base_offset(&damaged[2]), &sent);
    is_whole(&west, 1, base_offset(&swapped[2]), &sent);
    wait_for_alarm(&west, "are damaged: `longhaul tier verify` names them");
    let verified = tier(&["verify", "--store", &tiered::store_of("west")], &minio).unwrap();
    let faults: Vec<&str> = verified.stdout.lines().filter(|line| line.starts_with("FAULT")).collect();
    assert_eq!(faults.len(), 3, "{}", verified.stdout);
    for key in [&damaged[1], &swapped[0], &swapped[1]] {
        assert!(faults.iter().any(|fault| fault.contains(key.as_str())), "{}", verified.stdout);
    }
    assert!(!verified.status.success());
    Python::Confluent.produce(&west.bootstrap(), TOPIC, &sent.records[..100], &[]).unwrap();

    // Nothing was lost: once the objects are what they were, so is the log.
    hand.replace(&damaged[1], good);
    hand.replace(&swapped[0], first);
    hand.replace(&swapped[1], second);
    tier(&["verify", "--store", &tiered::store_of("west")], &minio).unwrap().success().unwrap();
    let consumed = Python::Confluent.consume_all(&west.bootstrap(), TOPIC).unwrap();
    assert_eq!(consumed.len(), sent.records.len() + 100);
}

fn base_offset(key: &StoreKey) -> i64 {
    let name = key.as_str().rsplit('/').next().unwrap();
    name.split('-').next().unwrap().parse().unwrap()
}

/// Credentials that may read and nothing else.
fn readers_environment(minio: &Minio) -> Vec<(&'static str, String)> {
    let printed = minio.call("minio_reader.py", &[]).unwrap();
    let credentials: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let of = |name: &str| credentials[name].as_str().unwrap();
    let mut environment = minio.environment_of(of("access_key"), of("secret_key"));
    environment.push(("AWS_SESSION_TOKEN", of("session_token").to_owned()));
    environment
}

#[test]
fn a_bucket_without_the_rights_is_refused_by_name_and_keeps_what_it_has() {
    let scratch = Scratch::new().unwrap();
    let minio = Minio::start(scratch.join("minio")).unwrap();
    let mut west = tiered::start(&scratch, "west", &minio).unwrap();
    make_topic(&west, TOPIC, 1).unwrap();
    let sent = send(&west, 20_000);
    wait_until_released(&west, TOPIC).unwrap();
    west.stop().unwrap();

    let reader = readers_environment(&minio);
    west.settings_mut().environment = reader.clone();
    let refusal = west.refusal().unwrap();
    assert!(refusal.contains("denies") && refusal.contains("s3://longhaul/west"), "{refusal}");
    let store = tiered::store_of("west");
    let init = tests::longhaul::verb_with(&["tier", "init", "--store", &store], &reader).unwrap();
    assert!(!init.status.success() && init.stderr.contains("denies"), "{}", init.stderr);
    // Whoever may only read, can.
    let inspect = tests::longhaul::verb_with(&["tier", "verify", "--store", &store], &reader).unwrap();
    inspect.success().unwrap();
    let new = Broker::start(
        scratch.join("new"),
        BrokerSettings { environment: reader, ..tiered::settings("new", &minio) },
    );
    assert!(format!("{:#}", new.err().unwrap()).contains("denies"));

    west.settings_mut().environment = minio.environment();
    west.restart().unwrap();
    let consumed = Python::Confluent.consume_all(&west.bootstrap(), TOPIC).unwrap();
    is_what_was_written(&sent.records, &sent.acknowledged, &consumed).unwrap();
}

/// All that a broker needs of its bucket.
const RIGHTS: [&str; 4] = ["s3:GetObject", "s3:PutObject", "s3:ListBucket", "s3:DeleteObject"];
/// A user of MinIO whose rights change, and its password.
const KEEPER: (&str, &str) = ("keeper", "password-of-keeper");

fn allow_all_but(minio: &Minio, missing: &[&str]) {
    let allowed: Vec<&str> = RIGHTS.into_iter().filter(|right| !missing.contains(right)).collect();
    minio.allow(KEEPER.0, KEEPER.1, &allowed).unwrap();
}

fn wait_for_store(broker: &Broker, what: &str, is_so: impl Fn(Option<&str>) -> bool) {
    Deadline::seconds(90)
        .wait_for(what, || {
            let status = ask(&broker.admin().to_string())?;
            let store = status.broker.and_then(|broker| broker.store).expect("the broker has a store");
            Ok(is_so(store.failure.as_deref()).then_some(()))
        })
        .unwrap();
}

/// The right, such as `write (s3:PutObject)`, is named wherever one looks; and the broker is as healthy as ever.
fn names_the_missing(broker: &mut Broker, right: &str) {
    let says = format!("denies the right to {right}");
    wait_for_alarm(broker, &says);
    wait_for_store(broker, &says, |failure| failure.is_some_and(|failure| failure.contains(&says)));
    let (_, metrics) = http_get(broker.admin(), "/metrics").unwrap();
    let word = right.split(' ').next().unwrap();
    assert!(metrics.contains(&format!("longhaul_tier_store_failing{{right=\"{word}\"}} 1")), "{metrics}");
    for page in ["/healthz", "/readyz"] {
        assert_eq!(http_get(broker.admin(), page).unwrap().0, 200, "{page}");
    }
    assert!(broker.process().log().contains(&says));
}

fn tiered_end(broker: &Broker) -> i64 {
    partitions_of(broker, TOPIC).unwrap()[&0].tiered_end_offset.unwrap()
}

/// What the store does not have stays on local disk, whatever the limits say.
fn nothing_is_released_beyond(broker: &Broker, tiered_end: i64) {
    let partition = partitions_of(broker, TOPIC).unwrap().remove(&0).unwrap();
    assert_eq!(partition.tiered_end_offset, Some(tiered_end), "{partition:?}");
    assert!(partition.local_log_start_offset <= tiered_end, "{partition:?}");
    assert!(partition.local_bytes > LOCAL_LIMIT_BYTES + (2 << 20), "{partition:?}");
}

fn goes_on_by_itself(broker: &Broker, beyond: i64) {
    Deadline::seconds(120)
        .wait_for("tiering to go on", || Ok((tiered_end(broker) > beyond).then_some(())))
        .unwrap();
    wait_until_released(broker, TOPIC).unwrap();
    wait_for_store(broker, "the store to work", |failure| failure.is_none());
}

/// What one fetch of the log's beginning is answered, with no client's retries in between.
fn fetch_the_beginning(broker: &Broker) -> Fetched {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let partition = TopicPartition::new(TOPIC, 0);
    let from = FetchFrom {
        partition: partition.clone(),
        topic_id: TopicId::ZERO,
        offset: Offset(0),
        leader_epoch: LeaderEpoch::NONE,
        last_fetched_epoch: LeaderEpoch::NONE,
        max_bytes: 1 << 20,
    };
    let round = FetchRound {
        partitions: vec![from],
        max_wait: Duration::from_millis(200),
        min_bytes: 1,
        max_bytes: 1 << 20,
        isolation: Isolation::ReadCommitted,
        lane: Lane::Fetch,
    };
    runtime.block_on(async {
        let cluster = connect(&broker.bootstrap()).await.unwrap();
        cluster.refresh(std::slice::from_ref(&partition.topic)).await.unwrap();
        let leader = cluster.leader(&partition).await.unwrap();
        cluster.fetch(leader.broker, &round).await.unwrap().remove(0)
    })
}

#[test]
fn rights_that_are_taken_from_a_running_broker_are_named_and_used_again_when_they_are_back() {
    let scratch = Scratch::new().unwrap();
    let minio = Minio::start(scratch.join("minio")).unwrap();
    let store = tiered::store_of("west");
    tier(&["init", "--store", &store], &minio).unwrap().success().unwrap();
    allow_all_but(&minio, &[]);
    let environment = minio.environment_of(KEEPER.0, KEEPER.1);
    let settings = BrokerSettings { environment, ..tiered::settings("west", &minio) };
    let mut west = Broker::start(scratch.join("west"), settings).unwrap();
    make_topic(&west, TOPIC, 1).unwrap();
    let sent = send(&west, 20_000);
    wait_until_released(&west, TOPIC).unwrap();

    // Nothing can be written there: writers and readers notice nothing.
    allow_all_but(&minio, &["s3:PutObject"]);
    let sent = sent.and(send(&west, 20_000));
    names_the_missing(&mut west, "write (s3:PutObject)");
    let end = tiered_end(&west);
    let consumed = Python::Confluent.consume_all(&west.bootstrap(), TOPIC).unwrap();
    is_what_was_written(&sent.records, &sent.acknowledged, &consumed).unwrap();
    nothing_is_released_beyond(&west, end);
    allow_all_but(&minio, &[]);
    goes_on_by_itself(&west, end);

    // Nothing can be read there: readers of that part, and they alone, are told to try again.
    allow_all_but(&minio, &["s3:GetObject"]);
    let sent = sent.and(send(&west, 20_000));
    names_the_missing(&mut west, "read (s3:GetObject)");
    let end = tiered_end(&west);
    let cold = fetch_the_beginning(&west);
    assert_eq!((cold.code, cold.records.len()), (ErrorCode::REPLICA_NOT_AVAILABLE, 0));
    is_whole(&west, 0, end, &sent);
    let bootstrap = west.bootstrap();
    let reader = std::thread::spawn(move || Python::Confluent.consume_all(&bootstrap, TOPIC));
    sleep(Duration::from_secs(3));
    assert!(!reader.is_finished(), "{:?}", reader.join());
    nothing_is_released_beyond(&west, end);
    allow_all_but(&minio, &[]);
    let consumed = reader.join().unwrap().unwrap();
    is_what_was_written(&sent.records, &sent.acknowledged, &consumed).unwrap();
    goes_on_by_itself(&west, end);

    let consumed = Python::Confluent.consume_all(&west.bootstrap(), TOPIC).unwrap();
    is_what_was_written(&sent.records, &sent.acknowledged, &consumed).unwrap();
    tier(&["verify", "--store", &store], &minio).unwrap().success().unwrap();
}

#[test]
fn a_bucket_in_use_by_another_cluster_is_refused_and_its_owner_is_not_disturbed() {
    let scratch = Scratch::new().unwrap();
    let minio = Minio::start(scratch.join("minio")).unwrap();
    let west = tiered::start(&scratch, "west", &minio).unwrap();
    make_topic(&west, TOPIC, 1).unwrap();
    let sent = send(&west, 20_000);
    wait_until_released(&west, TOPIC).unwrap();

    // A cluster of its own, with a topic, which had no store before.
    let mut east = Broker::start(scratch.join("east"), BrokerSettings::default()).unwrap();
    make_topic(&east, TOPIC, 1).unwrap();
    east.stop().unwrap();
    let store = tiered::store_of("west");
    let environment = minio.environment();
    *east.settings_mut() =
        BrokerSettings { environment, ..BrokerSettings::default() }.with("--store").with(store.clone());
    let refusal = east.refusal().unwrap();
    assert!(
        refusal.contains("belongs to cluster \"west\"") && refusal.contains("prefix of its own"),
        "{refusal}"
    );
    // A new folder: maybe a lost one.
    std::fs::remove_dir_all(east.data()).unwrap();
    let refusal = east.refusal().unwrap();
    assert!(refusal.contains("longhaul tier recover --data DIR --store s3://longhaul/west"), "{refusal}");
    assert_eq!(std::fs::read_dir(east.data()).unwrap().count(), 0, "the folder is as empty as before");

    Python::Confluent.produce(&west.bootstrap(), TOPIC, &sent.records[..100], &[]).unwrap();
    let consumed = Python::Confluent.consume_all(&west.bootstrap(), TOPIC).unwrap();
    assert_eq!(consumed.len(), sent.records.len() + 100);
    tier(&["verify", "--store", &store], &minio).unwrap().success().unwrap();
}

#[test]
fn a_torn_local_segment_is_an_error_of_its_own_range_alone() {
    let scratch = Scratch::new().unwrap();
    let mut west = Broker::start(scratch.join("west"), BrokerSettings::default()).unwrap();
    make_topic(&west, TOPIC, 2).unwrap();
    let sent = send(&west, 30_000);
    west.stop().unwrap();

    let segments = local_segments(&west, 0);
    assert!(segments.len() >= 3, "{segments:?}");
    let whole = std::fs::read(&segments[1]).unwrap();
    std::fs::write(&segments[1], &whole[..whole.len() / 2]).unwrap();
    west.restart().unwrap();

    let error = read(&west, 0, 0).unwrap_err();
    assert!(error.contains(CORRUPT), "{error}");
    is_whole(&west, 1, 0, &sent);
    let behind = segments[2].file_stem().unwrap().to_str().unwrap().parse().unwrap();
    is_whole(&west, 0, behind, &sent);
    Python::Confluent.produce(&west.bootstrap(), TOPIC, &sent.records[..100], &[]).unwrap();

    std::fs::write(&segments[1], &whole).unwrap();
    west.kill9().unwrap();
    west.restart().unwrap();
    let consumed = Python::Confluent.consume_all(&west.bootstrap(), TOPIC).unwrap();
    assert_eq!(consumed.len(), sent.records.len() + 100);
}

/// Files with a partition's batches, oldest first.
fn local_segments(broker: &Broker, partition: i32) -> Vec<std::path::PathBuf> {
    let folders = std::fs::read_dir(broker.data()).unwrap().map(|entry| entry.unwrap().path());
    let of_partition = |path: &std::path::PathBuf| {
        path.is_dir() && path.to_str().unwrap().ends_with(&format!("-{partition}"))
    };
    let files = folders.filter(of_partition).flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let mut logs: Vec<std::path::PathBuf> = files
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    logs.sort();
    logs
}
