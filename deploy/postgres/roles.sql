-- Makes the roles of callvault in PostgreSQL 15 or later. Run it once before the first migration, with psql, in the
-- database of the archive, as its owner or as a superuser; running it again changes nothing but passwords.
--
--   CALLVAULT_OWNER_PASSWORD=… CALLVAULT_RUNTIME_PASSWORD=… psql -d callvault -f roles.sql
--
-- A password that is not in the environment is left as it is. What each role may do with which table stands in
-- grants.sql, which runs after every migration.
--
--   callvault_owner        owns the tables. For `callvault migrate` and grants.sql, and for nothing else: whoever is
--                          this role can change the journal, so its password belongs on no node.
--   callvault_runtime      what `callvault serve` and every other command runs as. It adds to the journal and can
--                          neither change nor delete anything in it.
--   callvault_disposition  may delete bodies (journal_bodies), which disposition does when their time is over. Nobody is
--                          a member at first. Where disposition is switched on:
--                            grant callvault_disposition to callvault_runtime;

\set ON_ERROR_STOP on
\getenv owner_password CALLVAULT_OWNER_PASSWORD
\getenv runtime_password CALLVAULT_RUNTIME_PASSWORD

begin;

-- Every attribute that is not named (superuser, createdb, createrole, replication, bypassrls) is "no" for a new role.
select format('create role %I %s', wanted.name, wanted.attributes)
  from (values ('callvault_owner', 'login'), ('callvault_runtime', 'login'), ('callvault_disposition', 'nologin'))
       as wanted (name, attributes)
 where not exists (select from pg_roles where rolname = wanted.name)
\gexec

\if :{?owner_password}
alter role callvault_owner password :'owner_password';
\endif
\if :{?runtime_password}
alter role callvault_runtime password :'runtime_password';
\endif

-- Nobody else comes in, and only the owner makes tables. A database that was upgraded from before 15 still lets
-- everybody create in public.
select format('revoke all on database %I from public', current_database()) \gexec
select format('grant connect on database %I to callvault_owner, callvault_runtime', current_database()) \gexec
revoke all on schema public from public;
grant usage, create on schema public to callvault_owner;
grant usage on schema public to callvault_runtime, callvault_disposition;

commit;
