#!/usr/bin/env bash
# Asks the running program everything that its OpenAPI document allows and forbids: no 500, no status, media type or
# shape that the document does not know. Give the number of examples for each operation; 20 without.
set -euo pipefail
cd "$(dirname "$0")/../.."
examples=${1:-20}
version=4.32.5

scratch=$(mktemp -d)
server=
stop() {
    [ -z "$server" ] || { kill "$server" 2>/dev/null && wait "$server" 2>/dev/null || true; }
    rm -rf "$scratch"
}
trap stop EXIT

target=${CARGO_TARGET_DIR:-target}
venv=$target/schemathesis-$version
if [ ! -x "$venv/bin/schemathesis" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet "schemathesis==$version"
fi

cargo build --quiet
program=$(realpath "$target/debug/callvault")
secret=$(head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n')
settings=tests/schemathesis/schemathesis.toml
# On no port of its own: the system's next free one.
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
(cd "$scratch" && CALLVAULT_BOOTSTRAP__TOKENS="admin=$secret" exec "$program" --listen "127.0.0.1:$port" serve) 2>"$scratch/log" &
server=$!
url=http://127.0.0.1:$port
for _ in $(seq 100); do
    curl -sf "$url/readyz" >/dev/null && break
    sleep 0.1
done

ask() {
    "$venv/bin/schemathesis" --config-file "$settings" run "$url/openapi.json" --checks all --max-examples "$examples" \
        --phases examples,coverage,fuzzing --seed 7 "$@" >"$scratch/report" || { cat "$scratch/report"; exit 1; }
    grep -E '^ *Test cases:|generated|passed' "$scratch/report" || true
}

curl -sf -H "Authorization: Bearer $secret" -d @tests/fixtures/doubletick/call_missed.json "$url/webhooks/doubletick" >/dev/null
echo "with a token"
ask -H "Authorization: Bearer $secret"
echo "without one"
ask
kill -0 "$server"
if grep -E 'ERROR|panicked' "$scratch/log"; then
    exit 1
fi
