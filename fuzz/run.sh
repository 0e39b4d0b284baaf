#!/usr/bin/env bash
# Runs fuzz targets one after the other: ./fuzz/run.sh SECONDS TARGET…
# What is found lies in fuzz/artifacts; what was learnt stays in fuzz/corpus. Both are kept out of the repository; seeds
# and the fixtures of the tests are where a run begins.
set -euo pipefail
cd "$(dirname "$0")"
seconds=$1
shift
command -v cargo-fuzz >/dev/null || cargo install --locked --quiet cargo-fuzz@0.13.2
# The coverage that libFuzzer needs is an unstable option of the stable compiler. No sanitizer: there is no unsafe code.
export RUSTC_BOOTSTRAP=1
for target in "$@"; do
    seeds=("seeds/$target")
    case $target in
    payload) seeds+=(../tests/fixtures/doubletick) ;;
    walk) seeds+=(../tests/fixtures/audio) ;;
    esac
    mkdir -p "corpus/$target"
    cargo fuzz run --fuzz-dir . --sanitizer none "$target" "corpus/$target" "${seeds[@]}" -- \
        -max_total_time="$seconds" -timeout=10 -max_len=16384 -print_final_stats=1
done
