"""What a flow's source may hold, written by confluent-kafka: everything that makes offsets of source and target differ.

  fill BOOTSTRAP [FEATURE...]     makes the topics and fills them; features: transactions compaction stamped recent
  more BOOTSTRAP TURN [FEATURE...]  adds to `events` and `cut`
  foreign BOOTSTRAP COUNT         writes records of somebody else to `events` at a target
  late BOOTSTRAP COUNT            adds a few records to `events`
  read BOOTSTRAP GROUP COUNT RESET  reads `events` as a group, commits, leaves; answers [partition, offset, value]
  cut BOOTSTRAP TOPIC OFFSET      DeleteRecords of partition 0
  delete BOOTSTRAP TOPIC          deletes a topic
  create BOOTSTRAP TOPIC PARTITIONS [KEY=VALUE...]
"""

import json
import sys
import time

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

# Records are from 2013 unless somebody asks for the present: brokers forget producers by the times of records.
BASE = int(time.time() * 1000) if "recent" in sys.argv else 1357016400000
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def producer(servers, codec, **more):
    return Producer(
        {"bootstrap.servers": servers, "compression.type": codec, "linger.ms": 20, "acks": "all", "log_level": 2, **more}
    )


def flush(p):
    if p.flush(15):
        sys.exit("not all was delivered")


def headers(n):
    # Order, repetition, and the difference between null and empty have to survive.
    return [("a", str(n).encode()), ("b", None), ("a", b"")] if n % 3 == 0 else None


def create(servers, topics):
    admin = AdminClient({"bootstrap.servers": servers})
    for future in admin.create_topics(topics, operation_timeout=30).values():
        future.result()
    wanted = {topic.topic: topic.num_partitions for topic in topics}
    for _ in range(300):
        known = {name: admin.list_topics(name, timeout=10).topics[name] for name in wanted}
        if all(known[name].error is None and len(known[name].partitions) == wanted[name] for name in wanted):
            return
        time.sleep(0.1)
    sys.exit("the topics do not come up")


def plain(servers, turn):
    p = producer(servers, CODECS[turn % 5])
    for n in range(9):
        value = None if n == 4 else f"plain {turn} {n}" * (1 + n)
        p.produce("events", value, key="" if n == 5 else None, partition=n % 2, timestamp=BASE + 60000 * n, headers=headers(n))
    flush(p)


def transaction(tx, turn):
    tx.begin_transaction()
    for n in range(7 + turn % 12):
        tx.produce("events", f"tx {turn} {n}", key=str(n), partition=n % 2, timestamp=BASE + turn)
    tx.flush()
    if turn % 3 == 1:
        tx.abort_transaction()
    else:
        tx.commit_transaction()


def events(servers, turns, features):
    tx = None
    if "transactions" in features:
        tx = producer(servers, "lz4", **{"transactional.id": "t"})
        tx.init_transactions()
    for turn in turns:
        if tx is not None:
            transaction(tx, turn)
        plain(servers, turn)


def to_cut(servers, turn):
    p = producer(servers, "zstd", **{"linger.ms": 200})
    for n in range(100):
        p.produce("cut", f"cut {turn} {n}", key=str(n), timestamp=BASE + n)
    flush(p)


def delete_records(servers, topic, offset):
    admin = AdminClient({"bootstrap.servers": servers})
    for future in admin.delete_records([TopicPartition(topic, 0, offset)]).values():
        future.result()


def compacted(servers, codec):
    # Segments roll by the times of records, and only what lies before the active one is cleaned.
    name = f"thin-{codec}"
    p = producer(servers, codec)
    for turn in range(6):
        for n in range(60):
            key = str((n * 7 + turn * 13) % 90)
            p.produce(name, f"{turn} {n}", key=key, timestamp=BASE + turn * 100 + n)
        flush(p)
    for n in range(10):
        p.produce(name, f"late {n}", key=f"late {n}", timestamp=BASE + 10_000 + n)
    flush(p)
    p.produce(name, "last", key="last", timestamp=BASE + 20_000)
    flush(p)


def size_of(servers, topic):
    c = Consumer({"bootstrap.servers": servers, "group.id": "sizes", "enable.partition.eof": True, "enable.auto.commit": False})
    c.assign([TopicPartition(topic, 0, 0)])
    count = 0
    while True:
        m = c.poll(10)
        if m is None or m.error():
            break
        count += 1
    c.close()
    return count


def fill(servers, features):
    keep = {"retention.ms": "-1"}
    topics = [NewTopic("events", 2, 1, config=keep), NewTopic("cut", 1, 1, config=keep)]
    if "stamped" in features:
        topics.append(NewTopic("stamped", 1, 1, config={**keep, "message.timestamp.type": "LogAppendTime"}))
    if "compaction" in features:
        clean = {
            **keep, "cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.001", "segment.ms": "500",
            "min.compaction.lag.ms": "0", "delete.retention.ms": "0",
        }  # fmt: skip
        topics += [NewTopic(f"thin-{codec}", 1, 1, config=clean) for codec in ["lz4", "zstd"]]
    create(servers, topics)
    events(servers, range(12), features)
    to_cut(servers, 0)
    delete_records(servers, "cut", 37)
    if "stamped" in features:
        p = producer(servers, "lz4")
        for n in range(50):
            p.produce("stamped", f"stamped {n}", timestamp=BASE + n, headers=headers(n))
        flush(p)
    if "compaction" in features:
        for codec in ["lz4", "zstd"]:
            compacted(servers, codec)
        # 371 were written; the cleaner has been there when most of them are gone, and is done when it rests.
        for codec in ["lz4", "zstd"]:
            before = None
            for _ in range(60):
                size = size_of(servers, f"thin-{codec}")
                if size < 200 and size == before:
                    break
                before = size
                time.sleep(0.5)
            else:
                sys.exit(f"thin-{codec} is not thinned: {before} records")


def read(servers, group, count, reset):
    c = Consumer({
        "bootstrap.servers": servers, "group.id": group, "auto.offset.reset": reset, "enable.auto.commit": False,
        "isolation.level": "read_committed", "log_level": 2,
    })  # fmt: skip
    c.subscribe(["events"])
    seen, idle = [], 0
    # The first answer waits for the group; after it, two idle seconds mean that there is no more.
    while len(seen) < count and idle < (20 if not seen else 4):
        m = c.poll(0.5)
        if m is None:
            idle += 1
            continue
        if m.error():
            print(m.error(), file=sys.stderr)
            idle += 1
            continue
        idle = 0
        value = m.value()
        seen.append([m.partition(), m.offset(), None if value is None else value.decode()])
    if seen:
        c.commit(asynchronous=False)
    c.close()
    print(json.dumps(seen))


def main():
    verb, servers, *rest = sys.argv[1:]
    if verb == "fill":
        fill(servers, rest)
    elif verb == "more":
        turn = int(rest[0])
        events(servers, range(turn * 3, turn * 3 + 3), rest[1:])
        to_cut(servers, turn)
    elif verb in ("foreign", "late"):
        p = producer(servers, "none")
        for n in range(int(rest[0])):
            p.produce("events", f"{verb} {n}", key=verb, partition=n % 2, timestamp=BASE)
        flush(p)
    elif verb == "read":
        read(servers, rest[0], int(rest[1]), rest[2])
    elif verb == "cut":
        delete_records(servers, rest[0], int(rest[1]))
    elif verb == "delete":
        admin = AdminClient({"bootstrap.servers": servers})
        for future in admin.delete_topics([rest[0]], operation_timeout=30).values():
            future.result()
    elif verb == "create":
        config = dict(setting.split("=", 1) for setting in rest[2:])
        create(servers, [NewTopic(rest[0], int(rest[1]), 1, config=config)])
    else:
        sys.exit(f"no verb {verb}")


main()
