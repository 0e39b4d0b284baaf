create table journal (
    seq bigint primary key,
    at bigint not null,
    kind text not null,
    subject text,
    body_hash bytea not null unique,
    entry text not null,
    leaf bytea not null
);
create index journal_subject on journal (subject, seq) where subject is not null;
create index journal_kind on journal (kind, seq) where kind <> 'webhook.received';

create table journal_bodies (
    seq bigint primary key references journal (seq),
    salt bytea not null,
    body bytea not null
);

create table journal_head (
    id bigint primary key check (id = 1),
    size bigint not null,
    at bigint not null,
    frontier bytea not null
);
insert into journal_head (id, size, at, frontier) values (1, 0, -9223372036854775807, '');

create table calls (
    first_seq bigint primary key,
    call_id text not null unique,
    subject text not null unique,
    last_seq bigint not null,
    facts text not null,
    status text not null,
    recording_state text not null,
    open_since bigint,
    recording_due_since bigint
);
create index calls_open on calls (open_since) where open_since is not null;
create index calls_recording_due on calls (recording_due_since) where recording_due_since is not null;
create index calls_in_progress on calls (first_seq) where status = 'in_progress';

create table recordings (
    call_seq bigint not null,
    source text not null,
    call_id text not null,
    url text not null,
    state text not null,
    sha256 text,
    object_key text,
    vcon_key text,
    analysed boolean not null,
    primary key (call_seq, source)
);
create index recordings_pending on recordings (call_seq, source) where state = 'pending';
create index recordings_to_analyse on recordings (call_seq, source) where state = 'archived' and not analysed;

create table recording_work (
    call_seq bigint not null,
    source text not null,
    attempts bigint not null,
    first_attempt_at bigint,
    next_attempt_at bigint not null,
    leased_until bigint not null,
    lease_owner text,
    last_error text,
    primary key (call_seq, source)
);

create table cursors (
    name text primary key,
    next_seq bigint not null
);

create table tokens (
    name text primary key,
    role text not null,
    secret_hash bytea not null unique,
    created_at bigint not null,
    revoked_at bigint
);

create table sessions (
    id_hash bytea primary key,
    token text not null references tokens (name),
    created_at bigint not null,
    expires_at bigint not null
);

create table sign_in_links (
    code_hash bytea primary key,
    token text not null references tokens (name),
    expires_at bigint not null,
    used_at bigint
);
