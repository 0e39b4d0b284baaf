#!/usr/bin/env bash
# Starts the throw-away servers that the tests use, runs all tests, and stops what it started.
set -euo pipefail
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
started=()
stop() {
    for pid in "${started[@]}"; do
        kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null || true
    done
    tests/servers/s3.sh stop "$scratch/s3"
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

# The tests that need a server are marked as ignored, so that plain `cargo test` runs without any.
# The points at which tests break the program on purpose are in all of it, so that it is compiled once.
cargo test --features failpoints --doc
cargo test --features failpoints --lib --tests -- --include-ignored
