create table journal (
    seq integer primary key,
    at integer not null,
    kind text not null,
    subject text,
    body_hash blob not null unique,
    entry text not null,
    leaf blob not null
) strict;
create index journal_subject on journal (subject, seq) where subject is not null;
create index journal_kind on journal (kind, seq) where kind <> 'webhook.received';

create table journal_bodies (
    seq integer primary key references journal (seq),
    salt blob not null,
    body blob not null
) strict;

create table journal_head (
    id integer primary key check (id = 1),
    size integer not null,
    at integer not null,
    frontier blob not null
) strict;
insert into journal_head (id, size, at, frontier) values (1, 0, -9223372036854775807, x'');

create table calls (
    first_seq integer primary key,
    call_id text not null unique,
    subject text not null unique,
    last_seq integer not null,
    facts text not null,
    status text not null,
    recording_state text not null,
    open_since integer,
    recording_due_since integer
) strict;
create index calls_open on calls (open_since) where open_since is not null;
create index calls_recording_due on calls (recording_due_since) where recording_due_since is not null;
create index calls_in_progress on calls (first_seq) where status = 'in_progress';

create table recordings (
    call_seq integer not null,
    source text not null,
    call_id text not null,
    url text not null,
    state text not null,
    sha256 text,
    object_key text,
    vcon_key text,
    analysed integer not null check (analysed in (0, 1)),
    primary key (call_seq, source)
) strict;
create index recordings_pending on recordings (call_seq, source) where state = 'pending';
create index recordings_to_analyse on recordings (call_seq, source) where state = 'archived' and analysed = 0;

create table recording_work (
    call_seq integer not null,
    source text not null,
    attempts integer not null,
    first_attempt_at integer,
    next_attempt_at integer not null,
    leased_until integer not null,
    lease_owner text,
    last_error text,
    primary key (call_seq, source)
) strict;

create table cursors (
    name text primary key,
    next_seq integer not null
) strict;

create table tokens (
    name text primary key,
    role text not null,
    secret_hash blob not null unique,
    created_at integer not null,
    revoked_at integer
) strict;

create table sessions (
    id_hash blob primary key,
    token text not null references tokens (name),
    created_at integer not null,
    expires_at integer not null
) strict;

create table sign_in_links (
    code_hash blob primary key,
    token text not null references tokens (name),
    expires_at integer not null,
    used_at integer
) strict;
