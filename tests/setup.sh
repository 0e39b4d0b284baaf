#!/usr/bin/env bash
# Installs what the tests need and this machine lacks, by package name.
set -euo pipefail

packages=()
need() { command -v "$1" >/dev/null 2>&1 || packages+=("${@:2}"); }
need cc gcc libc6-dev
need chromedriver chromium chromium-driver
need curl curl
need openssl openssl
need psql postgresql-client
need radosgw radosgw
need ceph-mon ceph-mon
need ceph-osd ceph-osd
need systemd-analyze systemd
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || packages+=(postgresql)
python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
need faketime faketime
need aws awscli

if [ ${#packages[@]} -gt 0 ]; then
    sudo=$([ "$(id -u)" = 0 ] || echo sudo)
    $sudo apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${packages[@]}"
fi

rustup component add rustfmt clippy >/dev/null 2>&1 || true
cargo fmt --version >/dev/null
cargo clippy --version >/dev/null
cargo deny --version >/dev/null 2>&1 || cargo install --locked --quiet cargo-deny
