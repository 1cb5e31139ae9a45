"""kafka-python behind the scripts' contract."""

import time

import kafka
from kafka.admin import KafkaAdminClient, NewTopic

import contract


def produce(o):
    producer = kafka.KafkaProducer(
        bootstrap_servers=o.bootstrap,
        acks=o.acks,
        enable_idempotence=o.idempotent,
        compression_type=None if o.codec == "none" else o.codec,
        batch_size=o.batch_bytes,
    )
    sent = [
        producer.send(
            o.topic,
            key=contract.encoded(record["key"]),
            value=contract.encoded(record["value"]),
            timestamp_ms=record["timestamp"],
            partition=o.partition,
        )
        for record in contract.records()
    ]
    producer.flush(o.seconds)
    for sequence, future in enumerate(sent):
        place = future.get(o.seconds)
        contract.answer(sequence=sequence, partition=place.partition, offset=place.offset)
    producer.close(10)


def consumer(o, **settings):
    return kafka.KafkaConsumer(
        bootstrap_servers=o.bootstrap,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        check_crcs=True,
        fetch_max_wait_ms=100,
        isolation_level="read_committed" if o.committed else "read_uncommitted",
        **settings,
    )


def show(record):
    contract.answer_record(record.partition, record.offset, record.timestamp, record.key, record.value)


def consume(o):
    reader = consumer(o)
    known = sorted(reader.partitions_for_topic(o.topic))
    wanted = [kafka.TopicPartition(o.topic, p) for p in known if o.partition is None or p == o.partition]
    reader.assign(wanted)
    ends = reader.end_offsets(wanted)
    if o.start == "earliest":
        reader.seek_to_beginning(*wanted)
    else:
        for partition in wanted:
            reader.seek(partition, int(o.start))
    deadline = time.monotonic() + o.seconds
    while any(reader.position(partition) < ends[partition] for partition in wanted):
        if time.monotonic() > deadline:
            contract.fail("the partitions were not read to their ends")
        for batch in reader.poll(200).values():
            for record in batch:
                show(record)
    reader.close()


def group(o):
    settings = {"group_instance_id": o.instance} if o.instance else {}
    reader = consumer(o, group_id=o.group, session_timeout_ms=10000, max_poll_records=1, **settings)
    reader.subscribe([o.topic])
    # The leader of a group joins it once more as soon as it has learnt of the topic's partitions, at any moment: what was read is then
    # read again from the last commit, and a commit in the midst of it is refused, to be tried again after a poll.
    shown = {}
    count = 0
    deadline = time.monotonic() + o.seconds
    while True:
        if time.monotonic() > deadline:
            contract.fail(f"{count} of {o.count} records in time")
        for partition, batch in reader.poll(200).items():
            for record in batch:
                if record.offset > shown.get(partition, -1):
                    show(record)
                    shown[partition] = record.offset
                    count += 1
        if count < o.count:
            continue
        assigned = reader.assignment()
        if any(partition not in assigned or reader.position(partition) <= last for partition, last in shown.items()):
            continue
        try:
            reader.commit()
            break
        except (kafka.errors.CommitFailedError, kafka.errors.RebalanceInProgressError):
            continue
    reader.close()


def admin(o):
    return KafkaAdminClient(bootstrap_servers=o.bootstrap)


def create_topic(o):
    admin(o).create_topics([NewTopic(o.topic, o.partitions, 1, topic_configs=o.config)])


def delete_topic(o):
    admin(o).delete_topics([o.topic])


def topics(o):
    reader = consumer(o)
    for name in sorted(reader.topics()):
        contract.answer(topic=name, partitions=len(reader.partitions_for_topic(name)))


def offsets(o):
    reader = consumer(o)
    wanted = [kafka.TopicPartition(o.topic, p) for p in sorted(reader.partitions_for_topic(o.topic))]
    starts, ends = reader.beginning_offsets(wanted), reader.end_offsets(wanted)
    for partition in wanted:
        contract.answer(partition=partition.partition, start=starts[partition], end=ends[partition])


contract.run(
    {
        "produce": produce,
        "consume": consume,
        "group": group,
        "create-topic": create_topic,
        "delete-topic": delete_topic,
        "topics": topics,
        "offsets": offsets,
    }
)
