#!/usr/bin/env bash
# Runs every bench and writes the table of docs/PERFORMANCE.md. Arguments name some of them; then the table is only printed.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=0
need() { command -v "$1" >/dev/null || { echo "the benches need $1: install the package $2" >&2; missing=1; }; }
need curl curl
need openssl openssl
need xargs findutils
need psql postgresql-client
need pgbench postgresql
need rclone rclone
need radosgw radosgw
need ceph-mon ceph-mon
need ceph-osd ceph-osd
[ "$missing" = 0 ] || exit 1
benches=("${@:-}")
[ -n "${benches[0]}" ] || benches=(intake archive verify search memory reports disposition)

# Whatever ends this, the servers that a bench started end too.
scratch=$(mktemp -d)
stop() {
    shopt -s dotglob
    for folder in "$scratch"/*/s3; do
        [ ! -d "$folder" ] || tests/servers/s3.sh stop "$folder"
    done
    for folder in "$scratch"/*/postgres; do
        [ ! -e "$folder/data/postmaster.pid" ] || tests/servers/postgres.sh kill "$folder" || true
    done
    rm -rf "$scratch"
}
trap stop EXIT
# PostgreSQL may run as another user, who has to get through.
chmod 755 "$scratch"
export TMPDIR=$scratch
for bench in "${benches[@]}"; do
    cargo bench --quiet --bench "$bench" | tee -a "$scratch/out" >&2
done

{
    model=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)
    memory=$(awk '/MemTotal/ { printf "%.0f", $2 / 1048576 }' /proc/meminfo)
    echo "Measured on $(nproc) cores ($model), $memory GiB, $(rustc --version | cut -d' ' -f1-2), release build."
    echo
    echo "| figure | measured | demanded |"
    echo "|---|---|---|"
    grep '^| ' "$scratch/out"
} >"$scratch/table"

cat "$scratch/table"
if [ $# -eq 0 ]; then
    awk -v table="$scratch/table" '
        /<!-- table -->/ { print; print ""; while ((getline line < table) > 0) print line; print ""; skipping = 1 }
        /<!-- end of the table -->/ { skipping = 0 }
        !skipping && !/<!-- table -->/ { print }
    ' docs/PERFORMANCE.md >"$scratch/page"
    cp "$scratch/page" docs/PERFORMANCE.md
fi
