-- What the projector knows about its read models, and the query service waits for. The schema
-- `annals` is created by the migrator, which keeps its own table there too.

-- An edition is one build of a read model from the log, in a Postgres schema of its own
-- (`rm_<model>_e<edition>`). A model whose tables, SQL or meaning change gets a new one.
create table annals.editions (
    model      text not null,
    edition    integer not null check (edition > 0),
    -- The model's VERSION whose code feeds and reads it.
    version    integer not null check (version > 0),
    -- The statements that made its tables: a change of them without a new version is noticed.
    tables     text not null,
    created_at timestamptz not null default now(),
    primary key (model, edition)
);

-- Which edition is read. To swap is to change one row.
create table annals.active_editions (
    model   text primary key,
    edition integer not null,
    foreign key (model, edition) references annals.editions (model, edition)
);

-- How far an edition has come. Moves in the transaction that writes the edition's rows.
create table annals.checkpoints (
    model       text not null,
    edition     integer not null,
    topic       text not null,
    partition   integer not null check (partition >= 0),
    -- Tells a topic from another that was made later under its name.
    topic_id    uuid not null,
    -- Offset of the first record that is not projected yet.
    next_offset bigint not null check (next_offset >= 0),
    -- The highest term seen below it. Who writes under a lower one was deposed.
    term        bigint not null check (term >= 0),
    primary key (model, edition, topic, partition),
    foreign key (model, edition) references annals.editions (model, edition) on delete cascade
) with (fillfactor = 50); -- room to update each row within its page
