-- What only one of several nodes does at a time: who does it, and until when it is theirs. Several nodes have PostgreSQL;
-- here it stays empty.
create table leases (
    name text primary key,
    owner text not null,
    leased_until integer not null
) strict;

-- The node in whose spool the bytes are while the store is away, and until when the others leave it to that one.
alter table recording_work add column holder text;
alter table recording_work add column held_until integer;
