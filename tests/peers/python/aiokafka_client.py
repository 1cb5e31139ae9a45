"""aiokafka behind the scripts' contract."""

import asyncio
import time

import aiokafka
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

import contract


async def produce(o):
    producer = aiokafka.AIOKafkaProducer(
        bootstrap_servers=o.bootstrap,
        acks=o.acks if o.acks == "all" else int(o.acks),
        enable_idempotence=o.idempotent,
        compression_type=None if o.codec == "none" else o.codec,
        max_batch_size=o.batch_bytes,
    )
    async with producer:
        sent = [
            await producer.send(
                o.topic,
                key=contract.encoded(record["key"]),
                value=contract.encoded(record["value"]),
                timestamp_ms=record["timestamp"],
                partition=o.partition,
            )
            for record in contract.records()
        ]
        for sequence, future in enumerate(sent):
            place = await asyncio.wait_for(future, o.seconds)
            contract.answer(sequence=sequence, partition=place.partition, offset=place.offset)


def consumer(o, *topics, **settings):
    return aiokafka.AIOKafkaConsumer(
        *topics,
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


async def partitions_of(reader, topic):
    # A consumer that is assigned nothing learns of no topic by itself.
    await reader._client._wait_on_metadata(topic)
    return sorted(reader.partitions_for_topic(topic))


async def consume(o):
    async with consumer(o) as reader:
        known = await partitions_of(reader, o.topic)
        wanted = [aiokafka.TopicPartition(o.topic, p) for p in known if o.partition is None or p == o.partition]
        reader.assign(wanted)
        ends = await reader.end_offsets(wanted)
        if o.start == "earliest":
            await reader.seek_to_beginning(*wanted)
        else:
            for partition in wanted:
                reader.seek(partition, int(o.start))
        deadline = time.monotonic() + o.seconds
        unfinished = {partition for partition in wanted}
        while unfinished:
            if time.monotonic() > deadline:
                contract.fail("the partitions were not read to their ends")
            for batch in (await reader.getmany(timeout_ms=200)).values():
                for record in batch:
                    show(record)
            for partition in list(unfinished):
                if await reader.position(partition) >= ends[partition]:
                    unfinished.discard(partition)


async def group(o):
    settings = {"group_instance_id": o.instance} if o.instance else {}
    async with consumer(o, o.topic, group_id=o.group, session_timeout_ms=10000, **settings) as reader:
        seen = 0
        deadline = time.monotonic() + o.seconds
        while seen < o.count:
            if time.monotonic() > deadline:
                contract.fail(f"{seen} of {o.count} records in time")
            for batch in (await reader.getmany(timeout_ms=200, max_records=o.count - seen)).values():
                for record in batch:
                    show(record)
                    seen += 1
        await reader.commit()


async def create_topic(o):
    client = AIOKafkaAdminClient(bootstrap_servers=o.bootstrap)
    await client.start()
    try:
        await client.create_topics([NewTopic(o.topic, o.partitions, 1, topic_configs=o.config)])
    finally:
        await client.close()


async def offsets(o):
    async with consumer(o) as reader:
        known = await partitions_of(reader, o.topic)
        wanted = [aiokafka.TopicPartition(o.topic, p) for p in known]
        starts, ends = await reader.beginning_offsets(wanted), await reader.end_offsets(wanted)
        for partition in wanted:
            contract.answer(partition=partition.partition, start=starts[partition], end=ends[partition])


def in_loop(verb):
    return lambda o: asyncio.run(verb(o))


contract.run(
    {
        "produce": in_loop(produce),
        "consume": in_loop(consume),
        "group": in_loop(group),
        "create-topic": in_loop(create_topic),
        "offsets": in_loop(offsets),
    }
)
