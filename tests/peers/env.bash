# Where the real peers live, for tests/run and for a shell of your own: `. tests/peers/env.bash`.
# It only names places; tests/peers/install fills them.

export LONGHAUL_CACHE="${LONGHAUL_CACHE:-$HOME/.cache/longhaul}"

LONGHAUL_KAFKA_VERSION=4.3.1
LONGHAUL_MINIO_VERSION=v0.0.0-20260212201848-7aac2a2c5b7c

export LONGHAUL_KAFKA_LIBS="$LONGHAUL_CACHE/kafka-$LONGHAUL_KAFKA_VERSION/libs"
export LONGHAUL_MINIO="$LONGHAUL_CACHE/bin/minio"
export LONGHAUL_PYTHON="$LONGHAUL_CACHE/python/bin/python"
export LONGHAUL_FLIGHTS="$LONGHAUL_CACHE/flights/flights.csv"
export LONGHAUL_KCAT="${LONGHAUL_KCAT:-kcat}"
