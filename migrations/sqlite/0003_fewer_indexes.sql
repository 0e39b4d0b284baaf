-- An append that is repeated is looked for among the newest entries, and a call by its key: two indexes with random keys
-- fewer, which were half of what a webhook wrote. SQLite drops a constraint only with its table.
create table journal_next (
    seq integer primary key,
    at integer not null,
    kind text not null,
    subject text,
    body_hash blob not null,
    entry text not null,
    leaf blob not null
) strict;
insert into journal_next select seq, at, kind, subject, body_hash, entry, leaf from journal;
create table journal_bodies_next (
    seq integer primary key references journal_next (seq),
    salt blob not null,
    body blob not null
) strict;
insert into journal_bodies_next select seq, salt, body from journal_bodies;
drop table journal_bodies;
drop table journal;
alter table journal_next rename to journal;
alter table journal_bodies_next rename to journal_bodies;
create index journal_subject on journal (subject, seq) where subject is not null;
create index journal_kind on journal (kind, seq) where kind <> 'webhook.received';

create table calls_next (
    first_seq integer primary key,
    call_id text not null,
    subject text not null unique,
    last_seq integer not null,
    facts text not null,
    status text not null,
    recording_state text not null,
    open_since integer,
    recording_due_since integer
) strict;
insert into calls_next select first_seq, call_id, subject, last_seq, facts, status, recording_state, open_since,
    recording_due_since from calls;
drop table calls;
alter table calls_next rename to calls;
create index calls_open on calls (open_since) where open_since is not null;
create index calls_recording_due on calls (recording_due_since) where recording_due_since is not null;
create index calls_in_progress on calls (first_seq) where status = 'in_progress';
