-- Data contracts, modes, references, revisions of rules, and the numbers by which the topic of
-- schemas tells older from newer. The previous release goes on beside this: what it does not write
-- is null or has a default.

alter table registry.schemas
    -- The same in every registry that has this content.
    add column guid uuid not null generated always as
        (encode(substring(fingerprint from 1 for 16), 'hex')::uuid) stored,
    -- SHA-256 over the content as it is looked up: references resolved, without `confluent:version`.
    -- Null where it is the fingerprint.
    add column lookup_fingerprint bytea check (length(lookup_fingerprint) = 32);
create unique index schemas_by_guid on registry.schemas (guid);
create index schemas_by_lookup_fingerprint
    on registry.schemas (coalesce(lookup_fingerprint, fingerprint));

-- Which versions a schema builds on.
create table registry.schema_references (
    schema_id integer not null references registry.schemas (id),
    subject   text not null,
    version   integer not null,
    primary key (schema_id, subject, version)
);
create index schema_references_by_version on registry.schema_references (subject, version);

-- Modes of a subject, of a context where it ends in a colon, or of the whole registry where the
-- subject is empty.
create table registry.modes (
    subject text primary key,
    mode    text not null check (mode in ('READWRITE', 'READONLY', 'READONLY_OVERRIDE', 'IMPORT'))
);

-- Mended migration rules of a version: each revision is kept, the newest holds. Revision 1 is what
-- was registered with the version and is not here.
create table registry.rule_revisions (
    subject         text not null,
    version         integer not null,
    revision        integer not null check (revision > 1),
    migration_rules jsonb not null check (jsonb_typeof(migration_rules) = 'array'),
    comment         text,
    author          text,
    revised_at      timestamptz not null default now(),
    change          bigint not null default 0,
    primary key (subject, version, revision)
);

-- Every change has a number; of two records of the topic about one thing the higher one holds.
create sequence registry.changes;
alter table registry.versions add column change bigint not null default 0;
alter table registry.settings add column change bigint not null default 0;
alter table registry.modes add column change bigint not null default 0;

-- Which registry this is: a topic of schemas belongs to one.
create table registry.identity (
    identity uuid not null default gen_random_uuid(),
    only_one boolean primary key default true check (only_one)
);
insert into registry.identity default values;
