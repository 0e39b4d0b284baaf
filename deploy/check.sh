#!/usr/bin/env bash
# Checks everything in this folder that a tool can check without the internet beyond the package registries: lint, schemas,
# units, rules with their tests, and a real PostgreSQL and a real S3 server set up by what stands here.
#
# usage: deploy/check.sh [NAME…]     only the checks of these names
set -euo pipefail
cd "$(dirname "$0")/.."
tools=$PWD/target/deploy-tools
venv=$tools/venv
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Tools that Debian has no package of, or an old one; kept in target/ from one run to the next.
install_tools() {
    local wanted=deploy/checks/requirements.txt
    mkdir -p "$tools"
    if ! cmp -s "$wanted" "$tools/installed.txt"; then
        rm -rf "$venv" "$tools/installed.txt"
        python3 -m venv "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted"
        cp "$wanted" "$tools/installed.txt"
    fi
    # The package would start a server with its installation; only the tool is taken out of it.
    if ! command -v promtool >/dev/null && [ ! -x "$tools/prometheus/usr/bin/promtool" ]; then
        rm -rf "$tools/prometheus" && mkdir "$tools/prometheus"
        (cd "$tools/prometheus" && apt-get -qq download prometheus 2>/dev/null && dpkg-deb -x prometheus_*.deb . && rm -f -- *.deb)
    fi
    export PATH=$venv/bin:$PATH:$tools/prometheus/usr/bin PYTHONDONTWRITEBYTECODE=1
    local tool
    for tool in promtool systemd-analyze radosgw ceph-mon ceph-osd curl openssl psql; do
        command -v "$tool" >/dev/null || { echo "deploy: $tool is lacking: run tests/setup.sh" >&2; exit 1; }
    done
}

check_lint() {
    # SC2329: functions that a trap or an argument names.
    shellcheck -e SC2329 deploy/*.sh deploy/*/*.sh
    hadolint deploy/Dockerfile deploy/s3/Dockerfile
    yamllint -s -d '{extends: default, rules: {line-length: disable, document-start: disable, comments-indentation: disable,
        indentation: {indent-sequences: whatever}, braces: {max-spaces-inside: 1}}}' \
        deploy/*.yaml deploy/kubernetes deploy/prometheus deploy/grafana
    echo "lint: scripts, images and YAML"
}

check_images() { python deploy/checks/image.py; }

check_compose() {
    check-jsonschema --quiet --builtin-schema vendor.compose-spec deploy/compose.yaml
    deploy/new-env.sh "$work/env" 2>/dev/null
    cp "$work/env/.env" "$work/first"
    deploy/new-env.sh "$work/env" 2>/dev/null
    cmp "$work/first" "$work/env/.env"
    [ "$(stat -c %a "$work/env/.env")" = 600 ]
    CALLVAULT_DOMAIN=archive.example.com XDG_DATA_HOME=$work XDG_CONFIG_HOME=$work \
        caddy validate --adapter caddyfile --config deploy/compose/Caddyfile
    python deploy/checks/compose.py "$work/env/.env"
}

check_kubernetes() {
    local version files=()
    for file in deploy/kubernetes/*.yaml; do
        [ "${file##*/}" = kustomization.yaml ] || files+=("$file")
    done
    for version in 1.29 1.33 1.37; do
        kubernetes-validate --strict --quiet -k "$version" "${files[@]}"
    done
    python deploy/checks/kubernetes.py
}

check_monitoring() {
    cp -r deploy/prometheus "$work/prometheus"
    echo token >"$work/scrape_token"
    sed -i "s#/run/secrets/scrape_token#$work/scrape_token#" "$work"/prometheus/{prometheus,kubernetes}.yaml
    promtool check config --lint=all --lint-fatal "$work/prometheus/prometheus.yaml"
    promtool check config "$work/prometheus/kubernetes.yaml"
    promtool test rules deploy/prometheus/*.test.yaml
    python deploy/checks/monitoring.py src deploy/prometheus deploy/grafana/callvault.json
}

check_systemd() { deploy/checks/systemd.sh; }
check_postgres() { deploy/checks/postgres.sh; }
check_s3() { deploy/checks/s3.sh; }

# run NAME: one check, with its output in a file and a folder of its own.
run() {
    local work=$scratch/$1
    mkdir "$work"
    "check_$1" >"$work.out" 2>&1
}

install_tools
names=("$@")
[ ${#names[@]} -gt 0 ] || names=(s3 postgres monitoring kubernetes systemd compose images lint)
pids=()
for name in "${names[@]}"; do
    run "$name" &
    pids+=($!)
done
failed=0
for at in "${!names[@]}"; do
    if wait "${pids[at]}"; then
        tail -n 1 "$scratch/${names[at]}.out"
    else
        failed=$((failed + 1))
        sed "s/^/${names[at]}: /" "$scratch/${names[at]}.out" >&2
        echo "deploy: the check ${names[at]} failed" >&2
    fi
done
echo "deploy: $((${#names[@]} - failed)) passed, $failed failed"
[ "$failed" = 0 ]
