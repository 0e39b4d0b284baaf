-- Retention. `kept` follows the journal like the search index does, by a cursor: one narrow row for each recording that is
-- archived, for each call without one, and for each body in quarantine, so that reports and comparisons of policies read
-- neither facts nor bodies. What is destroyed leaves its row, without anything personal.
create table kept (
    call_seq bigint not null,
    source text not null,
    subject text not null,
    -- The last entry that it takes in.
    last_seq bigint not null,
    -- recording, call or quarantine
    what text not null,
    -- What policies ask about a call.
    traits text not null,
    ended_at bigint,
    received_at bigint not null,
    policy text not null,
    policy_sha256 text not null,
    -- When its time is over; the greatest number while that is open.
    due_at bigint not null,
    -- Until when the store is to keep it, and does. NULL where nothing lies in the store.
    lock_wanted bigint,
    locked_until bigint,
    bytes bigint not null,
    kept_since bigint not null,
    held boolean not null,
    held_in_store boolean not null,
    disposition text,
    destroyed_at bigint,
    primary key (call_seq, source)
);
create index kept_due on kept (due_at) where destroyed_at is null;
create index kept_behind on kept (call_seq, source)
    where destroyed_at is null and (lock_wanted > locked_until or held <> held_in_store);

create table policy_sets (
    adopted_seq bigint primary key,
    at bigint not null,
    sha256 text not null
);

create table client_events (
    customer text not null,
    event text not null,
    date bigint not null,
    seq bigint not null,
    primary key (customer, event)
);

create table holds (
    name text primary key,
    placed_seq bigint not null,
    state text not null,
    requested_by text,
    -- The calls of the past are caught. Until then nothing at all is destroyed.
    caught_at bigint
);

create table dispositions (
    id text primary key,
    proposed_seq bigint not null unique,
    proposed_by text not null,
    state text not null,
    approved_by text,
    approved_at bigint
);
