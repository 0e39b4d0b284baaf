#!/usr/bin/env bash
# A throw-away PostgreSQL on loopback: postgres.sh start DIR PORT | stop DIR | kill DIR
# Its only user is callvault, without a password. PostgreSQL refuses to run as root: then it runs as the user of the package.
set -euo pipefail

action=$1
dir=$2
bin=$(find /usr/lib/postgresql -maxdepth 2 -name bin | sort -V | tail -n 1)

as_owner() {
    if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi
}

case $action in
start)
    if [ ! -d "$dir/data" ]; then
        mkdir -p "$dir"
        if [ "$(id -u)" = 0 ]; then chown postgres "$dir"; fi
        as_owner "$bin/initdb" --pgdata "$dir/data" --username callvault --auth trust --encoding UTF8 --no-locale \
            >"$dir/initdb.log" 2>&1 || { cat "$dir/initdb.log" >&2; exit 1; }
    fi
    as_owner "$bin/pg_ctl" start --wait --silent --pgdata "$dir/data" --log "$dir/log" \
        --options "-p $3 -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=${POSTGRES_CONNECTIONS:-400} ${POSTGRES_OPTIONS:-}" ||
        { cat "$dir/log" >&2; exit 1; }
    ;;
stop) as_owner "$bin/pg_ctl" stop --wait --silent --mode fast --pgdata "$dir/data" ;;
kill) as_owner "$bin/pg_ctl" stop --wait --silent --mode immediate --pgdata "$dir/data" ;;
*) echo "postgres.sh start DIR PORT | stop DIR | kill DIR" >&2; exit 2 ;;
esac
