#!/usr/bin/env bash
# Makes the roles in a real, throw-away PostgreSQL, migrates as the owner, and tries as the runtime role what it must be
# able to do and what it must not.
set -euo pipefail
cd "$(dirname "$0")/../.."

bin=$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin | sort -V | tail -1)
scratch=$(mktemp -d)
server=
stop() {
    if [ -n "$server" ]; then
        kill -INT "$server" 2>/dev/null && wait "$server" 2>/dev/null || true
    fi
    rm -rf "$scratch"
}
trap stop EXIT

# The server refuses to run as root.
as=()
if [ "$(id -u)" = 0 ]; then
    as=(setpriv --reuid=postgres --regid=postgres --init-groups --)
    chown postgres "$scratch"
fi
"${as[@]}" "$bin/initdb" -D "$scratch/data" -U admin -A trust --no-sync >"$scratch/log" 2>&1 || { cat "$scratch/log" >&2; exit 1; }
"${as[@]}" "$bin/postgres" -D "$scratch/data" -k "$scratch" -c listen_addresses= -c fsync=off -c logging_collector=off \
    2>>"$scratch/log" &
server=$!
export PGHOST=$scratch PGDATABASE=callvault PGOPTIONS="-c client_min_messages=warning" PSQLRC=/dev/null
for _ in $(seq 100); do
    psql -qU admin -d postgres -c "create database callvault" 2>/dev/null && break
    sleep 0.1
done
psql -qU admin -c "select 1" >/dev/null || { cat "$scratch/log" >&2; exit 1; }

fails() { echo "deploy/postgres: $*" >&2; exit 1; }
run() { psql -qAtX -v ON_ERROR_STOP=1 "$@" </dev/null; }
may() { run -U "$1" -c "begin; $2; rollback" >/dev/null || fails "$1 must be able to: $2"; }
may_not() {
    local said
    said=$(run -U "$1" -c "begin; $2; rollback" 2>&1) && fails "$1 must not be able to: $2"
    [[ $said == *"permission denied"* || $said == *"must be owner"* || $said == *"must have admin option"* ]] || fails "$1 could not for another reason: $2: $said"
}
migrate() {
    run -U callvault_owner -c "create table if not exists schema_version (id bigint primary key, version bigint not null)"
    local file
    for file in "$@"; do run -U callvault_owner -1 -f "$file"; done
}
roles() {
    CALLVAULT_OWNER_PASSWORD="it's \"owned\"" CALLVAULT_RUNTIME_PASSWORD=unguessable run -U admin -f deploy/postgres/roles.sql
}

# The order of a new archive; then everything once more, since all of it may be repeated.
roles
migrate migrations/postgres/*.sql
run -U callvault_owner -f deploy/postgres/grants.sql
roles
run -U admin -f deploy/postgres/roles.sql
run -U callvault_owner -f deploy/postgres/grants.sql
passwords=$(run -U admin -c "select count(*) from pg_authid where rolname ~ '^callvault_' and rolpassword is not null")
[ "$passwords" = 2 ] || fails "owner and runtime have passwords, disposition has none: $passwords"
attributes=$(run -U admin -c "select count(*) from pg_roles where rolname ~ '^callvault_'
    and (rolsuper or rolcreatedb or rolcreaterole or rolreplication or rolbypassrls)")
[ "$attributes" = 0 ] || fails "a role has an attribute that it does not need"

# Every statement of the program, against what is granted.
run -U admin -F '|' -c "select table_name, privilege_type from information_schema.role_table_grants
    where grantee = 'callvault_runtime'" >"$scratch/grants"
python3 deploy/checks/grants.py src <"$scratch/grants"

# The life of an entry.
entry="insert into journal (seq, at, kind, subject, body_hash, entry, leaf) values (0, 1, 'webhook.received', 'c', '\\x00', '{}', '\\x00')"
body="insert into journal_bodies (seq, salt, body) values (0, '\\x00', '\\x00')"
head="select size from journal_head where id = 1 for update"
run -U callvault_runtime -c "begin; $head; $entry; $body;
    insert into journal_head (id, size, at, frontier) values (1, 1, 1, '')
        on conflict (id) do update set size = excluded.size, at = excluded.at;
    insert into calls (first_seq, call_id, subject, last_seq, facts, status, recording_state)
        values (0, 'c', 'c', 0, '{}', 'ended', 'pending');
    insert into recordings (call_seq, source, call_id, url, state, analysed) values (0, 's', 'c', 'u', 'pending', false);
    insert into recording_work (call_seq, source, host, lane, next_attempt_at, leased_until, attempts)
        values (0, 's', 'h', 0, 0, 0, 0);
    update recording_work set lease_owner = 'n' where (call_seq, source) in
        (select call_seq, source from recording_work for update skip locked);
    delete from recording_work; commit" >/dev/null || fails "the runtime role must be able to journal"
may callvault_runtime "select * from journal j join journal_bodies b on b.seq = j.seq"
may callvault_runtime "listen entries; notify entries"
may callvault_runtime "select version from schema_version"

for table in journal journal_bodies; do
    may_not callvault_runtime "update $table set seq = seq"
    may_not callvault_runtime "delete from $table"
    may_not callvault_runtime "truncate $table cascade"
    may_not callvault_runtime "alter table $table add column more text"
    may_not callvault_runtime "drop table $table cascade"
    may_not callvault_runtime "select * from $table for update"
    may_not callvault_runtime "create trigger t before insert on $table for each row execute function suppress_redundant_updates_trigger()"
done
may_not callvault_runtime "insert into journal select * from journal on conflict (seq) do update set at = 0"
may_not callvault_runtime "delete from journal_head"
may_not callvault_runtime "delete from calls"
may_not callvault_runtime "update schema_version set version = 0"
may_not callvault_runtime "create table more (n int)"
may_not callvault_runtime "create temporary table journal (n int)"
may_not callvault_runtime "create schema more"
may_not callvault_runtime "set role callvault_owner"
may_not callvault_runtime "grant callvault_disposition to callvault_runtime"

# Disposition: bodies alone, and only once it was granted.
run -U admin -c "grant callvault_disposition to callvault_runtime"
may callvault_runtime "delete from journal_bodies where seq = 0"
may_not callvault_runtime "delete from journal"
may_not callvault_runtime "update journal_bodies set body = ''"
may_not callvault_runtime "truncate journal_bodies"
run -U admin -c "revoke callvault_disposition from callvault_runtime"
may_not callvault_runtime "delete from journal_bodies where seq = 0"

# A table of a later migration: read and added to at once, changed by nobody, and grants.sql says that it is unnamed.
run -U callvault_owner -c "create table later (n int)"
may callvault_runtime "insert into later (n) values (1); select n from later"
may_not callvault_runtime "update later set n = 2"
may_not callvault_runtime "delete from later"
said=$(run -U callvault_owner -f deploy/postgres/grants.sql 2>&1) && fails "an unnamed table must end grants.sql"
[[ $said == *"says nothing about later"* ]] || fails "grants.sql ended for another reason: $said"
may callvault_runtime "$head"

echo "postgres: roles and grants hold on $("$bin/postgres" --version)"
