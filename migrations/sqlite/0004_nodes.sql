-- What only one of several nodes does at a time: who does it, and until when it is theirs. Several nodes have PostgreSQL;
-- here it stays empty.
create table leases (
    name text primary key,
    owner text not null,
    leased_until integer not null
) strict;
