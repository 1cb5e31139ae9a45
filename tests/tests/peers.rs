//! The harness itself: the real peers come up, answer the real clients, die and come back.
//!
//! A fault of a peer's set-up shows here by its name, before it can look like a fault of ours elsewhere.

use tests::clients::java::{self, Tool};
use tests::clients::kcat;
use tests::clients::python::Python;
use tests::flights;
use tests::kafka::Kafka;
use tests::minio::Minio;
use tests::scratch::Scratch;

#[test]
fn apache_kafka_serves_every_client_and_survives_a_kill() {
    let scratch = Scratch::new().unwrap();
    let mut kafka = Kafka::start(scratch.join("kafka"), &[]).unwrap();
    let bootstrap = kafka.bootstrap();
    let records = flights::records(500).unwrap();
    for client in Python::ALL {
        let topic = format!("{client:?}");
        client.create_topic(&bootstrap, &topic, 3, &["retention.ms=-1"]).unwrap();
        let acknowledged = client.produce(&bootstrap, &topic, &records, &["--codec", "lz4"]).unwrap();
        for reader in Python::ALL {
            let consumed = reader.consume_all(&bootstrap, &topic).unwrap();
            assert_eq!(consumed.len(), records.len(), "{reader:?} reads what {client:?} wrote");
            for place in &acknowledged {
                let at_place = |c: &&_| same_place(c, place);
                let found = consumed.iter().find(at_place).expect("the acknowledged place");
                assert_eq!(found.value.as_ref(), Some(&records[place.sequence].value));
                assert_eq!(found.timestamp_ms, records[place.sequence].timestamp_ms);
            }
        }
        let seen = client.consume_as_group(&bootstrap, &topic, "readers", records.len()).unwrap();
        assert_eq!(seen.len(), records.len());
    }
    kafka.kill9().unwrap();
    kafka.restart().unwrap();
    let listed = java::call(Tool::Topics, &["--bootstrap-server", &bootstrap, "--list"], &[]).unwrap();
    assert!(listed.lines().any(|topic| topic == "Aiokafka"), "{listed}");
    let metadata = kcat::call(&bootstrap, &["-L"], &[]).unwrap();
    assert!(metadata.contains("topic \"Confluent\" with 3 partitions"), "{metadata}");
}

fn same_place(
    consumed: &tests::clients::python::Consumed,
    acknowledged: &tests::clients::python::Acknowledged,
) -> bool {
    (consumed.partition, consumed.offset) == (acknowledged.partition, acknowledged.offset)
}

#[test]
fn minio_comes_up_again_after_a_kill() {
    let scratch = Scratch::new().unwrap();
    let mut minio = Minio::start(scratch.join("minio")).unwrap();
    minio.make_bucket("longhaul").unwrap();
    minio.kill9().unwrap();
    minio.restart().unwrap();
    minio.process().ensure_running().unwrap();
}
