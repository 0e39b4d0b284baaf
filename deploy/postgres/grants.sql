-- What the roles of roles.sql may do with each table. Run it after every migration, with psql, as callvault_owner, before
-- the nodes are started:
--
--   psql "postgres://callvault_owner@HOST/callvault" -f grants.sql
--
-- It states everything anew in one transaction, so it can be run at any time, beside working nodes too.

\set ON_ERROR_STOP on
begin;

revoke all on all tables in schema public from callvault_runtime, callvault_disposition;

-- The journal: read it and add to it. Nobody but the owner can update, delete or truncate, here or in the bodies.
grant select, insert on journal, journal_bodies to callvault_runtime;
-- Its size and frontier: one row, which every append locks and writes.
grant select, insert, update on journal_head to callvault_runtime;

-- What follows from the journal. A call that was heard of never leaves.
grant select, insert, update on calls, recordings, tokens, client_events, holds, dispositions to callvault_runtime;
grant select, insert on policy_sets to callvault_runtime;
-- Which row a call has here depends on whether its recording is archived; of a destroyed call no flags are left; a cursor
-- goes when its work is done.
grant select, insert, update, delete on kept, flags, cursors to callvault_runtime;

-- Work in progress, and who is signed in.
grant select, insert, update, delete on recording_work, leases, fixity to callvault_runtime;
grant select, insert, update on schedule to callvault_runtime;
grant select, insert, delete on sessions to callvault_runtime;
grant select, insert, update on sign_in_links to callvault_runtime;

-- Only migrations write it.
grant select on schema_version to callvault_runtime;

-- Erasing bodies whose time is over; entries stay.
grant select, delete on journal_bodies to callvault_disposition;

-- A table of a later migration can be read and added to at once, and changed only once it is named above: what may be
-- changed is decided by somebody, not by default.
alter default privileges in schema public grant select, insert on tables to callvault_runtime;

-- So that nobody forgets: a table that this file does not name ends it, and nothing of it is done.
do $$
declare
    unnamed text;
begin
    select string_agg(tablename, ', ' order by tablename) into unnamed
      from pg_tables
     where schemaname = 'public'
       and tablename not in ('journal', 'journal_bodies', 'journal_head', 'calls', 'recordings', 'tokens', 'cursors',
                             'recording_work', 'leases', 'sessions', 'sign_in_links', 'schema_version', 'kept', 'policy_sets',
                             'client_events', 'holds', 'dispositions', 'flags', 'fixity', 'schedule');
    if unnamed is not null then
        raise exception 'grants.sql says nothing about %: use the grants.sql that came with this callvault', unnamed;
    end if;
end
$$;

commit;
