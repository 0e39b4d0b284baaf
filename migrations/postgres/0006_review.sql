-- A row for each flag of each call, written in the transaction that appends: what lists and counts of flags are read from,
-- and what a pattern over one agent's calls is looked up in.
create table flags (
    call_seq bigint not null,
    rule text not null,
    call_id text not null,
    subject text not null,
    -- open, in_review, cleared, escalated or resolved
    state text not null,
    agent text,
    -- By which the agent is found again, however it was written.
    agent_key text,
    -- When the call was.
    at bigint not null,
    raised_seq bigint not null,
    -- The latest review, whether or not the flag was raised anew after it.
    review_seq bigint,
    review text,
    reviewer text,
    reviewed_at bigint,
    outcome text,
    primary key (call_seq, rule)
);
create index flags_of_agents on flags (agent_key, rule, at);
create index flags_of_rules on flags (rule, state, at);
create index flags_reviewed on flags (review_seq) where review_seq is not null;

-- To which agent a token belongs: nobody reviews their own calls.
alter table tokens add column agent text;

-- The flags of calls that are there already are written when the archive is opened; the cursor goes when all of them are.
insert into cursors (name, next_seq) select 'flag rows', 0 from journal_head where id = 1 and size > 0;
