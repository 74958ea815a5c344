-- By which schemas, and rules between them, the events of an edition were read: fingerprints, in
-- the order in which they came. Where there is more than one, rows may not be what they would be
-- if they were made now.
alter table annals.editions add column readings text[] not null default '{}';
