#!/usr/bin/env bash
# Reads the units as systemd does, and asserts how little of the machine they see: an exposure below 2.0 of 10.
set -euo pipefail
cd "$(dirname "$0")/../systemd"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
fails() { echo "deploy/systemd: $*" >&2; exit 1; }

# A root of its own with systemd's units, ours, and the programs that they start.
mkdir -p "$scratch"/{etc/systemd/system,etc/sysusers.d,usr/bin,usr/local/bin,usr/lib/systemd}
cp -r /usr/lib/systemd/system "$scratch/usr/lib/systemd/"
ln -s usr/lib "$scratch/lib"
cp ./*.service ./*.timer "$scratch/etc/systemd/system/"
install -m 0755 /dev/null "$scratch/usr/local/bin/callvault"
install -m 0755 /dev/null "$scratch/usr/bin/logger"
units=()
for unit in *.service *.timer; do units+=("${unit/@./@example.}"); done
said=$(systemd-analyze verify --root="$scratch" --man=no --recursive-errors=yes "${units[@]}" 2>&1) || fails "$said"
[ -z "$said" ] || fails "$said"

worst=0
for unit in *.service; do
    said=$(systemd-analyze security --offline=true --no-pager "$unit")
    exposure=$(sed -n 's/.*Overall exposure level for .*: \([0-9]*\)\.\([0-9]\) .*/\1\2/p' <<<"$said")
    [ -n "$exposure" ] || fails "$unit: no exposure: $said"
    [ "$exposure" -lt 20 ] || { grep '^✗' <<<"$said" >&2; fails "$unit has an exposure of $exposure tenths, 19 at most"; }
    if [ "$exposure" -gt "$worst" ]; then worst=$exposure; fi
done

# What the units start exists, each timer has its service, and each job that fails tells somebody.
known=$(sed -n '/^enum Command {/,/^}/s/^    \([A-Z][a-z]*\).*/\L\1/p' ../../src/cli/mod.rs)
for unit in callvault*.service; do
    command=$(sed -n 's#^ExecStart=/usr/local/bin/callvault \([a-z]*\)\( .*\)\{0,1\}$#\1#p' "$unit")
    case $unit in
        callvault-alert@.service) continue ;;
        # The command comes with the step that lets it run apart from serve.
        callvault-migrate.service) [ "$command" = migrate ] || fails "$unit runs $command" ;;
        *) grep -qx "$command" <<<"$known" || fails "$unit runs \"$command\", which is no command" ;;
    esac
    grep -q '^EnvironmentFile=/etc/callvault/callvault.env$' "$unit" || fails "$unit starts without its settings"
    [ "$unit" = callvault.service ] || grep -qx 'OnFailure=callvault-alert@%N.service' "$unit" || fails "$unit fails in silence"
done
for timer in *.timer; do [ -e "${timer%.timer}.service" ] || fails "$timer starts nothing"; done

cp callvault.sysusers.conf "$scratch/etc/sysusers.d/callvault.conf"
systemd-sysusers --root="$scratch" >/dev/null 2>&1 || true
grep -q '^callvault:' "$scratch/etc/passwd" || fails "callvault.sysusers.conf makes no user"

echo "systemd: ${#units[@]} units, an exposure of ${worst:0:1}.${worst:1} at most"
