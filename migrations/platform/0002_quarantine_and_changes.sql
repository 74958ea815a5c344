-- Streams that a model cannot project: from the poisoned event on, the stream's events are held
-- back for that model, and all others go on. Written in the transaction that moves the checkpoint
-- past them. Whoever lets a stream go holds the partition's row of annals.checkpoints meanwhile.
create table annals.quarantine (
    model        text not null,
    edition      integer not null,
    topic        text not null,
    -- `tenant/kind/id`
    stream       text not null,
    partition    integer not null,
    -- Of the poisoned event: the first of the stream that is not in the rows.
    "offset"     bigint not null,
    event_type   text,
    version      bigint,
    -- `unreadable`, or the SQLSTATE with which Postgres refused its values (class 22 or 23).
    code         text not null,
    reason       text not null,
    since        timestamptz not null default now(),
    -- Later events of the stream that were held back, and where the last of them lies.
    held         bigint not null default 0,
    last_offset  bigint not null,
    -- The latest of these wherever it was tried again in vain.
    retried_at   timestamptz,
    retries      integer not null default 0,
    primary key (model, edition, topic, stream),
    foreign key (model, edition) references annals.editions (model, edition) on delete cascade
);
create index quarantine_by_partition on annals.quarantine (model, edition, topic, partition);

-- Events that an operator has decided to leave out. It holds for every edition of the model's
-- version; a later version's code is asked anew. Nothing else knows these decisions: back them up.
create table annals.skipped_events (
    model      text not null,
    version    integer not null,
    topic      text not null,
    partition  integer not null,
    "offset"   bigint not null,
    -- Null when the record named none.
    stream     text,
    reason     text not null,
    skipped_by text not null,
    skipped_at timestamptz not null default now(),
    primary key (model, version, topic, partition, "offset")
);

-- The offset from which the edition's table `changes` has every change of the partition; what was
-- below it has been pruned, or is older than the table.
alter table annals.checkpoints add column changes_from bigint not null default 0;
update annals.checkpoints set changes_from = next_offset;
