-- Retention. `kept` follows the journal like the search index does, by a cursor: one narrow row for each recording that is
-- archived, for each call without one, and for each body in quarantine, so that reports and comparisons of policies read
-- neither facts nor bodies. What is destroyed leaves its row, without anything personal.
create table kept (
    call_seq integer not null,
    source text not null,
    subject text not null,
    -- The last entry that it takes in.
    last_seq integer not null,
    -- recording, call or quarantine
    what text not null,
    -- What policies ask about a call.
    traits text not null,
    ended_at integer,
    received_at integer not null,
    policy text not null,
    policy_sha256 text not null,
    -- When its time is over; the greatest number while that is open.
    due_at integer not null,
    -- Until when the store is to keep it, and does. NULL where nothing lies in the store.
    lock_wanted integer,
    locked_until integer,
    bytes integer not null,
    kept_since integer not null,
    held integer not null check (held in (0, 1)),
    held_in_store integer not null check (held_in_store in (0, 1)),
    disposition text,
    destroyed_at integer,
    primary key (call_seq, source)
) strict;
create index kept_due on kept (due_at) where destroyed_at is null;
create index kept_behind on kept (call_seq, source)
    where destroyed_at is null and (lock_wanted > locked_until or held <> held_in_store);

create table policy_sets (
    adopted_seq integer primary key,
    at integer not null,
    sha256 text not null
) strict;

create table client_events (
    customer text not null,
    event text not null,
    date integer not null,
    seq integer not null,
    primary key (customer, event)
) strict;

create table holds (
    name text primary key,
    placed_seq integer not null,
    state text not null,
    requested_by text,
    -- The calls of the past are caught. Until then nothing at all is destroyed.
    caught_at integer
) strict;

create table dispositions (
    id text primary key,
    proposed_seq integer not null unique,
    proposed_by text not null,
    state text not null,
    approved_by text,
    approved_at integer
) strict;
