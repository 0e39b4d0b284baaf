-- Everything that the migrations make, by name and definition: what `callvault verify` compares the database with. Of an
-- extension, nothing.
select 'table ' || c.relname as name,
       string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
                  || case when a.attnotnull then ' not null' else '' end
                  || coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), ''), ', ' order by a.attnum) as sql
  from pg_class c
  join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
 where c.relnamespace = current_schema()::regnamespace and c.relkind in ('r', 'p', 'f')
   and not exists (select from pg_depend e where e.objid = c.oid and e.deptype = 'e')
 group by c.relname
union all
select case c.relkind when 'i' then 'index ' when 'S' then 'sequence ' else 'view ' end || c.relname,
       coalesce(case when c.relkind = 'i' then replace(pg_get_indexdef(c.oid), quote_ident(current_schema()) || '.', '') end, '')
  from pg_class c
 where c.relnamespace = current_schema()::regnamespace and c.relkind in ('i', 'S', 'v', 'm')
   and not exists (select from pg_depend e where e.objid = c.oid and e.deptype = 'e')
union all
select 'constraint ' || conname, pg_get_constraintdef(oid)
  from pg_constraint
 where connamespace = current_schema()::regnamespace and contype in ('p', 'u', 'f', 'c', 'x')
union all
select 'trigger ' || t.tgname, case when t.tgenabled = 'O' then '' else 'disabled: ' end
           || replace(pg_get_triggerdef(t.oid), quote_ident(current_schema()) || '.', '')
  from pg_trigger t
  join pg_class c on c.oid = t.tgrelid
 where c.relnamespace = current_schema()::regnamespace and (not t.tgisinternal or t.tgenabled <> 'O')
union all
select 'rule ' || rulename, definition from pg_rules where schemaname = current_schema()
union all
select 'function ' || p.proname, p.prosrc
  from pg_proc p
 where p.pronamespace = current_schema()::regnamespace
   and not exists (select from pg_depend e where e.objid = p.oid and e.deptype = 'e')
