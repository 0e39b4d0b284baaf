#!/usr/bin/env bash
# A throw-away PostgreSQL on loopback: postgres.sh start DIR PORT | replica DIR PORT PRIMARY_PORT | stop DIR | kill DIR
# Its only user is callvault, without a password. A replica streams from the server on PRIMARY_PORT; "start" starts it
# again. PostgreSQL refuses to run as root: then it runs as the user of the package.
set -euo pipefail

action=$1
dir=$2
bin=$(find /usr/lib/postgresql -maxdepth 2 -name bin | sort -V | tail -n 1)

as_owner() {
    if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi
}

ours() {
    mkdir -p "$dir"
    if [ "$(id -u)" = 0 ]; then chown postgres "$dir"; fi
}

start() {
    as_owner "$bin/pg_ctl" start --wait --silent --pgdata "$dir/data" --log "$dir/log" \
        --options "-p $1 -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=${POSTGRES_CONNECTIONS:-400} ${POSTGRES_OPTIONS:-}" ||
        { cat "$dir/log" >&2; exit 1; }
}

case $action in
start)
    if [ ! -d "$dir/data" ]; then
        ours
        as_owner "$bin/initdb" --pgdata "$dir/data" --username callvault --auth trust --encoding UTF8 --no-locale \
            >"$dir/initdb.log" 2>&1 || { cat "$dir/initdb.log" >&2; exit 1; }
    fi
    start "$3"
    ;;
replica)
    ours
    as_owner "$bin/pg_basebackup" --pgdata "$dir/data" --host 127.0.0.1 --port "$4" --username callvault \
        --checkpoint fast --wal-method stream --write-recovery-conf
    start "$3"
    ;;
stop) as_owner "$bin/pg_ctl" stop --wait --silent --mode fast --pgdata "$dir/data" ;;
kill) as_owner "$bin/pg_ctl" stop --wait --silent --mode immediate --pgdata "$dir/data" ;;
*) echo "postgres.sh start DIR PORT | replica DIR PORT PRIMARY_PORT | stop DIR | kill DIR" >&2; exit 2 ;;
esac
