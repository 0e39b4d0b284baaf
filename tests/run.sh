#!/usr/bin/env bash
# Starts the throw-away servers that the tests use, runs all tests, or those of the integration tests that are named, and
# stops what it started.
set -euo pipefail
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
started=()
stop() {
    for pid in "${started[@]}"; do
        kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null || true
    done
    tests/servers/s3.sh stop "$scratch/s3"
    [ ! -f "$scratch/postgres/data/postmaster.pid" ] || tests/servers/postgres.sh stop "$scratch/postgres" || true
    rm -rf "$scratch"
}
trap stop EXIT

chromedriver --port=0 >"$scratch/chromedriver.log" 2>&1 &
started+=($!)
port=
for _ in $(seq 100); do
    port=$(sed -n 's/.*started successfully on port \([0-9]*\).*/\1/p' "$scratch/chromedriver.log")
    [ -n "$port" ] && break
    sleep 0.1
done
[ -n "$port" ] || { echo "chromedriver did not start:" >&2; cat "$scratch/chromedriver.log" >&2; exit 1; }
export WEBDRIVER_URL="http://127.0.0.1:$port"

# Its own errors it has told.
s3=$(tests/servers/s3.sh start "$scratch/s3")
eval "$s3"

# PostgreSQL runs as another user, who has to get through.
chmod 711 "$scratch"
while :; do
    database=$((10000 + RANDOM % 20000))
    (exec 3<>"/dev/tcp/127.0.0.1/$database") 2>/dev/null || break
done
tests/servers/postgres.sh start "$scratch/postgres" "$database"

if [ $# -gt 0 ]; then
    cargo test --features failpoints --test it -- --include-ignored --nocapture "$@"
    exit
fi

# The tests that need a server are marked as ignored, so that plain `cargo test` runs without any.
# The points at which tests break the program on purpose are in all of it, so that it is compiled once.
cargo test --features failpoints --doc
cargo test --features failpoints --lib --tests -- --include-ignored

# Everything about an archive once more on PostgreSQL and a bucket. Left out is what has servers of its own anyway, what
# is about the embedded database's file, and what looks at the source.
echo "on PostgreSQL and S3:"
TEST_POSTGRES="postgres://callvault@127.0.0.1:$database" \
    cargo test --features failpoints --test it -- --include-ignored \
    --skip objects:: --skip outages:: --skip nodes:: --skip db_doctor:: --skip tamper::data_dir --skip tamper::database --skip tidy::
