#!/usr/bin/env bash
# Makes .env and secrets/ beside compose.yaml from .env.example: every secret that has no value gets a random one. What is
# there already stays: running it again adds what is lacking.
#
# usage: new-env.sh [FOLDER]      another folder than that of compose.yaml
set -euo pipefail
umask 077
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$here}
env=$folder/.env
mkdir -p "$folder/secrets"
touch "$env"

is_secret=false
while IFS= read -r line; do
    case $line in
        "# secret"*) is_secret=true ;;
        "#"* | "") ;;
        *=*)
            name=${line%%=*} value=${line#*=}
            if ! grep -q "^$name=" "$env"; then
                # 32 hexadecimal digits: nothing in them needs quoting in an address.
                $is_secret && value=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
                printf '%s=%s\n' "$name" "$value" >>"$env"
            fi
            is_secret=false
            ;;
    esac
done <"$here/.env.example"

# Prometheus runs as nobody: the file is for all to read, its folder on this machine only for you.
sed -n 's/^SCRAPE_TOKEN=//p' "$env" | tr -d '\n' >"$folder/secrets/scrape_token"
chmod 0644 "$folder/secrets/scrape_token"
chmod 0700 "$folder/secrets"
echo "$env and $folder/secrets are complete: set CALLVAULT_DOMAIN and DOUBLETICK_API_KEY in $env" >&2
