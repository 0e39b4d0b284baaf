-- What only one of several nodes does at a time: who does it, and until when it is theirs.
create table leases (
    name text primary key,
    owner text not null,
    leased_until bigint not null
);

-- Wakes the nodes that follow the journal.
create function callvault_journal_grown() returns trigger language plpgsql as $$
begin
    perform pg_notify('callvault_journal', '');
    return null;
end
$$;
create trigger journal_grown after insert or update on journal_head
    for each statement execute function callvault_journal_grown();

-- The node in whose spool the bytes are while the store is away, and until when the others leave it to that one.
alter table recording_work add column holder text;
alter table recording_work add column held_until bigint;
