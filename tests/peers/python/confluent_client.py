"""confluent-kafka (librdkafka) behind the scripts' contract, and the load generator of the kill tests."""

import json
import signal
import sys
import threading
import time

import confluent_kafka as ck
from confluent_kafka.admin import AdminClient, NewTopic

import contract


def producer_settings(o):
    return {
        "bootstrap.servers": o.bootstrap,
        "acks": o.acks,
        "enable.idempotence": o.idempotent,
        "compression.type": o.codec,
        "batch.size": o.batch_bytes,
        "delivery.timeout.ms": int(o.seconds * 1000),
        "reconnect.backoff.ms": 20,
        "reconnect.backoff.max.ms": 200,
        "retry.backoff.ms": 20,
        # A kill test refuses thousands of connections; only what a verb itself finds wrong is worth a line.
        "log_level": 2,
    }


def produce(o):
    producer = ck.Producer(producer_settings(o))
    failures = []

    def delivered(sequence):
        def report(error, message):
            if error is not None:
                failures.append(f"record {sequence}: {error}")
            else:
                contract.answer(sequence=sequence, partition=message.partition(), offset=message.offset())

        return report

    where = {} if o.partition is None else {"partition": o.partition}
    for sequence, record in enumerate(contract.records()):
        arguments = dict(
            key=contract.encoded(record["key"]),
            value=contract.encoded(record["value"]),
            timestamp=record["timestamp"],
            on_delivery=delivered(sequence),
            **where,
        )
        while True:
            try:
                producer.produce(o.topic, **arguments)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    if producer.flush(o.seconds) or failures:
        contract.fail(failures[:3] or "records were left unacknowledged")


def load(o):
    """Produces up to 20,000 records a second until SIGTERM, records named by their number; for kill tests.

    Prints {"sequence", "partition", "offset"} per acknowledgement and {"in_flight": N}, requests sent and not yet
    answered, every few milliseconds.
    """
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())

    def statistics(text):
        brokers = json.loads(text)["brokers"].values()
        sys.stdout.write(json.dumps({"in_flight": sum(broker["waitresp_cnt"] for broker in brokers)}) + "\n")
        sys.stdout.flush()

    settings = producer_settings(o) | {
        "statistics.interval.ms": 5,
        "stats_cb": statistics,
        "linger.ms": 1,
        "queue.buffering.max.messages": 20000,
    }
    producer = ck.Producer(settings)
    failures = []

    def delivered(error, message):
        sequence = int(message.key())
        if error is not None:
            failures.append(f"record {sequence}: {error}")
            stop.set()
        else:
            contract.answer(sequence=sequence, partition=message.partition(), offset=message.offset())

    sequence = 0
    filler = "x" * 200
    while not stop.is_set():
        try:
            producer.produce(o.topic, key=str(sequence).encode(), value=f"{sequence} {filler}".encode(), on_delivery=delivered)
            sequence += 1
        except BufferError:
            producer.poll(0.01)
        producer.poll(0)
        if sequence % 100 == 0:
            time.sleep(0.005)
    left = producer.flush(o.seconds)
    if left or failures:
        contract.fail(failures[:3] or f"{left} records were left unacknowledged")
    contract.answer(produced=sequence)


def consumer(o, group, **settings):
    return ck.Consumer(
        {
            "bootstrap.servers": o.bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "check.crcs": True,
            "fetch.wait.max.ms": 100,
            "isolation.level": "read_committed" if o.committed else "read_uncommitted",
            **settings,
        }
    )


def checked(message):
    if message.error() is not None:
        contract.fail(message.error())
    return message


def show(message):
    contract.answer_record(
        message.partition(), message.offset(), message.timestamp()[1], message.key(), message.value()
    )


def consume(o):
    reader = consumer(o, "unused", **{"enable.partition.eof": True})
    known = reader.list_topics(o.topic, timeout=o.seconds).topics[o.topic].partitions
    start = ck.OFFSET_BEGINNING if o.start == "earliest" else int(o.start)
    wanted = [p for p in sorted(known) if o.partition is None or p == o.partition]
    reader.assign([ck.TopicPartition(o.topic, p, start) for p in wanted])
    unfinished = set(wanted)
    deadline = time.monotonic() + o.seconds
    while unfinished:
        if time.monotonic() > deadline:
            contract.fail(f"partitions {sorted(unfinished)} were not read to their ends")
        for message in reader.consume(1000, timeout=0.2):
            if message.error() is not None and message.error().code() == ck.KafkaError._PARTITION_EOF:
                unfinished.discard(message.partition())
            else:
                show(checked(message))
    reader.close()


def group(o):
    settings = {"session.timeout.ms": 10000}
    if o.instance:
        settings["group.instance.id"] = o.instance
    reader = consumer(o, o.group, **settings)
    reader.subscribe([o.topic])
    seen = 0
    deadline = time.monotonic() + o.seconds
    while seen < o.count:
        if time.monotonic() > deadline:
            contract.fail(f"{seen} of {o.count} records in time")
        for message in reader.consume(min(500, o.count - seen), timeout=0.2):
            show(checked(message))
            seen += 1
        if seen:
            # What the member was given, never what the client fetched ahead; a kill -9 finds it said before it is committed.
            sys.stdout.flush()
            reader.commit(asynchronous=False)
    reader.close()


def admin(o):
    return AdminClient({"bootstrap.servers": o.bootstrap})


def wait_all(futures):
    return {key: future.result() for key, future in futures.items()}


# Each verb keeps its client in a name: one that is collected ends its requests.
def create_topic(o):
    client = admin(o)
    wait_all(client.create_topics([NewTopic(o.topic, o.partitions, 1, config=o.config)], operation_timeout=30))


def delete_topic(o):
    client = admin(o)
    wait_all(client.delete_topics([o.topic], operation_timeout=30))


def delete_records(o):
    client = admin(o)
    wait_all(client.delete_records([ck.TopicPartition(o.topic, o.partition or 0, o.before)]))


def topics(o):
    client = admin(o)
    for name, topic in client.list_topics(timeout=30).topics.items():
        contract.answer(topic=name, partitions=len(topic.partitions))


def offsets(o):
    reader = consumer(o, "unused")
    for p in sorted(reader.list_topics(o.topic, timeout=30).topics[o.topic].partitions):
        start, end = reader.get_watermark_offsets(ck.TopicPartition(o.topic, p), timeout=30)
        contract.answer(partition=p, start=start, end=end)


def describe_group(o):
    client = admin(o)
    described = wait_all(client.describe_consumer_groups([o.group]))[o.group]
    listed = wait_all(client.list_consumer_group_offsets([ck.ConsumerGroupTopicPartitions(o.group)]))[o.group]
    contract.answer(
        state=described.state.name,
        members=len(described.members),
        offsets={f"{p.topic}-{p.partition}": p.offset for p in listed.topic_partitions},
    )


contract.run(
    {
        "produce": produce,
        "load": load,
        "consume": consume,
        "group": group,
        "create-topic": create_topic,
        "delete-topic": delete_topic,
        "delete-records": delete_records,
        "topics": topics,
        "offsets": offsets,
        "describe-group": describe_group,
    }
)
