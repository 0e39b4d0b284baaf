-- Every recording that is awaited has a row from the transaction that announces it, so that choosing what is due reads
-- the head of an index, however many wait. What waits already is put in at the next start.
drop table recording_work;
create table recording_work (
    call_seq bigint not null,
    source text not null,
    host text not null,
    lane bigint not null,
    next_attempt_at bigint not null,
    leased_until bigint not null,
    lease_owner text,
    attempts bigint not null,
    first_attempt_at bigint,
    last_error text,
    primary key (call_seq, source)
);
create index recording_work_due on recording_work (lane, next_attempt_at);
