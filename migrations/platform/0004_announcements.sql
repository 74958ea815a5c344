-- Which versions of each event the processes that are there read and write: who says what the
-- write switch waits for. Renewed by every process that decides or projects; a row that has not
-- been renewed in time is that of one that has ended, or that cannot reach Postgres: Kafka's
-- groups tell. Nothing is lost with this table but a minute.
create table annals.announcements (
    generation   text not null,
    -- `command-service` or `projector`.
    role         text not null,
    -- The name that the process has in its groups: its address, if it has one of its own.
    member       text not null,
    -- Full name, such as `annals.tasks.TaskCreated`.
    event_type   text not null,
    -- The newest version that it reads, and all before it.
    reads_up_to  integer not null,
    -- What it writes at present; null of one that only reads.
    writes       integer,
    release      text not null,
    announced_at timestamptz not null default now(),
    expires_at   timestamptz not null,
    primary key (generation, role, member, event_type)
);
