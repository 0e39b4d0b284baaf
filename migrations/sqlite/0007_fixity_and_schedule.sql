-- When each object was last read again. It follows the receipts in the journal; only the times are its own, and where they
-- are lost every object is as old as its receipt.
create table fixity (
    -- The entry that made the object known, and which of the objects that it names.
    seq integer not null,
    part integer not null,
    object text not null,
    version text,
    looked_at integer not null,
    -- What was wrong then.
    why text,
    primary key (seq, part)
) strict;
create index fixity_due on fixity (looked_at, seq, part) where why is null;
create index fixity_failed on fixity (seq, part) where why is not null;

-- How far each run of the configuration's schedule is.
create table schedule (
    name text primary key,
    cron text not null,
    -- What was due until then is done.
    done_until integer not null,
    began_at integer,
    ended_at integer,
    -- What the last one that ended came to: fine, attention or failed.
    outcome text,
    why text
) strict;
