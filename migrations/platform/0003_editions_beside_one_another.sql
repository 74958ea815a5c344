-- A new edition of a read model is built beside the one that is read, compared with it, and
-- swapped in; the one before stays fed until it is dropped, so that it can be taken back.

-- When it was first read; null of one that never was.
alter table annals.editions add column swapped_in_at timestamptz;
update annals.editions as e set swapped_in_at = e.created_at
  from annals.active_editions as a where (a.model, a.edition) = (e.model, e.edition);

-- The edition that was read before: what a rollback takes back.
alter table annals.active_editions
    add column previous integer,
    add foreign key (model, previous) references annals.editions (model, edition)
        on delete set null (previous);

-- Numbers are given once: somebody may still ask for a dropped edition by its own.
create table annals.edition_numbers (
    model text primary key,
    last  integer not null
);
insert into annals.edition_numbers
    select model, max(edition) from annals.editions group by model;

-- No worker projects beyond the barrier before its time is over: two editions that stand at the
-- same one have the same events in them. It ends by itself, as who has set it may be killed.
alter table annals.checkpoints
    add column barrier       bigint,
    add column barrier_until timestamptz;
