#!/usr/bin/env bash
# Starts the S3 server of compose.yaml on a folder of its own and looks whether a locked object can be deleted: before and
# after a restart.
set -euo pipefail
cd "$(dirname "$0")/../.."

scratch=$(mktemp -d)
server=
stop() {
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null && wait "$server" 2>/dev/null || true
    fi
    rm -rf "$scratch"
}
trap stop EXIT
fails() { echo "deploy/s3: $*" >&2; exit 1; }

read -r port mon < <(python3 - <<'PY'
import socket
taken = [socket.socket() for _ in range(2)]
for one in taken:
    one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in taken))
PY
)
export S3_DIR=$scratch/store S3_BUCKET=callvault S3_ACCESS_KEY=checkaccess S3_SECRET_KEY=checksecret0123456789
export S3_LISTEN=127.0.0.1:$port S3_MON_PORT=$mon S3_SIZE=4G
url=http://127.0.0.1:$port/$S3_BUCKET/recordings/kept.mp3

up() {
    deploy/s3/start.sh 2>>"$scratch/log" &
    server=$!
    for _ in $(seq 600); do
        [ -e "$S3_DIR/run/ready" ] && return
        kill -0 "$server" 2>/dev/null || break
        sleep 0.1
    done
    cat "$scratch/log" >&2
    fails "it does not come up"
}
down() {
    kill "$server"
    wait "$server" || fails "it does not stop cleanly"
    server=
    local left
    for left in "$port" "$mon"; do
        ! (: <>"/dev/tcp/127.0.0.1/$left") 2>/dev/null || fails "something still listens on port $left"
    done
}
signed() {
    curl -sS --aws-sigv4 aws:amz:us-east-1:s3 -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' -K - "$@" <<<"user = \"$S3_ACCESS_KEY:$S3_SECRET_KEY\""
}
denied() {
    local status
    status=$(signed -o /dev/null -w '%{http_code}' -X DELETE "$url?versionId=$version" "$@")
    [ "$status" = 403 ] || fails "deleting a locked version was answered $status"
    status=$(signed -o "$scratch/body" -w '%{http_code}' "$url?versionId=$version")
    [ "$status" = 200 ] && [ "$(cat "$scratch/body")" = kept ] || fails "the locked version is gone: $status"
}

mkdir "$S3_DIR"
up
version=$(signed -D - -o /dev/null -X PUT --data-binary kept "$url" \
    -H "Content-MD5: $(printf kept | openssl md5 -binary | base64)" \
    -H 'x-amz-object-lock-mode: COMPLIANCE' \
    -H "x-amz-object-lock-retain-until-date: $(date -u -d '+1 day' +%Y-%m-%dT%H:%M:%SZ)" |
    sed -n 's/^x-amz-version-id: *\([^ \r]*\).*/\1/Ip')
[ -n "$version" ] || fails "an object with a lock was not stored"
denied
denied -H 'x-amz-bypass-governance-retention: true'
status=$(curl -sS -o /dev/null -w '%{http_code}' "$url")
[ "$status" = 403 ] || fails "a stranger was answered $status"
down
up
denied
down
echo "s3: a locked object outlives deletion and a restart on $(radosgw --version | cut -d' ' -f1-3)"
