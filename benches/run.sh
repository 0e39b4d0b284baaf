#!/usr/bin/env bash
# Runs every bench and writes the table of docs/PERFORMANCE.md. Arguments name some of them; then the table is only printed.
set -euo pipefail
cd "$(dirname "$0")/.."

for tool in curl openssl xargs; do
    command -v "$tool" >/dev/null || { echo "the benches need $tool" >&2; exit 1; }
done
benches=("${@:-}")
[ -n "${benches[0]}" ] || benches=(intake archive verify search memory)

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
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
