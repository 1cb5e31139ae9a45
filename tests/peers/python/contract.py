"""The contract that the client scripts share: the command line, records in and answers out as JSON lines.

Verbs:
  produce       records from stdin ({"key", "value", "timestamp"}), a line per acknowledgement ({"sequence", "partition", "offset"})
  consume       every partition from --from to the end it had at the start, a line per record
  group         --count records as a member of --group, committed, a line per record
  create-topic, delete-topic, delete-records, offsets, describe-group, topics: the admin calls the tests need
"""

import argparse
import json
import sys


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("verb")
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic")
    parser.add_argument("--group")
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=90.0, help="when to give up")
    parser.add_argument("--partition", type=int)
    parser.add_argument("--partitions", type=int, default=1)
    parser.add_argument("--config", action="append", default=[], help="a topic setting, key=value")
    parser.add_argument("--codec", default="none")
    parser.add_argument("--acks", default="all")
    parser.add_argument("--batch-bytes", type=int, default=16384)
    parser.add_argument("--no-idempotence", dest="idempotent", action="store_false")
    parser.add_argument("--from", dest="start", default="earliest", help="earliest, or an offset")
    parser.add_argument("--before", type=int, help="an offset, for delete-records")
    parser.add_argument("--instance", help="static member id")
    parser.add_argument("--read-uncommitted", dest="committed", action="store_false")
    chosen = parser.parse_args()
    chosen.config = dict(setting.split("=", 1) for setting in chosen.config)
    return chosen


def records():
    for line in sys.stdin:
        yield json.loads(line)


def encoded(text):
    return None if text is None else text.encode()


def decoded(data):
    return None if data is None else data.decode()


def answer(**fields):
    sys.stdout.write(json.dumps(fields) + "\n")


def answer_record(partition, offset, timestamp, key, value):
    answer(partition=partition, offset=offset, timestamp=timestamp, key=decoded(key), value=decoded(value))


def fail(message):
    sys.stdout.flush()
    sys.exit(f"failed: {message}")


def run(verbs):
    """Calls the verb of the command line; an unknown one says what there is."""
    chosen = arguments()
    if chosen.verb not in verbs:
        fail(f"no verb {chosen.verb}: {', '.join(sorted(verbs))}")
    verbs[chosen.verb](chosen)
    sys.stdout.flush()
